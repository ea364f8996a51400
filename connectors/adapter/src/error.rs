//! Why an adapter ends. A refused delivery is not among them: it goes to `mz_rejects`.

use std::path::PathBuf;

use mz_bus::BusError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {detail}", file.display())]
    Config { file: PathBuf, detail: String },
    #[error("the contract has no agreement {0}")]
    NoAgreement(String),
    #[error("the agreement delivers no {0}")]
    NoSuchDelivery(String),
    #[error("{what} {name} is no plain lower-case SQL name of at most 63 bytes, or is taken")]
    Name { what: &'static str, name: String },
    #[error("{place}: {detail}")]
    DatabaseUrl { place: String, detail: String },
    #[error("column {table}.{column} is {found}, {wanted} is needed")]
    ColumnType {
        table: String,
        column: String,
        found: String,
        wanted: String,
    },
    /// Another adapter writes these tables now: this one may write no more.
    #[error("another adapter has taken over schema {schema}")]
    Superseded { schema: String },
    /// Records were dropped before they were read.
    #[error("{topic} [{lane}]: records at the stored position are gone from the topic")]
    PositionLost { topic: String, lane: i32 },
    /// The gateway delivers under a later contract than the one that this adapter was started with.
    #[error("deliveries are in a form of a later contract")]
    ContractOutdated,
    #[error("the database refuses")]
    Database(#[source] sqlx::Error),
    #[error("the adapter's tables can't be made or brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error("the database did not answer in time")]
    DatabaseTimeout,
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("the adapter can't start its runtime")]
    Runtime(#[source] std::io::Error),
}

impl Error {
    /// A key of `schemas/reasons.yaml`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "ADAPTER_CONFIG",
            Self::NoAgreement(_) | Self::NoSuchDelivery(_) => "ADAPTER_NOT_AGREED",
            Self::Name { .. } => "ADAPTER_NAME",
            Self::DatabaseUrl { .. } => "ADAPTER_DATABASE_URL",
            Self::ColumnType { .. } => "ADAPTER_COLUMN_TYPE",
            Self::Superseded { .. } => "ADAPTER_SUPERSEDED",
            Self::PositionLost { .. } => "ADAPTER_POSITION_LOST",
            Self::ContractOutdated => "ADAPTER_CONTRACT_OUTDATED",
            Self::Database(_) | Self::Migrate(_) | Self::DatabaseTimeout => "ADAPTER_DATABASE",
            Self::Bus(error) => error.code(),
            Self::Runtime(_) => "ADAPTER_RUNTIME",
        }
    }

    /// Whether somebody must change configuration, contract or tables first.
    pub fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Config { .. }
                | Self::NoAgreement(_)
                | Self::NoSuchDelivery(_)
                | Self::Name { .. }
                | Self::DatabaseUrl { .. }
                | Self::ColumnType { .. }
        )
    }

    /// Whether it goes on once it has the contract that is in force.
    pub fn is_outdated(&self) -> bool {
        matches!(self, Self::ContractOutdated)
    }

    /// Whether another adapter took over.
    pub fn is_superseded(&self) -> bool {
        matches!(self, Self::Superseded { .. })
    }

    /// The database may answer again without anyone changing anything.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::DatabaseTimeout => true,
            Self::Database(error) => passing(error),
            _ => false,
        }
    }
}

fn passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        // SQLSTATE classes: 08 connection, 40 rollback (deadlock), 53 resources, 57P shutdown and
        // start-up, 58 system, 25006 read-only (a failover), 55P03 lock timeout.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "40", "53", "57P", "58"]
                .iter()
                .any(|class| code.starts_with(class))
                || matches!(&*code, "25006" | "55P03" | "57014")
        }),
        _ => false,
    }
}

/// Whether the database refuses a value (SQLSTATE classes 22 and 23), not the connection.
pub(crate) fn refuses_value(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
