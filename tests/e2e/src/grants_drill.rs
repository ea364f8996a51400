//! The grants drill: counters change consents over HTTP while the insurance register never stands still,
//! and consent service, gateways, vault, adapter, PostgreSQL and its connections are killed at random
//! moments, owners frozen until somebody else was let in, and then woken. Afterwards every equation.

use crate::adapter::AdapterTables;
use crate::arrears::{Newest, Person, Register, people};
use crate::check::Check;
use crate::consents::{Counter, Desk, Told};
use crate::drill::{Dice, owners};
use crate::grants_check::{check_all, unsettled};
use crate::install::Installation;
use crate::service::{Exit, Service};
use crate::settle::settled;
use crate::{database, wait};
use mz_contract::Contract;
use mz_stack::testing;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is killed, and how often at least in a round.
const KILLED: [&str; 6] = [
    "consent",
    "gateway",
    "vault",
    "adapter",
    "connections",
    "database",
];
const MIN_KILLS: u32 = 2;
/// What is frozen, once a round each.
const FROZEN: [&str; 5] = ["gateway", "vault", "consent", "adapter", "database"];
/// Names that a restarted process keeps in its slot group: it has its slots back at once, as installed by
/// docs/operator.md. Frozen ones lose them all the same.
const GATEWAYS: [[&str; 3]; 2] = [
    ["gateway", "--instance", "g0"],
    ["gateway", "--instance", "g1"],
];
const VAULT: [&str; 3] = ["vault", "--instance", "v0"];
/// Moments between two strikes, and how long somebody stays frozen, milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 400..3_000;
const FREEZE_MS: std::ops::Range<u64> = 2_500..9_000;
/// Counters that work at the same time, and records that the register publishes a second.
const COUNTERS: usize = 16;
const RATE: u64 = 200;
/// Between two transactions of the register.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);
/// One record in so many says that the firm has paid.
const PAID_ONE_IN: u64 = 5;
/// How often, and how close, the database's connections are cut in one strike.
const CUTS: u32 = 6;
const CUT_EVERY: Duration = Duration::from_millis(60);
const START_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// A woken service that lost its place must notice within this.
const WAKE_LIMIT: Duration = Duration::from_secs(30);
/// Says on exit that somebody else owns what it owned.
const FENCED: i32 = 6;

/// What one round came to.
#[derive(Debug)]
pub struct Round {
    pub seed: u64,
    pub took: Duration,
    pub kills: BTreeMap<&'static str, u32>,
    pub freezes: BTreeMap<&'static str, u32>,
    /// Services that ended by themselves and were started again, as a service manager does.
    pub ended: BTreeMap<String, u32>,
    pub told: Told,
    pub events: u64,
    pub checks: Vec<Check>,
}

impl Round {
    pub fn holds(&self) -> bool {
        self.checks.iter().all(Check::holds)
    }
}

/// Somebody who was frozen.
struct Asleep {
    kind: &'static str,
    /// Which gateway; nothing for others.
    index: usize,
    until: Instant,
}

struct Drill {
    it: Installation,
    contract: Arc<Contract>,
    tables: AdapterTables,
    dice: Dice,
    desk: Arc<Desk>,
    /// Two addresses for the consent service: whoever follows a frozen one needs another.
    addresses: [String; 2],
    at: usize,
    consent: Service,
    /// Consent services that were frozen and followed; they must end when they wake.
    former: Vec<Service>,
    gateways: Vec<Service>,
    vault: Service,
    adapter: Service,
    asleep: Vec<Asleep>,
    incarnations: u32,
    kills: BTreeMap<&'static str, u32>,
    freezes: BTreeMap<&'static str, u32>,
    ended: BTreeMap<String, u32>,
}

