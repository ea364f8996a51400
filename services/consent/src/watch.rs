//! Follows `bus.grants` and `bus.state`. Twice: [`show`] tells the barrier where our own changes lie and
//! how far the slots have read, and waits for nothing else; [`keep`] stores what gateway and vault opened
//! and closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mz_bus::{Isolation, Polled, Position, Reader, Record, Unread};
use mz_journal::topics::{self, SlotKind};
use mz_journal::{Grant, InForce, Record as _, State};
use rustc_hash::FxHashMap;

use crate::error::ConsentError;
use crate::limits::{FOLLOW_POLL, MAX_BATCH_RECORDS, STATE_LOOK_BACK};
use crate::shared::{Shared, now_ms};
use crate::store::HistoryRow;

/// Under this name the place of a contract version in each lane is kept beside the positions.
fn in_force_place(version: u64) -> String {
    format!("in force {version}")
}

/// Where to go on in `bus.grants`: as the store says, or from the first record that is there.
fn from_store(
    shared: &Shared,
    reader: &Reader,
) -> Result<Vec<(&'static str, i32, Position)>, ConsentError> {
    let positions = shared.runtime.block_on(shared.store.positions())?;
    let version = shared.in_force().version;
    let mut assignment = Vec::new();
    for lane in 0..shared.lanes {
        let partition = i32::from(lane);
        let (low, _) = reader.watermarks(topics::GRANTS, partition)?;
        let known = positions.get(&(topics::GRANTS.to_owned(), lane));
        let from = known.copied().unwrap_or(low).max(low);
        assignment.push((topics::GRANTS, partition, Position::Offset(from)));
        // The contract in force lies below: its place is needed to tell whether it holds.
        if let Some(offset) = positions.get(&(in_force_place(version), lane)) {
            shared.barrier.read_version(lane, *offset, version);
        }
    }
    Ok(assignment)
}

