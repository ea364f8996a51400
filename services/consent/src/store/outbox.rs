//! What must go to Kafka, in the order of the changes.

use mz_journal::{
    Audit, ContractFile, ContractVersion, Grant, InForce, Order, Record as _, topics,
};
use sqlx::Row;

use super::{Step, Store, StoreError, lane_of};

/// One thing to send, with the audit record that goes with it.
#[derive(Clone, Debug)]
pub enum Outgoing<'a> {
    Grant(&'a Grant),
    Order(&'a Order),
    InForce(&'a InForce),
    Version(&'a ContractVersion),
    File(&'a ContractFile),
    /// Only the audit record.
    Nothing,
}

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    pub id: i64,
    pub lane: u16,
    pub topic: Option<String>,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// The audit record, not numbered yet.
    pub audit: Option<Vec<u8>>,
}

impl Step {
    /// Puts one thing behind everything that was put before. `lane` is the partition.
    pub async fn send(
        &mut self,
        lane: u16,
        what: Outgoing<'_>,
        audit: Option<&Audit<'_>>,
    ) -> Result<(), StoreError> {
        let (topic, key, value) = match what {
            Outgoing::Grant(grant) => {
                let key = topics::grant_key(grant.subject, grant.id).to_vec();
                (Some(topics::GRANTS), key, grant.encode())
            }
            Outgoing::Order(order) => (
                Some(topics::ORDERS),
                order.subject.0.to_vec(),
                order.encode(),
            ),
            Outgoing::InForce(in_force) => {
                let key = topics::IN_FORCE_KEY.to_vec();
                (Some(topics::GRANTS), key, in_force.encode())
            }
            Outgoing::Version(version) => (
                Some(topics::CONTRACT),
                version.digest.to_vec(),
                version.encode(),
            ),
            Outgoing::File(file) => (Some(topics::CONTRACT), file.key(), file.encode()),
            Outgoing::Nothing => (None, Vec::new(), Vec::new()),
        };
        let audit = audit.map(|audit| {
            let mut bytes = Vec::new();
            audit.encode_into(&mut bytes);
            bytes
        });
        sqlx::query(
            "INSERT INTO outbox (lane, topic, key, value, audit) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(i32::from(lane))
        .bind(topic)
        .bind(key)
        .bind(value)
        .bind(audit)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }
}

impl Store {
    /// What comes after `id`, oldest first.
    pub async fn outbox_after(&self, id: i64, most: i64) -> Result<Vec<OutboxRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, lane, topic, key, value, audit FROM outbox WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(id)
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(OutboxRow {
                    id: row.try_get("id")?,
                    lane: lane_of(row.try_get("lane")?)?,
                    topic: row.try_get("topic")?,
                    key: row
                        .try_get::<Option<Vec<u8>>, _>("key")?
                        .unwrap_or_default(),
                    value: row
                        .try_get::<Option<Vec<u8>>, _>("value")?
                        .unwrap_or_default(),
                    audit: row.try_get("audit")?,
                })
            })
            .collect()
    }

    /// Forgets what was sent, up to `id`.
    pub async fn outbox_sent(&self, id: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM outbox WHERE id <= $1")
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