/// Runs one round. Panics when something hangs.
pub fn round(persons: u64, seed: u64) -> Round {
    let begun = Instant::now();
    let it = Installation::new(&format!("grants-{seed}"));
    let contract = Arc::new(it.contract());
    let people = Arc::new(people(&it, &contract, persons));
    let mut drill = Drill::new(it, &contract, &people, seed);
    let (stop, register) = publish(&drill.it, &contract, &people, seed);
    drill.started();
    let clients = clients(&drill.desk, seed);
    drill.strike_all(&clients);
    drill.wake_all();
    drill.desk.close();
    let mut told = Told::default();
    for client in clients {
        wait::value("the counters to end", SETTLE_LIMIT, || {
            drill.look_after();
            client.is_finished().then_some(())
        });
        match client.join() {
            Ok(one) => told.join(one),
            Err(_) => drill.it.keep(),
        }
    }
    stop.store(true, Ordering::Release);
    let Ok((newest, events)) = register.join() else {
        panic!("the register has ended early");
    };
    drill.quiet();
    let checks = check_all(
        &drill.it,
        &drill.contract,
        &drill.tables,
        &people,
        &newest,
        &told,
    );
    let round = Round {
        seed,
        took: begun.elapsed(),
        kills: std::mem::take(&mut drill.kills),
        freezes: std::mem::take(&mut drill.freezes),
        ended: std::mem::take(&mut drill.ended),
        told,
        events,
        checks: wait::good("reading the topics", checks),
    };
    if !round.holds() {
        drill.it.keep();
    }
    drill.stop();
    round
}

/// The register's connector, in a thread of its own until it is stopped: everybody once, then changes
/// at the rate. Answers the newest records and how many there were.
fn publish(
    it: &Installation,
    contract: &Arc<Contract>,
    people: &Arc<Vec<Person>>,
    seed: u64,
) -> (Arc<AtomicBool>, JoinHandle<(Vec<Newest>, u64)>) {
    let mut register = Register::open(it, contract, people);
    let (stop, flag) = (Arc::new(AtomicBool::new(false)), people.len());
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        let mut dice = Dice(!seed);
        let months = |dice: &mut Dice| match dice.below(PAID_ONE_IN) {
            0 => 0,
            _ => 1 + dice.below(30) as i64,
        };
        let everybody: Vec<(usize, i64)> = (0..flag)
            .map(|person| (person, months(&mut dice)))
            .collect();
        register.publish(&everybody);
        let (started, mut published) = (Instant::now(), 0);
        while !stopped.load(Ordering::Acquire) {
            std::thread::sleep(PUBLISH_EVERY);
            let due = started.elapsed().as_millis() as u64 * RATE / 1_000;
            let changes: Vec<(usize, i64)> = (published..due)
                .map(|_| {
                    let person = dice.below(flag as u64) as usize;
                    (person, months(&mut dice))
                })
                .collect();
            if !changes.is_empty() {
                register.publish(&changes);
            }
            published = due;
        }
        let events = everybody.len() as u64 + published;
        (register.newest, events)
    });
    (stop, thread)
}

fn clients(desk: &Arc<Desk>, seed: u64) -> Vec<JoinHandle<Told>> {
    (0..COUNTERS)
        .map(|number| {
            let counter = Counter::new(desk, number, COUNTERS, seed);
            std::thread::spawn(move || counter.run())
        })
        .collect()
}

impl Drill {
    fn new(
        it: Installation,
        contract: &Arc<Contract>,
        people: &Arc<Vec<Person>>,
        seed: u64,
    ) -> Self {
        let tables = AdapterTables::new("union", "retirement-help");
        let first = it.address("consent");
        let other = wait::good("a free port", std::net::TcpListener::bind("127.0.0.1:0"));
        let other = wait::good("a free port", other.local_addr()).to_string();
        let desk = Desk::new(&it, contract, people, &first);
        Self {
            consent: it.start("consent.0", &["consent", "serve"]),
            vault: it.start("vault.0", &VAULT),
            gateways: GATEWAYS
                .iter()
                .enumerate()
                .map(|(n, args)| it.start(&format!("gateway-{n}.0"), args))
                .collect(),
            adapter: crate::world::start_adapter(&it, &tables),
            desk: Arc::new(desk),
            addresses: [first, other],
            at: 0,
            former: Vec::new(),
            asleep: Vec::new(),
            incarnations: 0,
            kills: KILLED.map(|kind| (kind, 0)).into(),
            freezes: FROZEN.map(|kind| (kind, 0)).into(),
            ended: BTreeMap::new(),
            dice: Dice(seed),
            contract: Arc::clone(contract),
            tables,
            it,
        }
    }

