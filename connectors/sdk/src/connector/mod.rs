//! The run loop: passes over a source, compared with what was published, committed in transactions.
//!
//! Nothing is lost and nothing is doubled: events, checkpoint, sequences and position are one
//! transaction. Whoever starts later fences whoever ran before; whatever fails is started again from
//! the checkpoint, and a pass that starts again finds its finished rows unchanged.

mod pass;
mod withdraw;

use crate::checkpoint::{Head, Tag};
use crate::draft::Drafter;
use crate::error::{ConnectorError, Stop};
use crate::known::Known;
use crate::last::CheckpointKeys;
use crate::limits::{HEARTBEAT, MAX_TX_RETRIES, TX_RETRY_PAUSE, TX_TIMEOUT};
use crate::options::{Options, Schedule};
use crate::rejects::RejectsFile;
use crate::report::{Observer, Report};
use crate::restore;
use crate::source::{Reject, Source, SourceErrorKind};
use crate::transaction::{self, Identity, Numbers, Pending};
use mz_bus::{BusOptions, TxError, TxProducer};
use mz_journal::topics;
use pass::PassState;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a wait may last before the connector looks whether it is to stop.
const TICK: Duration = Duration::from_millis(50);

/// A connector for one stream.
pub struct Connector {
    bus: BusOptions,
    identity: Identity,
    drafter: Drafter,
    keys: CheckpointKeys,
    withdraw: bool,
    withdraw_limit_percent: u8,
    new_epoch: bool,
    /// `None`: planning, nothing is published.
    producer: Option<TxProducer>,
    numbers: Numbers,
    known: Known,
    /// Rejected rows that the quarantine topic already tells of.
    /// With the number of settled snapshots when each was first rejected.
    known_rejects: HashMap<Tag, u64>,
    pending: Pending,
    rejects: RejectsFile,
    report: Report,
    last_commit: Instant,
    pass: PassState,
}

impl Connector {
    /// Takes the stream over: fences an older instance, reads the checkpoint.
    pub fn start(options: Options) -> Result<Self, ConnectorError> {
        let mut connector = Self::prepare(options)?;
        connector.take_over()?;
        Ok(connector)
    }

    /// A connector that publishes nothing and fences nobody. Without a reachable bus it compares with
    /// an empty checkpoint and says so in the report.
    pub fn plan(options: Options) -> Result<Self, ConnectorError> {
        let mut connector = Self::prepare(options)?;
        match connector.restore() {
            Ok(()) => {}
            Err(ConnectorError::Bus(error)) => {
                tracing::warn!(
                    code = error.code(),
                    "the checkpoint can't be read; everything counts as new"
                );
                connector.report.without_checkpoint = true;
                connector.numbers.next_epoch(1);
            }
            Err(error) => return Err(error),
        }
        Ok(connector)
    }

    fn prepare(options: Options) -> Result<Self, ConnectorError> {
        let drafter = Drafter::new(
            &options.contract,
            &options.department,
            &options.stream,
            &options.datasets,
            options.placement,
            options.record.clone(),
        )?;
        Ok(Self {
            keys: CheckpointKeys::new(&options.record, &options.stream)?,
            bus: options.bus,
            identity: Identity {
                bus_id: options.contract.bus_id.clone(),
                department: options.department,
                stream: options.stream,
                signer: options.signer,
            },
            numbers: Numbers::new(Head::default(), &drafter),
            drafter,
            withdraw: options.withdraw_disappeared,
            withdraw_limit_percent: options.withdraw_limit_percent,
            new_epoch: options.new_epoch,
            producer: None,
            known: Known::default(),
            known_rejects: HashMap::new(),
            pending: Pending::default(),
            rejects: RejectsFile::new(options.rejects),
            report: Report::default(),
            last_commit: Instant::now(),
            pass: PassState::default(),
        })
    }

