//! What a department is told and tells about its own streams: refused events, and how complete
//! and fresh each stream is.

use crate::codec::{Decoder, Record, put_count, put_long, put_text};
use crate::malformed::Malformed;

/// A refused event on `quarantine.<department>`: where it is and why, none of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// Topic of the refused event; for a row that a connector refused, the stream's name.
    pub topic: String,
    pub partition: i32,
    /// Offset of the event; for a row, its number in the input.
    pub offset: i64,
    /// Reason code (`schemas/reasons.yaml`).
    pub code: String,
    /// Where to mend it: a header, a field or a column name.
    pub place: String,
    pub at_ms: i64,
}

impl Record for Quarantine {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/quarantine.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        put_text(out, &self.topic);
        put_long(out, i64::from(self.partition));
        put_long(out, self.offset);
        put_text(out, &self.code);
        put_text(out, &self.place);
        put_long(out, self.at_ms);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let quarantine = Self {
            topic: from.owned_text("topic")?,
            partition: from.number("partition")?,
            offset: from.long("offset")?,
            code: from.owned_text("code")?,
            place: from.owned_text("place")?,
            at_ms: from.long("at_ms")?,
        };
        from.finish()?;
        Ok(quarantine)
    }
}

/// A connector's word on its stream, on `status.<department>.<stream>`, keyed by the stream's
/// name: written with each transaction and as a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    pub stream: String,
    pub epoch: u32,
    /// Last batch that is committed; 0 before the first.
    pub last_batch: u64,
    /// Every change that the register had made by then is published: a person without a record
    /// had none at that time. 0 before the first full pass.
    pub complete_to_ms: i64,
    /// Rows of the register that the last pass could not read. While there are any, a person
    /// without a record may be one of them: "none" must say so.
    pub rejected: u64,
    pub at_ms: i64,
}

impl Record for SourceStatus {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/source-status.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        put_text(out, &self.stream);
        put_long(out, i64::from(self.epoch));
        put_count(out, self.last_batch);
        put_long(out, self.complete_to_ms);
        put_count(out, self.rejected);
        put_long(out, self.at_ms);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let status = Self {
            stream: from.owned_text("stream")?,
            epoch: from.number("epoch")?,
            last_batch: from.count("last_batch")?,
            complete_to_ms: from.long("complete_to_ms")?,
            rejected: from.count("rejected")?,
            at_ms: from.long("at_ms")?,
        };
        from.finish()?;
        Ok(status)
    }
}
