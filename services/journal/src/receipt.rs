//! A consumer's signed word for what it did about a withdrawal, on `bus.receipts`. Key: order id.

use crate::codec::{Decoder, Record, put_count, put_long, put_text};
use crate::delivery::SIGNATURE_BYTES;
use crate::malformed::Malformed;
use crate::tags::{OrderId, TAG_BYTES};

/// What the consumer did with what it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReceiptAction {
    Deleted,
    /// Kept out of use under a legal hold; deleted when the hold ends, with another receipt.
    Frozen,
    /// Kept, marked as withdrawn: not to be used.
    Marked,
    /// There was nothing (any more).
    Absent,
}

const ACTIONS: [ReceiptAction; 4] = [
    ReceiptAction::Deleted,
    ReceiptAction::Frozen,
    ReceiptAction::Marked,
    ReceiptAction::Absent,
];

impl ReceiptAction {
    /// As written in tables and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Frozen => "frozen",
            Self::Marked => "marked",
            Self::Absent => "absent",
        }
    }

    /// Inverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        ACTIONS.into_iter().find(|action| action.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub order: OrderId,
    /// `<consumer>/<purpose>`.
    pub agreement: String,
    /// The `to.*` topic in which the withdrawal came.
    pub topic: String,
    pub lane: u16,
    /// Delivery sequence of the withdrawal.
    pub sequence: u64,
    /// Pseudonym ‖ record tag.
    pub key: [u8; 2 * TAG_BYTES],
    pub action: ReceiptAction,
    pub at_ms: i64,
    pub key_id: String,
    pub signature: [u8; SIGNATURE_BYTES],
}

impl Receipt {
    /// What the consumer signs: "mianzheng/receipt/v1\n", then the record's own Avro bytes without
    /// the signature, which is the last field.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = b"mianzheng/receipt/v1\n".to_vec();
        self.unsigned_into(&mut payload);
        payload
    }

    fn unsigned_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.order.0);
        put_text(out, &self.agreement);
        put_text(out, &self.topic);
        put_long(out, i64::from(self.lane));
        put_count(out, self.sequence);
        out.extend_from_slice(&self.key);
        put_long(out, self.action as i64);
        put_long(out, self.at_ms);
        put_text(out, &self.key_id);
    }
}

impl Record for Receipt {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/receipt.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        self.unsigned_into(out);
        out.extend_from_slice(&self.signature);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let receipt = Self {
            order: OrderId(from.fixed("order")?),
            agreement: from.owned_text("agreement")?,
            topic: from.owned_text("topic")?,
            lane: from.number("lane")?,
            sequence: from.count("sequence")?,
            key: from.fixed("key")?,
            action: ACTIONS[from.branch("action", ACTIONS.len())?],
            at_ms: from.long("at_ms")?,
            key_id: from.owned_text("key_id")?,
            signature: from.fixed("signature")?,
        };
        from.finish()?;
        Ok(receipt)
    }
}
