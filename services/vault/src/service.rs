//! A running vault: one thread per slot, one that follows the sources' freshness, one that takes
//! part in handing out slots.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mz_bus::{BusError, SlotGroup, SlotOptions, tuning};
use mz_journal::topics::SlotKind;
use tokio::runtime::Runtime;

use crate::handle::Handle;
use crate::limits::{MAX_PENDING, RETRY_MAX, RETRY_MIN};
use crate::options::{Options, Ownership};
use crate::shared::Shared;
use crate::slot::error::SlotError;
use crate::slot::{STOP_POLL, Seen, Slot, is_lost, may_return};
use crate::store::{StoreError, check_master};
use crate::telemetry;

/// How often the share of slots is looked at.
const GROUP_POLL: Duration = Duration::from_millis(200);
/// Threads for database calls: they wait, they don't compute.
const RUNTIME_THREADS: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("slot {slot} was taken over by another owner")]
    Fenced { slot: u32 },
    #[error("slot {slot} does not exist: there are {slots}")]
    SlotUnknown { slot: u32, slots: u32 },
    /// The store's position is older than what the source topic still holds: facts are missing.
    #[error("slot {slot}: the store is too far behind a source topic")]
    Lost { slot: u32, source: SlotError },
    #[error("slot {slot} can't go on")]
    Slot { slot: u32, source: SlotError },
    #[error("store")]
    Store(#[from] StoreError),
    #[error("bus")]
    Bus(#[from] BusError),
    #[error("threads could not be started")]
    Threads(#[source] std::io::Error),
}

impl VaultError {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fenced { .. } => "VAULT_SUPERSEDED",
            Self::SlotUnknown { .. } => "VAULT_SLOT_UNKNOWN",
            Self::Lost { .. } => "VAULT_POSITION_LOST",
            Self::Slot { source, .. } => source.code(),
            Self::Store(error) => error.code(),
            Self::Bus(error) => error.code(),
            Self::Threads(_) => "VAULT_THREAD",
        }
    }
}

/// A vault that has been started. Dropping it stops it.
pub struct Service {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    failure: Arc<Mutex<Option<VaultError>>>,
    runtime: Option<Runtime>,
}

/// Runs a vault's slots until `stop`.
pub fn run(options: Options, stop: &AtomicBool) -> Result<(), VaultError> {
    let service = Service::start(options)?;
    while !stop.load(Ordering::Acquire) && !service.has_failed() {
        std::thread::sleep(STOP_POLL);
    }
    service.stop()
}

impl Service {
    /// Brings the schema up to date and starts all threads; slots are taken in the background.
    pub fn start(options: Options) -> Result<Self, VaultError> {
        if let Ownership::Fixed(slots) = &options.ownership
            && let Some(slot) = slots.iter().find(|slot| **slot >= options.slots)
        {
            return Err(VaultError::SlotUnknown {
                slot: *slot,
                slots: options.slots,
            });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("mz-vault-db")
            .enable_all()
            .build()
            .map_err(VaultError::Threads)?;
        runtime.block_on(async {
            options.database.migrate().await?;
            check_master(&options.database, &*options.keys.wrapper).await
        })?;
        let instance = match &options.ownership {
            Ownership::Group {
                instance: Some(name),
            } => name.clone(),
            _ => format!("{}-{}", options.bus.client_id, std::process::id()),
        };
        let shared = Arc::new(Shared::new(
            options.bus,
            options.contract,
            options.keys,
            options.database,
            options.slots,
            instance,
            runtime.handle().clone(),
        ));
        let mut service = Self {
            shared,
            stop: Arc::default(),
            threads: Vec::new(),
            failure: Arc::default(),
            runtime: Some(runtime),
        };
        service.spawn("mz-vault-fresh", follow_sources)?;
        let ownership = options.ownership;
        service.spawn("mz-vault-slots", move |worker| {
            hand_out(&worker, &ownership)
        })?;
        Ok(service)
    }

    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Something happened that this process must end for.
    pub fn has_failed(&self) -> bool {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Ends all threads in good order: what was committed stays, what waits is refused.
    pub fn stop(mut self) -> Result<(), VaultError> {
        self.wind_up();
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        failure.map_or(Ok(()), Err)
    }

    fn wind_up(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // A panic has been reported by the hook; there is nothing to add.
            let _ = thread.join();
        }
        if let Some(runtime) = self.runtime.take() {
            // Not dropped: that would block inside somebody else's runtime.
            runtime.shutdown_background();
        }
    }

    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(Worker) + Send + 'static,
    ) -> Result<(), VaultError> {
        let worker = Worker {
            shared: Arc::clone(&self.shared),
            stop: Arc::clone(&self.stop),
            failure: Arc::clone(&self.failure),
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(worker))
            .map_err(VaultError::Threads)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.wind_up();
    }
}

/// What each thread holds.
struct Worker {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<VaultError>>>,
}

impl Worker {
    fn fail(&self, error: VaultError) {
        tracing::error!(code = error.code(), error = %mz_bus::chain(&error), "vault stops");
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.stop.store(true, Ordering::Release);
    }
}

/// Growing pauses between attempts.
struct Backoff(Duration);

impl Backoff {
    fn wait(&mut self, stop: &AtomicBool) {
        let until = Instant::now() + self.0;
        while !stop.load(Ordering::Acquire) && Instant::now() < until {
            std::thread::sleep(STOP_POLL.min(self.0));
        }
        self.0 = (self.0 * 2).min(RETRY_MAX);
    }
}

