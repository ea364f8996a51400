//! The Merkle tree of RFC 6962, section 2.1, over SHA-256: roots, inclusion proofs,
//! consistency proofs.
//!
//! Every function that reads a tree asks only for hashes of complete subtrees
//! ([`Hashes`]), which is what tiles store.

use sha2::{Digest as _, Sha256};

use crate::MAX_SIZE;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Hash of an entry.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut sha = Sha256::new();
    sha.update([0x00]);
    sha.update(entry);
    sha.finalize().into()
}

/// Hash of two subtrees side by side.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut sha = Sha256::new();
    sha.update([0x01]);
    sha.update(left);
    sha.update(right);
    sha.finalize().into()
}

/// Root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Where the hashes of a tree are.
pub trait Hashes {
    type Error;

    /// Hash of the complete subtree of 2^`level` leaves, number `index` from the left.
    fn hash(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// A proof or root could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError<E> {
    #[error("a tree of {0} leaves is too large")]
    TooLarge(u64),
    #[error("no leaf {index} in a tree of {size}")]
    NoSuchLeaf { index: u64, size: u64 },
    #[error("a tree does not shrink from {old} to {new}")]
    Shrinks { old: u64, new: u64 },
    #[error("hash not available: {0}")]
    Hashes(E),
}

/// A proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the sizes or the index are impossible")]
    Range,
    #[error("the proof has the wrong length")]
    Length,
    #[error("the proof leads to another root")]
    Root,
}

/// Root of the first `size` leaves.
pub fn root<H: Hashes>(size: u64, hashes: &H) -> Result<Hash, ProofError<H::Error>> {
    check_size(size)?;
    range_root(0, size, hashes)
}

