//! A running shard: reads `bus.audit`, appends, makes durable, commits, signs. In that order: what was
//! signed was committed, what was committed is on disk. Deliveries never wait for it.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mz_bus::{Isolation, Polled, Position, Reader, TxProducer, tuning};
use mz_journal::{LedgerPosition, LedgerState, topics};

use crate::batches::{self, Batches};
use crate::commit;
use crate::error::LedgerError;
use crate::intake::{Chains, entries};
use crate::limits::{
    ALARM_EVERY, CHECKPOINT_EVERY, LAG_ALARM, MAX_COMMIT_RECORDS, MAX_POLL_RECORDS, POLL,
    RETRY_MAX, RETRY_MIN, RUNNING_BATCHES_HELD,
};
use crate::log::{CHECKPOINT, Disk as _, Entry, Folder, Log, LogFault, Opened};
use crate::options::Options;
use crate::sign;

/// What a running ledger has done. Counted for whoever watches it.
#[derive(Debug, Default)]
pub struct Progress {
    committed: AtomicU64,
    broken: AtomicU64,
    equivocated: AtomicU64,
    running: AtomicBool,
}

impl Progress {
    /// Entries that are durable and committed since the start.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// It has taken over and takes records.
    pub fn running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// Records that did not continue their chain since the start.
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Acquire)
    }

    /// Departments' second roots under one batch number, since the start.
    pub fn equivocated(&self) -> u64 {
        self.equivocated.load(Ordering::Acquire)
    }
}

