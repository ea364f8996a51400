//! Entries come in: one transaction a batch, with its roll-ups and the log's new size.

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDate};
use sqlx::{PgConnection, Postgres, Transaction};

use super::row::{COLUMNS, Row, end_copy, start_copy};
use super::usage::Deltas;
use super::{Index, IndexError, LOG_LOCK, Leaf, MAX_BATCH, lock, time};

/// Rows are sent when so many bytes of them are ready.
const SEND_BYTES: usize = 1 << 20;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Leaves of the log that are indexed now.
    pub size: u64,
    /// How many of the batch's entries were new. The rest were there already.
    pub new: u64,
}

impl Index {
    /// Indexes entries of one log from `first_leaf` on, all or none. What is indexed already is
    /// skipped. Entries of months that have expired count, but get no row.
    ///
    /// # Errors
    /// A gap before the batch, too many entries, a value that no column holds, the database.
    pub async fn append(
        &self,
        origin: &str,
        first_leaf: u64,
        entries: &[impl Leaf],
    ) -> Result<Appended, IndexError> {
        if entries.len() > MAX_BATCH {
            return Err(IndexError::Batch { most: MAX_BATCH });
        }
        let log = self.log(origin).await?;
        self.words.numbered(&self.pool, entries).await?;
        self.ensure_months(entries).await?;

        let mut tx = self.writing().await?;
        lock(&mut tx, (LOG_LOCK, log)).await?;
        let size = size(&mut tx, log).await?;
        if first_leaf > size {
            return Err(IndexError::Gap { size, first_leaf });
        }
        let known = usize::try_from(size - first_leaf).unwrap_or(usize::MAX);
        let Some(new) = entries.get(known..).filter(|new| !new.is_empty()) else {
            return Ok(Appended { size, new: 0 });
        };
        self.copy(&mut tx, log, size, new).await?;
        let appended = Appended {
            size: size + new.len() as u64,
            new: new.len() as u64,
        };
        sqlx::query("INSERT INTO progress (log, size) VALUES ($1, $2)")
            .bind(log)
            .bind(appended.size.cast_signed())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(appended)
    }

    /// How many leaves of a log are indexed.
    pub async fn progress(&self, origin: &str) -> Result<u64, IndexError> {
        match self.known_log(origin).await? {
            Some(log) => size(&mut *self.pool.acquire().await?, log).await,
            None => Ok(0),
        }
    }

    /// Takes everything of a log out of the index, so that it can be indexed again from its first
    /// leaf. The owner only.
    ///
    /// # Errors
    /// The database, which refuses everybody but the owner.
    pub async fn forget(&self, origin: &str) -> Result<(), IndexError> {
        let Some(log) = self.known_log(origin).await? else {
            return Ok(());
        };
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, (LOG_LOCK, log)).await?;
        for delete in [
            "DELETE FROM entry WHERE log = $1",
            "DELETE FROM usage_day WHERE log = $1",
            "DELETE FROM progress WHERE log = $1",
        ] {
            sqlx::query(delete).bind(log).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn copy(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        log: i32,
        first_leaf: u64,
        entries: &[impl Leaf],
    ) -> Result<(), IndexError> {
        let expired = expired(tx).await?;
        let mut deltas = Deltas::default();
        let mut buffer = Vec::with_capacity(SEND_BYTES + SEND_BYTES / 8);
        let columns = COLUMNS.join(", ");
        let statement = format!("COPY entry ({columns}) FROM STDIN (FORMAT binary)");
        let mut copy = tx.copy_in_raw(&statement).await?;
        start_copy(&mut buffer);
        for (leaf, entry) in (first_leaf..).zip(entries) {
            let Some(audit) = entry.audit() else { continue };
            let row = match Row::new(log, leaf, audit, |text| self.words.known_id(text)) {
                Ok(row) => row,
                Err(error) => {
                    copy.abort("unfit").await?;
                    return Err(error);
                }
            };
            deltas.add(&row);
            if expired.is_empty() || !expired.contains(&month(audit.at_ms)) {
                row.put(&mut buffer);
            }
            if buffer.len() >= SEND_BYTES {
                copy.send(&*buffer).await?;
                buffer.clear();
            }
        }
        end_copy(&mut buffer);
        copy.send(&*buffer).await?;
        copy.finish().await?;

        deltas.insert(tx, log).await
    }

    /// The number of a log, given out if it has none.
    async fn log(&self, origin: &str) -> Result<i32, IndexError> {
        if let Some(id) = self.known_log(origin).await? {
            return Ok(id);
        }
        if origin.is_empty() {
            return Err(IndexError::Empty("origin"));
        }
        sqlx::query("INSERT INTO log (origin) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(origin)
            .execute(&self.pool)
            .await?;
        self.known_log(origin)
            .await?
            .ok_or(IndexError::Damaged("log"))
    }

    /// In transactions of their own, before the batch's: a partition is made once and stays.
    async fn ensure_months(&self, entries: &[impl Leaf]) -> Result<(), IndexError> {
        let months: BTreeSet<NaiveDate> = entries
            .iter()
            .filter_map(Leaf::audit)
            .map(|audit| month(audit.at_ms))
            .collect();
        // One at a time: an error names its month, and no lock is held for long.
        for month in months {
            sqlx::query("SELECT ensure_month($1)")
                .bind(month)
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }
}

/// Leaves of a log that are indexed.
pub(super) async fn size(connection: &mut PgConnection, log: i32) -> Result<u64, IndexError> {
    let size: Option<i64> = sqlx::query_scalar("SELECT max(size) FROM progress WHERE log = $1")
        .bind(log)
        .fetch_one(connection)
        .await?;
    Ok(size.unwrap_or_default().cast_unsigned())
}

/// Months whose entries were dropped.
pub(super) async fn expired(
    connection: &mut PgConnection,
) -> Result<BTreeSet<NaiveDate>, IndexError> {
    let months: Vec<NaiveDate> = sqlx::query_scalar("SELECT month FROM expired")
        .fetch_all(connection)
        .await?;
    Ok(months.into_iter().collect())
}

/// The first day of the month of a time.
pub(super) fn month(at_ms: i64) -> NaiveDate {
    let day = time(at_ms).date_naive();
    day.with_day(1).unwrap_or(day)
}