    /// Fences the predecessor, then reads what it left: in this order nothing can be added between.
    fn take_over(&mut self) -> Result<(), ConnectorError> {
        // An old producer of this process must be gone before the new one takes its id.
        self.producer = None;
        let id =
            topics::connector_transactional_id(&self.identity.department, &self.identity.stream);
        let mut producer = TxProducer::open(&self.bus, &id, TX_TIMEOUT)?;
        for tries in 1.. {
            match producer.init() {
                Ok(()) => break,
                Err(TxError::Fenced { .. }) => return Err(self.fenced()),
                Err(source) if tries >= MAX_TX_RETRIES => return Err(self.gave_up(tries, source)),
                Err(_) => std::thread::sleep(TX_RETRY_PAUSE * tries),
            }
        }
        self.producer = Some(producer);
        self.restore()
    }

    fn restore(&mut self) -> Result<(), ConnectorError> {
        self.pending = Pending::default();
        let Identity {
            department, stream, ..
        } = &self.identity;
        let restored = restore::checkpoint(&self.bus, department, stream)?;
        self.known = restored.known;
        self.known_rejects = restored.rejects;
        match restored.head {
            Some(head) => self.numbers = Numbers::new(head, &self.drafter),
            None => {
                let sources: Vec<String> = self
                    .drafter
                    .outputs
                    .iter()
                    .map(|output| output.topic.clone())
                    .collect();
                let epoch = restore::last_epoch(
                    &self.bus,
                    department,
                    stream,
                    &sources,
                    self.drafter.lanes,
                )?;
                if epoch > 0 && !self.new_epoch {
                    return Err(ConnectorError::CheckpointLost {
                        stream: stream.clone(),
                        epoch,
                    });
                }
                // The first epoch is 1; after a loss, the one after the last.
                self.numbers.next_epoch(epoch + 1);
                self.new_epoch = false;
            }
        }
        if std::mem::take(&mut self.new_epoch) {
            let epoch = self.numbers.head.epoch + 1;
            self.numbers.next_epoch(epoch);
            self.known.age();
        }
        tracing::info!(
            stream,
            epoch = self.numbers.head.epoch,
            batch = self.numbers.head.batch,
            records = self.known.live(),
            "checkpoint read"
        );
        Ok(())
    }

