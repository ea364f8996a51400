//! One owner of the tables at work: reads, checks, writes, and sees to what withdrawals leave to do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mz_bus::{BusError, Isolation, Polled, Reader};

use crate::batch::{Batch, Place, Position};
use crate::check::{CONTRACT_OUTDATED, Checker};
use crate::config::WhenLost;
use crate::endings::Endings;
use crate::error::Error;
use crate::limits::{
    IDLE_POSITIONS, MAX_BATCH_BYTES, MAX_BATCH_RECORDS, POLL_RECORDS, POLL_WAIT, RELEASE_EVERY,
};
use crate::receipts::Sender;
use crate::service::Service;
use crate::store::{Applied, Store};

/// One owner of the tables at work.
pub(crate) struct Session<'s> {
    service: &'s Service,
    store: Option<Store>,
    checker: Checker,
    by_topic: HashMap<String, usize>,
    /// Positions in the database.
    positions: HashMap<(usize, i32), Position>,
    /// Lanes read to their end, and how far that is.
    ends: HashMap<(usize, i32), i64>,
    idle_since: Instant,
    sender: Sender,
    /// When it was last looked for holds that have ended.
    released: Option<Instant>,
    /// Withdrawals were carried out since the backlog was counted.
    ended: bool,
}

impl<'s> Session<'s> {
    pub fn new(service: &'s Service, store: Store) -> Self {
        let options = &service.options;
        let checker = Checker::new(
            Arc::clone(&options.contract),
            options.config.agreement(),
            options.config.keep_proof,
        );
        let by_topic = service.topics.iter().cloned().zip(0..).collect();
        Self {
            service,
            store: Some(store),
            checker,
            by_topic,
            positions: HashMap::new(),
            ends: HashMap::new(),
            idle_since: Instant::now(),
            sender: Sender::new(
                options.bus.clone(),
                options.receipt_signer.clone(),
                options.config.agreement(),
            ),
            released: None,
            ended: false,
        }
    }

