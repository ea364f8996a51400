//! The hashes of suite 1. One-byte prefixes keep every use apart: 10 meta, 11 leaf,
//! 12 event digest, 13 salt; 00 and 01 only inside the RFC 6962 batch tree.

use sha2::digest::core_api::Block;
use sha2::{Digest as _, Sha256, Sha256VarCore, compress256};

/// SHA-256 output.
pub type Digest = [u8; 32];
/// Hides a leaf's value from whoever only holds its hash.
pub type Salt = [u8; SALT_BYTES];
/// Travels only in source events; all salts of the event come from it.
pub type Seed = [u8; 32];

pub const SALT_BYTES: usize = 16;
pub const DIGEST_BYTES: usize = 32;

const META: u8 = 0x10;
const LEAF: u8 = 0x11;
const EVENT: u8 = 0x12;
const SALT: u8 = 0x13;
const TREE_LEAF: u8 = 0x00;
const TREE_NODE: u8 = 0x01;

/// Leaves before the first field: meta, subject, record.
pub const LEADING_LEAVES: usize = 3;
/// Index of the subject's leaf.
pub const SUBJECT_LEAF: u16 = 1;
/// Index of the record id's leaf.
pub const RECORD_LEAF: u16 = 2;

/// Initial hash value, FIPS 180-4 section 5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
const BLOCK: usize = 64;
/// Padding takes at least a 0x80 byte and 8 bytes of length.
const PADDING: usize = 9;

/// SHA-256 of `head ‖ tail`. Most messages here fit one or two blocks: those are padded
/// in place and compressed at once.
#[inline]
fn sha256(head: &[u8], tail: &[u8]) -> Digest {
    let length = head.len() + tail.len();
    if length <= BLOCK - PADDING {
        blocks::<BLOCK>(head, tail)
    } else if length <= 2 * BLOCK - PADDING {
        blocks::<{ 2 * BLOCK }>(head, tail)
    } else {
        Sha256::new()
            .chain_update(head)
            .chain_update(tail)
            .finalize()
            .into()
    }
}

#[inline]
fn blocks<const BYTES: usize>(head: &[u8], tail: &[u8]) -> Digest {
    let length = head.len() + tail.len();
    let mut message = [0u8; BYTES];
    message[..head.len()].copy_from_slice(head);
    message[head.len()..length].copy_from_slice(tail);
    message[length] = 0x80;
    // At most 119 bytes: the bit count fits two bytes.
    message[BYTES - 2..].copy_from_slice(&(length as u16 * 8).to_be_bytes());
    let mut state = INITIAL;
    for block in message.as_chunks::<BLOCK>().0 {
        let block: Block<Sha256VarCore> = (*block).into();
        compress256(&mut state, &[block]);
    }
    let mut out = [0; DIGEST_BYTES];
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    out
}

/// SHA-256 of the committed bytes of a schema file.
pub fn schema_digest(avsc: &[u8]) -> Digest {
    Sha256::digest(avsc).into()
}

/// H(10 ‖ meta)
pub(crate) fn meta_leaf(meta: &[u8]) -> Digest {
    sha256(&[META], meta)
}

/// H(11 ‖ u16 index ‖ salt ‖ Avro bytes)
pub(crate) fn leaf(index: u16, salt: &Salt, avro: &[u8]) -> Digest {
    let mut head = [0u8; 3 + SALT_BYTES];
    head[0] = LEAF;
    head[1..3].copy_from_slice(&index.to_be_bytes());
    head[3..].copy_from_slice(salt);
    sha256(&head, avro)
}

/// The leaf of a string that is not a field of its own (subject, record id).
pub(crate) fn text_leaf(index: u16, salt: &Salt, text: &str, scratch: &mut Vec<u8>) -> Digest {
    scratch.clear();
    crate::avro::Writer(scratch).string(text);
    leaf(index, salt, scratch)
}

/// Cuts salts for leaves 1, 2, … `count`: two from each H(13 ‖ seed ‖ u32 counter).
pub(crate) fn salts(seed: &Seed, count: usize, out: &mut Vec<Salt>) {
    out.clear();
    out.reserve(count + 1);
    let mut head = [0u8; 37];
    head[0] = SALT;
    head[1..33].copy_from_slice(seed);
    let mut counter: u32 = 0;
    while out.len() < count {
        head[33..].copy_from_slice(&counter.to_be_bytes());
        let block = sha256(&head, &[]);
        let (mut first, mut second) = ([0; SALT_BYTES], [0; SALT_BYTES]);
        first.copy_from_slice(&block[..SALT_BYTES]);
        second.copy_from_slice(&block[SALT_BYTES..]);
        out.push(first);
        if out.len() < count {
            out.push(second);
        }
        counter += 1;
    }
}

/// Collects the leaves of one event; its digest is H(12 ‖ u16 count ‖ leaves).
#[derive(Debug, Default)]
pub(crate) struct Leaves(Vec<u8>);

impl Leaves {
    pub fn start(&mut self, count: usize) {
        self.0.clear();
        self.0.reserve(3 + count * DIGEST_BYTES);
        self.0.push(EVENT);
        // At most MAX_FIELDS + 3 leaves.
        self.0.extend_from_slice(&(count as u16).to_be_bytes());
    }

    pub fn push(&mut self, leaf: &[u8]) {
        self.0.extend_from_slice(leaf);
    }

    pub fn digest(&self) -> Digest {
        Sha256::digest(&self.0).into()
    }

    /// Hash of leaf `index`, 32 bytes.
    pub fn leaf(&self, index: usize) -> &[u8] {
        let start = 3 + index * DIGEST_BYTES;
        &self.0[start..start + DIGEST_BYTES]
    }
}

/// RFC 6962 leaf hash of an event digest: H(00 ‖ digest).
pub(crate) fn tree_leaf(digest: &Digest) -> Digest {
    let mut input = [TREE_LEAF; 33];
    input[1..].copy_from_slice(digest);
    sha256(&input, &[])
}

/// RFC 6962 node: H(01 ‖ left ‖ right).
pub(crate) fn tree_node(left: &[u8], right: &[u8]) -> Digest {
    let mut input = [TREE_NODE; 65];
    input[1..33].copy_from_slice(left);
    input[33..].copy_from_slice(right);
    sha256(&input, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length around the one-, two- and many-block borders, against the library.
    #[test]
    fn short_messages_hash_as_the_library_does() {
        let bytes: Vec<u8> = (0..200u8).collect();
        for length in 0..bytes.len() {
            for cut in [0, length / 3, length] {
                let want: Digest = Sha256::digest(&bytes[..length]).into();
                assert_eq!(
                    sha256(&bytes[..cut], &bytes[cut..length]),
                    want,
                    "{length} cut at {cut}"
                );
            }
        }
    }
}
