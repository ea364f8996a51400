//! Exactly those who hold a record are told to stop using it, and say what they did.

use crate::barrier::arrears;
use crate::world::*;
use mz_consent::model::{AskWithdrawals, ChangeKind};
use mz_journal::{AuditKind, ReceiptAction};
use mz_seal::Datum;
use mz_vault::testing::{approval, eventually, insurance, person};

const APPROVALS: &str = "to.police.talent-settlement.hrss.talent.approval.v1";

fn open(world: &World) -> mz_consent::model::Withdrawals {
    let ask = AskWithdrawals::default();
    world
        .call(world.consent().withdrawals(&auditor(), ask))
        .expect("withdrawals")
}

#[test]
fn a_revoked_consent_is_called_back_with_a_receipt_and_comes_again_when_given_again() {
    let world = World::new();
    let (id, other) = (person(200), person(201));
    let mut hrss = world.bus.connector("hrss", "insurance");
    hrss.publish(vec![arrears(&id, 3), arrears(&other, 2)]);
    let given = world.give("w-1", &id, RETIREMENT);
    world.give("w-2", &other, RETIREMENT);
    eventually("both are delivered", || world.counts(ARREARS_TOPIC).0 == 2);
    world
        .change(ChangeKind::Revoke, "w-3", &given.consent.record_id, &id)
        .expect("revoked");
    eventually("called back", || world.counts(ARREARS_TOPIC) == (2, 1));
    let seen = world.deliveries(ARREARS_TOPIC);
    let null = seen
        .iter()
        .find(|one| one.value.is_none())
        .expect("a null value");
    let withdrawal = null.withdrawal.clone().expect("mz-withdrawal");
    assert_eq!(withdrawal.reason, "CONSENT_REVOKED");
    let key: [u8; 32] = null.key.as_slice().try_into().expect("key");
    let lane = u16::try_from(null.lane).expect("lane");
    let payload = withdrawal.payload(ARREARS_TOPIC, lane, &key);
    let contract = world.consent().contract();
    use mz_seal::KeySource as _;
    let bus = contract
        .seal_key(mz_contract::BUS, &withdrawal.key_id)
        .expect("bus key");
    assert!(mz_seal::verify_signature(&bus.public, &payload, &withdrawal.signature).is_ok());
    // The one who keeps consent keeps the record.
    assert_eq!(world.held(ARREARS_TOPIC), 1);

    // No receipt yet: an obligation with its age. A forged one changes nothing.
    let listed = open(&world);
    assert_eq!((listed.withdrawals.len(), listed.open), (1, 1));
    assert!(listed.withdrawals[0].executed_at.is_some() && listed.withdrawals[0].age_s.is_some());
    let mut forged = null.clone();
    forged.key[0] ^= 1;
    world.receipt(ARREARS_TOPIC, &forged, ReceiptAction::Deleted, "hrss");
    world.receipt(
        "to.police.retirement-help.x",
        null,
        ReceiptAction::Deleted,
        "police",
    );
    world.receipt(ARREARS_TOPIC, null, ReceiptAction::Frozen, "union");
    eventually("the receipt is taken", || open(&world).open == 0);
    assert_eq!(
        open(&world).withdrawals[0].action.as_deref(),
        Some("frozen")
    );
    world.receipt(ARREARS_TOPIC, null, ReceiptAction::Deleted, "union");
    eventually("the hold ended", || {
        open(&world).withdrawals[0].action.as_deref() == Some("deleted")
    });

    // A new consent brings the record again.
    world.give("w-4", &id, RETIREMENT);
    eventually("delivered again", || world.held(ARREARS_TOPIC) == 2);
    settled(&world);
    assert_eq!(world.counts(ARREARS_TOPIC), (3, 1));
    let sequences = |lane: i32| -> Vec<u64> {
        let seen = world.deliveries(ARREARS_TOPIC);
        seen.iter()
            .filter(|one| one.lane == lane)
            .map(|one| one.sequence)
            .collect()
    };
    let lane = sequences(null.lane);
    assert_eq!(lane, (1..=lane.len() as u64).collect::<Vec<_>>(), "gapless");
}

