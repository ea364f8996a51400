//! What a consent service is told: cluster, contract, keys, database.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mz_bus::BusOptions;
use mz_contract::{BUS, Contract, IdNumber};
use mz_journal::SubjectTag;
use mz_keys::public::KeyUse;
use mz_keys::{AuditKey, KeyError, KeysDir, PlacementKey, SubjectKey, department_signer};
use mz_seal::Signer;

use crate::store::Database;

/// How long a change waits for a slot's owner to show it before the owner is shut out.
pub const FENCE_AFTER: Duration = Duration::from_secs(2);

/// Everything that a consent service needs.
#[derive(Clone)]
pub struct Options {
    /// As the principal `bus.consent`.
    pub bus: BusOptions,
    /// What is in force when no version was ever put in force: it becomes the first.
    pub contract: Arc<Contract>,
    /// The files that `contract` was loaded from.
    pub files: BTreeMap<String, String>,
    pub keys: Arc<ConsentKeys>,
    pub database: Database,
    /// Slots of each kind (gateway, vault) of the installation.
    pub slots: u32,
    pub fence_after: Duration,
    /// Names this process in the database.
    pub instance: String,
}

impl Options {
    pub fn new(
        bus: BusOptions,
        contract: Arc<Contract>,
        files: BTreeMap<String, String>,
        keys: Arc<ConsentKeys>,
        database: Database,
        slots: u32,
    ) -> Self {
        let instance = format!("{}-{}", bus.client_id, std::process::id());
        Self {
            bus,
            contract,
            files,
            keys,
            database,
            slots,
            fence_after: FENCE_AFTER,
            instance,
        }
    }
}

/// The secrets that it works with.
pub struct ConsentKeys {
    pub placement: PlacementKey,
    pub subject: SubjectKey,
    pub audit: AuditKey,
    /// Signs the receipts that people keep.
    pub signer: Box<dyn Signer>,
}

impl ConsentKeys {
    /// Reads them from a keys directory; refuses files that others can read, and a signing key that
    /// the contract doesn't list.
    pub fn load(keys: &KeysDir, contract_root: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            placement: PlacementKey::load(&keys.placement_key())?,
            subject: SubjectKey::load(&keys.subject_key())?,
            audit: AuditKey::load(&keys.audit_key())?,
            signer: department_signer(keys, contract_root, BUS, KeyUse::Consent)?,
        })
    }

    /// A person's lane and tag.
    pub fn place(&self, id: &IdNumber, lanes: u16) -> (u16, SubjectTag) {
        (self.placement.lane(id, lanes), self.subject.tag(id))
    }
}

impl std::fmt::Debug for ConsentKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConsentKeys(…)")
    }
}