    /// Waits until the services have been there once: a strike on a start is for later.
    fn started(&mut self) {
        for address in [self.addresses[0].clone(), self.it.address("vault")] {
            wait::value("the services to listen", START_LIMIT, || {
                self.look_after();
                std::net::TcpStream::connect(&address).ok()
            });
        }
        wait::value("the gateways to own the slots", START_LIMIT, || {
            (owners(&self.gateways).len() == crate::install::SLOTS as usize).then_some(())
        });
    }

    /// Strikes until everything was killed and frozen often enough.
    fn strike_all(&mut self, clients: &[JoinHandle<Told>]) {
        loop {
            let pause = PAUSE_MS.start + self.dice.below(PAUSE_MS.end - PAUSE_MS.start);
            let until = Instant::now() + Duration::from_millis(pause);
            wait::maybe(Duration::from_millis(pause), || {
                self.look_after();
                self.wake(|asleep| Instant::now() >= asleep.until);
                (Instant::now() >= until).then_some(())
            });
            // What it said stands above; the round can't hold any more.
            assert!(
                !clients.iter().any(JoinHandle::is_finished),
                "a counter has ended early"
            );
            let kills: Vec<&'static str> = KILLED
                .into_iter()
                .filter(|kind| self.kills[kind] < MIN_KILLS && self.is_awake(kind))
                .collect();
            let freezes: Vec<&'static str> = FROZEN
                .into_iter()
                .filter(|kind| self.freezes[kind] == 0 && self.asleep.is_empty())
                .collect();
            let count = (kills.len() + freezes.len()) as u64;
            if count == 0 {
                if self.asleep.is_empty() {
                    return;
                }
                continue;
            }
            let at = self.dice.below(count) as usize;
            match kills.get(at) {
                Some(kind) => self.kill(kind),
                None => self.freeze(freezes[at - kills.len()]),
            }
        }
    }

    fn is_awake(&self, kind: &str) -> bool {
        // The other gateway is the only one left while one is frozen.
        let kind = if kind == "connections" {
            "database"
        } else {
            kind
        };
        !self.asleep.iter().any(|one| one.kind == kind)
    }

    fn kill(&mut self, kind: &'static str) {
        match kind {
            "consent" => {
                self.consent.kill();
                self.start_consent();
            }
            "gateway" => {
                let index = self.dice.below(self.gateways.len() as u64) as usize;
                self.gateways[index].kill();
                self.gateways[index] = self.again_gateway(index);
            }
            "vault" => {
                self.vault.kill();
                self.vault = self.again("vault", &VAULT);
            }
            "adapter" => {
                self.adapter.kill();
                self.adapter = crate::world::start_adapter(&self.it, &self.tables);
            }
            "connections" => cut_connections(self.it.database_url()),
            _ => testing::shared().crash_database(),
        }
        *self.kills.entry(kind).or_default() += 1;
    }

    /// SIGSTOP. A consent service is followed by another one at once, at another address; of gateway
    /// and vault the slots are taken by somebody else, or their owner is shut out by consent. Adapter and
    /// database are waited for.
    fn freeze(&mut self, kind: &'static str) {
        let sleep = FREEZE_MS.start + self.dice.below(FREEZE_MS.end - FREEZE_MS.start);
        let mut index = 0;
        match kind {
            "gateway" => {
                let owned = owners(&self.gateways);
                index = owned.values().next().copied().unwrap_or_default();
                self.gateways[index].freeze();
            }
            "vault" => self.vault.freeze(),
            "adapter" => self.adapter.freeze(),
            "database" => testing::shared().freeze_database(),
            _ => {
                self.consent.freeze();
                self.at = 1 - self.at;
                let next = self.again_consent();
                self.former.push(std::mem::replace(&mut self.consent, next));
                index = self.former.len() - 1;
                self.desk.moved(&self.addresses[self.at]);
            }
        }
        *self.freezes.entry(kind).or_default() += 1;
        self.asleep.push(Asleep {
            kind,
            index,
            until: Instant::now() + Duration::from_millis(sleep),
        });
    }

