//! The PostgreSQL schema `consent`: the only place in the service that speaks SQL.
//!
//! Whatever changes something does it in a [`Step`]: one transaction that holds the owner's row. So
//! changes follow one another, the outbox's ids rise in commit order, and a former owner that wakes up
//! late can commit nothing.

mod erasures;
mod follow;
mod grants;
mod orders;
mod outbox;
mod requests;
mod versions;

pub use erasures::Erasure;
pub use follow::Delivered;
pub use grants::{GrantRow, HistoryRow};
pub use orders::{DueRow, OrderRow, OrderTarget, Scope};
pub use outbox::{OutboxRow, Outgoing};
pub use requests::Repeat;
pub use versions::VersionRow;

use mz_database::DatabaseError;
use mz_journal::TAG_BYTES;
use rustc_hash::FxHashMap;
use sqlx::migrate::Migrator;
use sqlx::{PgPool, Postgres, Transaction};

use crate::limits::MAX_CONNECTIONS;

static MIGRATIONS: Migrator = sqlx::migrate!();
/// Under which migrations of this schema wait for one another.
const LOCK: [u8; 8] = *b"mzconsnt";

/// The schema of an ordinary installation.
pub const SCHEMA: &str = "consent";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("a later instance owns the service")]
    Superseded,
    /// Rows that this program can't have written.
    #[error("stored row is damaged: {0}")]
    Damaged(&'static str),
    #[error(transparent)]
    Schema(#[from] DatabaseError),
    #[error("database")]
    Database(#[from] sqlx::Error),
}

/// Where the schema is.
#[derive(Clone, Debug)]
pub struct Database(mz_database::Database);

impl Database {
    /// # Errors
    /// A URL that isn't one of PostgreSQL, or an unfit schema name.
    pub fn new(url: &str, schema: &str) -> Result<Self, StoreError> {
        let database = mz_database::Database::new(url, schema, "mianzheng-consent")?;
        Ok(Self(database))
    }

    /// Makes the schema and brings it up to date.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        Ok(self.0.migrate(&MIGRATIONS, LOCK).await?)
    }

    /// Whether the schema holds every migration of this program, and no other.
    pub async fn is_current(&self) -> Result<bool, StoreError> {
        Ok(self.0.is_current(&MIGRATIONS).await?)
    }

    /// (topic, lane) → next offset that the service will read, for whoever wants to delete records: it owns
    /// nothing by asking.
    pub async fn positions(&self) -> Result<FxHashMap<(String, u16), i64>, StoreError> {
        follow::positions(&self.0.pool(1)).await
    }
}

/// The service's tables, as their owner.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    token: i64,
}

impl Store {
    /// Becomes the owner: waits for the predecessor's running transaction and makes every later one
    /// of it fail. Call after `init_transactions`.
    pub async fn take_over(database: &Database, name: &str) -> Result<Self, StoreError> {
        let pool = database.0.pool(MAX_CONNECTIONS);
        let token = sqlx::query_scalar(
            "INSERT INTO owner (token, name) VALUES (1, $1)
             ON CONFLICT (one) DO UPDATE SET token = owner.token + 1, name = $1, since = now()
             RETURNING token",
        )
        .bind(name)
        .fetch_one(&pool)
        .await?;
        Ok(Self { pool, token })
    }

    /// Begins a change. Others wait for its end.
    pub async fn step(&self) -> Result<Step, StoreError> {
        let mut tx = self.pool.begin().await?;
        let token: i64 = sqlx::query_scalar("SELECT token FROM owner FOR UPDATE")
            .fetch_one(&mut *tx)
            .await?;
        if token == self.token {
            Ok(Step { tx })
        } else {
            Err(StoreError::Superseded)
        }
    }
}

/// One change, all or nothing.
pub struct Step {
    tx: Transaction<'static, Postgres>,
}

impl Step {
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.tx.commit().await?)
    }
}

fn tag(bytes: &[u8], what: &'static str) -> Result<[u8; TAG_BYTES], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Damaged(what))
}

fn lane_of(stored: i32) -> Result<u16, StoreError> {
    u16::try_from(stored).map_err(|_| StoreError::Damaged("lane"))
}

/// Counters are u64 in code and bigint here; 2^63 of anything won't come.
fn big(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(value: i64, what: &'static str) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Damaged(what))
}
