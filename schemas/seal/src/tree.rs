//! The RFC 6962 tree over the event digests of one batch. Level 0 holds the leaf
//! hashes; a last node without a right sibling rises unchanged, which gives the same
//! head as the RFC's recursive definition.

use crate::hash::{Digest, tree_leaf, tree_node};

/// Events of one batch, so a path has at most 20 hashes.
pub const MAX_BATCH: u32 = 1 << 20;

/// Number of path hashes of leaf `index` in a tree of `count` leaves.
pub(crate) fn path_length(index: u32, count: u32) -> usize {
    let (mut index, mut width, mut length) = (index, count, 0);
    while width > 1 {
        if index ^ 1 < width {
            length += 1;
        }
        index >>= 1;
        width = width.div_ceil(2);
    }
    length
}

/// All levels of the tree, leaves first, head last.
pub(crate) struct Tree(Vec<Vec<Digest>>);

impl Tree {
    /// `digests` is not empty.
    pub fn build(digests: &[Digest]) -> Self {
        let mut levels = vec![digests.iter().map(tree_leaf).collect::<Vec<_>>()];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let next = below
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => tree_node(left, right),
                    lone => lone[0],
                })
                .collect();
            levels.push(next);
        }
        Self(levels)
    }

    pub fn head(&self) -> Digest {
        self.0
            .last()
            .and_then(|top| top.first())
            .copied()
            .unwrap_or_default()
    }

    /// The siblings of leaf `index`, from the bottom up.
    pub fn path(&self, index: u32) -> impl Iterator<Item = &Digest> {
        self.0
            .iter()
            .enumerate()
            .filter_map(move |(level, nodes)| nodes.get(((index as usize) >> level) ^ 1))
    }
}

/// The head that a path leads to. `path` has [`path_length`] hashes of 32 bytes.
pub(crate) fn climb(digest: &Digest, index: u32, count: u32, path: &[u8]) -> Digest {
    let mut hash = tree_leaf(digest);
    let (mut index, mut width) = (index, count);
    let mut siblings = path.chunks_exact(32);
    while width > 1 {
        if index ^ 1 < width
            && let Some(sibling) = siblings.next()
        {
            hash = if index & 1 == 1 {
                tree_node(sibling, &hash)
            } else {
                tree_node(&hash, sibling)
            };
        }
        index >>= 1;
        width = width.div_ceil(2);
    }
    hash
}
