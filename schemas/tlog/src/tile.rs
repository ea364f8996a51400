//! Tiles: how a tree lies in files (<https://c2sp.org/tlog-tiles>). Height 8.
//!
//! A hash tile of level L holds up to 256 hashes of subtrees of 256^L leaves. An entry
//! bundle holds the entries of one level 0 tile.

use std::cell::RefCell;
use std::fmt;

use crate::merkle::{Hash, Hashes, node_hash};
use crate::text::decimal;

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// An entry has at most this many bytes.
pub const MAX_ENTRY_BYTES: usize = 65_535;
/// A bundle has at most this many bytes.
pub const MAX_BUNDLE_BYTES: usize = TILE_WIDTH as usize * (2 + MAX_ENTRY_BYTES);

const HASH_BYTES: usize = 32;
/// A tree below 2^63 leaves has tiles of the levels 0 to 7.
const LEVELS: u8 = 8;
/// Levels that a path can name.
const PATH_LEVELS: u64 = 64;
/// A path of any 64-bit index is shorter.
const MAX_PATH_BYTES: usize = 64;
const PATH_GROUP: u64 = 1000;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of subtrees of 256^`level` leaves.
    Hashes { level: u8 },
    /// The entries themselves.
    Entries,
}

/// Which tile: kind, number from the left, and how many hashes or entries it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    pub kind: TileKind,
    pub index: u64,
    /// 1 to 256; below 256 the tile is partial.
    pub width: u16,
}

/// Not the path of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile")]
pub struct TilePathError;

impl TilePath {
    pub fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The same tile, complete.
    pub fn full(&self) -> Self {
        Self {
            width: TILE_WIDTH,
            ..*self
        }
    }

    /// The path below the log's prefix, such as `tile/0/x001/x234/067.p/8`.
    pub fn path(&self) -> String {
        let kind = match self.kind {
            TileKind::Hashes { level } => level.to_string(),
            TileKind::Entries => "entries".to_owned(),
        };
        let mut number = format!("{:03}", self.index % PATH_GROUP);
        let mut rest = self.index / PATH_GROUP;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % PATH_GROUP);
            rest /= PATH_GROUP;
        }
        let partial = if self.is_full() {
            String::new()
        } else {
            format!(".p/{}", self.width)
        };
        format!("tile/{kind}/{number}{partial}")
    }

    /// Reads exactly what `path` writes.
    pub fn parse(path: &str) -> Result<Self, TilePathError> {
        if path.len() > MAX_PATH_BYTES {
            return Err(TilePathError);
        }
        Self::read(path)
            .filter(|tile| tile.path() == path)
            .ok_or(TilePathError)
    }

    fn read(path: &str) -> Option<Self> {
        let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => {
                let level = decimal(level).filter(|level| *level < PATH_LEVELS)?;
                TileKind::Hashes {
                    level: u8::try_from(level).ok()?,
                }
            }
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => {
                let width = decimal(width).filter(|width| (1..256).contains(width))?;
                (number, u16::try_from(width).ok()?)
            }
            None => (rest, TILE_WIDTH),
        };
        let mut index = 0_u64;
        for group in number.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            index = index
                .checked_mul(PATH_GROUP)?
                .checked_add(digits.parse().ok()?)?;
        }
        Some(Self { kind, index, width })
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.path())
    }
}

/// All tiles of a tree of `size` leaves: entry bundles, then hash tiles level by level,
/// from the left, the partial one of each level last.
pub fn tiles_of(size: u64) -> impl Iterator<Item = TilePath> {
    tiles_between(0, size)
}

/// The tiles that a tree of `new` leaves has and the tree of `old` leaves has not, in the
/// order of [`tiles_of`]. None if the tree does not grow.
pub fn tiles_between(old: u64, new: u64) -> impl Iterator<Item = TilePath> {
    let hashes = (0..LEVELS).map(|level| (TileKind::Hashes { level }, level));
    std::iter::once((TileKind::Entries, 0))
        .chain(hashes)
        .flat_map(move |(kind, level)| {
            let (old, new) = (old >> (8 * level), new >> (8 * level));
            // A row without new hashes has no new tiles.
            let range = if old < new {
                old / 256..new.div_ceil(256)
            } else {
                0..0
            };
            range.map(move |index| TilePath {
                kind,
                index,
                width: width_of(index, new),
            })
        })
}

