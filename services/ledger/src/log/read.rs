//! A log as it lies on disk, up to a size that somebody vouches for.

use std::io;

use mz_tlog::merkle::{Frontier, Hash, Hashes, ProofError};
use mz_tlog::tile::{self, TileError, TileHashes, TileKind, TilePath};

use crate::log::disk::Disk;

/// Before each entry of a bundle.
const LENGTH_BYTES: usize = 2;

/// Why a log can't be read as it should be. Names tiles and sizes, never what is in an entry.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    #[error("the log's files")]
    Disk(#[from] io::Error),
    #[error("{path} is missing")]
    Missing { path: String },
    #[error("{path} has {found} hashes, not {wanted}")]
    Short {
        path: String,
        wanted: usize,
        found: usize,
    },
    #[error("the first {size} entries are not the ones that were committed")]
    Root { size: u64 },
    #[error("entries of bundle {index} don't hash to its tile")]
    Bundle { index: u64 },
    #[error("a tile")]
    Tile(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl LogFault {
    pub(crate) fn tile(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Tile(Box::new(error))
    }

    /// What came is at fault, not how it came.
    pub(crate) fn is_content(&self) -> bool {
        match self {
            Self::Disk(_) | Self::Missing { .. } => false,
            Self::Short { .. } | Self::Root { .. } | Self::Bundle { .. } => true,
            Self::Tile(inner) => match inner.downcast_ref() {
                Some(ProofError::Hashes(TileError::Fetch { error, .. })) => {
                    let error: &Self = error;
                    error.is_content()
                }
                _ => true,
            },
        }
    }

    pub const fn code(&self) -> &'static str {
        match self {
            Self::Disk(_) => "LEDGER_DISK",
            Self::Missing { .. } | Self::Short { .. } => "LEDGER_TILE_MISSING",
            Self::Root { .. } => "LEDGER_PREFIX_DIFFERS",
            Self::Bundle { .. } => "LEDGER_ENTRY_ALTERED",
            Self::Tile(_) => "LEDGER_TILE_MALFORMED",
        }
    }
}

/// The first `size` entries of a log.
#[derive(Debug)]
pub struct Stored<'d, D> {
    disk: &'d D,
    size: u64,
}

impl<'d, D: Disk> Stored<'d, D> {
    pub const fn new(disk: &'d D, size: u64) -> Self {
        Self { disk, size }
    }

    pub const fn size(&self) -> u64 {
        self.size
    }

    /// A tile's bytes; a full tile stands in for a partial one that it replaced.
    fn fetch(&self, path: &TilePath) -> Result<Vec<u8>, LogFault> {
        if let Some(bytes) = self.disk.read(&path.path())? {
            return Ok(bytes);
        }
        let full = path.full();
        match self.disk.read(&full.path())? {
            Some(bytes) if full != *path => Ok(bytes),
            _ => Err(LogFault::Missing { path: path.path() }),
        }
    }

    /// The first `width` hashes of a tile.
    pub(crate) fn tile_prefix(
        &self,
        level: u8,
        index: u64,
        width: usize,
    ) -> Result<Vec<Hash>, LogFault> {
        if width == 0 {
            return Ok(Vec::new());
        }
        let path = TilePath {
            kind: TileKind::Hashes { level },
            index,
            // At most 256.
            width: width as u16,
        };
        let bytes = self.fetch(&path)?;
        let (hashes, _) = bytes.as_chunks::<32>();
        match hashes.get(..width) {
            Some(hashes) => Ok(hashes.to_vec()),
            None => Err(LogFault::Short {
                path: path.path(),
                wanted: width,
                found: hashes.len(),
            }),
        }
    }

    /// The first `width` entries of a bundle, as they lie there.
    pub(crate) fn bundle_prefix(&self, index: u64, width: usize) -> Result<Vec<u8>, LogFault> {
        if width == 0 {
            return Ok(Vec::new());
        }
        let path = TilePath {
            kind: TileKind::Entries,
            index,
            width: width as u16,
        };
        let mut bytes = self.fetch(&path)?;
        let (mut found, mut length) = (0, 0);
        for entry in tile::entries(&bytes).take(width) {
            length += LENGTH_BYTES + entry.map_err(LogFault::tile)?.len();
            found += 1;
        }
        if found < width {
            return Err(LogFault::Short {
                path: path.path(),
                wanted: width,
                found,
            });
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Entries `from..to` of one bundle or of many, in order, with their indices. `to` is at most the size.
    pub fn entries(
        &self,
        from: u64,
        to: u64,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), LogFault>,
    ) -> Result<(), LogFault> {
        let mut at = from;
        let to = to.min(self.size);
        while at < to {
            let bundle = at >> 8;
            let width = (self.size - (bundle << 8)).min(256) as usize;
            let bytes = self.bundle_prefix(bundle, width)?;
            for (index, entry) in ((bundle << 8)..).zip(tile::entries(&bytes)) {
                if (at..to).contains(&index) {
                    each(index, entry.map_err(LogFault::tile)?)?;
                }
            }
            at = (bundle + 1) << 8;
        }
        Ok(())
    }

    /// One entry.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, LogFault> {
        let mut found = None;
        self.entries(index, index + 1, |_, entry| {
            found = Some(entry.to_vec());
            Ok(())
        })?;
        found.ok_or(LogFault::Missing {
            path: format!("entry {index}"),
        })
    }

    /// Hashes of complete subtrees, from the tiles.
    pub fn hashes(&self) -> impl Hashes<Error = TileError<LogFault>> + '_ {
        TileHashes::new(self.size, |path: &TilePath| self.fetch(path))
    }

    pub(crate) fn frontier(&self) -> Result<Frontier, LogFault> {
        Frontier::from_hashes(self.size, &self.hashes()).map_err(LogFault::tile)
    }
}
