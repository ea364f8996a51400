//! Withdrawals by the bus: carried out by their place in the lane, under legal holds, with receipts.

use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::common::{AGREEMENT, APPROVAL, Fact, World};
use mz_adapter::{Inspected, Options, Summary};
use mz_bus::{Position, read_to_end};
use mz_journal::ReceiptAction;

static NEVER: AtomicBool = AtomicBool::new(false);

pub fn run(options: Options) -> Summary {
    let summary = mz_adapter::run(options, &NEVER).unwrap();
    let totals = summary.totals();
    assert_eq!(
        totals.delivered,
        totals.stored + totals.superseded + totals.withdrawn + totals.rejected
    );
    summary
}

pub fn rows(world: &World) -> i64 {
    world.ask("SELECT count(*) FROM hrss_insurance_status_v1")
}

/// Order number and action of every receipt on the bus, sorted.
pub fn sent(world: &World) -> Vec<(u64, ReceiptAction)> {
    let mut all: Vec<_> = world
        .receipts()
        .iter()
        .map(|receipt| {
            let number = receipt.order.as_bytes()[8..].try_into().unwrap();
            (u64::from_be_bytes(number), receipt.action)
        })
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn a_withdrawn_record_goes_with_a_receipt_and_a_new_grant_brings_it_back() {
    let world = World::new();
    let mut gateway = world.gateway();
    let fact = Fact::insurance(1, 5);
    gateway.deliver(&[fact.clone(), Fact::insurance(2, 1)]);
    let answer = gateway.answer(&fact, true);
    let answers = answer.topic.clone();
    gateway.send(&[answer]);
    run(world.options(""));
    // The record and the answer derived from it, under one order.
    let both = [
        gateway.withdrawal(&fact, 1),
        gateway.withdrawal_on(&answers, &fact, 1),
    ];
    gateway.send(&both);
    let summary = run(world.options(""));
    assert_eq!(summary.totals().withdrawn, 2, "{}", summary.to_json());
    assert_eq!((summary.endings.deleted, summary.receipts_sent), (2, 2));
    assert_eq!(summary.receipts_unsent, 0);
    assert_eq!(rows(&world), 1);
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM answer_insured6of12_v1"),
        0
    );
    assert_eq!(sent(&world), [(1, ReceiptAction::Deleted); 2]);
    let receipts = world.receipts();
    let receipt = receipts.iter().find(|r| r.topic == both[0].topic).unwrap();
    assert_eq!((receipt.lane, receipt.key), (1, fact.key()));
    assert_eq!(receipt.sequence, both[0].delivery.sequence);
    assert_eq!(
        world.ask::<i64>(
            "SELECT count(*) FROM mz_receipts WHERE reason = 'CONSENT_REVOKED' AND sent_at IS NOT NULL"
        ),
        2
    );
    // A new grant: the same version again. It stays until it is withdrawn again.
    gateway.deliver(from_ref(&fact));
    assert_eq!(run(world.options("")).totals().stored, 1);
    assert_eq!(rows(&world), 2);
    gateway.withdraw(&[fact], 2);
    run(world.options(""));
    assert_eq!(rows(&world), 1);
    assert_eq!(sent(&world).len(), 3);
}

/// Everything in one batch: place decides, not version.
#[test]
fn place_in_the_lane_decides_within_one_batch() {
    let world = World::new();
    let mut gateway = world.gateway();
    let (fact, other) = (Fact::insurance(1, 5), Fact::insurance(9, 3));
    let mut all = gateway.deliveries(&[fact.clone(), other.clone()]);
    all.push(gateway.withdrawal(&fact, 1));
    all.push(gateway.withdrawal(&other, 2));
    all.extend(gateway.deliveries(from_ref(&fact)));
    all.push(gateway.withdrawal(&fact, 3));
    all.extend(gateway.deliveries(from_ref(&fact)));
    gateway.send(&all);
    let summary = run(world.options(""));
    let totals = summary.totals();
    assert_eq!(
        (totals.stored, totals.withdrawn),
        (4, 3),
        "{}",
        summary.to_json()
    );
    // The other one moves positions behind the transaction's mark.
    assert!(summary.transactions <= 2, "one batch");
    assert_eq!(
        world.ask::<i64>("SELECT mz_counter FROM hrss_insurance_status_v1"),
        5
    );
    let done = ReceiptAction::Deleted;
    assert_eq!(sent(&world), [(1, done), (2, done), (3, done)]);
}