/// Tells the barrier, until `stop` or until something fails: then it starts over. What the store holds
/// already was told by its offset.
pub(crate) fn show(shared: &Arc<Shared>, stop: &AtomicBool) -> Result<(), ConsentError> {
    let mut reader = Reader::open(&shared.bus, Isolation::Committed)?;
    let mut assignment = from_store(shared, &reader)?;
    // Slots write their states without a pause: their ends, as of now, are all that can be waited for.
    let mut unread = Unread::default();
    for lane in 0..shared.lanes {
        let (low, high) = reader.watermarks(topics::STATE, i32::from(lane))?;
        let from = high.saturating_sub(STATE_LOOK_BACK).max(low);
        unread.add(topics::STATE, i32::from(lane), high);
        assignment.push((topics::STATE, i32::from(lane), Position::Offset(from)));
    }
    reader.assign(&assignment)?;
    while !stop.load(Ordering::Acquire) {
        let mut fault = None;
        reader.poll(MAX_BATCH_RECORDS, FOLLOW_POLL, |polled| match polled {
            Polled::Record(record) => {
                unread.reach(record.topic, record.partition, record.offset + 1);
                let told = match record.topic {
                    topics::GRANTS => read(&record).map(|read| tell(shared, &read)),
                    _ => state(shared, &record),
                };
                if let Err(error) = told {
                    fault.get_or_insert(error);
                }
            }
            Polled::Eof {
                topic, partition, ..
            } => unread.reach(topic, partition, i64::MAX),
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        if unread.is_empty() {
            shared.set_ready();
        }
    }
    Ok(())
}

/// Stores, until `stop` or until something fails: then it starts over.
pub(crate) fn keep(shared: &Arc<Shared>, stop: &AtomicBool) -> Result<(), ConsentError> {
    let mut reader = Reader::open(&shared.bus, Isolation::Committed)?;
    let assignment = from_store(shared, &reader)?;
    reader.assign(&assignment)?;
    while !stop.load(Ordering::Acquire) {
        let mut batch = Batch::default();
        let mut fault = None;
        reader.poll(MAX_BATCH_RECORDS, FOLLOW_POLL, |polled| match polled {
            Polled::Record(record) => match read(&record) {
                Ok(read) => batch.take(read),
                Err(error) => {
                    fault.get_or_insert(error);
                }
            },
            Polled::Eof {
                partition,
                next_offset,
                ..
            } => {
                if let Ok(lane) = u16::try_from(partition) {
                    batch.reached.insert(lane, next_offset);
                }
            }
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        if !batch.reached.is_empty() {
            shared.runtime.block_on(store(shared, &batch))?;
        }
    }
    Ok(())
}

/// One record of `bus.grants`.
struct Read {
    lane: u16,
    offset: i64,
    what: What,
}

enum What {
    Grant(Box<Grant>),
    Version(u64),
    /// A tombstone.
    Nothing,
}

fn read(record: &Record<'_>) -> Result<Read, ConsentError> {
    // A partition is a lane.
    let lane = u16::try_from(record.partition).unwrap_or(u16::MAX);
    let unreadable = |source| ConsentError::Journal {
        topic: topics::GRANTS,
        lane,
        offset: record.offset,
        source,
    };
    let what = match record.value {
        None => What::Nothing,
        Some(value) if record.key == Some(topics::IN_FORCE_KEY.as_slice()) => {
            What::Version(InForce::decode(value).map_err(unreadable)?.version)
        }
        Some(value) => What::Grant(Box::new(Grant::decode(value).map_err(unreadable)?)),
    };
    Ok(Read {
        lane,
        offset: record.offset,
        what,
    })
}

fn tell(shared: &Shared, read: &Read) {
    let (lane, offset) = (read.lane, read.offset);
    match &read.what {
        What::Grant(grant) => {
            shared
                .barrier
                .read_grant(lane, offset, grant.id, grant.counter);
        }
        What::Version(version) => shared.barrier.read_version(lane, offset, *version),
        What::Nothing => {}
    }
}

fn state(shared: &Shared, record: &Record<'_>) -> Result<(), ConsentError> {
    let key = record.key.and_then(topics::parse_state_key);
    let (Some((kind, lane)), Some(value)) = (key, record.value) else {
        return Ok(());
    };
    if kind == SlotKind::Consent {
        return Ok(());
    }
    let state = State::decode(value).map_err(|source| ConsentError::Journal {
        topic: topics::STATE,
        lane,
        offset: record.offset,
        source,
    })?;
    shared.barrier.shown(kind, lane, state.grants_position);
    Ok(())
}

/// What one poll brought to the store.
#[derive(Default)]
struct Batch {
    grants: Vec<(u16, i64, Grant)>,
    reached: FxHashMap<u16, i64>,
    /// Where contract versions lie, kept as a position of their own.
    versions: Vec<(String, u16, i64)>,
}

impl Batch {
    fn take(&mut self, read: Read) {
        let Read { lane, offset, what } = read;
        self.reached.insert(lane, offset + 1);
        match what {
            What::Grant(grant) => self.grants.push((lane, offset, *grant)),
            What::Version(version) => {
                self.versions.push((in_force_place(version), lane, offset));
            }
            What::Nothing => {}
        }
    }
}

/// Joins what was read, and notes what others did.
async fn store(shared: &Shared, batch: &Batch) -> Result<(), ConsentError> {
    let mut step = shared.store.step().await?;
    for grant in step.seen(&batch.grants).await? {
        let action = match (grant.status, grant.counter) {
            (mz_journal::GrantStatus::Closed, _) => "closed",
            (mz_journal::GrantStatus::Paused, _) => "paused",
            (mz_journal::GrantStatus::Open, 1) => "opened",
            (mz_journal::GrantStatus::Open, _) => "changed",
        };
        step.note(&HistoryRow {
            grant: grant.id,
            at_ms: grant.closed_ms.unwrap_or_else(now_ms),
            action: action.to_owned(),
            counter: grant.counter,
            principal: "bus".to_owned(),
            operator: String::new(),
            reason: grant.reason.clone(),
            evidence: None,
        })
        .await?;
    }
    let reached = batch.reached.iter();
    let versions = batch.versions.iter();
    let reached: Vec<(&str, u16, i64)> = reached
        .map(|(lane, next)| (topics::GRANTS, *lane, *next))
        .chain(versions.map(|(place, lane, offset)| (place.as_str(), *lane, *offset)))
        .collect();
    step.reached(&reached).await?;
    step.commit().await?;
    Ok(())
}
