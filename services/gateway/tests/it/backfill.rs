//! What was published before a case: without a gap, without going backwards, whoever owns the slot.

use mz_journal::{
    AuditCause, AuditKind, FactBody, Grant, GrantKind, GrantStatus, Record as _, bitmap_fields,
    topics,
};
use mz_seal::{DeliverySeal, headers};

use crate::actors::*;
use crate::facts::*;
use crate::world::*;

fn versions(world: &World, topic: &str) -> Vec<u64> {
    world
        .read(topic)
        .iter()
        .map(|seen| {
            let seal = seen.header(headers::SEAL).unwrap();
            DeliverySeal::parse(seal).unwrap().meta.counter
        })
        .collect()
}

#[test]
fn a_newer_event_during_a_backfill_is_not_followed_by_an_older_fact() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    hrss.publish(
        &world,
        &[insurance(&me, "PENSION", 1), insurance(&me, "MEDICAL", 1)],
    );
    gateway.processed(2);
    world.grant(&me, 1, |_| {});
    wait_for("the request", || Vault::fetches(&world).len() == 1);
    let (lane, fetch) = Vault::fetches(&world).remove(0);
    assert_eq!(fetch.fences.len(), 1, "only what was processed has a fence");
    assert_eq!(fetch.datasets, [INSURANCE]);
    assert_eq!(world.state(lane).open_backfills.len(), 1);
    let facts = Vault::facts(&world, lane, &fetch);
    assert_eq!(facts.len(), 2);

    // The pension changes while the vault is still looking.
    hrss.publish(&world, &[insurance(&me, "PENSION", 2)]);
    gateway.processed(3);
    let mut replies = facts.clone();
    replies.push(Vault::done(&fetch, 2));
    Vault::send(&world, lane, &replies);
    wait_for("the backfill closes", || {
        world.state(lane).open_backfills.is_empty()
    });
    // A vault that says it twice changes nothing.
    Vault::send(&world, lane, &replies);
    hrss.publish(&world, &[insurance(&me, "MEDICAL", 2)]);
    gateway.processed(4);
    gateway.end();
    // Pension 3, then medical 2 by backfill, then medical 4; never pension 1.
    assert_eq!(versions(&world, TO_INSURANCE), [3, 2, 4]);
    world.check_books();
}

#[test]
fn a_new_owner_asks_again_and_ignores_replies_to_the_old_one() {
    let world = World::new(1);
    let me = world.people(1, 1).remove(0);
    let mut hrss = Stream::new(&world, INSURANCE);
    let first = world.start();
    hrss.publish(
        &world,
        &[insurance(&me, "PENSION", 1), insurance(&me, "MEDICAL", 1)],
    );
    first.processed(2);
    world.grant(&me, 1, |_| {});
    wait_for("the request", || Vault::fetches(&world).len() == 1);
    let (lane, asked) = Vault::fetches(&world).remove(0);
    assert_eq!((lane, asked.attempt), (1, 1));
    let facts = Vault::facts(&world, lane, &asked);
    // One fact arrives, then the owner changes.
    Vault::send(&world, lane, &facts[..1]);
    wait_for("the first fact", || world.read(TO_INSURANCE).len() == 1);
    first.end();
    let second = world.start();
    wait_for("the second request", || Vault::fetches(&world).len() == 2);
    let (_, again) = Vault::fetches(&world).remove(1);
    assert_eq!((again.grant, again.attempt), (asked.grant, 2));
    // The vault finishes the old attempt: nobody listens any more.
    Vault::send(&world, lane, &[facts[1].clone(), Vault::done(&asked, 2)]);
    hrss.publish(&world, &[insurance(&me, "MATERNITY", 1)]);
    second.processed(1);
    assert_eq!(world.read(TO_INSURANCE).len(), 2);
    assert_eq!(world.state(lane).open_backfills.len(), 1);
    // An incomplete answer to the new one: asked once more.
    let facts = Vault::facts(&world, lane, &again);
    Vault::send(&world, lane, &[facts[0].clone(), Vault::done(&again, 2)]);
    wait_for("the third request", || Vault::fetches(&world).len() == 3);
    let (_, third) = Vault::fetches(&world).remove(2);
    let mut replies = Vault::facts(&world, lane, &third);
    let count = replies.len() as u64;
    replies.push(Vault::done(&third, count));
    Vault::send(&world, lane, &replies);
    wait_for("closed", || world.state(lane).open_backfills.is_empty());
    second.end();
    let mut newest: Vec<u64> = versions(&world, TO_INSURANCE);
    newest.sort_unstable();
    newest.dedup();
    assert_eq!(newest, [1, 2, 3], "every record arrived");
    world.check_books();
}

