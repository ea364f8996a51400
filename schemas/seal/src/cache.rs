//! Remembers verified batches: one signature per batch, and each tree node hashed once.

use lru::LruCache;
use std::num::NonZeroUsize;

use crate::hash::{DIGEST_BYTES, Digest, tree_leaf, tree_node};
use crate::keys::BatchStatement;

/// Batches remembered at once.
const MAX_BATCHES: usize = 512;
/// Tree nodes remembered for one batch (32 bytes each). Of a larger batch only the
/// upper levels are kept, and the lower ones are hashed for every event.
const MAX_NODES_PER_BATCH: usize = 65_536;
/// Tree nodes remembered in all: 32 MiB.
const MAX_NODES: usize = 1 << 20;

/// Not yet known. That a real node hashes to zero is as likely as any other collision.
const UNKNOWN: Digest = [0; DIGEST_BYTES];

/// A batch whose signature verified, found by its signature's bytes.
#[derive(Debug)]
pub(crate) struct Batch {
    public: [u8; 32],
    key_id: Box<str>,
    department: Box<str>,
    stream: Box<str>,
    epoch: u32,
    number: u64,
    count: u32,
    pub root: Digest,
    /// As [`Verifier::accepted`](crate::Verifier::accepted) was told.
    pub accepted: bool,
    nodes: Nodes,
}

#[derive(Debug)]
struct Nodes {
    /// Lowest level that is kept.
    base: usize,
    levels: Vec<Vec<Digest>>,
}

impl Nodes {
    fn new(count: u32, root: Digest) -> Self {
        let mut widths = vec![count as usize];
        while let Some(width) = widths.last().copied().filter(|width| *width > 1) {
            widths.push(width.div_ceil(2));
        }
        let mut base = widths.len() - 1;
        let mut total = widths[base];
        while base > 0 && total + widths[base - 1] <= MAX_NODES_PER_BATCH {
            base -= 1;
            total += widths[base];
        }
        let mut levels: Vec<Vec<Digest>> = widths[base..]
            .iter()
            .map(|width| vec![UNKNOWN; *width])
            .collect();
        if let Some(top) = levels.last_mut() {
            top[0] = root;
        }
        Self { base, levels }
    }

    fn held(&self) -> usize {
        self.levels.iter().map(Vec::len).sum()
    }

    fn get(&self, level: usize, index: usize) -> &Digest {
        level
            .checked_sub(self.base)
            .map_or(&UNKNOWN, |level| &self.levels[level][index])
    }

    fn set(&mut self, level: usize, index: usize, hash: &[u8]) {
        if let Some(level) = level.checked_sub(self.base) {
            self.levels[level][index].copy_from_slice(hash);
        }
    }
}

impl Batch {
    pub fn new(statement: &BatchStatement<'_>, public: [u8; 32]) -> Self {
        Self {
            public,
            key_id: statement.key_id.into(),
            department: statement.department.into(),
            stream: statement.stream.into(),
            epoch: statement.epoch,
            number: statement.number,
            count: statement.count,
            root: statement.root,
            accepted: false,
            nodes: Nodes::new(statement.count, statement.root),
        }
    }

    /// Whether the remembered signature is over this very statement (root aside).
    pub fn covers(&self, statement: &BatchStatement<'_>, public: &[u8; 32]) -> bool {
        self.number == statement.number
            && self.epoch == statement.epoch
            && self.count == statement.count
            && *self.stream == *statement.stream
            && *self.department == *statement.department
            && *self.key_id == *statement.key_id
            && self.public == *public
    }

