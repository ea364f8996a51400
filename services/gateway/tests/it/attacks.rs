//! P5: whatever is put on a source topic, good events flow on, and each bad one is told to its
//! department under its own code, audited, and delivered to nobody.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mz_journal::{AuditKind, topics};
use mz_keys::public::KeyUse;
use mz_seal::testing::{Alteration, Kit, TestSigner, WireEvent};
use mz_seal::{BatchStatement, KeySource as _, Signer, headers, verify_signature};

use crate::facts::*;
use crate::world::*;

#[test]
fn every_altered_event_is_quarantined_with_its_own_code() {
    // A second seal key of hrss: the first is revoked before any batch.
    let mut revoked_key: Option<Box<dyn Signer>> = None;
    let world = World::prepared(1, |root, keys| {
        let first = mz_keys::department_signer(keys, root, "hrss", KeyUse::Seal).unwrap();
        mz_keys::rotate_seal_key(keys, root, "hrss").unwrap();
        let none = BTreeMap::new();
        mz_keys::revoke(root, "hrss", first.key_id(), "lost", &none).unwrap();
        revoked_key = Some(first);
    });
    let revoked = revoked_key.unwrap();
    let signer = world.signer("hrss");
    let unknown = TestSigner::new("hrss-seal-99", [3; 32]);
    let dataset = world.contract.dataset(INSURANCE).unwrap();
    let kit = Kit {
        layout: &dataset.layout,
        subject_field: dataset.subject_field,
        signer: &*signer,
        revoked: &*revoked,
        unknown: &unknown,
        lanes: LANES,
    };
    let person = world.people(0, 1).remove(0);
    world.grant(&person, 1, |_| {});
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();

    // Good events before, between and after. Altered ones are made of an event that came already or
    // of one that never comes, so that only the alteration can be the reason.
    let good = hrss.seal(&world, &[insurance(&person, "PENSION", 6)]);
    let mut events: Vec<WireEvent> = good.clone();
    let mut expected = Vec::new();
    let mut after_number = Vec::new();
    for (index, alteration) in Alteration::ALL.into_iter().enumerate() {
        let base = match alteration {
            Alteration::Replayed => good[0].clone(),
            // Sealed anew under a number of their own, or they would be replays first.
            _ => {
                let mut apart = Stream::new(&world, INSURANCE);
                apart.batch = 1_000 + index as u64;
                apart.counter = 1_000_000 + index as u64;
                apart.skip_to(INSURANCE, 0, 100 + index as u64);
                apart
                    .seal(&world, &[insurance(&person, "MEDICAL", 6)])
                    .remove(0)
            }
        };
        events.push(alteration.apply(&base, &kit));
        expected.push((alteration, alteration.code()));
        if alteration.code() == "META_CONTRADICTS" || alteration.code() == "HEADER_MISSING" {
            after_number.push(100 + index as u64 + 1);
        }
    }
    let mut later = hrss.seal(&world, &[insurance(&person, "PENSION", 7)]);
    events.append(&mut later);
    let count = events.len() as u64;
    let datasets = vec![INSURANCE; events.len()];
    put(&world, &datasets, &events);
    gateway.processed(count);
    gateway.end();

    // In the order of each lane.
    let mut notes: Vec<(u16, i64, String)> = world
        .quarantine("hrss")
        .into_iter()
        .map(|note| {
            assert_eq!(note.topic, "src.hrss.insurance.status.v1");
            (note.partition as u16, note.offset, note.code)
        })
        .collect();
    notes.sort();
    let mut wanted: Vec<(u16, i64, String)> = Vec::new();
    let source = world.read("src.hrss.insurance.status.v1");
    for lane in 0..LANES {
        let in_lane = events
            .iter()
            .enumerate()
            .filter(|(_, event)| event.lane == lane);
        let offsets = source.iter().filter(|seen| seen.lane == lane);
        for ((index, _), seen) in in_lane.zip(offsets) {
            if let Some((_, code)) = index.checked_sub(1).and_then(|at| expected.get(at)) {
                wanted.push((lane, seen.offset, (*code).to_owned()));
            }
        }
    }
    wanted.sort();
    assert_eq!(notes, wanted);

    let audited = world.of_kind(AuditKind::Quarantined);
    assert_eq!(audited.len(), Alteration::ALL.len());
    for entry in &audited {
        let reason = world.contract.reasons.get(&entry.reason);
        let reason = reason.unwrap_or_else(|| panic!("{} has no text", entry.reason));
        assert!(!reason.text.zh.is_empty() && !reason.text.en.is_empty());
    }
    // The good ones arrived, both, and nothing else.
    assert_eq!(world.read(TO_INSURANCE).len(), 2);

    // The numbering moved for what the department had signed for this lane, and for nothing forged.
    let state = world.state(0);
    let sequence = &state.sequences[0];
    assert_eq!(sequence.stream, "hrss/insurance/hrss.insurance.status.v1");
    assert_eq!(sequence.last, *after_number.iter().max().unwrap());
    world.check_books();

    // No value of a refused event is in the notes.
    for seen in world.read(&topics::quarantine("hrss")) {
        let bytes = seen.bytes();
        assert!(!bytes.windows(18).any(|w| w == person.as_bytes()));
    }
}

