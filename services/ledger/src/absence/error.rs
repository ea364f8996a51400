//! Why a range is not closed, or not what it says.

use mz_bus::BusError;
use mz_tlog::note::NoteError;

use crate::error::LedgerError;
use crate::log::LogFault;

/// Why what was read in a range can't be made of a log. Places are entries, never people.
#[derive(Debug, thiserror::Error)]
pub enum AbsenceFault {
    #[error("the log")]
    Log(#[from] LogFault),
    #[error("entry {0} is not written as it must be")]
    Entry(u64),
    #[error("entry {0} names another key for the labels of people than one before it")]
    TwoKeys(u64),
    #[error("entry {0} gives a person another label than one before it")]
    TwoLabels(u64),
    #[error("entry {0} labels a person under a key that was not logged")]
    UnknownKey(u64),
    #[error("entry {0} is in a lane that is not this shard's")]
    Lane(u64),
    #[error("the log ends before entry {0}")]
    Ends(u64),
    #[error("no two leaves stand there")]
    Leaves,
    #[error("range {0}")]
    Statement(u64),
    #[error("{0} is not the log that the one after it names")]
    Earlier(String),
}

impl AbsenceFault {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Log(fault) => fault.code(),
            Self::Entry(_) => "LEDGER_ENTRY_MALFORMED",
            Self::TwoKeys(_) => "LEDGER_LABEL_KEYS",
            Self::TwoLabels(_) => "LEDGER_LABEL_CONTRADICTS",
            Self::UnknownKey(_) => "LEDGER_LABEL_KEY_UNKNOWN",
            Self::Lane(_) => "AUDIT_LANE_FOREIGN",
            Self::Ends(_) => "LEDGER_TILE_MISSING",
            Self::Leaves => "LEDGER_RANGE_DIFFERS",
            Self::Statement(_) => "LEDGER_RANGE_MALFORMED",
            Self::Earlier(_) => "LEDGER_PREFIX_DIFFERS",
        }
    }
}

/// Why a shard's ranges were not closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    #[error("{origin}")]
    Log {
        origin: String,
        source: AbsenceFault,
    },
    #[error("the bus")]
    Bus(#[from] BusError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the log has not taken what the bus holds within {0} s")]
    Behind(u64),
    #[error("{count} people in {origin} have no label yet")]
    Unbound { origin: String, count: u64 },
    #[error("another process closes ranges of {0}")]
    Locked(String),
    #[error("the statement was not signed")]
    Note(#[from] NoteError),
    #[error("the folder")]
    Folder(#[from] std::io::Error),
}

impl CloseError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Log { source, .. } => source.code(),
            Self::Bus(error) => error.code(),
            Self::Ledger(error) => error.code(),
            Self::Behind(_) => "LEDGER_RANGE_BEHIND",
            Self::Unbound { .. } => "LEDGER_RANGE_UNBOUND",
            Self::Locked(_) => "LEDGER_LOCKED",
            Self::Note(_) => "LEDGER_SIGN",
            Self::Folder(_) => "LEDGER_DISK",
        }
    }
}
