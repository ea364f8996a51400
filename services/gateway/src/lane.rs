//! One lane in the owner's memory: positions, sequences, numbering. It equals the lane's committed
//! `bus.state` record plus what the open transaction did; an abort throws it away.

use std::collections::VecDeque;

use mz_journal::{
    AuditWriter, Chain, DeliveryPosition, Grant, GrantId, Position, State, StreamSequence,
    SubjectTag, topics,
};
use rustc_hash::FxHashMap;

use crate::backfill::Backfills;
use crate::plan::Plan;
use crate::sequence::Sequence;
use crate::superseded::Reports;

/// How far one consumer topic is written in this lane.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OutputState {
    pub last_seq: u64,
    /// Everything below was told apart into delivered and exposed.
    pub floor: i64,
    /// Sequence when `floor` was last moved.
    pub floor_seq: u64,
    /// When the bus last signed this topic's sequence.
    pub marked_ms: i64,
}

/// Outcomes of one transaction for one agreement and dataset (or answer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub delivered: u32,
    pub denied: u32,
    pub out_of_scope: u32,
    /// Source offsets; meaningless while nothing matched.
    pub from: i64,
    pub to: i64,
}

impl Tally {
    pub(crate) fn matched(&self) -> u32 {
        self.delivered + self.denied + self.out_of_scope
    }

    /// Widens the range of source offsets. Call before counting.
    pub(crate) fn at(&mut self, offset: i64) -> &mut Self {
        if self.matched() == 0 {
            (self.from, self.to) = (offset, offset);
        } else {
            self.from = self.from.min(offset);
            self.to = self.to.max(offset);
        }
        self
    }
}

pub(crate) struct Lane {
    pub lane: u16,
    /// Next offset of each source, by index in the plan; `None` before the first.
    pub positions: Vec<Option<i64>>,
    pub facts_position: Option<i64>,
    pub orders_position: Option<i64>,
    pub sequences: Vec<Sequence>,
    pub outputs: Vec<OutputState>,
    pub chain: Chain,
    /// What the open transaction decides with: every grant below this offset.
    pub grants_position: i64,
    /// Next offset of `bus.grants` to read.
    pub grants_read: i64,
    /// Read, with their offsets, not yet in force: that happens at the start of a transaction.
    pub pending_grants: VecDeque<(i64, Grant)>,
    /// Some of them have not met a transaction's start yet.
    pub fresh_grants: bool,
    /// Cases that this slot opened in this very lane and has not read back, so that an event that
    /// closes them finds them.
    pub unread_cases: FxHashMap<GrantId, Grant>,
    pub backfills: Backfills,
    pub superseded: Reports,
    /// The next transaction says that another contract came into force.
    pub announce: bool,
    /// Read to its end: each source, then grants, facts and orders.
    pub at_end: Vec<bool>,
    /// The open transaction must record this lane.
    pub touched: bool,
    pub streamed: Vec<Tally>,
    pub backfilled: Vec<Tally>,
    /// What the state says about topics and streams that this contract doesn't know: kept as is,
    /// so that an agreement that comes back goes on where it stopped.
    foreign: Foreign,
}

/// Topics of the bus that a slot reads besides sources: grants, facts, orders.
pub(crate) const BUS_TOPICS: usize = 3;

#[derive(Default)]
struct Foreign {
    positions: Vec<Position>,
    sequences: Vec<StreamSequence>,
    deliveries: Vec<DeliveryPosition>,
}

