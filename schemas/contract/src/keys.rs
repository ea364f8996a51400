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

    /// A department's approval key, active or not.
    #[must_use]
    pub fn approval_key(&self, department: &str, key_id: &str) -> Option<&PublicKey> {
        self.keys_of(department)
            .iter()
            .find(|key| key.usage == KeyUse::Approval && key.id == key_id)
    }
}

/// Seal keys by department; the bus seals under the name `bus`. An approval key never verifies a seal.
impl KeySource for Contract {
    fn seal_key(&self, department: &str, key_id: &str) -> Option<&KeyInfo> {
        self.keys_of(department)
            .iter()
            .find(|key| key.usage == KeyUse::Seal && key.id == key_id)
            .map(|key| &key.info)
    }
}
