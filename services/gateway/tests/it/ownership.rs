//! Who may commit: restarts in the middle, owners that freeze and wake, slots that move, topics of
//! another shape.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mz_bus::plan::PlanOptions;
use mz_bus::{Admin, Isolation, TxProducer, tuning};
use mz_gateway::{Error, Options, Ownership, Service, Stats, run_slot};
use mz_journal::topics::SlotKind;
use mz_journal::{AuditKind, Record as _, State, topics};

use crate::actors::*;
use crate::facts::*;
use crate::world::*;

/// Ends and fences whoever owns a slot, as its next owner would, in the middle of its work.
fn usurp(world: &World, slot: u32) {
    let id = SlotKind::Gateway.transactional_id(slot);
    let mut producer = TxProducer::open(&world.gateway, &id, tuning::TRANSACTION_TIMEOUT).unwrap();
    producer.init().unwrap();
}

/// The same, as consent does it: with a note of the fencing. `owner`: somebody takes the slot after that.
pub fn shut_out(world: &World, slot: u32, owner: bool) {
    let id = SlotKind::Gateway.transactional_id(slot);
    let mut producer = TxProducer::open(&world.admin, &id, tuning::TRANSACTION_TIMEOUT).unwrap();
    producer.init().unwrap();
    producer.begin().unwrap();
    for lane in 0..LANES {
        let note = State {
            lane,
            ..State::default()
        };
        let mut keys = vec![topics::fence_key(SlotKind::Gateway, lane)];
        if owner {
            keys.push(topics::state_key(SlotKind::Gateway, lane));
        }
        for key in keys {
            let value = note.encode();
            let partition = i32::from(lane);
            producer
                .send(topics::STATE, partition, &key, Some(&value), &[])
                .unwrap();
        }
    }
    producer.commit().unwrap();
}

#[test]
fn an_owner_that_consent_shut_out_takes_its_slot_again() {
    let world = World::new(1);
    let person = world.people(0, 1).remove(0);
    world.grant(&person, 1, |_| {});
    let mut hrss = Stream::new(&world, INSURANCE);
    let options = Options {
        ownership: Ownership::Fixed(vec![0]),
        ..world.options()
    };
    let service = Service::new(options).unwrap();
    let handle = service.handle();
    let thread = thread::spawn(move || service.run());
    wait_for("the slot runs", || handle.running() == [0]);
    for round in 0..3_u64 {
        hrss.publish(&world, &[insurance(&person, "PENSION", 1)]);
        wait_for("an event", || handle.counts().events == 2 * round + 1);
        shut_out(&world, 0, false);
        // Its next write fails; it comes back and decides what it could not commit.
        hrss.publish(&world, &[insurance(&person, "PENSION", 2)]);
        wait_for("the next event", || handle.counts().events == 2 * round + 2);
        assert!(!thread.is_finished());
    }
    handle.stop();
    thread.join().unwrap().unwrap();
    assert_eq!(world.read(TO_INSURANCE).len(), 6);
    world.check_books();
}

#[test]
fn a_note_of_before_or_another_owner_brings_nobody_back() {
    let world = World::new(1);
    let person = world.people(0, 1).remove(0);
    let mut hrss = Stream::new(&world, INSURANCE);
    shut_out(&world, 0, false);
    for owner in [false, true] {
        let gateway = world.start();
        if owner {
            shut_out(&world, 0, true);
        } else {
            usurp(&world, 0);
        }
        hrss.publish(&world, &[insurance(&person, "PENSION", 1)]);
        wait_for("it gives up", || gateway.ended());
        let outcome = gateway.stop().remove(0);
        assert!(matches!(outcome, Err(Error::Fenced { slot: 0 })));
    }
}

