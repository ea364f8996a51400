//! The `mz-withdrawal` header of a null value on `to.*`: the bus's signed word that the consumer must
//! stop using a record, why, and up to which version. A record that its register took back carries the
//! department's own seal instead.

use crate::codec::{Decoder, Record, put_count, put_long, put_text};
use crate::delivery::SIGNATURE_BYTES;
use crate::malformed::Malformed;
use crate::tags::{OrderId, TAG_BYTES};

/// Name of the Kafka header.
pub const WITHDRAWAL_HEADER: &str = "mz-withdrawal";

/// Avro bytes of the header's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Name it in the receipt.
    pub order: OrderId,
    /// Reason code: `CONSENT_REVOKED`.
    pub reason: String,
    /// Versions up to this one must not be used any more.
    pub epoch: u32,
    pub counter: u64,
    pub at_ms: i64,
    pub key_id: String,
    pub signature: [u8; SIGNATURE_BYTES],
}

impl Withdrawal {
    /// What the bus signs: "mianzheng/withdrawal/v1\n", u16 length and bytes of the topic, u16 lane,
    /// 32 bytes of record key, 16 of order id, u32 epoch, u64 counter, u64 milliseconds, u16 length
    /// and bytes of the reason; all big-endian.
    pub fn payload(&self, topic: &str, lane: u16, key: &[u8; 2 * TAG_BYTES]) -> Vec<u8> {
        let mut payload = Vec::with_capacity(160 + topic.len());
        payload.extend_from_slice(b"mianzheng/withdrawal/v1\n");
        put_short(&mut payload, topic);
        payload.extend_from_slice(&lane.to_be_bytes());
        payload.extend_from_slice(key);
        payload.extend_from_slice(&self.order.0);
        payload.extend_from_slice(&self.epoch.to_be_bytes());
        payload.extend_from_slice(&self.counter.to_be_bytes());
        payload.extend_from_slice(&self.at_ms.to_be_bytes());
        put_short(&mut payload, &self.reason);
        payload
    }
}

/// Topics have at most 249 bytes and codes at most 64: the length fits.
fn put_short(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

impl Record for Withdrawal {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/withdrawal.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.order.0);
        put_text(out, &self.reason);
        put_long(out, i64::from(self.epoch));
        put_count(out, self.counter);
        put_long(out, self.at_ms);
        put_text(out, &self.key_id);
        out.extend_from_slice(&self.signature);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let withdrawal = Self {
            order: OrderId(from.fixed("order")?),
            reason: from.owned_text("reason")?,
            epoch: from.number("epoch")?,
            counter: from.count("counter")?,
            at_ms: from.long("at_ms")?,
            key_id: from.owned_text("key_id")?,
            signature: from.fixed("signature")?,
        };
        from.finish()?;
        Ok(withdrawal)
    }
}
