//! The vault's PostgreSQL schema: the only place in the vault that speaks SQL.
//!
//! One slot holds one [`LaneStore`]: one connection plus the fencing tokens of its lanes. Every
//! writing transaction shows those tokens first.

mod facts;
mod fence;
mod migrate;

pub use facts::{Fact, FactRow, Wanted};
pub use fence::LaneStore;
pub use migrate::{Database, SCHEMA};

use crate::cipher::CipherError;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database URL is not a PostgreSQL URL")]
    Url,
    #[error("the schema name must be a plain lower-case identifier of at most 63 bytes")]
    SchemaName,
    /// Another owner took the lane: nothing was written, nothing may be.
    #[error("lane {lane} belongs to a later owner")]
    Superseded { lane: u16 },
    #[error("more facts than one read may hold")]
    TooMany,
    /// Rows that this program can't have written.
    #[error("stored row is damaged: {0}")]
    Damaged(&'static str),
    #[error("stored fact can't be opened")]
    Cipher(#[from] CipherError),
    #[error("database")]
    Database(#[from] sqlx::Error),
    #[error("database migration")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}
