//! How a slot changes hands: end and fence the predecessor, then learn what it committed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mz_bus::{
    BusError, Isolation, Position, Reader, Record, Stretch, TxProducer, read_stretches, tuning,
};
use mz_contract::Contract;
use mz_journal::topics::{self, SlotKind};
use mz_journal::{Grant, InForce as Note, Record as _, State};
use mz_policy::{Asks, DEFAULT_GRANT_LIMIT, GrantsIndex};
use rustc_hash::FxHashMap;

use super::books::LaneBook;
use super::contract;
use super::error::SlotError;
use super::fence::{Seen, seen};
use super::ingest::Ingest;
use super::labels::Labels;
use super::outbox::Outbox;
use super::{Slot, now_ms};
use crate::shared::Shared;
use crate::store::LaneStore;

impl Slot {
    /// Takes `slot`: nothing of a predecessor can be committed after this returns, neither to
    /// Kafka nor to PostgreSQL. `noted` learns from where a note about a fence counts.
    pub(crate) fn take(
        shared: &Arc<Shared>,
        slot: u32,
        noted: &mut Seen,
    ) -> Result<Self, SlotError> {
        let bus = &shared.bus;
        let lanes: Vec<u16> = mz_bus::lanes_of(slot, shared.slots, shared.lanes).collect();
        let heads = Reader::open(bus, Isolation::Uncommitted)?;
        check_lanes(shared.lanes, OWN, &heads)?;
        *noted = seen(&heads, lanes.iter().copied())?;
        let id = SlotKind::Vault.transactional_id(slot);
        let mut producer = TxProducer::open(bus, &id, tuning::TRANSACTION_TIMEOUT)?;
        producer.init()?;
        let mut store = shared.runtime.block_on(LaneStore::take_over(
            &shared.database,
            Arc::clone(&shared.keys.wrapper),
            &lanes,
            &shared.instance,
        ))?;
        let mut grants = GrantsIndex::new(DEFAULT_GRANT_LIMIT);
        let mut books = BTreeMap::new();
        let mut outbox = Outbox::default();
        let found = committed(shared, &heads, &lanes, &mut grants)?;
        let in_force = match &found.note {
            Some(note) => contract::load(shared, note)?,
            // Nothing was ever put in force: what this process was started with.
            None => shared.in_force(),
        };
        shared.put_in_force(&in_force);
        let contract = &in_force.contract;
        check_partitions(contract, &heads)?;
        for &lane in &lanes {
            let next = found.grants_next.get(&lane).copied().unwrap_or(0);
            books.insert(lane, LaneBook::open(lane, found.states.get(&lane), next));
            outbox.touch(lane);
        }
        // Also proves that nobody took the slot since `init`: a later owner's commits come first.
        outbox.commit(&mut producer, &mut books, contract.digest, now_ms())?;

        let positions = shared.runtime.block_on(store.positions(&lanes))?;
        let mut reader = Reader::open(bus, Isolation::Committed)?;
        let mut reached = FxHashMap::default();
        let assignment = assignment(contract, &books, &positions, &mut reached);
        reader.assign(&assignment)?;
        Ok(Self {
            shared: Arc::clone(shared),
            slot,
            producer,
            reader,
            heads,
            store,
            ingest: Ingest::new(Arc::clone(contract), Arc::clone(&shared.keys)),
            asks: Asks::of(contract, &mut grants),
            in_force,
            grants,
            books,
            reached,
            confirmed: FxHashMap::default(),
            waiting: Vec::new(),
            again: VecDeque::new(),
            state_due: Instant::now(),
            labels: Labels::new(shared.keys.vrf.key_tag()),
        })
    }
}

/// The bus's own lane topics that a vault reads or writes.
const OWN: [&str; 6] = [
    topics::STATE,
    topics::GRANTS,
    topics::FETCH,
    topics::FACTS,
    topics::ORDERS,
    topics::AUDIT,
];

/// Refuses source topics with another partition count than the contract's.
pub(super) fn check_partitions(contract: &Contract, reader: &Reader) -> Result<(), SlotError> {
    let sources = contract.datasets.iter();
    let sources = sources.map(mz_contract::Dataset::src_topic);
    check_lanes(contract.lanes, sources, reader)
}

