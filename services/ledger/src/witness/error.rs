//! Why a witness does not cosign, with codes that `schemas/reasons.yaml` explains.

use std::path::PathBuf;

use mz_bus::BusError;

use crate::log::LogFault;

/// Proof against a log, found under its own signature. It stands until an operator resolves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of [`REFUSALS`].
    pub code: &'static str,
    pub origin: String,
    /// What it is about: sizes, an audit id, a topic. Never what a delivery says.
    pub what: String,
    /// The file with both signed checkpoints.
    pub evidence: PathBuf,
}

/// Codes of what is kept as evidence.
pub const REFUSALS: [&str; 8] = [
    "WITNESS_LOG_SHRANK",
    "WITNESS_LOG_FORKED",
    "WITNESS_DELIVERY_OMITTED",
    "WITNESS_DELIVERY_DIFFERS",
    "WITNESS_DELIVERY_UNNAMED",
    "WITNESS_CHAIN_BROKEN",
    "WITNESS_ENTRY_MALFORMED",
    "WITNESS_RANGE_DIFFERS",
];

/// Every code of witness and quorum that is not another part's.
pub const CODES: [&str; 19] = [
    "WITNESS_LOG_SHRANK",
    "WITNESS_LOG_FORKED",
    "WITNESS_DELIVERY_OMITTED",
    "WITNESS_DELIVERY_DIFFERS",
    "WITNESS_DELIVERY_UNNAMED",
    "WITNESS_CHAIN_BROKEN",
    "WITNESS_ENTRY_MALFORMED",
    "WITNESS_ENTRY_ALTERED",
    "WITNESS_LOG_UNREADABLE",
    "WITNESS_LOG_BEFORE_UNKNOWN",
    "WITNESS_CHECKPOINT_MALFORMED",
    "WITNESS_KEY_UNKNOWN",
    "WITNESS_STATE",
    "WITNESS_SIGN",
    "WITNESS_COSIGNATURE_MALFORMED",
    "WITNESS_ORIGIN_FOREIGN",
    "WITNESS_STATEMENT_DIFFERS",
    "WITNESS_RANGE_DIFFERS",
    "WITNESS_RANGE_MALFORMED",
];

#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    #[error("{}: {} ({}), evidence in {}", .0.origin, .0.code, .0.what, .0.evidence.display())]
    Refused(Box<Refusal>),
    #[error("{log} can't be read")]
    Unreadable { log: String, source: LogFault },
    #[error("{log}: no checkpoint of this log that can be read")]
    Checkpoint { log: String },
    #[error("{origin}: none of the ledger's published keys signed the checkpoint")]
    Key { origin: String },
    #[error("{origin}: the entries are not those that were signed")]
    Altered { origin: String },
    #[error("{origin}: the log before it was not seen to its end")]
    BeforeUnknown { origin: String },
    #[error("{log}: what is said about range {number} can't be read")]
    Range { log: String, number: u64 },
    #[error("{path}: {reason}")]
    State { path: PathBuf, reason: String },
    #[error("the department has no witness key that its contract publishes")]
    OwnKey(#[source] Option<mz_keys::KeyError>),
    #[error("bus")]
    Bus(#[from] BusError),
    #[error("a cosignature could not be made: {0}")]
    Sign(String),
}

impl WitnessError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code,
            Self::Unreadable { .. } => "WITNESS_LOG_UNREADABLE",
            Self::Checkpoint { .. } => "WITNESS_CHECKPOINT_MALFORMED",
            Self::Key { .. } | Self::OwnKey(_) => "WITNESS_KEY_UNKNOWN",
            Self::Altered { .. } => "WITNESS_ENTRY_ALTERED",
            Self::BeforeUnknown { .. } => "WITNESS_LOG_BEFORE_UNKNOWN",
            Self::Range { .. } => "WITNESS_RANGE_MALFORMED",
            Self::State { .. } => "WITNESS_STATE",
            Self::Bus(error) => error.code(),
            Self::Sign(_) => "WITNESS_SIGN",
        }
    }

    /// Logs of which files came that can't be right, when `log` was looked at: nothing of them may be kept.
    pub(super) fn bad_copies<'e>(&'e self, log: &'e str) -> impl Iterator<Item = &'e str> {
        let other = match self {
            Self::Altered { origin } => origin.split_once("/audit/").map(|(_, name)| name),
            _ => None,
        };
        let own = match self {
            Self::Altered { .. } => true,
            Self::Unreadable { source, .. } => source.is_content(),
            _ => false,
        };
        own.then_some(log).into_iter().chain(other)
    }

    /// The log itself is at fault and is not cosigned before an operator resolves it.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}
