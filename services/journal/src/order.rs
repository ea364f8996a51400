//! An order to the gateway slot that owns a person's lane, on `bus.orders`. Consent, which knows from
//! the audit log who holds what, orders; the slot, which alone writes `to.*`, looks once more whether
//! the order still holds, carries it out and records what became of it.

use crate::codec::{Decoder, Record, put_count, put_long, put_text};
use crate::malformed::Malformed;
use crate::tags::{OrderId, RecordTag, SubjectTag, TAG_BYTES};
use sha2::{Digest as _, Sha256};

/// First byte of what an order id hashes; used for nothing else in the bus.
const ORDER_ID_PREFIX: u8 = 0x23;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OrderAction {
    /// Tell the consumer to stop using the record.
    Withdraw,
    /// Nobody holds the record that was reported as superseded: forget the report.
    Dismiss,
    /// To the vault: destroy the key under which this person's facts rest. Names no record.
    Erase,
}

/// When a withdrawal still holds at the moment of carrying it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OrderCondition {
    /// No grant of this person under this agreement covers the dataset.
    NotInForce,
    /// Nothing newer of the record was delivered since it was reported as superseded.
    Superseded,
    /// Whatever else holds: an agreement that has ended, a person who was erased.
    Always,
}

const ACTIONS: [OrderAction; 3] = [
    OrderAction::Withdraw,
    OrderAction::Dismiss,
    OrderAction::Erase,
];
const CONDITIONS: [OrderCondition; 3] = [
    OrderCondition::NotInForce,
    OrderCondition::Superseded,
    OrderCondition::Always,
];

/// One order about one record at one consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    pub action: OrderAction,
    pub condition: OrderCondition,
    /// Reason code, as the consumer will see it: `CONSENT_REVOKED`.
    pub reason: String,
    /// `<consumer>/<purpose>`.
    pub agreement: String,
    /// Dataset id; the record's derived answers go with it.
    pub dataset: String,
    pub subject: SubjectTag,
    /// The bus's own tag of the record.
    pub record: RecordTag,
    /// Newest version that the consumer holds, or that superseded what it holds.
    pub epoch: u32,
    pub counter: u64,
    pub at_ms: i64,
}

impl Order {
    /// The id of the order that one reason gives for one version of one record at one consumer:
    /// ordering twice is ordering once. `occasion` tells apart what comes back later (the grant's
    /// id, the digest of the superseding event).
    pub fn derive_id(
        agreement: &str,
        dataset: &str,
        record: RecordTag,
        (epoch, counter): (u32, u64),
        reason: &str,
        occasion: &[u8],
    ) -> OrderId {
        let mut hash = Sha256::new();
        hash.update([ORDER_ID_PREFIX]);
        for part in [
            agreement.as_bytes(),
            dataset.as_bytes(),
            reason.as_bytes(),
            occasion,
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(record.0);
        hash.update(epoch.to_be_bytes());
        hash.update(counter.to_be_bytes());
        let mut id = [0; TAG_BYTES];
        id.copy_from_slice(&hash.finalize()[..TAG_BYTES]);
        OrderId(id)
    }
}

impl Record for Order {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/order.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        put_long(out, self.action as i64);
        put_long(out, self.condition as i64);
        put_text(out, &self.reason);
        put_text(out, &self.agreement);
        put_text(out, &self.dataset);
        out.extend_from_slice(&self.subject.0);
        out.extend_from_slice(&self.record.0);
        put_long(out, i64::from(self.epoch));
        put_count(out, self.counter);
        put_long(out, self.at_ms);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let order = Self {
            id: OrderId(from.fixed("id")?),
            action: ACTIONS[from.branch("action", ACTIONS.len())?],
            condition: CONDITIONS[from.branch("condition", CONDITIONS.len())?],
            reason: from.owned_text("reason")?,
            agreement: from.owned_text("agreement")?,
            dataset: from.owned_text("dataset")?,
            subject: SubjectTag(from.fixed("subject")?),
            record: RecordTag(from.fixed("record")?),
            epoch: from.number("epoch")?,
            counter: from.count("counter")?,
            at_ms: from.long("at_ms")?,
        };
        from.finish()?;
        Ok(order)
    }
}
