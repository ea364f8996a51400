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

use crate::error::ConsentError;
use crate::shared::{Shared, chain, now_ms};
use crate::store::Outgoing;

/// An owner that came back is left alone for this long, so that a slow one is not shut out again and
/// again without ever getting anything done.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Works off what is asked until `stop`.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    asked: &Receiver<(SlotKind, u32)>,
    stop: &AtomicBool,
) -> Result<(), ConsentError> {
    let mut done: FxHashMap<(SlotKind, u32), Instant> = FxHashMap::default();
    while !stop.load(Ordering::Acquire) {
        let (kind, slot) = match asked.recv_timeout(Duration::from_millis(50)) {
            Ok(asked) => asked,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let recent = done
            .get(&(kind, slot))
            .is_some_and(|at| at.elapsed() < AGAIN_AFTER);
        if recent {
            continue;
        }
        let started = Instant::now();
        match fence(shared, kind, slot) {
            Ok(()) => {
                done.insert((kind, slot), Instant::now());
                metrics::counter!("mz_consent_fences_total", "kind" => kind.name()).increment(1);
                tracing::warn!(
                    slot = format!("{}-{slot}", kind.name()),
                    ms = started.elapsed().as_millis() as u64,
                    "the slot's owner had not shown a change in time and was shut out"
                );
            }
            // The change stays pending; whoever asks again brings it here again.
            Err(error) => {
                tracing::error!(
                    slot = format!("{}-{slot}", kind.name()),
                    error = chain(&error),
                    "shutting out a slot's owner failed"
                );
            }
        }
    }
    Ok(())
}

fn fence(shared: &Arc<Shared>, kind: SlotKind, slot: u32) -> Result<(), ConsentError> {
    let lanes: Vec<u16> = lanes_of(slot, shared.slots, shared.lanes).collect();
    let reader = Reader::open(&shared.bus, Isolation::Committed)?;
    let mut ends = Vec::new();
    for lane in &lanes {
        // Committed view: changes below were committed before the owner is shut out.
        let (_, high) = reader.watermarks(topics::GRANTS, i32::from(*lane))?;
        ends.push((*lane, high));
    }
    let id = kind.transactional_id(slot);
    let mut producer = TxProducer::open(&shared.bus, &id, tuning::TRANSACTION_TIMEOUT)?;
    producer.init()?;
    for (lane, high) in &ends {
        shared.barrier.fenced(kind, *lane, *high);
    }
    // For the owner, if it comes back: it was not another owner.
    producer.begin()?;
    for (lane, _) in &ends {
        let note = State {
            lane: *lane,
            at_ms: now_ms(),
            ..State::default()
        };
        let key = topics::fence_key(kind, *lane);
        producer.send(
            topics::STATE,
            i32::from(*lane),
            &key,
            Some(&note.encode()),
            &[],
        )?;
    }
    producer.commit()?;
    let recorded = shared.runtime.block_on(async {
        let mut step = shared.store.step().await?;
        for (lane, _) in &ends {
            let mut audit = Audit::empty(
                AuditWriter::Consent,
                *lane,
                now_ms(),
                AuditKind::SlotFenced,
                AuditCause::Rule,
            );
            audit.rule = "SLOT_FENCED".into();
            audit.reason = format!("{}-{slot}", kind.name()).into();
            step.send(*lane, Outgoing::Nothing, Some(&audit)).await?;
        }
        step.commit().await
    });
    recorded?;
    shared.wake.ring();
    Ok(())
}