#[test]
fn killed_again_and_again_nothing_is_lost_or_doubled() {
    let world = World::new(1);
    let people: Vec<String> = (0..LANES).flat_map(|lane| world.people(lane, 20)).collect();
    for (index, person) in people.iter().enumerate().step_by(2) {
        world.grant(person, index as u8 + 1, |_| {});
    }
    let mut hrss = Stream::new(&world, INSURANCE);
    let rounds = 40;
    let total = (rounds * people.len()) as u64;
    let mut extra = 0;
    let mut gateway = world.start();
    let mut done = mz_gateway::Counts::default();
    for round in 0..rounds {
        let facts: Vec<Fact> = people
            .iter()
            .map(|person| insurance(person, "PENSION", round as i64 % 12))
            .collect();
        hrss.publish(&world, &facts);
        if round % 5 == 4 {
            // The owner is cut off wherever it stands: its open transaction ends uncommitted.
            usurp(&world, 0);
            wait_for("the old owner gives up", || {
                // It notices at its next write.
                hrss.publish(&world, &[insurance(&people[1], "MEDICAL", 1)]);
                extra += 1;
                gateway.ended()
            });
            let counts = gateway.counts();
            done += counts;
            let outcome = gateway.stop().remove(0);
            assert!(
                matches!(outcome, Err(Error::Fenced { slot: 0 })),
                "{outcome:?}"
            );
            gateway = world.start();
        }
    }
    let before = done.events;
    gateway.processed(total + extra - before);
    gateway.end();

    let delivered = world.read(TO_INSURANCE);
    assert_eq!(
        delivered.len() as u64,
        total / 2,
        "each event of a case once"
    );
    let out: u64 = world
        .of_kind(AuditKind::Summary)
        .iter()
        .filter(|entry| entry.agreement == SETTLEMENT && entry.dataset == INSURANCE)
        .map(|entry| u64::from(entry.counts.out_of_scope))
        .sum();
    assert_eq!(out, total / 2 + extra);
    // What readers of uncommitted data saw and the log doesn't know as delivered, it knows as exposed.
    let seen = world.read_as(TO_INSURANCE, Isolation::Uncommitted).len();
    let exposed = world.of_kind(AuditKind::Exposed);
    let of_insurance = exposed.iter().filter(|entry| entry.dataset == INSURANCE);
    assert_eq!(of_insurance.count(), seen - delivered.len());
    world.check_books();
}

#[test]
fn a_second_owner_fences_the_first() {
    let world = World::new(1);
    let person = world.people(0, 1).remove(0);
    world.grant(&person, 1, |_| {});
    let mut hrss = Stream::new(&world, INSURANCE);
    let first = world.start();
    hrss.publish(&world, &[insurance(&person, "PENSION", 1)]);
    first.processed(1);
    let second = world.start();
    hrss.publish(&world, &[insurance(&person, "PENSION", 2)]);
    second.processed(1);
    wait_for("the first one sees that it is fenced", || first.ended());
    let outcome = first.stop().remove(0);
    assert!(matches!(outcome, Err(Error::Fenced { slot: 0 })));
    hrss.publish(&world, &[insurance(&person, "PENSION", 3)]);
    second.processed(2);
    second.end();
    assert_eq!(world.read(TO_INSURANCE).len(), 3);
    world.check_books();
}

#[test]
fn slots_move_between_processes_and_back() {
    let world = World::new(2);
    let people: Vec<String> = (0..LANES).flat_map(|lane| world.people(lane, 4)).collect();
    for (index, person) in people.iter().enumerate() {
        world.grant(person, index as u8 + 1, |_| {});
    }
    let options = Options {
        ownership: Ownership::Group { instance: None },
        ..world.options()
    };
    let member = || {
        let service = Service::new(options.clone()).unwrap();
        let handle = service.handle();
        (handle, thread::spawn(move || service.run()))
    };
    let mut hrss = Stream::new(&world, INSURANCE);
    let round = |stream: &mut Stream| {
        let facts: Vec<Fact> = people.iter().map(|p| insurance(p, "PENSION", 3)).collect();
        stream.publish(&world, &facts);
    };
    let (one, first) = member();
    wait_for("one process runs both slots", || one.running() == [0, 1]);
    round(&mut hrss);
    let (two, second) = member();
    wait_for("two processes run one each", || {
        one.running().len() == 1 && two.running().len() == 1
    });
    round(&mut hrss);
    wait_for("two rounds", || {
        one.counts().events + two.counts().events == 16
    });
    one.stop();
    first.join().unwrap().unwrap();
    wait_for("the other one takes over", || two.running() == [0, 1]);
    round(&mut hrss);
    wait_for("three rounds", || {
        one.counts().events + two.counts().events == 24
    });
    wait_for("idle", || two.is_idle());
    two.stop();
    second.join().unwrap().unwrap();
    assert_eq!(world.read(TO_INSURANCE).len(), 24);
    world.check_books();
}