#[test]
fn versions_bound_what_a_withdrawal_ends() {
    let world = World::new();
    let mut gateway = world.gateway();
    gateway.deliver(&[Fact::insurance(1, 5), Fact::insurance(2, 5)]);
    run(world.options(""));
    // Up to an older version: the newer row stays, and the receipt says that nothing was there.
    // Up to a newer one than was ever held: the row goes.
    gateway.withdraw(&[Fact::insurance(1, 4), Fact::insurance(2, 9)], 1);
    let summary = run(world.options(""));
    assert_eq!((summary.endings.absent, summary.endings.deleted), (1, 1));
    assert_eq!(rows(&world), 1);
    assert_eq!(
        sent(&world),
        [(1, ReceiptAction::Absent), (2, ReceiptAction::Deleted)]
    );
    // What comes later in the lane is stored, also below the version that was withdrawn.
    gateway.deliver(&[Fact::insurance(2, 5)]);
    run(world.options(""));
    assert_eq!(rows(&world), 2);
    // But what the register itself took back stays away, whatever the bus withdraws after it.
    gateway.deliver(&[Fact::insurance(2, 6).withdrawn()]);
    gateway.deliver(&[Fact::insurance(2, 7)]);
    gateway.withdraw(&[Fact::insurance(2, 7)], 3);
    gateway.deliver(&[Fact::insurance(2, 6)]);
    let summary = run(world.options(""));
    assert_eq!(rows(&world), 1, "{}", summary.to_json());
    gateway.deliver(&[Fact::insurance(2, 7)]);
    run(world.options(""));
    assert_eq!(rows(&world), 2);
}

#[test]
fn a_marked_record_counts_as_gone() {
    let world = World::new();
    let mut gateway = world.gateway();
    let options = || world.options("on_withdrawal: mark\n");
    let fact = Fact::insurance(1, 5);
    gateway.deliver(from_ref(&fact));
    gateway.withdraw(from_ref(&fact), 1);
    assert_eq!(run(options()).endings.marked, 1);
    let marked = "SELECT mz_withdrawn_at IS NOT NULL FROM hrss_insurance_status_v1";
    assert!(world.ask::<bool>(marked));
    assert_eq!(sent(&world), [(1, ReceiptAction::Marked)]);
    gateway.deliver(&[fact]);
    assert_eq!(run(options()).totals().stored, 1);
    assert!(!world.ask::<bool>(marked));
}

