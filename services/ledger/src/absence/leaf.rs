//! What one department read about one person in a range.

use mz_keys::vrf::SubjectLabel;
use mz_tlog::merkle::{Hash, leaf_hash};
use sha2::{Digest as _, Sha256};

const KEY_V1: &[u8] = b"mianzheng/absence/key/v1\n";

/// Where (person, department) stands in a range: `SHA-256("mianzheng/absence/key/v1\n" ‖ label ‖
/// department)`. Whoever is shown a neighbour learns nothing: without the label nobody can be tried.
pub fn key(label: &SubjectLabel, department: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(KEY_V1);
    hash.update(label);
    hash.update(department.as_bytes());
    hash.finalize().into()
}

/// One leaf: how often, and when first and last, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub key: [u8; 32],
    pub count: u64,
    pub first_ms: i64,
    pub last_ms: i64,
}

impl Leaf {
    /// Bytes of a leaf.
    pub const BYTES: usize = 56;

    /// Key, then count, first and last, big-endian.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..32].copy_from_slice(&self.key);
        out[32..40].copy_from_slice(&self.count.to_be_bytes());
        out[40..48].copy_from_slice(&self.first_ms.to_be_bytes());
        out[48..].copy_from_slice(&self.last_ms.to_be_bytes());
        out
    }

    pub fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let part = |from: usize| {
            let mut part = [0; 8];
            part.copy_from_slice(&bytes[from..from + 8]);
            part
        };
        let mut key = [0; 32];
        key.copy_from_slice(&bytes[..32]);
        Self {
            key,
            count: u64::from_be_bytes(part(32)),
            first_ms: i64::from_be_bytes(part(40)),
            last_ms: i64::from_be_bytes(part(48)),
        }
    }

    /// Leaves one after the other; `None` when the last is cut.
    pub fn all(bytes: &[u8]) -> Option<Vec<Self>> {
        let (leaves, rest) = bytes.as_chunks::<{ Self::BYTES }>();
        rest.is_empty()
            .then(|| leaves.iter().map(Self::decode).collect())
    }

    pub fn hash(&self) -> Hash {
        leaf_hash(&self.encode())
    }
}

#[test]
fn a_leaf_comes_back() {
    let leaf = Leaf {
        key: key(&[7; 32], "police"),
        count: 3,
        first_ms: -1,
        last_ms: i64::MAX,
    };
    assert_eq!(Leaf::decode(&leaf.encode()), leaf);
    assert_ne!(leaf.key, key(&[7; 32], "hrss"));
    assert_ne!(leaf.key, key(&[8; 32], "police"));
}
