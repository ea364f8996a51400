//! Withdrawals that are due, the orders that they became, and what came of those.

use mz_journal::{
    GrantId, Order, OrderAction, OrderCondition, OrderId, Receipt, Record as _, RecordTag,
    SubjectTag,
};
use sqlx::postgres::PgRow;
use sqlx::{QueryBuilder, Row};

use super::{Step, Store, StoreError, big, count, lane_of, tag};
use crate::limits::MAX_ORDERS_PER_STEP;

/// Whose deliveries a withdrawal concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// What was delivered about one grant's person under its agreement (and its datasets).
    Grant(GrantId),
    /// Everything of one agreement and dataset.
    Agreement { id: String, dataset: String },
    /// Everything about one person.
    Subject { lane: u16, subject: SubjectTag },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRow {
    pub id: i64,
    pub due_ms: i64,
    pub scope: Scope,
    pub reason: String,
    pub condition: OrderCondition,
    /// Tells orders for the same reason at different times apart.
    pub occasion: Vec<u8>,
}

/// A record that a consumer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderTarget {
    pub lane: u16,
    pub agreement: String,
    pub dataset: String,
    pub subject: SubjectTag,
    pub record: RecordTag,
    pub epoch: u32,
    pub counter: u64,
}

/// An order and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRow {
    pub order: Order,
    pub lane: u16,
    pub executed_ms: Option<i64>,
    pub sequence: Option<i64>,
    pub declined: Option<String>,
    pub receipt_ms: Option<i64>,
    pub action: Option<String>,
}

fn condition_number(condition: OrderCondition) -> i16 {
    match condition {
        OrderCondition::NotInForce => 0,
        OrderCondition::Superseded => 1,
        OrderCondition::Always => 2,
    }
}

fn condition(number: i16) -> OrderCondition {
    match number {
        0 => OrderCondition::NotInForce,
        1 => OrderCondition::Superseded,
        _ => OrderCondition::Always,
    }
}

fn epoch(row: &PgRow) -> Result<u32, StoreError> {
    u32::try_from(row.try_get::<i64, _>("epoch")?).map_err(|_| StoreError::Damaged("epoch"))
}

fn target(row: &PgRow) -> Result<OrderTarget, StoreError> {
    Ok(OrderTarget {
        lane: lane_of(row.try_get("lane")?)?,
        agreement: row.try_get("agreement")?,
        dataset: row.try_get("dataset")?,
        subject: SubjectTag(tag(row.try_get("subject")?, "subject")?),
        record: RecordTag(tag(row.try_get("record")?, "record")?),
        epoch: epoch(row)?,
        counter: count(row.try_get("counter")?, "counter")?,
    })
}

fn order_row(row: &PgRow) -> Result<OrderRow, StoreError> {
    let of = target(row)?;
    Ok(OrderRow {
        lane: of.lane,
        order: Order {
            id: OrderId(tag(row.try_get("id")?, "id")?),
            action: OrderAction::Withdraw,
            condition: condition(row.try_get("condition")?),
            reason: row.try_get("reason")?,
            agreement: of.agreement,
            dataset: of.dataset,
            subject: of.subject,
            record: of.record,
            epoch: of.epoch,
            counter: of.counter,
            at_ms: row.try_get("ordered_ms")?,
        },
        executed_ms: row.try_get("executed_ms")?,
        sequence: row.try_get("sequence")?,
        declined: row.try_get("declined")?,
        receipt_ms: row.try_get("receipt_ms")?,
        action: row.try_get("action")?,
    })
}

