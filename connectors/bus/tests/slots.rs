//! Slots find an owner, move when one is lost, and are wound up before they move.

mod common;

use common::topics;
use mz_bus::{SlotGroup, SlotOptions, lanes_of};
use mz_journal::topics::{SLOTS, SlotKind};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(50);

fn options() -> SlotOptions {
    SlotOptions {
        session_timeout: Duration::from_secs(6),
        ..SlotOptions::new(SlotKind::Gateway)
    }
}

#[test]
fn a_second_member_takes_half_and_gives_it_back() {
    let bus = topics(&[(SLOTS, 4)]);
    let wound_up = Arc::new(Mutex::new(BTreeSet::new()));
    let log = Arc::clone(&wound_up);
    let mut first = SlotGroup::join(&bus, &options(), move |slots| {
        log.lock().unwrap().extend(slots.iter().copied());
    })
    .unwrap();
    until(|| first.poll(TICK).unwrap().len() == 4);
    assert!(wound_up.lock().unwrap().is_empty());

    let mut second = SlotGroup::join(&bus, &options(), |_| {}).unwrap();
    let mut taken = BTreeSet::new();
    until(|| {
        let mine = first.poll(TICK).unwrap();
        taken = second.poll(TICK).unwrap();
        // At no time do both believe to own the same slot.
        assert!(mine.is_disjoint(&taken), "{mine:?} {taken:?}");
        taken.len() == 2 && mine.len() == 2
    });
    // Only what moved was wound up.
    assert_eq!(*wound_up.lock().unwrap(), taken);

    drop(second);
    until(|| first.poll(TICK).unwrap().len() == 4);
}

#[test]
fn leaving_winds_up_first() {
    let bus = topics(&[(SLOTS, 2)]);
    let wound_up = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&wound_up);
    let mut member = SlotGroup::join(&bus, &options(), move |slots| {
        log.lock().unwrap().extend_from_slice(slots);
    })
    .unwrap();
    until(|| member.poll(TICK).unwrap().len() == 2);
    drop(member);
    let mut wound_up = wound_up.lock().unwrap().clone();
    wound_up.sort_unstable();
    assert_eq!(wound_up, [0, 1]);
}

/// A restarted process under the same name gets its slots back, and nobody else's move.
#[test]
fn static_members_keep_their_slots_over_a_restart() {
    let bus = topics(&[(SLOTS, 4)]);
    let named = |name: &str| SlotOptions {
        instance: Some(name.to_owned()),
        ..options()
    };
    let mut a = SlotGroup::join(&bus, &named("node-a"), |_| {}).unwrap();
    let mut b = SlotGroup::join(&bus, &named("node-b"), |_| {}).unwrap();
    let (mut of_a, mut of_b) = (BTreeSet::new(), BTreeSet::new());
    until(|| {
        of_a = a.poll(TICK).unwrap();
        of_b = b.poll(TICK).unwrap();
        of_a.len() == 2 && of_b.len() == 2
    });
    drop(b);
    let mut b = SlotGroup::join(&bus, &named("node-b"), |_| {}).unwrap();
    until(|| {
        assert_eq!(a.poll(TICK).unwrap(), of_a);
        b.poll(TICK).unwrap() == of_b
    });
}

#[test]
fn fixed_slots_need_no_cluster() {
    let mut group = SlotGroup::fixed([3, 1]);
    assert_eq!(group.poll(TICK).unwrap(), BTreeSet::from([1, 3]));
}

#[test]
fn every_lane_has_one_slot() {
    let mut lanes: Vec<u16> = (0..3).flat_map(|slot| lanes_of(slot, 3, 8)).collect();
    lanes.sort_unstable();
    assert_eq!(lanes, (0..8).collect::<Vec<_>>());
    assert_eq!(lanes_of(0, 1, 8).count(), 8);
}

fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(40),
            "it does not come to pass"
        );
    }
}
