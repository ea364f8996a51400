//! Rotation with overlap, and revocation.
//!
//! A rotated key stays active beside the new one, so that what is in flight still verifies; it is
//! revoked later, up to a stated batch per stream, or left as it is.

use crate::KeyError;
use crate::layout::{self, KeysDir};
use crate::public::{BatchPosition, KeyStatus, KeyUse, PublicKeys, Revocation};
use crate::sign::ensure_signing_key;
use std::collections::BTreeMap;
use std::path::Path;

/// Makes a new sealing key for `owner` and lists it; the old private key moves aside to
/// `seal.<its id>.key` and stays active. Answers the new key's id.
///
/// Every step leaves a state from which it can be repeated: after a crash in between, the next
/// `provision` or `rotate_seal_key` finds no `seal.key`, or one that is not listed, and goes on.
pub fn rotate_seal_key(
    keys: &KeysDir,
    contract_root: &Path,
    owner: &str,
) -> Result<String, KeyError> {
    layout::check_name(owner)?;
    let file = layout::public_file(contract_root, owner);
    let mut listed = PublicKeys::read(&file)?;
    let current = keys.seal_key(owner);
    if current.exists() {
        let (public, _) = ensure_signing_key(&current)?;
        if let Some(known) = listed.find_public(KeyUse::Seal, &public) {
            let aside = current.with_file_name(format!("seal.{}.key", known.id));
            std::fs::rename(&current, &aside).map_err(KeyError::io("cannot move", &current))?;
        }
    }
    let (public, _) = ensure_signing_key(&current)?;
    let (id, _) = listed.list(owner, KeyUse::Seal, &public);
    listed.write(&file)?;
    Ok(id)
}

/// Revokes a key of `owner`: from now on only batches up to `last_batch` of each stream count.
/// A second revocation may only tighten: the earlier of both positions wins, and a stream that the
/// first did not list keeps none.
pub fn revoke(
    contract_root: &Path,
    owner: &str,
    key_id: &str,
    reason: &str,
    last_batch: &BTreeMap<String, BatchPosition>,
) -> Result<(), KeyError> {
    layout::check_name(owner)?;
    let file = layout::public_file(contract_root, owner);
    let mut listed = PublicKeys::read(&file)?;
    let key = listed
        .keys
        .iter_mut()
        .find(|key| key.id == key_id)
        .ok_or_else(|| KeyError::NoSuchKey {
            key_id: key_id.to_owned(),
            path: file.clone(),
        })?;
    let last_batch = match &key.status {
        KeyStatus::Active => last_batch.clone(),
        KeyStatus::Revoked(earlier) => earlier
            .last_batch
            .iter()
            .filter_map(|(stream, position)| {
                let now = last_batch.get(stream)?;
                Some((stream.clone(), *position.min(now)))
            })
            .collect(),
    };
    key.status = KeyStatus::Revoked(Revocation {
        reason: reason.to_owned(),
        last_batch,
    });
    listed.write(&file)
}