#[test]
fn facts_are_decided_under_the_grants_of_now_and_checked_again() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let other = world.people(0, 2).remove(1);
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    hrss.publish(
        &world,
        &[
            insurance(&me, "PENSION", 1),
            insurance(&other, "PENSION", 1),
        ],
    );
    gateway.processed(2);
    world.grant(&me, 1, |_| {});
    wait_for("the request", || Vault::fetches(&world).len() == 1);
    let (lane, fetch) = Vault::fetches(&world).remove(0);
    // Closed while the vault was looking.
    world.grant(&me, 1, |grant| {
        grant.status = GrantStatus::Closed;
        grant.counter = 2;
        grant.closed_ms = Some(2);
    });
    wait_for("the closing is in force", || {
        world.state(lane).grants_position >= 3
    });
    let good = Vault::facts(&world, lane, &fetch).remove(0);
    let mut forged = good.clone();
    if let FactBody::Fact(fact) = &mut forged.body {
        let last = fact.value.len() - 1;
        fact.value[last] ^= 1;
    }
    // Another person's fact under this person's grant.
    let mut of_other = fetch.clone();
    of_other.subject = world.tag(&other);
    let mut foreign = Vault::facts(&world, lane, &of_other).remove(0);
    foreign.subject = fetch.subject;
    let replies = [forged, foreign, good, Vault::done(&fetch, 3)];
    Vault::send(&world, lane, &replies);
    wait_for("closed", || world.state(lane).open_backfills.is_empty());
    gateway.end();
    assert_eq!(world.read(TO_INSURANCE).len(), 0);
    let refused: Vec<String> = world
        .of_kind(AuditKind::Quarantined)
        .iter()
        .map(|entry| entry.reason.to_string())
        .collect();
    assert_eq!(refused, ["SIGNATURE_INVALID", "FACT_FOREIGN"]);
    let denied = world.of_kind(AuditKind::Denied);
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0].cause, AuditCause::Backfill);
    assert_eq!(denied[0].rule, "GRANT_CLOSED");
    world.check_books();
}

#[test]
fn two_grants_fetch_once_and_a_pause_fetches_what_it_missed() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    hrss.publish(&world, &[insurance(&me, "PENSION", 1)]);
    gateway.processed(1);
    let mut vault = Vault::default();
    world.grant(&me, 1, |_| {});
    wait_for("the first delivery", || {
        vault.serve(&world);
        world.read(TO_INSURANCE).len() == 1
    });
    world.grant(&me, 2, |_| {});
    wait_for("the second grant is in force", || {
        gateway.counts().grants_read == 2
    });
    assert_eq!(Vault::fetches(&world).len(), 1);

    // Both paused: denied. One resumed: what it missed comes by backfill.
    for id in [1, 2] {
        world.grant(&me, id, |grant| {
            grant.status = GrantStatus::Paused;
            grant.counter = 2;
        });
    }
    wait_for("paused", || gateway.counts().grants_read == 4);
    hrss.publish(&world, &[insurance(&me, "PENSION", 2)]);
    gateway.processed(2);
    assert_eq!(world.read(TO_INSURANCE).len(), 1);
    world.grant(&me, 2, |grant| grant.counter = 3);
    wait_for("the missed one", || {
        vault.serve(&world);
        world.read(TO_INSURANCE).len() == 2
    });
    gateway.end();
    assert_eq!(versions(&world, TO_INSURANCE), [1, 2]);
    let denied = world.of_kind(AuditKind::Denied);
    assert_eq!(denied[0].rule, "GRANT_PAUSED");
    let delivered = world.of_kind(AuditKind::Delivered);
    assert!(
        delivered
            .iter()
            .all(|entry| !bitmap_fields(&entry.fields).is_empty())
    );
    world.check_books();
}

#[test]
fn what_came_before_any_processing_needs_no_backfill() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let mut hrss = Stream::new(&world, INSURANCE);
    world.grant(&me, 1, |_| {});
    hrss.publish(&world, &[insurance(&me, "PENSION", 1)]);
    let gateway = world.start();
    gateway.processed(1);
    gateway.end();
    assert_eq!(world.read(TO_INSURANCE).len(), 1);
    assert!(Vault::fetches(&world).is_empty());
    assert!(world.state(0).open_backfills.is_empty());
    world.check_books();
}

