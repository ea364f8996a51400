//! What must not be believed: keys, approvals and hostile files.

use crate::tree::Tree;
use mz_contract::{Contract, Lang, Mode, lint};
use proptest::prelude::*;

const HRSS: &str = "departments/hrss.yaml";
const KEYS: &str = "departments/hrss.keys.yaml";
const IDS: &str = "schema-ids.yaml";
const SETTLEMENT: &str = "agreements/police/talent-settlement.yaml";
const RIGHT_AVSC: &str = "catalogue/realestate/right.v1.avsc";

/// Public keys of RFC 8032, test 1 and 2.
const KEY_1: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const KEY_2: &str = "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";

/// Where a fault must be shown.
enum At {
    Line(&'static str),
    File,
}

fn keys(entries: &[(&str, &str, &str)]) -> String {
    let mut text = "keys:\n".to_owned();
    for (id, usage, public) in entries {
        text.push_str(&format!(
            "  - {{id: {id}, use: {usage}, suite: ed25519-sha256, public: \"{public}\", status: active}}\n"
        ));
    }
    text
}

#[test]
fn keys_are_checked() {
    let weak_identity = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let order_8 = "JuiVj8KyJ7BFw/SJ8u+Y8NXfrAXTxjM5sTgCiG1T/AU=";
    let off_curve = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (code, marker, text) in [
        ("KEY_WEAK", "id: a", keys(&[("a", "seal", weak_identity)])),
        ("KEY_WEAK", "id: a", keys(&[("a", "seal", order_8)])),
        ("KEY_WEAK", "id: a", keys(&[("a", "seal", off_curve)])),
        // Only the bus labels people.
        ("KEY_USE_FOREIGN", "id: a", keys(&[("a", "vrf", KEY_1)])),
        ("KEY_MALFORMED", "id: a", keys(&[("a", "seal", "AQID")])),
        (
            "KEY_DUPLICATE_ID",
            "use: approval",
            keys(&[("a", "seal", KEY_1), ("a", "approval", KEY_2)]),
        ),
        (
            "KEY_REUSED",
            "id: b",
            keys(&[("a", "seal", KEY_1), ("b", "approval", KEY_1)]),
        ),
        (
            "SUITE_UNKNOWN",
            "id: a",
            keys(&[("a", "seal", KEY_1)]).replace("ed25519-sha256", "rot13"),
        ),
    ] {
        let tree = Tree::copy();
        tree.write(KEYS, &text);
        let line = tree.line(KEYS, marker);
        let report = lint(tree.root(), Mode::Draft, Lang::En);
        let found = report
            .faults
            .iter()
            .any(|f| f.code == code && f.file == KEYS && f.line == line);
        assert!(found, "{code}: {}", report.lines.join("\n"));
    }
    // The same key at two departments.
    let tree = Tree::copy();
    tree.write(KEYS, &keys(&[("hrss-seal-1", "seal", KEY_1)]));
    tree.write(
        "departments/police.keys.yaml",
        &keys(&[("police-seal-1", "seal", KEY_1)]),
    );
    let report = lint(tree.root(), Mode::Draft, Lang::En);
    assert!(
        report
            .faults
            .iter()
            .any(|f| f.code == "KEY_REUSED" && f.file == "departments/police.keys.yaml")
    );
}

#[test]
fn the_key_that_labels_people_is_the_bus_s_and_has_a_suite_of_its_own() {
    const BUS_KEYS: &str = "bus.keys.yaml";
    let zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let vrf = |public| keys(&[("v", "vrf", public)]).replace("ed25519-sha256", "vrf-r255");
    for (code, text) in [
        ("SUITE_UNKNOWN", keys(&[("v", "vrf", KEY_1)])),
        ("KEY_MALFORMED", vrf(zero)),
        ("KEY_MALFORMED", vrf("AQID")),
        ("NAME_INVALID", vrf(KEY_1).replace("id: v", "id: ''")),
        (
            "KEY_REUSED",
            format!("{}{}", keys(&[("s", "seal", KEY_1)]), &vrf(KEY_1)[6..]),
        ),
    ] {
        let tree = Tree::copy();
        tree.write(BUS_KEYS, &text);
        let report = lint(tree.root(), Mode::Draft, Lang::En);
        let faults = report.faults.iter();
        let mut codes = faults
            .filter(|fault| fault.file == BUS_KEYS)
            .map(|fault| fault.code);
        assert!(
            codes.any(|found| found == code),
            "{code}: {:?}",
            report.lines
        );
    }
    let tree = Tree::copy();
    tree.write(BUS_KEYS, &vrf(KEY_1));
    let contract = Contract::load(tree.root(), Mode::Draft).unwrap();
    assert_eq!((contract.vrf_keys.len(), contract.bus_keys.len()), (1, 0));
}

#[test]
fn approvals_are_checked_when_they_must_be_signed() {
    const FILE: &str = "agreements/police/talent-settlement.approvals/realestate.yaml";
    let tree = Tree::copy();
    tree.sign();
    let contract = Contract::load(tree.root(), Mode::Signed).unwrap();
    assert!(
        contract
            .sections()
            .all(|section| section.approval.signed_by.is_some())
    );

    let spoil = |what: &dyn Fn(&Tree), code: &str, file: &str, at: At| {
        let tree = Tree::copy();
        tree.sign();
        what(&tree);
        let line = match at {
            At::Line(needle) => tree.line(file, needle),
            At::File => 0,
        };
        let report = lint(tree.root(), Mode::Signed, Lang::Zh);
        let found = report
            .faults
            .iter()
            .any(|f| f.code == code && f.file == file && f.line == line);
        assert!(
            found,
            "{code} not at {file}:{line}: {}",
            report.lines.join("\n")
        );
    };
    // One more field, one day more, one case rule more: each needs a new approval.
    let stale = |from: &'static str, to: &'static str| {
        spoil(
            &|t| t.replace(SETTLEMENT, from, to),
            "APPROVAL_STALE",
            FILE,
            At::Line("digest"),
        );
    };
    stale(
        "fields: [idNo, certificateNo, share, location,",
        "fields: [idNo, certificateNo, area, location,",
    );
    stale("until: 2028-01-31}", "until: 2028-01-30}");
    stale(
        "subjects: [idNo, \"dependents[].idNo\"]",
        "subjects: [idNo]",
    );
    stale("kind: statutory_duty", "kind: consent");
    stale(
        "document: 不动产共享复〔2026〕1号",
        "document: 不动产共享复〔2026〕9号",
    );
    spoil(
        &|t| t.remove(FILE),
        "APPROVAL_MISSING",
        SETTLEMENT,
        At::Line("dataset: realestate.right.v1"),
    );
    spoil(
        &|t| t.replace(FILE, "realestate.right.v1", "hrss.talent.approval.v1"),
        "APPROVAL_ORPHAN",
        FILE,
        At::Line("dataset"),
    );
    spoil(
        &|t| {
            t.write(
                "agreements/police/other.approvals/hrss.yaml",
                "approvals: []",
            )
        },
        "APPROVAL_ORPHAN",
        "agreements/police/other.approvals/hrss.yaml",
        At::File,
    );
    spoil(
        &|t| t.replace(FILE, "key: realestate-approval-1", "key: hrss-approval-1"),
        "APPROVAL_KEY_UNKNOWN",
        FILE,
        At::Line("key:"),
    );
    // A seal key is no approval key.
    spoil(
        &|t| t.replace(FILE, "key: realestate-approval-1", "key: realestate-seal-1"),
        "APPROVAL_KEY_UNKNOWN",
        FILE,
        At::Line("key:"),
    );
    spoil(
        &|t| t.replace(FILE, "signature: \"", "signature: \"x"),
        "SIGNATURE_MALFORMED",
        FILE,
        At::Line("signature"),
    );
    spoil(
        &|t| t.remove("departments/realestate.keys.yaml"),
        "KEYS_MISSING",
        "departments/realestate.keys.yaml",
        At::File,
    );
    spoil(
        &|t| {
            let keys = t.read("departments/realestate.keys.yaml");
            let at = keys.rfind("status: active").unwrap();
            t.write(
                "departments/realestate.keys.yaml",
                &format!("{}status: {{revoked: {{reason: lost}}}}}}\n", &keys[..at]),
            );
        },
        "APPROVAL_KEY_REVOKED",
        FILE,
        At::Line("key:"),
    );
    // The signature of another section of the same provider.
    spoil(
        &|t| {
            let file = "agreements/police/talent-settlement.approvals/hrss.yaml";
            let text = t.read(file);
            let signature = |n: usize| {
                text.split("signature: \"")
                    .nth(n)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
                    .to_owned()
            };
            let swapped = text
                .replace(&signature(1), "SWAP")
                .replace(&signature(2), &signature(1))
                .replace("SWAP", &signature(2));
            t.write(file, &swapped);
        },
        "APPROVAL_SIGNATURE",
        "agreements/police/talent-settlement.approvals/hrss.yaml",
        At::Line("signature"),
    );
    // Suspending needs nobody's approval.
    let tree = Tree::copy();
    tree.sign();
    tree.replace(SETTLEMENT, "sections:\n", "suspended: {since: 2026-05-01, reason: {zh: 超范围使用, en: Use out of scope}}\nsections:\n");
    let contract = Contract::load(tree.root(), Mode::Signed).unwrap();
    assert!(
        contract
            .agreement("police/talent-settlement")
            .unwrap()
            .suspended()
    );
}

#[test]
fn hostile_files_are_refused() {
    let spoil = |what: &dyn Fn(&Tree), code: &str| {
        let tree = Tree::copy();
        what(&tree);
        let report = lint(tree.root(), Mode::Draft, Lang::En);
        assert!(
            report.faults.iter().any(|f| f.code == code),
            "{code}: {}",
            report.lines.join("\n")
        );
    };
    spoil(&|t| t.write(HRSS, &"#".repeat(600_000)), "FILE_TOO_LARGE");
    spoil(
        &|t| std::fs::write(t.root().join(HRSS), b"name: \xff\xfe").unwrap(),
        "FILE_NOT_UTF8",
    );
    spoil(
        &|t| t.write("agreements/a/b/c/d/e/f.yaml", ""),
        "FILE_TOO_DEEP",
    );
    spoil(
        &|t| t.write(HRSS, &format!("name: {}", "[".repeat(10_000))),
        "YAML_BAD_VALUE",
    );
    // Aliases, which a billion laughs are made of.
    spoil(
        &|t| {
            t.write(
                HRSS,
                "name: &a {zh: x, en: y}\nkind: government\nuscc: *a\n",
            )
        },
        "YAML_TOO_LARGE",
    );
    spoil(
        &|t| {
            t.write(
                RIGHT_AVSC,
                &format!("{}{}", "{\"type\":".repeat(5000), "}".repeat(5000)),
            )
        },
        "AVSC_INVALID",
    );
    spoil(
        &|t| {
            t.replace(
                SETTLEMENT,
                "filter: status == \"APPROVED\"",
                &format!("filter: {}", ["seized"; 300].join(" && ")),
            )
        },
        "EXPR_TOO_LARGE",
    );
    #[cfg(unix)]
    spoil(
        &|t| {
            t.remove(HRSS);
            std::os::unix::fs::symlink("/etc/passwd", t.root().join(HRSS)).unwrap();
        },
        "FILE_LINK",
    );
    #[cfg(unix)]
    spoil(
        &|t| {
            t.remove(IDS);
            std::os::unix::fs::symlink("/etc/passwd", t.root().join(IDS)).unwrap();
        },
        "FILE_LINK",
    );
}

/// Every file of the contract, by name.
fn files() -> Vec<String> {
    let tree = Tree::copy();
    let mut files = Vec::new();
    let mut folders = vec![tree.root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml" || e == "avsc") {
                files.push(
                    path.strip_prefix(tree.root())
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    files.sort();
    files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// However a file is spoilt, lint answers, and never with an empty list of faults.
    #[test]
    fn any_damage_is_answered(
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        length in 0_usize..40,
        put in prop_oneof![
            "[ -~\n]{0,12}",
            Just("\u{0}".to_owned()),
            Just("{{{{".to_owned()),
            Just("\n  - &a *a\n".to_owned()),
            Just("99999999999999999999".to_owned()),
            Just("中文：，".to_owned()),
        ],
    ) {
        let files = files();
        let file = file.get(&files);
        let tree = Tree::copy();
        let text = tree.read(file);
        let start = text.floor_char_boundary(at.index(text.len()));
        let end = text.floor_char_boundary((start + length).min(text.len())).max(start);
        tree.write(file, &format!("{}{put}{}", &text[..start], &text[end..]));
        let report = lint(tree.root(), Mode::Draft, Lang::Zh);
        prop_assert_eq!(report.ok(), report.faults.is_empty());
        prop_assert_eq!(report.lines.len(), report.faults.len());
    }
}
