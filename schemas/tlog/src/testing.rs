//! Keys and small logs for tests.

use ed25519_dalek::{Signer as _, SigningKey};

use crate::checkpoint::Checkpoint;
use crate::merkle::{MemoryTree, leaf_hash};
use crate::note::{KeyKind, VerifierKey, cosign_line, sign_line};

pub struct Key {
    pub public: VerifierKey,
    secret: SigningKey,
}

impl Key {
    pub fn log(name: &str) -> Self {
        Self::new(name, KeyKind::Ed25519)
    }

    pub fn witness(name: &str) -> Self {
        Self::new(name, KeyKind::Cosignature)
    }

    /// The name makes the key.
    fn new(name: &str, kind: KeyKind) -> Self {
        let secret = SigningKey::from_bytes(&leaf_hash(name.as_bytes()));
        let public = secret.verifying_key().to_bytes();
        Self {
            public: VerifierKey::new(name, kind, &public).unwrap(),
            secret,
        }
    }

    pub fn sign(&self, text: &str) -> String {
        sign_line(&self.public, text, |message| {
            self.secret.sign(message).to_bytes()
        })
        .unwrap()
    }

    pub fn cosign(&self, text: &str, time: u64) -> String {
        let sign = |message: &[u8]| self.secret.sign(message).to_bytes();
        cosign_line(&self.public, text, time, sign).unwrap()
    }
}

/// A tree of entries "0", "1" and so on, and the text of its checkpoint.
pub fn log(origin: &str, size: u64) -> (MemoryTree, String) {
    let tree: MemoryTree = (0..size)
        .map(|number| leaf_hash(number.to_string().as_bytes()))
        .collect();
    let checkpoint = Checkpoint {
        origin: origin.to_owned(),
        size,
        root: tree.root(),
        extensions: Vec::new(),
    };
    (tree, checkpoint.encode().unwrap())
}
