//! What a gateway process is told: cluster, contract, keys, which slots, how fast to commit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mz_bus::BusOptions;
use mz_contract::{BUS, Contract};
use mz_keys::public::KeyUse;
use mz_keys::{
    AuditKey, KeyError, KeysDir, PlacementKey, PseudonymKey, SubjectKey, department_signer,
};
use mz_policy::DEFAULT_GRANT_LIMIT;
use mz_seal::Signer;

/// Everything that a gateway needs.
#[derive(Clone)]
pub struct Options {
    /// As the principal `bus.gateway`.
    pub bus: BusOptions,
    /// Loaded as `Mode::Signed`: a section without its provider's signature is refused at start. Decided
    /// under until `bus.grants` says that another version is in force.
    pub contract: Arc<Contract>,
    pub keys: Arc<Keys>,
    /// Slots of the installation, over all processes. Lane `l` belongs to slot `l % slots`.
    pub slots: u32,
    pub ownership: Ownership,
    pub pace: Pace,
    /// Most grants that one slot holds in memory.
    pub grant_limit: usize,
}

impl Options {
    /// All slots in this process, the usual pace.
    pub fn new(bus: BusOptions, contract: Arc<Contract>, keys: Arc<Keys>, slots: u32) -> Self {
        Self {
            bus,
            contract,
            keys,
            slots,
            ownership: Ownership::Fixed((0..slots).collect()),
            pace: Pace::default(),
            grant_limit: DEFAULT_GRANT_LIMIT,
        }
    }
}

/// Who runs which slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// These, by configuration. Losing one to another process ends this process; being shut out by
    /// consent for a moment does not.
    Fixed(Vec<u32>),
    /// What the slot group hands out. `instance`: a name that a restarted process keeps, so that
    /// a quick restart moves nothing.
    Group { instance: Option<String> },
}

/// When a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two commits of a slot that is busy.
    pub commit_every: Duration,
    /// After a pause, a transaction stays open this long for what comes with its first event.
    pub linger: Duration,
    /// Source records after which a transaction is committed at once.
    pub max_events: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            commit_every: Duration::from_millis(50),
            linger: Duration::from_millis(5),
            max_events: 20_000,
        }
    }
}

/// The keys that only the bureau's gateway holds.
pub struct Keys {
    pub placement: PlacementKey,
    pub subject: SubjectKey,
    pub pseudonym: PseudonymKey,
    pub audit: AuditKey,
    /// The bus's seal key: marks and derived answers.
    pub signer: Box<dyn Signer>,
}

impl Keys {
    /// Reads them from a keys directory; refuses files that others can read, and a seal key that
    /// the contract doesn't list.
    pub fn load(keys: &KeysDir, contract_root: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            placement: PlacementKey::load(&keys.placement_key())?,
            subject: SubjectKey::load(&keys.subject_key())?,
            pseudonym: PseudonymKey::load(&keys.pseudonym_key())?,
            audit: AuditKey::load(&keys.audit_key())?,
            signer: department_signer(keys, contract_root, BUS, KeyUse::Seal)?,
        })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}
