//! A slot: one thread that owns some lanes, reads their sources into the store, and answers what
//! is asked about the people in them. Everything it writes to Kafka goes out in one transaction a
//! turn, under one transactional id; everything it writes to PostgreSQL under its lanes' tokens.

mod admission;
mod answers;
mod books;
pub mod command;
mod contract;
mod erase;
pub mod error;
mod fence;
mod fetch;
pub mod ingest;
mod labels;
mod outbox;
mod takeover;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use chrono::Utc;
use mz_bus::{Polled, Reader, Record, TxProducer};
use mz_contract::{DatasetIx, IdNumber};
use mz_journal::{
    Fetch, Grant, InForce as Note, Order, OrderAction, Record as _, SubjectTag, topics,
};
use mz_policy::{Asks, GrantsIndex};
use rustc_hash::FxHashMap;

use crate::freshness::Completeness;
use crate::limits::{BUSY_POLL, IDLE_POLL, MAX_BATCH_RECORDS, STATE_INTERVAL};
use crate::shared::{InForce, Shared};
use crate::store::{Fact, LaneStore};
use crate::telemetry;
use answers::{Answers, Waiting};
use books::LaneBook;
use command::{BundleAsk, Command};
use error::SlotError;
use ingest::Ingest;
use labels::Labels;
use outbox::Outbox;

pub(crate) use fence::{Seen, may_return};
pub(crate) use takeover::{STOP_POLL, is_lost};

pub(crate) struct Slot {
    shared: Arc<Shared>,
    slot: u32,
    /// What this slot decides under.
    in_force: InForce,
    producer: TxProducer,
    /// Sources, grants, fetch and orders of the slot's lanes; committed records only.
    reader: Reader,
    /// Asks how far the sources have been written, open transactions included.
    heads: Reader,
    store: LaneStore,
    ingest: Ingest,
    grants: GrantsIndex,
    asks: Asks,
    books: BTreeMap<u16, LaneBook>,
    /// Next offset of each source and lane whose predecessors are all in the store.
    reached: FxHashMap<(DatasetIx, u16), i64>,
    /// How complete a source was when the store last held all that it had published until then.
    confirmed: FxHashMap<(DatasetIx, u16), Completeness>,
    waiting: Vec<Waiting>,
    /// Requests that waited when the contract changed.
    again: VecDeque<BundleAsk>,
    state_due: Instant,
    labels: Labels,
}

/// What one poll brought.
#[derive(Default)]
struct Batch {
    facts: Vec<Fact>,
    /// Whose they are.
    people: FxHashMap<(u16, SubjectTag), IdNumber>,
    /// Per source and lane: next offset after the last record, to be stored.
    read: FxHashMap<(DatasetIx, u16), i64>,
    /// The same at the end of a partition: control records may lie before it.
    ends: FxHashMap<(DatasetIx, u16), i64>,
    skipped: u64,
}

impl Slot {
    pub(crate) fn lanes(&self) -> impl Iterator<Item = u16> {
        self.books.keys().copied()
    }

    /// Works until `stop`, or until something fails: then the slot must be taken again.
    pub(crate) fn run(
        mut self,
        commands: &Receiver<Command>,
        stop: &AtomicBool,
    ) -> Result<(), SlotError> {
        while !stop.load(Ordering::Acquire) {
            self.turn(commands)?;
        }
        self.shared.runtime.block_on(self.store.close())?;
        Ok(())
    }

    fn turn(&mut self, commands: &Receiver<Command>) -> Result<(), SlotError> {
        let mut outbox = Outbox::default();
        let mut answers = Answers::default();
        self.switch(&mut outbox)?;
        self.admit(commands, &mut outbox, &mut answers)?;
        let pending =
            !self.waiting.is_empty() || self.books.values().any(|b| !b.fetches.is_empty());
        let patience = match pending {
            true if self.any_ready() => Duration::ZERO,
            true => BUSY_POLL,
            false => IDLE_POLL,
        };
        let mut batch = self.poll(patience)?;
        let idle = batch.is_empty();
        self.meet(std::mem::take(&mut batch.people))?;
        self.keep(batch)?;
        // Before anything is answered: who is erased is erased for those who wait, too.
        self.carry_out_orders(&mut outbox)?;
        self.answer_ready(&mut outbox, &mut answers)?;
        self.answer_fetches(&mut outbox)?;
        self.touch_states(&mut outbox);
        self.tell_labels(&mut outbox);
        let digest = self.in_force.contract.digest;
        // No audit record, no answer: whoever waits is answered after the commit, or not at all.
        outbox.commit(&mut self.producer, &mut self.books, digest, now_ms())?;
        answers.deliver(&self.shared);
        self.labels_told()?;
        if idle && !pending {
            self.shared.runtime.block_on(self.store.seal_plain())?;
        }
        Ok(())
    }

