//! Talent settlement through the gateway: an approval, a booking, what was known before and what comes after, the
//! move; and who got which bytes.

use mz_gateway::{REASON_HEADER, WITHDRAWN_BY_SOURCE};
use mz_journal::{AuditCause, AuditKind, GrantStatus, bitmap_fields, unframe};
use mz_seal::{Datum, Expect, ExpectDelivery, Layout, Verifier, headers, schema_digest};

use crate::actors::*;
use crate::facts::*;
use crate::world::*;

/// Verifies a delivery as the consumer does, and decodes it.
fn open(world: &World, topic: &str, seen: &Seen) -> Vec<(String, Datum)> {
    let section = world
        .contract
        .sections()
        .find(|s| s.out_topic == topic)
        .unwrap();
    let dataset = &world.contract.datasets[section.dataset_ix];
    let (id, datum) = unframe(seen.value.as_ref().unwrap()).unwrap();
    assert_eq!(id, section.schema_id);
    let expect = ExpectDelivery {
        bus: &world.contract.bus_id,
        dataset: &dataset.id,
        department: &dataset.department,
        streams: &dataset.streams,
        lane: Some(seen.lane),
        source_layout: &dataset.layout,
        source_schema_digest: &dataset.schema_digest,
        kept: &section.fields,
        projected_layout: &section.projected_layout,
    };
    let mut verifier = Verifier::new();
    let seal = seen.header(headers::SEAL).unwrap();
    verifier
        .verify_delivery(&expect, datum, seal, &*world.contract)
        .expect("the department's signature verifies over the delivered half");
    let values = section.projected_layout.decode_record(datum).unwrap();
    let names = section
        .projected_layout
        .fields()
        .iter()
        .map(|f| f.name.clone());
    names.zip(values).collect()
}