impl Lane {
    /// The lane as its committed state says; a lane without one starts from nothing.
    pub(crate) fn restore(lane: u16, state: Option<State>, plan: &Plan) -> Self {
        let state = state.unwrap_or_default();
        let mut restored = Self {
            lane,
            positions: vec![None; plan.sources.len()],
            facts_position: None,
            orders_position: None,
            sequences: vec![Sequence::default(); plan.streams.len()],
            outputs: vec![OutputState::default(); plan.outputs.len()],
            chain: Chain::resume(
                AuditWriter::Gateway,
                lane,
                state.audit_number,
                state.audit_chain,
            ),
            grants_position: state.grants_position,
            grants_read: state.grants_position,
            pending_grants: VecDeque::new(),
            fresh_grants: false,
            unread_cases: FxHashMap::default(),
            backfills: Backfills::restore(&state.open_backfills),
            superseded: Reports::restore(state.superseded, plan),
            announce: false,
            at_end: vec![false; plan.sources.len() + BUS_TOPICS],
            touched: false,
            streamed: vec![Tally::default(); plan.outputs.len()],
            backfilled: vec![Tally::default(); plan.outputs.len()],
            foreign: Foreign::default(),
        };
        for position in state.positions {
            if position.topic == topics::FACTS {
                restored.facts_position = Some(position.next_offset);
            } else if position.topic == topics::ORDERS {
                restored.orders_position = Some(position.next_offset);
            } else if let Some(at) = plan.source_ix(&position.topic) {
                restored.positions[at] = Some(position.next_offset);
            } else {
                restored.foreign.positions.push(position);
            }
        }
        for sequence in state.sequences {
            match plan.streams.iter().position(|s| *s == sequence.stream) {
                Some(at) => restored.sequences[at] = Sequence::restore(&sequence),
                None => restored.foreign.sequences.push(sequence),
            }
        }
        for delivery in state.deliveries {
            match plan
                .outputs
                .iter()
                .position(|o| o.topic == delivery.out_topic)
            {
                Some(at) => {
                    restored.outputs[at] = OutputState {
                        last_seq: delivery.last_seq,
                        floor: delivery.output_offset_floor,
                        floor_seq: 0,
                        marked_ms: 0,
                    };
                }
                None => restored.foreign.deliveries.push(delivery),
            }
        }
        restored
    }

    /// The record that makes the open transaction exactly once.
    pub(crate) fn record(&self, plan: &Plan, at_ms: i64) -> State {
        let mut positions = self.foreign.positions.clone();
        let known = self.positions.iter().zip(&plan.sources);
        positions.extend(known.filter_map(|(position, source)| {
            Some(Position {
                topic: source.topic.clone(),
                next_offset: (*position)?,
            })
        }));
        let own = [
            (topics::FACTS, self.facts_position),
            (topics::ORDERS, self.orders_position),
        ];
        positions.extend(own.into_iter().filter_map(|(topic, position)| {
            Some(Position {
                topic: topic.to_owned(),
                next_offset: position?,
            })
        }));
        let mut sequences = self.foreign.sequences.clone();
        let known = self.sequences.iter().zip(&plan.streams);
        sequences.extend(
            known
                .filter(|(sequence, _)| **sequence != Sequence::default())
                .map(|(sequence, stream)| sequence.record(stream)),
        );
        let mut deliveries = self.foreign.deliveries.clone();
        let known = self.outputs.iter().zip(&plan.outputs);
        deliveries.extend(
            known
                .filter(|(state, _)| state.last_seq > 0 || state.floor > 0)
                .map(|(state, output)| DeliveryPosition {
                    out_topic: output.topic.clone(),
                    last_seq: state.last_seq,
                    output_offset_floor: state.floor,
                }),
        );
        State {
            lane: self.lane,
            positions,
            sequences,
            deliveries,
            audit_number: self.chain.number(),
            audit_chain: *self.chain.digest(),
            grants_position: self.grants_position,
            open_backfills: self.backfills.record(),
            superseded: self.superseded.record(plan),
            contract: plan.contract.digest,
            at_ms,
        }
    }

    /// The same lane between two transactions, laid out for another contract. What the new one doesn't
    /// know is kept as a state keeps it.
    pub(crate) fn remap(mut self, from: &Plan, to: &Plan) -> Self {
        let state = self.record(from, 0);
        let mut lane = Self::restore(self.lane, Some(state), to);
        self.backfills.remap(from, to);
        lane.backfills = self.backfills;
        lane.grants_read = self.grants_read;
        lane.pending_grants = self.pending_grants;
        lane.fresh_grants = self.fresh_grants;
        lane.unread_cases = self.unread_cases;
        lane
    }

