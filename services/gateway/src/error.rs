//! Why a gateway stops. What it can wait out (a broker that is away, an aborted transaction) never
//! comes here; nothing here skips an event.

use mz_bus::{BusError, TxError, Unfit};
use mz_journal::Malformed;
use mz_policy::GrantsFull;

/// A gateway, or one of its slots, can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process owns the slot: nothing of this one commits any more.
    #[error("slot {slot} was taken over by another owner")]
    Fenced { slot: u32 },
    /// The installation's lane count is part of the contract; a topic that differs would mix lanes.
    #[error("topic {topic} has {found} partitions, the contract says {expected}")]
    PartitionCount {
        topic: String,
        expected: u16,
        found: usize,
    },
    #[error("slot {slot} does not exist: there are {slots}")]
    SlotUnknown { slot: u32, slots: u32 },
    /// The contract has no seal key of the bus, or another than the one on disk.
    #[error("the contract is not ready for a gateway: {0}")]
    Contract(&'static str),
    /// The contract in force can't be loaded, or isn't one that this gateway may decide under. Going on
    /// under the one before would deliver against the rules in force.
    #[error("version {version} of the contract is in force and can't be decided under")]
    ContractUnfit {
        version: u64,
        #[source]
        why: Unfit,
    },
    #[error("the grants do not fit")]
    GrantsFull(#[from] GrantsFull),
    /// A record that only gateways write can't be read: never guess a position.
    #[error("{topic} [{lane}]: the record at offset {offset} can't be read")]
    StateMalformed {
        topic: &'static str,
        lane: u16,
        offset: i64,
        #[source]
        source: Malformed,
    },
    #[error("the seal of the bus can't be made")]
    Seal(#[source] mz_seal::SealError),
    #[error("the system's random source failed")]
    NoRandom,
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Transaction(TxError),
    #[error("the thread of slot {slot} could not be started")]
    Thread {
        slot: u32,
        #[source]
        source: std::io::Error,
    },
    #[error("the thread of slot {slot} panicked")]
    Panicked { slot: u32 },
}

impl Error {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fenced { .. } => "SLOT_FENCED",
            Self::PartitionCount { .. } => "PARTITION_COUNT",
            Self::SlotUnknown { .. } => "SLOT_UNKNOWN",
            Self::Contract(_) => "CONTRACT_NOT_READY",
            Self::ContractUnfit { .. } => "CONTRACT_UNFIT",
            Self::GrantsFull(_) => "GRANTS_FULL",
            Self::StateMalformed { .. } => "STATE_MALFORMED",
            Self::Seal(_) | Self::NoRandom => "BUS_SEAL_FAILED",
            Self::Bus(error) => error.code(),
            Self::Transaction(error) => error.code(),
            Self::Thread { .. } | Self::Panicked { .. } => "GATEWAY_THREAD",
        }
    }

    /// Codes of this crate, for the test that holds them against `reasons.yaml`.
    pub const CODES: [&'static str; 9] = [
        "SLOT_FENCED",
        "PARTITION_COUNT",
        "SLOT_UNKNOWN",
        "CONTRACT_NOT_READY",
        "CONTRACT_UNFIT",
        "GRANTS_FULL",
        "STATE_MALFORMED",
        "BUS_SEAL_FAILED",
        "GATEWAY_THREAD",
    ];
}
