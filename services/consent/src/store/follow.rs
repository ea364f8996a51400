//! What is read from the bus: how far, which grants, who holds what.

use mz_journal::{Grant, GrantId, RecordTag, SubjectTag};
use rustc_hash::FxHashMap;
use sqlx::{PgPool, Row};

use super::grants::bind_grant;
use super::{OrderTarget, Step, Store, StoreError, big, lane_of};

/// A version of a record that reached a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub lane: u16,
    pub agreement: String,
    pub dataset: String,
    pub subject: SubjectTag,
    pub record: RecordTag,
    pub epoch: u32,
    pub counter: u64,
    pub grant: Option<GrantId>,
    pub at_ms: i64,
}

impl Store {
    /// (topic, lane) → next offset.
    pub async fn positions(&self) -> Result<FxHashMap<(String, u16), i64>, StoreError> {
        positions(&self.pool).await
    }
}

pub(super) async fn positions(pool: &PgPool) -> Result<FxHashMap<(String, u16), i64>, StoreError> {
    let rows = sqlx::query("SELECT topic, lane, next_offset FROM position")
        .fetch_all(pool)
        .await?;
    rows.iter()
        .map(|row| {
            let lane = lane_of(row.try_get("lane")?)?;
            Ok(((row.try_get("topic")?, lane), row.try_get("next_offset")?))
        })
        .collect()
}

impl Step {
    /// Moves positions; never back.
    pub async fn reached(&mut self, reached: &[(&str, u16, i64)]) -> Result<(), StoreError> {
        if reached.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO position AS held (topic, lane, next_offset)
             SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[])
             ON CONFLICT (topic, lane) DO UPDATE SET next_offset = excluded.next_offset
             WHERE excluded.next_offset > held.next_offset",
        )
        .bind(reached.iter().map(|at| at.0).collect::<Vec<_>>())
        .bind(reached.iter().map(|at| i32::from(at.1)).collect::<Vec<_>>())
        .bind(reached.iter().map(|at| at.2).collect::<Vec<_>>())
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Takes grants as they lie in `bus.grants`: joins each with what is known, by the order in which
    /// grants join (closed, then counter, then expiry), and notes where this state of it lies. Answers
    /// those that are new here or moved: opened and closed by gateway or vault.
    pub async fn seen(&mut self, grants: &[(u16, i64, Grant)]) -> Result<Vec<Grant>, StoreError> {
        let mut newest: FxHashMap<GrantId, (u16, i64, &Grant)> = FxHashMap::default();
        for (lane, offset, grant) in grants {
            let held = newest.entry(grant.id).or_insert((*lane, *offset, grant));
            // A statement can't touch a row twice; of equal copies the first place counts.
            let joined = held.2.clone().join(grant.clone());
            if joined == *grant && held.2 != grant {
                *held = (*lane, *offset, grant);
            }
        }
        let mut all: Vec<_> = newest.into_values().collect();
        all.sort_unstable_by_key(|(_, _, grant)| grant.id);
        let mut moved = Vec::new();
        for (lane, offset, grant) in all {
            let query = sqlx::query(
                "INSERT INTO grants AS held (id, kind, lane, subject, agreement, datasets, status,
                        counter, opened_ms, expires_ms, closed_ms, cause, reason, offset_seen)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
                 ON CONFLICT (id) DO UPDATE SET
                    datasets = excluded.datasets, status = excluded.status,
                    counter = excluded.counter, opened_ms = excluded.opened_ms,
                    expires_ms = excluded.expires_ms, closed_ms = excluded.closed_ms,
                    cause = excluded.cause, reason = excluded.reason,
                    offset_seen = excluded.offset_seen
                 WHERE ((excluded.status = 2)::int, excluded.counter, excluded.status, excluded.expires_ms)
                       > ((held.status = 2)::int, held.counter, held.status, held.expires_ms)
                    OR (held.offset_seen IS NULL AND
                        ((excluded.status = 2)::int, excluded.counter, excluded.status, excluded.expires_ms)
                       = ((held.status = 2)::int, held.counter, held.status, held.expires_ms))
                 RETURNING EXISTS (
                    SELECT 1 FROM history h WHERE h.grant_id = held.id AND h.counter = held.counter
                 ) AS noted",
            );
            let row = bind_grant(query, lane, grant)
                .bind(offset)
                .fetch_optional(&mut *self.tx)
                .await?;
            if let Some(row) = row
                && !row.try_get::<bool, _>("noted")?
            {
                moved.push(grant.clone());
            }
        }
        Ok(moved)
    }

    /// Takes deliveries, in the order of the log: the last of each record counts.
    pub async fn delivered(&mut self, all: &[Delivered]) -> Result<(), StoreError> {
        let mut last: FxHashMap<_, &Delivered> = FxHashMap::default();
        for one in all {
            last.insert(
                (
                    one.lane,
                    one.subject,
                    &one.agreement,
                    &one.dataset,
                    one.record,
                ),
                one,
            );
        }
        let mut rows: Vec<&Delivered> = last.into_values().collect();
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_unstable_by_key(|one| (one.lane, one.subject, one.record));
        fn column<T>(rows: &[&Delivered], get: impl Fn(&Delivered) -> T) -> Vec<T> {
            rows.iter().map(|one| get(one)).collect()
        }
        sqlx::query(
            "INSERT INTO holding AS held
               (lane, agreement, dataset, subject, record, epoch, counter, grant_id, at_ms)
             SELECT * FROM unnest($1::integer[], $2::text[], $3::text[], $4::bytea[], $5::bytea[],
                                  $6::bigint[], $7::bigint[], $8::bytea[], $9::bigint[])
             ON CONFLICT (lane, subject, agreement, dataset, record) DO UPDATE SET
                epoch = excluded.epoch, counter = excluded.counter,
                grant_id = excluded.grant_id, at_ms = excluded.at_ms",
        )
        .bind(column(&rows, |one| i32::from(one.lane)))
        .bind(column(&rows, |one| one.agreement.clone()))
        .bind(column(&rows, |one| one.dataset.clone()))
        .bind(column(&rows, |one| one.subject.0.to_vec()))
        .bind(column(&rows, |one| one.record.0.to_vec()))
        .bind(column(&rows, |one| i64::from(one.epoch)))
        .bind(column(&rows, |one| big(one.counter)))
        .bind(column(&rows, |one| one.grant.map(|grant| grant.0.to_vec())))
        .bind(column(&rows, |one| one.at_ms))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Takes away what a consumer was told to stop using, up to its version.
    pub async fn gone(&mut self, one: &OrderTarget) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM holding WHERE lane = $1 AND subject = $2 AND agreement = $3
                AND dataset = $4 AND record = $5 AND (epoch, counter) <= ($6, $7)",
        )
        .bind(i32::from(one.lane))
        .bind(one.subject.0.as_slice())
        .bind(&one.agreement)
        .bind(&one.dataset)
        .bind(one.record.0.as_slice())
        .bind(i64::from(one.epoch))
        .bind(big(one.counter))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }
}