    /// SIGCONT to those whose time has come.
    fn wake(&mut self, mut due: impl FnMut(&Asleep) -> bool) {
        let (woken, asleep) = std::mem::take(&mut self.asleep)
            .into_iter()
            .partition(|one| due(one));
        self.asleep = asleep;
        let woken: Vec<Asleep> = woken;
        for one in woken {
            match one.kind {
                "gateway" => self.gateways[one.index].thaw(),
                "vault" => self.vault.thaw(),
                "adapter" => self.adapter.thaw(),
                "database" => testing::shared().thaw_database(),
                _ => self.former[one.index].thaw(),
            }
        }
    }

    fn wake_all(&mut self) {
        self.wake(|_| true);
        let mut former = std::mem::take(&mut self.former);
        for service in &mut former {
            let exit = wait::maybe(WAKE_LIMIT, || service.ended());
            let note = match exit {
                Some(Exit::Code(FENCED)) => continue,
                Some(exit) => format!("woken consent service: {exit:?}"),
                None => "woken consent service: lives on".to_owned(),
            };
            *self.ended.entry(note).or_default() += 1;
        }
    }

    /// Starts again what has ended by itself, and says so.
    fn look_after(&mut self) {
        if let Some(exit) = self.consent.ended() {
            self.note("consent", exit);
            self.start_consent();
        }
        for index in 0..self.gateways.len() {
            if let Some(exit) = self.gateways[index].ended() {
                self.note("gateway", exit);
                self.gateways[index] = self.again_gateway(index);
            }
        }
        if let Some(exit) = self.vault.ended() {
            self.note("vault", exit);
            self.vault = self.again("vault", &VAULT);
        }
        if let Some(exit) = self.adapter.ended() {
            self.note("adapter", exit);
            self.adapter = crate::world::start_adapter(&self.it, &self.tables);
        }
    }

    fn note(&mut self, kind: &str, exit: Exit) {
        *self.ended.entry(format!("{kind}: {exit:?}")).or_default() += 1;
    }

    fn again_gateway(&mut self, index: usize) -> Service {
        self.again(&format!("gateway-{index}"), &GATEWAYS[index])
    }

    fn start_consent(&mut self) {
        self.consent = self.again_consent();
    }

    fn again_consent(&mut self) -> Service {
        let address = self.addresses[self.at].clone();
        self.again("consent", &["consent", "serve", "--listen", &address])
    }

    fn again(&mut self, name: &str, args: &[&str]) -> Service {
        self.incarnations += 1;
        self.it
            .start(&format!("{name}.{}", self.incarnations), args)
    }

    /// Waits until everything has been processed, withdrawn and receipted.
    fn quiet(&mut self) {
        settled(&self.it, &self.contract, Some(&self.tables), SETTLE_LIMIT);
        wait::until(
            "withdrawals to be receipted",
            SETTLE_LIMIT,
            || {
                self.look_after();
                wait::good("reading the state", unsettled(&self.it, &self.contract))
            },
            Vec::is_empty,
        );
        settled(&self.it, &self.contract, Some(&self.tables), SETTLE_LIMIT);
    }

    fn stop(&mut self) {
        let others = [&mut self.consent, &mut self.vault, &mut self.adapter];
        let mut all: Vec<&mut Service> = self.gateways.iter_mut().chain(others).collect();
        for service in &all {
            service.terminate();
        }
        for service in &mut all {
            let exit = service.wait(STOP_LIMIT);
            assert!(
                exit == Exit::Code(0),
                "{} stopped with {exit:?}:\n{}",
                service.name(),
                service.tail()
            );
        }
    }
}

impl Drop for Drill {
    /// A round that panics leaves nobody frozen: the stack outlives it.
    fn drop(&mut self) {
        self.wake(|_| true);
    }
}

/// Cuts every connection to the installation's database, again and again.
fn cut_connections(url: &str) {
    for _ in 0..CUTS {
        database::execute(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        std::thread::sleep(CUT_EVERY);
    }
}
