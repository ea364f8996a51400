//! Whatever is altered in a log is named.

use mz_ledger::check::{Report, check};
use mz_ledger::log::{Entry, Log, Opened};
use mz_tlog::merkle::Hash;
use mz_tlog::tile;

use crate::log::{ORIGIN, filled};
use crate::power::Memory;

const SIZE: u64 = 700;

fn whole() -> (Memory, Hash, Vec<Vec<u8>>) {
    let (log, all) = filled(Memory::default(), SIZE);
    (log.disk().clone(), log.root(), all)
}

fn bundle(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        tile::push_entry(&mut bytes, entry).unwrap();
    }
    bytes
}

#[track_caller]
fn names(report: &Report, code: &str, place: &str) {
    let named = |fault: &mz_ledger::check::Fault| fault.code == code && fault.place.contains(place);
    assert!(
        report.faults.iter().any(named),
        "{code} {place}: {:?}",
        report.faults
    );
}

/// The whole log written anew, by somebody who can write every file but can't sign: only the tree head
/// differs, and what is in the entries.
fn rewritten(entries: &[Vec<u8>], root: &Hash) -> Report {
    let mut log = Log::create(Memory::default(), ORIGIN);
    for entry in entries {
        log.append(entry).unwrap();
    }
    log.flush().unwrap();
    check(log.disk(), log.size(), root)
}

#[test]
fn files_that_are_altered_shortened_swapped_or_gone_are_named() {
    let (disk, root, all) = whole();
    assert!(check(&disk, SIZE, &root).good());
    for path in disk.durable.keys() {
        let altered = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut other = disk.clone();
            change(other.durable.get_mut(path).unwrap());
            check(&other, SIZE, &root)
        };
        for report in [
            altered(&|bytes| bytes[50] ^= 1),
            altered(&|bytes| *bytes.last_mut().unwrap() ^= 0x80),
            altered(&|bytes| bytes.truncate(bytes.len() - 1)),
            altered(&|bytes| bytes.clear()),
        ] {
            assert!(!report.good(), "{path}");
        }
        let mut gone = disk.clone();
        gone.durable.remove(path);
        names(&check(&gone, SIZE, &root), "LEDGER_TILE_MISSING", path);
    }
    let mut swapped = disk.clone();
    for kind in ["tile/0", "tile/entries"] {
        let (left, right) = (format!("{kind}/000"), format!("{kind}/001"));
        let (first, second) = (disk.durable[&left].clone(), disk.durable[&right].clone());
        swapped.durable.insert(left, second);
        swapped.durable.insert(right, first);
    }
    names(
        &check(&swapped, SIZE, &root),
        "LEDGER_TILE_ALTERED",
        "tile/0/0 under tile/1/0",
    );
    let mut entries = all.clone();
    entries.swap(3, 4);
    let mut other = disk.clone();
    other
        .durable
        .insert("tile/entries/000".to_owned(), bundle(&entries[..256]));
    let report = check(&other, SIZE, &root);
    names(&report, "LEDGER_ENTRY_ALTERED", "entry 3");
    names(&report, "LEDGER_ENTRY_ALTERED", "entry 4");
}

#[test]
fn a_log_that_was_written_anew_does_not_have_the_signed_head() {
    let (_, root, all) = whole();
    assert!(rewritten(&all, &root).good());
    let changed = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut entries = all.clone();
        change(&mut entries);
        rewritten(&entries, &root)
    };
    let removed = changed(&|entries| drop(entries.remove(300)));
    names(&removed, "LEDGER_PREFIX_DIFFERS", "entries 0..699");
    names(&removed, "AUDIT_GAP", "entry");
    let inserted = changed(&|entries| entries.insert(300, entries[299].clone()));
    names(&inserted, "AUDIT_REPEAT", "entry 300");
    let altered = changed(&|entries| *entries[300].last_mut().unwrap() ^= 1);
    names(&altered, "AUDIT_LINK_BROKEN", "entry");
    let unreadable = changed(&|entries| entries[300].truncate(20));
    names(&unreadable, "LEDGER_ENTRY_MALFORMED", "entry 300");
    let emptied = changed(&|entries| entries[300].clear());
    names(&emptied, "LEDGER_ENTRY_MALFORMED", "entry 300");
    let unknown = changed(&|entries| entries[300][0] = 9);
    names(&unknown, "LEDGER_ENTRY_MALFORMED", "entry 300");
    let headless = changed(&|entries| drop(entries.remove(0)));
    names(&headless, "LEDGER_ENTRY_MISPLACED", "entry 0");
    let twice = changed(&|entries| entries.insert(9, entries[0].clone()));
    names(&twice, "LEDGER_ENTRY_MISPLACED", "entry 9");
    let reordered = changed(&|entries| entries[200..400].reverse());
    names(&reordered, "AUDIT_REPEAT", "entry");
    let shortened = changed(&|entries| entries.truncate(650));
    names(&shortened, "LEDGER_PREFIX_DIFFERS", "entries 0..650");
    let other_past = changed(&|entries| {
        let opened = Opened {
            origin: "test/audit/0/2025".to_owned(),
            size: 5,
            root: [7; 32],
        };
        Entry::Opened(opened).encode(&mut entries[0]);
    });
    names(&other_past, "LEDGER_PREFIX_DIFFERS", "entries 0..700");
}

