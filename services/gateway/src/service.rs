//! A gateway process: runs the slots that it owns, each in its own thread, until told to stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mz_bus::{SlotGroup, SlotOptions, tuning};
use mz_journal::topics::SlotKind;

use crate::contract;
use crate::error::Error;
use crate::options::{Options, Ownership};
use crate::slot::run_slot;
use crate::stats::{Counts, Stats};
use crate::telemetry;

/// How often ownership is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long a slot may take to commit what it has in hand. Less than the group's session timeout.
const WIND_UP: Duration = Duration::from_secs(4);

/// The gateway of one process.
pub struct Service {
    options: Options,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    stats: Mutex<BTreeMap<u32, Arc<Stats>>>,
}

/// Watches a gateway, and tells it to stop. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// Commit what is in hand, then end.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
    }

    /// What all slots of this process have committed so far, lost ones included.
    pub fn counts(&self) -> Counts {
        let mut total = Counts::default();
        for stats in lock(&self.0.stats).values() {
            total += stats.counts();
        }
        total
    }

    /// Slots that have taken over and decide.
    pub fn running(&self) -> Vec<u32> {
        let stats = lock(&self.0.stats);
        let running = stats.iter().filter(|(_, stats)| stats.is_running());
        running.map(|(slot, _)| *slot).collect()
    }

    /// Every running slot has read everything and committed what came of it.
    pub fn is_idle(&self) -> bool {
        let stats = lock(&self.0.stats);
        let mut running = stats.values().filter(|stats| stats.is_running()).peekable();
        running.peek().is_some() && running.all(|stats| stats.is_idle())
    }
}

struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), Error>>,
}

type Slots = Arc<Mutex<BTreeMap<u32, Running>>>;

impl Service {
    /// Checks what can be checked without the cluster.
    ///
    /// # Errors
    /// [`Error::Contract`], [`Error::SlotUnknown`].
    pub fn new(options: Options) -> Result<Self, Error> {
        contract::ready(&options.contract, &options.keys).map_err(Error::Contract)?;
        if let Ownership::Fixed(slots) = &options.ownership
            && let Some(slot) = slots.iter().find(|slot| **slot >= options.slots)
        {
            return Err(Error::SlotUnknown {
                slot: *slot,
                slots: options.slots,
            });
        }
        Ok(Self {
            options,
            shared: Arc::default(),
        })
    }

    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Runs until [`Handle::stop`]. Blocks.
    ///
    /// # Errors
    /// What stopped a slot. Slots that another process took over stop alone; with fixed slots that
    /// is an error all the same, once the others have committed what they had in hand.
    pub fn run(self) -> Result<(), Error> {
        telemetry::describe();
        let slots: Slots = Arc::default();
        let mut group = self.join(&slots)?;
        let mut lost = BTreeMap::new();
        let outcome = loop {
            if self.shared.stop.load(Ordering::Acquire) {
                break Ok(());
            }
            let owned = match group.poll(TICK) {
                Ok(owned) => owned,
                Err(error) => break Err(error.into()),
            };
            // Fixed slots answer at once.
            if matches!(self.options.ownership, Ownership::Fixed(_)) {
                thread::sleep(TICK / 10);
            }
            if let Err(error) = reap(&slots, &mut lost, &self.options.ownership) {
                break Err(error);
            }
            // A slot that was lost while the group still counts it as ours: either the group is about to
            // give it to whoever has it, or that was a former owner that woke up and did not know yet
            // that it had been replaced. Within a session both know.
            lost.retain(|slot, since: &mut Instant| {
                owned.contains(slot) && since.elapsed() < tuning::SESSION_TIMEOUT
            });
            let wanted = owned.iter().filter(|slot| !lost.contains_key(*slot));
            if let Err(error) = self.start(wanted.copied(), &slots) {
                break Err(error);
            }
        };
        let ended = wind_up(&slots, None);
        outcome.and(ended)
    }

    fn join(&self, slots: &Slots) -> Result<SlotGroup, Error> {
        Ok(match &self.options.ownership {
            Ownership::Fixed(fixed) => SlotGroup::fixed(fixed.iter().copied()),
            Ownership::Group { instance } => {
                let slots = Arc::clone(slots);
                let options = SlotOptions {
                    instance: instance.clone(),
                    ..SlotOptions::new(SlotKind::Gateway)
                };
                SlotGroup::join(&self.options.bus, &options, move |revoked| {
                    // Its threads say themselves what went wrong.
                    let _ = wind_up(&slots, Some(revoked));
                })?
            }
        })
    }

    fn start(&self, wanted: impl Iterator<Item = u32>, slots: &Slots) -> Result<(), Error> {
        let mut running = lock(slots);
        for slot in wanted {
            if running.contains_key(&slot) {
                continue;
            }
            let stop = Arc::new(AtomicBool::new(false));
            let stats = Arc::clone(lock(&self.shared.stats).entry(slot).or_default());
            let (options, flag) = (self.options.clone(), Arc::clone(&stop));
            let thread = thread::Builder::new()
                .name(format!("gw-{slot}"))
                .spawn(move || run_slot(&options, slot, &stats, &flag))
                .map_err(|source| Error::Thread { slot, source })?;
            running.insert(slot, Running { stop, thread });
        }
        Ok(())
    }
}

/// Takes away threads that have ended. A slot lost to another process is noted, or an error.
fn reap(
    slots: &Slots,
    lost: &mut BTreeMap<u32, Instant>,
    ownership: &Ownership,
) -> Result<(), Error> {
    let mut running = lock(slots);
    let ended: Vec<u32> = running
        .iter()
        .filter(|(_, running)| running.thread.is_finished())
        .map(|(slot, _)| *slot)
        .collect();
    for slot in ended {
        let Some(ended) = running.remove(&slot) else {
            continue;
        };
        match ended.thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(Error::Fenced { .. })) if matches!(ownership, Ownership::Group { .. }) => {
                lost.insert(slot, Instant::now());
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(Error::Panicked { slot }),
        }
    }
    Ok(())
}

/// Stops slots (all without `which`) and waits for them. One that does not end in time is left to
/// be fenced by its next owner. Answers the first failure.
fn wind_up(slots: &Slots, which: Option<&[u32]>) -> Result<(), Error> {
    let chosen: Vec<(u32, Running)> = {
        let mut running = lock(slots);
        let chosen: Vec<u32> = running
            .keys()
            .filter(|slot| which.is_none_or(|which| which.contains(slot)))
            .copied()
            .collect();
        chosen
            .into_iter()
            .filter_map(|slot| Some((slot, running.remove(&slot)?)))
            .collect()
    };
    for (_, running) in &chosen {
        running.stop.store(true, Ordering::Release);
    }
    let deadline = Instant::now() + WIND_UP;
    let mut outcome = Ok(());
    for (slot, running) in chosen {
        while !running.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(TICK / 20);
        }
        if !running.thread.is_finished() {
            tracing::warn!(
                slot,
                "the slot did not end in time: its next owner will fence it"
            );
            continue;
        }
        let ended = match running.thread.join() {
            Ok(ended) => ended,
            Err(_) => Err(Error::Panicked { slot }),
        };
        outcome = outcome.and(ended);
    }
    outcome
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
