//! Cases that events open and close: in whose lane, for how long, once.

use mz_journal::{AuditKind, GrantKind, GrantStatus};
use mz_seal::Datum;

use crate::actors::*;
use crate::facts::*;
use crate::world::*;

#[test]
fn a_booking_opens_one_case_per_person_in_their_own_lane() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let (spouse, child) = (world.people(1, 1).remove(0), world.people(0, 2).remove(1));
    let mut police = Stream::new(&world, APPOINTMENT);
    let gateway = world.start();
    // The applicant is named again among the dependents, one number is wrong.
    let named = [&*spouse, &*child, &*me, "441900199001010010"];
    police.publish(&world, &[appointment(&me, "B-1", &named)]);
    gateway.processed(1);
    let mut other_item = appointment(&me, "B-2", &[]);
    other_item.values[1] = Datum::Str("passport".to_owned());
    let mut cancelled = appointment(&me, "B-1", &[]);
    cancelled.values[8] = Datum::Enum("CANCELLED".to_owned());
    let taken_back = Fact {
        withdrawn: true,
        ..appointment(&me, "B-3", &[])
    };
    police.publish(&world, &[other_item, cancelled, taken_back]);
    gateway.processed(4);
    gateway.end();

    let grants = world.grants();
    assert_eq!(grants.len(), 3);
    for person in [&me, &spouse, &child] {
        let of: Vec<_> = grants
            .iter()
            .filter(|g| g.subject == world.tag(person))
            .collect();
        assert_eq!(of.len(), 1);
        let grant = of[0];
        assert_eq!(
            (grant.kind, grant.status),
            (GrantKind::Case, GrantStatus::Open)
        );
        assert_eq!(grant.expires_ms - grant.opened_ms, 180 * 24 * 3600 * 1000);
        assert_eq!(grant.agreement, SETTLEMENT);
    }
    let lanes: Vec<u16> = world
        .read("bus.grants")
        .iter()
        .map(|seen| seen.lane)
        .collect();
    assert_eq!(lanes, [0, 0, 1]);
    let opened = world.of_kind(AuditKind::CaseOpened);
    assert_eq!(opened.len(), 3);
    assert!(
        opened.iter().all(|entry| entry.lane == 0),
        "audited where the booking was"
    );
    let notes = world.quarantine("police");
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].code, "CASE_SUBJECT_INVALID");
}

#[test]
fn a_case_that_closes_in_the_transaction_that_opened_it_stays_closed() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let mut police = Stream::new(&world, APPOINTMENT);
    let mut register = Stream::new(&world, HOUSEHOLD);
    let mut hrss = Stream::new(&world, INSURANCE);
    let mut options = world.options();
    // Both events in one transaction, whatever the machine does.
    options.pace.commit_every = std::time::Duration::from_millis(1500);
    options.pace.linger = options.pace.commit_every;
    let gateway = Gateway::start(options, 0..1);
    police.publish(&world, &[appointment(&me, "B-1", &[])]);
    wait_for("the case is written", || {
        !world
            .read_as("bus.grants", mz_bus::Isolation::Uncommitted)
            .is_empty()
    });
    register.publish(&world, &[household(&me, "H-1", "MOVED_IN")]);
    gateway.processed(2);
    hrss.publish(&world, &[insurance(&me, "PENSION", 1)]);
    gateway.processed(3);
    gateway.end();
    let statuses: Vec<_> = world
        .grants()
        .iter()
        .filter(|grant| grant.agreement == SETTLEMENT)
        .map(|grant| grant.status)
        .collect();
    assert_eq!(statuses, [GrantStatus::Open, GrantStatus::Closed]);
    assert_eq!(world.read(TO_INSURANCE).len(), 0);
    assert_eq!(world.of_kind(AuditKind::Denied).len(), 1);
    world.check_books();
}

#[test]
fn a_move_of_long_ago_that_arrives_late_closes_nothing() {
    let world = World::new(1);
    let people = world.people(0, 2);
    let mut police = Stream::new(&world, APPOINTMENT);
    let mut register = Stream::new(&world, HOUSEHOLD);
    let gateway = world.start();
    for (at, person) in people.iter().enumerate() {
        police.publish(&world, &[appointment(person, &format!("B-{at}"), &[])]);
    }
    gateway.processed(2);
    let day_ms = 24 * 3600 * 1000;
    // The first moved here long before booking; the second moved while nobody read of the booking.
    for (person, days) in people.iter().zip([8, 6]) {
        let moved = Fact {
            at_ms: Some(now_ms() - days * day_ms),
            ..household(person, &format!("H-{days}"), "MOVED_IN")
        };
        register.publish(&world, &[moved]);
    }
    gateway.processed(4);
    gateway.end();
    let closed: Vec<_> = world
        .grants()
        .into_iter()
        .filter(|grant| grant.status == GrantStatus::Closed)
        .map(|grant| grant.subject)
        .collect();
    assert_eq!(closed, [world.tag(&people[1])]);
    assert_eq!(world.of_kind(AuditKind::CaseClosed).len(), 1);
    world.check_books();
}

#[test]
fn an_expired_case_delivers_nothing() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let mut hrss = Stream::new(&world, INSURANCE);
    world.grant(&me, 1, |grant| grant.expires_ms = 1_000_000);
    let gateway = world.start();
    hrss.publish(&world, &[insurance(&me, "PENSION", 1)]);
    gateway.processed(1);
    gateway.end();
    assert_eq!(world.read(TO_INSURANCE).len(), 0);
    assert_eq!(world.of_kind(AuditKind::Denied)[0].rule, "GRANT_EXPIRED");
    world.check_books();
}
