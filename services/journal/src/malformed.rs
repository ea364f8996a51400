//! Why a record could not be read. Names the field, never its value.

use mz_seal::avro::AvroFault;

/// A record that does not follow its schema or passes a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{field}: not a valid Avro value")]
    Avro {
        field: &'static str,
        #[source]
        source: AvroFault,
    },
    #[error("{field}: outside its range")]
    Range { field: &'static str },
    #[error("{field}: longer than {limit}")]
    TooLong { field: &'static str, limit: usize },
    #[error("{count} bytes after the record")]
    Trailing { count: usize },
    #[error("the value has no schema frame")]
    Frame,
    #[error("record version {found}, this program reads version 1")]
    Version { found: i64 },
}

impl Malformed {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub const fn code(&self) -> &'static str {
        "JOURNAL_MALFORMED"
    }
}
