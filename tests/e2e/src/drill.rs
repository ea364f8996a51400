//! The drill: a load with connectors, gateways, vault, ledger and adapter killed at random moments, a gateway
//! frozen until another took over and then woken, and afterwards every equation checked.

use crate::adapter::AdapterTables;
use crate::check::Check;
use crate::city::{CONNECTORS, City, configuration};
use crate::equations::check_all;
use crate::install::Installation;
use crate::service::{Exit, Service};
use crate::settle::settled;
use crate::wait;
use crate::world::{LOST, TAKEN_OVER};
use mz_contract::Contract;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Least kills of each kind of process in a round.
const MIN_KILLS: u32 = 2;
/// Exports of the registers in a round: the load, then what changed.
const SNAPSHOTS: u32 = 2;
/// Moments between two strikes, milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 150..1_800;
const TAKEOVER_LIMIT: Duration = Duration::from_secs(90);
/// How long a woken gateway is given to say that it lost its slots.
const WAKE_LIMIT: Duration = Duration::from_secs(30);
const SETTLE_LIMIT: Duration = Duration::from_secs(600);
const STOP_LIMIT: Duration = Duration::from_secs(90);
/// Longest that a strike-filled load may take before it counts as stuck.
const LOAD_LIMIT: Duration = Duration::from_secs(1_200);

/// What one round came to.
#[derive(Debug)]
pub struct Round {
    pub seed: u64,
    pub took: Duration,
    /// SIGKILLs by kind of process.
    pub kills: BTreeMap<&'static str, u32>,
    /// Slots that changed hands while their owner was frozen.
    pub taken_over: BTreeSet<u32>,
    /// Evidence bundles asked for, and answered.
    pub bundles: (u32, u32),
    pub checks: Vec<Check>,
}

impl Round {
    /// Whether every equation holds.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(Check::holds)
    }
}

/// A small generator, so that a seed repeats the order of strikes (not what they hit).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }
}

/// Processes of the drill by kind, in the order of the dice.
const KINDS: [&str; 5] = ["connector", "gateway", "vault", "adapter", "ledger"];

struct Drill {
    it: Installation,
    contract: Contract,
    city: City,
    tables: AdapterTables,
    dice: Dice,
    gateways: Vec<Service>,
    vault: Service,
    ledger: Service,
    adapter: Service,
    /// Connectors that have not come to the end of their register.
    connectors: Vec<(&'static str, Service)>,
    incarnations: u32,
    kills: BTreeMap<&'static str, u32>,
    taken_over: BTreeSet<u32>,
    answered: Vec<String>,
    asked: u32,
}

/// Runs one round. Panics when something hangs or a process fails by itself.
pub fn round(persons: u64, seed: u64) -> Round {
    let begun = Instant::now();
    let mut drill = Drill::new(persons, seed);
    for snapshot in 0..SNAPSHOTS {
        drill.load(snapshot);
    }
    drill.quiet();
    let checks = check_all(
        &drill.it,
        &drill.contract,
        &drill.city,
        &drill.tables,
        &drill.answered,
    );
    let checks = match checks {
        Ok(checks) => checks,
        Err(error) => panic!("cannot read the topics: {error}"),
    };
    let round = Round {
        seed,
        took: begun.elapsed(),
        kills: std::mem::take(&mut drill.kills),
        taken_over: std::mem::take(&mut drill.taken_over),
        bundles: (drill.asked, drill.answered.len() as u32),
        checks,
    };
    drill.stop();
    if !round.holds() {
        drill.it.keep();
    }
    round
}

impl Drill {
    fn new(persons: u64, seed: u64) -> Self {
        let it = Installation::new(&format!("drill-{seed}"));
        let city = City::write(&it, persons, seed, false);
        let contract = it.contract();
        let tables = AdapterTables::new("police", "talent-settlement");
        let adapter = crate::world::start_adapter(&it, &tables);
        let vault = it.start("vault.0", &["vault"]);
        let ledger = it.start("ledger.0", &["ledger", "serve"]);
        let gateways = (0..2)
            .map(|n| it.start(&format!("gateway-{n}.0"), &["gateway"]))
            .collect();
        Self {
            it,
            contract,
            city,
            tables,
            dice: Dice(seed),
            gateways,
            vault,
            ledger,
            adapter,
            connectors: Vec::new(),
            incarnations: 0,
            kills: KINDS.map(|kind| (kind, 0)).into(),
            taken_over: BTreeSet::new(),
            answered: Vec::new(),
            asked: 0,
        }
    }