fn follow_sources(worker: Worker) {
    let mut backoff = Backoff(RETRY_MIN);
    while !worker.stop.load(Ordering::Acquire) {
        let shared = &worker.shared;
        let contract = shared.contract();
        let changed =
            || worker.stop.load(Ordering::Acquire) || !Arc::ptr_eq(&contract, &shared.contract());
        if let Err(error) = shared.freshness.follow(&shared.bus, &contract, changed) {
            tracing::warn!(code = error.code(), error = %mz_bus::chain(&error), "status topics not readable");
            backoff.wait(&worker.stop);
        }
    }
}

/// One slot's thread, and how to end it.
struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

type RunningSlots = Arc<Mutex<BTreeMap<u32, Running>>>;

fn hand_out(worker: &Worker, ownership: &Ownership) {
    let running = RunningSlots::default();
    if let Err(error) = keep_share(worker, ownership, &running) {
        worker.fail(error);
    }
    let slots: Vec<u32> = lock(&running).keys().copied().collect();
    wind_up(&running, &slots);
}

fn keep_share(
    worker: &Worker,
    ownership: &Ownership,
    running: &RunningSlots,
) -> Result<(), VaultError> {
    let mut group = match ownership {
        Ownership::Fixed(slots) => SlotGroup::fixed(slots.iter().copied()),
        Ownership::Group { instance } => {
            let options = SlotOptions {
                instance: instance.clone(),
                ..SlotOptions::new(SlotKind::Vault)
            };
            let revoked = Arc::clone(running);
            let shared = Arc::clone(&worker.shared);
            SlotGroup::join(&worker.shared.bus, &options, move |slots| {
                for slot in slots {
                    shared.unclaim(*slot);
                }
                wind_up(&revoked, slots);
            })?
        }
    };
    let for_good = matches!(ownership, Ownership::Fixed(_));
    while !worker.stop.load(Ordering::Acquire) {
        let share = group.poll(GROUP_POLL)?;
        for slot in share.iter().filter(|slot| **slot < worker.shared.slots) {
            if !lock(running).contains_key(slot) {
                let started = start_slot(worker, *slot, for_good)?;
                lock(running).insert(*slot, started);
            }
        }
        if for_good {
            std::thread::sleep(GROUP_POLL);
        }
    }
    Ok(())
}

fn start_slot(worker: &Worker, slot: u32, for_good: bool) -> Result<Running, VaultError> {
    worker.shared.claim(slot);
    let stop = Arc::new(AtomicBool::new(false));
    let owner = Worker {
        shared: Arc::clone(&worker.shared),
        stop: Arc::clone(&stop),
        failure: Arc::clone(&worker.failure),
    };
    let all = Arc::clone(&worker.stop);
    let thread = std::thread::Builder::new()
        .name(format!("mz-vault-{slot}"))
        .spawn(move || {
            if let Err(error) = serve(&owner, slot, for_good) {
                owner.fail(error);
                all.store(true, Ordering::Release);
            }
        })
        .map_err(VaultError::Threads)?;
    Ok(Running { stop, thread })
}

fn wind_up(running: &RunningSlots, slots: &[u32]) {
    let ended: Vec<Running> = {
        let mut running = lock(running);
        slots
            .iter()
            .filter_map(|slot| running.remove(slot))
            .collect()
    };
    for slot in &ended {
        slot.stop.store(true, Ordering::Release);
    }
    for slot in ended {
        let _ = slot.thread.join();
    }
}

fn lock(running: &RunningSlots) -> std::sync::MutexGuard<'_, BTreeMap<u32, Running>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a slot, works, and takes it again after failures that pass.
fn serve(worker: &Worker, slot: u32, for_good: bool) -> Result<(), VaultError> {
    let mut backoff = Backoff(RETRY_MIN);
    while !worker.stop.load(Ordering::Acquire) {
        let started = Instant::now();
        let mut seen = Seen::default();
        let Err(error) = own(worker, slot, &mut seen) else {
            return Ok(());
        };
        worker.shared.close_route(slot);
        telemetry::slot_lost(slot, error.code());
        tracing::warn!(slot, code = error.code(), error = %mz_bus::chain(&error), "slot lost");
        if error.is_shut_out() && comes_back(worker, slot, &seen) {
            backoff.0 = RETRY_MIN;
            continue;
        }
        if error.is_fenced() {
            if for_good {
                return Err(VaultError::Fenced { slot });
            }
            // The group has given it to somebody else and will say so; if it doesn't within a
            // session, the slot is still ours to take.
            backoff.0 = backoff.0.max(tuning::SESSION_TIMEOUT);
        } else if is_lost(&error) {
            return Err(VaultError::Lost {
                slot,
                source: error,
            });
        } else if error.is_permanent() {
            return Err(VaultError::Slot {
                slot,
                source: error,
            });
        } else if started.elapsed() > RETRY_MAX {
            backoff.0 = RETRY_MIN;
        }
        backoff.wait(&worker.stop);
    }
    Ok(())
}

/// Whether it was consent that shut this owner out, and nobody has taken the slot since.
fn comes_back(worker: &Worker, slot: u32, seen: &Seen) -> bool {
    match may_return(&worker.shared.bus, seen, &worker.stop) {
        Ok(true) => {
            tracing::info!(slot, "shut out by consent: the slot is taken again");
            true
        }
        Ok(false) => false,
        Err(error) => {
            tracing::warn!(slot, code = error.code(), error = %mz_bus::chain(&error), "fence not understood");
            false
        }
    }
}

fn own(worker: &Worker, slot: u32, seen: &mut Seen) -> Result<(), SlotError> {
    let (sender, commands) = sync_channel(MAX_PENDING);
    let taken = Slot::take(&worker.shared, slot, seen)?;
    tracing::info!(slot, lanes = taken.lanes().count(), "slot taken");
    worker.shared.open_route(slot, sender);
    let ended = taken.run(&commands, &worker.stop);
    worker.shared.close_route(slot);
    ended
}