#[test]
fn a_legal_hold_freezes_instead_and_its_end_deletes() {
    let world = World::new();
    let mut gateway = world.gateway();
    let facts = [
        Fact::insurance(1, 5),
        Fact::insurance(2, 5),
        Fact::insurance(3, 5),
    ];
    gateway.deliver(&facts);
    gateway.deliver(&[Fact::of(APPROVAL, 1, 5, "TA-1")]);
    run(world.options(""));
    // Person 1: everything. Person 2: another topic only. Person 3: a hold that is over.
    world.execute(
        "INSERT INTO mz_legal_hold (mz_person, reason) \
           SELECT mz_person, 'case 1' FROM hrss_insurance_status_v1 WHERE id_no LIKE '%0001'; \
         INSERT INTO mz_legal_hold (topic, mz_person, reason) \
           SELECT 'to.police.talent-settlement.hrss.talent.approval.v1', mz_person, 'case 2' \
           FROM hrss_insurance_status_v1 WHERE id_no LIKE '%0002'; \
         INSERT INTO mz_legal_hold (mz_person, reason, since, until) \
           SELECT mz_person, 'case 3', now() - interval '2 days', now() - interval '1 day' \
           FROM hrss_insurance_status_v1 WHERE id_no LIKE '%0003'",
    );
    gateway.withdraw(&facts, 1);
    // The register's own withdrawal is held up too; it has no order, so no receipt.
    gateway.deliver(&[Fact::of(APPROVAL, 1, 6, "TA-1").withdrawn()]);
    let summary = run(world.options(""));
    assert_eq!((summary.endings.frozen, summary.endings.deleted), (2, 2));
    assert_eq!(summary.frozen_held, 2, "{}", summary.to_json());
    assert_eq!(rows(&world), 0, "what is frozen is in no live table");
    assert_eq!(
        sent(&world),
        [
            (1, ReceiptAction::Frozen),
            (2, ReceiptAction::Deleted),
            (3, ReceiptAction::Deleted)
        ]
    );
    let kept: serde_json::Value = world
        .ask::<sqlx::types::JsonValue>("SELECT record FROM mz_frozen WHERE order_id IS NOT NULL");
    assert_eq!(kept["id_no"], Fact::insurance(1, 5).id_no());
    assert_eq!(kept["months_total"], 5);
    assert!(
        kept["mz_seal"].as_str().unwrap().len() > 200,
        "the proof is kept"
    );
    // Delivered again under a new grant, and withdrawn again: an order of its own.
    gateway.deliver(&[facts[0].clone()]);
    gateway.withdraw(&[facts[0].clone()], 7);
    // And one that finds nothing but the frozen copy may not say that nothing is there.
    gateway.withdraw(&[facts[0].clone()], 8);
    let summary = run(world.options(""));
    assert_eq!((summary.endings.frozen, summary.frozen_held), (2, 3));
    assert_eq!(run(world.options("")).released, 0, "the hold still stands");
    world.execute("UPDATE mz_legal_hold SET until = now() WHERE reason = 'case 1'");
    let summary = run(world.options(""));
    assert_eq!((summary.released, summary.frozen_held), (3, 0));
    assert_eq!(world.ask::<i64>("SELECT count(*) FROM mz_frozen"), 0);
    let wanted: Vec<(u64, ReceiptAction)> = [1, 7, 8]
        .into_iter()
        .flat_map(|order| {
            [
                (order, ReceiptAction::Deleted),
                (order, ReceiptAction::Frozen),
            ]
        })
        .chain([(2, ReceiptAction::Deleted), (3, ReceiptAction::Deleted)])
        .collect();
    let mut sorted = wanted;
    sorted.sort_unstable();
    assert_eq!(sent(&world), sorted);
    assert_eq!(run(world.options("")).receipts_sent, 0, "each once");
}

/// With `freeze` everything withdrawn waits for the records office.
#[test]
fn frozen_by_rule_stays_until_it_is_released() {
    let world = World::new();
    let mut gateway = world.gateway();
    let options = || world.options("on_withdrawal: freeze\n");
    let fact = Fact::insurance(1, 5);
    gateway.deliver(from_ref(&fact));
    gateway.withdraw(&[fact], 1);
    assert_eq!(run(options()).endings.frozen, 1);
    assert_eq!(run(options()).released, 0);
    assert_eq!(rows(&world), 0);
    world.execute("UPDATE mz_frozen SET release_at = now()");
    world.execute(
        "INSERT INTO mz_legal_hold (mz_person, reason) SELECT mz_person, 'case' FROM mz_frozen",
    );
    assert_eq!(run(options()).released, 0, "a hold is stronger");
    world.execute("DELETE FROM mz_legal_hold");
    assert_eq!(run(options()).released, 1);
    assert_eq!(
        sent(&world),
        [(1, ReceiptAction::Deleted), (1, ReceiptAction::Frozen)]
    );
}

/// A role that may read every table of the schema sees no frozen record.
#[test]
fn a_frozen_record_is_hard_to_use_by_accident() {
    let world = World::new();
    let mut gateway = world.gateway();
    let fact = Fact::insurance(1, 5);
    gateway.deliver(&[fact.clone(), Fact::insurance(2, 5)]);
    gateway.withdraw(&[fact], 1);
    run(world.options("on_withdrawal: freeze\n"));
    assert_eq!(world.ask::<i64>("SELECT count(*) FROM mz_frozen"), 1);
    world.execute(
        "DO $$ BEGIN CREATE ROLE mz_test_reader; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; \
         GRANT USAGE ON SCHEMA police_talent_settlement TO mz_test_reader; \
         GRANT SELECT ON ALL TABLES IN SCHEMA police_talent_settlement TO mz_test_reader",
    );
    world.execute(
        "SET ROLE mz_test_reader; \
         DO $$ BEGIN \
           IF (SELECT count(*) FROM hrss_insurance_status_v1) <> 1 THEN RAISE 'the live row is there'; END IF; \
           IF (SELECT count(*) FROM mz_frozen) <> 0 THEN RAISE 'a frozen row shows'; END IF; \
         END $$",
    );
}

