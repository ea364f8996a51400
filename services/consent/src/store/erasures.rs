//! People whose key was ordered to be destroyed.

use mz_journal::{OrderId, SubjectTag};
use sqlx::Row;

use super::{Step, Store, StoreError, lane_of, tag};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    pub order: OrderId,
    pub lane: u16,
    pub subject: SubjectTag,
    pub at_ms: i64,
    /// The vault's audit record, and when it was written.
    pub destroyed: Option<(String, i64)>,
}

impl Step {
    pub async fn put_erasure(&mut self, erasure: &Erasure) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO erasure (order_id, lane, subject, at_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
        )
        .bind(erasure.order.0.as_slice())
        .bind(i32::from(erasure.lane))
        .bind(erasure.subject.0.as_slice())
        .bind(erasure.at_ms)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// The vault said that the key is gone.
    pub async fn destroyed(
        &mut self,
        order: OrderId,
        audit_id: &str,
        at_ms: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE erasure SET destroyed = $2, destroyed_ms = $3
              WHERE order_id = $1 AND destroyed IS NULL",
        )
        .bind(order.0.as_slice())
        .bind(audit_id)
        .bind(at_ms)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }
}

impl Store {
    pub async fn erasure(&self, order: OrderId) -> Result<Option<Erasure>, StoreError> {
        let found = sqlx::query("SELECT * FROM erasure WHERE order_id = $1")
            .bind(order.0.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = found else { return Ok(None) };
        let destroyed: Option<String> = row.try_get("destroyed")?;
        let destroyed_ms: Option<i64> = row.try_get("destroyed_ms")?;
        Ok(Some(Erasure {
            order,
            lane: lane_of(row.try_get("lane")?)?,
            subject: SubjectTag(tag(row.try_get("subject")?, "subject")?),
            at_ms: row.try_get("at_ms")?,
            destroyed: destroyed.zip(destroyed_ms),
        }))
    }
}