/// Width of tile `index` in a row of `count` hashes that reaches into it.
fn width_of(index: u64, count: u64) -> u16 {
    let left = (count - index * 256).min(u64::from(TILE_WIDTH));
    // At most 256.
    left as u16
}

/// A hash could not be read from tiles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError<E> {
    #[error("no complete subtree {index} at level {level} in a tree of {size}")]
    NoSuchSubtree { level: u8, index: u64, size: u64 },
    #[error("{path} has {bytes} bytes, which is too few, too many or not whole hashes")]
    Length { path: TilePath, bytes: usize },
    #[error("{path}: {error}")]
    Fetch { path: TilePath, error: E },
}

/// Reads the hashes of a tree of `size` leaves from its hash tiles.
///
/// `fetch` gives a tile's bytes; it may give the full tile for a partial one. The hashes
/// are only what the tiles say: compare the root, or verify the proof made from them.
pub struct TileHashes<F, B> {
    size: u64,
    fetch: F,
    /// The tiles read last, so that a proof reads each tile once.
    recent: RefCell<Vec<(TilePath, B)>>,
}

/// A proof needs at most two tiles of each level.
const RECENT_TILES: usize = 2 * LEVELS as usize;

impl<F, B, E> TileHashes<F, B>
where
    F: Fn(&TilePath) -> Result<B, E>,
    B: AsRef<[u8]>,
{
    pub fn new(size: u64, fetch: F) -> Self {
        Self {
            size,
            fetch,
            recent: RefCell::default(),
        }
    }

    /// Checks a tile's length and computes the subtree of its hashes `from..from + count`.
    fn subtree(
        path: TilePath,
        bytes: &[u8],
        from: usize,
        count: usize,
    ) -> Result<Hash, TileError<E>> {
        let error = || TileError::Length {
            path,
            bytes: bytes.len(),
        };
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        let width = usize::from(path.width)..=usize::from(TILE_WIDTH);
        if !width.contains(&hashes.len()) || !rest.is_empty() {
            return Err(error());
        }
        let mut row = hashes.get(from..from + count).ok_or_else(error)?.to_vec();
        while row.len() > 1 {
            let (pairs, _) = row.as_chunks::<2>();
            row = pairs
                .iter()
                .map(|[left, right]| node_hash(left, right))
                .collect();
        }
        row.pop().ok_or_else(error)
    }
}

impl<F, B, E> Hashes for TileHashes<F, B>
where
    F: Fn(&TilePath) -> Result<B, E>,
    B: AsRef<[u8]>,
{
    type Error = TileError<E>;

    fn hash(&self, level: u8, index: u64) -> Result<Hash, TileError<E>> {
        // The subtree is complete if the row at its level reaches over it.
        let row = self.size.checked_shr(level.into()).unwrap_or(0);
        if index >= row {
            return Err(TileError::NoSuchSubtree {
                level,
                index,
                size: self.size,
            });
        }
        let tile_level = level / 8;
        let first = index << (level % 8);
        let tile = first / 256;
        let path = TilePath {
            kind: TileKind::Hashes { level: tile_level },
            index: tile,
            width: width_of(tile, self.size >> (8 * tile_level)),
        };
        let (from, count) = ((first % 256) as usize, 1 << (level % 8));

        let mut recent = self.recent.borrow_mut();
        if let Some((_, bytes)) = recent.iter().find(|(known, _)| *known == path) {
            return Self::subtree(path, bytes.as_ref(), from, count);
        }
        let bytes = (self.fetch)(&path).map_err(|error| TileError::Fetch { path, error })?;
        let hash = Self::subtree(path, bytes.as_ref(), from, count)?;
        if recent.len() == RECENT_TILES {
            recent.remove(0);
        }
        recent.push((path, bytes));
        Ok(hash)
    }
}

