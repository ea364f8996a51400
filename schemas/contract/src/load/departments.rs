//! `departments/<id>.yaml`, `departments/<id>.keys.yaml` and `bus.keys.yaml`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mz_seal::{KeyInfo, KeyStatus, LastBatch, Suite, check_public_key};
use serde_saphyr::Location;

use super::{is_name, is_reserved, text};
use crate::department::{Department, is_uscc};
use crate::fault::Faults;
use crate::keys::{KeyUse, PublicKey, VRF_SUITE, VrfKey};
use crate::raw::{RawDepartment, RawKey, RawKeyStatus, RawKeys};
use crate::tree::Tree;
use crate::yaml::{self, Located};

pub(super) const BUS_KEYS_FILE: &str = "bus.keys.yaml";

pub(super) fn load(tree: &Tree, faults: &mut Faults) -> Vec<Department> {
    let mut departments: Vec<Department> = Vec::new();
    for (file, source) in tree.below("departments") {
        if file.ends_with(".keys.yaml") {
            continue;
        }
        let id = file
            .trim_start_matches("departments/")
            .trim_end_matches(".yaml");
        if !is_name(id) || is_reserved(id) {
            faults.push("NAME_INVALID", file, &Location::UNKNOWN, id, "");
            continue;
        }
        let Some(raw) = yaml::parse::<RawDepartment>(file, source, faults) else {
            continue;
        };
        let uscc = raw.uscc;
        if !is_uscc(&uscc.value) {
            faults.push("USCC_INVALID", file, &uscc.referenced, &uscc.value, "");
        } else if let Some(other) = departments.iter().find(|other| other.uscc == uscc.value) {
            faults.push(
                "USCC_DUPLICATE",
                file,
                &uscc.referenced,
                &uscc.value,
                &other.id,
            );
        }
        departments.push(Department {
            id: id.to_owned(),
            name: text(raw.name),
            kind: raw.kind,
            uscc: uscc.value,
            keys: Vec::new(),
        });
    }
    departments
}

/// Puts keys to their departments; returns those of the bus.
pub(super) fn load_keys(
    tree: &Tree,
    departments: &mut [Department],
    faults: &mut Faults,
) -> (Vec<PublicKey>, Vec<VrfKey>) {
    // The same 32 bytes twice, under whatever name, means that two parties or two uses share a key.
    let mut seen = BTreeMap::new();
    for (file, source) in tree.below("departments") {
        let Some(id) = file
            .trim_start_matches("departments/")
            .strip_suffix(".keys.yaml")
        else {
            continue;
        };
        let keys = read_keys(file, source, &mut seen, None, faults);
        match departments
            .iter_mut()
            .find(|department| department.id == id)
        {
            Some(department) => department.keys = keys,
            // Its own file may be there and faulty: that has been said.
            None if tree.get(&format!("departments/{id}.yaml")).is_some() => {}
            None => faults.push("DEPARTMENT_UNKNOWN", file, &Location::UNKNOWN, id, ""),
        }
    }
    let mut vrf = Vec::new();
    let keys = tree
        .get(BUS_KEYS_FILE)
        .map(|source| read_keys(BUS_KEYS_FILE, source, &mut seen, Some(&mut vrf), faults))
        .unwrap_or_default();
    (keys, vrf)
}

