//! What a vault process is told: cluster, contract, keys, database, which slots.

use std::path::Path;
use std::sync::Arc;

use mz_bus::BusOptions;
use mz_contract::Contract;
use mz_keys::public::KeyUse;
use mz_keys::{
    AuditKey, KeyError, KeysDir, PlacementKey, PseudonymKey, SubjectKey, SubjectVrf,
    department_signer, wrapper,
};

use crate::keys::VaultKeys;
use crate::store::Database;

/// Everything that a vault needs.
#[derive(Clone)]
pub struct Options {
    /// As the principal `bus.vault`.
    pub bus: BusOptions,
    pub contract: Arc<Contract>,
    pub keys: Arc<VaultKeys>,
    pub database: Database,
    /// Slots of the installation, over all processes. Lane `l` belongs to slot `l % slots`.
    pub slots: u32,
    pub ownership: Ownership,
}

impl Options {
    /// All slots in this process.
    pub fn new(
        bus: BusOptions,
        contract: Arc<Contract>,
        keys: Arc<VaultKeys>,
        database: Database,
        slots: u32,
    ) -> Self {
        Self {
            bus,
            contract,
            keys,
            database,
            slots,
            ownership: Ownership::Fixed((0..slots).collect()),
        }
    }
}

/// Who runs which slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// These, by configuration. Losing one to another process ends this process.
    Fixed(Vec<u32>),
    /// What the slot group hands out. `instance`: a name that a restarted process keeps, so that
    /// a quick restart moves nothing.
    Group { instance: Option<String> },
}

impl VaultKeys {
    /// Reads them from a keys directory; refuses files that others can read, and a seal key that
    /// the contract doesn't list.
    pub fn load(keys: &KeysDir, contract_root: &Path) -> Result<Self, KeyError> {
        let master = format!("file:{}", keys.vault_key().display());
        Ok(Self {
            wrapper: wrapper(&master)?.into(),
            placement: PlacementKey::load(&keys.placement_key())?,
            subject: SubjectKey::load(&keys.subject_key())?,
            pseudonym: PseudonymKey::load(&keys.pseudonym_key())?,
            audit: AuditKey::load(&keys.audit_key())?,
            vrf: SubjectVrf::listed(keys, contract_root)?,
            signer: department_signer(keys, contract_root, mz_contract::BUS, KeyUse::Seal)?.into(),
        })
    }
}
