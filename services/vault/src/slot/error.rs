//! Why a slot's owner stops.

use mz_bus::{BusError, TxError};
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
    /// Another owner took the slot: nothing of this one may be written any more.
    pub fn is_fenced(&self) -> bool {
        matches!(
            self,
            Self::Transaction(TxError::Fenced { .. }) | Self::Store(StoreError::Superseded { .. })
        )
    }

    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bus(error) => error.code(),
            Self::Transaction(error) => error.code(),
            Self::Store(StoreError::Superseded { .. }) => "VAULT_SUPERSEDED",
            Self::Store(_) => "VAULT_STORE",
            Self::Grants(_) => "VAULT_GRANTS_FULL",
            Self::Journal { .. } => "JOURNAL_MALFORMED",
        }
    }
}