fn read_keys(
    file: &str,
    source: &str,
    seen: &mut BTreeMap<[u8; 32], String>,
    mut vrf: Option<&mut Vec<VrfKey>>,
    faults: &mut Faults,
) -> Vec<PublicKey> {
    let mut keys: Vec<PublicKey> = Vec::new();
    let Some(raw) = yaml::parse::<RawKeys>(file, source, faults) else {
        return keys;
    };
    for raw in raw.keys {
        if raw.value.usage == KeyUse::Vrf {
            let id = &raw.value.id;
            match &mut vrf {
                Some(all) => all.extend(read_vrf_key(file, raw.value, seen, faults)),
                None => faults.push("KEY_USE_FOREIGN", file, &id.referenced, &id.value, "vrf"),
            }
            continue;
        }
        let Some(key) = read_key(file, raw.value, faults) else {
            continue;
        };
        let (key, id_at) = (key.value, key.referenced);
        if keys.iter().any(|other| other.id == key.id) {
            faults.push("KEY_DUPLICATE_ID", file, &id_at, &key.id, "");
            continue;
        }
        if let Some(other) = seen.insert(key.info.public, format!("{file}: {}", key.id)) {
            faults.push("KEY_REUSED", file, &id_at, &key.id, &other);
            continue;
        }
        keys.push(key);
    }
    keys
}

/// A key that labels people. Whether its bytes are a point is found by whoever verifies with it.
fn read_vrf_key(
    file: &str,
    raw: RawKey,
    seen: &mut BTreeMap<[u8; 32], String>,
    faults: &mut Faults,
) -> Option<VrfKey> {
    let (id, suite) = (raw.id, raw.suite);
    if id.value.is_empty() || id.value.len() > mz_seal::MAX_NAME_BYTES {
        faults.push("NAME_INVALID", file, &id.referenced, &id.value, "");
        return None;
    }
    if suite.value != VRF_SUITE {
        faults.push("SUITE_UNKNOWN", file, &suite.referenced, &suite.value, "");
        return None;
    }
    let bytes = STANDARD.decode(raw.public.value.as_bytes()).ok();
    let public: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    let Some(public) = public.filter(|public| *public != [0; 32]) else {
        faults.push("KEY_MALFORMED", file, &raw.public.referenced, &id.value, "");
        return None;
    };
    if let Some(other) = seen.insert(public, format!("{file}: {}", id.value)) {
        faults.push("KEY_REUSED", file, &id.referenced, &id.value, &other);
        return None;
    }
    Some(VrfKey {
        id: id.value,
        public,
        revoked: matches!(raw.status, RawKeyStatus::Revoked(_)),
    })
}

fn read_key(file: &str, raw: RawKey, faults: &mut Faults) -> Option<Located<PublicKey>> {
    let id = raw.id;
    if id.value.is_empty() || id.value.len() > mz_seal::MAX_NAME_BYTES {
        faults.push("NAME_INVALID", file, &id.referenced, &id.value, "");
        return None;
    }
    let Some(suite) = Suite::from_name(&raw.suite.value) else {
        faults.push(
            "SUITE_UNKNOWN",
            file,
            &raw.suite.referenced,
            &raw.suite.value,
            "",
        );
        return None;
    };
    let public: Option<[u8; 32]> = STANDARD
        .decode(raw.public.value.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok());
    let Some(public) = public else {
        faults.push("KEY_MALFORMED", file, &raw.public.referenced, &id.value, "");
        return None;
    };
    if check_public_key(&public).is_err() {
        faults.push("KEY_WEAK", file, &raw.public.referenced, &id.value, "");
        return None;
    }
    let (status, revoked_because) = match raw.status {
        RawKeyStatus::Active => (KeyStatus::Active, None),
        RawKeyStatus::Revoked(revocation) => {
            let last_batch = revocation
                .last_batch
                .into_iter()
                .map(|(stream, last)| LastBatch {
                    stream,
                    epoch: last.epoch,
                    batch: last.batch,
                })
                .collect();
            (KeyStatus::Revoked { last_batch }, Some(revocation.reason))
        }
    };
    let (referenced, defined) = (id.referenced, id.defined);
    let key = PublicKey {
        id: id.value,
        usage: raw.usage,
        info: KeyInfo {
            suite,
            public,
            status,
        },
        revoked_because,
    };
    Some(Located {
        value: key,
        referenced,
        defined,
    })
}

/// Whether a department can seal at all.
pub(super) fn has_seal_key(department: &Department) -> bool {
    department.keys.iter().any(|key| key.usage == KeyUse::Seal)
}
