//! Growing a log: entries and hashes go into tiles, full ones at once, the right edge at each flush.

use mz_tlog::merkle::{Frontier, Hash, leaf_hash};
use mz_tlog::tile::{self, TILE_WIDTH, TileKind, TilePath};

use crate::check::head;
use crate::log::disk::Disk;
use crate::log::read::{LogFault, Stored};

/// Hashes of one full tile.
const FULL: usize = TILE_WIDTH as usize;

/// A log that is being written. One process at a time: see [`crate::run`].
#[derive(Debug)]
pub struct Log<D> {
    disk: D,
    origin: String,
    frontier: Frontier,
    /// Hashes of the rightmost tile of each tile level, lowest first.
    edge: Vec<Vec<Hash>>,
    /// Width of the rightmost tile of each level as it lies on disk.
    written: Vec<usize>,
    /// The rightmost entry bundle.
    bundle: Vec<u8>,
    /// Folders of partial tiles whose full tile is written.
    outgrown: Vec<String>,
}

impl<D: Disk> Log<D> {
    /// An empty log.
    pub fn create(disk: D, origin: &str) -> Self {
        Self {
            disk,
            origin: origin.to_owned(),
            frontier: Frontier::default(),
            edge: Vec::new(),
            written: Vec::new(),
            bundle: Vec::new(),
            outgrown: Vec::new(),
        }
    }

    /// The first `size` entries of what lies on disk; what lies behind them is forgotten and written anew.
    ///
    /// # Errors
    /// [`LogFault::Root`] when these entries are not the ones whose tree head is `root`.
    pub fn open(disk: D, origin: &str, size: u64, root: &Hash) -> Result<Self, LogFault> {
        let stored = Stored::new(&disk, size);
        let mut edge = Vec::new();
        for (level, width) in edges(size) {
            edge.push(stored.tile_prefix(level, size >> (8 * (u32::from(level) + 1)), width)?);
        }
        let frontier = stored.frontier()?;
        if frontier.root() != *root {
            return Err(LogFault::Root { size });
        }
        let bundle = stored.bundle_prefix(size >> 8, (size & 0xff) as usize)?;
        let leaves = tile::entries(&bundle).map(|entry| entry.map(leaf_hash));
        let leaves = leaves
            .collect::<Result<Vec<_>, _>>()
            .map_err(LogFault::tile)?;
        if edge.first().is_some_and(|first| *first != leaves) {
            return Err(LogFault::Bundle { index: size >> 8 });
        }
        let written = edge.iter().map(Vec::len).collect();
        Ok(Self {
            disk,
            origin: origin.to_owned(),
            frontier,
            edge,
            written,
            bundle,
            outgrown: Vec::new(),
        })
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Entries, flushed or not.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// RFC 6962 tree head over all entries.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    pub const fn disk(&self) -> &D {
        &self.disk
    }

    pub(crate) const fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Appends an entry; answers its index. Nothing is durable before [`Log::flush`].
    pub fn append(&mut self, entry: &[u8]) -> Result<u64, LogFault> {
        let index = self.size();
        tile::push_entry(&mut self.bundle, entry).map_err(LogFault::tile)?;
        let leaf = leaf_hash(entry);
        self.frontier.push(leaf);
        if self.size().is_multiple_of(FULL as u64) {
            let path = full_tile(TileKind::Entries, index >> 8);
            self.disk.write(&path.path(), &self.bundle)?;
            self.outgrow(path);
            self.bundle.clear();
        }
        self.push(0, leaf)?;
        Ok(index)
    }

    fn push(&mut self, level: usize, hash: Hash) -> Result<(), LogFault> {
        if self.edge.len() == level {
            self.edge.push(Vec::with_capacity(FULL));
            self.written.push(0);
        }
        self.edge[level].push(hash);
        if self.edge[level].len() < FULL {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.edge[level], Vec::with_capacity(FULL));
        self.written[level] = 0;
        let index = (self.size() >> (8 * (level + 1))) - 1;
        // Below eight levels: an index has 64 bits.
        let path = full_tile(TileKind::Hashes { level: level as u8 }, index);
        self.disk.write(&path.path(), full.as_flattened())?;
        self.outgrow(path);
        self.push(level + 1, head(full))
    }

    fn outgrow(&mut self, path: TilePath) {
        self.outgrown.push(format!("{}.p", path.path()));
    }

    /// Writes the right edge and makes everything durable.
    pub fn flush(&mut self) -> Result<(), LogFault> {
        for (level, hashes) in self.edge.iter().enumerate() {
            if hashes.is_empty() || hashes.len() == self.written[level] {
                continue;
            }
            let index = self.size() >> (8 * (level + 1));
            // Fit: below eight levels, below 256 hashes.
            let (kind, width) = (TileKind::Hashes { level: level as u8 }, hashes.len() as u16);
            let path = TilePath { kind, index, width };
            self.disk.write(&path.path(), hashes.as_flattened())?;
            if level == 0 {
                let kind = TileKind::Entries;
                let path = TilePath { kind, index, width };
                self.disk.write(&path.path(), &self.bundle)?;
            }
            self.written[level] = hashes.len();
        }
        Ok(self.disk.sync()?)
    }

    /// Removes partial tiles that full ones have replaced. Only after what was flushed is committed:
    /// whoever starts from the last commit reads them.
    pub fn tidy(&mut self) -> Result<(), LogFault> {
        for folder in std::mem::take(&mut self.outgrown) {
            self.disk.remove_folder(&folder)?;
        }
        Ok(())
    }
}

const fn full_tile(kind: TileKind, index: u64) -> TilePath {
    TilePath {
        kind,
        index,
        width: TILE_WIDTH,
    }
}

/// Tile levels of a log of this size with the width of their rightmost, partial tile.
fn edges(size: u64) -> impl Iterator<Item = (u8, usize)> {
    (0u8..8)
        .map(move |level| (level, size >> (8 * u32::from(level))))
        .take_while(|(_, hashes)| *hashes > 0)
        .map(|(level, hashes)| (level, (hashes & 0xff) as usize))
}