    /// Runs passes until `shutdown`, or one pass when the schedule says so.
    pub fn run(
        &mut self,
        source: &mut dyn Source,
        schedule: Schedule,
        shutdown: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Report, ConnectorError> {
        let started = Instant::now();
        let mut restarts = 0;
        loop {
            self.pass.before = self.report.clone();
            let wait = match self.one_pass(source, shutdown, observer) {
                Ok(finished) => {
                    restarts = 0;
                    self.report.elapsed = started.elapsed();
                    if finished {
                        observer.pass(&self.report);
                    }
                    schedule.poll
                }
                Err(Stop::Restart(error)) => {
                    restarts += 1;
                    if schedule.once && restarts > MAX_TX_RETRIES {
                        return Err(self.gave_up(restarts, error));
                    }
                    tracing::warn!(code = error.code(), error = %mz_bus::chain(&error), "transaction lost, reading the checkpoint again");
                    self.report = self.pass.before.clone();
                    // No heartbeat here: the numbers in memory are those of the lost transaction.
                    std::thread::sleep(TX_RETRY_PAUSE * restarts.min(MAX_TX_RETRIES));
                    self.regain(schedule, shutdown, observer)?;
                    continue;
                }
                Err(Stop::Failed(ConnectorError::Source(error)))
                    if error.kind == SourceErrorKind::Input =>
                {
                    observer.trouble(error.code, &error.detail);
                    if let Err(stop) = self.input_refused(error.code, &error.detail) {
                        self.recover(stop, schedule, shutdown, observer)?;
                    }
                    schedule.retry
                }
                Err(Stop::Failed(ConnectorError::Source(error)))
                    if error.kind == SourceErrorKind::Environment && !schedule.once =>
                {
                    observer.trouble(error.code, &error.detail);
                    self.rejects.flush();
                    if let Err(stop) = self.flush() {
                        self.recover(stop, schedule, shutdown, observer)?;
                    }
                    schedule.retry
                }
                Err(Stop::Failed(error)) => return Err(error),
            };
            if schedule.once || shutdown.load(Ordering::Relaxed) {
                break;
            }
            if let Err(stop) = self.wait(wait, shutdown) {
                self.recover(stop, schedule, shutdown, observer)?;
            }
            if shutdown.load(Ordering::Relaxed) {
                break;
            }
        }
        self.report.elapsed = started.elapsed();
        Ok(self.report.clone())
    }

    /// The register as a whole could not be read: reported like a row, numbered 0.
    fn input_refused(&mut self, code: &'static str, detail: &str) -> Result<(), Stop> {
        let reject = Reject {
            row: 0,
            column: String::new(),
            field: String::new(),
            code,
            values: vec![("detail".to_owned(), detail.to_owned())],
            record: None,
        };
        self.reject(&reject)?;
        self.flush()?;
        self.rejects.end()?;
        Ok(())
    }

    /// Outside a pass a lost transaction costs nothing: read the checkpoint again.
    fn recover(
        &mut self,
        stop: Stop,
        schedule: Schedule,
        shutdown: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<(), ConnectorError> {
        match stop {
            Stop::Failed(error) => Err(error),
            Stop::Restart(_) => self.regain(schedule, shutdown, observer),
        }
    }

    /// Takes the stream over again. A watching connector outlives an outage of the cluster; one that
    /// runs once gives up.
    fn regain(
        &mut self,
        schedule: Schedule,
        shutdown: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<(), ConnectorError> {
        loop {
            let error = match self.take_over() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let transient = match &error {
                ConnectorError::Bus(error) => error.is_transient(),
                ConnectorError::GaveUp { .. } => true,
                _ => false,
            };
            if schedule.once || !transient || shutdown.load(Ordering::Relaxed) {
                return Err(error);
            }
            observer.trouble(error.code(), "");
            let until = Instant::now() + schedule.retry;
            while Instant::now() < until && !shutdown.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
            }
        }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        // A position may only be committed when everything before it is.
        if self.pass.position.is_some() && !self.pass.moved.is_empty() {
            self.flush_moved()?;
        }
        if !self.pass.snapshot
            && let Some(position) = self.pass.position.take()
        {
            self.numbers.head.position = Some(position);
            self.pending.touch();
        }
        let Some(producer) = &mut self.producer else {
            self.pending = Pending::default();
            return Ok(());
        };
        if transaction::commit(
            producer,
            &mut self.pending,
            &mut self.numbers,
            &self.drafter,
            &self.keys,
            &self.identity,
            now_ms(),
        )? {
            self.report.transactions += 1;
            self.last_commit = Instant::now();
        }
        Ok(())
    }

    /// Waits, saying now and then that the stream is alive.
    fn wait(&mut self, time: Duration, shutdown: &AtomicBool) -> Result<(), Stop> {
        let until = Instant::now() + time;
        while Instant::now() < until && !shutdown.load(Ordering::Relaxed) {
            if self.producer.is_some() && self.last_commit.elapsed() >= HEARTBEAT {
                self.pending.touch();
                self.flush()?;
            }
            std::thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// Epoch and last committed batch, for tests and status lines.
    #[must_use]
    pub fn version(&self) -> (u32, u64) {
        (self.numbers.head.epoch, self.numbers.head.batch)
    }

    fn fenced(&self) -> ConnectorError {
        ConnectorError::Fenced {
            stream: self.identity.stream.clone(),
        }
    }

    fn gave_up(&self, tries: u32, source: TxError) -> ConnectorError {
        if matches!(source, TxError::Fenced { .. }) {
            return self.fenced();
        }
        ConnectorError::GaveUp {
            stream: self.identity.stream.clone(),
            tries,
            source,
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

/// Counts by code, for messages.
#[must_use]
pub fn by_code(rejected: &BTreeMap<&'static str, u64>) -> Vec<(&'static str, u64)> {
    let mut counts: Vec<_> = rejected
        .iter()
        .map(|(code, count)| (*code, *count))
        .collect();
    counts.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
    counts
}