#[test]
fn one_person_from_approval_to_move() {
    let world = World::new(2);
    let me = world.people(0, 1).remove(0);
    let spouse = world.people(1, 1).remove(0);
    let stranger = world.people(0, 2).remove(1);
    let mut hrss = Stream::new(&world, INSURANCE);
    let mut talent = Stream::new(&world, APPROVAL);
    let mut police = Stream::new(&world, APPOINTMENT);
    let mut register = Stream::new(&world, HOUSEHOLD);
    let mut estate = Stream::new(&world, RIGHT);
    let gateway = world.start();

    // Known before anybody booked: nothing of it flows.
    hrss.publish(
        &world,
        &[
            insurance(&me, "PENSION", 12),
            insurance(&me, "MEDICAL", 5),
            insurance(&spouse, "PENSION", 3),
            insurance(&stranger, "PENSION", 9),
        ],
    );
    estate.publish(&world, &[right(&me, "C-1"), right(&stranger, "C-2")]);
    talent.publish(&world, &[approval(&me, "A-1", "APPROVED")]);
    gateway.processed(7);
    assert_eq!(world.read(TO_INSURANCE).len(), 0);
    assert_eq!(world.read(TO_RIGHT).len(), 0);
    let approvals = world.read(TO_APPROVAL);
    assert_eq!(approvals.len(), 1);
    let fields = open(&world, TO_APPROVAL, &approvals[0]);
    assert_eq!(fields[0], ("idNo".to_owned(), Datum::Str(me.clone())));

    // The booking opens a case for both; the vault sends what was published before.
    police.publish(&world, &[appointment(&me, "B-1", &[&spouse])]);
    let mut vault = Vault::default();
    wait_for("both backfills", || {
        vault.serve(&world);
        gateway.counts().backfilled >= 7
    });
    // me: two insurances with their answers, one home; the spouse: one insurance, one answer.
    wait_for("backfills close", || {
        (0..LANES).all(|lane| world.state(lane).open_backfills.is_empty())
    });
    let delivered = world.read(TO_INSURANCE);
    assert_eq!(delivered.len(), 3);
    assert_eq!(world.read(TO_ANSWER).len(), 3);
    assert_eq!(world.read(TO_RIGHT).len(), 1);

    // From now on it flows as it happens.
    hrss.publish(
        &world,
        &[
            insurance(&me, "WORK_INJURY", 12),
            insurance(&stranger, "MEDICAL", 1),
        ],
    );
    wait_for("the new insurance", || world.read(TO_INSURANCE).len() == 4);
    for seen in world.read(TO_INSURANCE) {
        let names: Vec<String> = open(&world, TO_INSURANCE, &seen)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["idNo", "type", "status", "monthsTotal", "asOf"]);
        assert_eq!(seen.header(headers::CE_TYPE), Some(INSURANCE.as_bytes()));
    }

    // The move closes the case of the person who moved; the approval's own agreement hears of it.
    register.publish(&world, &[household(&me, "H-1", "MOVED_IN")]);
    gateway.processed(11);
    wait_for("the case is closed", || {
        world
            .grants()
            .iter()
            .any(|grant| grant.status == GrantStatus::Closed && grant.subject == world.tag(&me))
    });
    hrss.publish(
        &world,
        &[
            insurance(&me, "PENSION", 11),
            insurance(&spouse, "MEDICAL", 4),
        ],
    );
    wait_for("the spouse's insurance", || {
        world.read(TO_INSURANCE).len() == 5
    });
    gateway.processed(13);
    assert_eq!(world.read(TO_STATUS).len(), 1);
    gateway.end();

    // The last one about me was denied, once, for section and answer.
    let denied = world.of_kind(AuditKind::Denied);
    assert_eq!(denied.len(), 1, "{denied:#?}");
    assert_eq!(denied[0].rule, "GRANT_CLOSED");
    assert_eq!(denied[0].subject, world.tag(&me));
    assert_eq!(denied[0].counts.denied, 2);
    let opened = world.of_kind(AuditKind::CaseOpened);
    let police_cases = opened.iter().filter(|entry| entry.agreement == SETTLEMENT);
    assert_eq!(police_cases.count(), 2);
    assert_eq!(world.of_kind(AuditKind::CaseClosed).len(), 1);

    // Who read what about me: fields, cause, grant.
    let about_me: Vec<_> = world
        .of_kind(AuditKind::Delivered)
        .into_iter()
        .filter(|entry| entry.subject == world.tag(&me) && entry.dataset == INSURANCE)
        .collect();
    assert_eq!(about_me.len(), 3);
    let backfilled = about_me.iter().filter(|e| e.cause == AuditCause::Backfill);
    assert_eq!(backfilled.count(), 2);
    let section = world
        .contract
        .sections()
        .find(|s| s.out_topic == TO_INSURANCE)
        .unwrap();
    for entry in &about_me {
        assert_eq!(bitmap_fields(&entry.fields), section.fields);
        assert!(entry.grant.is_some() && entry.version_counter > 0);
    }
    world.check_books();

    // No byte of a withheld field, nothing about the stranger, no identity number in a key.
    let mut topics: Vec<&str> = world
        .contract
        .sections()
        .map(|s| s.out_topic.as_str())
        .collect();
    topics.push(TO_ANSWER);
    for topic in topics {
        for seen in world.read(topic) {
            let bytes = seen.bytes();
            let holds = |mark: &str| bytes.windows(mark.len()).any(|w| w == mark.as_bytes());
            for secret in SECRETS {
                assert!(!holds(secret), "{topic} holds {secret}");
            }
            assert!(!holds(&stranger), "{topic} tells of a stranger");
            assert_eq!(seen.key.len(), 32);
        }
    }
    for topic in ["bus.audit", "bus.state", "bus.grants", "bus.fetch"] {
        for seen in world.read(topic) {
            let bytes = seen.bytes();
            for id in [&me, &spouse, &stranger] {
                assert!(!bytes.windows(18).any(|w| w == id.as_bytes()), "{topic}");
            }
        }
    }
}

