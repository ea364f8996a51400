//! The log on disk: what was committed survives anything, in order, once.

use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, Chain};
use mz_ledger::check::check;
use mz_ledger::log::{Disk, Entry, Folder, Log, LogFault, Opened, Stored};
use mz_tlog::merkle::{self, MemoryTree, leaf_hash};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::power::Memory;

pub const ORIGIN: &str = "test/audit/0/2026";

/// The first entry of a log and a writer's chained records after it.
pub struct Story {
    chains: Vec<Chain>,
    random: StdRng,
}

impl Story {
    pub fn new(seed: u64) -> Self {
        let chains = (0..3).flat_map(|lane| {
            [AuditWriter::Gateway, AuditWriter::Vault].map(|writer| Chain::new(writer, lane))
        });
        Self {
            chains: chains.collect(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    pub fn opened() -> Vec<u8> {
        let mut entry = Vec::new();
        Entry::Opened(Opened::default()).encode(&mut entry);
        entry
    }

    /// The next record of some writer.
    pub fn next(&mut self) -> Vec<u8> {
        let at = self.random.random_range(0..self.chains.len());
        let chain = &mut self.chains[at];
        let (writer, lane) = (chain.writer(), chain.lane());
        let (kind, cause) = (AuditKind::Delivered, AuditCause::Stream);
        let mut audit = Audit::empty(writer, lane, 1_790_000_000_000, kind, cause);
        audit.nonce = self.random.random();
        audit.consumer = "police".into();
        let (mut bytes, mut entry) = (Vec::new(), Vec::new());
        chain.append(&mut audit, &mut bytes);
        Entry::Audit(&bytes).encode(&mut entry);
        entry
    }
}

/// A log of `size` entries, flushed.
pub fn filled<D: Disk>(disk: D, size: u64) -> (Log<D>, Vec<Vec<u8>>) {
    let (mut log, mut story) = (Log::create(disk, ORIGIN), Story::new(size));
    let mut all = vec![Story::opened()];
    all.resize_with(size as usize, || story.next());
    for entry in &all {
        log.append(entry).unwrap();
    }
    log.flush().unwrap();
    (log, all)
}

#[test]
fn sizes_around_tiles_are_read_back_proven_and_continued() {
    for size in [1, 2, 255, 256, 257, 511, 512, 700, 65_536, 65_537, 70_000] {
        let (log, all) = filled(Memory::default(), size);
        let mut tree = MemoryTree::new();
        all.iter().for_each(|entry| tree.push(leaf_hash(entry)));
        assert_eq!(log.root(), tree.root(), "{size}");
        let root = log.root();
        let disk = log.disk().clone();
        let report = check(&disk, size, &root);
        assert!(report.good(), "{size}: {:?}", report.faults);
        assert_eq!(report.records, size - 1);
        let stored = Stored::new(&disk, size);
        for index in [0, size / 2, size - 1] {
            let entry = stored.entry(index).unwrap();
            assert_eq!(entry, all[index as usize]);
            let proof = merkle::inclusion(index, size, &stored.hashes()).unwrap();
            merkle::verify_inclusion(&leaf_hash(&entry), index, size, &proof, &root).unwrap();
        }
        let mut log = Log::open(disk, ORIGIN, size, &root).unwrap();
        log.append(b"\x01one more").unwrap();
        log.flush().unwrap();
        tree.push(leaf_hash(b"\x01one more"));
        assert_eq!(log.root(), tree.root());
    }
}

#[test]
fn a_real_folder_holds_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, all) = filled(Folder::new(folder.path()), 700);
    log.tidy().unwrap();
    let root = log.root();
    drop(log);
    let disk = Folder::new(folder.path());
    assert!(check(&disk, 700, &root).good());
    assert!(folder.path().join("tile/0/001").is_file());
    assert!(folder.path().join("tile/0/002.p/188").is_file());
    assert!(folder.path().join("tile/entries/002.p/188").is_file());
    assert!(folder.path().join("tile/1/000.p/2").is_file());
    let mut log = Log::open(disk, ORIGIN, 700, &root).unwrap();
    let mut story = Story::new(1);
    for _ in 700..800 {
        log.append(&story.next()).unwrap();
    }
    log.flush().unwrap();
    log.tidy().unwrap();
    assert!(!folder.path().join("tile/0/002.p").exists(), "outgrown");
    assert_eq!(Stored::new(log.disk(), 800).entry(699).unwrap(), all[699]);
}

/// Power cuts at any moment: what was committed is there, once, in its order, and nothing else is.
#[test]
fn nothing_that_was_committed_is_lost_or_doubled_by_power_cuts() {
    let mut cuts = 0;
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut story = Story::new(seed);
        let mut log = Log::create(Memory::default(), ORIGIN);
        let (mut kept, mut waiting) = (Vec::new(), vec![Story::opened()]);
        log.append(&waiting[0]).unwrap();
        log.flush().unwrap();
        let mut committed = (1, log.root());
        kept.append(&mut waiting);
        for _ in 0..60 {
            // Some commits span whole tiles.
            let many = [3, 40, 300, 700][random.random_range(0..4)];
            let before = story.chains.clone();
            for _ in 0..random.random_range(1..=many) {
                waiting.push(story.next());
                log.append(waiting.last().unwrap()).unwrap();
            }
            let cut = random.random_range(0..6);
            if cut > 0 {
                log.flush().unwrap();
            }
            if cut > 1 {
                committed = (log.size(), log.root());
                kept.append(&mut waiting);
            }
            if cut > 2 {
                log.tidy().unwrap();
            }
            if cut < 4 {
                cuts += 1;
                let mut disk = log.disk().clone();
                disk.cut(&mut random);
                log = Log::open(disk, ORIGIN, committed.0, &committed.1).unwrap();
                if cut <= 1 {
                    // Never committed: it comes again, in another order.
                    waiting.clear();
                    story.chains = before;
                }
            }
        }
        log.flush().unwrap();
        let (size, root) = (log.size(), log.root());
        kept.append(&mut waiting);
        let report = check(log.disk(), size, &root);
        assert!(report.good(), "seed {seed}: {:?}", report.faults);
        let mut all = Vec::new();
        Stored::new(log.disk(), size)
            .entries(0, size, |_, entry| {
                all.push(entry.to_vec());
                Ok(())
            })
            .unwrap();
        assert_eq!(all, kept, "seed {seed}");
    }
    assert!(cuts > 1_000, "{cuts}");
}

