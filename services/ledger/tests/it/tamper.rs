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
