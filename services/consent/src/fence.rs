//! Shuts out the owner of a slot that has not shown a change: a frozen one, or none at all. After
//! `init_transactions` under the slot's transactional id it can commit nothing any more, and whoever
//! takes the slot next reads the lane's grants to their end before it decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use mz_bus::{Isolation, Reader, TxProducer, lanes_of, tuning};
use mz_journal::topics::{self, SlotKind};
use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, Record as _, State};
use rustc_hash::FxHashMap;

use crate::barrier::slot_name;
use crate::error::ConsentError;
use crate::shared::{Shared, now_ms};
use crate::store::Outgoing;

/// An owner that came back is left alone for this long, and for twice as long each time that it was shut
/// out without having shown anything: taking over means reading every grant of the slot, and whoever is
/// shut out in the middle of that begins anew. Meanwhile it decides nothing; changes stay pending.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(320);

type Slot = (SlotKind, u32);

/// Slots that nobody has taken since their owner was shut out: the producer that shut it out. While it
/// can commit, it is the last; its next commit shows that for later changes without shutting out anybody.
type Empty = FxHashMap<Slot, TxProducer>;

/// When a slot's owner may be shut out again.
struct Patience {
    since: Instant,
    wait: Duration,
    /// What the slot had shown when its owner was shut out.
    progress: i64,
}

/// Works off what is asked until `stop`.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    asked: &Receiver<Slot>,
    stop: &AtomicBool,
) -> Result<(), ConsentError> {
    let mut done: FxHashMap<Slot, Patience> = FxHashMap::default();
    let mut empty = Empty::default();
    while !stop.load(Ordering::Acquire) {
        let slot = match asked.recv_timeout(Duration::from_millis(50)) {
            Ok(asked) => asked,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let name = slot_name(slot);
        if let Some(mut producer) = empty.remove(&slot) {
            if let Ok(()) = shut(shared, slot, &mut producer) {
                empty.insert(slot, producer);
                continue;
            }
            tracing::info!(slot = name, "the slot has an owner again");
            // It may have come a moment ago: its time begins now.
            if let Some(patience) = done.get_mut(&slot) {
                patience.since = Instant::now();
            }
        }
        let progress = shared.barrier.progress(slot);
        let mut next = AGAIN_AFTER;
        if let Some(patience) = done.get(&slot) {
            let idle = progress == patience.progress;
            let wait = if idle { patience.wait } else { AGAIN_AFTER };
            if patience.since.elapsed() < wait {
                continue;
            }
            if idle {
                next = (patience.wait * 2).min(AGAIN_AFTER_MAX);
            }
        }
        let started = Instant::now();
        match take(shared, slot) {
            Ok(producer) => {
                let patience = Patience {
                    since: Instant::now(),
                    wait: next,
                    progress,
                };
                done.insert(slot, patience);
                empty.insert(slot, producer);
                metrics::counter!("mz_consent_fences_total", "kind" => slot.0.name()).increment(1);
                tracing::warn!(
                    slot = name,
                    ms = started.elapsed().as_millis() as u64,
                    "the slot's owner had not shown a change in time and was shut out"
                );
            }
            // The change stays pending; whoever asks again brings it here again.
            Err(error) => {
                tracing::error!(
                    slot = name,
                    error = mz_bus::chain(&error),
                    "shutting out a slot's owner failed"
                );
            }
        }
    }
    Ok(())
}

/// Ends and shuts out the owner.
fn take(shared: &Arc<Shared>, slot: Slot) -> Result<TxProducer, ConsentError> {
    let id = slot.0.transactional_id(slot.1);
    let mut producer = TxProducer::open(&shared.bus, &id, tuning::TRANSACTION_TIMEOUT)?;
    producer.init()?;
    shut(shared, slot, &mut producer)?;
    let lanes: Vec<u16> = lanes_of(slot.1, shared.slots, shared.lanes).collect();
    let recorded = shared.runtime.block_on(async {
        let mut step = shared.store.step().await?;
        for lane in &lanes {
            let mut audit = Audit::empty(
                AuditWriter::Consent,
                *lane,
                now_ms(),
                AuditKind::SlotFenced,
                AuditCause::Rule,
            );
            audit.rule = "SLOT_FENCED".into();
            audit.reason = slot_name(slot).into();
            step.send(*lane, Outgoing::Nothing, Some(&audit)).await?;
        }
        step.commit().await
    });
    recorded?;
    shared.wake.ring();
    Ok(producer)
}

/// Shows by a commit that the producer is the slot's last: whatever had been committed to the lanes'
/// grants before holds for everybody who comes after it. The commit holds the note for an owner that
/// comes back.
fn shut(shared: &Arc<Shared>, slot: Slot, producer: &mut TxProducer) -> Result<(), ConsentError> {
    let reader = Reader::open(&shared.bus, Isolation::Committed)?;
    let mut ends = Vec::new();
    for lane in lanes_of(slot.1, shared.slots, shared.lanes) {
        // Committed view: changes below were committed before the commit below.
        let (_, high) = reader.watermarks(topics::GRANTS, i32::from(lane))?;
        ends.push((lane, high));
    }
    producer.begin()?;
    for (lane, _) in &ends {
        let note = State {
            lane: *lane,
            at_ms: now_ms(),
            ..State::default()
        };
        let key = topics::fence_key(slot.0, *lane);
        let lane = i32::from(*lane);
        producer.send(topics::STATE, lane, &key, Some(&note.encode()), &[])?;
    }
    producer.commit()?;
    for (lane, high) in ends {
        shared.barrier.fenced(slot.0, lane, high);
    }
    Ok(())
}