#[test]
fn a_missing_value_and_strange_headers_are_refused() {
    let world = World::new(1);
    let person = world.people(0, 1).remove(0);
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    let event = hrss
        .seal(&world, &[insurance(&person, "PENSION", 6)])
        .remove(0);
    let listed: Vec<(&str, &[u8])> = event.header_pairs().collect();
    let many: Vec<(&str, &[u8])> = (0..70).map(|_| ("x", &b"y"[..])).collect();
    let mut odd = listed.clone();
    odd.push(("mz-more", b"1"));
    odd.push(("mz-more", b"2"));
    let topic = topics::source(INSURANCE);
    let mut writer = Writer::open(&world, "test-source");
    writer.send(&topic, 0, &[1; 32], None, &listed);
    writer.send(&topic, 0, &[1; 32], Some(&event.value), &many);
    writer.send(&topic, 0, &[1; 32], Some(&event.value), &odd);
    writer.send(&topic, 0, &[1; 32], Some(&[]), &listed);
    writer.send(&topic, 0, &[1; 32], Some(&event.value), &listed);
    writer.commit();
    gateway.processed(5);
    gateway.end();
    let codes: Vec<String> = world
        .quarantine("hrss")
        .into_iter()
        .map(|n| n.code)
        .collect();
    let expected = [
        "VALUE_MISSING",
        "HEADERS_UNREADABLE",
        "HEADER_DUPLICATE",
        "FRAMING_INVALID",
    ];
    assert_eq!(codes, expected);
    world.check_books();
}

#[test]
fn signed_nonsense_is_refused_after_its_number_was_taken() {
    let world = World::new(1);
    let person = world.people(0, 1).remove(0);
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    // A number that no person has, in the lane where the connector put it.
    let mut lower = insurance(&person, "PENSION", 6);
    lower.values[0] = mz_seal::Datum::Str(format!(" {person}"));
    let mut nobody = insurance(&person, "PENSION", 6);
    nobody.values[0] = mz_seal::Datum::Str("110105194912310021".to_owned());
    let good = insurance(&person, "MEDICAL", 6);
    let mut events = hrss.seal(&world, &[lower, nobody, good]);
    let lane = world.lane(&person);
    events
        .iter_mut()
        .for_each(|event| assert!(event.lane == lane || event.lane == 0));
    put(&world, &[INSURANCE; 3], &events);
    gateway.processed(3);
    gateway.end();
    let notes = world.quarantine("hrss");
    assert!(
        notes
            .iter()
            .all(|note| note.code == "SUBJECT_INVALID" && note.place == "idNo")
    );
    assert_eq!(notes.len(), 2);
    let sequences = world.state(0).sequences;
    assert_eq!((sequences[0].last, sequences[0].missing.len()), (3, 0));
    world.check_books();
}

