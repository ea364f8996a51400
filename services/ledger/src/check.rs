//! Verifies a log from its files alone: every entry against its hash, every hash against the ones below it,
//! the whole against the signed checkpoint, and every writer's chain through the entries. What does not
//! agree is named.

use std::collections::HashMap;

use mz_journal::{Audit, AuditKind, AuditWriter, Chain};
use mz_tlog::merkle::{Frontier, Hash, leaf_hash, node_hash};
use mz_tlog::tile;

use crate::batches::{Accepted, Batches, Equivocation};
use crate::limits::MAX_BATCHES_HELD;
use crate::log::{Break, Disk, Entry, LogFault, Opened, Stored, hex};

/// One thing that does not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `LEDGER_ENTRY_ALTERED`, … as `schemas/reasons.yaml` explains it.
    pub code: &'static str,
    /// Where: a tile's path, an entry's index, an audit id.
    pub place: String,
}

/// What was found in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub size: u64,
    pub root: Hash,
    /// Audit records among the entries.
    pub records: u64,
    /// Breaks of `bus.audit` that the ledger itself reported when it met them.
    pub breaks: Vec<(u64, Break)>,
    pub opened: Option<Opened>,
    /// Departments that signed two roots under one number: their fault, none of the log's.
    pub equivocations: Vec<Equivocation>,
    /// Equivocations beyond [`MAX_FAULTS`].
    pub more_equivocations: u64,
    pub faults: Vec<Fault>,
    /// Faults beyond [`MAX_FAULTS`].
    pub more: u64,
}

/// Faults that are listed; the rest are counted.
pub const MAX_FAULTS: usize = 1_000;

impl Report {
    fn fault(&mut self, code: &'static str, place: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            let place = place.into();
            self.faults.push(Fault { code, place });
        } else {
            self.more += 1;
        }
    }

    fn equivocation(&mut self, found: Equivocation) {
        if self.equivocations.len() < MAX_FAULTS {
            self.equivocations.push(found);
        } else {
            self.more_equivocations += 1;
        }
    }

    pub fn good(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Walks the first `size` entries, which must have the tree head `root`.
pub fn check(disk: &impl Disk, size: u64, root: &Hash) -> Report {
    check_after(disk, size, root, &mut Batches::new(MAX_BATCHES_HELD))
}

/// The same for one of several logs: the events of one batch lie in many lanes, and so in several logs.
pub fn check_after(disk: &impl Disk, size: u64, root: &Hash, batches: &mut Batches) -> Report {
    let stored = Stored::new(disk, size);
    let mut report = Report {
        size,
        root: *root,
        ..Report::default()
    };
    let mut frontier = Frontier::default();
    let mut chains = Walk {
        chains: HashMap::new(),
        excused: None,
        batches,
    };
    for bundle in 0..size.div_ceil(256) {
        leaves(&stored, bundle, &mut frontier, &mut chains, &mut report);
    }
    for level in 1u8..8 {
        let width = size >> (8 * u32::from(level));
        for index in 0..width.div_ceil(256) {
            above(&stored, level, index, &mut report);
        }
    }
    if frontier.size() == size && frontier.root() != *root {
        report.fault("LEDGER_PREFIX_DIFFERS", format!("entries 0..{size}"));
    }
    report
}

/// Width of a tile in a log of this size.
fn width(size: u64, level: u8, index: u64) -> usize {
    let hashes = size >> (8 * u32::from(level));
    // At most 256.
    (hashes - (index << 8)).min(256) as usize
}

fn leaves(
    stored: &Stored<'_, impl Disk>,
    bundle: u64,
    frontier: &mut Frontier,
    chains: &mut Walk<'_>,
    report: &mut Report,
) {
    let width = width(stored.size(), 0, bundle);
    let first = bundle << 8;
    let hashes = match stored.tile_prefix(0, bundle, width) {
        Ok(hashes) => Some(hashes),
        Err(fault) => {
            named(report, &fault, &format!("tile/0/{bundle}"));
            None
        }
    };
    let bytes = match stored.bundle_prefix(bundle, width) {
        Ok(bytes) => bytes,
        Err(fault) => return named(report, &fault, &format!("tile/entries/{bundle}")),
    };
    for (index, entry) in (first..).zip(tile::entries(&bytes)) {
        let Ok(entry) = entry else { return };
        let leaf = leaf_hash(entry);
        frontier.push(leaf);
        // Fits: below 256.
        let at = (index - first) as usize;
        if hashes.as_ref().is_some_and(|hashes| hashes[at] != leaf) {
            report.fault("LEDGER_ENTRY_ALTERED", format!("entry {index}"));
        }
        chains.take(index, entry, report);
    }
}

fn named(report: &mut Report, fault: &LogFault, place: &str) {
    let place = match fault {
        LogFault::Missing { path } | LogFault::Short { path, .. } => path.clone(),
        _ => place.to_owned(),
    };
    report.fault(fault.code(), place);
}

/// Each hash of a higher tile is the head of a whole tile below it.
fn above(stored: &Stored<'_, impl Disk>, level: u8, index: u64, report: &mut Report) {
    let width = width(stored.size(), level, index);
    let hashes = match stored.tile_prefix(level, index, width) {
        Ok(hashes) => hashes,
        Err(fault) => return named(report, &fault, &format!("tile/{level}/{index}")),
    };
    for (below, hash) in ((index << 8)..).zip(hashes) {
        // A missing one was named at its own level.
        let Ok(full) = stored.tile_prefix(level - 1, below, 256) else {
            continue;
        };
        if head(full) != hash {
            report.fault(
                "LEDGER_TILE_ALTERED",
                format!("tile/{}/{below} under tile/{level}/{index}", level - 1),
            );
        }
    }
}

/// The one hash above the hashes of a full tile.
pub(crate) fn head(mut hashes: Vec<Hash>) -> Hash {
    while hashes.len() > 1 {
        hashes = hashes
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node_hash(left, right),
                lone => lone[0],
            })
            .collect();
    }
    hashes.first().copied().unwrap_or_default()
}

