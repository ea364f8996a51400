//! Grants and their history.

use mz_journal::{Grant, GrantId, GrantKind, GrantStatus, SubjectTag};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Step, Store, StoreError, big, count, lane_of, tag};
use crate::limits::{MAX_LISTED, MAX_REFETCH};
use crate::record::ConsentRecord;

/// A grant as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantRow {
    pub lane: u16,
    pub grant: Grant,
    pub record: Option<ConsentRecord>,
    /// Where this state of it lies in `bus.grants`; `None` until it was read back.
    pub offset_seen: Option<i64>,
}

/// What was done to a grant.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryRow {
    pub grant: GrantId,
    pub at_ms: i64,
    pub action: String,
    pub counter: u64,
    pub principal: String,
    pub operator: String,
    pub reason: String,
    /// JSON.
    pub evidence: Option<String>,
}

const COLUMNS: &str = "id, kind, lane, subject, agreement, datasets, status, counter, opened_ms, \
                       expires_ms, closed_ms, cause, reason, record::text AS record, offset_seen";

pub(super) fn kind_number(kind: GrantKind) -> i16 {
    match kind {
        GrantKind::Consent => 0,
        GrantKind::Case => 1,
    }
}

pub(super) fn status_number(status: GrantStatus) -> i16 {
    match status {
        GrantStatus::Open => 0,
        GrantStatus::Paused => 1,
        GrantStatus::Closed => 2,
    }
}

fn row(row: &PgRow) -> Result<GrantRow, StoreError> {
    let record: Option<String> = row.try_get("record")?;
    let record = record
        .map(|json| serde_json::from_str(&json))
        .transpose()
        .map_err(|_| StoreError::Damaged("record"))?;
    Ok(GrantRow {
        lane: lane_of(row.try_get("lane")?)?,
        grant: Grant {
            id: GrantId(tag(row.try_get("id")?, "id")?),
            kind: match row.try_get::<i16, _>("kind")? {
                0 => GrantKind::Consent,
                _ => GrantKind::Case,
            },
            subject: SubjectTag(tag(row.try_get("subject")?, "subject")?),
            agreement: row.try_get("agreement")?,
            datasets: row.try_get("datasets")?,
            status: match row.try_get::<i16, _>("status")? {
                0 => GrantStatus::Open,
                1 => GrantStatus::Paused,
                _ => GrantStatus::Closed,
            },
            counter: count(row.try_get("counter")?, "counter")?,
            opened_ms: row.try_get("opened_ms")?,
            expires_ms: row.try_get("expires_ms")?,
            closed_ms: row.try_get("closed_ms")?,
            cause: row.try_get("cause")?,
            reason: row.try_get("reason")?,
            subject_sealed: None,
        },
        record,
        offset_seen: row.try_get("offset_seen")?,
    })
}