#[test]
fn more_grants_than_backfills_wait_their_turn_but_a_closing_never_does() {
    /// More than one lane may have open at once.
    const MANY: usize = 2_100;
    let world = World::new(1);
    let people = world.people(0, MANY);
    let last = &people[MANY - 1];
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    hrss.publish(
        &world,
        &[insurance(&world.people(0, MANY + 1)[MANY], "PENSION", 1)],
    );
    gateway.processed(1);

    let mut writer = Writer::open(&world, "test-grants");
    let mut grants = Vec::new();
    for person in &people {
        let subject = world.tag(person);
        let grant = Grant {
            id: Grant::case_id(&[1; 32], SETTLEMENT, subject),
            kind: GrantKind::Case,
            subject,
            agreement: SETTLEMENT.to_owned(),
            datasets: Vec::new(),
            status: GrantStatus::Open,
            counter: 1,
            opened_ms: 1,
            expires_ms: i64::MAX / 4,
            closed_ms: None,
            cause: "request:test".to_owned(),
            reason: String::new(),
            subject_sealed: None,
        };
        let key = topics::grant_key(subject, grant.id);
        writer.send(topics::GRANTS, 0, &key, Some(&grant.encode()), &[]);
        grants.push(grant);
    }
    writer.commit();
    wait_for("as many requests as there is room for", || {
        Vault::fetches(&world).len() == 2_048
    });
    let waiting = world.state(0).grants_position;
    assert!(
        waiting < 2_100,
        "the position stays before what waits: {waiting}"
    );

    // The first one's case is closed while others wait: at once.
    let first = Grant {
        status: GrantStatus::Closed,
        counter: 2,
        closed_ms: Some(2),
        ..grants[0].clone()
    };
    let mut writer = Writer::open(&world, "test-grants");
    let key = topics::grant_key(first.subject, first.id);
    writer.send(topics::GRANTS, 0, &key, Some(&first.encode()), &[]);
    writer.commit();
    wait_for("the closing was read", || {
        gateway.counts().grants_read == 2_049
    });
    hrss.publish(
        &world,
        &[
            insurance(&people[0], "PENSION", 1),
            insurance(last, "PENSION", 1),
        ],
    );
    gateway.processed(3);
    assert_eq!(
        world.of_kind(AuditKind::Denied).len(),
        1,
        "closed is denied"
    );
    assert_eq!(
        world.read(TO_INSURANCE).len(),
        0,
        "not open yet is out of scope"
    );

    // A new owner in the middle finds the rest where it was left.
    gateway.end();
    let gateway = world.start();
    wait_for("asked again", || Vault::fetches(&world).len() == 2 * 2_048);
    let mut served = 2_048;
    wait_for("all grants in force", || {
        let asked = Vault::fetches(&world);
        if asked.len() > served {
            let fresh = asked[served..].iter();
            let done: Vec<_> = fresh.map(|(_, fetch)| Vault::done(fetch, 0)).collect();
            Vault::send(&world, 0, &done);
            served = asked.len();
        }
        world.state(0).open_backfills.is_empty() && world.state(0).grants_position > 2_100
    });
    hrss.publish(&world, &[insurance(last, "PENSION", 2)]);
    wait_for("the last one's insurance", || {
        world.read(TO_INSURANCE).len() == 1
    });
    gateway.end();
    world.check_books();
}

#[test]
fn a_grant_of_one_dataset_fetches_and_delivers_that_alone() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let mut hrss = Stream::new(&world, INSURANCE);
    let mut estate = Stream::new(&world, RIGHT);
    let gateway = world.start();
    hrss.publish(&world, &[insurance(&me, "PENSION", 1)]);
    estate.publish(&world, &[right(&me, "C-1")]);
    gateway.processed(2);
    let mut vault = Vault::default();
    world.grant(&me, 1, |grant| grant.datasets = vec![INSURANCE.to_owned()]);
    wait_for("the insurance of before", || {
        vault.serve(&world);
        world.read(TO_INSURANCE).len() == 1
    });
    let (_, fetch) = Vault::fetches(&world).remove(0);
    assert_eq!(fetch.datasets, [INSURANCE]);
    assert_eq!(fetch.fences.len(), 1);
    hrss.publish(&world, &[insurance(&me, "MEDICAL", 1)]);
    estate.publish(&world, &[right(&me, "C-2")]);
    gateway.processed(4);
    assert_eq!(world.read(TO_INSURANCE).len(), 2);
    assert_eq!(world.read(TO_RIGHT).len(), 0);

    // More of it: what was published of the other dataset is due now.
    world.grant(&me, 1, |grant| grant.counter = 2);
    wait_for("both homes", || {
        vault.serve(&world);
        world.read(TO_RIGHT).len() == 2
    });
    gateway.end();
    assert_eq!(world.of_kind(AuditKind::Denied).len(), 0);
    world.check_books();
}

#[test]
fn an_extension_after_the_expiry_brings_what_came_between() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let mut hrss = Stream::new(&world, INSURANCE);
    world.grant(&me, 1, |grant| grant.expires_ms = 1_000_000);
    let gateway = world.start();
    hrss.publish(&world, &[insurance(&me, "PENSION", 1)]);
    gateway.processed(1);
    assert_eq!(world.of_kind(AuditKind::Denied)[0].rule, "GRANT_EXPIRED");
    let mut vault = Vault::default();
    world.grant(&me, 1, |grant| grant.counter = 2);
    wait_for("what came between", || {
        vault.serve(&world);
        world.read(TO_INSURANCE).len() == 1
    });
    gateway.end();
    world.check_books();
}