    /// Cases of the person that were opened here and not read back yet.
    pub(crate) fn unread_of(&self, subject: SubjectTag, agreement: &str) -> Vec<Grant> {
        self.unread_cases
            .values()
            .filter(|grant| grant.subject == subject && grant.agreement == agreement)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mz_contract::{Contract, Mode};
    use mz_journal::{OpenBackfill, RecordTag, Superseded};
    use mz_keys::{AuditKey, PlacementKey, PseudonymKey, SecretKey, SubjectKey};
    use mz_seal::testing::TestSigner;
    use std::path::Path;
    use std::sync::Arc;

    use crate::options::Keys;

    fn plan() -> Plan {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
        let secret = SecretKey::generate().unwrap();
        let keys = Keys {
            placement: PlacementKey::new(&secret),
            subject: SubjectKey::new(&secret),
            pseudonym: PseudonymKey::new(&secret),
            audit: AuditKey::new(&secret),
            signer: Box::new(TestSigner::new("bus-seal-1", [1; 32])),
        };
        Plan::new(Arc::new(Contract::load(&root, Mode::Draft).unwrap()), &keys)
    }

    #[test]
    fn a_state_comes_back_whole_with_what_this_contract_does_not_know() {
        let plan = plan();
        let stream = |name: &str| StreamSequence {
            stream: name.to_owned(),
            epoch: 2,
            last: 9,
            missing: vec![(3, 4)],
        };
        let position = |topic: &str| Position {
            topic: topic.to_owned(),
            next_offset: 7,
        };
        let delivery = |topic: &str| DeliveryPosition {
            out_topic: topic.to_owned(),
            last_seq: 5,
            output_offset_floor: 6,
        };
        let report = |topic: &str| Superseded {
            out_topic: topic.to_owned(),
            subject: SubjectTag([4; 16]),
            record: RecordTag([5; 16]),
            epoch: 1,
            counter: 8,
        };
        let mut state = State {
            lane: 3,
            // What is unknown comes first, then the contract's order.
            positions: vec![
                position("src.gone.v1"),
                position(&plan.sources[1].topic),
                position(topics::FACTS),
                position(topics::ORDERS),
            ],
            sequences: vec![stream("gone/all/gone.v1"), stream(&plan.streams[0])],
            deliveries: vec![delivery("to.gone"), delivery(&plan.outputs[2].topic)],
            audit_number: 41,
            audit_chain: [8; 32],
            grants_position: 17,
            open_backfills: vec![OpenBackfill {
                grant: GrantId([1; 16]),
                subject: SubjectTag([2; 16]),
                attempt: 2,
                agreement: "police/talent-settlement".to_owned(),
            }],
            superseded: vec![report("to.gone"), report(&plan.outputs[1].topic)],
            contract: plan.contract.digest,
            at_ms: 99,
        };
        let lane = Lane::restore(3, Some(state.clone()), &plan);
        assert_eq!(lane.record(&plan, 99), state);
        // The same through another contract: what it doesn't know it keeps, and gives back.
        let mut smaller = self::plan();
        smaller.forget();
        let passed = lane.remap(&plan, &smaller).remap(&smaller, &plan);
        let mut passed = passed.record(&plan, 99);
        for list in [&mut passed.positions, &mut state.positions] {
            list.sort_by(|a, b| a.topic.cmp(&b.topic));
        }
        assert_eq!(passed, state);
        let fresh = Lane::restore(3, None, &plan).record(&plan, 99);
        assert!(fresh.positions.is_empty() && fresh.sequences.is_empty());
        assert_eq!(
            (fresh.lane, fresh.audit_number, fresh.grants_position),
            (3, 0, 0)
        );
    }

    #[test]
    fn a_tally_spans_the_offsets_that_it_counts() {
        let mut tally = Tally::default();
        tally.at(9).delivered += 1;
        tally.at(4).denied += 1;
        tally.at(6).out_of_scope += 1;
        assert_eq!((tally.matched(), tally.from, tally.to), (3, 4, 9));
    }
}