type Files = std::collections::BTreeMap<String, Vec<u8>>;

/// What somebody does who can write every file and sign nothing. Named with the code that says so.
#[test]
fn forty_kinds_of_tampering_are_each_named() {
    let (disk, root, all) = whole();
    let (foreign, ..) = {
        let (log, all) = filled(Memory::default(), SIZE + 1);
        (log.disk().clone(), all)
    };
    let [full, last] = ["000", "002.p/188"].map(|at| format!("tile/entries/{at}"));
    let [tile, edge] = ["000", "002.p/188"].map(|at| format!("tile/0/{at}"));
    let above = "tile/1/000.p/2".to_owned();
    let mut kinds = Vec::new();

    // Single files.
    let mut files = |name: &'static str, code: &'static str, change: &dyn Fn(&mut Files)| {
        let mut other = disk.clone();
        change(&mut other.durable);
        let report = check(&other, SIZE, &root);
        names(&report, code, "");
        kinds.push(name);
    };
    let flip = |path: &str, at: usize| {
        let path = path.to_owned();
        move |files: &mut Files| files.get_mut(&path).unwrap()[at] ^= 1
    };
    let cut = |path: &str, to: usize| {
        let path = path.to_owned();
        move |files: &mut Files| files.get_mut(&path).unwrap().truncate(to)
    };
    let gone = |path: &str| {
        let path = path.to_owned();
        move |files: &mut Files| drop(files.remove(&path))
    };
    let swap = |left: &str, right: &str| {
        let (left, right) = (left.to_owned(), right.to_owned());
        move |files: &mut Files| {
            let (one, other) = (files[&left].clone(), files[&right].clone());
            files.insert(left.clone(), other);
            files.insert(right.clone(), one);
        }
    };
    let put = |path: &str, bytes: Vec<u8>| {
        let path = path.to_owned();
        move |files: &mut Files| drop(files.insert(path.clone(), bytes.clone()))
    };
    let changed = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut entries = all[..256].to_vec();
        change(&mut entries);
        entries.truncate(256);
        bundle(&entries)
    };
    files(
        "a bit of an entry",
        "LEDGER_ENTRY_ALTERED",
        &flip(&full, 900),
    );
    files(
        "a bit of a late entry",
        "LEDGER_ENTRY_ALTERED",
        &flip(&last, 900),
    );
    files(
        "a bit of a leaf hash",
        "LEDGER_ENTRY_ALTERED",
        &flip(&tile, 70),
    );
    files(
        "a bit of a late leaf hash",
        "LEDGER_ENTRY_ALTERED",
        &flip(&edge, 70),
    );
    files(
        "a bit of a hash above",
        "LEDGER_TILE_ALTERED",
        &flip(&above, 40),
    );
    files("a bundle removed", "LEDGER_TILE_MISSING", &gone(&full));
    files(
        "the last bundle removed",
        "LEDGER_TILE_MISSING",
        &gone(&last),
    );
    files("a tile removed", "LEDGER_TILE_MISSING", &gone(&tile));
    files("the last tile removed", "LEDGER_TILE_MISSING", &gone(&edge));
    files(
        "the tile above removed",
        "LEDGER_TILE_MISSING",
        &gone(&above),
    );
    files(
        "a bundle cut off",
        "LEDGER_TILE_MALFORMED",
        &cut(&full, 5_000),
    );
    files(
        "the last bundle cut off",
        "LEDGER_TILE_MALFORMED",
        &cut(&last, 5_000),
    );
    files("a tile cut off", "LEDGER_TILE_MISSING", &cut(&tile, 5_000));
    files(
        "the tile above cut off",
        "LEDGER_TILE_MISSING",
        &cut(&above, 33),
    );
    files("a bundle emptied", "LEDGER_TILE_MISSING", &cut(&full, 0));
    files("a tile emptied", "LEDGER_TILE_MISSING", &cut(&tile, 0));
    files(
        "bundles swapped",
        "LEDGER_ENTRY_ALTERED",
        &swap(&full, "tile/entries/001"),
    );
    files(
        "tiles swapped",
        "LEDGER_TILE_ALTERED",
        &swap(&tile, "tile/0/001"),
    );
    files(
        "another log's bundle",
        "LEDGER_ENTRY_ALTERED",
        &put(&full, foreign.durable[&full].clone()),
    );
    files(
        "another log's tile",
        "LEDGER_TILE_ALTERED",
        &put(&tile, foreign.durable[&tile].clone()),
    );
    let bytes = changed(&|entries| entries.swap(3, 4));
    files(
        "entries of a bundle swapped",
        "LEDGER_ENTRY_ALTERED",
        &put(&full, bytes),
    );
    let bytes = changed(&|entries| drop(entries.remove(100)));
    files(
        "an entry taken out of a bundle",
        "LEDGER_TILE_MISSING",
        &put(&full, bytes),
    );
    let bytes = changed(&|entries| entries.insert(100, entries[99].clone()));
    files(
        "an entry put into a bundle",
        "LEDGER_ENTRY_ALTERED",
        &put(&full, bytes),
    );
    let bytes = changed(&|entries| *entries[7].last_mut().unwrap() ^= 1);
    let hashes: Vec<u8> = {
        let entries: Vec<_> = tile::entries(&bytes)
            .map(|entry| entry.unwrap().to_vec())
            .collect();
        entries
            .iter()
            .flat_map(|entry| mz_tlog::merkle::leaf_hash(entry))
            .collect()
    };
    files(
        "an entry with its leaf hash",
        "LEDGER_TILE_ALTERED",
        &|files| {
            files.insert(full.clone(), bytes.clone());
            files.insert(tile.clone(), hashes.clone());
        },
    );

    // The whole log written anew, every hash right.
    let mut anew = |name: &'static str, codes: &[&str], change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut entries = all.clone();
        change(&mut entries);
        let report = rewritten(&entries, &root);
        for code in codes.iter().chain(&["LEDGER_PREFIX_DIFFERS"]) {
            names(&report, code, "");
        }
        kinds.push(name);
    };
    anew("an entry never appended", &["AUDIT_GAP"], &|all| {
        drop(all.remove(300))
    });
    anew("an entry appended twice", &["AUDIT_REPEAT"], &|all| {
        all.insert(300, all[299].clone())
    });
    anew("an entry altered", &["AUDIT_LINK_BROKEN"], &|all| {
        *all[300].last_mut().unwrap() ^= 1
    });
    anew("an entry cut off", &["LEDGER_ENTRY_MALFORMED"], &|all| {
        all[300].truncate(20)
    });
    anew("an entry emptied", &["LEDGER_ENTRY_MALFORMED"], &|all| {
        all[300].clear()
    });
    anew("an entry of no kind", &["LEDGER_ENTRY_MALFORMED"], &|all| {
        all[300][0] = 9
    });
    anew("an entry lengthened", &["LEDGER_ENTRY_MALFORMED"], &|all| {
        all[300].push(0)
    });
    anew("no first entry", &["LEDGER_ENTRY_MISPLACED"], &|all| {
        drop(all.remove(0))
    });
    anew(
        "a first entry later on",
        &["LEDGER_ENTRY_MISPLACED"],
        &|all| all.insert(9, all[0].clone()),
    );
    anew("another past", &[], &|all| {
        all[0] = opened("test/audit/0/2025")
    });
    anew("entries reordered", &["AUDIT_REPEAT"], &|all| {
        all[200..400].reverse()
    });
    anew("the newest entries removed", &[], &|all| all.truncate(650));
    anew("the oldest entries removed", &["AUDIT_GAP"], &|all| {
        drop(all.drain(1..50))
    });
    anew("entries added", &[], &|all| {
        let mut story = crate::log::Story::new(9);
        all.push(story.next());
    });
    anew("one writer's entries removed", &[], &|all| {
        let id = |entry: &[u8]| match Entry::read(entry) {
            Ok(Entry::Audit(bytes)) => {
                let audit = mz_journal::Audit::read(bytes).unwrap();
                Some((audit.writer, audit.lane))
            }
            _ => None,
        };
        all.retain(|entry| id(entry) != Some((mz_journal::AuditWriter::Vault, 1)));
    });
    anew("a gap excused by a false break", &[], &|all| {
        all[300] = broken("AUDIT_GAP");
    });
    anew("a record written anew with its chain", &[], &|all| {
        let mut story = crate::log::Story::new(77);
        for entry in &mut all[1..] {
            *entry = story.next();
        }
    });
    assert!(kinds.len() >= 40, "{}", kinds.len());
}

fn opened(origin: &str) -> Vec<u8> {
    let mut entry = Vec::new();
    let opened = Opened {
        origin: origin.to_owned(),
        size: 5,
        root: [7; 32],
    };
    Entry::Opened(opened).encode(&mut entry);
    entry
}

fn broken(code: &str) -> Vec<u8> {
    let mut entry = Vec::new();
    let broken = mz_ledger::log::Break {
        code: code.to_owned(),
        writer: "gateway".to_owned(),
        lane: 1,
        last: 3,
        found: 5,
        offset: 9,
        kept: true,
    };
    Entry::Break(broken).encode(&mut entry);
    entry
}