fn check_lanes<T: AsRef<str>>(
    expected: u16,
    topics: impl IntoIterator<Item = T>,
    reader: &Reader,
) -> Result<(), SlotError> {
    for topic in topics {
        let topic = topic.as_ref().to_owned();
        let found = reader.partitions(&topic)?;
        if found != usize::from(expected) {
            return Err(SlotError::Partitions {
                topic,
                expected,
                found,
            });
        }
    }
    Ok(())
}

pub(super) type Assigned = (String, i32, Position);

/// Sources from where the store left them, the bus's own topics from where state and grants did.
pub(super) fn assignment(
    contract: &Contract,
    books: &BTreeMap<u16, LaneBook>,
    positions: &FxHashMap<(u16, String), i64>,
    reached: &mut FxHashMap<(usize, u16), i64>,
) -> Vec<Assigned> {
    let mut assignment = Vec::new();
    for book in books.values() {
        let lane = i32::from(book.lane);
        for dataset in &contract.datasets {
            let topic = dataset.src_topic();
            let position = match positions.get(&(book.lane, topic.clone())) {
                Some(next) => {
                    reached.insert((dataset.ix, book.lane), *next);
                    Position::Offset(*next)
                }
                // Never read: everything that is still there.
                None => Position::Beginning,
            };
            assignment.push((topic, lane, position));
        }
        let grants = (
            topics::GRANTS.to_owned(),
            lane,
            Position::Offset(book.grants_next),
        );
        assignment.push(grants);
        for (topic, next) in [
            (topics::FETCH, book.fetch_next),
            (topics::ORDERS, book.orders_next),
        ] {
            let position = match next {
                0 => Position::Beginning,
                next => Position::Offset(next),
            };
            assignment.push((topic.to_owned(), lane, position));
        }
    }
    assignment
}

/// What a predecessor committed, per lane: its last state, and where `bus.grants` was read to.
#[derive(Default)]
struct Committed {
    states: BTreeMap<u16, State>,
    grants_next: BTreeMap<u16, i64>,
    /// The newest contract version that was put in force in any of the lanes.
    note: Option<Note>,
}

/// Reads state and grants of all lanes up to their high watermarks as they are now, whoever's open
/// transaction lies on the way: what the predecessor committed behind it counts. Grants are joined into
/// `grants`.
fn committed(
    shared: &Shared,
    heads: &Reader,
    lanes: &[u16],
    grants: &mut GrantsIndex,
) -> Result<Committed, SlotError> {
    let mut found = Committed::default();
    let mut stretches = Vec::new();
    for &lane in lanes {
        let of_grants = Stretch::whole(heads, topics::GRANTS, lane)?;
        found.grants_next.insert(lane, of_grants.to);
        stretches.push(of_grants);
        stretches.push(Stretch::whole(heads, topics::STATE, lane)?);
    }
    let mut reader = Reader::open(&shared.bus, Isolation::Committed)?;
    let mut fault = None;
    read_stretches(&mut reader, &stretches, |record| {
        if let Err(error) = found.note(shared, grants, record) {
            fault.get_or_insert(error);
        }
    })?;
    fault.map_or(Ok(found), Err)
}

impl Committed {
    fn note(
        &mut self,
        shared: &Shared,
        grants: &mut GrantsIndex,
        record: &Record<'_>,
    ) -> Result<(), SlotError> {
        let (Ok(lane), Some(value)) = (u16::try_from(record.partition), record.value) else {
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
            if record.key == Some(topics::IN_FORCE_KEY.as_slice()) {
                let note = Note::decode(value).map_err(unreadable(topics::GRANTS))?;
                let newest = self.note.as_ref().map_or(0, |held| held.version);
                if note.version > newest {
                    self.note = Some(note);
                }
                return Ok(());
            }
            let grant = Grant::decode(value).map_err(unreadable(topics::GRANTS))?;
            return shared.join(grants, lane, &grant);
        }
        if record.key == Some(topics::state_key(SlotKind::Vault, lane).as_slice()) {
            let state = State::decode(value).map_err(unreadable(topics::STATE))?;
            self.states.insert(lane, state);
        }
        Ok(())
    }
}

/// A topic whose wanted position is gone, in words for the log.
pub(crate) fn is_lost(error: &SlotError) -> bool {
    matches!(error, SlotError::Bus(BusError::OffsetLost { .. }))
}

/// Longest pause between two looks at `stop` while a slot waits to be taken again.
pub(crate) const STOP_POLL: Duration = Duration::from_millis(50);
