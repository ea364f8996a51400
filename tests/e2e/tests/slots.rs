//! Slots move between gateways under load: one joins, one is killed, one is frozen until its slots
//! have new owners and then wakes up. After each, every equation holds.

use mz_e2e::audit::states;
use mz_e2e::check::assert_all;
use mz_e2e::city::{CONNECTORS, configuration};
use mz_e2e::equations::check_all;
use mz_e2e::world::{LOST, TAKEN_OVER, start_gateway};
use mz_e2e::{Exit, Installation, Service, World, wait};
use std::collections::BTreeSet;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);

/// Slots that this process says it took over, in order.
fn taken(gateway: &Service) -> Vec<u32> {
    gateway
        .said()
        .lines()
        .filter(|line| line.contains(TAKEN_OVER))
        .map(|line| {
            let digits = line.split("slot=").nth(1).unwrap();
            digits.split(' ').next().unwrap().parse().unwrap()
        })
        .collect()
}

fn connect(it: &Installation, connector: &str) -> Service {
    let configuration = configuration(connector).display().to_string();
    it.start(connector, &["connect", &configuration, "--once"])
}

fn done(connectors: Vec<Service>) {
    for mut connector in connectors {
        let exit = connector.wait(Duration::from_secs(240));
        assert_eq!(exit, Exit::Code(0), "{}", connector.tail());
    }
}

fn equations(world: &World) {
    let checks = check_all(&world.it, &world.contract, &world.city, &world.tables, &[]);
    assert_all(&checks.unwrap());
}

#[test]
fn slots_move_to_who_joins_and_from_who_dies() {
    let mut world = World::start("slots", 1_500, 21, false, 1);
    wait::until(
        "both slots with the only gateway",
        LIMIT,
        || taken(&world.gateways[0]),
        |slots| slots.iter().collect::<BTreeSet<_>>().len() == 2,
    );
    let loading: Vec<Service> = CONNECTORS[..3]
        .iter()
        .map(|name| connect(&world.it, name))
        .collect();
    // One joins in the middle of the load and gets its share.
    let second = start_gateway(&world.it, 1);
    world.gateways.push(second);
    wait::until(
        "a slot with the one who joined",
        LIMIT,
        || taken(&world.gateways[1]),
        |slots| !slots.is_empty(),
    );
    done(loading);
    // The first dies without a word while the rest is published.
    let loading: Vec<Service> = CONNECTORS[3..]
        .iter()
        .map(|name| connect(&world.it, name))
        .collect();
    let mut first = world.gateways.remove(0);
    first.kill();
    done(loading);
    wait::until(
        "both slots with the survivor",
        LIMIT,
        || taken(&world.gateways[0]),
        |slots| slots.iter().collect::<BTreeSet<_>>().len() == 2,
    );
    world.settle();
    equations(&world);
    world.stop();
}

#[test]
fn a_frozen_owner_wakes_up_and_commits_nothing() {
    let mut world = World::start("zombie", 1_500, 22, false, 1);
    wait::until(
        "both slots with the only gateway",
        LIMIT,
        || taken(&world.gateways[0]),
        |slots| slots.iter().collect::<BTreeSet<_>>().len() == 2,
    );
    let mut loading: Vec<Service> = CONNECTORS
        .iter()
        .map(|name| connect(&world.it, name))
        .collect();
    // Frozen in the middle of the load: with a transaction open, most likely.
    let bus = world.it.bus("bus.admin");
    let lanes = world.contract.lanes;
    let audited = || -> u64 {
        let states = states(&bus, lanes).unwrap();
        states.values().map(|state| state.audit_number).sum()
    };
    wait::until("the load to begin", LIMIT, audited, |numbers| {
        *numbers > 200
    });
    world.gateways[0].freeze();
    let second = start_gateway(&world.it, 1);
    world.gateways.push(second);
    wait::until(
        "both slots with the other",
        LIMIT,
        || taken(&world.gateways[1]),
        |slots| slots.iter().collect::<BTreeSet<_>>().len() == 2,
    );
    // The new owner goes on where the log ends; then the old one wakes up in the middle of it.
    let moved = audited();
    wait::until(
        "the new owner to commit, or the end of the load",
        LIMIT,
        || {
            loading.retain_mut(|connector| connector.ended().is_none());
            (audited(), loading.is_empty())
        },
        |(numbers, loaded)| *numbers > moved || *loaded,
    );
    world.gateways[0].thaw();
    wait::until(
        "the woken one to say that it lost both",
        LIMIT,
        || world.gateways[0].said().matches(LOST).count(),
        |lost| *lost == 2,
    );
    for connector in &mut loading {
        connector.wait(Duration::from_secs(240));
    }
    world.settle();
    equations(&world);
    world.stop();
}
