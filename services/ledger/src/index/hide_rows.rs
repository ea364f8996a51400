//! The rows of `hide_request` and `hidden`, as somebody may have altered them: nothing is taken for granted.

use chrono::{DateTime, Utc};

use super::terms::Terms;
use super::{Index, IndexError};

/// What both tables say of a hide.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Said {
    pub subject: Vec<u8>,
    /// Empty when the word is gone.
    pub consumer: String,
    pub until: DateTime<Utc>,
    pub requested_by: String,
    pub requested_as: String,
    pub reason: String,
    pub at: DateTime<Utc>,
}

/// A row of `hide_request`.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Asked {
    pub id: i64,
    pub lane: i32,
    #[sqlx(flatten)]
    pub said: Said,
}

/// A row of `hidden`.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct InForce {
    pub id: i64,
    pub request: i64,
    pub approved_by: String,
    pub approved_as: String,
    #[sqlx(flatten)]
    pub said: Said,
}

impl Said {
    pub fn digest(&self, lane: u16) -> [u8; 32] {
        let terms = Terms {
            subject: &self.subject,
            lane,
            until_ms: self.until.timestamp_millis(),
            consumer: &self.consumer,
            operator: &self.requested_by,
            principal: &self.requested_as,
            reason: &self.reason,
        };
        terms.digest()
    }

    /// Whether the end is one that a request can have.
    pub fn whole_ms(&self) -> bool {
        self.until
            .timestamp_subsec_nanos()
            .is_multiple_of(1_000_000)
    }
}

impl Asked {
    /// One that no request has stands for any other.
    pub fn lane(&self) -> u16 {
        u16::try_from(self.lane).unwrap_or(u16::MAX)
    }
}

impl Index {
    /// All rows of both tables, of one moment, by number.
    pub(super) async fn hide_rows(&self) -> Result<(Vec<Asked>, Vec<InForce>), IndexError> {
        let mut tx = self
            .pool
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
            .await?;
        let asked = sqlx::query_as(
            "SELECT asked.id, lane, subject, coalesce(word.text, '') AS consumer, until, requested_by,
                    requested_as, reason, at
             FROM hide_request AS asked LEFT JOIN word ON word.id = asked.consumer ORDER BY asked.id",
        )
        .fetch_all(&mut *tx)
        .await?;
        let in_force = sqlx::query_as(
            "SELECT hidden.id, request, approved_by, approved_as, subject,
                    coalesce(word.text, '') AS consumer, until, requested_by, requested_as, reason, at
             FROM hidden LEFT JOIN word ON word.id = hidden.consumer ORDER BY hidden.id",
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok((asked, in_force))
    }
}
