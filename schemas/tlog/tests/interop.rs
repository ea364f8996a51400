//! The same bytes, read and made by other implementations of the specifications.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::cell::RefCell;

use ed25519_dalek::{Signer as _, SigningKey};
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::merkle::{self, Hash, Hashes as _, MemoryTree, leaf_hash};
use mz_tlog::note::{KeyKind, Note, VerifierKey, sign_line};
use mz_tlog::tile::{TileHashes, TileKind, TilePath, tiles_between, tiles_of};
use proptest::prelude::*;
use signed_note::Verifier as _;
use tlog_tiles::{HashReader, Tile, TileHashReader, TileReader};

fn entry(number: u64) -> Vec<u8> {
    format!("entry {number}").into_bytes()
}

fn tree(size: u64) -> MemoryTree {
    (0..size).map(|number| leaf_hash(&entry(number))).collect()
}

fn theirs(hash: &Hash) -> tlog_tiles::Hash {
    tlog_tiles::Hash(*hash)
}

fn all_theirs(hashes: &[Hash]) -> Vec<tlog_tiles::Hash> {
    hashes.iter().map(theirs).collect()
}

fn all_ours(hashes: &[tlog_tiles::Hash]) -> Vec<Hash> {
    hashes.iter().map(|hash| hash.0).collect()
}

/// Their storage order.
#[derive(Default)]
struct Stored(RefCell<Vec<tlog_tiles::Hash>>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        let stored = self.0.borrow();
        Ok(indexes
            .iter()
            .map(|index| stored[*index as usize])
            .collect())
    }
}

fn their_tree(size: u64) -> Stored {
    let stored = Stored::default();
    for number in 0..size {
        let hashes = tlog_tiles::stored_hashes(number, &entry(number), &stored).unwrap();
        stored.0.borrow_mut().extend(hashes);
    }
    stored
}

/// Their tile for ours, by way of the paths: theirs state the height too.
fn their_tile(tile: &TilePath) -> Tile {
    let path = match tile.kind {
        TileKind::Hashes { .. } => tile.path().replacen("tile/", "tile/8/", 1),
        TileKind::Entries => tile.path().replacen("tile/entries/", "tile/8/data/", 1),
    };
    let read = Tile::from_path(&path).unwrap();
    assert_eq!(read.level_index(), tile.index);
    assert_eq!(read.width(), u32::from(tile.width));
    assert_eq!(read.is_data(), tile.kind == TileKind::Entries);
    read
}

fn our_tile(tile: &Tile) -> TilePath {
    TilePath::parse(&tile.path().replacen("tile/8/", "tile/", 1)).unwrap()
}

/// Our hash tiles.
struct OurTiles(MemoryTree);

impl OurTiles {
    fn bytes(&self, tile: &TilePath) -> Vec<u8> {
        let TileKind::Hashes { level } = tile.kind else {
            panic!("no hash tile")
        };
        (0..u64::from(tile.width))
            .flat_map(|at| self.0.hash(8 * level, tile.index * 256 + at).unwrap())
            .collect()
    }
}

