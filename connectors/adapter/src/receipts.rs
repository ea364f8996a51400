//! The department's signed word for what it did about a withdrawal. A receipt stands in `mz_receipts`
//! since the transaction that did it; here it is signed and sent, at least once: whoever is killed
//! between the bus's acknowledgement and our note of it sends the same bytes again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use mz_bus::{BusError, BusOptions, PlainProducer};
use mz_journal::{OrderId, Receipt, ReceiptAction, Record as _, topics};
use mz_seal::{SignError, Signer};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::error::Error;
use crate::limits::{
    MAX_RECEIPTS, RECEIPT_MOMENT, RECEIPT_RETRY_FIRST, RECEIPT_RETRY_LONGEST, RECEIPT_TIMEOUT,
};
use crate::sql::RELEASE;
use crate::store::{Store, limited};

/// What is left to do, and what is kept, in the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub unsent: u64,
    pub frozen: u64,
}

/// One statement each, outside the owner's lock: what they do is true whoever does it, and a frozen
/// adapter must not hold that lock.
impl Store {
    /// Deletes frozen records whose time has come and that no hold covers; how many.
    pub async fn release(&mut self) -> Result<u64, Error> {
        let released: i64 =
            limited(sqlx::query_scalar(RELEASE).fetch_one(self.connection())).await?;
        Ok(released.unsigned_abs())
    }

    /// Receipts that were not acknowledged yet, oldest first, without signature.
    pub async fn unsent(&mut self, agreement: &str) -> Result<Vec<Receipt>, Error> {
        let rows = limited(
            sqlx::query(
                "SELECT order_id, topic, lane, sequence, mz_person || mz_record, action, at \
                 FROM mz_receipts WHERE sent_at IS NULL ORDER BY at LIMIT $1",
            )
            .bind(MAX_RECEIPTS)
            .fetch_all(self.connection()),
        )
        .await?;
        rows.iter()
            .map(|row| receipt(row, agreement))
            .collect::<Result<_, _>>()
            .map_err(Error::Database)
    }

    /// The bus has them.
    pub async fn sent(&mut self, receipts: &[Receipt]) -> Result<(), Error> {
        let all = |get: fn(&Receipt) -> Vec<u8>| receipts.iter().map(get).collect::<Vec<_>>();
        limited(
            sqlx::query(
                "UPDATE mz_receipts AS r SET sent_at = now() \
                 FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[]) AS n (topic, order_id, key, action) \
                 WHERE r.topic = n.topic AND r.order_id = n.order_id AND r.action = n.action \
                   AND r.mz_person || r.mz_record = n.key",
            )
            .bind(receipts.iter().map(|r| r.topic.clone()).collect::<Vec<_>>())
            .bind(all(|receipt| receipt.order.as_bytes().to_vec()))
            .bind(all(|receipt| receipt.key.to_vec()))
            .bind(receipts.iter().map(|r| r.action.name()).collect::<Vec<_>>())
            .execute(self.connection()),
        )
        .await
        .map(drop)
    }

    pub async fn backlog(&mut self) -> Result<Backlog, Error> {
        let row = limited(
            sqlx::query(
                "SELECT (SELECT count(*) FROM mz_receipts WHERE sent_at IS NULL), \
                        (SELECT count(record) FROM mz_frozen)",
            )
            .fetch_one(self.connection()),
        )
        .await?;
        let count = |at: usize| row.try_get::<i64, _>(at).map(i64::unsigned_abs);
        Ok(Backlog {
            unsent: count(0).map_err(Error::Database)?,
            frozen: count(1).map_err(Error::Database)?,
        })
    }
}

