//! Who may call what: the committed page is the table of the code, and the three administrators are
//! never one person.

use std::path::Path;

use mz_console::Principal;
use mz_console::roles::{self, ROLES, ROUTES, Role, matrix};

fn principal(name: &str) -> Principal {
    Principal::parse(name).unwrap()
}

#[test]
fn the_committed_matrix_is_the_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/roles.md");
    let now = matrix();
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed != now {
        std::fs::write(&path, &now).unwrap();
        panic!("docs/roles.md was out of date and is written anew: review the difference");
    }
}

#[test]
fn every_certificate_has_one_role() {
    let expected = [
        ("bus.portal", Role::Portal),
        ("bus.auditor", Role::Auditor),
        ("bus.security", Role::Security),
        ("police.window", Role::Window),
        ("police.auditor", Role::DepartmentAuditor),
        // A department can't be the portal, nor the bus a counter.
        ("police.portal", Role::Other),
        ("police.security", Role::Other),
        ("bus.window", Role::Other),
        ("bus.admin", Role::Other),
        ("bus.consent", Role::Other),
        ("police.adapter", Role::Adapter),
        ("bus.adapter", Role::Other),
        ("police.connector", Role::Other),
    ];
    for (name, role) in expected {
        assert_eq!(Role::of(&principal(name)), role, "{name}");
    }
}

#[test]
fn powers_are_separate() {
    for route in ROUTES {
        assert!(!route.roles.is_empty(), "{}", route.path);
        assert!(!route.roles.contains(&Role::Other), "{}", route.path);
        assert!(route.path.starts_with("/v1/"), "{}", route.path);
    }
    // Whoever audits changes nothing; whoever looks after the rules opens nobody's data.
    let changes = [
        &roles::GIVE,
        &roles::REVOKE,
        &roles::PAUSE,
        &roles::RESUME,
        &roles::EXTEND,
        &roles::CLOSE,
        &roles::OPEN_CASE,
        &roles::SUSPEND,
        &roles::RESUME_AGREEMENT,
        &roles::TERMINATE,
        &roles::ACTIVATE,
        &roles::ERASE,
        &roles::HIDE,
        &roles::APPROVE_HIDE,
    ];
    for route in changes {
        for auditor in ["bus.auditor", "police.auditor"] {
            assert!(!route.allows(&principal(auditor)), "{}", route.path);
        }
    }
    for route in [
        &roles::BUNDLES,
        &roles::GIVE,
        &roles::RESUME,
        &roles::EXTEND,
        &roles::OPEN_CASE,
    ] {
        assert!(!route.allows(&principal("bus.security")), "{}", route.path);
    }
    // Nobody can both request and approve that something is hidden.
    for name in ["bus.security", "police.window", "bus.auditor", "bus.portal"] {
        let who = principal(name);
        assert!(
            !(roles::HIDE.allows(&who) && roles::APPROVE_HIDE.allows(&who)),
            "{name}"
        );
    }
    let mut paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!((paths.len(), ROLES.len()), (ROUTES.len(), 7));
}
