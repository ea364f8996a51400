//! Keeps a record's last published fields in the checkpoint, encrypted under the department's own
//! key: a withdrawal repeats them, and the register no longer has them.
//!
//! AES-128-GCM, a random nonce in front, the record's tag as associated data, so that a value can't
//! be moved to another record.

use crate::checkpoint::Tag;
use crate::error::ConnectorError;
use mz_keys::RecordKey;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest as _, Sha256};

// Never dataset ids, so these tags are no record's.
const LAST_KEY: &str = "mianzheng/checkpoint/last/v1";
const HASH_KEY: &str = "mianzheng/checkpoint/hash/v1";
const REJECT_KEY: &str = "mianzheng/checkpoint/reject/v1";

/// What the department's record key gives to one stream's checkpoint.
pub(crate) struct CheckpointKeys {
    last: LessSafeKey,
    hash: Tag,
    reject: Tag,
    random: SystemRandom,
}

impl CheckpointKeys {
    pub(crate) fn new(key: &RecordKey, stream: &str) -> Result<Self, ConnectorError> {
        let last = key.record_tag(LAST_KEY, stream);
        let last = UnboundKey::new(&AES_128_GCM, &last).map_err(|_| ConnectorError::Crypto)?;
        Ok(Self {
            last: LessSafeKey::new(last),
            hash: key.record_tag(HASH_KEY, stream),
            reject: key.record_tag(REJECT_KEY, stream),
            random: SystemRandom::new(),
        })
    }

    /// Eight bytes that change when the fields (or the withdrawal) change.
    pub(crate) fn row_hash(&self, datum: &[u8], withdrawn: bool) -> [u8; 8] {
        let digest = Sha256::new()
            .chain_update(self.hash)
            .chain_update([u8::from(withdrawn)])
            .chain_update(datum)
            .finalize();
        let mut hash = [0; 8];
        hash.copy_from_slice(&digest[..8]);
        hash
    }

    /// Tells one rejected row from another, without keeping it.
    pub(crate) fn reject_tag(&self, parts: &[&str]) -> Tag {
        let mut digest = Sha256::new().chain_update(self.reject);
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let mut tag = Tag::default();
        tag.copy_from_slice(&digest.finalize()[..16]);
        tag
    }

    pub(crate) fn close(
        &self,
        tag: &Tag,
        dataset: &str,
        datum: &[u8],
    ) -> Result<Vec<u8>, ConnectorError> {
        let mut nonce = [0; NONCE_LEN];
        self.random
            .fill(&mut nonce)
            .map_err(|_| ConnectorError::Crypto)?;
        let mut body = Vec::with_capacity(1 + dataset.len() + datum.len() + AES_128_GCM.tag_len());
        body.push(u8::try_from(dataset.len()).map_err(|_| ConnectorError::Crypto)?);
        body.extend_from_slice(dataset.as_bytes());
        body.extend_from_slice(datum);
        self.last
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(tag),
                &mut body,
            )
            .map_err(|_| ConnectorError::Crypto)?;
        Ok([&nonce[..], &body].concat())
    }

    /// Dataset and datum; `None` when it was written under another key or altered.
    pub(crate) fn open(&self, tag: &Tag, closed: &[u8]) -> Option<(String, Vec<u8>)> {
        let (nonce, body) = closed.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let plain = self
            .last
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(tag),
                &mut body,
            )
            .ok()?;
        let (length, rest) = plain.split_first()?;
        let (dataset, datum) = rest.split_at_checked(usize::from(*length))?;
        Some((
            std::str::from_utf8(dataset).ok()?.to_owned(),
            datum.to_vec(),
        ))
    }

    /// A fresh seed of an event.
    pub(crate) fn seed(&self) -> Option<mz_seal::Seed> {
        let mut seed = mz_seal::Seed::default();
        self.random.fill(&mut seed).ok()?;
        Some(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mz_keys::SecretKey;

    #[test]
    fn the_last_value_opens_for_its_record_alone() {
        let keys = CheckpointKeys::new(
            &RecordKey::new(&SecretKey::from_bytes([3; 32])),
            "insurance",
        )
        .unwrap();
        let closed = keys
            .close(&[1; 16], "hrss.insurance.status.v1", b"datum")
            .unwrap();
        assert!(!closed.windows(5).any(|window| window == b"datum"));
        assert_eq!(
            keys.open(&[1; 16], &closed),
            Some(("hrss.insurance.status.v1".into(), b"datum".to_vec()))
        );
        assert_eq!(keys.open(&[2; 16], &closed), None);
        let other = CheckpointKeys::new(
            &RecordKey::new(&SecretKey::from_bytes([4; 32])),
            "insurance",
        )
        .unwrap();
        assert_eq!(other.open(&[1; 16], &closed), None);
        assert_ne!(
            keys.row_hash(b"datum", false),
            keys.row_hash(b"datum", true)
        );
    }
}
