//! Erasing a person: the key first of all, and with it every copy of a row that somebody kept.

use mz_journal::{OrderId, SubjectTag};

use super::StoreError;
use super::fence::{LaneStore, begin};

/// What to erase.
#[derive(Clone, Debug)]
pub struct Erasure {
    pub order: OrderId,
    pub lane: u16,
    pub subject: SubjectTag,
    /// Dataset → end of its source in this lane: what lies below goes for good, read or not.
    pub below: Vec<(u32, i64)>,
}

impl LaneStore {
    /// Destroys the person's key and facts, all or nothing. An order that was carried out before does
    /// nothing: what the register has published since is not its business. Says whether it did.
    pub async fn erase(&mut self, erasure: &Erasure) -> Result<bool, StoreError> {
        let person = (erasure.lane, erasure.subject);
        let (lane, subject) = (i32::from(erasure.lane), erasure.subject.0.as_slice());
        let mut tx = begin(&mut self.connection, &self.tokens).await?;
        let first = sqlx::query(
            "INSERT INTO erasure (order_id, lane, subject) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
        )
        .bind(erasure.order.0.as_slice())
        .bind(lane)
        .bind(subject)
        .execute(&mut *tx)
        .await?;
        if first.rows_affected() == 0 {
            return Ok(false);
        }
        // Also for somebody who has no key yet: what is on its way must find that it was erased.
        sqlx::query(
            "INSERT INTO subject_key (lane, subject, wrapped, destroyed_at)
             VALUES ($1, $2, '', now())
             ON CONFLICT (lane, subject) DO UPDATE SET wrapped = '', destroyed_at = now()",
        )
        .bind(lane)
        .bind(subject)
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM fact WHERE lane = $1 AND subject = $2")
            .bind(lane)
            .bind(subject)
            .execute(&mut *tx)
            .await?;
        let datasets: Vec<i32> = erasure
            .below
            .iter()
            .map(|(dataset, _)| super::facts::schema_id(*dataset))
            .collect::<Result<_, _>>()?;
        let ends: Vec<i64> = erasure.below.iter().map(|(_, end)| *end).collect();
        sqlx::query(
            "INSERT INTO erased_below AS held (lane, subject, dataset, next_offset)
             SELECT $1, $2, * FROM unnest($3::integer[], $4::bigint[])
             ON CONFLICT (lane, subject, dataset) DO UPDATE
                SET next_offset = greatest(held.next_offset, excluded.next_offset)",
        )
        .bind(lane)
        .bind(subject)
        .bind(datasets)
        .bind(ends)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.keyring.forget(person);
        Ok(true)
    }
}
