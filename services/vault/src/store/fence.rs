//! Who may write: take-over of lanes, and the token every writing transaction must show.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::{Connection, PgConnection, PgTransaction, Postgres, Row, Transaction};

use super::{Database, StoreError};
use crate::cipher::Cipher;

/// One slot's access to its lanes: reads, and writes under the slot's fencing tokens.
pub struct LaneStore {
    pub(super) connection: PgConnection,
    pub(super) cipher: Arc<dyn Cipher>,
    /// lane → token of this owner.
    tokens: BTreeMap<u16, i64>,
}

impl LaneStore {
    /// Becomes the owner of `lanes`: waits for the predecessor's running transaction and makes
    /// every later one of it fail. Call after the slot's `init_transactions`.
    pub async fn take_over(
        database: &Database,
        cipher: Arc<dyn Cipher>,
        lanes: &[u16],
        owner: &str,
    ) -> Result<Self, StoreError> {
        let mut connection = database.connect().await?;
        let mut lanes: Vec<i32> = lanes.iter().copied().map(i32::from).collect();
        // One order everywhere: two owners that take overlapping lanes can't deadlock.
        lanes.sort_unstable();
        lanes.dedup();
        let mut tokens = BTreeMap::new();
        let mut tx = connection.begin().await?;
        for lane in lanes {
            let token: i64 = sqlx::query_scalar(
                "INSERT INTO lane_owner (lane, token, owner) VALUES ($1, 1, $2)
                 ON CONFLICT (lane) DO UPDATE
                    SET token = lane_owner.token + 1, owner = $2, taken_at = now()
                 RETURNING token",
            )
            .bind(lane)
            .bind(owner)
            .fetch_one(&mut *tx)
            .await?;
            tokens.insert(lane_of(lane)?, token);
        }
        tx.commit().await?;
        Ok(Self {
            connection,
            cipher,
            tokens,
        })
    }

    /// Begins a writing transaction. The tokens stay locked until it ends, so a take-over waits
    /// for it, and it fails when a take-over came first.
    pub(super) async fn begin(&mut self) -> Result<PgTransaction<'_>, StoreError> {
        let lanes: Vec<i32> = self.tokens.keys().copied().map(i32::from).collect();
        let mut tx: Transaction<'_, Postgres> = self.connection.begin().await?;
        let rows = sqlx::query(
            "SELECT lane, token FROM lane_owner WHERE lane = ANY($1) ORDER BY lane FOR SHARE",
        )
        .bind(lanes)
        .fetch_all(&mut *tx)
        .await?;
        let mut shown: BTreeMap<u16, i64> = BTreeMap::new();
        for row in rows {
            shown.insert(lane_of(row.try_get("lane")?)?, row.try_get("token")?);
        }
        for (lane, token) in &self.tokens {
            if shown.get(lane) != Some(token) {
                return Err(StoreError::Superseded { lane: *lane });
            }
        }
        Ok(tx)
    }
}

pub(super) fn lane_of(stored: i32) -> Result<u16, StoreError> {
    u16::try_from(stored).map_err(|_| StoreError::Damaged("lane"))
}