/// An entry has more than 65535 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry of {0} bytes is too long for a bundle")]
pub struct EntryTooLong(pub usize);

/// Why bytes are no entry bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("the bundle ends inside an entry")]
    Truncated,
    #[error("the bundle has more than 256 entries")]
    TooMany,
}

/// Appends an entry to a bundle: its length as two bytes, big-endian, and its bytes.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), EntryTooLong> {
    let length = u16::try_from(entry.len()).map_err(|_| EntryTooLong(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle, in order. Ends after an error.
pub fn entries(bundle: &[u8]) -> Entries<'_> {
    Entries {
        rest: bundle,
        count: 0,
    }
}

/// See [`entries`].
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    rest: &'a [u8],
    count: u16,
}

impl<'a> Entries<'a> {
    fn entry(&mut self) -> Result<&'a [u8], BundleError> {
        if self.count == TILE_WIDTH {
            return Err(BundleError::TooMany);
        }
        let (length, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(BundleError::Truncated)?;
        let length = u16::from_be_bytes(*length).into();
        let (entry, rest) = rest
            .split_at_checked(length)
            .ok_or(BundleError::Truncated)?;
        self.count += 1;
        self.rest = rest;
        Ok(entry)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], BundleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.rest = &[];
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::MAX_SIZE;
    use crate::merkle::{Frontier, MemoryTree, consistency, inclusion, leaf_hash, root};

    fn tree(size: u64) -> MemoryTree {
        (0..size)
            .map(|number| leaf_hash(&number.to_be_bytes()))
            .collect()
    }

    /// The bytes of a hash tile.
    fn bytes(tree: &MemoryTree, path: &TilePath) -> Vec<u8> {
        let TileKind::Hashes { level } = path.kind else {
            panic!("no hash tile")
        };
        (0..u64::from(path.width))
            .flat_map(|at| tree.hash(8 * level, path.index * 256 + at).unwrap())
            .collect()
    }

    fn hash_tiles(size: u64) -> Vec<TilePath> {
        tiles_of(size)
            .filter(|tile| tile.kind != TileKind::Entries)
            .collect()
    }

    #[test]
    fn the_published_examples() {
        let tile = |kind, index, width| TilePath { kind, index, width };
        let level = |level| TileKind::Hashes { level };
        assert_eq!(
            tile(level(0), 1_234_067, 256).path(),
            "tile/0/x001/x234/067"
        );
        assert_eq!(tile(TileKind::Entries, 5, 7).path(), "tile/entries/005.p/7");
        // A tree of 70,000: 273 full and one of 112; one full and one of 17; one of 1.
        let tiles = hash_tiles(70_000);
        assert_eq!(tiles.len(), 273 + 1 + 1 + 1 + 1);
        assert_eq!(tiles[272], tile(level(0), 272, 256));
        assert_eq!(
            tiles[273..],
            [
                tile(level(0), 273, 112),
                tile(level(1), 0, 256),
                tile(level(1), 1, 17),
                tile(level(2), 0, 1)
            ]
        );
        assert_eq!(
            hash_tiles(256),
            [tile(level(0), 0, 256), tile(level(1), 0, 1)]
        );
        assert_eq!(tiles_of(0).count(), 0);
        assert_eq!(
            tiles_of(70_000)
                .filter(|tile| tile.kind == TileKind::Entries)
                .count(),
            274
        );
    }

