//! Who signs and who is believed. Strict Ed25519 (RFC 8032): canonical S, canonical
//! points, no key or nonce of small order.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::fault::SealFault;
use crate::hash::Digest;

/// Cryptographic suite of a seal; the byte on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// 1: SHA-256 and Ed25519.
    Ed25519Sha256,
}

impl Suite {
    pub fn byte(self) -> u8 {
        match self {
            Self::Ed25519Sha256 => 1,
        }
    }

    /// 2 (SM3, SM2) is reserved and refused for now.
    pub fn from_byte(byte: u8) -> Result<Self, SealFault> {
        match byte {
            1 => Ok(Self::Ed25519Sha256),
            _ => Err(SealFault::SuiteUnknown),
        }
    }

    /// Name in key files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        (name == Self::Ed25519Sha256.name()).then_some(Self::Ed25519Sha256)
    }
}

/// A signer failed; the text names the device or file, never key material.
#[derive(Debug, thiserror::Error)]
#[error("the signer failed: {0}")]
pub struct SignError(pub String);

/// Everything that signs. Keys may live in a file or in a device that never shows them.
pub trait Signer: Send + Sync {
    /// The id under which the contract publishes the public key.
    fn key_id(&self) -> &str;
    fn suite(&self) -> Suite;
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
}

/// Where a verifier finds public seal keys.
pub trait KeySource {
    /// The key that `department` published under `key_id`.
    fn seal_key(&self, department: &str, key_id: &str) -> Option<&KeyInfo>;
}

/// A published key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    pub suite: Suite,
    pub public: [u8; 32],
    pub status: KeyStatus,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStatus {
    Active,
    /// The last accepted batch per stream; a stream that is not listed has none.
    /// A batch number, because a date would trust the thief's clock.
    Revoked {
        last_batch: Vec<LastBatch>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastBatch {
    pub stream: String,
    pub epoch: u32,
    pub batch: u64,
}

impl KeyInfo {
    /// Whether the key still speaks for this batch.
    pub fn allows(&self, stream: &str, epoch: u32, batch: u64) -> bool {
        match &self.status {
            KeyStatus::Active => true,
            KeyStatus::Revoked { last_batch } => last_batch
                .iter()
                .any(|last| last.stream == stream && (epoch, batch) <= (last.epoch, last.batch)),
        }
    }
}

/// Refuses keys that would accept signatures for any message, and encodings that two
/// verifiers might read differently.
pub fn check_public_key(public: &[u8; 32]) -> Result<(), SealFault> {
    verifying_key(public).map(drop)
}

fn verifying_key(public: &[u8; 32]) -> Result<VerifyingKey, SealFault> {
    if !canonical_y(public) {
        return Err(SealFault::SmallOrderKey);
    }
    let key = VerifyingKey::from_bytes(public).map_err(|_| SealFault::SmallOrderKey)?;
    if key.is_weak() {
        Err(SealFault::SmallOrderKey)
    } else {
        Ok(key)
    }
}

/// RFC 8032 section 5.1.3: y must be below p = 2^255 - 19.
fn canonical_y(public: &[u8; 32]) -> bool {
    let high = public[31] & 0x7f;
    high != 0x7f || public[1..31].iter().any(|byte| *byte != 0xff) || public[0] < 0xed
}

/// Verifies a signature strictly. Used for seals, and by others for bundles and marks.
pub fn verify_signature(
    public: &[u8; 32],
    message: &[u8],
    signature: &[u8; 64],
) -> Result<(), SealFault> {
    let key = verifying_key(public)?;
    // verify_strict refuses S >= L and small-order R.
    key.verify_strict(message, &Signature::from_bytes(signature))
        .map_err(|_| SealFault::SignatureInvalid)
}

/// What a department signs for one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchStatement<'a> {
    pub suite: Suite,
    pub key_id: &'a str,
    pub department: &'a str,
    pub stream: &'a str,
    pub epoch: u32,
    pub number: u64,
    pub count: u32,
    pub root: Digest,
}

/// First line of the signed payload: no other signature of the system starts so.
pub const SEAL_CONTEXT: &[u8] = b"mianzheng/seal/v1\n";

impl BatchStatement<'_> {
    /// The signed bytes: context, suite, then length-prefixed names, numbers big-endian, root.
    pub fn payload(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        out.extend_from_slice(SEAL_CONTEXT);
        out.push(self.suite.byte());
        for name in [self.key_id, self.department, self.stream] {
            // Names have at most MAX_NAME_BYTES bytes.
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.root);
        out
    }
}
