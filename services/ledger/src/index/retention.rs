//! How long entries are kept: whole months, never less than the law's three years, longer while
//! somebody holds them. Roll-ups and the sizes of logs stay.

use chrono::{Months, NaiveDate};

use super::{Index, IndexError, MIN_RETENTION_YEARS, MONTHS_LOCK, Period, clean, lock, time};

/// Why a period must not expire.
#[derive(Clone, Debug)]
pub struct Hold {
    pub period: Period,
    /// The case, by its number.
    pub reason: String,
    /// An operator's id.
    pub by: String,
}

impl Index {
    /// Keeps a period until [`Self::end_hold`]. Returns the hold's number.
    ///
    /// # Errors
    /// An empty period, reason or person, the database.
    pub async fn hold(&self, hold: &Hold) -> Result<i64, IndexError> {
        told(&hold.reason, &hold.by)?;
        if time(hold.period.from_ms) >= time(hold.period.to_ms) {
            return Err(IndexError::Period);
        }
        let mut tx = self.writing().await?;
        lock(&mut tx, MONTHS_LOCK).await?;
        let id = sqlx::query_scalar(
            "INSERT INTO legal_hold (from_at, to_at, reason, held_by)
             VALUES ($1, $2, $3, $4) RETURNING id",
        )
        .bind(time(hold.period.from_ms))
        .bind(time(hold.period.to_ms))
        .bind(clean::text(&hold.reason))
        .bind(clean::text(&hold.by))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Ends a hold. The owner only. Ending it twice is ending it once.
    ///
    /// # Errors
    /// An empty reason or person, a hold that never was, the database.
    pub async fn end_hold(&self, hold: i64, reason: &str, by: &str) -> Result<(), IndexError> {
        told(reason, by)?;
        sqlx::query(
            "INSERT INTO legal_hold_end (hold, reason, ended_by) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
        )
        .bind(hold)
        .bind(clean::text(reason))
        .bind(clean::text(by))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Drops the months that ended by `before_ms` and that nobody holds. Returns their first
    /// days. The owner only.
    ///
    /// # Errors
    /// A time less than [`MIN_RETENTION_YEARS`] ago, the database.
    pub async fn expire(&self, before_ms: i64) -> Result<Vec<NaiveDate>, IndexError> {
        let years = i32::try_from(MIN_RETENTION_YEARS).unwrap_or(i32::MAX);
        let old: bool = sqlx::query_scalar("SELECT $1 <= now() - make_interval(years => $2)")
            .bind(time(before_ms))
            .bind(years)
            .fetch_one(&self.pool)
            .await?;
        if !old {
            return Err(IndexError::TooYoung {
                years: MIN_RETENTION_YEARS,
            });
        }
        let before = time(before_ms).date_naive();
        let mut dropped = Vec::new();
        for (name, month) in self.months().await? {
            if month + Months::new(1) <= before && self.drop_month(&name, month).await? {
                dropped.push(month);
            }
        }
        Ok(dropped)
    }

    /// Folds what many batches added to the days before `before` into one row each: the answers
    /// stay, the questions get faster. Returns how many rows there are less. The owner only.
    ///
    /// # Errors
    /// The database.
    pub async fn fold_days(&self, before: NaiveDate) -> Result<u64, IndexError> {
        let (gone, kept): (i64, i64) = sqlx::query_as(
            "WITH gone AS (DELETE FROM usage_day WHERE day < $1 RETURNING *),
             kept AS (
                 INSERT INTO usage_day (entries, denied, log, day, agreement, consumer, purpose,
                     dataset, rule, kind, fields)
                 SELECT sum(entries), sum(denied), log, day, agreement, consumer, purpose,
                     dataset, rule, kind, sum_counts(fields)
                 FROM gone GROUP BY log, day, agreement, consumer, purpose, dataset, rule, kind
                 RETURNING 1)
             SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM kept)",
        )
        .bind(before)
        .fetch_one(&self.pool)
        .await?;
        Ok((gone - kept).cast_unsigned())
    }

    /// Drops the sizes that each log had before its newest; answers how many. The owner only.
    ///
    /// # Errors
    /// The database.
    pub async fn thin_progress(&self) -> Result<u64, IndexError> {
        let thinned = sqlx::query(
            "DELETE FROM progress AS old
             WHERE size < (SELECT max(size) FROM progress WHERE log = old.log)",
        )
        .execute(&self.pool)
        .await?;
        Ok(thinned.rows_affected())
    }

    /// The partitions that are a month, ascending, with their first days.
    async fn months(&self) -> Result<Vec<(String, NaiveDate)>, IndexError> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
             WHERE inhparent = 'entry'::regclass AND relname ~ '^entry_[0-9]{6}$' ORDER BY 1",
        )
        .fetch_all(&self.pool)
        .await?;
        let month = |name: String| {
            let digits = name.strip_prefix("entry_")?;
            let month = NaiveDate::parse_from_str(&format!("{digits}01"), "%Y%m%d").ok()?;
            Some((name, month))
        };
        Ok(names.into_iter().filter_map(month).collect())
    }

    /// `false` while a hold overlaps the month. No new hold comes in between.
    async fn drop_month(&self, name: &str, month: NaiveDate) -> Result<bool, IndexError> {
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, MONTHS_LOCK).await?;
        let held: bool = sqlx::query_scalar(
            "SELECT EXISTS (
                 SELECT FROM legal_hold
                 WHERE from_at < ($1 + interval '1 month') AT TIME ZONE 'UTC'
                   AND to_at > $1::timestamp AT TIME ZONE 'UTC'
                   AND NOT EXISTS (SELECT FROM legal_hold_end WHERE hold = legal_hold.id))",
        )
        .bind(month)
        .fetch_one(&mut *tx)
        .await?;
        if held {
            return Ok(false);
        }
        sqlx::query("INSERT INTO expired (month) VALUES ($1)")
            .bind(month)
            .execute(&mut *tx)
            .await?;
        // Whoever appends or asks waits while we wait: not for long.
        sqlx::query("SET LOCAL lock_timeout = '10s'")
            .execute(&mut *tx)
            .await?;
        // Letters, digits and an underscore: `months` looked.
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP TABLE {name}")))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }
}

fn told(reason: &str, by: &str) -> Result<(), IndexError> {
    for (name, text) in [("reason", reason), ("by", by)] {
        if text.trim().is_empty() {
            return Err(IndexError::Empty(name));
        }
    }
    Ok(())
}
