//! Withdrawals that somebody forged, moved or said again: refused by code, without effect.

use std::slice::from_ref;
use std::sync::Arc;

use crate::common::{APPROVAL, Fact, Outgoing, World, encoded};
use crate::withdrawals::{rows, run, sent};
use mz_contract::{Contract, Mode};
use mz_journal::{ReceiptAction, Record as _, WITHDRAWAL_HEADER, Withdrawal};
use sqlx::Row as _;

fn word(out: &mut Outgoing) -> &mut Vec<u8> {
    let found = out
        .headers
        .iter_mut()
        .find(|(name, _)| name == WITHDRAWAL_HEADER);
    &mut found.unwrap().1
}

/// Alters the bus's word and leaves its signature.
fn alter(out: &mut Outgoing, change: impl Fn(&mut Withdrawal)) {
    let mut altered = Withdrawal::decode(word(out)).unwrap();
    change(&mut altered);
    *word(out) = encoded(&altered);
}

/// Each forged withdrawal is refused with its code, ends nothing and gets no receipt.
#[test]
fn forged_withdrawals_are_refused_by_code() {
    type Forge = fn(&mut Outgoing, &World);
    let cases: &[(&str, Forge)] = &[
        ("WITHDRAWAL_SIGNATURE_INVALID", |out, world| {
            // The department's own key under the bus's name.
            let topic = out.topic.clone();
            let key = out.key.clone().try_into().unwrap();
            let lane = out.lane;
            let signer = world.receipt_signer();
            let mut forged = Withdrawal::decode(word(out)).unwrap();
            forged.signature = signer.sign(&forged.payload(&topic, lane, &key)).unwrap();
            *word(out) = encoded(&forged);
        }),
        ("WITHDRAWAL_SIGNATURE_INVALID", |out, _| {
            alter(out, |word| word.counter += 1);
        }),
        ("WITHDRAWAL_SIGNATURE_INVALID", |out, _| {
            alter(out, |word| word.reason = "SUPERSEDED".into());
        }),
        ("WITHDRAWAL_SIGNATURE_INVALID", |out, _| {
            alter(out, |word| word.order.0[0] ^= 1);
        }),
        ("WITHDRAWAL_KEY_UNKNOWN", |out, _| {
            alter(out, |word| word.key_id = "bus-seal-99".into());
        }),
        // A key of the bus for another use.
        ("WITHDRAWAL_KEY_UNKNOWN", |out, _| {
            alter(out, |word| word.key_id = "bus-consent-1".into());
        }),
        ("WITHDRAWAL_MALFORMED", |out, _| {
            word(out).pop();
        }),
        ("WITHDRAWAL_MALFORMED", |out, _| word(out).push(0)),
        ("WITHDRAWAL_MALFORMED", |out, _| {
            alter(out, |word| word.reason = "because".into());
        }),
        ("WITHDRAWAL_CONTRADICTS", |out, _| {
            out.headers.push(("mz-seal".into(), vec![1, 2, 3]));
        }),
        ("WITHDRAWAL_CONTRADICTS", |out, _| {
            out.value = Some(vec![0, 0, 0, 0, 1])
        }),
        ("WITHDRAWAL_CONTRADICTS", |out, _| {
            out.headers
                .iter_mut()
                .find(|(name, _)| name == "mz-reason")
                .unwrap()
                .1 = b"SUPERSEDED".to_vec();
        }),
        // Without the bus's word it would be the register's, which is not there either.
        ("NO_SEAL", |out, _| {
            out.headers.retain(|(name, _)| name != WITHDRAWAL_HEADER);
        }),
        ("HEADER_DUPLICATE", |out, _| {
            let again = word(out).clone();
            out.headers.push((WITHDRAWAL_HEADER.into(), again));
        }),
    ];
    let world = World::new();
    let mut gateway = world.gateway();
    for (at, (_, forge)) in cases.iter().enumerate() {
        let fact = Fact::insurance(at as u32 * 8, 5);
        gateway.deliver(from_ref(&fact));
        let mut out = gateway.withdrawal(&fact, at as u64);
        forge(&mut out, &world);
        gateway.send(&[out]);
    }
    let mut codes: Vec<&str> = cases.iter().map(|(code, _)| *code).collect();

    // Words that were said elsewhere: about another topic, lane, key.
    let [a, b, c] = [1001, 1009, 1002].map(|person| Fact::insurance(person, 5));
    gateway.deliver(&[a.clone(), b.clone(), c.clone()]);
    let approval = Fact::of(APPROVAL, 1001, 5, "TA-9");
    gateway.deliver(from_ref(&approval));
    let said = gateway.withdrawal(&approval, 900);
    for target in [&a, &b, &c] {
        let mut out = gateway.withdrawal(target, 901);
        let replayed = if std::ptr::eq(target, &a) {
            said.headers.clone()
        } else {
            // `a`'s own word: for `b` another key in the same lane, for `c` another lane.
            gateway.withdrawal(&a, 902).headers
        };
        out.headers = replayed;
        if std::ptr::eq(target, &c) {
            out.key = a.key().to_vec();
        }
        gateway.send(&[out]);
        codes.push("WITHDRAWAL_SIGNATURE_INVALID");
    }
    let summary = run(world.options(""));
    let mut found: Vec<String> = world
        .rows("SELECT code FROM mz_rejects")
        .iter()
        .map(|row| row.get(0))
        .collect();
    found.sort_unstable();
    codes.sort_unstable();
    assert_eq!(found, codes, "{}", summary.to_json());
    assert_eq!(
        rows(&world),
        cases.len() as i64 + 3,
        "nothing was withdrawn"
    );
    assert_eq!(summary.totals().withdrawn, 0);
    assert!(world.receipts().is_empty());
    let reasons = mz_contract::Reasons::built_in();
    for code in codes
        .iter()
        .chain(&["WITHDRAWAL_REPLAYED", "WITHDRAWAL_KEY_REVOKED"])
    {
        assert!(reasons.contains(code), "{code} has no text");
    }
}

