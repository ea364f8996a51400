//! For tests of this and other crates: signers with known keys, events as they lie
//! in Kafka, every known alteration of them, and the golden vectors.

mod alteration;
mod files;
mod golden;

use std::collections::BTreeMap;

use ed25519_dalek::{Signer as _, SigningKey};

use crate::{KeyInfo, KeySource, KeyStatus, SealedEvent, SignError, Signer, Suite, frame, headers};

pub use alteration::{Alteration, Kit};
pub use golden::{Altered, DeliveryVector, EventVector, Golden, golden_dir};

/// Signs with a key made from a published seed. Never for anything but tests.
#[derive(Debug, Clone)]
pub struct TestSigner {
    id: String,
    key: SigningKey,
}

impl TestSigner {
    pub fn new(id: &str, seed: [u8; 32]) -> Self {
        Self {
            id: id.to_owned(),
            key: SigningKey::from_bytes(&seed),
        }
    }

    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    pub fn info(&self, status: KeyStatus) -> KeyInfo {
        KeyInfo {
            suite: Suite::Ed25519Sha256,
            public: self.public(),
            status,
        }
    }
}

impl Signer for TestSigner {
    fn key_id(&self) -> &str {
        &self.id
    }

    fn suite(&self) -> Suite {
        Suite::Ed25519Sha256
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.key.sign(message).to_bytes())
    }
}

/// Published keys by department and id.
#[derive(Debug, Clone, Default)]
pub struct TestKeys(pub BTreeMap<(String, String), KeyInfo>);

impl TestKeys {
    pub fn with(mut self, department: &str, id: &str, info: KeyInfo) -> Self {
        self.0.insert((department.to_owned(), id.to_owned()), info);
        self
    }
}

impl KeySource for TestKeys {
    fn seal_key(&self, department: &str, key_id: &str) -> Option<&KeyInfo> {
        self.0.get(&(department.to_owned(), key_id.to_owned()))
    }
}

/// A record as it lies in a lane topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireEvent {
    pub lane: u16,
    /// Framed value.
    pub value: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl WireEvent {
    /// A sealed event with all its headers.
    pub fn of(event: &SealedEvent, schema_id: u32) -> Self {
        let mut all: Vec<(String, Vec<u8>)> = headers::cloud_event(&event.meta)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into_bytes()))
            .collect();
        all.push((headers::SEAL.to_owned(), event.seal.clone()));
        Self {
            lane: event.meta.lane,
            value: frame(schema_id, &event.value),
            headers: all,
        }
    }

    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_slice())
    }

    pub fn header_mut(&mut self, name: &str) -> Option<&mut Vec<u8>> {
        self.headers
            .iter_mut()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// Headers as [`crate::Headers::collect`] takes them.
    pub fn header_pairs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}
