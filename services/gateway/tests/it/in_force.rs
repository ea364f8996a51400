//! Another contract version comes into force while the slot runs: from one transaction on, for all its
//! lanes, and for whoever owns the slot next. One that can't be decided under stops it.

use std::path::Path;

use mz_gateway::{Error, Unfit};
use mz_journal::{AuditCause, AuditKind, GrantStatus};
use mz_policy::REFETCH;

use crate::actors::*;
use crate::facts::*;
use crate::world::*;

const SETTLEMENT_FILE: &str = "agreements/police/talent-settlement.yaml";
const STATUS_FILE: &str = "agreements/hrss/talent-status.yaml";

fn replace(root: &Path, file: &str, from: &str, to: &str) {
    let path = root.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} says {from}");
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
}

fn kept_longer(root: &Path) {
    replace(root, SETTLEMENT_FILE, "retention: 30d", "retention: 60d");
}

pub fn suspended(root: &Path) {
    let text = "suspended: {since: 2026-05-01, reason: {zh: 超范围使用, en: Use out of scope}}\nsections:\n";
    replace(root, SETTLEMENT_FILE, "sections:\n", text);
}

/// Waits until every lane is recorded under a contract.
fn under(world: &World, digest: [u8; 32]) {
    wait_for("the contract is in force in every lane", || {
        (0..LANES).all(|lane| world.state(lane).contract == digest)
    });
}

#[test]
fn a_contract_comes_into_force_between_two_transactions() {
    let world = World::new(1);
    let people: Vec<String> = (0..LANES).flat_map(|lane| world.people(lane, 5)).collect();
    for (index, person) in people.iter().enumerate() {
        world.grant(person, index as u8 + 1, |_| {});
    }
    let old = world.contract.digest;
    let new = world.changed(kept_longer).digest;
    assert_ne!(old, new);
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    let mut published = 0;
    let round = |hrss: &mut Stream, published: &mut u64| {
        let facts: Vec<Fact> = people.iter().map(|p| insurance(p, "PENSION", 3)).collect();
        hrss.publish(&world, &facts);
        *published += people.len() as u64;
    };
    // Events flow before, while and after.
    for at in 0..12 {
        round(&mut hrss, &mut published);
        if at == 4 {
            world.put_in_force(1, new);
        }
    }
    gateway.processed(published);
    under(&world, new);
    round(&mut hrss, &mut published);
    gateway.processed(published);
    // An older version changes nothing.
    world.put_in_force(0, old);
    round(&mut hrss, &mut published);
    gateway.processed(published);
    gateway.end();

    // Each event once, under the old contract up to some entry of the lane and under the new one from there.
    let delivered = world.read(TO_INSURANCE);
    assert_eq!(delivered.len() as u64, published);
    let audit = world.audit();
    for lane in 0..LANES {
        let of: Vec<_> = audit.iter().filter(|entry| entry.lane == lane).collect();
        let first = of.iter().position(|entry| entry.contract == new).unwrap();
        assert!(of[..first].iter().all(|entry| entry.contract == old));
        assert!(of[first..].iter().all(|entry| entry.contract == new));
        assert!(of[..first].iter().any(|e| e.kind == AuditKind::Delivered));
        assert_eq!(of[first].kind, AuditKind::ContractInForce);
        assert_eq!(of[first].cause, AuditCause::Rule);
        assert_eq!(of[first].reason, "1");
    }
    for seen in &delivered {
        let header = seen.delivery();
        let entry = audit
            .iter()
            .find(|e| (e.lane, e.number) == (header.audit_lane, header.audit_number));
        assert_eq!(header.contract, entry.unwrap().contract);
    }

    // Whoever comes next starts with the new one, although its own disk has the old one, and says nothing
    // that was said.
    let gateway = world.start();
    round(&mut hrss, &mut published);
    gateway.processed(people.len() as u64);
    gateway.end();
    let audit = world.of_kind(AuditKind::ContractInForce);
    assert_eq!(audit.len(), usize::from(LANES));
    assert!((0..LANES).all(|lane| world.state(lane).contract == new));
    assert_eq!(world.read(TO_INSURANCE).len() as u64, published);
    world.check_books();
}

#[test]
fn a_contract_that_came_while_nobody_ran_counts_from_the_first_event() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    world.grant(&me, 1, |_| {});
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    hrss.publish(&world, &[insurance(&me, "PENSION", 1)]);
    gateway.processed(1);
    gateway.end();
    let new = world.changed(suspended).digest;
    hrss.publish(&world, &[insurance(&me, "PENSION", 2)]);
    world.put_in_force(4, new);
    let gateway = world.start();
    gateway.processed(1);
    under(&world, new);
    gateway.end();
    assert_eq!(world.read(TO_INSURANCE).len(), 1);
    let denied = world.of_kind(AuditKind::Denied);
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0].contract, new);
    let said = world.of_kind(AuditKind::ContractInForce);
    assert_eq!(said.len(), usize::from(LANES));
    assert!(said.iter().all(|entry| entry.reason == "4"));
    world.check_books();
}

