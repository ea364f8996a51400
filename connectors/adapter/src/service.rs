//! The adapter's loop: read committed deliveries, check, write; positions live in the database
//! and nowhere else, so after any loss the loop starts over from what the database says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mz_bus::{BusError, BusOptions, Isolation, Polled, Reader};
use mz_contract::Contract;

use crate::batch::{Batch, Place, Position};
use crate::check::Checker;
use crate::config::{Config, OnWithdrawal, WhenLost};
use crate::error::Error;
use crate::limits::{
    IDLE_POSITIONS, MAX_BATCH_BYTES, MAX_BATCH_RECORDS, POLL_RECORDS, POLL_WAIT, RETRY_FIRST,
    RETRY_LONGEST,
};
use crate::store::{Applied, Database, Store};
use crate::summary::Summary;
use crate::target::{Target, targets};

/// Everything that an adapter needs.
#[derive(Clone)]
pub struct Options {
    /// As the principal [`Config::principal`].
    pub bus: BusOptions,
    pub contract: Arc<Contract>,
    pub config: Config,
    pub database: Database,
    /// End once everything that is in the topics has been read.
    pub once: bool,
}

impl Options {
    /// `fallback_url`: the installation's own database, for a configuration that names none.
    pub fn new(
        bus: BusOptions,
        contract: Arc<Contract>,
        config: Config,
        fallback_url: Option<&str>,
    ) -> Result<Self, Error> {
        let url = config.database_url()?;
        let url = url
            .as_deref()
            .or(fallback_url)
            .ok_or_else(|| Error::DatabaseUrl {
                place: "database".into(),
                detail: "neither url_file nor url_env is given".into(),
            })?;
        let default = format!("{}_{}", config.consumer, config.purpose).replace('-', "_");
        let schema = config.database.schema.clone().unwrap_or(default);
        let database = Database::new(url, &schema)?;
        Ok(Self {
            bus,
            contract,
            config,
            database,
            once: false,
        })
    }
}

/// Looks at a running adapter.
#[derive(Clone, Default)]
pub struct Handle(Arc<Mutex<Summary>>);

impl Handle {
    /// What it did so far.
    pub fn summary(&self) -> Summary {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets latencies, not counters: for measuring from now on.
    pub fn forget_latencies(&self) {
        self.with(|summary| {
            summary.delivery_to_table = crate::summary::Histogram::default();
            summary.event_to_table = crate::summary::Histogram::default();
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Summary) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A configured adapter.
pub struct Service {
    options: Options,
    targets: Vec<Target>,
    topics: Vec<String>,
    handle: Handle,
    runtime: tokio::runtime::Runtime,
}

/// Runs an adapter until `stop` is set, or until idle with [`Options::once`].
pub fn run(options: Options, stop: &AtomicBool) -> Result<Summary, Error> {
    Service::new(options)?.run(stop)
}

impl Service {
    /// Checks the configuration against the contract; touches neither Kafka nor database.
    pub fn new(options: Options) -> Result<Self, Error> {
        let targets = targets(&options.contract, &options.config)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        let topics = targets.iter().map(|target| target.topic.clone()).collect();
        Ok(Self {
            options,
            targets,
            topics,
            handle: Handle::default(),
            runtime,
        })
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The topics and tables.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    pub fn run(self, stop: &AtomicBool) -> Result<Summary, Error> {
        let mark = self.options.config.on_withdrawal == OnWithdrawal::Mark;
        let Some(()) = self.persist(stop, || {
            self.runtime
                .block_on(self.options.database.prepare(&self.targets))
        })?
        else {
            return Ok(self.handle.summary());
        };
        let taken = self.persist(stop, || {
            self.runtime
                .block_on(Store::take(&self.options.database, &self.targets, mark))
        })?;
        let Some(store) = taken else {
            return Ok(self.handle.summary());
        };
        let mut session = Session::new(&self, store);
        match session.run(stop) {
            Ok(()) => Ok(self.handle.summary()),
            Err(error) => Err(error),
        }
    }

    /// Tries until it works, `stop` is set (`None`), or it can't work.
    fn persist<T>(
        &self,
        stop: &AtomicBool,
        mut call: impl FnMut() -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let mut pause = RETRY_FIRST;
        loop {
            match call() {
                Ok(done) => return Ok(Some(done)),
                Err(error) if error.is_passing() => {
                    tracing::warn!(error = %chain(&error), retry_ms = pause.as_millis() as u64, "database not available");
                    if !wait(stop, pause) {
                        return Ok(None);
                    }
                    pause = (pause * 2).min(RETRY_LONGEST);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Sleeps unless asked to stop; false when asked.
fn wait(stop: &AtomicBool, pause: Duration) -> bool {
    let end = Instant::now() + pause;
    while Instant::now() < end {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20).min(pause));
    }
    !stop.load(Ordering::Relaxed)
}

/// One owner of the tables at work.
struct Session<'s> {
    service: &'s Service,
    store: Option<Store>,
    checker: Checker,
    by_topic: HashMap<String, usize>,
    /// Positions in the database.
    positions: HashMap<(usize, i32), Position>,
    /// Lanes read to their end, and how far that is.
    ends: HashMap<(usize, i32), i64>,
    idle_since: Instant,
}

impl<'s> Session<'s> {
    fn new(service: &'s Service, store: Store) -> Self {
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
        }
    }

    fn run(&mut self, stop: &AtomicBool) -> Result<(), Error> {
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
            if ending || (done && self.settled()) {
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
                self.count(&batch, &applied);
                Ok(true)
            }
            Err(error) if error.is_passing() => {
                tracing::warn!(error = %chain(&error), "database lost");
                service.handle.with(|summary| summary.reconnects += 1);
                self.begin(reader, stop, true)
            }
            Err(error) => Err(error),
        }
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
        for reject in &batch.rejects {
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
                let refused = applied.refused.iter().filter(|lane| **lane == at).count() as i64;
                let rejected = step.counts.rejected + refused;
                let topic = summary
                    .topics
                    .entry(self.service.topics[step.target].clone())
                    .or_default();
                topic.delivered += step.counts.delivered as u64;
                topic.stored += stored as u64;
                topic.withdrawn += step.counts.withdrawn as u64;
                topic.rejected += rejected as u64;
                topic.superseded +=
                    (step.counts.delivered - stored - step.counts.withdrawn - rejected) as u64;
                topic.marks += u64::from(step.mark.is_some());
            }
            for odd in &batch.sequences {
                let topic = summary
                    .topics
                    .entry(self.service.topics[odd.target].clone())
                    .or_default();
                topic.odd(odd.kind, odd.last - odd.first + 1);
            }
            for reject in &batch.rejects {
                *summary.rejects.entry(reject.code).or_default() += 1;
            }
            if !applied.refused.is_empty() {
                *summary.rejects.entry("VALUE_UNSTORABLE").or_default() +=
                    applied.refused.len() as u64;
            }
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

/// An error with its sources, once, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
