//! The services of one installation, running: two gateways, a vault, a console, an adapter.

use crate::adapter::AdapterTables;
use crate::city::{self, City};
use crate::install::Installation;
use crate::service::{Exit, Service};
use crate::settle::settled;
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
    pub console: Service,
    pub adapter: Service,
}

impl World {
    /// Makes everything and starts all services; nothing is published yet.
    pub fn start(name: &str, persons: u64, seed: u64, marks: bool, gateways: usize) -> Self {
        let it = Installation::new(name);
        let city = City::write(&it, persons, seed, marks);
        let contract = it.contract();
        let tables = AdapterTables::new("police", "talent-settlement");
        let gateways = (0..gateways).map(|n| start_gateway(&it, n)).collect();
        let vault = it.start("vault", &["vault"]);
        let console = it.start("console", &["console"]);
        let adapter = start_adapter(&it, &tables);
        let mut world = Self {
            it,
            contract,
            city,
            tables,
            gateways,
            vault,
            console,
            adapter,
        };
        for service in ["vault", "console"] {
            let address = world.it.address(service);
            wait::value(&format!("{service} to listen"), START_LIMIT, || {
                world.alive();
                std::net::TcpStream::connect(&address).ok()
            });
        }
        world
    }

    /// Panics with the words of a service that has ended.
    #[track_caller]
    pub fn alive(&mut self) {
        let others = [&mut self.vault, &mut self.console, &mut self.adapter];
        for service in self.gateways.iter_mut().chain(others) {
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

    /// Waits until everything that is published is where it belongs.
    #[track_caller]
    pub fn settle(&mut self) {
        settled(&self.it, &self.contract, Some(&self.tables), SETTLE_LIMIT);
        self.alive();
    }

    /// An evidence bundle as the counter asks for it: the file and its contents.
    #[track_caller]
    pub fn bundle(&self, id: &str, name: &str) -> (PathBuf, Value) {
        let path = self.it.dir().join(format!("{name}.json"));
        self.it.run_with(
            &[
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
                "人才入户",
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
        let others = [&mut self.vault, &mut self.console, &mut self.adapter];
        for service in self.gateways.iter_mut().chain(others) {
            if service.ended().is_none() {
                service.terminate();
            }
        }
        let others = [&mut self.vault, &mut self.console, &mut self.adapter];
        for service in self.gateways.iter_mut().chain(others) {
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

/// Starts the adapter of these tables.
pub fn start_adapter(it: &Installation, tables: &AdapterTables) -> Service {
    let path = it.dir().join("adapter.yaml");
    let text = format!(
        "consumer: {}\npurpose: {}\n",
        tables.consumer, tables.purpose
    );
    if let Err(error) = std::fs::write(&path, text) {
        panic!("{}: {error}", path.display());
    }
    it.start("adapter", &["adapter", &path.display().to_string()])
}