impl Step {
    pub async fn put_due(
        &mut self,
        due_ms: i64,
        scope: &Scope,
        reason: &str,
        condition: OrderCondition,
        occasion: &[u8],
    ) -> Result<(), StoreError> {
        let (mut grant, mut reading, mut person) = (None, (None, None), (None, None));
        match scope {
            Scope::Grant(id) => grant = Some(id.0.to_vec()),
            Scope::Agreement { id, dataset } => reading = (Some(id), Some(dataset)),
            Scope::Subject { lane, subject } => {
                person = (Some(i32::from(*lane)), Some(subject.0.to_vec()));
            }
        }
        let ((agreement, dataset), (lane, subject)) = (reading, person);
        sqlx::query(
            "INSERT INTO due
               (due_ms, grant_id, agreement, dataset, lane, subject, reason, condition, occasion)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(due_ms)
        .bind(grant)
        .bind(agreement)
        .bind(dataset)
        .bind(lane)
        .bind(subject)
        .bind(reason)
        .bind(condition_number(condition))
        .bind(occasion)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// What is held within `scope` and was not ordered back for this reason and occasion yet: the next
    /// part of it.
    pub async fn targets(
        &mut self,
        due: &DueRow,
        datasets: &[String],
    ) -> Result<Vec<OrderTarget>, StoreError> {
        let mut query = QueryBuilder::new(
            "SELECT h.lane, h.agreement, h.dataset, h.subject, h.record, h.epoch, h.counter
               FROM holding h ",
        );
        match &due.scope {
            Scope::Grant(grant) => {
                query.push(
                    "JOIN grants g ON g.lane = h.lane AND g.subject = h.subject
                        AND g.agreement = h.agreement WHERE g.id = ",
                );
                query.push_bind(grant.0.to_vec());
                if !datasets.is_empty() {
                    query.push(" AND h.dataset = ANY(");
                    query.push_bind(datasets.to_vec());
                    query.push(")");
                }
            }
            Scope::Agreement { id, dataset } => {
                query.push("WHERE h.agreement = ");
                query.push_bind(id.clone());
                query.push(" AND h.dataset = ");
                query.push_bind(dataset.clone());
            }
            Scope::Subject { lane, subject } => {
                query.push("WHERE h.lane = ");
                query.push_bind(i32::from(*lane));
                query.push(" AND h.subject = ");
                query.push_bind(subject.0.to_vec());
            }
        }
        query.push(
            " AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.subject = h.subject
                AND o.agreement = h.agreement AND o.dataset = h.dataset AND o.record = h.record
                AND (o.epoch, o.counter) = (h.epoch, h.counter)
                AND o.executed_ms IS NULL AND o.declined_ms IS NULL)
              ORDER BY h.lane, h.subject, h.record LIMIT ",
        );
        query.push_bind(MAX_ORDERS_PER_STEP);
        let rows = query.build().fetch_all(&mut *self.tx).await?;
        rows.iter().map(target).collect()
    }

    /// The version of one record that a consumer holds.
    pub async fn held(
        &mut self,
        lane: u16,
        subject: SubjectTag,
        dataset: &str,
        record: RecordTag,
    ) -> Result<Vec<(OrderTarget, Option<GrantId>)>, StoreError> {
        let rows = sqlx::query(
            "SELECT lane, agreement, dataset, subject, record, epoch, counter, grant_id FROM holding
              WHERE lane = $1 AND subject = $2 AND dataset = $3 AND record = $4",
        )
        .bind(i32::from(lane))
        .bind(subject.0.as_slice())
        .bind(dataset)
        .bind(record.0.as_slice())
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter()
            .map(|row| {
                let grant: Option<Vec<u8>> = row.try_get("grant_id")?;
                let grant = grant.map(|bytes| tag(&bytes, "grant_id")).transpose()?;
                Ok((target(row)?, grant.map(GrantId)))
            })
            .collect()
    }

    /// Whether an order to call this very version back waits for its slot already. One because a newer
    /// version left the rows doesn't count: it may be declined for that version's sake.
    pub async fn is_ordered(&mut self, held: &OrderTarget) -> Result<bool, StoreError> {
        let waits = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM orders
              WHERE lane = $1 AND subject = $2 AND agreement = $3 AND dataset = $4 AND record = $5
                AND (epoch, counter) = ($6, $7) AND condition <> $8
                AND executed_ms IS NULL AND declined_ms IS NULL)",
        )
        .bind(i32::from(held.lane))
        .bind(held.subject.0.as_slice())
        .bind(&held.agreement)
        .bind(&held.dataset)
        .bind(held.record.0.as_slice())
        .bind(i64::from(held.epoch))
        .bind(big(held.counter))
        .bind(condition_number(OrderCondition::Superseded))
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(waits)
    }

    /// Notes an order; false when it was given before.
    pub async fn put_order(&mut self, lane: u16, order: &Order) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO orders (id, lane, agreement, dataset, subject, record, epoch, counter, reason,
                                 condition, ordered_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
        )
        .bind(order.id.0.as_slice())
        .bind(i32::from(lane))
        .bind(&order.agreement)
        .bind(&order.dataset)
        .bind(order.subject.0.as_slice())
        .bind(order.record.0.as_slice())
        .bind(i64::from(order.epoch))
        .bind(big(order.counter))
        .bind(&order.reason)
        .bind(condition_number(order.condition))
        .bind(order.at_ms)
        .execute(&mut *self.tx)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Whether no order about this agreement and dataset waits for a slot.
    pub async fn is_called_back(
        &mut self,
        agreement: &str,
        dataset: &str,
    ) -> Result<bool, StoreError> {
        let waits: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM orders WHERE agreement = $1 AND dataset = $2
                AND executed_ms IS NULL AND declined_ms IS NULL)",
        )
        .bind(agreement)
        .bind(dataset)
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(!waits)
    }

    pub async fn due_done(&mut self, id: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM due WHERE id = $1")
            .bind(id)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// What was due for this reason and occasion was done before its time.
    pub async fn due_met(&mut self, reason: &str, occasion: &[u8]) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM due WHERE reason = $1 AND occasion = $2")
            .bind(reason)
            .bind(occasion)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// A slot carried the order out in one topic: the section's own, which has the sequence, or that
    /// of an answer.
    pub async fn executed(
        &mut self,
        order: OrderId,
        topic: &str,
        at_ms: i64,
        sequence: Option<u64>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO order_topic (order_id, topic, executed_ms) VALUES ($1, $2, $3)
             ON CONFLICT (order_id, topic) DO UPDATE
                SET executed_ms = coalesce(order_topic.executed_ms, excluded.executed_ms)",
        )
        .bind(order.0.as_slice())
        .bind(topic)
        .bind(at_ms)
        .execute(&mut *self.tx)
        .await?;
        if let Some(sequence) = sequence {
            sqlx::query(
                "UPDATE orders SET executed_ms = $2, sequence = $3
                  WHERE id = $1 AND executed_ms IS NULL",
            )
            .bind(order.0.as_slice())
            .bind(at_ms)
            .bind(big(sequence))
            .execute(&mut *self.tx)
            .await?;
        }
        self.settle_order(order).await
    }

    /// An order is settled when every topic in which it was carried out has its receipt.
    async fn settle_order(&mut self, order: OrderId) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE orders SET
                receipt_ms = (SELECT CASE WHEN bool_and(receipt_ms IS NOT NULL)
                                     THEN max(receipt_ms) END
                                FROM order_topic WHERE order_id = $1),
                action = (SELECT action FROM order_topic WHERE order_id = $1
                           ORDER BY topic LIKE '%.answer.%', topic LIMIT 1)
              WHERE id = $1 AND executed_ms IS NOT NULL",
        )
        .bind(order.0.as_slice())
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// A slot found that the order no longer held.
    pub async fn declined(
        &mut self,
        order: OrderId,
        at_ms: i64,
        why: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE orders SET declined_ms = $2, declined = $3
              WHERE id = $1 AND executed_ms IS NULL AND declined_ms IS NULL",
        )
        .bind(order.0.as_slice())
        .bind(at_ms)
        .bind(why)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// A consumer's receipt for one topic, its signature checked. A later one replaces a provisional
    /// one (frozen, marked); false when it belongs to no order of that agreement.
    pub async fn receipt(&mut self, receipt: &Receipt) -> Result<bool, StoreError> {
        let known: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM orders WHERE id = $1 AND agreement = $2)",
        )
        .bind(receipt.order.0.as_slice())
        .bind(&receipt.agreement)
        .fetch_one(&mut *self.tx)
        .await?;
        let prefix = format!("to.{}.", receipt.agreement.replacen('/', ".", 1));
        if !known || !receipt.topic.starts_with(&prefix) {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO order_topic AS held (order_id, topic, receipt_ms, action, receipt)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (order_id, topic) DO UPDATE SET
                receipt_ms = excluded.receipt_ms, action = excluded.action,
                receipt = excluded.receipt
              WHERE held.action IS NULL OR held.action IN ('frozen', 'marked')",
        )
        .bind(receipt.order.0.as_slice())
        .bind(&receipt.topic)
        .bind(receipt.at_ms)
        .bind(receipt.action.name())
        .bind(receipt.encode())
        .execute(&mut *self.tx)
        .await?;
        self.settle_order(receipt.order).await?;
        Ok(true)
    }

    /// Orders that nobody answered for a long time; their clock starts again.
    pub async fn orders_again(
        &mut self,
        before_ms: i64,
        now_ms: i64,
        most: i64,
    ) -> Result<Vec<OrderRow>, StoreError> {
        let rows = sqlx::query(
            "UPDATE orders SET ordered_ms = $2 WHERE id IN (
                SELECT id FROM orders WHERE executed_ms IS NULL AND declined_ms IS NULL
                   AND receipt_ms IS NULL AND ordered_ms < $1 ORDER BY ordered_ms LIMIT $3)
             RETURNING *",
        )
        .bind(before_ms)
        .bind(now_ms)
        .bind(most)
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter().map(order_row).collect()
    }
}