/// Proof that leaf `index` is in the tree of `size` leaves: siblings, the leaf's first.
pub fn inclusion<H: Hashes>(
    index: u64,
    size: u64,
    hashes: &H,
) -> Result<Vec<Hash>, ProofError<H::Error>> {
    check_size(size)?;
    if index >= size {
        return Err(ProofError::NoSuchLeaf { index, size });
    }
    let mut proof = Vec::new();
    let (mut low, mut high) = (0, size);
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(range_root(middle, high, hashes)?);
            high = middle;
        } else {
            proof.push(range_root(low, middle, hashes)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Proof that the tree of `new` leaves starts with the tree of `old` leaves. Empty for
/// an empty old tree and for the same size.
pub fn consistency<H: Hashes>(
    old: u64,
    new: u64,
    hashes: &H,
) -> Result<Vec<Hash>, ProofError<H::Error>> {
    check_size(new)?;
    if old > new {
        return Err(ProofError::Shrinks { old, new });
    }
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(proof);
    }
    let (mut low, mut high) = (0, new);
    while old != high {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(range_root(middle, high, hashes)?);
            high = middle;
        } else {
            proof.push(range_root(low, middle, hashes)?);
            low = middle;
        }
    }
    // The verifier knows this hash already if it is the whole old tree.
    if low != 0 {
        proof.push(range_root(low, high, hashes)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that `leaf` has number `index` in the tree of `size` leaves under `root`.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), VerifyError> {
    if index >= size || size > MAX_SIZE {
        return Err(VerifyError::Range);
    }
    // `last` is the right edge, followed upwards together with the leaf.
    let (mut index, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(VerifyError::Length);
        }
        if index & 1 == 1 || index == last {
            hash = node_hash(sibling, &hash);
            // A node at the right edge without a sibling rises unchanged. The index is
            // not 0: it is odd, or the last one.
            let rise = index.trailing_zeros();
            index >>= rise;
            last >>= rise;
        } else {
            hash = node_hash(&hash, sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(VerifyError::Length);
    }
    if hash == *root {
        Ok(())
    } else {
        Err(VerifyError::Root)
    }
}

/// Checks that the tree of `new` leaves under `new_root` starts with the tree of `old`
/// leaves under `old_root`.
pub fn verify_consistency(
    old: u64,
    new: u64,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), VerifyError> {
    if old > new || new > MAX_SIZE {
        return Err(VerifyError::Range);
    }
    if old == 0 && *old_root != empty_root() {
        return Err(VerifyError::Root);
    }
    if old == new || old == 0 {
        return match (
            proof.is_empty(),
            old == 0 && new != 0 || old_root == new_root,
        ) {
            (false, _) => Err(VerifyError::Length),
            (true, false) => Err(VerifyError::Root),
            (true, true) => Ok(()),
        };
    }
    let rise = (old - 1).trailing_ones();
    let (mut index, mut last) = ((old - 1) >> rise, (new - 1) >> rise);
    // Start at the largest complete subtree at the end of the old tree.
    let (start, proof) = if old.is_power_of_two() {
        (old_root, proof)
    } else {
        proof.split_first().ok_or(VerifyError::Length)?
    };
    let (mut old_hash, mut new_hash) = (*start, *start);
    for sibling in proof {
        if last == 0 {
            return Err(VerifyError::Length);
        }
        if index & 1 == 1 || index == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            let rise = index.trailing_zeros();
            index >>= rise;
            last >>= rise;
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(VerifyError::Length);
    }
    if old_hash == *old_root && new_hash == *new_root {
        Ok(())
    } else {
        Err(VerifyError::Root)
    }
}

/// The right edge of a growing tree: its complete subtrees, largest first. At most 63
/// hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    edge: Vec<Hash>,
}

impl Frontier {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of a stored tree.
    pub fn from_hashes<H: Hashes>(size: u64, hashes: &H) -> Result<Self, ProofError<H::Error>> {
        check_size(size)?;
        let edge = subtrees(0, size)
            .map(|(level, index)| hashes.hash(level, index).map_err(ProofError::Hashes))
            .collect::<Result<_, _>>()?;
        Ok(Self { size, edge })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn root(&self) -> Hash {
        fold(&self.edge)
    }

    /// Appends a leaf hash. Returns every complete subtree it closes as (level, index,
    /// hash), level 0 first.
    pub fn push(&mut self, leaf: Hash) -> Vec<(u8, u64, Hash)> {
        let mut closed = vec![(0, self.size, leaf)];
        let (mut level, mut index, mut hash) = (0_u8, self.size, leaf);
        while index & 1 == 1 {
            let Some(left) = self.edge.pop() else { break };
            hash = node_hash(&left, &hash);
            level += 1;
            index >>= 1;
            closed.push((level, index, hash));
        }
        self.edge.push(hash);
        self.size += 1;
        closed
    }
}

/// All hashes of a tree in memory, for small trees and tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryTree {
    edge: Frontier,
    levels: Vec<Vec<Hash>>,
}

/// The tree in memory has no such complete subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no complete subtree {index} at level {level}")]
pub struct NoSuchSubtree {
    pub level: u8,
    pub index: u64,
}

impl MemoryTree {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    pub fn root(&self) -> Hash {
        self.edge.root()
    }

    pub fn push(&mut self, leaf: Hash) {
        for (level, _, hash) in self.edge.push(leaf) {
            let level = usize::from(level);
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
        }
    }
}

impl FromIterator<Hash> for MemoryTree {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        let mut tree = Self::new();
        leaves.into_iter().for_each(|leaf| tree.push(leaf));
        tree
    }
}

impl Hashes for MemoryTree {
    type Error = NoSuchSubtree;

    fn hash(&self, level: u8, index: u64) -> Result<Hash, NoSuchSubtree> {
        let at = usize::try_from(index).ok();
        self.levels
            .get(usize::from(level))
            .zip(at)
            .and_then(|(hashes, at)| hashes.get(at).copied())
            .ok_or(NoSuchSubtree { level, index })
    }
}

fn check_size<E>(size: u64) -> Result<(), ProofError<E>> {
    if size > MAX_SIZE {
        Err(ProofError::TooLarge(size))
    } else {
        Ok(())
    }
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The complete subtrees that make up the leaves from `low` to `high`, largest first.
/// `low` is a multiple of the largest.
fn subtrees(low: u64, high: u64) -> impl Iterator<Item = (u8, u64)> {
    let mut low = low;
    std::iter::from_fn(move || {
        let level = (high - low).checked_ilog2()?;
        let index = low >> level;
        low += 1 << level;
        Some((level as u8, index))
    })
}

fn range_root<H: Hashes>(low: u64, high: u64, hashes: &H) -> Result<Hash, ProofError<H::Error>> {
    let parts = subtrees(low, high)
        .map(|(level, index)| hashes.hash(level, index).map_err(ProofError::Hashes))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(fold(&parts))
}

fn fold(parts: &[Hash]) -> Hash {
    let Some((last, rest)) = parts.split_last() else {
        return empty_root();
    };
    rest.iter()
        .rev()
        .fold(*last, |right, left| node_hash(left, &right))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf(number: u64) -> Hash {
        leaf_hash(&number.to_be_bytes())
    }

    fn tree(size: u64) -> MemoryTree {
        (0..size).map(leaf).collect()
    }

    /// The recursive definition, word by word.
    fn definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            _ => {
                let k = split(leaves.len() as u64) as usize;
                node_hash(&definition(&leaves[..k]), &definition(&leaves[k..]))
            }
        }
    }

    #[test]
    fn published_vectors() {
        // Inputs and roots of the Certificate Transparency reference tests.
        let leaves = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        assert_eq!(
            hex::encode(empty_root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let mut frontier = Frontier::new();
        for (entry, root) in leaves.iter().zip(roots) {
            frontier.push(leaf_hash(&hex::decode(entry).unwrap()));
            assert_eq!(hex::encode(frontier.root()), root);
        }
    }

    #[test]
    fn every_root_is_the_definition() {
        let leaves: Vec<_> = (0..600).map(leaf).collect();
        let all = tree(600);
        let mut frontier = Frontier::new();
        for size in 0..=600_u64 {
            let expected = definition(&leaves[..size as usize]);
            assert_eq!(frontier.root(), expected);
            assert_eq!(frontier.size(), size);
            assert_eq!(root(size, &all).unwrap(), expected);
            assert_eq!(Frontier::from_hashes(size, &all).unwrap(), frontier);
            if size < 600 {
                let closed = frontier.push(leaves[size as usize]);
                assert_eq!(closed.len(), 1 + size.trailing_ones() as usize);
                for (level, index, hash) in closed {
                    assert_eq!(all.hash(level, index).unwrap(), hash);
                }
            }
        }
    }

    #[test]
    fn every_inclusion_proof_verifies() {
        let all = tree(600);
        for size in 1..=600_u64 {
            let root = root(size, &all).unwrap();
            for index in 0..size {
                let proof = inclusion(index, size, &all).unwrap();
                let check = |index, size, proof: &[Hash]| {
                    verify_inclusion(&leaf(index), index, size, proof, &root)
                };
                assert_eq!(check(index, size, &proof), Ok(()));
                // Same leaf, other place.
                for other in [index ^ 1, index + 1, index.wrapping_sub(1), index + size] {
                    assert!(verify_inclusion(&leaf(index), other, size, &proof, &root).is_err());
                }
            }
        }
    }

    #[test]
    fn every_consistency_proof_verifies() {
        let all = tree(600);
        let roots: Vec<_> = (0..=600).map(|size| root(size, &all).unwrap()).collect();
        for new in 0..=600_u64 {
            for old in 0..=new {
                let proof = consistency(old, new, &all).unwrap();
                let (old_root, new_root) = (&roots[old as usize], &roots[new as usize]);
                assert_eq!(
                    verify_consistency(old, new, old_root, new_root, &proof),
                    Ok(())
                );
                if old != new {
                    assert!(verify_consistency(new, old, new_root, old_root, &proof).is_err());
                    assert!(verify_consistency(old, old, old_root, new_root, &proof).is_err());
                }
                if old != 0 {
                    let mut long = proof.clone();
                    long.push([0; 32]);
                    assert!(verify_consistency(old, new, old_root, new_root, &long).is_err());
                    assert!(verify_consistency(old - 1, new, old_root, new_root, &proof).is_err());
                }
                if let Some((_, short)) = proof.split_last() {
                    assert!(verify_consistency(old, new, old_root, new_root, short).is_err());
                }
            }
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let all = tree(3);
        assert_eq!(root(u64::MAX, &all), Err(ProofError::TooLarge(u64::MAX)));
        assert!(inclusion(3, 3, &all).is_err());
        assert!(inclusion(0, 0, &all).is_err());
        assert!(consistency(3, 2, &all).is_err());
        assert!(matches!(inclusion(0, 5, &all), Err(ProofError::Hashes(_))));
        let zero = [0; 32];
        let many = vec![zero; 64];
        for size in [0, 1, MAX_SIZE, MAX_SIZE + 1, u64::MAX] {
            for index in [0, 1, MAX_SIZE - 1, MAX_SIZE, u64::MAX] {
                assert!(verify_inclusion(&zero, index, size, &many, &zero).is_err());
                assert!(verify_consistency(index, size, &zero, &zero, &many).is_err());
            }
        }
        assert!(verify_consistency(0, 0, &zero, &zero, &[]).is_err());
        assert!(verify_consistency(0, 4, &zero, &zero, &[]).is_err());
        assert!(verify_consistency(0, 4, &empty_root(), &zero, &[zero]).is_err());
        assert!(verify_consistency(0, 4, &empty_root(), &zero, &[]).is_ok());
    }

    fn flip(hash: &mut Hash, bit: usize) {
        hash[bit / 8] ^= 1 << (bit % 8);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_or_another_place_breaks_inclusion(
            size in 1_u64..600, pick: prop::sample::Index, hash: prop::sample::Index,
            bit in 0_usize..256, other in 1_u64..700,
        ) {
            let all = tree(size);
            let index = pick.index(size as usize) as u64;
            let root = all.root();
            let mut proof = inclusion(index, size, &all).unwrap();
            // Another size can have the same path shape, but only from the other root.
            if other != size && other > index {
                let grown = tree(other).root();
                prop_assert!(verify_inclusion(&leaf(index), index, other, &proof, &grown).is_err());
            }
            let mut changed = leaf(index);
            flip(&mut changed, bit);
            prop_assert!(verify_inclusion(&changed, index, size, &proof, &root).is_err());
            let mut changed = root;
            flip(&mut changed, bit);
            prop_assert!(verify_inclusion(&leaf(index), index, size, &proof, &changed).is_err());
            if !proof.is_empty() {
                let at = hash.index(proof.len());
                flip(&mut proof[at], bit);
                prop_assert!(verify_inclusion(&leaf(index), index, size, &proof, &root).is_err());
                proof.pop();
                prop_assert!(verify_inclusion(&leaf(index), index, size, &proof, &root).is_err());
            }
        }

        #[test]
        fn a_flipped_bit_breaks_consistency(
            new in 2_u64..600, pick: prop::sample::Index, hash: prop::sample::Index,
            bit in 0_usize..256,
        ) {
            let all = tree(new);
            let old = 1 + pick.index(new as usize - 1) as u64;
            let (old_root, new_root) = (root(old, &all).unwrap(), all.root());
            let mut proof = consistency(old, new, &all).unwrap();
            let mut changed = old_root;
            flip(&mut changed, bit);
            prop_assert!(verify_consistency(old, new, &changed, &new_root, &proof).is_err());
            let mut changed = new_root;
            flip(&mut changed, bit);
            prop_assert!(verify_consistency(old, new, &old_root, &changed, &proof).is_err());
            let at = hash.index(proof.len());
            flip(&mut proof[at], bit);
            prop_assert!(verify_consistency(old, new, &old_root, &new_root, &proof).is_err());
        }

        #[test]
        fn hostile_proofs_never_panic(
            index: u64, size: u64, leaf: Hash, proof in prop::collection::vec(any::<Hash>(), 0..70),
        ) {
            let _ = verify_inclusion(&leaf, index, size, &proof, &leaf);
            let _ = verify_inclusion(&leaf, index >> 40, size >> 30, &proof, &leaf);
            let _ = verify_consistency(index, size, &leaf, &leaf, &proof);
            let _ = verify_consistency(index >> 40, size >> 30, &leaf, &leaf, &proof);
        }
    }
}