impl TileReader for OurTiles {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        Ok(tiles
            .iter()
            .map(|tile| self.bytes(&our_tile(tile)))
            .collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

const SIZES: [u64; 13] = [1, 2, 3, 7, 8, 255, 256, 257, 300, 512, 513, 700, 66_000];

#[test]
fn roots_and_tiles_are_the_same() {
    let stored = their_tree(66_000);
    let ours = OurTiles(tree(66_000));
    for size in SIZES {
        let root = tlog_tiles::tree_hash(size, &stored).unwrap();
        assert_eq!(merkle::root(size, &ours.0).unwrap(), root.0);
        let mut count = 0;
        for tile in tiles_of(size) {
            let other = their_tile(&tile);
            if tile.kind != TileKind::Entries {
                count += 1;
                assert_eq!(
                    ours.bytes(&tile),
                    other.read_data(&stored).unwrap(),
                    "{tile}"
                );
            }
        }
        assert_eq!(count, Tile::new_tiles(8, 0, size).len());
    }
}

#[test]
fn proofs_from_our_tiles_are_believed_there() {
    let ours = OurTiles(tree(66_000));
    for size in SIZES {
        let root = merkle::root(size, &ours.0).unwrap();
        let reader = TileHashReader::new(size, theirs(&root), &ours);
        let hashes = TileHashes::new(size, |tile| Ok::<_, ()>(ours.bytes(tile)));
        for other in (0..size)
            .step_by((size as usize / 40).max(1))
            .chain([size - 1])
        {
            // Inclusion: our proof there, their proof from our tiles here.
            let leaf = leaf_hash(&entry(other));
            let proof = merkle::inclusion(other, size, &hashes).unwrap();
            let copy = all_theirs(&proof);
            tlog_tiles::check_record(&copy, size, theirs(&root), other, theirs(&leaf)).unwrap();
            let copy = tlog_tiles::prove_record(size, other, &reader).unwrap();
            assert_eq!(all_ours(&copy), proof);
            merkle::verify_inclusion(&leaf, other, size, &all_ours(&copy), &root).unwrap();
            // Consistency from a tree of at least one leaf.
            let old = other + 1;
            let old_root = merkle::root(old, &hashes).unwrap();
            let proof = merkle::consistency(old, size, &hashes).unwrap();
            let copy = all_theirs(&proof);
            tlog_tiles::check_tree(&copy, size, theirs(&root), old, theirs(&old_root)).unwrap();
            let copy = all_ours(&tlog_tiles::prove_tree(size, old, &reader).unwrap());
            assert_eq!(copy, proof);
            merkle::verify_consistency(old, size, &old_root, &root, &copy).unwrap();
        }
    }
}

#[test]
fn their_tiles_are_read_here() {
    let stored = their_tree(700);
    let size = 700;
    let root = tlog_tiles::tree_hash(size, &stored).unwrap().0;
    let hashes = TileHashes::new(size, |tile| their_tile(tile).read_data(&stored));
    assert_eq!(merkle::root(size, &hashes).unwrap(), root);
    for index in 0..size {
        let proof = merkle::inclusion(index, size, &hashes).unwrap();
        let leaf = leaf_hash(&entry(index));
        merkle::verify_inclusion(&leaf, index, size, &proof, &root).unwrap();
    }
}

proptest! {
    #[test]
    fn growth_writes_the_same_tiles(old in 0_u64..200_000, more in 0_u64..70_000) {
        let mut ours: Vec<_> = tiles_between(old, old + more)
            .filter(|tile| tile.kind != TileKind::Entries)
            .map(|tile| tile.path())
            .collect();
        let mut others: Vec<_> = Tile::new_tiles(8, old, old + more)
            .iter()
            .map(|tile| our_tile(tile).path())
            .collect();
        ours.sort();
        others.sort();
        prop_assert_eq!(ours, others);
    }

    #[test]
    fn paths_are_the_same(level in 0_u8..64, index: u64, shift in 0_u32..64, width in 1_u16..=256) {
        let tile = TilePath { kind: TileKind::Hashes { level }, index: index >> shift, width };
        prop_assert_eq!(our_tile(&their_tile(&tile)), tile);
        let tile = TilePath { kind: TileKind::Entries, ..tile };
        let back = their_tile(&tile).path().replacen("tile/8/data/", "tile/entries/", 1);
        prop_assert_eq!(TilePath::parse(&back), Ok(tile));
    }

    #[test]
    fn checkpoints_are_the_same(
        origin in "[a-z./]{1,20}", size in 1..=mz_tlog::MAX_SIZE, root: Hash,
        extensions in prop::collection::vec("[a-z]{1,9}", 0..3),
    ) {
        let ours = Checkpoint { origin, size, root, extensions };
        let text = ours.encode().unwrap();
        let other = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).unwrap();
        prop_assert_eq!(other.origin(), &ours.origin);
        prop_assert_eq!(other.size(), ours.size);
        prop_assert_eq!(other.hash().0, ours.root);
        prop_assert_eq!(other.to_bytes(), text.as_bytes());
    }
}

/// The secret key as they write it.
fn their_signer(
    name: &str,
    secret: &SigningKey,
    public: &VerifierKey,
) -> signed_note::StandardSigner {
    use base64::Engine as _;
    let key = [&[1_u8], secret.to_bytes().as_slice()].concat();
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    signed_note::StandardSigner::new(&format!("PRIVATE+KEY+{name}+{:08x}+{key}", public.id()))
        .unwrap()
}

#[test]
fn signed_checkpoints_are_opened_on_both_sides() {
    let name = "log.example/journal";
    let secret = SigningKey::from_bytes(&[7; 32]);
    let key = VerifierKey::new(name, KeyKind::Ed25519, secret.verifying_key().as_bytes()).unwrap();
    // The encoded key is the same.
    let encoded = signed_note::new_ed25519_verifier_key(name, &secret.verifying_key());
    assert_eq!(key.to_string(), encoded);
    assert_eq!(VerifierKey::parse(&encoded).unwrap(), key);
    let verifier = signed_note::StandardVerifier::new(&key.to_string()).unwrap();
    assert_eq!(verifier.key_id(), key.id());
    let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);

    let tree = tree(300);
    let checkpoint = Checkpoint {
        origin: name.to_owned(),
        size: tree.size(),
        root: tree.root(),
        extensions: Vec::new(),
    };
    let text = checkpoint.encode().unwrap();

    // Ours there.
    let line = sign_line(&key, &text, |message| secret.sign(message).to_bytes()).unwrap();
    let ours = Note::assemble(&text, [line]).unwrap();
    let read = signed_note::Note::from_bytes(ours.to_string().as_bytes()).unwrap();
    let (good, unknown) = read.verify(&known).unwrap();
    assert_eq!((good.len(), unknown.len()), (1, 0));
    let other = tlog_tiles::Checkpoint::from_bytes(read.text()).unwrap();
    assert_eq!((other.size(), other.hash().0), (300, tree.root()));

    // Theirs here, and the same bytes.
    let mut note = signed_note::Note::new(text.as_bytes(), &[]).unwrap();
    note.add_sigs(&[&their_signer(name, &secret, &key)])
        .unwrap();
    let bytes = note.to_bytes();
    assert_eq!(bytes, ours.to_string().as_bytes());
    let read = Note::parse(&bytes).unwrap();
    assert_eq!(read.verify(&key).unwrap().timestamp, None);
    assert_eq!(Checkpoint::parse(read.text()).unwrap(), checkpoint);

    // A changed note is refused on both sides.
    let changed = ours.to_string().replacen("300", "301", 1);
    assert!(Note::parse(&changed).unwrap().verify(&key).is_err());
    let read = signed_note::Note::from_bytes(changed.as_bytes()).unwrap();
    assert!(read.verify(&known).is_err());
}
