//! What a slot knows and does inside one transaction: takes records as they are read, decides,
//! writes; at the end writes summaries, answers and the state of every lane that it touched.
//! Knows no clock, no loop and no retries: see `slot.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use mz_bus::{Polled, Record, TxProducer};
use mz_journal::{
    AuditCause, AuditCounts, AuditKind, Grant, GrantRef, GrantStatus, Record as _, topics,
};
use mz_policy::{Asks, Change, GrantsIndex, Now, REFETCH};
use mz_seal::Verifier;

use crate::answers;
use crate::backfill::Backfills;
use crate::error::Error;
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
    /// Topic last seen, with what it is.
    route: (String, Route),
}

/// What a topic's records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Source(usize),
    Grants,
    Facts,
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
            route: (String::new(), Route::Unknown),
            plan,
        }
    }

    /// Something waits that a transaction must begin for although no source record came.
    pub(crate) fn wants_transaction(&self) -> bool {
        self.lanes.iter().any(|lane| {
            lane.fresh_grants
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
            self.enforce_grants(at)?;
            let lane = &mut self.lanes[at];
            self.out.counts.fetches += Backfills::ask(lane, &self.plan, producer)?;
        }
        Ok(())
    }

    /// Joins what was read of `bus.grants`. Where there is no room for another backfill, what would
    /// open waits (and the recorded position with it); what restricts never does.
    fn enforce_grants(&mut self, at: usize) -> Result<(), Halt> {
        let lane = &mut self.lanes[at];
        lane.fresh_grants = false;
        if lane.pending_grants.is_empty() {
            lane.grants_position = lane.grants_read;
            return Ok(());
        }
        lane.touched = true;
        let mut waiting = VecDeque::new();
        let mut opened: Vec<Grant> = Vec::new();
        for (offset, grant) in std::mem::take(&mut lane.pending_grants) {
            // One that this contract doesn't know permits nothing now, and is kept for one that does.
            let agreement = self.plan.agreement_ix(&grant.agreement);
            let opens = grant.status == GrantStatus::Open;
            let room = lane.backfills.len() + opened.len() < crate::backfill::MAX_OPEN_BACKFILLS;
            if opens && !room {
                waiting.push_back((offset, grant));
                continue;
            }
            // Where a grant of everything was in force already, its own backfill has brought the facts.
            let ask = agreement.and_then(|at| self.asks.agreement(at as usize));
            let now_ms = self.now.ms;
            let brought = ask.is_some_and(|ask| self.grants.has_all(grant.subject, ask, now_ms));
            let change = self.grants.join(&grant).map_err(Error::from)?;
            self.out.counts.grants_read += 1;
            let due = !brought || grant.reason == REFETCH;
            if change == Change::Opened && agreement.is_some() && due {
                opened.push(grant);
            }
        }
        lane.grants_position = waiting
            .front()
            .map_or(lane.grants_read, |(offset, _)| *offset);
        lane.pending_grants = waiting;
        for grant in opened {
            // Closed by what was read behind it: nothing is due.
            let held = self.grants.get(grant.subject, grant.id);
            if held.is_some_and(|held| held.bar(self.now.ms).is_none()) {
                lane.backfills.open(&grant);
            }
        }
        Ok(())
    }

    /// Takes one thing that was read. After a failure nothing more is taken: see [`Self::halt`].
    pub(crate) fn take(&mut self, producer: &mut TxProducer, polled: Polled<'_>) {
        if self.halt.is_some() {
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
            Route::Unknown => Ok(()),
        }
    }

    /// A grant was read: it waits for the start of the next transaction.
    pub(crate) fn grant(&mut self, at: usize, record: &Record<'_>) -> Result<(), Error> {
        let lane = &mut self.lanes[at];
        if record.offset < lane.grants_read {
            return Ok(());
        }
        if let Some(grant) = read_grant(lane.lane, record)? {
            let grant = grant.to_owned();
            lane.unread_cases.remove(&grant.id);
            lane.pending_grants.push_back((record.offset, grant));
            lane.fresh_grants = true;
        }
        lane.grants_read = record.offset + 1;
        Ok(())
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
    }

    /// One summary per agreement and dataset (or answer) that matched anything.
    fn summaries(&mut self, producer: &mut TxProducer, at: usize) -> Result<(), Halt> {
        let Self {
            plan,
            keys,
            lanes,
            out,
            now,
            ..
        } = self;
        let lane = &mut lanes[at];
        let mut w = Writer {
            producer,
            plan,
            keys,
            out,
            now: *now,
        };
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

/// A grant as it lies in `bus.grants`; `None` for a tombstone (forgotten after its time).
pub(crate) fn read_grant<'r>(
    lane: u16,
    record: &Record<'r>,
) -> Result<Option<GrantRef<'r>>, Error> {
    let Some(value) = record.value else {
        return Ok(None);
    };
    let grant = GrantRef::read(value).map_err(|source| Error::StateMalformed {
        topic: topics::GRANTS,
        lane,
        offset: record.offset,
        source,
    })?;
    Ok(Some(grant))
}
