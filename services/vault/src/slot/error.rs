//! Why a slot's owner stops.

use mz_bus::{BusError, TxError, Unfit};
use mz_journal::Malformed;
use mz_policy::GrantsFull;

use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    #[error("bus")]
    Bus(#[from] BusError),
    #[error("transaction")]
    Transaction(#[from] TxError),
    #[error("store")]
    Store(#[from] StoreError),
    /// Lanes are partitions, and their number is part of the contract: another count would put
    /// people into other lanes.
    #[error("topic {topic} has {found} partitions, the contract says {expected}")]
    Partitions {
        topic: String,
        expected: u16,
        found: usize,
    },
    /// A version is in force that this slot can't decide under: it decides nothing.
    #[error("contract version {version} is in force and can't be used")]
    Contract { version: u64, source: Unfit },
    #[error("grants")]
    Grants(#[from] GrantsFull),
    /// A record that only the bus's own services write can't be read: never guess.
    #[error("{topic} [{lane}] at {offset}: unreadable record")]
    Journal {
        topic: &'static str,
        lane: u16,
        offset: i64,
        source: Malformed,
    },
}

impl SlotError {
    /// Somebody took the slot's transactional id: another owner, or consent, which shuts out.
    pub fn is_shut_out(&self) -> bool {
        matches!(self, Self::Transaction(TxError::Fenced { .. }))
    }

    /// Another owner took the slot: nothing of this one may be written any more.
    pub fn is_fenced(&self) -> bool {
        matches!(
            self,
            Self::Transaction(TxError::Fenced { .. }) | Self::Store(StoreError::Superseded { .. })
        )
    }

    /// Trying again helps nobody before somebody has mended something.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::Grants(_)
                | Self::Journal { .. }
                | Self::Partitions { .. }
                | Self::Contract { .. }
                | Self::Store(StoreError::MasterKey { .. })
        )
    }

    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bus(error) => error.code(),
            Self::Transaction(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Contract { .. } => "VAULT_CONTRACT_UNFIT",
            Self::Partitions { .. } => "PARTITION_COUNT",
            Self::Grants(_) => "VAULT_GRANTS_FULL",
            Self::Journal { .. } => "JOURNAL_MALFORMED",
        }
    }
}