fn receipt(row: &PgRow, agreement: &str) -> Result<Receipt, sqlx::Error> {
    let odd = |at: usize, what: &'static str| sqlx::Error::ColumnDecode {
        index: at.to_string(),
        source: what.into(),
    };
    let order: Vec<u8> = row.try_get(0)?;
    let key: Vec<u8> = row.try_get(4)?;
    let action: String = row.try_get(5)?;
    let at: DateTime<Utc> = row.try_get(6)?;
    Ok(Receipt {
        order: OrderId(order.try_into().map_err(|_| odd(0, "order id"))?),
        agreement: agreement.to_owned(),
        topic: row.try_get(1)?,
        lane: row
            .try_get::<i32, _>(2)?
            .try_into()
            .map_err(|_| odd(2, "lane"))?,
        sequence: row.try_get::<i64, _>(3)?.unsigned_abs(),
        key: key.try_into().map_err(|_| odd(4, "key"))?,
        action: ReceiptAction::from_name(&action).ok_or_else(|| odd(5, "action"))?,
        at_ms: at.timestamp_millis(),
        key_id: String::new(),
        signature: [0; 64],
    })
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the receipt key does not sign")]
    Sign(#[from] SignError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Signs and sends. Nothing that goes wrong here ends the adapter, and nothing waits for it:
/// withdrawals are carried out whether their receipts get through or not.
pub(crate) struct Sender {
    bus: BusOptions,
    signer: Option<Arc<dyn Signer>>,
    agreement: String,
    producer: Option<PlainProducer>,
    /// Handed over and not acknowledged yet; until when that is waited for.
    flying: Option<(Vec<Receipt>, Instant)>,
    /// Something may be unsent.
    due: bool,
    not_before: Instant,
    pause: Duration,
}

impl Sender {
    pub fn new(bus: BusOptions, signer: Option<Arc<dyn Signer>>, agreement: String) -> Self {
        Self {
            bus,
            signer,
            agreement,
            producer: None,
            flying: None,
            due: true,
            not_before: Instant::now(),
            pause: RECEIPT_RETRY_FIRST,
        }
    }

    /// There are new receipts.
    pub fn note(&mut self) {
        self.due = true;
    }

    pub fn is_due(&self) -> bool {
        self.due
            && self.signer.is_some()
            && self.flying.is_none()
            && Instant::now() >= self.not_before
    }

    pub fn is_flying(&self) -> bool {
        self.flying.is_some()
    }

    pub fn agreement(&self) -> &str {
        &self.agreement
    }

    /// Signs receipts and hands them to the client.
    pub fn start(&mut self, mut receipts: Vec<Receipt>) {
        // A full load: there may be more.
        self.due = receipts.len() as i64 == MAX_RECEIPTS;
        if receipts.is_empty() {
            return;
        }
        let handed = self.hand_over(&mut receipts);
        self.flying = Some((receipts, Instant::now() + RECEIPT_TIMEOUT));
        if let Err(error) = handed {
            self.failed(&error);
        }
    }

    fn hand_over(&mut self, receipts: &mut [Receipt]) -> Result<(), SendError> {
        let Some(signer) = &self.signer else {
            return Ok(());
        };
        let producer = match &mut self.producer {
            Some(producer) => producer,
            none => none.insert(PlainProducer::open(&self.bus)?),
        };
        let mut bytes = Vec::new();
        for receipt in receipts {
            signer.key_id().clone_into(&mut receipt.key_id);
            receipt.signature = signer.sign(&receipt.payload())?;
            bytes.clear();
            receipt.encode_into(&mut bytes);
            let (lane, key) = (i32::from(receipt.lane), receipt.order.as_bytes());
            producer.send(topics::RECEIPTS, lane, key, Some(&bytes), &[])?;
        }
        Ok(())
    }

    /// Those that the bus has acknowledged. Waits for a moment only: the next turn asks again.
    pub fn acknowledged(&mut self) -> Option<Vec<Receipt>> {
        let (producer, (_, until)) = (self.producer.as_ref()?, self.flying.as_ref()?);
        match producer.flush(RECEIPT_MOMENT) {
            Ok(()) => {
                self.pause = RECEIPT_RETRY_FIRST;
                self.flying.take().map(|(receipts, _)| receipts)
            }
            Err(BusError::Timeout { .. }) if Instant::now() < *until => None,
            Err(error) => {
                self.failed(&error.into());
                None
            }
        }
    }

    fn failed(&mut self, error: &SendError) {
        // The client may still hold some: a new one starts without them.
        self.producer = None;
        let count = self.flying.take().map_or(0, |(receipts, _)| receipts.len());
        tracing::warn!(
            error = %mz_bus::chain(error),
            receipts = count,
            retry_s = self.pause.as_secs(),
            "receipts not acknowledged; they stay in mz_receipts and are sent again"
        );
        self.due = true;
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(RECEIPT_RETRY_LONGEST);
    }
}
