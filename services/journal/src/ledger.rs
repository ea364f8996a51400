//! How far a ledger's log is committed: what a ledger starts from, and the only thing that it signs
//! checkpoints for.

use crate::Digest;
use crate::audit::{AUDIT_WRITERS, AuditWriter};
use crate::chain::Chain;
use crate::codec::{Decoder, Record, put_count, put_list, put_long, put_text};
use crate::malformed::Malformed;

/// Next offset to read from `bus.audit` in one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerPosition {
    pub lane: u16,
    pub next_offset: i64,
}

/// One shard of the ledger, at the end of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LedgerState {
    pub shard: u16,
    /// Of the open log: `<bus>/audit/<shard>/<period>`.
    pub origin: String,
    /// Entries of the open log.
    pub size: u64,
    /// RFC 6962 tree head over them.
    pub root: Digest,
    pub positions: Vec<LedgerPosition>,
    /// Where each writer's records of each lane have got to.
    pub chains: Vec<Chain>,
    pub at_ms: i64,
    /// Kafka's id of `bus.audit`: positions in a topic that was made anew mean nothing. Zeros: not known.
    pub topic: [u8; 16],
}

impl LedgerState {
    pub fn position(&self, lane: u16) -> Option<i64> {
        let mut positions = self.positions.iter();
        let found = positions.find(|position| position.lane == lane)?;
        Some(found.next_offset)
    }
}

impl Record for LedgerState {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/ledger.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        put_long(out, i64::from(self.shard));
        put_text(out, &self.origin);
        put_count(out, self.size);
        out.extend_from_slice(&self.root);
        put_list(out, &self.positions, |out, position| {
            put_long(out, i64::from(position.lane));
            put_long(out, position.next_offset);
        });
        put_list(out, &self.chains, |out, chain| {
            put_long(out, chain.writer() as i64);
            put_long(out, i64::from(chain.lane()));
            put_count(out, chain.number());
            out.extend_from_slice(chain.digest());
        });
        put_long(out, self.at_ms);
        out.extend_from_slice(&self.topic);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let state = Self {
            shard: from.number("shard")?,
            origin: from.owned_text("origin")?,
            size: from.count("size")?,
            root: from.fixed("root")?,
            positions: from.list("positions", |from| {
                Ok(LedgerPosition {
                    lane: from.number("positions.lane")?,
                    next_offset: from.long("positions.next_offset")?,
                })
            })?,
            chains: from.list("chains", |from| {
                let writer: AuditWriter =
                    AUDIT_WRITERS[from.branch("chains.writer", AUDIT_WRITERS.len())?];
                Ok(Chain::resume(
                    writer,
                    from.number("chains.lane")?,
                    from.count("chains.number")?,
                    from.fixed("chains.digest")?,
                ))
            })?,
            at_ms: from.long("at_ms")?,
            topic: match from.is_done() {
                true => [0; 16],
                false => from.fixed("topic")?,
            },
        };
        from.finish()?;
        Ok(state)
    }
}
