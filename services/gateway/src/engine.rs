//! What a slot knows and does inside one transaction: takes records as they are read, decides,
//! writes; at the end writes summaries, answers and the state of every lane that it touched.
//! Knows no clock, no loop and no retries: see `slot.rs`.

use std::sync::Arc;
use std::time::Instant;

use mz_bus::{Polled, Record, TxProducer};
use mz_journal::{AuditCause, AuditCounts, AuditKind, InForce, Record as _, topics};
use mz_policy::{Asks, GrantsIndex, Now};
use mz_seal::Verifier;

use crate::answers;
use crate::backfill::Backfills;
use crate::lane::{Lane, Tally};
use crate::options::{Keys, Options};
use crate::outbox::{Halt, Outbox, Writer};
use crate::people::People;
use crate::plan::Plan;

/// No such lane in this slot.
const ELSEWHERE: u16 = u16::MAX;

/// A slot's memory.
pub(crate) struct Engine {
    pub plan: Arc<Plan>,
    pub keys: Arc<Keys>,
    pub lanes: Vec<Lane>,
    /// Position in `lanes` of each lane of the installation.
    at: Vec<u16>,
    pub grants: GrantsIndex,
    pub asks: Asks,
    pub verifier: Verifier,
    pub people: People,
    pub out: Outbox,
    pub now: Now,
    /// Since when the transaction is open.
    pub open_since: Option<Instant>,
    /// Why nothing more may be done in this transaction.
    pub halt: Option<Halt>,
    /// Number of the contract version in force; 0 while `bus.grants` names none.
    pub version: u64,
    /// A later one that was read: see [`Self::must_switch`].
    pub next: Option<InForce>,
    /// Topic last seen, with what it is.
    route: (String, Route),
}

/// What a topic's records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Source(usize),
    Grants,
    Facts,
    Orders,
    Unknown,
}

impl Engine {
    pub(crate) fn new(
        options: &Options,
        plan: Arc<Plan>,
        lanes: Vec<Lane>,
        mut grants: GrantsIndex,
        now: Now,
    ) -> Self {
        let asks = Asks::of(&plan.contract, &mut grants);
        let count = plan.contract.lanes;
        let mut at = vec![ELSEWHERE; usize::from(count)];
        for (index, lane) in lanes.iter().enumerate() {
            // At most MAX_LANES lanes.
            at[usize::from(lane.lane)] = index as u16;
        }
        Self {
            keys: Arc::clone(&options.keys),
            lanes,
            at,
            grants,
            asks,
            verifier: Verifier::new(),
            people: People::new(count),
            out: Outbox::default(),
            now,
            open_since: None,
            halt: None,
            version: 0,
            next: None,
            route: (String::new(), Route::Unknown),
            plan,
        }
    }

    /// Another contract is in force and no transaction is open: nothing may be decided, and nothing more
    /// is taken, until the slot has switched to it.
    pub(crate) fn must_switch(&self) -> bool {
        self.next.is_some() && self.open_since.is_none()
    }

    /// Lays everything out for another contract, between two transactions. Grants stay as they are:
    /// they are not read under any contract.
    pub(crate) fn switch(&mut self, plan: Arc<Plan>, version: u64) {
        let from = std::mem::replace(&mut self.plan, plan);
        let lanes = std::mem::take(&mut self.lanes).into_iter();
        self.lanes = lanes
            .map(|lane| {
                let mut lane = lane.remap(&from, &self.plan);
                lane.announce = true;
                lane
            })
            .collect();
        self.asks = Asks::of(&self.plan.contract, &mut self.grants);
        // Both remember what was true under the old one: signatures of keys that may be revoked now,
        // pseudonyms by the agreement's place in the contract.
        self.verifier = Verifier::new();
        self.people = People::new(self.plan.contract.lanes);
        self.route = (String::new(), Route::Unknown);
        self.version = version;
        self.next = None;
    }

    /// Something waits that a transaction must begin for although no source record came.
    pub(crate) fn wants_transaction(&self) -> bool {
        self.lanes.iter().any(|lane| {
            lane.announce
                || lane.fresh_grants
                || lane.backfills.any_stale()
                || (!lane.pending_grants.is_empty() && lane.backfills.has_room())
        })
    }

