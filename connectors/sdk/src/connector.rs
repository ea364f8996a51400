//! The run loop: passes over a source, compared with what was published, committed in transactions.
//!
//! Nothing is lost and nothing is doubled: events, checkpoint, sequences and position are one
//! transaction. Whoever starts later fences whoever ran before; whatever fails is started again from
//! the checkpoint, and a pass that starts again finds its finished rows unchanged.

use crate::checkpoint::{Head, Tag};
use crate::draft::{Checked, Drafter};
use crate::error::{ConnectorError, Stop};
use crate::known::Known;
use crate::last::CheckpointKeys;
use crate::limits::{
    HEARTBEAT, MAX_KNOWN_REJECTS, MAX_POSITION_BYTES, MAX_TX_RETRIES, TX_RETRY_PAUSE, TX_TIMEOUT,
    WITHDRAW_LIMIT_FLOOR, WITHDRAW_PAGE,
};
use crate::options::{Options, Schedule};
use crate::rejects::RejectsFile;
use crate::report::{Observer, Progress, Report};
use crate::restore;
use crate::source::{Chunk, Event, Item, Pass, PassEnd, Reject, Source, SourceErrorKind};
use crate::transaction::{self, Identity, Numbers, Pending};
use mz_bus::{BusOptions, TxError, TxProducer};
use mz_journal::topics;
use std::collections::{BTreeMap, HashMap, HashSet};
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
    known_rejects: HashSet<Tag>,
    pending: Pending,
    rejects: RejectsFile,
    report: Report,
    last_commit: Instant,
    pass: PassState,
}