#[test]
fn a_record_that_leaves_the_agreed_rows_is_called_back_from_its_holders_alone() {
    let world = World::new();
    let (id, never) = (person(210), person(211));
    let mut talent = world.bus.connector("hrss", "talent");
    talent.publish(vec![approval(&id, "A-1"), approval(&never, "A-2")]);
    eventually("approved", || world.counts(APPROVALS).0 == 2);
    // Revoked: the old value must not stay with the police.
    let revoked = Datum::Enum("REVOKED".to_owned());
    talent.publish(vec![approval(&id, "A-1").field("status", revoked.clone())]);
    eventually("called back", || world.held(APPROVALS) == 1);
    let seen = world.deliveries(APPROVALS);
    let null = seen.iter().find(|one| one.value.is_none()).expect("null");
    assert_eq!(
        null.withdrawal.as_ref().expect("withdrawal").reason,
        "SUPERSEDED"
    );
    // A record that was never within the rows is nobody's: no trace of it in the topic.
    // In the same lane: where nothing was ever delivered, nothing is reported.
    let outside = (212..)
        .map(person)
        .find(|one| world.bus.lane(one) == world.bus.lane(&id))
        .expect("person");
    talent.publish(vec![approval(&outside, "A-3").field("status", revoked)]);
    talent.publish(vec![
        approval(&outside, "A-3").field("status", Datum::Enum("USED".to_owned())),
    ]);
    settled(&world);
    eventually("consent has answered", || {
        let audits = world.audits();
        audits
            .iter()
            .filter(|audit| audit.kind == AuditKind::Superseded)
            .count()
            >= 2
    });
    assert_eq!(world.counts(APPROVALS), (2, 1));
    // Approved again: delivered again.
    talent.publish(vec![approval(&id, "A-1")]);
    eventually("delivered again", || world.held(APPROVALS) == 2);
}

#[test]
fn arrears_that_are_paid_leave_the_union() {
    let world = World::new();
    let id = person(220);
    let mut hrss = world.bus.connector("hrss", "insurance");
    world.give("a-1", &id, RETIREMENT);
    hrss.publish(vec![arrears(&id, 5)]);
    eventually("the union sees arrears", || world.held(ARREARS_TOPIC) == 1);
    hrss.publish(vec![insurance(&id, "PENSION", 101)]);
    eventually("paid: withdrawn", || world.held(ARREARS_TOPIC) == 0);
    let listed = open(&world);
    assert_eq!(listed.withdrawals[0].reason, "SUPERSEDED");
}

#[test]
fn a_value_that_was_corrected_after_the_consent_ended_is_not_kept() {
    let world = World::new();
    let id = person(230);
    let mut hrss = world.bus.connector("hrss", "insurance");
    hrss.publish(vec![arrears(&id, 3)]);
    let given = world.give("c-1", &id, RETIREMENT);
    eventually("delivered", || world.held(ARREARS_TOPIC) == 1);
    // Paused: what was delivered may stay, as long as it is true.
    world
        .change(ChangeKind::Pause, "c-2", &given.consent.record_id, &id)
        .expect("paused");
    settled(&world);
    assert_eq!(world.counts(ARREARS_TOPIC), (1, 0));
    hrss.publish(vec![arrears(&id, 9)]);
    eventually("no longer true: called back", || {
        world.counts(ARREARS_TOPIC) == (1, 1)
    });
    assert_eq!(open(&world).withdrawals[0].reason, "CORRECTED");
    world
        .change(ChangeKind::Resume, "c-3", &given.consent.record_id, &id)
        .expect("resumed");
    eventually("the present value comes", || world.held(ARREARS_TOPIC) == 1);
}

#[test]
fn a_consent_ends_by_the_clock_and_is_called_back_by_itself() {
    let mut world = World::new();
    let id = person(240);
    let mut hrss = world.bus.connector("hrss", "insurance");
    hrss.publish(vec![arrears(&id, 3)]);
    let given = world.give("e-1", &id, RETIREMENT);
    eventually("delivered", || world.held(ARREARS_TOPIC) == 1);
    // The day ends: a copy of the grant that expires in a moment, as extension and shortening travel.
    world.expire_soon(&given.consent.record_id, 6_000);
    eventually("called back at the end", || world.held(ARREARS_TOPIC) == 0);
    hrss.publish(vec![arrears(&id, 4)]);
    settled(&world);
    assert_eq!(
        world.counts(ARREARS_TOPIC),
        (1, 1),
        "nothing flows after the end"
    );
    assert_eq!(open(&world).withdrawals[0].reason, "GRANT_EXPIRED");
}
