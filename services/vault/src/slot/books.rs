//! What a slot keeps per lane and commits with everything it writes: positions on the bus's own
//! topics, the audit chain, and the grants position that its decisions rest on.

use std::collections::VecDeque;

use mz_journal::{Audit, AuditWriter, Chain, Fetch, Position, State, topics};

pub struct LaneBook {
    pub lane: u16,
    pub chain: Chain,
    /// Backfill requests that were read and not answered, in the lane's order, with their offsets.
    pub fetches: VecDeque<(i64, Fetch)>,
    /// Next offset to read from `bus.fetch`.
    pub fetch_next: i64,
    /// Next offset to read from `bus.grants`: every change below it is in force here.
    pub grants_next: i64,
    /// `grants_next` as last committed.
    pub grants_committed: i64,
}

impl LaneBook {
    /// From the last committed state; a lane nobody ever owned has none.
    pub fn open(lane: u16, state: Option<&State>, grants_next: i64) -> Self {
        let (number, digest) = state.map_or((0, mz_journal::CHAIN_START), |s| {
            (s.audit_number, s.audit_chain)
        });
        Self {
            lane,
            chain: Chain::resume(AuditWriter::Vault, lane, number, digest),
            fetches: VecDeque::new(),
            fetch_next: state.and_then(|s| s.position(topics::FETCH)).unwrap_or(0),
            grants_next,
            grants_committed: -1,
        }
    }

    /// Where a successor must go on in `bus.fetch`: at the first request without its answer.
    fn fetch_position(&self) -> i64 {
        self.fetches
            .front()
            .map_or(self.fetch_next, |(offset, _)| *offset)
    }

    /// Numbers and links `audit`; returns the record's key and bytes.
    pub fn write_audit(
        &mut self,
        audit: &mut Audit<'_>,
    ) -> ([u8; topics::AUDIT_KEY_BYTES], Vec<u8>) {
        let mut bytes = Vec::with_capacity(512);
        self.chain.append(audit, &mut bytes);
        (
            topics::audit_key(AuditWriter::Vault, self.lane, audit.number),
            bytes,
        )
    }

    /// The lane's state as of a transaction that began when `bus.grants` was read to
    /// `grants_position`.
    pub fn state(&self, grants_position: i64, contract: [u8; 32], at_ms: i64) -> State {
        State {
            lane: self.lane,
            positions: vec![Position {
                topic: topics::FETCH.to_owned(),
                next_offset: self.fetch_position(),
            }],
            audit_number: self.chain.number(),
            audit_chain: *self.chain.digest(),
            grants_position,
            contract,
            at_ms,
            ..State::default()
        }
    }
}
