//! The same request again gets the same answer.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;

use super::{Step, Store, StoreError};

/// What is known of a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeat<T> {
    /// Never seen.
    New,
    /// Carried out before: this was the answer.
    Done(T),
    /// The id was used for something else.
    Other,
}

impl Step {
    /// Whether this request was carried out before. `digest`: of the whole request.
    pub async fn repeated<T: DeserializeOwned>(
        &mut self,
        principal: &str,
        request_id: &str,
        digest: &[u8; 32],
    ) -> Result<Repeat<T>, StoreError> {
        let found = sqlx::query(
            "SELECT digest, answer::text AS answer FROM request WHERE principal = $1 AND request_id = $2",
        )
        .bind(principal)
        .bind(request_id)
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(row) = found else {
            return Ok(Repeat::New);
        };
        if row.try_get::<&[u8], _>("digest")? != digest {
            return Ok(Repeat::Other);
        }
        let answer: String = row.try_get("answer")?;
        let answer = serde_json::from_str(&answer).map_err(|_| StoreError::Damaged("answer"))?;
        Ok(Repeat::Done(answer))
    }

    /// Remembers the answer.
    pub async fn remember<T: Serialize>(
        &mut self,
        principal: &str,
        request_id: &str,
        digest: &[u8; 32],
        answer: &T,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let answer = serde_json::to_string(answer).map_err(|_| StoreError::Damaged("answer"))?;
        sqlx::query(
            "INSERT INTO request (principal, request_id, digest, answer, at_ms)
             VALUES ($1, $2, $3, $4::jsonb, $5)",
        )
        .bind(principal)
        .bind(request_id)
        .bind(digest.as_slice())
        .bind(answer)
        .bind(now_ms)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }
}

impl Store {
    /// Forgets answers older than `before_ms`.
    pub async fn forget_requests(&self, before_ms: i64) -> Result<u64, StoreError> {
        let gone = sqlx::query("DELETE FROM request WHERE at_ms < $1")
            .bind(before_ms)
            .execute(&self.pool)
            .await?;
        Ok(gone.rows_affected())
    }
}
