//! Withdrawals that consent orders: carried out when they still hold, for exactly the holder, in the lane's
//! order; and what a row filter leaves out of a record that was delivered.

use mz_gateway::REASON_HEADER;
use mz_journal::{
    AuditKind, GrantStatus, Order, OrderAction, OrderCondition, OrderId, Record as _,
    WITHDRAWAL_HEADER, Withdrawal, topics,
};
use mz_seal::{KeySource as _, headers, verify_signature};

use crate::actors::*;
use crate::facts::*;
use crate::world::*;

/// An order to withdraw what a fact states.
fn withdraw(
    world: &World,
    person: &str,
    fact: &Fact,
    version: u64,
    condition: OrderCondition,
) -> Order {
    let record = world.record_of(fact);
    let reason = match condition {
        OrderCondition::NotInForce => "CASE_CLOSED",
        OrderCondition::Superseded => "SUPERSEDED",
        OrderCondition::Always => "AGREEMENT_TERMINATED",
    };
    let held = (1, version);
    Order {
        id: Order::derive_id(SETTLEMENT, fact.dataset, record, held, reason, b"test"),
        action: OrderAction::Withdraw,
        condition,
        reason: reason.to_owned(),
        agreement: SETTLEMENT.to_owned(),
        dataset: fact.dataset.to_owned(),
        subject: world.tag(person),
        record,
        epoch: 1,
        counter: version,
        at_ms: 1,
    }
}

/// Verifies a withdrawal as its consumer does.
fn check(world: &World, topic: &str, seen: &Seen, order: &Order) {
    assert!(seen.value.is_none());
    let header = Withdrawal::decode(seen.header(WITHDRAWAL_HEADER).unwrap()).unwrap();
    assert_eq!((header.order, &header.reason), (order.id, &order.reason));
    assert_eq!((header.epoch, header.counter), (order.epoch, order.counter));
    let key = world.contract.seal_key("bus", &header.key_id).unwrap();
    let of: [u8; 32] = seen.key.clone().try_into().unwrap();
    let payload = header.payload(topic, seen.lane, &of);
    verify_signature(&key.public, &payload, &header.signature).unwrap();
    assert_eq!(seen.header(REASON_HEADER), Some(order.reason.as_bytes()));
    assert_eq!(
        seen.header(headers::CE_SOURCE),
        Some(&b"/bus/withdrawals"[..])
    );
    assert_eq!(seen.header(headers::CE_ID).unwrap().len(), 36);
    assert!(seen.header(headers::SEAL).is_none());
}

fn declined(world: &World) -> Vec<(Option<OrderId>, String)> {
    let entries = world.of_kind(AuditKind::OrderDeclined);
    let of = entries.iter();
    of.map(|entry| (entry.order, entry.rule.to_string()))
        .collect()
}