#[test]
fn an_answer_is_sealed_by_the_bus_and_names_its_source() {
    let world = World::new(1);
    let me = world.people(1, 1).remove(0);
    let mut hrss = Stream::new(&world, INSURANCE);
    world.grant(&me, 1, |_| {});
    let gateway = world.start();
    hrss.publish(
        &world,
        &[insurance(&me, "PENSION", 6), insurance(&me, "MEDICAL", 5)],
    );
    gateway.processed(2);
    gateway.end();

    let answers = world.read(TO_ANSWER);
    let source = world.read("src.hrss.insurance.status.v1");
    assert_eq!((answers.len(), source.len()), (2, 2));
    let section = world
        .contract
        .sections()
        .find(|s| s.out_topic == TO_INSURANCE)
        .unwrap();
    let answer = &section.answers[0];
    let layout = Layout::compile(answer.avsc.as_bytes()).unwrap();
    let audit = world.of_kind(AuditKind::Delivered);
    for (seen, expected) in answers.iter().zip([true, false]) {
        let (id, datum) = unframe(seen.value.as_ref().unwrap()).unwrap();
        assert_eq!(id, answer.schema_id);
        let values = layout.decode_record(datum).unwrap();
        assert_eq!(values[0], Datum::Bool(expected));
        assert_eq!(values[2], Datum::Str(INSURANCE.to_owned()));
        let expect = Expect {
            bus: &world.contract.bus_id,
            dataset: "police.talent-settlement.answer.insured6of12.v1",
            department: "bus",
            streams: &[format!("answers.{}", seen.lane)],
            lane: seen.lane,
            layout: &layout,
            schema_digest: &schema_digest(answer.avsc.as_bytes()),
            subject_field: 2,
        };
        let mut verifier = Verifier::new();
        let seal = seen.header(headers::SEAL).unwrap();
        let verified = verifier
            .verify_source(&expect, datum, seal, &*world.contract)
            .unwrap();
        let key: String = seen.key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(verified.record, key, "tied to its reader");
        let number = seen.delivery().audit_number;
        let entry = audit.iter().find(|e| e.number == number).unwrap();
        assert_eq!(values[3], Datum::Bytes(entry.event.to_vec()));
        assert_eq!(entry.rule, "insured6of12");
    }
    world.check_books();
}

#[test]
fn what_the_register_withdraws_is_withdrawn_from_its_reader() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let other = world.people(0, 2).remove(1);
    let mut hrss = Stream::new(&world, INSURANCE);
    world.grant(&me, 1, |_| {});
    let gateway = world.start();
    let gone = |person: &str| Fact {
        withdrawn: true,
        ..insurance(person, "PENSION", 6)
    };
    hrss.publish(&world, &[insurance(&me, "PENSION", 6)]);
    hrss.publish(&world, &[gone(&me), gone(&other)]);
    gateway.processed(3);
    gateway.end();

    let delivered = world.read(TO_INSURANCE);
    assert_eq!(delivered.len(), 2);
    let (value, withdrawal) = (&delivered[0], &delivered[1]);
    assert_eq!(value.key, withdrawal.key, "compaction removes the value");
    assert!(value.value.is_some() && withdrawal.value.is_none());
    let reason = withdrawal.header(REASON_HEADER).unwrap();
    assert_eq!(reason, WITHDRAWN_BY_SOURCE.as_bytes());
    // The department's own word for it: the meta in the seal verifies without any field.
    let seal = mz_seal::DeliverySeal::parse(withdrawal.header(headers::SEAL).unwrap()).unwrap();
    assert!(seal.meta.withdrawn);
    assert_eq!(world.read(TO_ANSWER).len(), 2);
    world.check_books();
}

#[test]
fn out_of_scope_is_counted_not_listed() {
    let world = World::new(1);
    let people = world.people(0, 40);
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    let facts: Vec<Fact> = people
        .iter()
        .map(|person| insurance(person, "PENSION", 1))
        .collect();
    hrss.publish(&world, &facts);
    gateway.processed(40);
    gateway.end();
    let audit = world.audit();
    let few = [AuditKind::Summary, AuditKind::BatchAccepted];
    assert!(audit.iter().all(|entry| few.contains(&entry.kind)));
    assert!(audit.len() <= 12, "a few summaries, not forty records");
    for dataset in [INSURANCE, "answer.insured6of12.v1"] {
        let of = audit
            .iter()
            .filter(|entry| entry.agreement == SETTLEMENT && entry.dataset == dataset);
        let counts: Vec<_> = of.map(|entry| entry.counts).collect();
        let out: u32 = counts.iter().map(|counts| counts.out_of_scope).sum();
        assert_eq!(out, 40);
        assert_eq!(counts[0].from_offset, 0);
    }
    world.check_books();
}