    /// Publishes one export of the registers while striking.
    fn load(&mut self, snapshot: u32) {
        if snapshot > 0 {
            self.city.export(snapshot);
        }
        for connector in CONNECTORS {
            self.start_connector(connector);
        }
        let begun = Instant::now();
        let freeze_at = 2 + self.dice.below(4);
        let mut strikes = 0;
        let enough = MIN_KILLS * (snapshot + 1);
        while !self.connectors.is_empty() || self.kills.values().any(|kills| *kills < enough) {
            assert!(
                begun.elapsed() < LOAD_LIMIT,
                "stuck: {:?} still run",
                self.connectors
                    .iter()
                    .map(|(name, _)| name)
                    .collect::<Vec<_>>()
            );
            let pause = PAUSE_MS.start + self.dice.below(PAUSE_MS.end - PAUSE_MS.start);
            let until = Instant::now() + Duration::from_millis(pause);
            // A random moment is the point here; meanwhile look after those that end by themselves.
            wait::maybe(Duration::from_millis(pause), || {
                self.look_after();
                (Instant::now() >= until).then_some(())
            });
            if strikes == freeze_at {
                self.freeze_an_owner();
            } else if self.dice.below(4) == 0 {
                self.ask_for_a_bundle();
            } else {
                self.strike(enough);
            }
            strikes += 1;
            if self.connectors.is_empty() && self.kills["connector"] < enough {
                // They were too fast to be hit: the register is read again, nothing new in it.
                let index = self.dice.below(CONNECTORS.len() as u64) as usize;
                self.start_connector(CONNECTORS[index]);
            }
        }
    }

    /// Kills one process of a kind that has not been killed enough, else of any kind.
    fn strike(&mut self, enough: u32) {
        let due: Vec<&'static str> = KINDS
            .into_iter()
            .filter(|kind| self.kills[kind] < enough)
            .filter(|kind| *kind != "connector" || !self.connectors.is_empty())
            .collect();
        let due = if due.is_empty() { KINDS.to_vec() } else { due };
        let kind = due[self.dice.below(due.len() as u64) as usize];
        match kind {
            "connector" => {
                if self.connectors.is_empty() {
                    return;
                }
                let index = self.dice.below(self.connectors.len() as u64) as usize;
                let (name, service) = &mut self.connectors[index];
                if service.ended().is_some() {
                    return;
                }
                service.kill();
                let name = *name;
                self.connectors.swap_remove(index);
                self.start_connector(name);
            }
            "gateway" => {
                let index = self.dice.below(self.gateways.len() as u64) as usize;
                self.gateways[index].kill();
                self.gateways[index] = self.again(&format!("gateway-{index}"), &["gateway"]);
            }
            "vault" => {
                self.vault.kill();
                self.vault = self.again("vault", &["vault"]);
            }
            "ledger" => {
                self.ledger.kill();
                self.ledger = self.again("ledger", &["ledger", "serve"]);
            }
            _ => {
                self.adapter.kill();
                self.adapter = crate::world::start_adapter(&self.it, &self.tables);
            }
        }
        *self.kills.entry(kind).or_default() += 1;
    }

    /// SIGSTOP to a gateway that owns a slot, until another gateway has taken it over; then SIGCONT:
    /// it must find out that it owns nothing any more. That nothing of it committed is for the
    /// equations to show: its audit numbers would repeat.
    fn freeze_an_owner(&mut self) {
        let (owner, slots) = wait::value("a gateway that owns a slot", TAKEOVER_LIMIT, || {
            self.look_after();
            let owned = owners(&self.gateways);
            let owner = *owned.values().next()?;
            let slots: BTreeSet<u32> = owned
                .iter()
                .filter(|(_, index)| **index == owner)
                .map(|(slot, _)| *slot)
                .collect();
            Some((owner, slots))
        });
        let other = 1 - owner;
        let before = taken(&self.gateways[other]).len();
        self.gateways[owner].freeze();
        wait::value("another gateway to take over", TAKEOVER_LIMIT, || {
            let exit = self.gateways[other].ended();
            assert_eq!(exit, None, "{}", self.gateways[other].tail());
            let now = taken(&self.gateways[other]);
            let now: BTreeSet<u32> = now[before..].iter().map(|(_, slot)| *slot).collect();
            slots.is_subset(&now).then_some(())
        });
        let before = taken(&self.gateways[owner]).len();
        self.gateways[owner].thaw();
        // It says so when it tries to commit. One that had nothing in hand only leaves the group.
        wait::maybe(WAKE_LIMIT, || {
            let gateway = &mut self.gateways[owner];
            let noticed = gateway.ended().is_some()
                || gateway.said().contains(LOST)
                || taken(gateway).len() > before;
            noticed.then_some(())
        });
        self.taken_over.extend(slots);
    }

