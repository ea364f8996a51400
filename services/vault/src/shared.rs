//! What the slots, the HTTP side and the freshness thread of one process share.

use std::collections::BTreeSet;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, PoisonError, RwLock};

use mz_bus::BusOptions;
use mz_contract::Contract;
use mz_journal::{Grant, GrantId, SubjectTag};
use mz_policy::{GrantsFull, GrantsIndex};
use rustc_hash::FxHashMap;
use tokio::runtime::Handle as RuntimeHandle;

use crate::freshness::Freshness;
use crate::keys::VaultKeys;
use crate::refusal::Refusal;
use crate::slot::command::Command;
use crate::slot::error::SlotError;
use crate::store::Database;

/// A contract and the version under which it was put in force; 0 for the one on disk, as long as no
/// version was.
#[derive(Clone)]
pub struct InForce {
    pub version: u64,
    pub contract: Arc<Contract>,
}

pub struct Shared {
    pub bus: BusOptions,
    pub keys: Arc<VaultKeys>,
    pub database: Database,
    pub slots: u32,
    /// The same in every contract version of an installation.
    pub lanes: u16,
    /// Names this process in `lane_owner`.
    pub instance: String,
    pub runtime: RuntimeHandle,
    pub freshness: Freshness,
    /// Where each case's person is. A case id tells neither lane nor person by itself.
    cases: RwLock<FxHashMap<GrantId, (u16, SubjectTag)>>,
    /// What requests are read under: the newest version that one of the slots decides under.
    in_force: RwLock<InForce>,
    /// Slots that this process is to run, taken or not.
    claims: RwLock<BTreeSet<u32>>,
    /// Slots that are taken and loaded.
    routes: RwLock<FxHashMap<u32, SyncSender<Command>>>,
}

impl Shared {
    pub fn new(
        bus: BusOptions,
        contract: Arc<Contract>,
        keys: Arc<VaultKeys>,
        database: Database,
        slots: u32,
        instance: String,
        runtime: RuntimeHandle,
    ) -> Self {
        Self {
            bus,
            keys,
            database,
            slots,
            lanes: contract.lanes,
            instance,
            runtime,
            freshness: Freshness::default(),
            cases: RwLock::default(),
            in_force: RwLock::new(InForce {
                version: 0,
                contract,
            }),
            claims: RwLock::default(),
            routes: RwLock::default(),
        }
    }

    pub fn contract(&self) -> Arc<Contract> {
        self.in_force().contract
    }

    pub fn in_force(&self) -> InForce {
        self.in_force
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A slot decides under this version from now on. The newest of all slots is kept.
    pub fn put_in_force(&self, newer: &InForce) {
        let mut held = self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if newer.version > held.version {
            *held = newer.clone();
        }
    }

    /// Joins a copy of a grant into a slot's index, and remembers whose case it is.
    pub fn join(
        &self,
        grants: &mut GrantsIndex,
        lane: u16,
        grant: &Grant,
    ) -> Result<(), SlotError> {
        let joined: Result<_, GrantsFull> = grants.join(grant);
        joined?;
        let mut cases = self.cases.write().unwrap_or_else(PoisonError::into_inner);
        cases.insert(grant.id, (lane, grant.subject));
        Ok(())
    }

    pub fn case(&self, id: GrantId) -> Option<(u16, SubjectTag)> {
        self.cases
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .copied()
    }

    /// This process is to run the slot from now on.
    pub fn claim(&self, slot: u32) {
        self.claims
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(slot);
    }

    /// Another process is to run it.
    pub fn unclaim(&self, slot: u32) {
        self.claims
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&slot);
    }

    /// A slot is ready for commands.
    pub fn open_route(&self, slot: u32, commands: SyncSender<Command>) {
        self.routes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(slot, commands);
    }

    /// A slot is gone: its lanes are answered elsewhere, or later.
    pub fn close_route(&self, slot: u32) {
        self.routes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&slot);
        let slots = self.slots.max(1);
        let mut cases = self.cases.write().unwrap_or_else(PoisonError::into_inner);
        cases.retain(|_, (lane, _)| u32::from(*lane) % slots != slot);
    }

    pub fn open_slots(&self) -> usize {
        self.routes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Hands a command to the owner of `lane`.
    pub fn route(&self, lane: u16, command: Command) -> Result<(), Refusal> {
        let slot = u32::from(lane) % self.slots.max(1);
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let Some(owner) = routes.get(&slot) else {
            let claims = self.claims.read().unwrap_or_else(PoisonError::into_inner);
            // Ours, but not taken yet, or being taken again: it will be here.
            return Err(match claims.contains(&slot) {
                true => Refusal::Unavailable,
                false => Refusal::LaneElsewhere,
            });
        };
        match owner.try_send(command) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Refusal::Busy),
            Err(TrySendError::Disconnected(_)) => Err(Refusal::Unavailable),
        }
    }
}
