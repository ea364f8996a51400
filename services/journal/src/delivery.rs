//! The `mz-delivery` header: which agreement let this record through, where its audit entry is,
//! and its number in the consumer's topic and lane. About once a second the bus signs that number
//! (a mark), so that a reader can show what it had been sent by then.

use crate::Digest;
use crate::codec::{Decoder, Record, put_count, put_long, put_option, put_text};
use crate::malformed::Malformed;

/// Name of the Kafka header.
pub const DELIVERY_HEADER: &str = "mz-delivery";
/// Length in bytes of a mark's signature (both suites).
pub const SIGNATURE_BYTES: usize = 64;

/// The bus's signature over "this topic and lane had reached this sequence at this time".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub at_ms: i64,
    pub signature: [u8; SIGNATURE_BYTES],
    pub key_id: String,
}

/// Avro bytes of the header's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryHeader {
    pub agreement: String,
    pub contract: Digest,
    pub audit_lane: u16,
    pub audit_number: u64,
    /// From 1, gapless per topic and lane.
    pub sequence: u64,
    pub mark: Option<Mark>,
}

impl DeliveryHeader {
    /// Appends the header's bytes from parts: the hot path owns no `DeliveryHeader`.
    pub fn write(
        out: &mut Vec<u8>,
        agreement: &str,
        contract: &Digest,
        audit: (u16, u64),
        sequence: u64,
        mark: Option<&Mark>,
    ) {
        put_text(out, agreement);
        out.extend_from_slice(contract);
        put_long(out, i64::from(audit.0));
        put_count(out, audit.1);
        put_count(out, sequence);
        put_option(out, mark, |out, mark| {
            put_long(out, mark.at_ms);
            out.extend_from_slice(&mark.signature);
            put_text(out, &mark.key_id);
        });
    }

    /// What a mark signs: "mianzheng/mark/v1\n", u16 length and bytes of the topic, u16 lane,
    /// u64 sequence, u64 milliseconds; all big-endian.
    pub fn mark_payload(topic: &str, lane: u16, sequence: u64, at_ms: i64) -> Vec<u8> {
        let mut payload = Vec::with_capacity(64 + topic.len());
        payload.extend_from_slice(b"mianzheng/mark/v1\n");
        let length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
        payload.extend_from_slice(&length.to_be_bytes());
        payload.extend_from_slice(topic.as_bytes());
        payload.extend_from_slice(&lane.to_be_bytes());
        payload.extend_from_slice(&sequence.to_be_bytes());
        payload.extend_from_slice(&at_ms.to_be_bytes());
        payload
    }
}

impl Record for DeliveryHeader {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/delivery.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        Self::write(
            out,
            &self.agreement,
            &self.contract,
            (self.audit_lane, self.audit_number),
            self.sequence,
            self.mark.as_ref(),
        );
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let header = Self {
            agreement: from.owned_text("agreement")?,
            contract: from.fixed("contract")?,
            audit_lane: from.number("audit_lane")?,
            audit_number: from.count("audit_number")?,
            sequence: from.count("sequence")?,
            mark: from.option("mark", |from| {
                Ok(Mark {
                    at_ms: from.long("mark.at_ms")?,
                    signature: from.fixed("mark.signature")?,
                    key_id: from.owned_text("mark.key_id")?,
                })
            })?,
        };
        from.finish()?;
        Ok(header)
    }
}
