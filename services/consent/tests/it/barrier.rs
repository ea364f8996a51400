//! What `enforced` promises: nothing that the change forbids is committed after it, whatever the slots
//! do or don't.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::world::*;
use mz_consent::model::{AskEnforcement, ChangeKind, EnforcementState};
use mz_consent::{ConsentError, Refusal, Service};
use mz_contract::IdNumber;
use mz_journal::topics::{self, SlotKind};
use mz_journal::{AuditKind, AuditWriter, Chain, Record as _, State};
use mz_seal::Datum;
use mz_vault::testing::{Event, Gateway, SLOTS, eventually, insurance, person};

/// An insurance record in arrears: within the union's rows.
pub fn arrears(id: &IdNumber, months: i64) -> Event {
    insurance(id, "PENSION", 100).field("arrearsMonths", Datum::Int(months))
}

#[test]
fn nothing_is_delivered_after_a_revocation_is_enforced() {
    let world = World::new();
    let people: Vec<IdNumber> = (100..130).map(person).collect();
    let mut hrss = world.bus.connector("hrss", "insurance");
    hrss.publish(people.iter().map(|id| arrears(id, 3)).collect());
    let grants: Vec<String> = people
        .iter()
        .enumerate()
        .map(|(at, id)| {
            world
                .give(&format!("b-{at}"), id, RETIREMENT)
                .consent
                .record_id
        })
        .collect();
    eventually("facts from before the consent", || {
        world.counts(ARREARS_TOPIC).0 == people.len()
    });

    // New versions flow all the time while one after the other is revoked.
    let mut enforced: HashMap<usize, i64> = HashMap::new();
    let mut fates = Vec::new();
    for (at, id) in people.iter().enumerate() {
        hrss.publish(people.iter().map(|id| arrears(id, 4 + at as i64)).collect());
        let started = Instant::now();
        let changed = world
            .change(ChangeKind::Revoke, &format!("rev-{at}"), &grants[at], id)
            .expect("revoked");
        assert_eq!(changed.enforcement.state, EnforcementState::Enforced);
        assert!(
            changed.enforcement.fenced.is_empty(),
            "{:?}",
            changed.enforcement
        );
        enforced.insert(at, chrono::Utc::now().timestamp_millis());
        fates.push(started.elapsed());
    }
    hrss.publish(people.iter().map(|id| arrears(id, 99)).collect());
    settled(&world);

    // By audit: no delivery of a person after their revocation was enforced.
    let tags: HashMap<_, usize> = people
        .iter()
        .enumerate()
        .map(|(at, id)| (world.vault().place(id).1, at))
        .collect();
    let mut last: HashMap<usize, i64> = HashMap::new();
    for audit in world.audits() {
        if audit.kind == AuditKind::Delivered && audit.agreement == RETIREMENT {
            let at = tags[&audit.subject];
            let newest = last.entry(at).or_default();
            *newest = audit.at_ms.max(*newest);
        }
    }
    for (at, until) in &enforced {
        assert!(
            last[at] <= *until,
            "person {at} was delivered after {until}"
        );
    }
    fates.sort_unstable();
    println!(
        "revoke to enforced, {} revocations, {SLOTS} slots: p50 {:?}, max {:?}",
        fates.len(),
        fates[fates.len() / 2],
        fates[fates.len() - 1]
    );
    // And everybody's records were called back, to the last.
    eventually("all were called back", || world.held(ARREARS_TOPIC) == 0);
}

#[test]
fn a_slot_without_an_owner_is_shut_out_and_what_comes_after_obeys() {
    let mut world = World::new();
    let id = person(140);
    let mut hrss = world.bus.connector("hrss", "insurance");
    hrss.publish(vec![arrears(&id, 3)]);
    let given = world.give("f-1", &id, RETIREMENT);
    eventually("delivered", || world.counts(ARREARS_TOPIC).0 == 1);
    world.stop_gateway();
    hrss.publish(vec![arrears(&id, 4)]);
    // Nobody can show it: it holds because whoever owned the slot can commit nothing any more.
    let revoked = world
        .change(ChangeKind::Revoke, "f-2", &given.consent.record_id, &id)
        .expect("revoked");
    let slot = format!("gw-{}", u32::from(revoked.enforcement.lane) % SLOTS);
    assert_eq!(revoked.enforcement.state, EnforcementState::Enforced);
    assert_eq!(revoked.enforcement.fenced, [slot]);
    assert!(revoked.enforcement.waited_ms >= 2_000);
    world.start_gateway();
    settled(&world);
    eventually("called back by the new owner", || {
        world.counts(ARREARS_TOPIC) == (1, 1)
    });
    let fenced = world
        .audits()
        .into_iter()
        .filter(|a| a.kind == AuditKind::SlotFenced);
    assert!(fenced.count() > 0, "shutting out is in the log");
}

