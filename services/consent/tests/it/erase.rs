//! A person is erased: flows end, consumers are told, the key is destroyed, and what remains is said.

use crate::barrier::arrears;
use crate::world::*;
use mz_consent::Refusal;
use mz_consent::model::Erase;
use mz_journal::AuditKind;
use mz_vault::testing::{eventually, person};

#[test]
fn erasing_a_person_ends_calls_back_and_destroys() {
    let world = World::new();
    let (id, other) = (person(400), person(401));
    let mut hrss = world.bus.connector("hrss", "insurance");
    hrss.publish(vec![arrears(&id, 3), arrears(&other, 3)]);
    world.give("x-1", &id, RETIREMENT);
    world.give("x-2", &other, RETIREMENT);
    eventually("delivered", || world.held(ARREARS_TOPIC) == 2);
    let erase = Erase {
        request_id: "x-3".to_owned(),
        id: id.as_str().to_owned(),
        operator: "S01".to_owned(),
        reason: "request of the person, file 3/2026".to_owned(),
        wait_ms: Some(20_000),
    };
    let consent = world.consent();
    let refused = world.call(consent.erase(&portal(), erase.clone()));
    assert_eq!(refused.expect_err("role"), Refusal::RoleForbidden);
    let erased = world
        .call(consent.erase(&security(), erase.clone()))
        .expect("erased");
    assert_eq!(erased.grants_closed, 1);
    assert!(
        erased
            .key_destroyed
            .as_deref()
            .is_some_and(|id| id.starts_with("vault-")),
        "{erased:?}"
    );
    eventually("called back", || world.held(ARREARS_TOPIC) == 1);
    let progress = || {
        world
            .call(consent.erase(&security(), erase.clone()))
            .expect("progress")
    };
    eventually("the withdrawal is counted", || progress().withdrawals == 1);
    assert_eq!(progress().withdrawals_open, 1, "no receipt yet");
    // Everything the person's facts could be in is named, with an end where there is one.
    let places: Vec<&str> = erased
        .remains
        .iter()
        .map(|one| one.place.as_str())
        .collect();
    for place in [
        "src.hrss.insurance.status.v1",
        ARREARS_TOPIC,
        "bus.audit",
        "vault.subject_key",
    ] {
        assert!(places.contains(&place), "{place}");
    }
    let mine = world.vault().place(&id).1;
    let audits = world.audits();
    let erased = audits
        .iter()
        .filter(|a| a.kind == AuditKind::Erased && a.subject == mine);
    assert_eq!(
        erased.count(),
        2,
        "that it was ordered, and that it was done"
    );
    // What the register says afterwards is new, and nobody asked for it.
    hrss.publish(vec![arrears(&id, 4)]);
    settled(&world);
    assert_eq!(world.held(ARREARS_TOPIC), 1);
}
