//! What a connector is started with.

use mz_bus::BusOptions;
use mz_contract::Contract;
use mz_keys::{PlacementKey, RecordKey};
use mz_seal::Signer;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One stream of one department, its keys and its rules.
pub struct Options {
    pub bus: BusOptions,
    pub contract: Arc<Contract>,
    pub department: String,
    /// The stream; it owns the records it publishes.
    pub stream: String,
    /// Datasets it publishes, by id.
    pub datasets: Vec<String>,
    pub signer: Box<dyn Signer>,
    pub placement: PlacementKey,
    pub record: RecordKey,
    /// A record that is not in a snapshot any more is published as withdrawn.
    pub withdraw_disappeared: bool,
    /// Percent of the known records that one snapshot may withdraw.
    pub withdraw_limit_percent: u8,
    /// Where rejected rows go, with their values (0600). `None`: they are only counted.
    pub rejects: Option<PathBuf>,
    /// Start a new epoch: every record is published again, numbered from 1.
    pub new_epoch: bool,
}

/// How long a connector runs.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// One pass, then end. Otherwise until told to stop.
    pub once: bool,
    /// Time between two passes.
    pub poll: Duration,
    /// Time before a register that could not be read is tried again.
    pub retry: Duration,
}
