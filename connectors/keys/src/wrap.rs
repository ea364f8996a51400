//! Data keys and the master key that wraps them. What rests encrypted rests under a data key of its
//! own; only its wrapped form is ever written down, so whoever destroys that destroys the data. The
//! master key stands behind a key URI, as signing keys do.

use std::path::Path;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};

use crate::KeyError;
use crate::secret::{SECRET_LEN, SecretKey, fill_random};

/// Bytes that sealing adds: the nonce before, the tag behind.
pub const SEALED_EXTRA: usize = NONCE_LEN + 16;
/// First byte of what a wrapping key's id hashes; used for nothing else.
const KEY_ID_PREFIX: u8 = 0x24;

/// Bytes could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// Another key, another binding, or altered bytes: nothing tells which.
    #[error("the sealed bytes do not open under this key and binding")]
    Mismatch,
    #[error("the system's random source failed")]
    NoRandom,
    /// The module that holds the key did not answer.
    #[error("the key module refused")]
    Module,
}

/// A 256-bit key for one person's data. Wiped when dropped; `Debug` shows nothing.
///
/// AES-256-GCM with random 96-bit nonces: one key may seal 2^32 messages; a person has thousands.
#[derive(Clone, Debug)]
pub struct DataKey(SecretKey);

impl DataKey {
    pub fn generate() -> Result<Self, KeyError> {
        SecretKey::generate().map(Self)
    }

    /// nonce ‖ ciphertext ‖ tag. `binding` is authenticated and not stored.
    pub fn seal(&self, binding: &[u8], plain: &[u8]) -> Result<Vec<u8>, WrapError> {
        seal(&self.0, binding, plain)
    }

    /// The inverse of [`Self::seal`]. Decrypts in place.
    pub fn open(&self, binding: &[u8], sealed: Vec<u8>) -> Result<Vec<u8>, WrapError> {
        open(&self.0, binding, sealed)
    }
}

/// Wraps data keys under a master key that never leaves whatever holds it.
pub trait KeyWrapper: Send + Sync {
    /// Names the master key without telling anything about it: hexadecimal.
    fn key_id(&self) -> &str;
    /// `binding` says what the key is for: it must be given again to unwrap.
    fn wrap(&self, key: &DataKey, binding: &[u8]) -> Result<Vec<u8>, WrapError>;
    fn unwrap(&self, wrapped: &[u8], binding: &[u8]) -> Result<DataKey, WrapError>;
}

/// Opens the wrapping key behind a key URI (`file:` now: 64 hex digits, mode 0600).
pub fn wrapper(uri: &str) -> Result<Box<dyn KeyWrapper>, KeyError> {
    let (scheme, rest) = uri.split_once(':').ok_or(KeyError::UriMalformed)?;
    match scheme {
        "file" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() {
                return Err(KeyError::UriMalformed);
            }
            Ok(Box::new(FileWrapper::new(SecretKey::load(Path::new(
                path,
            ))?)))
        }
        other => Err(KeyError::SchemeUnsupported {
            scheme: other.chars().take(16).collect(),
        }),
    }
}

/// A master key from a file, held in memory.
struct FileWrapper {
    key_id: String,
    key: SecretKey,
}

impl FileWrapper {
    fn new(key: SecretKey) -> Self {
        let mut hash = Sha256::new();
        hash.update([KEY_ID_PREFIX]);
        hash.update(key.bytes());
        let key_id = hex::encode(&hash.finalize()[..8]);
        Self { key_id, key }
    }
}

impl KeyWrapper for FileWrapper {
    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn wrap(&self, key: &DataKey, binding: &[u8]) -> Result<Vec<u8>, WrapError> {
        seal(&self.key, binding, key.0.bytes())
    }

    fn unwrap(&self, wrapped: &[u8], binding: &[u8]) -> Result<DataKey, WrapError> {
        let opened = zeroize::Zeroizing::new(open(&self.key, binding, wrapped.to_vec())?);
        let bytes: &[u8; SECRET_LEN] = opened
            .as_slice()
            .try_into()
            .map_err(|_| WrapError::Mismatch)?;
        Ok(DataKey(SecretKey::from_bytes(*bytes)))
    }
}

fn cipher(key: &SecretKey) -> Result<LessSafeKey, WrapError> {
    // Fails for other lengths only.
    let key = UnboundKey::new(&AES_256_GCM, key.bytes()).map_err(|_| WrapError::Module)?;
    Ok(LessSafeKey::new(key))
}

fn seal(key: &SecretKey, binding: &[u8], plain: &[u8]) -> Result<Vec<u8>, WrapError> {
    let mut nonce = [0; NONCE_LEN];
    fill_random(&mut nonce).map_err(|_| WrapError::NoRandom)?;
    let mut sealed = Vec::with_capacity(plain.len() + SEALED_EXTRA);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plain);
    let body = &mut sealed[NONCE_LEN..];
    let tag = cipher(key)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(binding),
            body,
        )
        // Only for more bytes than the cipher allows (64 GiB).
        .map_err(|_| WrapError::Module)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn open(key: &SecretKey, binding: &[u8], mut sealed: Vec<u8>) -> Result<Vec<u8>, WrapError> {
    let (nonce, body) = sealed
        .split_first_chunk_mut::<NONCE_LEN>()
        .ok_or(WrapError::Mismatch)?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = cipher(key)?
        .open_in_place(nonce, Aad::from(binding), body)
        .map_err(|_| WrapError::Mismatch)?
        .len();
    sealed.drain(..NONCE_LEN);
    sealed.truncate(length);
    Ok(sealed)
}