#[test]
fn a_change_that_nobody_shows_is_pending_and_says_who_is_missing() {
    let mut world = World::new();
    let id = person(150);
    let given = world.give("p-1", &id, RETIREMENT);
    world.stop_gateway();
    world.stop_consent();
    world.start_consent_with(|options| options.fence_after = Duration::from_secs(3600));
    let consent = world.consent();
    let mut change = mz_consent::model::Change {
        request_id: "p-2".to_owned(),
        grant: given.consent.record_id.clone(),
        id: Some(id.as_str().to_owned()),
        reason: "in the app".to_owned(),
        operator: None,
        valid_until: None,
        evidence: None,
        wait_ms: Some(1_500),
    };
    let changed = world
        .call(consent.change(&portal(), ChangeKind::Revoke, change.clone()))
        .expect("recorded");
    assert_eq!(changed.enforcement.state, EnforcementState::Pending);
    assert_eq!(changed.enforcement.missing.len(), 1);
    assert!(changed.enforcement.missing[0].starts_with("gw-"));
    assert!(changed.enforcement.at.is_none() && changed.enforcement.position >= 0);
    // The same request later, and the question by itself: enforced once the slot is there.
    world.start_gateway();
    let ask = AskEnforcement {
        grant: given.consent.record_id,
        wait_ms: Some(20_000),
    };
    let now = world
        .call(consent.enforcement(&portal(), ask))
        .expect("enforcement");
    assert_eq!(now.state, EnforcementState::Enforced);
    change.wait_ms = Some(1_500);
    let again = world
        .call(consent.change(&portal(), ChangeKind::Revoke, change))
        .expect("again");
    assert_eq!(again.enforcement.state, EnforcementState::Enforced);
    assert_eq!(again.grant.counter, changed.grant.counter);
}

#[test]
fn a_second_instance_takes_over_and_the_first_can_change_nothing() {
    let mut world = World::new();
    let id = person(160);
    world.give("s-1", &id, RETIREMENT);
    let second = Service::start(world.options(|_| {})).expect("second instance");
    let late = world.app_give("s-2", &person(161), RETIREMENT);
    let first = world.consent();
    let refused = world
        .call(first.give(&portal(), late.clone()))
        .expect_err("superseded");
    assert_eq!(refused, Refusal::Unavailable);
    eventually("the first ends", || world.consent_has_failed());
    let handle = second.handle();
    eventually("the second is ready", || handle.is_ready());
    let given = world
        .call(handle.give(&portal(), late))
        .expect("by the second");
    assert_eq!(given.enforcement.state, EnforcementState::Enforced);
    // One chain of audit records, gapless over both.
    let mut numbers: HashMap<u16, Vec<u64>> = HashMap::new();
    for audit in world.audits() {
        if audit.writer == AuditWriter::Consent {
            numbers.entry(audit.lane).or_default().push(audit.number);
        }
    }
    for (lane, numbers) in numbers {
        let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "lane {lane}");
    }
    second.stop().expect("second");
    assert!(matches!(
        world.take_consent().stop(),
        Err(ConsentError::Superseded)
    ));
}

#[test]
fn what_was_recorded_and_not_sent_is_sent_by_whoever_starts_next() {
    let mut world = World::new();
    let id = person(170);
    let given = world.give("o-1", &id, RETIREMENT);
    world.stop_consent();
    // Recorded by a service that ends before it sends: the outbox has it, Kafka doesn't.
    let grant = mz_journal::GrantId::from_hex(&given.consent.record_id).expect("id");
    world.record_unsent_revocation(grant);
    world.start_consent();
    let ask = AskEnforcement {
        grant: given.consent.record_id,
        wait_ms: Some(20_000),
    };
    let now = world
        .call(world.consent().enforcement(&portal(), ask))
        .expect("enforcement");
    assert_eq!(now.state, EnforcementState::Enforced);
    let closed = world
        .bus
        .grants()
        .into_iter()
        .filter(|found| found.id == grant && found.status == mz_journal::GrantStatus::Closed);
    assert_eq!(closed.count(), 1);
}

#[test]
fn what_was_sent_behind_an_open_transaction_is_not_sent_again() {
    let mut world = World::new();
    let on_slot_one = |id: &IdNumber| u32::from(world.bus.lane(id)) % SLOTS == 1;
    let id = (180..).map(person).find(on_slot_one).expect("person");
    let lane = world.bus.lane(&id);
    let given = world.give("z-1", &id, RETIREMENT);
    world.stop_gateway();
    // A slot's transaction on the lane of the states, left open: committed readers stop before it.
    let mut gateway = Gateway::open(&world.bus);
    let key = topics::state_key(SlotKind::Gateway, lane);
    let state = State {
        lane,
        ..State::default()
    };
    let head = world.bus.head(topics::STATE, lane);
    gateway.begin_with(topics::STATE, lane, &key, &state.encode());
    eventually("it is written", || {
        world.bus.head(topics::STATE, lane) > head
    });
    let grant = mz_journal::GrantId::from_hex(&given.consent.record_id).expect("id");
    world
        .change(ChangeKind::Revoke, "z-2", &given.consent.record_id, &id)
        .expect("revoked");
    world.stop_consent();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        gateway.commit();
    });
    world.start_consent();
    ending.join().expect("the open transaction ends");
    let closed = || {
        let grants = world.bus.grants();
        grants
            .iter()
            .filter(|found| found.id == grant && found.status == mz_journal::GrantStatus::Closed)
            .count()
    };
    eventually("sent", || closed() > 0);
    // Another change goes through after whatever the start sent.
    world.give("z-3", &id, RETIREMENT);
    assert_eq!(closed(), 1, "sent twice");
    let mut chain = Chain::new(AuditWriter::Consent, lane);
    world.bus.read(topics::AUDIT, |record| {
        let (key, value) = (record.key.expect("key"), record.value.expect("value"));
        let own = topics::parse_audit_key(key).is_some_and(|(w, ..)| w == AuditWriter::Consent);
        if own && record.partition == i32::from(lane) {
            chain.check(key, value).expect("numbered without a repeat");
        }
    });
}