#[test]
fn a_slot_that_a_woken_predecessor_took_back_is_run_again() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    world.grant(&me, 1, |_| {});
    let options = Options {
        ownership: Ownership::Group { instance: None },
        ..world.options()
    };
    let service = Service::new(options).unwrap();
    let handle = service.handle();
    let running = thread::spawn(move || service.run());
    wait_for("it runs the slot", || handle.running() == [0]);
    // Somebody who is no member of the group, and goes away again.
    usurp(&world, 0);
    let mut hrss = Stream::new(&world, INSURANCE);
    hrss.publish(&world, &[insurance(&me, "PENSION", 3)]);
    wait_for("it has lost the slot", || handle.running().is_empty());
    wait_for("it runs the slot again", || handle.counts().events == 1);
    handle.stop();
    running.join().unwrap().unwrap();
    assert_eq!(world.read(TO_INSURANCE).len(), 1);
    world.check_books();
}

#[test]
fn a_topic_of_another_shape_refuses_start() {
    let world = World::new(1);
    let mut admin = Admin::connect(&world.admin).unwrap();
    let name = format!("{}{}", world.admin.prefix, TO_RIGHT);
    let topic = admin
        .topics(|topic| topic == name)
        .unwrap()
        .remove(&name)
        .unwrap();
    admin.delete_topics(std::slice::from_ref(&name)).unwrap();
    wait_for("the topic is gone", || {
        admin
            .topics(|t| t == name)
            .is_ok_and(|found| found.is_empty())
    });
    let wrong = mz_bus::admin::Topic {
        partitions: 3,
        ..topic
    };
    admin.create_topics(&[(name, wrong)]).unwrap();
    let stop = AtomicBool::new(false);
    let outcome = run_slot(&world.options(), 0, &Stats::default(), &stop);
    let Err(Error::PartitionCount {
        topic, found: 3, ..
    }) = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(topic, TO_RIGHT);
}

#[test]
fn an_unsigned_section_refuses_start() {
    let world = World::new(1);
    let root = world.contract.root.clone();
    std::fs::remove_dir_all(root.join("agreements/police/talent-settlement.approvals")).unwrap();
    assert!(mz_contract::Contract::load(&root, mz_contract::Mode::Signed).is_err());
    let draft = mz_contract::Contract::load(&root, mz_contract::Mode::Draft).unwrap();
    let options = Options {
        contract: Arc::new(draft),
        ..world.options()
    };
    assert!(matches!(Service::new(options), Err(Error::Contract(_))));
}

#[test]
fn the_gateways_own_principal_suffices_and_others_do_not() {
    let world = World::new(1);
    let wanted = mz_bus::plan::desired(&world.contract, &PlanOptions::default());
    assert!(!wanted.acls.is_empty());
    let options = Options {
        bus: bus("bus.console", &world.gateway.prefix),
        ..world.options()
    };
    let stop = AtomicBool::new(false);
    let outcome = run_slot(&options, 0, &Stats::default(), &stop);
    assert!(outcome.is_err(), "another principal must not run a slot");
    world.start().end();
}

#[test]
fn a_graceful_stop_commits_what_is_in_hand() {
    let world = World::new(1);
    let person = world.people(0, 1).remove(0);
    world.grant(&person, 1, |_| {});
    let mut options = world.options();
    options.pace.commit_every = Duration::from_secs(3600);
    options.pace.linger = Duration::from_secs(3600);
    let gateway = Gateway::start(options, 0..1);
    let mut hrss = Stream::new(&world, INSURANCE);
    let facts: Vec<Fact> = (0..50)
        .map(|n| insurance(&person, "PENSION", n % 12))
        .collect();
    hrss.publish(&world, &facts);
    wait_for("all is produced, nothing committed", || {
        world.read_as(TO_INSURANCE, Isolation::Uncommitted).len() >= 50
    });
    assert_eq!(world.read(TO_INSURANCE).len(), 0);
    gateway.stop.store(true, Ordering::Release);
    gateway.end();
    assert_eq!(world.read(TO_INSURANCE).len(), 50);
    assert!(world.state(0).position(&topics::source(INSURANCE)) >= Some(50));
    world.check_books();
}