    /// Takes what the bus has, verified.
    fn poll(&mut self, timeout: Duration) -> Result<Batch, SlotError> {
        let mut batch = Batch::default();
        let mut fault = None;
        let Self {
            reader,
            ingest,
            grants,
            books,
            shared,
            slot,
            in_force,
            ..
        } = self;
        reader.poll(MAX_BATCH_RECORDS, timeout, |polled| {
            if fault.is_some() {
                return;
            }
            let taken = match polled {
                Polled::Record(record) => match ingest.dataset_of(record.topic) {
                    Some(dataset) => {
                        batch.source(ingest, dataset, &record);
                        Ok(())
                    }
                    None => own_record(shared, grants, books, in_force.version, &record),
                },
                Polled::Eof {
                    topic,
                    partition,
                    next_offset,
                } => {
                    if let Ok(lane) = u16::try_from(partition) {
                        match ingest.dataset_of(topic) {
                            Some(dataset) => {
                                batch.ends.insert((dataset, lane), next_offset);
                            }
                            None => own_end(books, topic, lane, next_offset),
                        }
                    }
                    Ok(())
                }
            };
            if let Err(error) = taken {
                fault = Some(error);
            }
        })?;
        telemetry::ingested(*slot, batch.facts.len(), batch.skipped);
        fault.map_or(Ok(batch), Err)
    }

    /// Stores a batch with its positions, then counts it as reached.
    fn keep(&mut self, batch: Batch) -> Result<(), SlotError> {
        if !batch.read.is_empty() {
            let contract = self.contract();
            let positions: Vec<(u16, String, i64)> = batch
                .read
                .iter()
                .map(|((dataset, lane), next)| {
                    (*lane, contract.datasets[*dataset].src_topic(), *next)
                })
                .collect();
            let started = Instant::now();
            self.shared
                .runtime
                .block_on(self.store.store(batch.facts, &positions))?;
            telemetry::stored(self.slot, started.elapsed());
        }
        for (place, next) in batch.read.into_iter().chain(batch.ends) {
            let reached = self.reached.entry(place).or_insert(0);
            *reached = (*reached).max(next);
        }
        Ok(())
    }

    /// Publishes grants positions that moved, so that whoever revokes learns that it is enforced.
    fn touch_states(&mut self, outbox: &mut Outbox) {
        let now = Instant::now();
        if now < self.state_due {
            return;
        }
        self.state_due = now + STATE_INTERVAL;
        for book in self.books.values().filter(|book| book.has_moved()) {
            outbox.touch(book.lane);
        }
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.read.is_empty()
    }

    fn source(&mut self, ingest: &mut Ingest, dataset: DatasetIx, record: &Record<'_>) {
        let Ok(lane) = u16::try_from(record.partition) else {
            return;
        };
        self.read.insert((dataset, lane), record.offset + 1);
        match ingest.admit(dataset, record) {
            Ok((fact, id)) => {
                self.people.entry((fact.lane, fact.subject)).or_insert(id);
                self.facts.push(fact);
            }
            Err(fault) => {
                self.skipped += 1;
                tracing::warn!(
                    topic = record.topic,
                    lane,
                    offset = record.offset,
                    code = fault.code(),
                    "event not stored"
                );
            }
        }
    }
}

/// A record of the bus's own topics.
fn own_record(
    shared: &Shared,
    grants: &mut GrantsIndex,
    books: &mut BTreeMap<u16, LaneBook>,
    version: u64,
    record: &Record<'_>,
) -> Result<(), SlotError> {
    let Ok(lane) = u16::try_from(record.partition) else {
        return Ok(());
    };
    let Some(book) = books.get_mut(&lane) else {
        return Ok(());
    };
    let unreadable = |topic| {
        move |source| SlotError::Journal {
            topic,
            lane,
            offset: record.offset,
            source,
        }
    };
    if record.topic == topics::GRANTS {
        book.grants_next = record.offset + 1;
        let Some(value) = record.value else {
            return Ok(());
        };
        if record.key == Some(topics::IN_FORCE_KEY.as_slice()) {
            let note = Note::decode(value).map_err(unreadable(topics::GRANTS))?;
            book.note(record.offset, note, version);
            return Ok(());
        }
        // A grant that can't be read may be a revocation: stop rather than decide without it.
        let grant = Grant::decode(value).map_err(unreadable(topics::GRANTS))?;
        return shared.join(grants, lane, &grant);
    }
    if record.topic == topics::ORDERS {
        book.orders_next = record.offset + 1;
        let Some(value) = record.value else {
            return Ok(());
        };
        // Only consent can have written it, and it may be an erasure: never passed by.
        let order = Order::decode(value).map_err(unreadable(topics::ORDERS))?;
        if order.action == OrderAction::Erase {
            book.orders.push_back((record.offset, order));
        }
        return Ok(());
    }
    if record.topic == topics::FETCH {
        book.fetch_next = record.offset + 1;
        let Some(value) = record.value else {
            return Ok(());
        };
        match Fetch::decode(value) {
            Ok(fetch) => book.fetches.push_back((record.offset, fetch)),
            // Only a gateway can have written it; whoever asked will ask again.
            Err(fault) => {
                tracing::error!(lane, offset = record.offset, error = %fault, "fetch unreadable");
            }
        }
    }
    Ok(())
}

fn own_end(books: &mut BTreeMap<u16, LaneBook>, topic: &str, lane: u16, next: i64) {
    let Some(book) = books.get_mut(&lane) else {
        return;
    };
    match topic {
        topics::GRANTS => book.grants_next = book.grants_next.max(next),
        topics::FETCH => book.fetch_next = book.fetch_next.max(next),
        topics::ORDERS => book.orders_next = book.orders_next.max(next),
        _ => {}
    }
}

pub(crate) fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}
