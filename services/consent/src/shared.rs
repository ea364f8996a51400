//! What the threads of a consent service share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use mz_bus::BusOptions;
use mz_contract::Contract;
use mz_journal::topics::SlotKind;
use tokio::runtime::Handle as RuntimeHandle;

use crate::barrier::Barrier;
use crate::options::ConsentKeys;
use crate::store::Store;

/// The contract in force, as this service knows it.
#[derive(Clone)]
pub(crate) struct InForceNow {
    pub version: u64,
    pub contract: Arc<Contract>,
    pub files: Arc<BTreeMap<String, String>>,
}

pub(crate) struct Shared {
    pub bus: BusOptions,
    pub keys: Arc<ConsentKeys>,
    pub store: Store,
    pub slots: u32,
    pub fence_after: Duration,
    pub lanes: u16,
    pub runtime: RuntimeHandle,
    pub barrier: Barrier,
    pub wake: Wake,
    /// Slots whose owners are to be shut out.
    pub fences: Mutex<Sender<(SlotKind, u32)>>,
    /// Per lane: next offset of `bus.audit` whose predecessors are all in the store.
    pub audit_reached: Vec<AtomicI64>,
    in_force: RwLock<InForceNow>,
    ready: AtomicBool,
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "made in one place, from Options")]
    pub fn new(
        bus: BusOptions,
        keys: Arc<ConsentKeys>,
        store: Store,
        slots: u32,
        fence_after: Duration,
        in_force: InForceNow,
        runtime: RuntimeHandle,
        fences: Sender<(SlotKind, u32)>,
    ) -> Self {
        let lanes = in_force.contract.lanes;
        Self {
            bus,
            keys,
            store,
            slots,
            fence_after,
            lanes,
            runtime,
            barrier: Barrier::new(lanes, slots),
            wake: Wake::default(),
            fences: Mutex::new(fences),
            audit_reached: (0..lanes).map(|_| AtomicI64::new(0)).collect(),
            in_force: RwLock::new(in_force),
            ready: AtomicBool::new(false),
        }
    }

    pub fn in_force(&self) -> InForceNow {
        self.in_force
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn put_in_force(&self, now: InForceNow) {
        *self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// The slots' state was read once: enforcement can be told.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Asks for a slot's owner to be shut out; asking twice is asking once.
    pub fn fence(&self, kind: SlotKind, slot: u32) {
        let fences = self.fences.lock().unwrap_or_else(PoisonError::into_inner);
        // The thread is gone when the service ends: then nobody waits for it either.
        let _ = fences.send((kind, slot));
    }
}

/// Tells the publisher that the outbox has something.
#[derive(Default)]
pub(crate) struct Wake {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Waits until it rings, at most `longest`.
    pub fn wait(&self, longest: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) = self
            .changed
            .wait_timeout_while(rung, longest, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