#[test]
fn another_prefix_than_the_committed_one_is_refused() {
    let (log, _) = filled(Memory::default(), 700);
    let root = log.root();
    let disk = log.disk().clone();
    let opened = |disk: Memory, size| Log::open(disk, ORIGIN, size, &root).map(|log| log.size());
    assert_eq!(opened(disk.clone(), 700).unwrap(), 700);
    assert!(opened(disk.clone(), 699).is_err());
    let other = Log::open(disk.clone(), ORIGIN, 700, &[7; 32]);
    assert!(matches!(other, Err(LogFault::Root { size: 700 })));
    for path in disk.durable.keys() {
        let mut gone = disk.clone();
        gone.durable.remove(path);
        let found = opened(gone, 700);
        // Full tiles to the left of the edge are not read here: `check` reads them.
        let edge = path.contains(".p/");
        assert_eq!(found.is_err(), edge, "{path}");
        if edge {
            let mut other = disk.clone();
            other.durable.get_mut(path).unwrap()[40] ^= 1;
            assert!(opened(other, 700).is_err(), "{path}");
        }
    }
    // More than was committed is forgotten.
    let (mut longer, _) = filled(Memory::default(), 700);
    longer.append(b"\x01more").unwrap();
    longer.flush().unwrap();
    assert_eq!(opened(longer.disk().clone(), 700).unwrap(), 700);
}
