//! What a slot keeps per lane and commits with everything it writes: positions on the bus's own
//! topics, the audit chain, and the grants position that its decisions rest on.

use std::collections::VecDeque;

use mz_journal::{Audit, AuditWriter, Chain, Fetch, InForce, Order, Position, State, topics};

pub struct LaneBook {
    pub lane: u16,
    pub chain: Chain,
    /// Backfill requests that were read and not answered, in the lane's order, with their offsets.
    pub fetches: VecDeque<(i64, Fetch)>,
    /// Next offset to read from `bus.fetch`.
    pub fetch_next: i64,
    /// Orders to erase that were read and not carried out, in the lane's order, with their offsets.
    pub orders: VecDeque<(i64, Order)>,
    /// Next offset to read from `bus.orders`.
    pub orders_next: i64,
    /// Next offset to read from `bus.grants`.
    pub grants_next: i64,
    /// The newest contract version that was read and is not in force here yet.
    pub note: Option<InForce>,
    /// Offset of the first such note: nothing at or above it is in force here.
    pub hold: Option<i64>,
    /// Positions in `bus.grants` and `bus.orders` as last committed.
    committed: (i64, i64),
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
            orders: VecDeque::new(),
            orders_next: state.and_then(|s| s.position(topics::ORDERS)).unwrap_or(0),
            grants_next,
            note: None,
            hold: None,
            committed: (-1, -1),
        }
    }

    /// Where a successor must go on in `bus.fetch`: at the first request without its answer.
    fn fetch_position(&self) -> i64 {
        self.fetches
            .front()
            .map_or(self.fetch_next, |(offset, _)| *offset)
    }

    /// The same in `bus.orders`.
    fn orders_position(&self) -> i64 {
        self.orders
            .front()
            .map_or(self.orders_next, |(offset, _)| *offset)
    }

    /// Every change in `bus.grants` below this offset is in force here.
    pub fn grants_position(&self) -> i64 {
        self.hold
            .map_or(self.grants_next, |hold| hold.min(self.grants_next))
    }

    /// A contract version was put in force at `offset`, while `version` is in force here.
    pub fn note(&mut self, offset: i64, note: InForce, version: u64) {
        if note.version <= version {
            return;
        }
        self.hold.get_or_insert(offset);
        let newest = self.note.as_ref().map_or(0, |held| held.version);
        if note.version > newest {
            self.note = Some(note);
        }
    }

    /// Whether a position moved since it was last committed.
    pub fn has_moved(&self) -> bool {
        self.committed != (self.grants_position(), self.orders_position())
    }

    /// The lane's state was committed.
    pub fn is_committed(&mut self) {
        self.committed = (self.grants_position(), self.orders_position());
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

    /// The lane's state.
    pub fn state(&self, contract: [u8; 32], at_ms: i64) -> State {
        let position = |topic: &str, next_offset| Position {
            topic: topic.to_owned(),
            next_offset,
        };
        State {
            lane: self.lane,
            positions: vec![
                position(topics::FETCH, self.fetch_position()),
                position(topics::ORDERS, self.orders_position()),
            ],
            audit_number: self.chain.number(),
            audit_chain: *self.chain.digest(),
            grants_position: self.grants_position(),
            contract,
            at_ms,
            ..State::default()
        }
    }
}
