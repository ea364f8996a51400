//! What ends a connector, and how. No value of a row, no identity number is ever in an error.

use crate::source::SourceError;
use mz_bus::{BusError, TxError};
use mz_keys::KeyError;
use mz_seal::SealError;
use std::path::PathBuf;

/// Why a connector stopped.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The stream is no stream of these datasets, or the department has no such dataset.
    #[error("the contract does not let {department}/{stream} publish {dataset}")]
    NotInContract {
        department: String,
        stream: String,
        dataset: String,
    },
    /// Schema ids are missing: the contract is a draft.
    #[error("dataset {dataset} has no schema id")]
    NoSchemaId { dataset: String },
    /// Events of this stream exist, its checkpoint does not. Going on would number them twice.
    #[error("the checkpoint of {stream} is gone; its last epoch was {epoch}")]
    CheckpointLost { stream: String, epoch: u32 },
    /// A record of the checkpoint topic can't be read.
    #[error("the checkpoint of {stream} can't be read at offset {offset}")]
    CheckpointMalformed { stream: String, offset: i64 },
    /// A newer instance took over: nothing of this one commits any more.
    #[error("another instance of {stream} has taken over")]
    Fenced { stream: String },
    #[error("a transaction of {stream} failed {tries} times")]
    GaveUp {
        stream: String,
        tries: u32,
        #[source]
        source: TxError,
    },
    #[error("the source's position is longer than the limit")]
    PositionTooLong,
    #[error("encryption or random numbers failed")]
    Crypto,
    #[error("{path}: the rejects file can't be written")]
    RejectsFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("sealing failed")]
    Seal(#[from] SealError),
}

impl ConnectorError {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotInContract { .. } => "CONNECTOR_NOT_IN_CONTRACT",
            Self::NoSchemaId { .. } => "CONNECTOR_NO_SCHEMA_ID",
            Self::CheckpointLost { .. } => "CHECKPOINT_LOST",
            Self::CheckpointMalformed { .. } => "CHECKPOINT_MALFORMED",
            Self::Fenced { .. } => "BUS_FENCED",
            Self::GaveUp { .. } => "BUS_TRANSACTION",
            Self::PositionTooLong => "SOURCE_POSITION",
            Self::Crypto => "CONNECTOR_CRYPTO",
            Self::RejectsFile { .. } => "REJECTS_FILE",
            Self::Source(error) => error.code,
            Self::Bus(error) => error.code(),
            Self::Keys(_) => "CONNECTOR_KEYS",
            Self::Seal(_) => "CONNECTOR_SEAL",
        }
    }
}

/// How a step inside the connector ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The transaction is gone: read the checkpoint again and start the pass again.
    Restart(TxError),
    Failed(ConnectorError),
}

impl<E: Into<ConnectorError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