#[test]
fn gaps_are_remembered_late_events_fill_them_and_repeats_are_replays() {
    let world = World::new(1);
    let person = world.people(0, 1).remove(0);
    world.grant(&person, 1, |_| {});
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    let kinds = [
        "PENSION",
        "UNEMPLOYMENT",
        "MEDICAL",
        "WORK_INJURY",
        "MATERNITY",
    ];
    let facts: Vec<Fact> = kinds
        .iter()
        .map(|kind| insurance(&person, kind, 6))
        .collect();
    let events = hrss.seal(&world, &facts);
    // 1, 4, 2, 2, 5; 3 never comes.
    let order = [0, 3, 1, 1, 4].map(|at: usize| events[at].clone());
    put(&world, &[INSURANCE; 5], &order);
    gateway.processed(5);
    assert_eq!(gateway.counts().gaps, 2);
    let state = world.state(0);
    assert_eq!(state.sequences[0].missing, [(3, 3)]);
    assert_eq!(state.sequences[0].last, 5);

    // A connector that lost its checkpoint starts a new epoch; its old one is over.
    let mut again = Stream::new(&world, INSURANCE);
    again.epoch = 2;
    again.publish(&world, &[insurance(&person, "PENSION", 7)]);
    put(&world, &[INSURANCE], &[events[2].clone()]);
    gateway.processed(7);
    gateway.end();
    let codes: Vec<String> = world
        .quarantine("hrss")
        .into_iter()
        .map(|n| n.code)
        .collect();
    assert_eq!(codes, ["REPLAYED", "EPOCH_ENDED"]);
    assert_eq!(world.read(TO_INSURANCE).len(), 5);
    let state = world.state(0);
    let sequence = &state.sequences[0];
    assert_eq!((sequence.epoch, sequence.last), (2, 1));
    assert!(sequence.missing.is_empty());
    world.check_books();
}

#[test]
fn a_delivery_put_back_as_a_source_event_is_refused() {
    let world = World::new(1);
    let person = world.people(0, 1).remove(0);
    world.grant(&person, 1, |_| {});
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    hrss.publish(&world, &[insurance(&person, "PENSION", 6)]);
    gateway.processed(1);
    let delivered = world.read(TO_INSURANCE).remove(0);
    let event = WireEvent {
        lane: delivered.lane,
        value: delivered.value.unwrap(),
        headers: delivered
            .headers
            .into_iter()
            .filter(|(name, _)| name != headers::DELIVERY)
            .collect(),
    };
    put(&world, &[INSURANCE], &[event]);
    gateway.processed(2);
    gateway.end();
    assert_eq!(world.quarantine("hrss")[0].code, "SCHEMA_UNKNOWN");
    assert_eq!(world.read(TO_INSURANCE).len(), 1);
}

/// A department's second story under the number of its first: the bus can't know which one is true and
/// delivers both, and the log holds both roots under the department's own signature.
#[test]
fn two_batches_under_one_number_are_both_in_the_log_with_the_departments_signature() {
    let world = World::new(1);
    let people = world.people(0, 3);
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    let facts = |pay: &str| -> Vec<Fact> {
        let of = people.iter().map(|person| insurance(person, pay, 6));
        of.collect()
    };
    hrss.publish(&world, &facts("PENSION"));
    gateway.processed(3);
    // An honest next batch, and then its number again.
    hrss.publish(&world, &facts("PENSION"));
    hrss.batch -= 1;
    hrss.publish(&world, &facts("MEDICAL"));
    gateway.processed(9);
    gateway.end();

    let told = world.of_kind(AuditKind::BatchAccepted);
    let of = |batch: u64| -> Vec<_> {
        let same = told.iter().filter(|entry| entry.version_counter == batch);
        same.collect()
    };
    // One slot: a batch is told of once, however many of its events came.
    assert_eq!((of(1).len(), of(2).len(), told.len()), (1, 2, 3));
    assert_ne!(of(2)[0].event, of(2)[1].event);
    let department = &world.contract.dataset(INSURANCE).unwrap().department;
    for entry in &told {
        let key = world
            .contract
            .seal_key(department, &entry.operator)
            .unwrap();
        let statement = BatchStatement {
            suite: key.suite,
            key_id: &entry.operator,
            department,
            stream: &entry.rule,
            epoch: entry.version_epoch,
            number: entry.version_counter,
            count: entry.counts.matched,
            root: entry.event,
        };
        let signature = BASE64_STANDARD.decode(&*entry.reason).unwrap();
        let signature = signature.try_into().unwrap();
        verify_signature(&key.public, &statement.payload(), &signature).unwrap();
        assert_eq!((entry.version_epoch, entry.counts.matched), (1, 3));
        assert_eq!(entry.dataset, INSURANCE);
        assert_eq!((entry.subject.0, entry.record.0), ([0; 16], [0; 16]));
    }
    world.check_books();

    // A slot that begins again knows nothing of it: told again, the same.
    let gateway = world.start();
    hrss.publish(&world, &facts("PENSION"));
    gateway.processed(3);
    gateway.end();
    let told = world.of_kind(AuditKind::BatchAccepted);
    assert_eq!(told.len(), 4);
    world.check_books();
}