    /// Begins the transaction unless it is open: grants read so far come into force now, and the
    /// position recorded for them is the one at this moment.
    pub(crate) fn begin(&mut self, producer: &mut TxProducer) -> Result<(), Halt> {
        if self.open_since.is_some() {
            return Ok(());
        }
        producer.begin()?;
        self.open_since = Some(Instant::now());
        for at in 0..self.lanes.len() {
            self.announce(producer, at)?;
            self.enforce_grants(at)?;
            let lane = &mut self.lanes[at];
            let index = (&self.grants, &self.asks);
            self.out.counts.fetches += Backfills::ask(lane, &self.plan, index, producer)?;
        }
        Ok(())
    }

    /// After a switch, the lane's first entry under the new contract says so.
    fn announce(&mut self, producer: &mut TxProducer, at: usize) -> Result<(), Halt> {
        let version = self.version;
        if !std::mem::take(&mut self.lanes[at].announce) {
            return Ok(());
        }
        let (mut w, lane) = self.writer(producer, at);
        let mut entry = w.entry(lane, AuditKind::ContractInForce, AuditCause::Rule);
        entry.reason = version.to_string().into();
        w.audit(lane, &mut entry)?;
        Ok(())
    }

    /// The open transaction and one of its lanes.
    pub(crate) fn writer<'e>(
        &'e mut self,
        producer: &'e mut TxProducer,
        at: usize,
    ) -> (Writer<'e>, &'e mut Lane) {
        let w = Writer {
            producer,
            plan: &self.plan,
            keys: &self.keys,
            out: &mut self.out,
            now: self.now,
        };
        (w, &mut self.lanes[at])
    }

    /// Takes one thing that was read. After a failure nothing more is taken: see [`Self::halt`].
    pub(crate) fn take(&mut self, producer: &mut TxProducer, polled: Polled<'_>) {
        // What is not taken now is read again after the switch: positions stay where they are.
        if self.halt.is_some() || self.must_switch() {
            return;
        }
        let outcome = match polled {
            Polled::Record(record) => self.take_record(producer, &record),
            Polled::Eof {
                topic,
                partition,
                next_offset,
            } => {
                self.reach(topic, partition, next_offset);
                Ok(())
            }
        };
        if let Err(halt) = outcome {
            self.halt = Some(halt);
        }
    }

    fn take_record(&mut self, producer: &mut TxProducer, record: &Record<'_>) -> Result<(), Halt> {
        let Some(at) = self.lane_at(record.partition) else {
            return Ok(());
        };
        let route = self.route(record.topic);
        self.set_end(at, route, false);
        match route {
            Route::Source(source) => {
                if self.lanes[at].positions[source].is_some_and(|next| record.offset < next) {
                    return Ok(());
                }
                self.begin(producer)?;
                self.source_event(producer, at, source, record)?;
                let lane = &mut self.lanes[at];
                lane.positions[source] = Some(record.offset + 1);
                lane.touched = true;
                self.out.counts.events += 1;
                Ok(())
            }
            Route::Grants => self.grant(at, record).map_err(Halt::Error),
            Route::Facts => {
                self.begin(producer)?;
                self.fact(producer, at, record)?;
                let lane = &mut self.lanes[at];
                lane.facts_position = Some(record.offset + 1);
                lane.touched = true;
                Ok(())
            }
            Route::Orders => {
                if self.lanes[at]
                    .orders_position
                    .is_some_and(|next| record.offset < next)
                {
                    return Ok(());
                }
                self.begin(producer)?;
                self.order(producer, at, record)?;
                let lane = &mut self.lanes[at];
                lane.orders_position = Some(record.offset + 1);
                lane.touched = true;
                Ok(())
            }
            Route::Unknown => Ok(()),
        }
    }

    /// A partition was read to its end: positions move past control records too.
    fn reach(&mut self, topic: &str, partition: i32, next_offset: i64) {
        let Some(at) = self.lane_at(partition) else {
            return;
        };
        let route = self.route(topic);
        self.set_end(at, route, true);
        let lane = &mut self.lanes[at];
        match route {
            Route::Source(source) => {
                if let Some(position) = &mut lane.positions[source] {
                    *position = next_offset.max(*position);
                }
            }
            Route::Grants => lane.grants_read = next_offset.max(lane.grants_read),
            Route::Facts => {
                if let Some(position) = &mut lane.facts_position {
                    *position = next_offset.max(*position);
                }
            }
            Route::Orders => {
                if let Some(position) = &mut lane.orders_position {
                    *position = next_offset.max(*position);
                }
            }
            Route::Unknown => {}
        }
    }

    /// Everything that closes the transaction's books, but the commit itself.
    pub(crate) fn finish(&mut self, producer: &mut TxProducer) -> Result<(), Halt> {
        for at in 0..self.lanes.len() {
            if !self.lanes[at].touched {
                continue;
            }
            self.summaries(producer, at)?;
            let lane = &mut self.lanes[at];
            if !self.out.answers.is_empty() {
                let number = lane.chain.number();
                let waiting = &mut self.out.answers;
                answers::flush(waiting, lane.lane, number, &self.plan, &self.keys, producer)?;
            }
            let state = lane.record(&self.plan, self.now.ms);
            producer.send(
                topics::STATE,
                i32::from(lane.lane),
                &topics::state_key(topics::SlotKind::Gateway, lane.lane),
                Some(&state.encode()),
                &[],
            )?;
        }
        Ok(())
    }

    /// The transaction is committed: the next one starts clean.
    pub(crate) fn committed(&mut self) {
        for lane in &mut self.lanes {
            if lane.touched {
                lane.touched = false;
                lane.streamed.fill(Tally::default());
                lane.backfilled.fill(Tally::default());
            }
        }
        self.open_since = None;
        self.out.counts = crate::stats::Counts::default();
        self.out.refused.clear();
        self.out.declined.clear();
    }

    /// One summary per agreement and dataset (or answer) that matched anything.
    fn summaries(&mut self, producer: &mut TxProducer, at: usize) -> Result<(), Halt> {
        let (mut w, lane) = self.writer(producer, at);
        let plan = w.plan;
        for (index, output) in plan.outputs.iter().enumerate() {
            for (cause, tally) in [
                (AuditCause::Stream, lane.streamed[index]),
                (AuditCause::Backfill, lane.backfilled[index]),
            ] {
                if tally.matched() == 0 {
                    continue;
                }
                let agreement = plan.agreement(output.agreement);
                let mut entry = w.entry(lane, AuditKind::Summary, cause);
                entry.agreement = agreement.id.as_str().into();
                entry.consumer = agreement.consumer.as_str().into();
                entry.purpose = agreement.purpose.as_str().into();
                entry.dataset = output.label.as_str().into();
                entry.counts = AuditCounts {
                    matched: tally.matched(),
                    delivered: tally.delivered,
                    denied: tally.denied,
                    out_of_scope: tally.out_of_scope,
                    from_offset: tally.from,
                    to_offset: tally.to,
                };
                w.out.counts.out_of_scope += u64::from(tally.out_of_scope);
                w.out.counts.denied += u64::from(tally.denied);
                w.audit(lane, &mut entry)?;
            }
        }
        Ok(())
    }

    fn set_end(&mut self, at: usize, route: Route, end: bool) {
        let sources = self.plan.sources.len();
        let slot = match route {
            Route::Source(source) => source,
            Route::Grants => sources,
            Route::Facts => sources + 1,
            Route::Orders => sources + 2,
            Route::Unknown => return,
        };
        self.lanes[at].at_end[slot] = end;
    }

    /// Every partition was read to its end and nothing came since.
    pub(crate) fn at_end(&self) -> bool {
        self.lanes
            .iter()
            .all(|lane| lane.at_end.iter().all(|end| *end))
    }

    pub(crate) fn lane_at(&self, partition: i32) -> Option<usize> {
        let at = *self.at.get(usize::try_from(partition).ok()?)?;
        (at != ELSEWHERE).then_some(usize::from(at))
    }

    fn route(&mut self, topic: &str) -> Route {
        if self.route.0 != topic {
            let route = match topic {
                topics::GRANTS => Route::Grants,
                topics::FACTS => Route::Facts,
                topics::ORDERS => Route::Orders,
                other => self
                    .plan
                    .source_ix(other)
                    .map_or(Route::Unknown, Route::Source),
            };
            self.route = (topic.to_owned(), route);
        }
        self.route.1
    }
}