/// Runs a shard until `stop`, or until something that trying again can't mend.
pub fn run(
    options: &Options,
    progress: &Arc<Progress>,
    stop: &AtomicBool,
) -> Result<(), LedgerError> {
    let _lock = lock(options)?;
    let mut pause = RETRY_MIN;
    while !stop.load(Ordering::Acquire) {
        let started = Instant::now();
        let error = match Shard::take_over(options, progress).and_then(|mut shard| shard.run(stop))
        {
            Ok(()) => break,
            Err(error) => error,
        };
        progress.running.store(false, Ordering::Release);
        if error.is_permanent() {
            return Err(error);
        }
        tracing::warn!(
            shard = options.shard,
            code = error.code(),
            error = mz_bus::chain(&error),
            "trying again"
        );
        if started.elapsed() > RETRY_MAX {
            pause = RETRY_MIN;
        }
        let until = Instant::now() + pause;
        while !stop.load(Ordering::Acquire) && Instant::now() < until {
            std::thread::sleep(POLL.min(pause));
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
    Ok(())
}

/// Two processes that wrote the same files could spoil what one of them has committed, though only one
/// of them can commit. The lock goes with the process, however it ends.
fn lock(options: &Options) -> Result<File, LedgerError> {
    let folder = options.folder.join(options.shard.to_string());
    let failed = |source| LedgerError::Folder {
        folder: folder.clone(),
        source,
    };
    // Keyed tags are personal information: nobody else's to read.
    let private = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder);
    private.map_err(failed)?;
    let file = File::create(folder.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(LedgerError::Locked { folder }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

struct Shard<'o> {
    options: &'o Options,
    progress: Arc<Progress>,
    producer: TxProducer,
    reader: Reader,
    log: Log<Folder>,
    chains: Chains,
    /// Since the start: `ledger audit` looks through all.
    batches: Batches,
    positions: Vec<LedgerPosition>,
    /// Entries of the open log at the last commit.
    committed: u64,
    /// Size of the last checkpoint on disk, and when it was signed.
    signed: (u64, Option<Instant>),
    alarmed: Option<Instant>,
    buffer: Vec<u8>,
}

impl<'o> Shard<'o> {
    /// Shuts out whoever wrote before, and starts from what it committed.
    fn take_over(options: &'o Options, progress: &Arc<Progress>) -> Result<Self, LedgerError> {
        let id = topics::ledger_transactional_id(options.shard);
        let mut producer = TxProducer::open(&options.bus, &id, tuning::TRANSACTION_TIMEOUT)?;
        producer.init()?;
        let state = commit::read(options)?;
        let mut reader = Reader::open(&options.bus, Isolation::Committed)?;
        let mut positions = Vec::new();
        for lane in options.lanes() {
            let known = state.as_ref().and_then(|state| state.position(lane));
            let next_offset = match known {
                Some(offset) => offset,
                None => reader.watermarks(topics::AUDIT, i32::from(lane))?.0,
            };
            positions.push(LedgerPosition { lane, next_offset });
        }
        let assignment: Vec<_> = positions
            .iter()
            .map(|at| {
                (
                    topics::AUDIT,
                    i32::from(at.lane),
                    Position::Offset(at.next_offset),
                )
            })
            .collect();
        reader.assign(&assignment)?;
        let log = match &state {
            Some(state) => open(options, state)?,
            None => create(options, &Opened::default())?,
        };
        let chains = state.as_ref().map(|state| Chains::of(&state.chains));
        let mut shard = Self {
            options,
            progress: Arc::clone(progress),
            producer,
            reader,
            committed: state.as_ref().map_or(0, |state| state.size),
            signed: (0, None),
            alarmed: None,
            log,
            chains: chains.unwrap_or_default(),
            batches: Batches::new(RUNNING_BATCHES_HELD),
            positions,
            buffer: Vec::new(),
        };
        if state.is_none() {
            shard.commit()?;
        }
        // The last commit may be newer than its checkpoint.
        shard.sign()?;
        progress.running.store(true, Ordering::Release);
        tracing::info!(
            shard = options.shard,
            origin = shard.log.origin(),
            size = shard.log.size(),
            "ledger runs"
        );
        Ok(shard)
    }

    fn run(&mut self, stop: &AtomicBool) -> Result<(), LedgerError> {
        let mut since: Option<Instant> = None;
        while !stop.load(Ordering::Acquire) {
            let wait = match since {
                None => POLL,
                Some(since) => self.options.commit_every.saturating_sub(since.elapsed()),
            };
            self.take(wait)?;
            let waiting = self.log.size() - self.committed;
            if waiting > 0 && since.is_none() {
                since = Some(Instant::now());
            }
            let due = since.is_some_and(|since| since.elapsed() >= self.options.commit_every);
            if due || waiting >= MAX_COMMIT_RECORDS {
                self.commit()?;
                since = None;
            }
            if self.signed.0 < self.committed && self.may_sign() {
                self.sign()?;
            }
            if since.is_none() {
                self.turn_page()?;
            }
        }
        if self.log.size() > self.committed {
            self.commit()?;
        }
        self.sign()
    }

    /// Takes what has come into the log.
    fn take(&mut self, wait: Duration) -> Result<(), LedgerError> {
        let Self {
            reader,
            log,
            chains,
            batches,
            positions,
            buffer,
            progress,
            ..
        } = self;
        let mut fault: Option<LogFault> = None;
        let mut oldest: Option<i64> = None;
        reader.poll(MAX_POLL_RECORDS, wait, |polled| {
            let (partition, next) = match &polled {
                Polled::Record(record) => (record.partition, record.offset + 1),
                Polled::Eof {
                    partition,
                    next_offset,
                    ..
                } => (*partition, *next_offset),
            };
            let Some(position) = positions
                .iter_mut()
                .find(|position| i32::from(position.lane) == partition)
            else {
                return;
            };
            if fault.is_some() {
                return;
            }
            if let Polled::Record(record) = polled {
                let (key, value) = (record.key.unwrap_or(&[]), record.value.unwrap_or(&[]));
                let taken = chains.take(position.lane, record.offset, key, value);
                if let Some(broken) = &taken.broken {
                    progress.broken.fetch_add(1, Ordering::AcqRel);
                    metrics::counter!("mz_ledger_breaks_total").increment(1);
                    tracing::error!(
                        code = broken.code,
                        writer = broken.writer,
                        lane = broken.lane,
                        last = broken.last,
                        found = broken.found,
                        "the audit log does not hold together here"
                    );
                }
                if let Some(found) = taken.batch.as_ref().and_then(|batch| batches.take(batch)) {
                    progress.equivocated.fetch_add(1, Ordering::AcqRel);
                    metrics::counter!("mz_ledger_equivocations_total").increment(1);
                    tracing::error!(
                        code = batches::EQUIVOCATED,
                        stream = found.first.stream,
                        epoch = found.first.epoch,
                        batch = found.first.number,
                        first = %found.first.id,
                        second = %found.second.id,
                        "a department signed two batches under one number"
                    );
                }
                oldest = oldest.into_iter().chain(taken.at_ms).min();
                let appended = entries(&taken, value, buffer, |entry| log.append(entry).map(drop));
                if let Err(error) = appended {
                    fault = Some(error);
                    return;
                }
            }
            position.next_offset = position.next_offset.max(next);
        })?;
        if let Some(source) = fault {
            return Err(self.log_fault(source));
        }
        if let Some(oldest) = oldest {
            self.alarm((self.options.clock)().saturating_sub(oldest));
        }
        Ok(())
    }

    fn alarm(&mut self, lag_ms: i64) {
        let lag = Duration::from_millis(u64::try_from(lag_ms).unwrap_or(0));
        metrics::gauge!("mz_ledger_lag_seconds").set(lag.as_secs_f64());
        let quiet = self
            .alarmed
            .is_none_or(|last| last.elapsed() >= ALARM_EVERY);
        if lag > LAG_ALARM && quiet {
            self.alarmed = Some(Instant::now());
            tracing::warn!(
                shard = self.options.shard,
                seconds = lag.as_secs(),
                "the ledger is behind"
            );
        }
    }

    fn log_fault(&self, source: LogFault) -> LedgerError {
        LedgerError::Log {
            origin: self.log.origin().to_owned(),
            source,
        }
    }

    /// Durable first, then committed.
    fn commit(&mut self) -> Result<(), LedgerError> {
        self.log.flush().map_err(|source| self.log_fault(source))?;
        let state = LedgerState {
            shard: self.options.shard,
            origin: self.log.origin().to_owned(),
            size: self.log.size(),
            root: self.log.root(),
            positions: self.positions.clone(),
            chains: self.chains.all(),
            at_ms: (self.options.clock)(),
        };
        commit::write(&mut self.producer, &state)?;
        let new = state.size - self.committed.min(state.size);
        self.progress.committed.fetch_add(new, Ordering::AcqRel);
        metrics::counter!("mz_ledger_entries_total").increment(new);
        self.committed = state.size;
        self.log.tidy().map_err(|source| self.log_fault(source))
    }

    fn may_sign(&self) -> bool {
        self.signed
            .1
            .is_none_or(|last| last.elapsed() >= CHECKPOINT_EVERY)
    }

    /// Signs what is committed. Nothing may be in the log behind it.
    fn sign(&mut self) -> Result<(), LedgerError> {
        if self.log.size() != self.committed || self.signed.0 == self.committed {
            return Ok(());
        }
        let note = sign::checkpoint(
            self.log.origin(),
            self.committed,
            self.log.root(),
            &*self.options.signer,
            &self.options.public,
        )?;
        let replaced = self.log.disk_mut().replace(CHECKPOINT, note.as_bytes());
        replaced.map_err(|error| self.log_fault(error.into()))?;
        self.signed = (self.committed, Some(Instant::now()));
        Ok(())
    }

    /// Closes the log and opens the next when a new period has begun.
    fn turn_page(&mut self) -> Result<(), LedgerError> {
        let period = self.options.period.name((self.options.clock)());
        let origin = self.options.origin(&period);
        // A clock that goes back opens nothing.
        if origin.as_str() <= self.log.origin() {
            return Ok(());
        }
        self.sign()?;
        let closed = Opened {
            origin: self.log.origin().to_owned(),
            size: self.log.size(),
            root: self.log.root(),
        };
        tracing::info!(
            closed = closed.origin,
            size = closed.size,
            "a new log is opened"
        );
        self.log = create(self.options, &closed)?;
        self.committed = 0;
        self.signed = (0, None);
        self.commit()?;
        self.sign()
    }
}

/// The committed log as it lies on disk.
fn open(options: &Options, state: &LedgerState) -> Result<Log<Folder>, LedgerError> {
    let origin = &state.origin;
    if !origin.starts_with(&options.origin("")) {
        return Err(LedgerError::Foreign {
            origin: origin.clone(),
        });
    }
    let disk = Folder::new(options.folder_of(origin));
    if let Some(signed) = sign::signed_size(&disk, origin, &options.public)?
        && signed > state.size
    {
        return Err(LedgerError::BehindCheckpoint {
            origin: origin.clone(),
            signed,
            committed: state.size,
        });
    }
    Log::open(disk, origin, state.size, &state.root).map_err(|source| LedgerError::Log {
        origin: origin.clone(),
        source,
    })
}

/// A new log with its first entry. Files of an attempt that was never committed are written anew.
fn create(options: &Options, before: &Opened) -> Result<Log<Folder>, LedgerError> {
    let origin = options.origin(&options.period.name((options.clock)()));
    let disk = Folder::new(options.folder_of(&origin));
    if let Some(signed) = sign::signed_size(&disk, &origin, &options.public)? {
        return Err(LedgerError::BehindCheckpoint {
            origin,
            signed,
            committed: 0,
        });
    }
    let mut log = Log::create(disk, &origin);
    let mut entry = Vec::new();
    Entry::Opened(before.clone()).encode(&mut entry);
    match log.append(&entry) {
        Ok(_) => Ok(log),
        Err(source) => Err(LedgerError::Log { origin, source }),
    }
}