    pub fn run(&mut self, stop: &AtomicBool) -> Result<(), Error> {
        let mut reader = Reader::open(&self.service.options.bus, Isolation::Committed)?;
        if !self.begin(&mut reader, stop, false)? {
            return Ok(());
        }
        loop {
            let mut batch = match self.collect(&mut reader) {
                Ok(batch) => batch,
                Err(Error::Bus(BusError::OffsetLost { topic, partition })) => {
                    if self.service.options.config.when_position_lost == WhenLost::Stop {
                        return Err(Error::PositionLost {
                            topic,
                            lane: partition,
                        });
                    }
                    tracing::error!(
                        topic,
                        lane = partition,
                        "records were dropped before they were read; going on after them"
                    );
                    if !self.resume(&mut reader, stop, &topic, partition)? {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            // A delivery in a form that only a later contract knows is not refused: it waits.
            if batch.rejects.iter().any(|it| it.code == CONTRACT_OUTDATED) {
                return Err(Error::ContractOutdated);
            }
            let ending = stop.load(Ordering::Relaxed);
            let caught_up = self.ends.len() == self.positions.len();
            let done = ending || (self.service.options.once && caught_up);
            if batch.records == 0 && (done || self.idle_since.elapsed() >= IDLE_POSITIONS) {
                self.note_ends(&mut batch);
                self.idle_since = Instant::now();
            }
            if !batch.is_empty() && !self.apply(batch, &mut reader, stop)? {
                return Ok(());
            }
            if !self.attend(&mut reader, stop)? {
                return Ok(());
            }
            if ending || (done && self.settled() && !self.sender.is_flying()) {
                return Ok(());
            }
        }
    }

    /// Everything that was read is in the database.
    fn settled(&self) -> bool {
        self.ends.iter().all(|(lane, end)| {
            self.positions
                .get(lane)
                .is_some_and(|at| at.next_offset >= *end)
        })
    }

    /// Reads positions and assigns all lanes. False when asked to stop.
    fn begin(&mut self, reader: &mut Reader, stop: &AtomicBool, lost: bool) -> Result<bool, Error> {
        let service = self.service;
        let mut lost = lost;
        let positions = service.persist(stop, || {
            let Some(store) = self.store.take() else {
                return Err(Error::DatabaseTimeout);
            };
            let mut store = if lost {
                match service
                    .runtime
                    .block_on(Store::retake(&service.options.database, store))
                {
                    Ok(store) => store,
                    Err((store, error)) => {
                        self.store = Some(store);
                        return Err(error);
                    }
                }
            } else {
                store
            };
            let lanes = service.options.contract.lanes;
            let outcome = service
                .runtime
                .block_on(store.positions(&service.topics, lanes));
            self.store = Some(store);
            lost = outcome.is_err();
            outcome
        })?;
        let Some(positions) = positions else {
            return Ok(false);
        };
        self.positions = positions;
        self.assign(reader, None)?;
        Ok(true)
    }

    /// `forgotten`: a lane whose stored position is gone from the topic.
    fn assign(
        &mut self,
        reader: &mut Reader,
        forgotten: Option<(usize, i32)>,
    ) -> Result<(), Error> {
        self.ends.clear();
        let lanes: Vec<(&str, i32, mz_bus::Position)> = self
            .positions
            .iter()
            .map(|((target, lane), position)| {
                let from = match position.next_offset {
                    offset if offset >= 0 && forgotten != Some((*target, *lane)) => {
                        mz_bus::Position::Offset(offset)
                    }
                    _ => mz_bus::Position::Beginning,
                };
                (self.service.topics[*target].as_str(), *lane, from)
            })
            .collect();
        reader.assign(&lanes)?;
        Ok(())
    }

    /// Starts a lane over at the first record that is there; its sequence shows what is missing.
    fn resume(
        &mut self,
        reader: &mut Reader,
        stop: &AtomicBool,
        topic: &str,
        lane: i32,
    ) -> Result<bool, Error> {
        if !self.begin(reader, stop, false)? {
            return Ok(false);
        }
        let target = self.by_topic.get(topic).copied().unwrap_or_default();
        self.assign(reader, Some((target, lane)))?;
        Ok(true)
    }

    /// Reads and checks what is there, up to a batch.
    fn collect(&mut self, reader: &mut Reader) -> Result<Batch, Error> {
        let mut batch = Batch::new(self.service.targets.len());
        let mut patience = POLL_WAIT;
        let now_ms = now_ms();
        while batch.records < MAX_BATCH_RECORDS && batch.bytes < MAX_BATCH_BYTES {
            let handed = reader.poll(POLL_RECORDS, patience, |polled| match polled {
                Polled::Record(record) => {
                    let Some(target) = self.by_topic.get(record.topic).copied() else {
                        return;
                    };
                    let lane = record.partition;
                    self.ends.remove(&(target, lane));
                    let Some(position) = self.positions.get(&(target, lane)).copied() else {
                        return;
                    };
                    batch.bytes += record.value.map_or(0, <[u8]>::len);
                    let place = Place {
                        target,
                        lane,
                        offset: record.offset,
                        timestamp_ms: record.timestamp_ms,
                    };
                    let received = self.checker.check(&self.service.targets[target], &record);
                    batch.add(place, received, position, now_ms);
                }
                Polled::Eof {
                    topic,
                    partition,
                    next_offset,
                } => {
                    if let Some(target) = self.by_topic.get(topic) {
                        self.ends.insert((*target, partition), next_offset);
                    }
                }
            })?;
            if handed == 0 {
                break;
            }
            // More may be at hand, but nothing is waited for any more: latency before size.
            patience = Duration::ZERO;
        }
        Ok(batch)
    }

    /// Lanes that are read to their end move past what is no record (transaction marks), so
    /// that the topic's retention never overtakes an idle position.
    fn note_ends(&self, batch: &mut Batch) {
        for ((target, lane), end) in &self.ends {
            if let Some(position) = self.positions.get(&(*target, *lane))
                && position.next_offset < *end
            {
                batch.caught_up(*target, *lane, *end, *position);
            }
        }
    }

    /// Writes a batch. When the database is lost, the batch is forgotten, and reading starts
    /// over from the positions that the database has: also when a commit's answer was lost.
    fn apply(
        &mut self,
        batch: Batch,
        reader: &mut Reader,
        stop: &AtomicBool,
    ) -> Result<bool, Error> {
        let service = self.service;
        let Some(store) = self.store.as_mut() else {
            return Ok(false);
        };
        match service
            .runtime
            .block_on(store.apply(&service.targets, &batch))
        {
            Ok(applied) => {
                for step in batch.steps.values() {
                    self.positions.insert((step.target, step.lane), step.now);
                }
                if applied.endings != Endings::default() {
                    self.ended = true;
                    self.sender.note();
                }
                self.count(&batch, &applied);
                Ok(true)
            }
            Err(error) => self.lost(error, reader, stop),
        }
    }

    /// Connects again if that may help. What was read and not written is read again.
    fn lost(
        &mut self,
        error: Error,
        reader: &mut Reader,
        stop: &AtomicBool,
    ) -> Result<bool, Error> {
        if !error.is_passing() {
            return Err(error);
        }
        tracing::warn!(error = %mz_bus::chain(&error), "database lost");
        // Whether an acknowledgement was written down is not known.
        self.sender.note();
        self.service.handle.with(|summary| summary.reconnects += 1);
        self.begin(reader, stop, true)
    }

    /// Frozen records whose hold has ended, and receipts that are due.
    fn attend(&mut self, reader: &mut Reader, stop: &AtomicBool) -> Result<bool, Error> {
        match self.try_attend() {
            Ok(()) => Ok(true),
            Err(error) => self.lost(error, reader, stop),
        }
    }

    fn try_attend(&mut self) -> Result<(), Error> {
        let (runtime, handle) = (&self.service.runtime, &self.service.handle);
        let Some(store) = self.store.as_mut() else {
            return Ok(());
        };
        let mut changed = false;
        if self
            .released
            .is_none_or(|last| last.elapsed() >= RELEASE_EVERY)
        {
            let released = runtime.block_on(store.release())?;
            changed |= self.released.is_none();
            self.released = Some(Instant::now());
            if released > 0 {
                tracing::info!(records = released, "frozen records deleted");
                handle.with(|summary| summary.released += released);
                self.sender.note();
                changed = true;
            }
        }
        loop {
            if self.sender.is_due() {
                let receipts = runtime.block_on(store.unsent(self.sender.agreement()))?;
                self.sender.start(receipts);
            }
            let Some(receipts) = self.sender.acknowledged() else {
                break;
            };
            runtime.block_on(store.sent(&receipts))?;
            let count = receipts.len() as u64;
            handle.with(|summary| summary.receipts_sent += count);
            changed = true;
        }
        if changed || self.ended {
            self.ended = false;
            let backlog = runtime.block_on(store.backlog())?;
            handle.with(|summary| {
                summary.receipts_unsent = backlog.unsent;
                summary.frozen_held = backlog.frozen;
            });
        }
        Ok(())
    }

    fn count(&self, batch: &Batch, applied: &Applied) {
        let now = now_ms();
        for odd in &batch.sequences {
            let topic = &self.service.topics[odd.target];
            tracing::warn!(
                topic,
                lane = odd.lane,
                kind = odd.kind.name(),
                first = odd.first,
                last = odd.last,
                "delivery sequence"
            );
        }
        for reject in batch.rejects.iter().chain(&applied.refused) {
            let topic = &self.service.topics[reject.target];
            tracing::warn!(
                topic,
                lane = reject.lane,
                offset = reject.offset,
                code = reject.code,
                "delivery refused"
            );
        }
        self.service.handle.with(|summary| {
            summary.transactions += 1;
            for step in batch.steps.values() {
                let at = (step.target, step.lane);
                let stored = applied.stored.get(&at).copied().unwrap_or(0);
                let refused = applied
                    .refused
                    .iter()
                    .filter(|reject| (reject.target, reject.lane) == at)
                    .count() as i64;
                let rejected = step.counts.rejected + refused;
                let withdrawn =
                    step.counts.withdrawn + applied.ordered.get(&at).copied().unwrap_or(0);
                let topic = summary
                    .topics
                    .entry(self.service.topics[step.target].clone())
                    .or_default();
                topic.delivered += step.counts.delivered as u64;
                topic.stored += stored as u64;
                topic.withdrawn += withdrawn as u64;
                topic.rejected += rejected as u64;
                topic.superseded += (step.counts.delivered - stored - withdrawn - rejected) as u64;
                topic.marks += u64::from(step.mark.is_some());
            }
            for odd in &batch.sequences {
                let topic = summary
                    .topics
                    .entry(self.service.topics[odd.target].clone())
                    .or_default();
                topic.odd(odd.kind, odd.last - odd.first + 1);
            }
            for reject in batch.rejects.iter().chain(&applied.refused) {
                *summary.rejects.entry(reject.code).or_default() += 1;
            }
            summary.endings.add(applied.endings);
            for times in &batch.times {
                summary
                    .delivery_to_table
                    .record(now.saturating_sub(times.delivered_ms).max(0) as u64);
                summary
                    .event_to_table
                    .record(now.saturating_sub(times.event_ms).max(0) as u64);
            }
        });
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
