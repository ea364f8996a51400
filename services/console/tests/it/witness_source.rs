//! The logs of the witness scenarios, over the network: a console with its certificate, read by a department
//! with its own.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use mz_console::{HttpSource, Options, Running};
use mz_ledger::witness::Source;
use mz_vault::testing::TestBus;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A console that hands out the logs of a folder.
pub fn console(bus: &TestBus, logs: &Path) -> Running {
    let options = Options {
        listen: SocketAddr::from(LOOPBACK),
        tls: bus.tls("bus.console"),
        contract: Arc::clone(&bus.contract),
        ledger: logs.to_owned(),
    };
    mz_console::start(options).unwrap()
}

pub fn of(bus: &TestBus, logs: &Path) -> Box<dyn Source> {
    let running = console(bus, logs);
    let base = format!("https://localhost:{}", running.address().port());
    let source = HttpSource::new(&base, &bus.tls("police.adapter")).unwrap();
    Box::new(Served { source, running })
}

/// A source, and the console that it asks.
struct Served {
    source: HttpSource,
    running: Running,
}

impl Source for Served {
    fn logs(&self) -> io::Result<Vec<String>> {
        assert_ne!(self.running.address().port(), 0);
        self.source.logs()
    }

    fn read(&self, log: &str, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.source.read(log, path)
    }
}
