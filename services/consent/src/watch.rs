//! Follows `bus.grants` (what gateway and vault opened and closed, and where our own changes lie) and
//! `bus.state` (how far the slots have read them).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mz_bus::{Isolation, Polled, Position, Reader, Record};
use mz_journal::topics::{self, SlotKind};
use mz_journal::{Grant, InForce, Record as _, State};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::error::ConsentError;
use crate::limits::{FOLLOW_POLL, MAX_BATCH_RECORDS, STATE_LOOK_BACK};
use crate::shared::{Shared, now_ms};
use crate::store::HistoryRow;

/// Under this name the place of a contract version in each lane is kept beside the positions.
fn in_force_place(version: u64) -> String {
    format!("in force {version}")
}

/// What one poll brought.
#[derive(Default)]
struct Batch {
    grants: Vec<(u16, i64, Grant)>,
    reached: FxHashMap<u16, i64>,
    /// Where contract versions lie, kept as a position of their own.
    versions: Vec<(String, u16, i64)>,
    states_at_end: FxHashSet<u16>,
    fault: Option<ConsentError>,
}

/// Follows until `stop`, or until something fails: then it starts over.
pub(crate) fn follow(shared: &Arc<Shared>, stop: &AtomicBool) -> Result<(), ConsentError> {
    let mut reader = Reader::open(&shared.bus, Isolation::Committed)?;
    let positions = shared.runtime.block_on(shared.store.positions())?;
    let mut assignment = Vec::new();
    for lane in 0..shared.lanes {
        let partition = i32::from(lane);
        let (low, _) = reader.watermarks(topics::GRANTS, partition)?;
        let known = positions.get(&(topics::GRANTS.to_owned(), lane));
        let from = known.copied().unwrap_or(low).max(low);
        assignment.push((topics::GRANTS, partition, Position::Offset(from)));
        let (low, high) = reader.watermarks(topics::STATE, partition)?;
        let from = high.saturating_sub(STATE_LOOK_BACK).max(low);
        assignment.push((topics::STATE, partition, Position::Offset(from)));
        // The contract in force lies below: its place is needed to tell whether it holds.
        let version = shared.in_force().version;
        if let Some(offset) = positions.get(&(in_force_place(version), lane)) {
            shared.barrier.read_version(lane, *offset, version);
        }
    }
    reader.assign(&assignment)?;
    let mut waiting: FxHashSet<u16> = (0..shared.lanes).collect();
    while !stop.load(Ordering::Acquire) {
        let mut batch = Batch::default();
        reader.poll(MAX_BATCH_RECORDS, FOLLOW_POLL, |polled| {
            take(shared, &mut batch, &polled);
        })?;
        if let Some(fault) = batch.fault.take() {
            return Err(fault);
        }
        if !waiting.is_empty() {
            waiting.retain(|lane| !batch.states_at_end.contains(lane));
            if waiting.is_empty() {
                shared.set_ready();
            }
        }
        if !batch.reached.is_empty() {
            shared.runtime.block_on(keep(shared, &batch))?;
        }
    }
    Ok(())
}

fn take(shared: &Shared, batch: &mut Batch, polled: &Polled<'_>) {
    match polled {
        Polled::Record(record) => {
            let Ok(lane) = u16::try_from(record.partition) else {
                return;
            };
            let taken = match record.topic {
                topics::GRANTS => grant(shared, batch, lane, record),
                _ => state(shared, lane, record),
            };
            if let Err(fault) = taken {
                batch.fault.get_or_insert(fault);
            }
        }
        Polled::Eof {
            topic,
            partition,
            next_offset,
        } => {
            let Ok(lane) = u16::try_from(*partition) else {
                return;
            };
            if *topic == topics::GRANTS {
                batch.reached.insert(lane, *next_offset);
            } else {
                batch.states_at_end.insert(lane);
            }
        }
    }
}

fn grant(
    shared: &Shared,
    batch: &mut Batch,
    lane: u16,
    record: &Record<'_>,
) -> Result<(), ConsentError> {
    batch.reached.insert(lane, record.offset + 1);
    let Some(value) = record.value else {
        return Ok(());
    };
    let unreadable = |source| ConsentError::Journal {
        topic: topics::GRANTS,
        lane,
        offset: record.offset,
        source,
    };
    if record.key == Some(topics::IN_FORCE_KEY.as_slice()) {
        let in_force = InForce::decode(value).map_err(unreadable)?;
        let version = in_force.version;
        shared.barrier.read_version(lane, record.offset, version);
        batch
            .versions
            .push((in_force_place(version), lane, record.offset));
        return Ok(());
    }
    let grant = Grant::decode(value).map_err(unreadable)?;
    shared
        .barrier
        .read_grant(lane, record.offset, grant.id, grant.counter);
    batch.grants.push((lane, record.offset, grant));
    Ok(())
}

fn state(shared: &Shared, lane: u16, record: &Record<'_>) -> Result<(), ConsentError> {
    let key = record.key.and_then(topics::parse_state_key);
    let (Some((kind, _)), Some(value)) = (key, record.value) else {
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

/// Joins what was read, and notes what others did.
async fn keep(shared: &Shared, batch: &Batch) -> Result<(), ConsentError> {
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
