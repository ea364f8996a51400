//! Back after a fence. Consent shuts out an owner that does not show in time that a change is in force,
//! and leaves a note in `bus.state`: that owner, if it is alive after all, takes the slot again and so
//! reads the change. Anybody else who took the slot's transactional id is its owner now.
//!
//! A note counts when it is newer than this owner's own take-over and nobody has written a state of the
//! lane behind it: then another owner is at work already.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mz_bus::{BusError, BusOptions, Isolation, Position, Reader};
use mz_journal::topics::{self, SlotKind};
use rustc_hash::FxHashMap;

use crate::limits::READ_TIMEOUT;

/// The note is written right behind the fencing that this owner noticed. So long it is looked for.
const NOTE_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The note is among the last records of a lane: so many are read.
const LOOK_BACK: i64 = 4_096;

/// Where `bus.state` of each lane ended before the slot was taken.
pub(crate) type Seen = FxHashMap<u16, i64>;

pub(super) fn seen(
    reader: &Reader,
    lanes: impl IntoIterator<Item = u16>,
) -> Result<Seen, BusError> {
    let ends = lanes.into_iter().map(|lane| {
        let (_, high) = reader.watermarks(topics::STATE, i32::from(lane))?;
        Ok((lane, high))
    });
    ends.collect()
}

/// Whether this owner was shut out by consent and may come back. Waits for the note a while.
pub(crate) fn may_return(
    bus: &BusOptions,
    seen: &Seen,
    stop: &AtomicBool,
) -> Result<bool, BusError> {
    let deadline = Instant::now() + NOTE_PATIENCE;
    let mut reader = Reader::open(bus, Isolation::Committed)?;
    while !stop.load(Ordering::Acquire) {
        match look(&mut reader, seen)? {
            Some(back) => return Ok(back),
            None if Instant::now() >= deadline => break,
            None => std::thread::sleep(LOOK_EVERY),
        }
    }
    Ok(false)
}

/// Whether the newest thing about the lanes is the note; `None` while there is none.
fn look(reader: &mut Reader, seen: &Seen) -> Result<Option<bool>, BusError> {
    let mut assignment = Vec::new();
    for (lane, from) in seen {
        let (low, high) = reader.watermarks(topics::STATE, i32::from(*lane))?;
        let from = (*from).max(low).max(high - LOOK_BACK);
        if from < high {
            assignment.push((topics::STATE, i32::from(*lane), Position::Offset(from)));
        }
    }
    if assignment.is_empty() {
        return Ok(None);
    }
    reader.assign(&assignment)?;
    let mut notes: FxHashMap<u16, bool> = FxHashMap::default();
    reader.poll_to_end(READ_TIMEOUT, |record| {
        let Ok(lane) = u16::try_from(record.partition) else {
            return;
        };
        let key = record.key.unwrap_or_default();
        if key == topics::fence_key(SlotKind::Vault, lane) {
            notes.insert(lane, true);
        } else if key == topics::state_key(SlotKind::Vault, lane)
            && let Some(newest) = notes.get_mut(&lane)
        {
            *newest = false;
        }
    })?;
    Ok((!notes.is_empty()).then(|| notes.values().all(|newest| *newest)))
}
