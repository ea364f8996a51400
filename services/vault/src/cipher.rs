//! How a fact's bytes rest in the database: sealed under the person's own key and bound to their row.

use mz_journal::SubjectTag;
use mz_keys::{DataKey, WrapError};

/// What `fact.cipher` says of a row stored before there were keys: the bytes as they are.
pub const PLAIN: i16 = 0;
/// AES-256-GCM under the person's key.
pub const SUBJECT_KEY: i16 = 1;

/// Names the layout of what is bound to a fact's bytes.
const FACT_BINDING: &[u8; 16] = b"mz-vault-fact-1\0";
/// The same for a wrapped key.
const KEY_BINDING: &[u8; 16] = b"mz-vault-key-1\0\0";

/// What a stored body belongs to: bound into the ciphertext, so that a row moved to another
/// person or record can't be opened there.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    pub subject: SubjectTag,
    pub dataset: u32,
    pub record: &'a [u8; 16],
}

impl Binding<'_> {
    fn bytes(&self) -> [u8; 52] {
        let mut bytes = [0; 52];
        bytes[..16].copy_from_slice(FACT_BINDING);
        bytes[16..32].copy_from_slice(&self.subject.0);
        bytes[32..36].copy_from_slice(&self.dataset.to_be_bytes());
        bytes[36..].copy_from_slice(self.record);
        bytes
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CipherError {
    #[error("cipher {0} is not known here")]
    Unknown(i16),
    #[error("the stored bytes are not what was sealed for this person and record")]
    Mismatch,
    /// Erased for good, or never there.
    #[error("the person has no key")]
    NoKey,
    #[error("key")]
    Key(#[source] WrapError),
    #[error("random source")]
    Random(#[from] mz_keys::KeyError),
}

/// Turns a body into what is stored.
pub fn close(key: &DataKey, binding: Binding<'_>, plain: &[u8]) -> Result<Vec<u8>, CipherError> {
    key.seal(&binding.bytes(), plain).map_err(CipherError::Key)
}

/// The inverse of [`close`], for a row that says it was closed under `id`.
pub fn open(
    id: i16,
    key: Option<&DataKey>,
    binding: Binding<'_>,
    stored: Vec<u8>,
) -> Result<Vec<u8>, CipherError> {
    match (id, key) {
        (PLAIN, _) => Ok(stored),
        (SUBJECT_KEY, Some(key)) => key
            .open(&binding.bytes(), stored)
            .map_err(|_| CipherError::Mismatch),
        (SUBJECT_KEY, None) => Err(CipherError::NoKey),
        (other, _) => Err(CipherError::Unknown(other)),
    }
}

/// What a person's wrapped key is bound to: another person's row can't lend it.
pub fn key_binding(lane: u16, subject: SubjectTag) -> [u8; 34] {
    let mut bytes = [0; 34];
    bytes[..16].copy_from_slice(KEY_BINDING);
    bytes[16..32].copy_from_slice(&subject.0);
    bytes[32..].copy_from_slice(&lane.to_be_bytes());
    bytes
}