    /// Whether `digest` stands at `index`, and `path` is its whole inclusion path to the
    /// root. Above a known node every sibling is known too, so the rest of the path is
    /// compared, not skipped: a delivery carries it to others.
    pub fn includes(&mut self, digest: &Digest, index: u32, path: &[u8]) -> bool {
        let (mut index, mut width, mut level) = (index as usize, self.count as usize, 0);
        let mut hash = tree_leaf(digest);
        let mut siblings = path.chunks_exact(DIGEST_BYTES);
        // What this climb computed or was told; proven once a known node is met.
        let mut met: [(usize, usize, Digest); 42] = [(0, 0, UNKNOWN); 42];
        let mut count = 0;
        loop {
            let known = self.nodes.get(level, index);
            if *known != UNKNOWN {
                if *known != hash || !self.rest_is_known(level, index, width, siblings) {
                    return false;
                }
                break;
            }
            if width <= 1 {
                return false;
            }
            met[count] = (level, index, hash);
            count += 1;
            let sibling = index ^ 1;
            if sibling < width {
                let Some(told) = siblings.next() else {
                    return false;
                };
                met[count] = (level, sibling, UNKNOWN);
                met[count].2.copy_from_slice(told);
                count += 1;
                hash = if index & 1 == 1 {
                    tree_node(told, &hash)
                } else {
                    tree_node(&hash, told)
                };
            }
            index >>= 1;
            width = width.div_ceil(2);
            level += 1;
        }
        for (level, index, hash) in &met[..count] {
            self.nodes.set(*level, *index, hash);
        }
        true
    }

    fn rest_is_known<'p>(
        &self,
        level: usize,
        index: usize,
        width: usize,
        mut siblings: impl Iterator<Item = &'p [u8]>,
    ) -> bool {
        let (mut level, mut index, mut width) = (level, index, width);
        while width > 1 {
            let sibling = index ^ 1;
            if sibling < width && siblings.next() != Some(self.nodes.get(level, sibling)) {
                return false;
            }
            index >>= 1;
            width = width.div_ceil(2);
            level += 1;
        }
        siblings.next().is_none()
    }
}

/// The remembered batches, least recently used first to go.
#[derive(Debug)]
pub(crate) struct BatchCache {
    batches: LruCache<[u8; 64], Batch>,
    held: usize,
}

impl BatchCache {
    pub fn new() -> Self {
        let capacity = NonZeroUsize::new(MAX_BATCHES).unwrap_or(NonZeroUsize::MIN);
        Self {
            batches: LruCache::new(capacity),
            held: 0,
        }
    }

    pub fn get(&mut self, signature: &[u8; 64]) -> Option<&mut Batch> {
        self.batches.get_mut(signature)
    }

    /// Remembers a batch whose signature has just been verified.
    pub fn insert(&mut self, signature: [u8; 64], batch: Batch) {
        self.held += batch.nodes.held();
        if let Some((_, gone)) = self.batches.push(signature, batch) {
            self.held -= gone.nodes.held();
        }
        while self.held > MAX_NODES {
            match self.batches.pop_lru() {
                Some((_, gone)) => self.held -= gone.nodes.held(),
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Suite;
    use crate::tree::Tree;

    /// A batch too large to remember whole keeps its upper levels and still refuses.
    #[test]
    fn a_batch_beyond_the_cache_is_proven_and_refused_alike() {
        let digests: Vec<Digest> = (0..70_001u32)
            .map(|n| {
                let mut digest = [7; 32];
                digest[..4].copy_from_slice(&n.to_be_bytes());
                digest
            })
            .collect();
        let tree = Tree::build(&digests);
        let statement = BatchStatement {
            suite: Suite::Ed25519Sha256,
            key_id: "k",
            department: "d",
            stream: "s",
            epoch: 1,
            number: 1,
            count: digests.len() as u32,
            root: tree.head(),
        };
        let mut batch = Batch::new(&statement, [0; 32]);
        assert!(batch.nodes.base > 0 && batch.nodes.held() <= MAX_NODES_PER_BATCH);
        for index in [0u32, 1, 69_999, 70_000, 35_000, 35_001, 1] {
            let path: Vec<u8> = tree.path(index).flatten().copied().collect();
            assert!(
                batch.includes(&digests[index as usize], index, &path),
                "{index}"
            );
            assert!(
                !batch.includes(&digests[(index as usize + 2) % digests.len()], index, &path),
                "{index}"
            );
            for byte in (0..path.len()).step_by(31) {
                let mut bad = path.clone();
                bad[byte] ^= 1;
                assert!(
                    !batch.includes(&digests[index as usize], index, &bad),
                    "{index} byte {byte}"
                );
            }
        }
    }
}