impl Store {
    /// What is due by `now_ms`, oldest first.
    pub async fn due(&self, now_ms: i64, most: i64) -> Result<Vec<DueRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM due WHERE due_ms <= $1 ORDER BY due_ms, id LIMIT $2")
            .bind(now_ms)
            .bind(most)
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let grant: Option<Vec<u8>> = row.try_get("grant_id")?;
                let agreement: Option<String> = row.try_get("agreement")?;
                let dataset: Option<String> = row.try_get("dataset")?;
                let lane: Option<i32> = row.try_get("lane")?;
                let subject: Option<Vec<u8>> = row.try_get("subject")?;
                let scope = match (grant, agreement.zip(dataset), lane.zip(subject)) {
                    (Some(grant), _, _) => Scope::Grant(GrantId(tag(&grant, "grant_id")?)),
                    (_, Some((id, dataset)), _) => Scope::Agreement { id, dataset },
                    (_, _, Some((lane, subject))) => Scope::Subject {
                        lane: lane_of(lane)?,
                        subject: SubjectTag(tag(&subject, "subject")?),
                    },
                    _ => return Err(StoreError::Damaged("due")),
                };
                Ok(DueRow {
                    id: row.try_get("id")?,
                    due_ms: row.try_get("due_ms")?,
                    scope,
                    reason: row.try_get("reason")?,
                    condition: condition(row.try_get("condition")?),
                    occasion: row.try_get("occasion")?,
                })
            })
            .collect()
    }

    /// Orders for whoever looks after them: newest first, from behind `before`.
    pub async fn orders(
        &self,
        agreement: Option<&str>,
        consumer: Option<&str>,
        open_only: bool,
        before: Option<(i64, OrderId)>,
        most: i64,
    ) -> Result<Vec<OrderRow>, StoreError> {
        let mut query = QueryBuilder::new("SELECT * FROM orders WHERE true");
        if let Some(agreement) = agreement {
            query.push(" AND agreement = ");
            query.push_bind(agreement.to_owned());
        }
        if let Some(consumer) = consumer {
            query.push(" AND split_part(agreement, '/', 1) = ");
            query.push_bind(consumer.to_owned());
        }
        if open_only {
            query.push(" AND receipt_ms IS NULL AND declined_ms IS NULL");
        }
        if let Some((at_ms, id)) = before {
            query.push(" AND (ordered_ms, id) < (");
            query.push_bind(at_ms);
            query.push(", ");
            query.push_bind(id.0.to_vec());
            query.push(")");
        }
        query.push(" ORDER BY ordered_ms DESC, id DESC LIMIT ");
        query.push_bind(most);
        let rows = query.build().fetch_all(&self.pool).await?;
        rows.iter().map(order_row).collect()
    }

    /// How many orders wait for a receipt, and since when the oldest.
    pub async fn open_orders(
        &self,
        agreement: Option<&str>,
        consumer: Option<&str>,
    ) -> Result<(u64, Option<i64>), StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS open, min(ordered_ms) AS oldest FROM orders
              WHERE receipt_ms IS NULL AND declined_ms IS NULL
                AND ($1::text IS NULL OR agreement = $1)
                AND ($2::text IS NULL OR split_part(agreement, '/', 1) = $2)",
        )
        .bind(agreement)
        .bind(consumer)
        .fetch_one(&self.pool)
        .await?;
        Ok((count(row.try_get("open")?, "open")?, row.try_get("oldest")?))
    }

    /// A person's orders: all, and those without a receipt.
    pub async fn orders_of(&self, subject: SubjectTag) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS every,
                    count(*) FILTER (WHERE receipt_ms IS NULL AND declined_ms IS NULL) AS open
               FROM orders WHERE subject = $1",
        )
        .bind(subject.0.as_slice())
        .fetch_one(&self.pool)
        .await?;
        Ok((
            count(row.try_get("every")?, "every")?,
            count(row.try_get("open")?, "open")?,
        ))
    }

    /// How many records a consumer holds of a dataset.
    pub async fn held_of(&self, agreement: &str, dataset: &str) -> Result<u64, StoreError> {
        let records: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM holding WHERE agreement = $1 AND dataset = $2",
        )
        .bind(agreement)
        .bind(dataset)
        .fetch_one(&self.pool)
        .await?;
        count(records, "holding")
    }

    /// What a consumer holds about a person: per dataset, how many records and the newest time.
    pub async fn holdings_of(
        &self,
        lane: u16,
        subject: SubjectTag,
        agreement: &str,
    ) -> Result<Vec<(String, u64, i64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT dataset, count(*) AS records, max(at_ms) AS newest FROM holding
              WHERE lane = $1 AND subject = $2 AND agreement = $3 GROUP BY dataset",
        )
        .bind(i32::from(lane))
        .bind(subject.0.as_slice())
        .bind(agreement)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    row.try_get("dataset")?,
                    count(row.try_get("records")?, "records")?,
                    row.try_get("newest")?,
                ))
            })
            .collect()
    }
}