#[test]
fn a_suspension_bites_at_once_and_its_end_brings_what_was_missed() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    world.grant(&me, 1, |_| {});
    let original = world.changed(|_| {}).digest;
    let paused = world.changed(suspended).digest;
    let mut hrss = Stream::new(&world, INSURANCE);
    let gateway = world.start();
    hrss.publish(&world, &[insurance(&me, "PENSION", 1)]);
    gateway.processed(1);
    world.put_in_force(1, paused);
    under(&world, paused);
    hrss.publish(&world, &[insurance(&me, "PENSION", 2)]);
    gateway.processed(2);
    assert_eq!(world.read(TO_INSURANCE).len(), 1);
    assert_eq!(
        world.of_kind(AuditKind::Denied)[0].rule,
        "AGREEMENT_SUSPENDED"
    );
    world.put_in_force(2, original);
    under(&world, original);
    let mut vault = Vault::default();
    world.grant(&me, 1, |grant| {
        grant.counter = 2;
        grant.reason = REFETCH.to_owned();
    });
    wait_for("what was missed", || {
        vault.serve(&world);
        world.read(TO_INSURANCE).len() == 2
    });
    gateway.end();
    world.check_books();
}

#[test]
fn an_agreement_that_goes_and_comes_back_goes_on_where_it_stopped() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let with = world.changed(|_| {}).digest;
    let without = world.changed(|root| {
        std::fs::remove_file(root.join(STATUS_FILE)).unwrap();
        let _ = std::fs::remove_dir_all(root.join("agreements/hrss/talent-status.approvals"));
    });
    let mut talent = Stream::new(&world, APPROVAL);
    let mut register = Stream::new(&world, HOUSEHOLD);
    let gateway = world.start();
    let mut moved = household(&me, "H-1", "MOVED_IN");
    moved.values[11] = mz_seal::Datum::Str("A-1".to_owned());
    talent.publish(&world, &[approval(&me, "A-1", "APPROVED")]);
    wait_for("the case is in force", || gateway.counts().grants_read == 1);
    register.publish(&world, std::slice::from_ref(&moved));
    wait_for("told", || world.read(TO_STATUS).len() == 1);
    world.put_in_force(1, without.digest);
    under(&world, without.digest);
    register.publish(&world, std::slice::from_ref(&moved));
    gateway.processed(3);
    world.put_in_force(2, with);
    under(&world, with);
    // The case that was opened before is still known.
    register.publish(&world, std::slice::from_ref(&moved));
    gateway.processed(4);
    gateway.end();
    let told = world.read(TO_STATUS);
    let numbers: Vec<u64> = told.iter().map(|seen| seen.delivery().sequence).collect();
    assert_eq!(numbers, [1, 2]);
    assert!(world.grants().iter().all(|g| g.status == GrantStatus::Open));
    world.check_books();
}

#[test]
fn a_contract_that_can_not_be_decided_under_stops_the_slot() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    world.grant(&me, 1, |_| {});
    let mut hrss = Stream::new(&world, INSURANCE);
    let more = |root: &Path| {
        let lanes = format!("lanes: {LANES}");
        replace(root, "installation.yaml", &lanes, "lanes: 4");
    };
    let other_lanes = world.changed(more).digest;
    let mut version = 0;
    let mut fails = |digest: [u8; 32], expected: fn(&Unfit) -> bool| {
        version += 1;
        let gateway = if version == 1 {
            let gateway = world.start();
            hrss.publish(&world, &[insurance(&me, "PENSION", 1)]);
            gateway.processed(1);
            gateway
        } else {
            world.start()
        };
        world.put_in_force(version, digest);
        hrss.publish(&world, &[insurance(&me, "PENSION", 2)]);
        wait_for("the slot stops", || gateway.ended());
        let error = gateway.stop().remove(0).unwrap_err();
        assert_eq!(error.code(), "CONTRACT_UNFIT");
        let Error::ContractUnfit { version: of, why } = error else {
            panic!("{error:?}");
        };
        assert!(expected(&why) && of <= version, "{why:?}");
    };
    fails([9; 32], |why| matches!(why, Unfit::Files(_)));
    // Nobody takes over past it, and a later one counts.
    fails(other_lanes, |why| {
        matches!(why, Unfit::Files(_) | Unfit::Lanes { .. })
    });
    fails(other_lanes, |why| matches!(why, Unfit::Lanes { .. }));
    let delivered = world.read(TO_INSURANCE).len();
    assert!(delivered <= 2, "nothing after the version was read");
    let position = world.state(0).grants_position;

    // Mended: what waited is decided, under it.
    let mended = world.changed(kept_longer).digest;
    world.put_in_force(9, mended);
    let gateway = world.start();
    under(&world, mended);
    wait_for("what waited", || world.read(TO_INSURANCE).len() == 4);
    gateway.end();
    assert!(world.state(0).grants_position > position);
    world.check_books();
}