/// The writers' chains through the entries.
struct Walk<'b> {
    chains: HashMap<(AuditWriter, u16), Chain>,
    /// A break was reported, by this code: the next record need not continue its chain.
    excused: Option<String>,
    batches: &'b mut Batches,
}

impl Walk<'_> {
    fn take(&mut self, index: u64, entry: &[u8], report: &mut Report) {
        let excused = std::mem::take(&mut self.excused);
        match Entry::read(entry) {
            Ok(Entry::Audit(bytes)) => {
                report.records += 1;
                self.audit(index, bytes, excused.as_deref(), report);
            }
            Ok(Entry::Opened(opened)) if index == 0 => report.opened = Some(opened),
            Ok(Entry::Opened(_)) => {
                report.fault("LEDGER_ENTRY_MISPLACED", format!("entry {index}"))
            }
            Ok(Entry::Break(broken)) => {
                self.excused = broken.kept.then(|| broken.code.clone());
                report.breaks.push((index, broken));
            }
            Err(_) => report.fault("LEDGER_ENTRY_MALFORMED", format!("entry {index}")),
        }
        if index == 0 && report.opened.is_none() {
            report.fault("LEDGER_ENTRY_MISPLACED", "entry 0");
        }
    }

    fn audit(&mut self, index: u64, bytes: &[u8], excused: Option<&str>, report: &mut Report) {
        let Ok(audit) = Audit::read(bytes) else {
            return report.fault("LEDGER_ENTRY_MALFORMED", format!("entry {index}"));
        };
        if audit.kind == AuditKind::BatchAccepted {
            match Accepted::of(&audit) {
                Some(batch) => {
                    let found = self.batches.take(&batch);
                    found
                        .into_iter()
                        .for_each(|found| report.equivocation(found));
                }
                None => report.fault("LEDGER_ENTRY_MALFORMED", format!("entry {index}")),
            }
        }
        let (writer, lane) = (audit.writer, audit.lane);
        let key = mz_journal::topics::audit_key(writer, lane, audit.number);
        let resume = || {
            let digest = mz_journal::extend_chain(&audit.prev, bytes);
            Chain::resume(writer, lane, audit.number, digest)
        };
        // A log that follows another begins where that one ended.
        let follows = report.opened.as_ref().is_some_and(|opened| opened.size > 0);
        match self.chains.entry((writer, lane)) {
            std::collections::hash_map::Entry::Vacant(place)
                if follows || excused == Some("AUDIT_GAP") =>
            {
                place.insert(resume());
            }
            place => {
                let chain = place.or_insert_with(|| Chain::new(writer, lane));
                if let Err(fault) = chain.check(&key, bytes) {
                    match excused {
                        // A stranger in this lane: the walk goes on where it was, as the ledger's did.
                        Some("AUDIT_LANE_FOREIGN" | "AUDIT_WRITER_FOREIGN") => return,
                        Some(_) => {}
                        None => {
                            let id = format!("{}-{lane}-{}", writer.name(), audit.number);
                            report.fault(fault.code(), format!("entry {index}, {id}"));
                        }
                    }
                    *chain = resume();
                }
            }
        }
    }
}

/// A tree head as it is printed.
pub fn root_text(root: &Hash) -> String {
    hex(root)
}
