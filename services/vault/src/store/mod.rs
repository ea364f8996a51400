//! The vault's PostgreSQL schema: the only place in the vault that speaks SQL.
//!
//! One slot holds one [`LaneStore`]: one connection plus the fencing tokens of its lanes. Every
//! writing transaction shows those tokens first.

mod erase;
mod facts;
mod fence;
mod keyring;
mod labels;
mod master;
mod migrate;

pub use erase::Erasure;
pub use facts::{Fact, FactRow, Wanted};
pub use fence::LaneStore;
pub use labels::Labelled;
pub use master::{check_master, rewrap};
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
    #[error("cipher")]
    Cipher(#[from] CipherError),
    /// The keys of this database are wrapped by another master key.
    #[error("the stored keys are wrapped by master key {stored}, this process has {ours}")]
    MasterKey { stored: String, ours: String },
    #[error("database")]
    Database(#[from] sqlx::Error),
    #[error("database migration")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl StoreError {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Superseded { .. } => "VAULT_SUPERSEDED",
            Self::MasterKey { .. } => "VAULT_MASTER_KEY",
            _ => "VAULT_STORE",
        }
    }
}
