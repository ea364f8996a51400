//! Checkpoints: signed notes (C2SP tlog-checkpoint) under the ledger's own key.

use mz_contract::{BUS, Contract, KeyUse};
use mz_seal::{KeyStatus, Signer};
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::merkle::Hash;
use mz_tlog::note::{self, Note, VerifierKey};

use crate::error::LedgerError;
use crate::log::{CHECKPOINT, Disk};

/// The key under which a log's checkpoints verify: its name is the log's origin.
///
/// # Errors
/// A bus id that can't be part of a key's name.
pub fn verifier_key(origin: &str, public: &[u8; 32]) -> Result<VerifierKey, note::KeyError> {
    VerifierKey::new(origin, note::KeyKind::Ed25519, public)
}

/// The keys under which the ledger's notes count: those that the contract lists as active. A revoked key
/// vouches for nothing, not even for what it signed before: nobody can tell when a signature was made.
pub fn checkpoint_keys(contract: &Contract) -> impl Iterator<Item = &[u8; 32]> {
    let keys = contract.keys_of(BUS).iter();
    keys.filter(|key| key.usage == KeyUse::Checkpoint && key.info.status == KeyStatus::Active)
        .map(|key| &key.info.public)
}

/// Whether one of the ledger's keys signed this note of a log.
pub fn is_signed<'k>(
    note: &Note,
    origin: &str,
    keys: impl IntoIterator<Item = &'k [u8; 32]>,
) -> bool {
    keys.into_iter()
        .any(|public| verifier_key(origin, public).is_ok_and(|key| note.verify(&key).is_ok()))
}

/// A signed checkpoint.
pub(crate) fn checkpoint(
    origin: &str,
    size: u64,
    root: Hash,
    signer: &dyn Signer,
    public: &[u8; 32],
) -> Result<String, LedgerError> {
    let checkpoint = Checkpoint {
        origin: origin.to_owned(),
        size,
        root,
        extensions: Vec::new(),
    };
    let malformed = |_| LedgerError::Checkpoint {
        origin: origin.to_owned(),
    };
    let text = checkpoint.encode().map_err(|_| LedgerError::Checkpoint {
        origin: origin.to_owned(),
    })?;
    let key = verifier_key(origin, public).map_err(|_| LedgerError::Checkpoint {
        origin: origin.to_owned(),
    })?;
    let signature = signer.sign(text.as_bytes()).map_err(LedgerError::Sign)?;
    let line = note::sign_line(&key, &text, |_| signature).map_err(malformed)?;
    let note = Note::assemble(&text, &[line]).map_err(malformed)?;
    Ok(note.to_string())
}

/// The size that the newest checkpoint on disk vouches for.
pub(crate) fn signed_size(
    disk: &impl Disk,
    origin: &str,
    public: &[u8; 32],
) -> Result<Option<u64>, LedgerError> {
    let malformed = || LedgerError::Checkpoint {
        origin: origin.to_owned(),
    };
    let bytes = match disk.read(CHECKPOINT) {
        Ok(None) => return Ok(None),
        Ok(Some(bytes)) => bytes,
        Err(_) => return Err(malformed()),
    };
    let note = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| Note::parse(text).ok())
        .ok_or_else(malformed)?;
    let key = verifier_key(origin, public).map_err(|_| malformed())?;
    note.verify(&key).map_err(|_| malformed())?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(|_| malformed())?;
    if checkpoint.origin != origin {
        return Err(malformed());
    }
    Ok(Some(checkpoint.size))
}
