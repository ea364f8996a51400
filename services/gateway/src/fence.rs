//! Why a slot was fenced. Consent shuts out an owner that does not show in time that a change is in force,
//! and leaves a note in `bus.state`: that owner, if it is alive after all, takes the slot again and so
//! reads the change. Anybody else who took the slot's transactional id is its owner now.
//!
//! The note must be newer than this owner's own take-over, and nobody may have written a state of the lane
//! behind it: then another owner is at work already.

use std::time::{Duration, Instant};

use mz_bus::{Isolation, Reader, Stretch, read_stretches};
use mz_journal::topics::{self, SlotKind};
use rustc_hash::FxHashMap;

use crate::error::Error;

/// Whoever fences writes the note with its first transaction, right after the fencing that this owner
/// noticed. So long it is looked for.
const NOTE_PATIENCE: Duration = Duration::from_secs(2);
/// The note is among the last records of a lane: this many are read.
const LOOK_BACK: i64 = 4_096;
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Ends of `bus.state` when the slot was taken over, by lane: what this owner had seen.
pub(crate) type Seen = FxHashMap<u16, i64>;

/// Whether this owner was shut out by consent and may come back. Waits for the note a while.
pub(crate) fn may_return(
    bus: &mz_bus::BusOptions,
    seen: &Seen,
    stopping: impl Fn() -> bool,
) -> Result<bool, Error> {
    let deadline = Instant::now() + NOTE_PATIENCE;
    let mut reader = Reader::open(bus, Isolation::Committed)?;
    let raw = Reader::open(bus, Isolation::Uncommitted)?;
    loop {
        if stopping() {
            return Ok(false);
        }
        match look(&mut reader, &raw, seen)? {
            Found::Note => return Ok(true),
            Found::Owner => return Ok(false),
            Found::Nothing if Instant::now() >= deadline => return Ok(false),
            Found::Nothing => std::thread::sleep(LOOK_EVERY),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// The newest thing about some lane of the slot is the note.
    Note,
    /// Another owner has written the lane's state since.
    Owner,
}

fn look(reader: &mut Reader, raw: &Reader, seen: &Seen) -> Result<Found, Error> {
    let mut stretches = Vec::new();
    for (lane, from) in seen {
        let (low, high) = raw.watermarks(topics::STATE, i32::from(*lane))?;
        stretches.push(Stretch {
            topic: topics::STATE,
            lane: *lane,
            from: (*from).max(low).max(high - LOOK_BACK),
            to: high,
        });
    }
    let mut notes: FxHashMap<i32, bool> = FxHashMap::default();
    read_stretches(reader, &stretches, |record| {
        let Ok(lane) = u16::try_from(record.partition) else {
            return;
        };
        let key = record.key.unwrap_or_default();
        if key == topics::fence_key(SlotKind::Gateway, lane) {
            notes.insert(record.partition, true);
        } else if key == topics::state_key(SlotKind::Gateway, lane)
            && let Some(newest) = notes.get_mut(&record.partition)
        {
            *newest = false;
        }
    })?;
    Ok(if notes.is_empty() {
        Found::Nothing
    } else if notes.values().all(|newest| *newest) {
        Found::Note
    } else {
        Found::Owner
    })
}