    /// Somebody at a window asks, whatever state the services are in. An answer that was received
    /// must be in the log; a refused or broken request may be.
    fn ask_for_a_bundle(&mut self) {
        let story = self.city.expected().story;
        let index = self.dice.below(story.len() as u64) as usize;
        let Some(person) = story.values().nth(index) else {
            return;
        };
        self.asked += 1;
        let args = [
            "bundle",
            "--item",
            "talent-settlement",
            "--department",
            "police",
            "--id",
            "-",
            "--operator",
            "hz-0042",
            "--reason",
            "drill",
        ];
        let output = self.it.output(&args, Some(&format!("{}\n", person.id)));
        if !output.status.success() {
            return;
        }
        let bundle: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
        let id = bundle.and_then(|bundle| Some(bundle["audit_id"].as_str()?.to_owned()));
        match id {
            Some(id) => self.answered.push(id),
            None => panic!("an answer without audit id"),
        }
    }

    /// Notes connectors that came to the end, restarts a gateway that was fenced; whatever else ends
    /// by itself fails the drill.
    fn look_after(&mut self) {
        self.connectors
            .retain_mut(|(name, service)| match service.ended() {
                None => true,
                Some(Exit::Code(0 | 7)) => false,
                Some(exit) => panic!("{name} ended with {exit:?}:\n{}", service.tail()),
            });
        for index in 0..self.gateways.len() {
            match self.gateways[index].ended() {
                None => {}
                // Lost its slots for good, as a service manager's restart would find it.
                Some(Exit::Code(6)) => {
                    self.gateways[index] = self.again(&format!("gateway-{index}"), &["gateway"]);
                }
                Some(exit) => panic!(
                    "a gateway ended with {exit:?}:\n{}",
                    self.gateways[index].tail()
                ),
            }
        }
        for service in [&mut self.vault, &mut self.ledger, &mut self.adapter] {
            match service.ended() {
                None => {}
                Some(exit) => panic!(
                    "{} ended with {exit:?}:\n{}",
                    service.name(),
                    service.tail()
                ),
            }
        }
    }

    fn start_connector(&mut self, connector: &'static str) {
        let configuration = configuration(connector).display().to_string();
        let service = self.again(connector, &["connect", &configuration, "--once"]);
        self.connectors.push((connector, service));
    }

    /// Starts a process with a log of its own, so that what it says is not its predecessor's.
    fn again(&mut self, name: &str, args: &[&str]) -> Service {
        self.incarnations += 1;
        self.it
            .start(&format!("{name}.{}", self.incarnations), args)
    }

    /// Waits until everything has been processed.
    fn quiet(&mut self) {
        settled(&self.it, &self.contract, Some(&self.tables), SETTLE_LIMIT);
        self.look_after();
    }

    fn stop(&mut self) {
        for service in
            self.gateways
                .iter_mut()
                .chain([&mut self.vault, &mut self.ledger, &mut self.adapter])
        {
            service.terminate();
        }
        for service in
            self.gateways
                .iter_mut()
                .chain([&mut self.vault, &mut self.ledger, &mut self.adapter])
        {
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

/// When and which slots this process took over, in its own words.
pub(crate) fn taken(gateway: &Service) -> Vec<(String, u32)> {
    gateway
        .said()
        .lines()
        .filter(|line| line.contains(TAKEN_OVER))
        .filter_map(|line| {
            let time = line.split_whitespace().next()?.to_owned();
            Some((time, slot_of(line)?))
        })
        .collect()
}

/// Who took each slot over last.
pub(crate) fn owners(gateways: &[Service]) -> BTreeMap<u32, usize> {
    let mut last: BTreeMap<u32, (String, usize)> = BTreeMap::new();
    for (index, gateway) in gateways.iter().enumerate() {
        for (time, slot) in taken(gateway) {
            let held = last.entry(slot).or_insert_with(|| (time.clone(), index));
            if time >= held.0 {
                *held = (time, index);
            }
        }
    }
    last.into_iter()
        .map(|(slot, (_, index))| (slot, index))
        .collect()
}

/// `slot=3` in a log line.
fn slot_of(line: &str) -> Option<u32> {
    let digits = line.split("slot=").nth(1)?;
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}