/// An old word, true in its time, said again after the record was delivered again.
#[test]
fn a_replayed_withdrawal_has_no_effect() {
    let world = World::new();
    let mut gateway = world.gateway();
    let fact = Fact::insurance(1, 5);
    gateway.deliver(from_ref(&fact));
    let old = gateway.withdrawal(&fact, 1);
    gateway.send(from_ref(&old));
    run(world.options(""));
    gateway.deliver(from_ref(&fact));
    // As it was, delivery number and all; then under a new number; both in the batch of the delivery.
    let mut renumbered = old.clone();
    renumbered.delivery.sequence = gateway.number(&old.topic, old.lane);
    gateway.send(&[old, renumbered]);
    let summary = run(world.options(""));
    assert_eq!(
        summary.rejects["WITHDRAWAL_REPLAYED"],
        2,
        "{}",
        summary.to_json()
    );
    assert_eq!(
        (summary.totals().stored, summary.totals().withdrawn),
        (1, 0)
    );
    assert_eq!(summary.totals().repeats, 1);
    assert_eq!(rows(&world), 1);
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM mz_rejects WHERE code = 'WITHDRAWAL_REPLAYED'"),
        2
    );
    assert_eq!(sent(&world), [(1, ReceiptAction::Deleted)]);
    // Twice in one batch: the first place counts.
    let first = gateway.withdrawal(&fact, 2);
    let mut second = first.clone();
    second.delivery.sequence = gateway.number(&first.topic, first.lane);
    let mut all = vec![first];
    all.extend(gateway.deliveries(&[fact]));
    all.push(second);
    gateway.send(&all);
    let summary = run(world.options(""));
    assert_eq!(
        summary.rejects["WITHDRAWAL_REPLAYED"],
        1,
        "{}",
        summary.to_json()
    );
    assert_eq!(rows(&world), 1);
    let law: bool = world.ask(
        "SELECT bool_and(delivered = stored + superseded + withdrawn + rejected) FROM mz_positions",
    );
    assert!(law);
}

/// A key that is revoked withdraws nothing: a revocation counts batches, and a withdrawal is in none.
#[test]
fn a_revoked_key_withdraws_nothing() {
    let world = World::new();
    let mut gateway = world.gateway();
    let fact = Fact::insurance(1, 5);
    gateway.deliver(from_ref(&fact));
    gateway.withdraw(from_ref(&fact), 1);
    let path = world.contract_root().join("bus.keys.yaml");
    let listed = std::fs::read_to_string(&path).unwrap();
    let (before, seal) = listed.split_at(listed.find("use: seal").unwrap());
    let revoked = "status: {revoked: {reason: KEY_STOLEN, last_batch: {}}}";
    let seal = seal.replacen("status: active", revoked, 1);
    std::fs::write(&path, format!("{before}{seal}")).unwrap();
    let mut options = world.options("");
    options.contract = Arc::new(Contract::load(&world.contract_root(), Mode::Signed).unwrap());
    let summary = run(options);
    assert_eq!(summary.rejects["WITHDRAWAL_KEY_REVOKED"], 1);
    assert_eq!(rows(&world), 1);
    assert!(world.receipts().is_empty());
}