/// Without the key, or without the right to write, nothing is lost and nothing stands still.
#[test]
fn receipts_wait_until_they_can_be_signed_and_sent() {
    let world = World::new();
    let mut gateway = world.gateway();
    let fact = Fact::insurance(1, 5);
    gateway.deliver(from_ref(&fact));
    gateway.withdraw(from_ref(&fact), 1);
    let mut options = world.options("");
    options.receipt_signer = None;
    let summary = run(options);
    assert_eq!((summary.receipts_sent, summary.receipts_unsent), (0, 1));
    assert_eq!(summary.to_json()["receipts"]["unsent"], 1);
    assert_eq!(rows(&world), 0, "withdrawn all the same");
    // The bus refuses the write.
    world.receipts_right(false);
    let summary = run(world.options(""));
    assert_eq!((summary.receipts_sent, summary.receipts_unsent), (0, 1));
    world.receipts_right(true);
    let summary = run(world.options(""));
    assert_eq!((summary.receipts_sent, summary.receipts_unsent), (1, 0));
    assert_eq!(sent(&world), [(1, ReceiptAction::Deleted)]);
    // Killed after the bus acknowledged and before we wrote that down: the same bytes again.
    world.execute("UPDATE mz_receipts SET sent_at = NULL");
    run(world.options(""));
    let receipts = world.receipts();
    assert_eq!(receipts.len(), 2);
    assert_eq!(receipts[0], receipts[1]);
}

/// Read again from the beginning (a restored backup, a position set back by hand), withdrawals are
/// carried out again at their own places; no receipt says anything new.
#[test]
fn reading_again_ends_what_it_ended_before() {
    let world = World::new();
    let mut gateway = world.gateway();
    let fact = Fact::insurance(1, 5);
    gateway.deliver(from_ref(&fact));
    gateway.withdraw(from_ref(&fact), 1);
    run(world.options(""));
    world.execute("UPDATE mz_positions SET next_offset = -1, last_sequence = 0");
    let summary = run(world.options(""));
    assert!(summary.rejects.is_empty(), "{}", summary.to_json());
    assert_eq!(
        (summary.totals().stored, summary.totals().withdrawn),
        (1, 1)
    );
    assert_eq!(rows(&world), 0);
    assert_eq!(sent(&world), [(1, ReceiptAction::Deleted)]);
}

/// `mianzheng read` shows who withdrew, why, and up to which version.
#[test]
fn the_inspector_says_who_withdrew_and_why() {
    let world = World::new();
    let mut gateway = world.gateway();
    let fact = Fact::insurance(1, 5);
    gateway.deliver(&[fact.clone().withdrawn()]);
    gateway.withdraw(from_ref(&fact), 9);
    let target = mz_adapter::targets(&world.contract, &world.config(""))
        .unwrap()
        .into_iter()
        .find(|target| target.name == fact.dataset)
        .unwrap();
    let mut inspector = mz_adapter::Inspector::new(Arc::clone(&world.contract), AGREEMENT.into());
    let mut seen = Vec::new();
    let bus = world.bus("police.adapter");
    read_to_end(&bus, &target.topic, 1, Position::Beginning, |record| {
        if let Inspected::Withdrawn {
            reason,
            version,
            order,
            ..
        } = inspector.inspect(&target, &record)
        {
            seen.push((reason, version.counter, order.is_some()));
        }
    })
    .unwrap();
    assert_eq!(
        seen,
        [
            ("WITHDRAWN_BY_SOURCE".to_owned(), 5, false),
            ("CONSENT_REVOKED".to_owned(), 5, true)
        ]
    );
}