    #[test]
    fn hostile_paths_are_refused() {
        for path in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "/tile/0/000",
            "tile/0/000/",
            "tile//000",
            "tile/00/000",
            "tile/64/000",
            "tile/255/000",
            "tile/256/000",
            "tile/-1/000",
            "tile/+1/000",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/0/x000",
            "tile/0/x000/000",
            "tile/0/000/000",
            "tile/0/001/000",
            "tile/0/X001/000",
            "tile/0/xx01/000",
            "tile/0/x001/x000",
            "tile/0/1000",
            "tile/0/000.p",
            "tile/0/000.p/",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/1/",
            "tile/0/000.p/1.p/1",
            "tile/0/000.p/-1",
            "tile/data/000",
            "tile/entries",
            "tile/entries/000/",
            "tile/Entries/000",
            "tile/0/../000",
            "tile/0/00a",
            "tile/0/٣٣٣",
            " tile/0/000",
            "tile/0/000\n",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(TilePath::parse(path), Err(TilePathError), "{path:?}");
        }
        let last = "tile/63/x018/x446/x744/x073/x709/x551/615.p/255";
        assert_eq!(TilePath::parse(last).unwrap().index, u64::MAX);
    }

    #[test]
    fn every_hash_is_read_from_tiles() {
        let all = tree(700);
        for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 700] {
            let hashes = TileHashes::new(size, |path| Ok::<_, ()>(bytes(&all, path)));
            for level in 0..=64_u8 {
                let row = size.checked_shr(level.into()).unwrap_or(0);
                for index in 0..row {
                    assert_eq!(
                        hashes.hash(level, index).unwrap(),
                        all.hash(level, index).unwrap()
                    );
                }
                for index in [row, row + 1, u64::MAX] {
                    let error = TileError::NoSuchSubtree { level, index, size };
                    assert_eq!(hashes.hash(level, index), Err(error));
                }
            }
        }
    }

    #[test]
    fn a_proof_reads_each_tile_once() {
        let size = 70_000;
        let all = tree(size);
        let reads = Cell::new(0);
        let seen = RefCell::new(BTreeSet::new());
        let hashes = TileHashes::new(size, |path| {
            reads.set(reads.get() + 1);
            seen.borrow_mut().insert(*path);
            Ok::<_, ()>(bytes(&all, path))
        });
        assert_eq!(
            inclusion(12_345, size, &hashes).unwrap(),
            inclusion(12_345, size, &all).unwrap()
        );
        assert_eq!(reads.get(), seen.borrow().len());
        assert_eq!(
            consistency(65_000, size, &hashes).unwrap(),
            consistency(65_000, size, &all).unwrap()
        );
        assert_eq!(root(size, &hashes).unwrap(), all.root());
    }

    #[test]
    fn short_long_and_missing_tiles_are_errors() {
        let all = tree(300);
        for length in [0, 1, 31, 32, 43 * 32, 44 * 32 - 1, 44 * 32 + 1, 257 * 32] {
            let hashes = TileHashes::new(300, |_| Ok::<_, ()>(vec![0_u8; length]));
            assert!(
                matches!(hashes.hash(0, 299), Err(TileError::Length { .. })),
                "{length}"
            );
        }
        let hashes = TileHashes::new(300, |_| Err::<Vec<u8>, _>("gone"));
        assert!(matches!(
            hashes.hash(0, 0),
            Err(TileError::Fetch { error: "gone", .. })
        ));
        // The full tile serves for the partial one.
        let big = tree(512);
        let hashes = TileHashes::new(300, |path| Ok::<_, ()>(bytes(&big, &path.full())));
        assert_eq!(hashes.hash(2, 74).unwrap(), all.hash(2, 74).unwrap());
    }

    #[test]
    fn a_growing_log_writes_every_tile() {
        let mut stored: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut rows: Vec<Vec<Hash>> = vec![Vec::new(); 8];
        let mut frontier = Frontier::new();
        for step in [1, 1, 30, 224, 1, 255, 0, 300, 65_000] {
            let old = frontier.size();
            for number in old..old + step {
                for (level, index, hash) in frontier.push(leaf_hash(&number.to_be_bytes())) {
                    if level % 8 == 0 {
                        let row = &mut rows[usize::from(level / 8)];
                        assert_eq!(row.len() as u64, index);
                        row.push(hash);
                    }
                }
            }
            for tile in tiles_between(old, frontier.size()) {
                let TileKind::Hashes { level } = tile.kind else {
                    continue;
                };
                let from = tile.index as usize * 256;
                let hashes = &rows[usize::from(level)][from..from + usize::from(tile.width)];
                assert!(stored.insert(tile.path(), hashes.concat()).is_none());
            }
            // Every tile of the tree is there, and they make the root.
            for tile in hash_tiles(frontier.size()) {
                assert!(stored.contains_key(&tile.path()), "{tile}");
            }
            let size = frontier.size();
            let hashes = TileHashes::new(size, |path| stored.get(&path.path()).cloned().ok_or(()));
            assert_eq!(root(size, &hashes).unwrap(), frontier.root());
        }
    }

    #[test]
    fn bundles() {
        let mut bundle = Vec::new();
        let list = [vec![], vec![1], vec![2; 65_535]];
        for entry in &list {
            push_entry(&mut bundle, entry).unwrap();
        }
        let before = bundle.len();
        assert_eq!(
            push_entry(&mut bundle, &[0; 65_536]),
            Err(EntryTooLong(65_536))
        );
        assert_eq!(bundle.len(), before);
        assert_eq!(
            entries(&bundle).collect::<Result<Vec<_>, _>>().unwrap(),
            list
        );
        bundle.pop();
        let read: Vec<_> = entries(&bundle).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[2], Err(BundleError::Truncated));
        assert_eq!(entries(&[0]).last(), Some(Err(BundleError::Truncated)));
        assert_eq!(entries(&[0; 512]).filter(Result::is_ok).count(), 256);
        assert_eq!(entries(&[0; 514]).last(), Some(Err(BundleError::TooMany)));
    }

    fn any_tile() -> impl Strategy<Value = TilePath> {
        let kind = prop_oneof![
            Just(TileKind::Entries),
            (0_u8..64).prop_map(|level| TileKind::Hashes { level })
        ];
        let index = (any::<u64>(), 0_u32..64).prop_map(|(index, shift)| index >> shift);
        (kind, index, 1_u16..=256).prop_map(|(kind, index, width)| TilePath { kind, index, width })
    }

    proptest! {
        #[test]
        fn paths_round_trip(tile in any_tile()) {
            prop_assert_eq!(TilePath::parse(&tile.path()), Ok(tile));
        }

        #[test]
        fn what_parses_is_canonical(
            path in "tile/(entries|[0-9]{1,3})/(x[0-9]{3}/){0,3}[0-9]{3}(\\.p/[0-9]{1,3})?"
        ) {
            if let Ok(tile) = TilePath::parse(&path) {
                prop_assert_eq!(tile.path(), path);
            }
        }

        #[test]
        fn a_changed_path_names_another_tile_or_none(
            tile in any_tile(), at: prop::sample::Index, byte in 0x20_u8..0x7f,
        ) {
            let mut path = tile.path().into_bytes();
            let at = at.index(path.len());
            path[at] = byte;
            let path = String::from_utf8(path).unwrap();
            if let Ok(read) = TilePath::parse(&path) {
                prop_assert_eq!(read == tile, path == tile.path());
            }
        }

        #[test]
        fn any_path_is_survived(path: String) {
            let _ = TilePath::parse(&path);
        }

        #[test]
        fn growth_adds_what_is_missing(old in 0_u64..200_000, more in 0_u64..70_000) {
            let before: BTreeSet<_> = tiles_of(old).collect();
            let after: BTreeSet<_> = tiles_of(old + more).collect();
            let added: Vec<_> = tiles_between(old, old + more).collect();
            prop_assert_eq!(added.iter().copied().collect::<BTreeSet<_>>().len(), added.len());
            let missing: BTreeSet<_> = after.difference(&before).copied().collect();
            prop_assert_eq!(added.into_iter().collect::<BTreeSet<_>>(), missing);
        }

        #[test]
        fn the_largest_trees_do_not_overflow(size in MAX_SIZE - 1000..=u64::MAX, back in 1_u64..600) {
            for tile in tiles_between(size - back, size) {
                prop_assert!((1..=256).contains(&tile.width));
            }
            let hashes = TileHashes::new(size, |_| Ok::<_, ()>(vec![0_u8; 8192]));
            prop_assert!(hashes.hash(0, size - 1).is_ok());
            prop_assert!(hashes.hash(62, 0).is_ok());
        }

        #[test]
        fn any_bundle_is_survived(bundle: Vec<u8>) {
            let bytes: usize = entries(&bundle).flatten().map(|entry| entry.len() + 2).sum();
            prop_assert!(bytes <= bundle.len());
        }
    }
}
