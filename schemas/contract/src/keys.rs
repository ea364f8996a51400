//! Public keys of departments and of the bus: `departments/<id>.keys.yaml` and `bus.keys.yaml`.

use mz_seal::{KeyInfo, KeySource};
use serde::Deserialize;

use crate::contract::{BUS, Contract};

/// What a key may sign. One key never has two uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyUse {
    Seal,
    Approval,
    /// Receipts of withdrawals, by a consuming department.
    Receipt,
    /// Receipts of consents, by the bus.
    Consent,
    /// Evidence of a citizen's act in an app, by the bus's portal.
    Evidence,
    /// Checkpoints of the ledger, by the bus.
    Checkpoint,
    /// Cosignatures of checkpoints, by a department's witness.
    Witness,
    /// Labels of people in the ledger, by the bus. It signs nothing: [`Contract::vrf_keys`].
    Vrf,
}

/// A published key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub id: String,
    pub usage: KeyUse,
    pub info: KeyInfo,
    /// Why it was revoked, as published.
    pub revoked_because: Option<String>,
}

/// The public half of the function that labels people in the ledger (RFC 9381, <https://c2sp.org/vrf-r255>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VrfKey {
    pub id: String,
    pub public: [u8; 32],
    /// Nobody is labelled by it any more; what it labelled stays provable.
    pub revoked: bool,
}

/// How the contract writes the suite of such a key.
pub(crate) const VRF_SUITE: &str = "vrf-r255";

impl Contract {
    /// The keys a department published; those of the bus under `BUS`.
    #[must_use]
    pub fn keys_of(&self, department: &str) -> &[PublicKey] {
        if department == BUS {
            return &self.bus_keys;
        }
        self.department(department)
            .map_or(&[], |department| &department.keys)
    }

    /// A department's key of one use, active or not.
    #[must_use]
    pub fn key(&self, department: &str, usage: KeyUse, key_id: &str) -> Option<&PublicKey> {
        self.keys_of(department)
            .iter()
            .find(|key| key.usage == usage && key.id == key_id)
    }

    /// A department's approval key, active or not.
    #[must_use]
    pub fn approval_key(&self, department: &str, key_id: &str) -> Option<&PublicKey> {
        self.key(department, KeyUse::Approval, key_id)
    }
}

/// Seal keys by department; the bus seals under the name `bus`. An approval key never verifies a seal.
impl KeySource for Contract {
    fn seal_key(&self, department: &str, key_id: &str) -> Option<&KeyInfo> {
        self.key(department, KeyUse::Seal, key_id)
            .map(|key| &key.info)
    }
}