#[test]
fn what_a_closed_case_delivered_is_withdrawn_from_exactly_its_holder() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let other = world.people(0, 2).remove(1);
    let mut hrss = Stream::new(&world, INSURANCE);
    world.grant(&me, 1, |_| {});
    world.grant(&other, 2, |_| {});
    let gateway = world.start();
    let pension = insurance(&me, "PENSION", 6);
    let theirs = insurance(&other, "PENSION", 6);
    let medical = insurance(&me, "MEDICAL", 6);
    hrss.publish(&world, &[pension.clone(), theirs.clone(), medical.clone()]);
    gateway.processed(3);
    world.grant(&me, 1, |grant| {
        grant.status = GrantStatus::Closed;
        grant.counter = 2;
        grant.closed_ms = Some(2);
    });
    wait_for("the closing", || gateway.counts().grants_read == 3);
    let not_in_force = OrderCondition::NotInForce;
    let order = withdraw(&world, &me, &pension, 1, not_in_force);
    let in_force = withdraw(&world, &other, &theirs, 2, not_in_force);
    let unknown = Order {
        id: OrderId([1; 16]),
        agreement: "police/nothing".to_owned(),
        ..order.clone()
    };
    let elsewhere = Order {
        id: OrderId([2; 16]),
        dataset: APPOINTMENT.to_owned(),
        ..order.clone()
    };
    let erase = Order {
        id: OrderId([3; 16]),
        action: OrderAction::Erase,
        ..order.clone()
    };
    let mut writer = Writer::open(&world, "test-orders");
    writer.send(topics::ORDERS, 0, &[1; 16], Some(b"no order"), &[]);
    writer.send(topics::ORDERS, 0, &[1; 16], None, &[]);
    writer.commit();
    let all = [
        order.clone(),
        in_force.clone(),
        unknown.clone(),
        elsewhere.clone(),
        erase,
    ];
    world.order(&me, &all);
    wait_for("the orders", || gateway.counts().declined == 3);

    let delivered = world.read(TO_INSURANCE);
    assert_eq!(delivered.len(), 4);
    check(&world, TO_INSURANCE, &delivered[3], &order);
    assert_eq!(delivered[3].key, delivered[0].key, "the same record");
    assert_ne!(delivered[3].key, delivered[1].key);
    assert_eq!(
        delivered[3].header(headers::CE_TYPE),
        Some(INSURANCE.as_bytes())
    );
    let answers = world.read(TO_ANSWER);
    assert_eq!(answers.len(), 4);
    check(&world, TO_ANSWER, &answers[3], &order);
    assert_eq!(answers[3].key, delivered[0].key);
    let expected = [
        (Some(in_force.id), "STILL_IN_FORCE".to_owned()),
        (Some(unknown.id), "AGREEMENT_UNKNOWN".to_owned()),
        (Some(elsewhere.id), "AGREEMENT_UNKNOWN".to_owned()),
    ];
    assert_eq!(declined(&world), expected);
    let bad = world.of_kind(AuditKind::Quarantined);
    assert_eq!(bad.len(), 1);
    assert_eq!(
        (&*bad[0].reason, bad[0].source_offset),
        ("ORDER_MALFORMED", 0)
    );
    let withdrawn = world.of_kind(AuditKind::Withdrawn);
    assert_eq!(withdrawn.len(), 2, "record and answer");
    assert_eq!(withdrawn[0].rule, "CASE_CLOSED");
    assert_eq!(withdrawn[0].subject, world.tag(&me));
    assert_eq!(withdrawn[0].record, world.record_of(&pension));

    // A newer grant: an order that is still on its way no longer holds; what was withdrawn comes again.
    world.grant(&me, 3, |_| {});
    let mut vault = Vault::default();
    wait_for("both records again", || {
        vault.serve(&world);
        world.read(TO_INSURANCE).len() == 6
    });
    let late = withdraw(&world, &me, &medical, 3, not_in_force);
    world.order(&me, std::slice::from_ref(&late));
    wait_for("declined", || gateway.counts().declined == 4);
    assert_eq!(
        declined(&world)[3],
        (Some(late.id), "STILL_IN_FORCE".to_owned())
    );
    // An agreement that has ended needs no closed grant; and events go on flowing in the same lane.
    let ended = withdraw(&world, &me, &medical, 3, OrderCondition::Always);
    hrss.publish(&world, &[insurance(&me, "MATERNITY", 6)]);
    world.order(&me, std::slice::from_ref(&ended));
    gateway.processed(4);
    wait_for("withdrawn", || gateway.counts().withdrawn == 2);
    gateway.end();
    assert_eq!(world.read(TO_INSURANCE).len(), 8);
    world.check_books();

    // Read once: a new owner repeats nothing.
    let gateway = world.start();
    hrss.publish(&world, &[insurance(&me, "PENSION", 7)]);
    gateway.processed(1);
    gateway.end();
    assert_eq!(world.read(TO_INSURANCE).len(), 9);
}

#[test]
fn an_update_outside_the_rows_is_reported_and_withdrawn_unless_something_newer_came() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let mut talent = Stream::new(&world, APPROVAL);
    let gateway = world.start();
    let stands = |number: &str| approval(&me, number, "APPROVED");
    let revoked = |number: &str| approval(&me, number, "REVOKED");
    // Nothing was ever delivered here: nobody can hold an earlier version.
    talent.publish(&world, &[revoked("A-0")]);
    gateway.processed(1);
    assert_eq!(world.of_kind(AuditKind::Superseded).len(), 0);
    // Versions 2, 3, 4, then 5 to 7 leave the rows, and 8 does once more.
    let first = [stands("A-1"), stands("A-2"), stands("A-3")];
    talent.publish(&world, &first);
    gateway.processed(4);
    talent.publish(&world, &[revoked("A-1"), revoked("A-2"), revoked("A-3")]);
    talent.publish(&world, &[revoked("A-1")]);
    gateway.processed(8);
    let reported = world.of_kind(AuditKind::Superseded);
    let versions: Vec<u64> = reported.iter().map(|e| e.version_counter).collect();
    assert_eq!(versions, [5, 6, 7], "once, until consent has answered");
    assert_eq!(reported[0].agreement, SETTLEMENT);
    assert_eq!(reported[0].dataset, APPROVAL);
    assert_eq!(reported[0].record, world.record_of(&first[0]));
    assert_eq!(world.state(0).superseded.len(), 3);
    gateway.end();

    // The next owner knows of them.
    let gateway = world.start();
    talent.publish(&world, &[stands("A-2")]);
    gateway.processed(1);
    assert_eq!(world.state(0).superseded.len(), 2, "something newer came");
    let superseded = OrderCondition::Superseded;
    let one = withdraw(&world, &me, &first[0], 5, superseded);
    let two = withdraw(&world, &me, &first[1], 6, superseded);
    let three = Order {
        action: OrderAction::Dismiss,
        ..withdraw(&world, &me, &first[2], 7, superseded)
    };
    world.order(&me, &[one.clone(), two.clone(), three]);
    wait_for("the answers", || {
        gateway.counts().declined == 1 && world.state(0).superseded.is_empty()
    });
    gateway.end();
    let delivered = world.read(TO_APPROVAL);
    assert_eq!(delivered.len(), 5);
    check(&world, TO_APPROVAL, &delivered[4], &one);
    assert_eq!(delivered[4].key, delivered[0].key);
    assert_eq!(
        declined(&world),
        [(Some(two.id), "NEWER_DELIVERED".to_owned())]
    );
    world.check_books();
}
