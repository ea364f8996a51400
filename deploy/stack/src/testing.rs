//! The one stack that all tests of the workspace share. Each test takes its own topic prefix and
//! its own database, so that they don't meet.
//!
//! `MIANZHENG_TEST_STACK=<dir>` names the stack; without it, it lives in `target/test-stack`, is
//! started by whoever comes first and kept running for the next `cargo test`
//! (`mianzheng stack down --dir target/test-stack` ends it).

mod python;

pub use python::python;

use crate::{Quiet, Stack, StackError, StackInfo, StackOptions, postgres};
use mz_keys::KeysDir;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A shared stack that has collected more partitions than this is wiped by the next test process
/// that finds itself alone: start-up and memory of the broker grow with them.
const MAX_PARTITIONS: usize = 3000;

/// What a client of the broker needs, in plain parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusParts {
    /// `127.0.0.1:port`.
    pub bootstrap: String,
    /// PEM files of one principal.
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// The running stack.
#[derive(Debug)]
pub struct TestStack {
    stack: Stack,
    info: StackInfo,
    /// Shared lock, held while this process lives: others see that the stack is in use.
    user: File,
}

/// The stack; started if need be. Panics, with the reason, when it can't be.
pub fn shared() -> &'static TestStack {
    static SHARED: OnceLock<TestStack> = OnceLock::new();
    SHARED.get_or_init(|| match TestStack::open() {
        Ok(stack) => stack,
        Err(error) => panic!("the test stack is not available: {}", chain(&error)),
    })
}

/// A prefix for topics, groups and transactional ids that no other test uses.
pub fn prefix() -> String {
    format!("t{}.", unique())
}

impl TestStack {
    fn open() -> Result<Self, StackError> {
        let dir = match std::env::var_os("MIANZHENG_TEST_STACK") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ => target_dir().join("test-stack"),
        };
        std::fs::create_dir_all(&dir).map_err(StackError::io("cannot create", &dir))?;
        let stack = Stack::new(StackOptions {
            // A test run that dies with the machine is run again.
            fsync: false,
            ..StackOptions::new(&dir)
        });
        let gate_path = dir.join("gate.lock");
        let users_path = dir.join("users.lock");
        // One at a time through the gate: it decides whether anybody uses the stack.
        let gate = open_lock(&gate_path)?;
        gate.lock()
            .map_err(StackError::io("cannot lock", &gate_path))?;
        let users = open_lock(&users_path)?;
        if users.try_lock().is_ok() && partitions(&dir) > MAX_PARTITIONS {
            stack.reset(&Quiet)?;
        }
        let info = stack.up(&Quiet)?;
        // From exclusive (if we were alone) to shared; nobody else is past the gate.
        let _ = users.unlock();
        users
            .lock_shared()
            .map_err(StackError::io("cannot lock", &users_path))?;
        Ok(Self {
            stack,
            info,
            user: users,
        })
    }

    /// Addresses, paths and processes of the stack.
    pub fn info(&self) -> &StackInfo {
        &self.info
    }

    /// Kafka's address.
    pub fn bootstrap(&self) -> &str {
        &self.info.bootstrap
    }

    /// Keys of all principals.
    pub fn keys(&self) -> KeysDir {
        KeysDir::new(&self.info.keys)
    }

    /// What a client needs to call as this principal. `bus.admin` is a super user; all others have
    /// the ACLs that a test gives them.
    pub fn bus(&self, principal: &str) -> BusParts {
        let keys = self.keys();
        BusParts {
            bootstrap: self.info.bootstrap.clone(),
            ca: keys.ca_cert(),
            cert: keys.tls_cert(principal),
            key: keys.tls_key(principal),
        }
    }

    /// Kills PostgreSQL and brings it back at the same address, with everything that was committed.
    /// Panics when another process uses the stack, which it would take down with us.
    pub fn crash_database(&self) {
        self.alone(|stack| stack.crash_database(&Quiet).map(drop));
    }

    /// Freezes PostgreSQL. Panics when another process uses the stack.
    pub fn freeze_database(&self) {
        self.alone(|stack| stack.freeze_database(true));
    }

    /// PostgreSQL goes on.
    pub fn thaw_database(&self) {
        self.alone(|stack| stack.freeze_database(false));
    }

    fn alone(&self, work: impl FnOnce(&Stack) -> Result<(), StackError>) {
        // Our own shared lock becomes an exclusive one, unless somebody else holds one.
        if self.user.try_lock().is_err() {
            panic!("another process uses the test stack: its database can't be touched now");
        }
        let done = work(&self.stack);
        if let Err(error) = self.user.lock_shared() {
            panic!("the test stack's lock is lost: {error}");
        }
        if let Err(error) = done {
            panic!("the test stack's database: {}", chain(&error));
        }
    }

    /// URL of a fresh, empty database. Panics when the database refuses.
    pub fn database(&self) -> String {
        let name = format!("t{}", unique());
        if let Err(error) = postgres::create_database(&self.info.pg_url, &name) {
            panic!("no test database: {}", chain(&error));
        }
        let (server, rest) = match self.info.pg_url.rsplit_once('/') {
            Some(parts) => parts,
            None => panic!("not a database URL"),
        };
        let options = rest.split_once('?').map_or("", |(_, options)| options);
        format!("{server}/{name}?{options}")
    }
}

/// Unique among test processes and runs: time, process, count.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{millis:x}p{:x}n{count:x}", std::process::id())
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    )
}

fn partitions(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("kafka/data")).map_or(0, Iterator::count)
}

fn open_lock(path: &Path) -> Result<File, StackError> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(StackError::io("cannot open", path))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
