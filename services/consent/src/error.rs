//! What can stop the service, with codes that `schemas/reasons.yaml` explains.

use mz_bus::{BusError, TxError};
use mz_journal::Malformed;

use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum ConsentError {
    #[error("another instance has taken over")]
    Superseded,
    #[error("store")]
    Store(#[source] StoreError),
    #[error("bus")]
    Bus(#[from] BusError),
    #[error("transaction")]
    Tx(#[source] TxError),
    #[error("{topic} {lane}@{offset} can't be read")]
    Journal {
        topic: &'static str,
        lane: u16,
        offset: i64,
        source: Malformed,
    },
    #[error("bus.audit {lane}: records below {low} were deleted that this service has not read")]
    AuditGap { lane: u16, low: i64 },
    #[error("the contract version in force can't be loaded")]
    Contract,
    #[error("threads could not be started")]
    Threads(#[source] std::io::Error),
}

impl ConsentError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Superseded => "CONSENT_SUPERSEDED",
            Self::Store(_) => "CONSENT_STORE",
            Self::Bus(error) => error.code(),
            Self::Tx(_) => "CONSENT_TRANSACTION",
            Self::Journal { .. } => "CONSENT_RECORD_MALFORMED",
            Self::AuditGap { .. } => "CONSENT_AUDIT_GAP",
            Self::Contract => "CONSENT_CONTRACT_UNLOADABLE",
            Self::Threads(_) => "CONSENT_THREAD",
        }
    }

    /// Another process owns what this one was told to own.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Superseded)
    }

    /// Trying again can't help.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Superseded
            | Self::Journal { .. }
            | Self::AuditGap { .. }
            | Self::Contract
            | Self::Threads(_) => true,
            Self::Bus(error) => !error.is_transient(),
            Self::Tx(_) | Self::Store(_) => false,
        }
    }
}

impl From<StoreError> for ConsentError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Superseded => Self::Superseded,
            other => Self::Store(other),
        }
    }
}

impl From<TxError> for ConsentError {
    fn from(error: TxError) -> Self {
        match error {
            TxError::Fenced { .. } => Self::Superseded,
            other => Self::Tx(other),
        }
    }
}