/// What one pass found, beyond the counts.
#[derive(Default)]
struct PassState {
    snapshot: bool,
    /// Rejected rows of which not even the record is known.
    unidentified: u64,
    rejects_seen: HashSet<Tag>,
    /// Records that changed their person: published at the next commit, behind the withdrawal of
    /// what was said about the other person.
    moved: HashMap<Tag, (Checked, i64)>,
    position: Option<Vec<u8>>,
    /// Counts as of the start, to go back to when the pass starts again.
    before: Report,
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
            known_rejects: HashSet::new(),
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
                    if restarts > MAX_TX_RETRIES {
                        return Err(self.gave_up(restarts, error));
                    }
                    tracing::warn!(code = error.code(), error = %chain(&error), "transaction lost, reading the checkpoint again");
                    self.report = self.pass.before.clone();
                    self.wait(TX_RETRY_PAUSE * restarts, shutdown)?;
                    self.take_over()?;
                    continue;
                }
                Err(Stop::Failed(ConnectorError::Source(error)))
                    if error.kind == SourceErrorKind::Input =>
                {
                    observer.trouble(error.code, &error.detail);
                    self.input_refused(error.code, &error.detail)?;
                    schedule.retry
                }
                Err(Stop::Failed(ConnectorError::Source(error)))
                    if error.kind == SourceErrorKind::Environment && !schedule.once =>
                {
                    observer.trouble(error.code, &error.detail);
                    self.rejects.flush();
                    self.flush().or_else(|stop| self.recover(stop))?;
                    schedule.retry
                }
                Err(Stop::Failed(error)) => return Err(error),
            };
            if schedule.once || shutdown.load(Ordering::Relaxed) {
                break;
            }
            self.wait(wait, shutdown)?;
            if shutdown.load(Ordering::Relaxed) {
                break;
            }
        }
        self.report.elapsed = started.elapsed();
        Ok(self.report.clone())
    }

    /// One pass. `Ok(false)`: stopped before its end, or nothing to read.
    fn one_pass(
        &mut self,
        source: &mut dyn Source,
        shutdown: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<bool, Stop> {
        let kind = source
            .begin(self.numbers.head.position.as_deref())
            .map_err(ConnectorError::Source)?;
        if kind == Pass::Unchanged {
            return Ok(false);
        }
        let before = std::mem::take(&mut self.pass.before);
        self.pass = PassState {
            snapshot: kind == Pass::Snapshot,
            before,
            ..PassState::default()
        };
        self.report.rejected.clear();
        self.report.held = 0;
        self.rejects.begin(kind == Pass::Changes);
        if self.pass.snapshot {
            self.known.begin_snapshot();
        }
        let mut chunk = Chunk::default();
        loop {
            chunk.items.clear();
            let more = source.read(&mut chunk).map_err(ConnectorError::Source)?;
            for item in chunk.items.drain(..) {
                self.take(item)?;
            }
            if self.pending.is_old() {
                self.flush()?;
            }
            observer.progress(&Progress {
                read: source.progress(),
                events: self.report.events,
                published: self.report.published(),
                rejected: self.report.rejects(),
            });
            if !more {
                break;
            }
            if shutdown.load(Ordering::Relaxed) {
                self.flush()?;
                self.rejects.flush();
                return Ok(false);
            }
        }
        let end = source.end().map_err(ConnectorError::Source)?;
        self.finish(&end)?;
        Ok(true)
    }

    fn finish(&mut self, end: &PassEnd) -> Result<(), Stop> {
        self.flush_moved()?;
        if self.pass.snapshot {
            self.withdraw_missing(end)?;
            if end.complete {
                let gone: Vec<Tag> = self
                    .known_rejects
                    .difference(&self.pass.rejects_seen)
                    .copied()
                    .collect();
                for tag in gone {
                    self.known_rejects.remove(&tag);
                    transaction::forget_reject(&mut self.pending, &self.identity, tag);
                    if self.pending.is_full() {
                        self.flush()?;
                    }
                }
            }
        }
        if let Some(position) = self.pass.position.take() {
            self.numbers.head.position = Some(position);
            self.pending.touch();
        }
        if end.complete {
            // Kafka keeps what was said before; the register can't become less complete.
            self.numbers.head.complete_to_ms =
                self.numbers.head.complete_to_ms.max(end.complete_to_ms);
            self.numbers.head.rejected = self.report.rejects();
        }
        self.pending.touch();
        self.flush()?;
        self.rejects.end()?;
        self.report.passes += 1;
        Ok(())
    }

    fn take(&mut self, item: Item) -> Result<(), Stop> {
        match item {
            Item::Skipped => self.report.skipped += 1,
            Item::Reject(reject) => self.reject(&reject)?,
            Item::Event(event) => self.event(&event)?,
            Item::Reached(position) => {
                if position.len() > MAX_POSITION_BYTES {
                    return Err(ConnectorError::PositionTooLong.into());
                }
                self.pass.position = Some(position);
            }
        }
        if self.pending.is_full() {
            self.flush()?;
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), Stop> {
        self.report.events += 1;
        let checked = match self.drafter.check(event) {
            Ok(checked) => checked,
            Err(unfit) => return self.reject(&own_reject(event, unfit.field, unfit.code, None)),
        };
        if self.producer.is_none() {
            self.count_filled(event);
        }
        let tag = checked.record_tag;
        if self.pass.moved.contains_key(&tag) {
            // The record comes again before its move was published: order must hold.
            self.flush_moved()?;
        }
        let hash = self.keys.row_hash(&checked.value, event.withdrawn);
        let subject = &checked.subject_tag[..4];
        let Some(entry) = self.known.get(&tag).copied() else {
            if event.withdrawn {
                // Void before anyone heard of it.
                self.report.unchanged += 1;
                return Ok(());
            }
            self.report.new += 1;
            return self.publish(checked, event.occurred_ms, false);
        };
        if entry.is(&hash) && entry.subject == subject {
            self.report.unchanged += 1;
            self.known.mark_seen(&tag);
            return Ok(());
        }
        if self.pass.snapshot && entry.seen() {
            // Two rows of one export contradict each other. The first stands: publishing both would
            // publish both again in every pass.
            let record = Some((event.dataset.clone(), checked.record));
            return self.reject(&own_reject(event, String::new(), "ROW_CONTRADICTS", record));
        }
        if event.withdrawn {
            if entry.withdrawn() {
                self.report.unchanged += 1;
                self.known.mark_seen(&tag);
                return Ok(());
            }
            self.report.withdrawn += 1;
            return self.publish(checked, event.occurred_ms, true);
        }
        self.report.changed += 1;
        if entry.subject != subject && !entry.withdrawn() {
            self.known.mark_seen(&tag);
            self.pass
                .moved
                .insert(tag, (checked, event.occurred_ms.unwrap_or_else(now_ms)));
            if self.pass.moved.len() >= WITHDRAW_PAGE {
                self.flush_moved()?;
            }
            return Ok(());
        }
        self.publish(checked, event.occurred_ms, false)
    }

    fn publish(
        &mut self,
        checked: Checked,
        at_ms: Option<i64>,
        withdrawn: bool,
    ) -> Result<(), Stop> {
        let tag = checked.record_tag;
        let state = transaction::add(
            &mut self.pending,
            &mut self.numbers,
            &self.drafter,
            &self.keys,
            &self.identity,
            checked,
            at_ms.unwrap_or_else(now_ms),
            withdrawn,
        )?;
        // What is in memory runs ahead of what is committed; a lost transaction reads it again.
        self.known
            .put(tag, state.hash, state.subject, withdrawn, true);
        Ok(())
    }

    fn reject(&mut self, reject: &Reject) -> Result<(), Stop> {
        *self.report.rejected.entry(reject.code).or_default() += 1;
        match &reject.record {
            Some((dataset, record)) => {
                let tag = self.drafter.tag_of(dataset, record);
                self.known.mark_seen(&tag);
            }
            None => self.pass.unidentified += 1,
        }
        let now = now_ms();
        self.rejects.write(reject, now)?;
        let mut parts = vec![reject.code, reject.column.as_str(), reject.field.as_str()];
        let row = reject.row.to_string();
        if reject.values.is_empty() {
            parts.push(&row);
        }
        parts.extend(reject.values.iter().map(|(_, value)| value.as_str()));
        let tag = self.keys.reject_tag(&parts);
        self.pass.rejects_seen.insert(tag);
        if self.known_rejects.len() < MAX_KNOWN_REJECTS && self.known_rejects.insert(tag) {
            let place = if reject.column.is_empty() {
                &reject.field
            } else {
                &reject.column
            };
            transaction::add_reject(
                &mut self.pending,
                &self.identity,
                tag,
                (reject.row, place, reject.code),
                now,
            );
        }
        Ok(())
    }

    /// The register as a whole could not be read: reported like a row, numbered 0.
    fn input_refused(&mut self, code: &'static str, detail: &str) -> Result<(), ConnectorError> {
        let reject = Reject {
            row: 0,
            column: String::new(),
            field: String::new(),
            code,
            values: vec![("detail".to_owned(), detail.to_owned())],
            record: None,
        };
        let written = self.reject(&reject).and_then(|()| self.flush());
        self.rejects.end()?;
        written.or_else(|stop| self.recover(stop))
    }

    /// Outside a pass a lost transaction costs nothing: read the checkpoint again.
    fn recover(&mut self, stop: Stop) -> Result<(), ConnectorError> {
        match stop {
            Stop::Failed(error) => Err(error),
            Stop::Restart(_) => self.take_over(),
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

    /// Publishes records that changed their person: first that the fact about the other person is
    /// withdrawn, then the fact about this one, so that the newest version is the right one.
    fn flush_moved(&mut self) -> Result<(), Stop> {
        if self.pass.moved.is_empty() {
            return Ok(());
        }
        let moved = std::mem::take(&mut self.pass.moved);
        let tags: HashSet<Tag> = moved.keys().copied().collect();
        let mut former = self.former(&tags)?;
        for (tag, (checked, at_ms)) in moved {
            if let Some(former) = former.remove(&tag) {
                self.report.withdrawn += 1;
                self.publish(former, None, true)?;
            }
            self.publish(checked, Some(at_ms), false)?;
            if self.pending.is_full() {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// What was last published about these records.
    fn former(&mut self, tags: &HashSet<Tag>) -> Result<HashMap<Tag, Checked>, Stop> {
        // What is still pending is not in the topic yet.
        let position = self.pass.position.take();
        self.flush()?;
        self.pass.position = position;
        let states = restore::last_values(
            &self.bus,
            &self.identity.department,
            &self.identity.stream,
            tags,
        )?;
        let mut former = HashMap::with_capacity(states.len());
        for (tag, state) in states {
            let opened = state.last.and_then(|closed| self.keys.open(&tag, &closed));
            let checked = opened.and_then(|(dataset, value)| {
                let output = self
                    .drafter
                    .outputs
                    .iter()
                    .position(|output| output.dataset.id == dataset)?;
                self.drafter.check_value(output, value).ok()
            });
            match checked {
                Some(checked) => {
                    former.insert(tag, checked);
                }
                // The department's key was changed, or the schema: the record stays as it is.
                None => tracing::warn!(
                    stream = self.identity.stream,
                    "a record's last value can't be opened"
                ),
            }
        }
        Ok(former)
    }

    /// Withdraws what the register no longer has, when that is certain.
    fn withdraw_missing(&mut self, end: &PassEnd) -> Result<(), Stop> {
        if !self.withdraw || self.report.without_checkpoint {
            return Ok(());
        }
        let missing: Vec<Tag> = self.known.missing().copied().collect();
        let live = self.known.live();
        if missing.is_empty() {
            return Ok(());
        }
        let count = missing.len() as u64;
        let too_many = live >= WITHDRAW_LIMIT_FLOOR
            && count * 100 > live * u64::from(self.withdraw_limit_percent);
        let doubt = if !end.complete {
            Some("WITHDRAW_INCOMPLETE")
        } else if self.pass.unidentified > 0 {
            Some("WITHDRAW_UNSURE")
        } else if too_many {
            Some("WITHDRAW_TOO_MANY")
        } else {
            None
        };
        if let Some(code) = doubt {
            self.report.held = count;
            tracing::warn!(
                stream = self.identity.stream,
                code,
                records = count,
                "nothing is withdrawn"
            );
            return self.reject(&Reject {
                row: 0,
                column: String::new(),
                field: String::new(),
                code,
                values: vec![("records".to_owned(), count.to_string())],
                record: None,
            });
        }
        for page in missing.chunks(WITHDRAW_PAGE) {
            let tags: HashSet<Tag> = page.iter().copied().collect();
            for (_, former) in self.former(&tags)? {
                self.report.withdrawn += 1;
                self.publish(former, None, true)?;
                if self.pending.is_full() {
                    self.flush()?;
                }
            }
        }
        Ok(())
    }

    /// Waits, saying now and then that the stream is alive.
    fn wait(&mut self, time: Duration, shutdown: &AtomicBool) -> Result<(), ConnectorError> {
        let until = Instant::now() + time;
        while Instant::now() < until && !shutdown.load(Ordering::Relaxed) {
            if self.producer.is_some() && self.last_commit.elapsed() >= HEARTBEAT {
                self.pending.touch();
                match self.flush() {
                    Ok(()) => {}
                    Err(stop) => self.recover(stop)?,
                }
                // Also after a heartbeat that was lost: the next one is due in its time.
                self.last_commit = Instant::now();
            }
            std::thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    fn count_filled(&mut self, event: &Event) {
        let Some(output) = self
            .drafter
            .outputs
            .iter()
            .find(|output| output.dataset.id == event.dataset)
        else {
            return;
        };
        let filled = self
            .report
            .filled
            .entry(event.dataset.clone())
            .or_insert_with(|| {
                output
                    .dataset
                    .fields
                    .iter()
                    .map(|field| (field.name.clone(), 0))
                    .collect()
            });
        for ((_, count), value) in filled.iter_mut().zip(&event.fields) {
            *count += u64::from(!matches!(value, mz_seal::Datum::Null));
        }
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

/// A reject that the connector itself makes of an event.
fn own_reject(
    event: &Event,
    field: String,
    code: &'static str,
    record: Option<(String, String)>,
) -> Reject {
    Reject {
        row: event.row,
        column: String::new(),
        field,
        code,
        values: Vec::new(),
        record,
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

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
