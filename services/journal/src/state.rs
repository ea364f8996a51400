//! Where a slot is in one lane: the single record that makes a transaction exactly once. Written
//! in every transaction that touches the lane, read by whoever takes the slot next.

use crate::Digest;
use crate::codec::{Decoder, Record, put_count, put_list, put_long, put_text};
use crate::malformed::Malformed;
use crate::tags::{GrantId, RecordTag, SubjectTag};

/// Next offset to read from one source topic in this lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub topic: String,
    pub next_offset: i64,
}

/// How far one stream's sequence has been seen in this lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSequence {
    /// `<department>/<stream>/<dataset id>`.
    pub stream: String,
    pub epoch: u32,
    /// Highest sequence seen in this epoch.
    pub last: u64,
    /// Ranges below `last` that never came, ascending, both ends included.
    pub missing: Vec<(u64, u64)>,
}

/// How far one consumer topic has been written in this lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryPosition {
    pub out_topic: String,
    /// Last delivery sequence used.
    pub last_seq: u64,
    /// Offset from which a new owner scans for what readers of uncommitted data may have seen.
    pub output_offset_floor: i64,
}

/// A grant whose earlier facts were asked for and have not all come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBackfill {
    pub grant: GrantId,
    pub subject: SubjectTag,
    /// From 1; replies to another attempt are dropped.
    pub attempt: u32,
    pub agreement: String,
}

/// An update that a row filter left out, whose earlier version the consumer may hold. Remembered
/// until consent, which knows who holds what, orders a withdrawal or says that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superseded {
    pub out_topic: String,
    pub subject: SubjectTag,
    /// The bus's own tag of the record.
    pub record: RecordTag,
    pub epoch: u32,
    pub counter: u64,
}

/// One lane of one slot kind, at the end of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct State {
    pub lane: u16,
    pub positions: Vec<Position>,
    pub sequences: Vec<StreamSequence>,
    pub deliveries: Vec<DeliveryPosition>,
    /// Last audit number used in this lane; 0 before the first.
    pub audit_number: u64,
    /// The audit chain after that record.
    pub audit_chain: Digest,
    /// Position in `bus.grants` at the start of the transaction: what it decided, it decided
    /// with every change below this offset.
    pub grants_position: i64,
    pub open_backfills: Vec<OpenBackfill>,
    pub superseded: Vec<Superseded>,
    pub contract: Digest,
    pub at_ms: i64,
}

impl State {
    pub fn position(&self, topic: &str) -> Option<i64> {
        self.positions
            .iter()
            .find(|position| position.topic == topic)
            .map(|position| position.next_offset)
    }
}

impl Record for State {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/state.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        put_long(out, i64::from(self.lane));
        put_list(out, &self.positions, |out, position| {
            put_text(out, &position.topic);
            put_long(out, position.next_offset);
        });
        put_list(out, &self.sequences, |out, sequence| {
            put_text(out, &sequence.stream);
            put_long(out, i64::from(sequence.epoch));
            put_count(out, sequence.last);
            put_list(out, &sequence.missing, |out, (first, last)| {
                put_count(out, *first);
                put_count(out, *last);
            });
        });
        put_list(out, &self.deliveries, |out, delivery| {
            put_text(out, &delivery.out_topic);
            put_count(out, delivery.last_seq);
            put_long(out, delivery.output_offset_floor);
        });
        put_count(out, self.audit_number);
        out.extend_from_slice(&self.audit_chain);
        put_long(out, self.grants_position);
        put_list(out, &self.open_backfills, |out, open| {
            out.extend_from_slice(&open.grant.0);
            out.extend_from_slice(&open.subject.0);
            put_long(out, i64::from(open.attempt));
            put_text(out, &open.agreement);
        });
        put_list(out, &self.superseded, |out, old| {
            put_text(out, &old.out_topic);
            out.extend_from_slice(&old.subject.0);
            out.extend_from_slice(&old.record.0);
            put_long(out, i64::from(old.epoch));
            put_count(out, old.counter);
        });
        out.extend_from_slice(&self.contract);
        put_long(out, self.at_ms);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let state = Self {
            lane: from.number("lane")?,
            positions: from.list("positions", |from| {
                Ok(Position {
                    topic: from.owned_text("positions.topic")?,
                    next_offset: from.long("positions.next_offset")?,
                })
            })?,
            sequences: from.list("sequences", |from| {
                Ok(StreamSequence {
                    stream: from.owned_text("sequences.stream")?,
                    epoch: from.number("sequences.epoch")?,
                    last: from.count("sequences.last")?,
                    missing: from.list("sequences.missing", |from| {
                        Ok((
                            from.count("sequences.missing.first")?,
                            from.count("sequences.missing.last")?,
                        ))
                    })?,
                })
            })?,
            deliveries: from.list("deliveries", |from| {
                Ok(DeliveryPosition {
                    out_topic: from.owned_text("deliveries.out_topic")?,
                    last_seq: from.count("deliveries.last_seq")?,
                    output_offset_floor: from.long("deliveries.output_offset_floor")?,
                })
            })?,
            audit_number: from.count("audit_number")?,
            audit_chain: from.fixed("audit_chain")?,
            grants_position: from.long("grants_position")?,
            open_backfills: from.list("open_backfills", |from| {
                Ok(OpenBackfill {
                    grant: GrantId(from.fixed("open_backfills.grant")?),
                    subject: SubjectTag(from.fixed("open_backfills.subject")?),
                    attempt: from.number("open_backfills.attempt")?,
                    agreement: from.owned_text("open_backfills.agreement")?,
                })
            })?,
            superseded: from.list("superseded", |from| {
                Ok(Superseded {
                    out_topic: from.owned_text("superseded.out_topic")?,
                    subject: SubjectTag(from.fixed("superseded.subject")?),
                    record: RecordTag(from.fixed("superseded.record")?),
                    epoch: from.number("superseded.epoch")?,
                    counter: from.count("superseded.counter")?,
                })
            })?,
            contract: from.fixed("contract")?,
            at_ms: from.long("at_ms")?,
        };
        from.finish()?;
        Ok(state)
    }
}
