//! Carries out withdrawals in the consumer's tables: rows go, are marked or frozen, and each order of
//! the bus gets its receipt, all in the transaction of the batch. A withdrawal that came before is
//! carried out at its own place only.

use std::collections::{HashMap, HashSet};

use mz_journal::ReceiptAction;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::batch::{Ended, Reject, Round};
use crate::check::Key;
use crate::error::Error;
use crate::sql::TableSql;
use crate::store::{Applied, limited};
use crate::target::Target;

/// What withdrawals found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Endings {
    pub deleted: u64,
    /// Moved to `mz_frozen`, under a legal hold or by `on_withdrawal: freeze`.
    pub frozen: u64,
    /// Left in the table, with `mz_withdrawn_at` set.
    pub marked: u64,
    /// Nothing was there, or only something newer.
    pub absent: u64,
}

impl Endings {
    fn note(&mut self, action: ReceiptAction, count: u64) {
        *match action {
            ReceiptAction::Deleted => &mut self.deleted,
            ReceiptAction::Frozen => &mut self.frozen,
            ReceiptAction::Marked => &mut self.marked,
            ReceiptAction::Absent => &mut self.absent,
        } += count;
    }

    pub(crate) fn add(&mut self, other: Self) {
        let Self {
            deleted,
            frozen,
            marked,
            absent,
        } = other;
        self.deleted += deleted;
        self.frozen += frozen;
        self.marked += marked;
        self.absent += absent;
    }
}

/// What registers took back: also remembered, so that an older version can't bring it back late.
pub(crate) async fn by_register(
    connection: &mut PgConnection,
    at: usize,
    target: &Target,
    sql: &TableSql,
    round: &Round,
    applied: &mut Applied,
) -> Result<(), Error> {
    let ended: Vec<(&Key, &Ended)> = round
        .fates
        .iter()
        .filter_map(|(key, fate)| Some((key, fate.ended.as_ref()?)))
        .collect();
    if ended.is_empty() {
        return Ok(());
    }
    limited(
        sqlx::query(
            "INSERT INTO mz_withdrawn AS w (topic, mz_person, mz_record, mz_epoch, mz_counter, reason) \
             SELECT $1, p, r, e, c, why \
             FROM unnest($2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[], $6::text[]) AS n (p, r, e, c, why) \
             ON CONFLICT (topic, mz_person, mz_record) DO UPDATE \
               SET mz_epoch = EXCLUDED.mz_epoch, mz_counter = EXCLUDED.mz_counter, \
                   reason = EXCLUDED.reason, withdrawn_at = now() \
               WHERE (EXCLUDED.mz_epoch, EXCLUDED.mz_counter) > (w.mz_epoch, w.mz_counter)",
        )
        .bind(&target.topic)
        .bind(all(&ended, |(key, _)| key[..16].to_vec()))
        .bind(all(&ended, |(key, _)| key[16..].to_vec()))
        .bind(all(&ended, |(_, ended)| i64::from(ended.version.epoch)))
        .bind(all(&ended, |(_, ended)| ended.version.counter as i64))
        .bind(all(&ended, |(_, ended)| ended.reason.clone()))
        .execute(&mut *connection),
    )
    .await?;
    end(connection, at, target, sql, &ended, applied)
        .await
        .map(drop)
}

/// What the bus withdrew. The same order at another offset is somebody's replay: it would end what
/// was delivered again since.
pub(crate) async fn by_bus(
    connection: &mut PgConnection,
    at: usize,
    target: &Target,
    sql: &TableSql,
    round: &Round,
    applied: &mut Applied,
) -> Result<(), Error> {
    if round.orders.is_empty() {
        return Ok(());
    }
    let asked: Vec<(&Key, &Ended)> = round.orders.iter().collect();
    let before: Vec<(Vec<u8>, Vec<u8>)> = limited(
        sqlx::query_as(
            "SELECT DISTINCT n.person, n.record \
             FROM unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[]) AS n (person, record, order_id, \"offset\") \
             JOIN mz_receipts AS r ON r.topic = $1 AND r.order_id = n.order_id \
               AND r.mz_person = n.person AND r.mz_record = n.record AND r.\"offset\" <> n.\"offset\"",
        )
        .bind(&target.topic)
        .bind(all(&asked, |(key, _)| key[..16].to_vec()))
        .bind(all(&asked, |(key, _)| key[16..].to_vec()))
        .bind(all(&asked, |(_, ended)| order_of(ended)))
        .bind(all(&asked, |(_, ended)| ended.offset))
        .fetch_all(&mut *connection),
    )
    .await?;
    let before: HashSet<Vec<u8>> = before
        .into_iter()
        .map(|(person, record)| [person, record].concat())
        .collect();
    let (replayed, ended): (Vec<_>, Vec<_>) = asked
        .into_iter()
        .partition(|(key, _)| before.contains(key.as_slice()));
    applied
        .refused
        .extend(replayed.into_iter().map(|(_, ended)| Reject {
            target: at,
            lane: ended.lane,
            offset: ended.offset,
            code: "WITHDRAWAL_REPLAYED",
        }));
    if ended.is_empty() {
        return Ok(());
    }
    for (lane, count) in end(connection, at, target, sql, &ended, applied).await? {
        *applied.ordered.entry((at, lane)).or_default() += count;
    }
    Ok(())
}

/// Answers how many per lane.
async fn end(
    connection: &mut PgConnection,
    at: usize,
    target: &Target,
    sql: &TableSql,
    ended: &[(&Key, &Ended)],
    applied: &mut Applied,
) -> Result<HashMap<i32, i64>, Error> {
    debug_assert!(ended.iter().all(|(key, _)| key.len() == 32), "{at}");
    let rows = limited(
        sqlx::query(sql.end())
            .bind(&target.topic)
            .bind(all(ended, |(key, _)| key[..16].to_vec()))
            .bind(all(ended, |(key, _)| key[16..].to_vec()))
            .bind(all(ended, |(_, ended)| i64::from(ended.version.epoch)))
            .bind(all(ended, |(_, ended)| ended.version.counter as i64))
            .bind(all(ended, |(_, ended)| ended.reason.clone()))
            .bind(all(ended, |(_, ended)| order_of(ended)))
            .bind(all(ended, |(_, ended)| ended.lane))
            .bind(all(ended, |(_, ended)| ended.offset))
            .bind(all(ended, |(_, ended)| ended.sequence))
            .fetch_all(connection),
    )
    .await?;
    let mut lanes = HashMap::new();
    for row in rows {
        let lane: i32 = row.try_get(0).map_err(Error::Database)?;
        let action: String = row.try_get(1).map_err(Error::Database)?;
        let count: i64 = row.try_get(2).map_err(Error::Database)?;
        *lanes.entry(lane).or_default() += count;
        if let Some(action) = ReceiptAction::from_name(&action) {
            applied.endings.note(action, count as u64);
        }
    }
    Ok(lanes)
}

fn order_of(ended: &Ended) -> Option<Vec<u8>> {
    ended.order.map(|order| order.as_bytes().to_vec())
}

fn all<T>(ended: &[(&Key, &Ended)], get: impl Fn((&Key, &Ended)) -> T) -> Vec<T> {
    ended.iter().map(|(key, ended)| get((key, ended))).collect()
}
