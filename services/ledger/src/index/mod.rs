//! The search index of the ledger, schema `ledger`: who read whose data, by person, department,
//! rule and time. It can be made again from the log at any time, and [`Index::check`] holds it
//! against the log.
//!
//! Times are milliseconds since 1970, days are UTC's, periods end before their end.

mod answers;
mod append;
mod check;
mod clean;
mod cursor;
mod department;
mod error;
mod gaps;
mod hidden;
mod hide_check;
mod hide_fit;
mod hide_rows;
mod hides;
mod hidings;
mod names;
mod over_reach;
mod person;
mod recount;
mod retention;
mod row;
mod sections;
mod terms;
mod usage;
mod words;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use mz_journal::Audit;
use sqlx::migrate::Migrator;
use sqlx::{PgPool, Postgres, Transaction};

pub use answers::{
    Above, Agreed, Days, DeniedBy, Entry, GroupBy, OffsetRange, OverReach, Page, PageRequest,
    Period, Promised, Rate, Unused, Usage, Used,
};
pub use append::Appended;
pub use check::{Fault, FaultKind, Found};
pub use error::IndexError;
pub use gaps::Stretch;
pub use hide_check::{HideFault, HideReport};
pub use hides::{Actor, Approvable, Hide, OpenHide};
pub use hidings::Hidings;
pub use recount::{Recount, SumFault};
pub use retention::Hold;

static MIGRATIONS: Migrator = sqlx::migrate!();
/// Under which migrations of this schema wait for one another.
const LOCK: [u8; 8] = *b"mzledger";
/// Advisory locks of this schema: partitions and holds, and one for each log.
const MONTHS_LOCK: (i32, i32) = (7_235_416, 1);
const LOG_LOCK: i32 = 7_235_417;

/// The schema of an ordinary installation.
pub const SCHEMA: &str = "ledger";
/// Connections of one process.
pub const MAX_CONNECTIONS: u32 = 8;
/// Most entries that one transaction takes.
pub const MAX_BATCH: usize = 65_536;
/// Items of a page when nobody says how many.
pub const DEFAULT_PAGE: usize = 100;
/// Most items of a page.
pub const MAX_PAGE: usize = 1_000;
/// Longest cursor that is read, bytes.
pub const MAX_CURSOR_BYTES: usize = 4_096;
/// Most agreed sections in one question about unused fields.
pub const MAX_AGREED: usize = 1_000;
/// Most days that one answer about over-reach lists for a section; all are counted.
pub const MAX_ABOVE_DAYS: usize = 31;
/// Most ranges between accounted offsets that are told of one lane, the widest.
pub const MAX_RANGES: usize = 1_000;
/// A use is hidden so many days at most; longer is a new request. The table says the same.
pub const MAX_HIDE_DAYS: u16 = 180;
/// The same in milliseconds.
const LONGEST_HIDE_MS: i64 = MAX_HIDE_DAYS as i64 * 86_400_000;
/// What the audit records of a hide's two acts say in `rule`.
pub const HIDE_REQUESTED: &str = "LEDGER_HIDE_REQUESTED";
pub const HIDE_APPROVED: &str = "LEDGER_HIDE_APPROVED";
/// A row's record is in the log when its lane has gone on for so long, milliseconds.
const HIDE_SETTLED_MS: i64 = crate::absence::SETTLED_MS;
/// The same of another lane of the shard: lanes are not read at one pace while a ledger catches up.
const HIDE_CAUGHT_UP_MS: i64 = 600_000;
/// Entries are kept at least this long.
pub const MIN_RETENTION_YEARS: u32 = 3;

/// A leaf of a log: an audit record, or something that has no row.
pub trait Leaf {
    fn audit(&self) -> Option<&Audit<'_>>;
}

impl Leaf for Audit<'_> {
    fn audit(&self) -> Option<&Audit<'_>> {
        Some(self)
    }
}

impl Leaf for Option<Audit<'_>> {
    fn audit(&self) -> Option<&Audit<'_>> {
        self.as_ref()
    }
}

/// The index. Cheap to share behind an `Arc`; every call takes a connection of its own.
pub struct Index {
    database: mz_database::Database,
    pool: PgPool,
    words: words::Words,
    logs: Mutex<HashMap<String, i32>>,
}

impl Index {
    /// Connects when it must; called inside a Tokio runtime. The login is the schema's owner, or a member of `ledger_writer`
    /// that can append and ask, no more.
    ///
    /// # Errors
    /// A URL that isn't one of PostgreSQL, or an unfit schema name.
    pub fn open(url: &str, schema: &str) -> Result<Self, IndexError> {
        let database = mz_database::Database::new(url, schema, "mianzheng-ledger")?;
        Ok(Self {
            pool: database.pool(MAX_CONNECTIONS),
            database,
            words: words::Words::default(),
            logs: Mutex::default(),
        })
    }

    /// Makes the schema and brings it up to date. The owner only.
    pub async fn migrate(&self) -> Result<(), IndexError> {
        Ok(self.database.migrate(&MIGRATIONS, LOCK).await?)
    }

    /// Whether the schema holds every migration of this program, and no other.
    pub async fn is_current(&self) -> Result<bool, IndexError> {
        Ok(self.database.is_current(&MIGRATIONS).await?)
    }

    /// A transaction that can insert and select, whoever the login is.
    async fn writing(&self) -> Result<Transaction<'static, Postgres>, IndexError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("SET LOCAL ROLE ledger_writer")
            .execute(&mut *tx)
            .await?;
        Ok(tx)
    }

    /// The number of a log that has one.
    async fn known_log(&self, origin: &str) -> Result<Option<i32>, IndexError> {
        let cached = self
            .logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(origin)
            .copied();
        if cached.is_some() {
            return Ok(cached);
        }
        let id: Option<i32> = sqlx::query_scalar("SELECT id FROM log WHERE origin = $1")
            .bind(origin)
            .fetch_optional(&self.pool)
            .await?;
        if let Some(id) = id {
            let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
            logs.insert(origin.to_owned(), id);
        }
        Ok(id)
    }

    /// The origins of these logs.
    async fn origins(&self, ids: Vec<i32>) -> Result<HashMap<i32, String>, IndexError> {
        let rows: Vec<(i32, String)> =
            sqlx::query_as("SELECT id, origin FROM log WHERE id = ANY($1)")
                .bind(ids)
                .fetch_all(&self.pool)
                .await?;
        Ok(rows.into_iter().collect())
    }
}

/// Waits until no other transaction holds the lock; ours holds it to its end.
async fn lock(tx: &mut Transaction<'_, Postgres>, key: (i32, i32)) -> Result<(), IndexError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
        .bind(key.0)
        .bind(key.1)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Times that no row can hold are as good as the nearest that one can.
fn time(at_ms: i64) -> DateTime<Utc> {
    let at_ms = at_ms.clamp(*row::AT_MS.start(), *row::AT_MS.end());
    DateTime::from_timestamp_millis(at_ms).unwrap_or_default()
}
