//! What can stop the ledger, with codes that `schemas/reasons.yaml` explains.

use std::path::PathBuf;

use mz_bus::{BusError, TxError};
use mz_journal::Malformed;

use crate::log::LogFault;

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("another instance writes this shard's log")]
    Superseded,
    #[error("{folder} is locked: another instance on this machine writes this log")]
    Locked { folder: PathBuf },
    #[error("{folder}")]
    Folder {
        folder: PathBuf,
        source: std::io::Error,
    },
    #[error("{origin}: what lies on disk is not what was committed")]
    Log { origin: String, source: LogFault },
    #[error(
        "{origin}: a checkpoint of {signed} entries was signed, but only {committed} are committed"
    )]
    BehindCheckpoint {
        origin: String,
        signed: u64,
        committed: u64,
    },
    #[error("{origin}: the checkpoint on disk can't be read")]
    Checkpoint { origin: String },
    #[error("{origin}: the committed log belongs to another bus or shard")]
    Foreign { origin: String },
    #[error("bus.audit was deleted and made anew: committed positions are not of this topic")]
    TopicReplaced,
    #[error("bus")]
    Bus(#[from] BusError),
    #[error("transaction")]
    Tx(#[source] TxError),
    #[error("bus.ledger {partition}@{offset} can't be read")]
    State {
        partition: u16,
        offset: i64,
        source: Malformed,
    },
    #[error("a checkpoint could not be signed")]
    Sign(#[source] mz_seal::SignError),
}

impl LedgerError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Superseded => "LEDGER_SUPERSEDED",
            Self::Locked { .. } => "LEDGER_LOCKED",
            Self::Folder { .. } => "LEDGER_DISK",
            Self::Log { source, .. } => source.code(),
            Self::BehindCheckpoint { .. } => "LEDGER_BEHIND_CHECKPOINT",
            Self::Checkpoint { .. } => "LEDGER_CHECKPOINT_MALFORMED",
            Self::Foreign { .. } => "LEDGER_FOREIGN",
            Self::TopicReplaced => "LEDGER_TOPIC_REPLACED",
            Self::Bus(error) => error.code(),
            Self::Tx(_) => "LEDGER_TRANSACTION",
            Self::State { .. } => "LEDGER_STATE_MALFORMED",
            Self::Sign(_) => "LEDGER_SIGN",
        }
    }

    /// Another process owns what this one was told to own.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Superseded | Self::Locked { .. })
    }

    /// Trying again can't help.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Bus(error) => !error.is_transient(),
            Self::Tx(_) => false,
            // After a failed sync nobody knows what lies on disk but who reads it again from the start.
            _ => true,
        }
    }
}

/// Every code of this crate that is not another crate's, for the test that holds them against
/// `reasons.yaml`.
#[cfg(test)]
const CODES: [&str; 29] = [
    "LEDGER_SUPERSEDED",
    "LEDGER_LOCKED",
    "LEDGER_DISK",
    "LEDGER_TILE_MISSING",
    "LEDGER_TILE_MALFORMED",
    "LEDGER_TILE_ALTERED",
    "LEDGER_ENTRY_ALTERED",
    "LEDGER_ENTRY_MALFORMED",
    "LEDGER_ENTRY_MISPLACED",
    "LEDGER_PREFIX_DIFFERS",
    "LEDGER_BEHIND_CHECKPOINT",
    "LEDGER_CHECKPOINT_MALFORMED",
    "LEDGER_FOREIGN",
    "LEDGER_TRANSACTION",
    "LEDGER_STATE_MALFORMED",
    "LEDGER_SIGN",
    "LEDGER_ENTRY_UNKNOWN",
    "LEDGER_PROOF_MALFORMED",
    "LEDGER_PROOF_WRONG",
    "LEDGER_KEY_UNKNOWN",
    "LEDGER_INDEX",
    "LEDGER_TOPIC_REPLACED",
    "LEDGER_COSIGNED_DIFFERS",
    "LEDGER_COSIGNATURE_WRONG",
    "LEDGER_TRIM_UNCOMMITTED",
    "LEDGER_TRIM_UNCOSIGNED",
    "LEDGER_TRIM_BEHIND",
    "LEDGER_TRIM_NOT_WHOLE",
    crate::batches::EQUIVOCATED,
];

#[test]
fn every_code_has_its_texts() {
    let reasons = mz_contract::Reasons::built_in();
    for code in CODES.into_iter().chain(crate::witness::CODES) {
        assert!(
            reasons.get(code).is_some(),
            "{code} is not in schemas/reasons.yaml"
        );
    }
}

impl From<TxError> for LedgerError {
    fn from(error: TxError) -> Self {
        match error {
            TxError::Fenced { .. } => Self::Superseded,
            other => Self::Tx(other),
        }
    }
}
