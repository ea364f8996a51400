//! The master key that wraps people's keys: which one it is, and how another takes its place.

use mz_journal::SubjectTag;
use mz_keys::{DataKey, KeyWrapper};
use sqlx::{Connection, PgConnection, Row};

use super::{Database, StoreError};
use crate::cipher::{CipherError, key_binding};
use crate::limits::REWRAP_ROWS;

/// What the probe is bound to.
const PROBE_BINDING: &[u8] = b"mz-vault-probe-1";

/// Refuses a master key that doesn't wrap the keys stored here. The first one that comes is it.
pub async fn check_master(database: &Database, wrapper: &dyn KeyWrapper) -> Result<(), StoreError> {
    let mut connection = database.connect().await?;
    check(&mut connection, wrapper).await?;
    connection.close().await?;
    Ok(())
}

pub(super) async fn check(
    connection: &mut PgConnection,
    wrapper: &dyn KeyWrapper,
) -> Result<(), StoreError> {
    let probe = probe(wrapper)?;
    sqlx::query("INSERT INTO master_key (key_id, probe) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(wrapper.key_id())
        .bind(probe)
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query("SELECT key_id, probe FROM master_key")
        .fetch_one(connection)
        .await?;
    let probe: Vec<u8> = row.try_get("probe")?;
    if wrapper.unwrap(&probe, PROBE_BINDING).is_err() {
        return Err(StoreError::MasterKey {
            stored: row.try_get("key_id")?,
            ours: wrapper.key_id().to_owned(),
        });
    }
    Ok(())
}

fn probe(wrapper: &dyn KeyWrapper) -> Result<Vec<u8>, StoreError> {
    let key = DataKey::generate().map_err(CipherError::Random)?;
    let wrapped = wrapper.wrap(&key, PROBE_BINDING);
    Ok(wrapped.map_err(CipherError::Key)?)
}

/// Wraps every person's key under `new` instead of `old`, all or nothing; returns how many. Facts stay
/// as they are. Shuts out every running vault: none of them can write under the old key any more, and
/// each must be started with the new one.
pub async fn rewrap(
    database: &Database,
    old: &dyn KeyWrapper,
    new: &dyn KeyWrapper,
) -> Result<u64, StoreError> {
    let mut connection = database.connect().await?;
    let mut tx = connection.begin().await?;
    sqlx::query(
        "UPDATE lane_owner SET token = token + 1, owner = 'rewrap', taken_at = now()
          WHERE lane IN (SELECT lane FROM lane_owner ORDER BY lane FOR UPDATE)",
    )
    .execute(&mut *tx)
    .await?;
    check(&mut tx, old).await?;
    let (mut lane, mut subject, mut count) = (-1, Vec::<u8>::new(), 0);
    loop {
        let rows = sqlx::query(
            "SELECT lane, subject, wrapped FROM subject_key
              WHERE (lane, subject) > ($1, $2) AND octet_length(wrapped) > 0
              ORDER BY lane, subject LIMIT $3 FOR UPDATE",
        )
        .bind(lane)
        .bind(&subject)
        .bind(REWRAP_ROWS)
        .fetch_all(&mut *tx)
        .await?;
        let Some(last) = rows.last() else { break };
        (lane, subject) = (last.try_get("lane")?, last.try_get("subject")?);
        let (mut lanes, mut subjects, mut wrapped) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let bytes: Vec<u8> = row.try_get("wrapped")?;
            let place: i32 = row.try_get("lane")?;
            let tag = SubjectTag(super::facts::tag(row, "subject")?);
            let binding = key_binding(super::fence::lane_of(place)?, tag);
            let key = old.unwrap(&bytes, &binding).map_err(CipherError::Key)?;
            lanes.push(place);
            subjects.push(tag.0.to_vec());
            wrapped.push(new.wrap(&key, &binding).map_err(CipherError::Key)?);
        }
        count += rows.len() as u64;
        sqlx::query(
            "UPDATE subject_key AS held SET wrapped = new.wrapped
               FROM unnest($1::integer[], $2::bytea[], $3::bytea[]) AS new (lane, subject, wrapped)
              WHERE (held.lane, held.subject) = (new.lane, new.subject)",
        )
        .bind(lanes)
        .bind(subjects)
        .bind(wrapped)
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query("UPDATE master_key SET key_id = $1, probe = $2, set_at = now()")
        .bind(new.key_id())
        .bind(probe(new)?)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    connection.close().await?;
    Ok(count)
}
