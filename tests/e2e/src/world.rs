//! The services of one installation, running: gateways, a vault, a consent service, a console, a ledger,
//! adapters.

use crate::adapter::AdapterTables;
use crate::city::{self, City};
use crate::install::Installation;
use crate::service::{Exit, Service};
use crate::settle::{quiet, settled};
use crate::wait;
use mz_contract::Contract;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Longest that catching up with a small city may take on a busy machine.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(180);
/// What a slot's owner says when it has taken over.
pub const TAKEN_OVER: &str = "slot taken over";
/// What it says when somebody else has.
pub const LOST: &str = "another owner has taken over this slot";

/// An installation with its services.
#[derive(Debug)]
pub struct World {
    pub it: Installation,
    pub contract: Contract,
    pub city: City,
    pub tables: AdapterTables,
    pub gateways: Vec<Service>,
    pub vault: Service,
    pub consent: Service,
    pub console: Service,
    pub ledger: Service,
    /// Of `tables`.
    pub adapter: Service,
    /// Receiving ends of other agreements.
    pub feeds: Vec<(AdapterTables, Service)>,
}

/// What is asked at a counter for an evidence bundle.
#[derive(Clone, Copy, Debug)]
pub struct Counter<'a> {
    pub department: &'a str,
    pub item: &'a str,
    pub operator: &'a str,
    pub reason: &'a str,
}

/// The household counter of the police.
pub const HOUSEHOLD: Counter<'_> = Counter {
    department: "police",
    item: "talent-settlement",
    operator: "hz-0042",
    reason: "人才入户",
};

impl World {
    /// Makes everything and starts all services; nothing is published yet.
    pub fn start(name: &str, persons: u64, seed: u64, marks: bool, gateways: usize) -> Self {
        Self::of(Installation::new(name), persons, seed, marks, gateways)
    }

    /// The same in an installation that somebody has made.
    pub fn of(it: Installation, persons: u64, seed: u64, marks: bool, gateways: usize) -> Self {
        let city = City::write(&it, persons, seed, marks);
        let contract = it.contract();
        let tables = AdapterTables::new("police", "talent-settlement");
        let gateways = (0..gateways).map(|n| start_gateway(&it, n)).collect();
        let vault = it.start("vault", &["vault"]);
        let consent = start_consent(&it);
        let console = it.start("console", &["console"]);
        let ledger = start_ledger(&it);
        let adapter = start_adapter(&it, &tables);
        let mut world = Self {
            it,
            contract,
            city,
            tables,
            gateways,
            vault,
            consent,
            console,
            ledger,
            adapter,
            feeds: Vec::new(),
        };
        for service in ["vault", "console", "consent"] {
            let address = world.it.address(service);
            wait::value(&format!("{service} to listen"), START_LIMIT, || {
                world.alive();
                std::net::TcpStream::connect(&address).ok()
            });
        }
        world.ruled();
        world
    }

    /// Waits until the consent service answers, which it does once its first contract is in force.
    #[track_caller]
    pub fn ruled(&mut self) {
        wait::until(
            "the consent service to be ready",
            START_LIMIT,
            || {
                self.alive();
                let args = ["agreement", "versions", "--json"];
                let output = self.it.output(&args, None);
                String::from_utf8_lossy(&output.stdout).into_owned()
            },
            |said| said.contains("\"version\""),
        );
    }

    /// Starts the receiving end of one more agreement.
    pub fn feed(&mut self, consumer: &str, purpose: &str) -> AdapterTables {
        let tables = AdapterTables::new(consumer, purpose);
        let service = start_feed(&self.it, &tables, &tables.schema());
        self.feeds.push((tables.clone(), service));
        tables
    }

    fn services(&mut self) -> impl Iterator<Item = &mut Service> {
        let feeds = self.feeds.iter_mut().map(|(_, service)| service);
        let others = [
            &mut self.vault,
            &mut self.consent,
            &mut self.console,
            &mut self.ledger,
            &mut self.adapter,
        ];
        self.gateways.iter_mut().chain(others).chain(feeds)
    }

    /// Panics with the words of a service that has ended.
    #[track_caller]
    pub fn alive(&mut self) {
        for service in self.services() {
            if let Some(exit) = service.ended() {
                panic!(
                    "{} ended with {exit:?}:\n{}",
                    service.name(),
                    service.tail()
                );
            }
        }
    }

    /// Publishes all registers and waits until everything is where it belongs.
    #[track_caller]
    pub fn publish(&mut self) {
        city::publish_all(&self.it);
        self.settle();
    }

    /// Waits until everything that is published is where it belongs, and everything that had to be
    /// called back was.
    #[track_caller]
    pub fn settle(&mut self) {
        settled(&self.it, &self.contract, None, SETTLE_LIMIT);
        self.alive();
        let feeds = self.feeds.iter().map(|(tables, _)| tables);
        let adapters: Vec<&AdapterTables> = std::iter::once(&self.tables).chain(feeds).collect();
        quiet(&self.it, &self.contract, &adapters, SETTLE_LIMIT);
        for adapter in adapters {
            settled(&self.it, &self.contract, Some(adapter), SETTLE_LIMIT);
        }
        self.alive();
    }

    /// An evidence bundle as the household counter asks for it: the file and its contents.
    #[track_caller]
    pub fn bundle(&self, id: &str, name: &str) -> (PathBuf, Value) {
        self.ask(HOUSEHOLD, id, name)
    }

    /// An evidence bundle as a counter asks for it.
    #[track_caller]
    pub fn ask(&self, counter: Counter<'_>, id: &str, name: &str) -> (PathBuf, Value) {
        let path = self.it.dir().join(format!("{name}.json"));
        self.it.run_with(
            &[
                "bundle",
                "--item",
                counter.item,
                "--department",
                counter.department,
                "--id",
                "-",
                "--operator",
                counter.operator,
                "--reason",
                counter.reason,
                "--out",
                &path.display().to_string(),
            ],
            Some(&format!("{id}\n")),
            &[0],
        );
        let read = std::fs::read(&path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
        match read {
            Ok(bundle) => (path, bundle),
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }

    /// Asks every service to stop; each must do so in order.
    #[track_caller]
    pub fn stop(mut self) {
        for service in self.services() {
            if service.ended().is_none() {
                service.terminate();
            }
        }
        for service in self.services() {
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

/// Starts the n-th gateway.
pub fn start_gateway(it: &Installation, n: usize) -> Service {
    it.start(&format!("gateway-{n}"), &["gateway"])
}

/// Starts the consent service.
pub fn start_consent(it: &Installation) -> Service {
    it.start("consent", &["consent", "serve"])
}

/// Starts the ledger.
pub fn start_ledger(it: &Installation) -> Service {
    it.start("ledger", &["ledger", "serve"])
}

/// Starts the adapter of these tables.
pub fn start_adapter(it: &Installation, tables: &AdapterTables) -> Service {
    start_feed(it, tables, "adapter")
}

fn start_feed(it: &Installation, tables: &AdapterTables, name: &str) -> Service {
    let path = it.dir().join(format!("{name}.yaml"));
    let text = format!(
        "consumer: {}\npurpose: {}\n",
        tables.consumer, tables.purpose
    );
    if let Err(error) = std::fs::write(&path, text) {
        panic!("{}: {error}", path.display());
    }
    it.start(name, &["adapter", &path.display().to_string()])
}