fn statement(tail: &str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM grants {tail}"))
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Binds `$1` to `$13`: id, kind, lane, subject, agreement, datasets, status, counter, opened, expires,
/// closed, cause, reason.
pub(super) fn bind_grant<'q>(query: Query<'q>, lane: u16, grant: &'q Grant) -> Query<'q> {
    query
        .bind(grant.id.0.as_slice())
        .bind(kind_number(grant.kind))
        .bind(i32::from(lane))
        .bind(grant.subject.0.as_slice())
        .bind(&grant.agreement)
        .bind(&grant.datasets)
        .bind(status_number(grant.status))
        .bind(big(grant.counter))
        .bind(grant.opened_ms)
        .bind(grant.expires_ms)
        .bind(grant.closed_ms)
        .bind(&grant.cause)
        .bind(&grant.reason)
}

impl Store {
    /// One grant.
    pub async fn grant(&self, id: GrantId) -> Result<Option<GrantRow>, StoreError> {
        let found = sqlx::query(statement("WHERE id = $1"))
            .bind(id.0.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        found.as_ref().map(row).transpose()
    }

    /// A person's grants, newest first.
    pub async fn grants_of(&self, subject: SubjectTag) -> Result<Vec<GrantRow>, StoreError> {
        let found = sqlx::query(statement(
            "WHERE subject = $1 ORDER BY opened_ms DESC, id LIMIT $2",
        ))
        .bind(subject.0.as_slice())
        .bind(MAX_LISTED)
        .fetch_all(&self.pool)
        .await?;
        found.iter().map(row).collect()
    }

    /// The history of a person's grants, oldest first.
    pub async fn history_of(&self, subject: SubjectTag) -> Result<Vec<HistoryRow>, StoreError> {
        let found = sqlx::query(
            "SELECT h.grant_id, h.at_ms, h.action, h.counter, h.principal, h.operator, h.reason
               FROM history h JOIN grants g ON g.id = h.grant_id
              WHERE g.subject = $1 ORDER BY h.id LIMIT $2",
        )
        .bind(subject.0.as_slice())
        .bind(MAX_LISTED)
        .fetch_all(&self.pool)
        .await?;
        found
            .iter()
            .map(|row| {
                Ok(HistoryRow {
                    grant: GrantId(tag(row.try_get("grant_id")?, "grant_id")?),
                    at_ms: row.try_get("at_ms")?,
                    action: row.try_get("action")?,
                    counter: count(row.try_get("counter")?, "counter")?,
                    principal: row.try_get("principal")?,
                    operator: row.try_get("operator")?,
                    reason: row.try_get("reason")?,
                    evidence: None,
                })
            })
            .collect()
    }
}

impl Step {
    /// One grant, as this change finds it.
    pub async fn grant(&mut self, id: GrantId) -> Result<Option<GrantRow>, StoreError> {
        let found = sqlx::query(statement("WHERE id = $1 FOR UPDATE"))
            .bind(id.0.as_slice())
            .fetch_optional(&mut *self.tx)
            .await?;
        found.as_ref().map(row).transpose()
    }

    /// A person's grants, as this change finds them.
    pub async fn grants_of(&mut self, subject: SubjectTag) -> Result<Vec<GrantRow>, StoreError> {
        let found = sqlx::query(statement("WHERE subject = $1 ORDER BY id FOR UPDATE"))
            .bind(subject.0.as_slice())
            .fetch_all(&mut *self.tx)
            .await?;
        found.iter().map(row).collect()
    }

    /// Open grants of an agreement from an id on: those that a change of the contract concerns.
    pub async fn open_grants(
        &mut self,
        agreement: &str,
        after: GrantId,
        now_ms: i64,
    ) -> Result<Vec<GrantRow>, StoreError> {
        let found = sqlx::query(statement(
            "WHERE agreement = $1 AND id > $2 AND status = 0 AND expires_ms > $3
             ORDER BY id LIMIT $4 FOR UPDATE",
        ))
        .bind(agreement)
        .bind(after.0.as_slice())
        .bind(now_ms)
        .bind(MAX_REFETCH)
        .fetch_all(&mut *self.tx)
        .await?;
        found.iter().map(row).collect()
    }

    /// Writes a grant as this change leaves it; it has not been read back since.
    pub async fn put_grant(
        &mut self,
        lane: u16,
        grant: &Grant,
        record: Option<&ConsentRecord>,
    ) -> Result<(), StoreError> {
        let record = record
            .map(serde_json::to_string)
            .transpose()
            .map_err(|_| StoreError::Damaged("record"))?;
        let query = sqlx::query(
            "INSERT INTO grants AS held (id, kind, lane, subject, agreement, datasets, status, counter,
                                 opened_ms, expires_ms, closed_ms, cause, reason, record)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14::jsonb)
             ON CONFLICT (id) DO UPDATE SET
                datasets = excluded.datasets, status = excluded.status, counter = excluded.counter,
                opened_ms = excluded.opened_ms, expires_ms = excluded.expires_ms,
                closed_ms = excluded.closed_ms, cause = excluded.cause, reason = excluded.reason,
                record = coalesce(excluded.record, held.record), offset_seen = NULL,
                settled = held.settled AND excluded.status = 2",
        );
        bind_grant(query, lane, grant)
            .bind(record)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    pub async fn note(&mut self, entry: &HistoryRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO history (grant_id, at_ms, action, counter, principal, operator, reason, evidence)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb)",
        )
        .bind(entry.grant.0.as_slice())
        .bind(entry.at_ms)
        .bind(&entry.action)
        .bind(big(entry.counter))
        .bind(&entry.principal)
        .bind(&entry.operator)
        .bind(&entry.reason)
        .bind(&entry.evidence)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// What was done about it is settled: no data life is to be worked out any more.
    pub async fn settle(&mut self, grant: GrantId) -> Result<(), StoreError> {
        sqlx::query("UPDATE grants SET settled = true WHERE id = $1")
            .bind(grant.0.as_slice())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Ended grants whose data life was not worked out: closed by somebody else, or run out.
    pub async fn unsettled(&mut self, now_ms: i64, most: i64) -> Result<Vec<GrantRow>, StoreError> {
        let found = sqlx::query(statement(
            "WHERE id IN (
                (SELECT id FROM grants WHERE NOT settled AND status = 2 ORDER BY closed_ms LIMIT $2)
                UNION
                (SELECT id FROM grants WHERE NOT settled AND expires_ms <= $1
                  ORDER BY expires_ms LIMIT $2)
             ) ORDER BY id",
        ))
        .bind(now_ms)
        .bind(most)
        .fetch_all(&mut *self.tx)
        .await?;
        found.iter().map(row).collect()
    }
}
