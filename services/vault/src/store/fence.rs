//! Who may write: take-over of lanes, and the token every writing transaction must show.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::{Connection, PgConnection, PgTransaction, Postgres, Row, Transaction};

use mz_keys::KeyWrapper;

use super::keyring::Keyring;
use super::{Database, StoreError, master};

/// One slot's access to its lanes: reads, and writes under the slot's fencing tokens.
pub struct LaneStore {
    pub(super) connection: PgConnection,
    pub(super) keyring: Keyring,
    /// Rows from before there were keys may be left in these lanes.
    pub(super) plain_left: bool,
    /// Measures what encryption costs; never in an installation.
    pub(super) plain: bool,
    /// lane → token of this owner.
    pub(super) tokens: BTreeMap<u16, i64>,
}

impl LaneStore {
    /// Becomes the owner of `lanes`: waits for the predecessor's running transaction and makes
    /// every later one of it fail. Call after the slot's `init_transactions`. Refuses a master key
    /// that is not the one that wraps the stored keys.
    pub async fn take_over(
        database: &Database,
        wrapper: Arc<dyn KeyWrapper>,
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
        // Under the tokens: keys are wrapped anew only by whoever takes every lane.
        master::check(&mut tx, &*wrapper).await?;
        tx.commit().await?;
        Ok(Self {
            connection,
            keyring: Keyring::new(wrapper),
            plain_left: true,
            plain: false,
            tokens,
        })
    }
}

/// Begins a writing transaction of the owner with `tokens`. They stay locked until it ends, so a
/// take-over waits for it, and it fails when a take-over came first.
pub(super) async fn begin<'c>(
    connection: &'c mut PgConnection,
    tokens: &BTreeMap<u16, i64>,
) -> Result<PgTransaction<'c>, StoreError> {
    let lanes: Vec<i32> = tokens.keys().copied().map(i32::from).collect();
    let mut tx: Transaction<'_, Postgres> = connection.begin().await?;
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
    let taken = tokens
        .iter()
        .find(|(lane, token)| shown.get(lane) != Some(token));
    if let Some((&lane, _)) = taken {
        // At once: dropped, it would end with the connection's next use, and hold up the new owner.
        tx.rollback().await?;
        return Err(StoreError::Superseded { lane });
    }
    Ok(tx)
}

pub(super) fn lane_of(stored: i32) -> Result<u16, StoreError> {
    u16::try_from(stored).map_err(|_| StoreError::Damaged("lane"))
}
