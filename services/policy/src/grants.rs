//! The grants of a slot's lanes, in memory: who may be read under which agreement, and until when.
//!
//! Copies of a grant only join, in the order of [`mz_journal::Grant::join`]: closed dominates, then
//! the higher counter, then the later expiry. What a decision doesn't need (cause, reason, sealed
//! subject) is not kept, and times are whole seconds, rounded so that a grant is never in force for
//! longer than it says: at most 64 bytes a grant, index included. Agreements and datasets are numbered
//! by the index itself, so that grants outlive the contract version that they were read under.

use std::cmp::Ordering;

use mz_journal::{GrantId, GrantKind, GrantRef, GrantStatus, SubjectTag};
use rustc_hash::FxHashMap;

use crate::heads::Heads;

/// Clocks of the bus's machines may differ by this much. A grant stamped up to so far ahead of
/// this clock has begun; a grant that expires within it has expired. Milliseconds.
pub const CLOCK_SKEW_MS: i64 = 5_000;
/// A grant is kept this long after its expiry, so that no late copy opens it again and so that an
/// event about the person is a denial rather than out of scope. Milliseconds (90 days).
pub const KEEP_EXPIRED_MS: i64 = 90 * 24 * 3600 * 1000;
/// Most grants that one slot holds unless configured otherwise: about 1.3 GB.
pub const DEFAULT_GRANT_LIMIT: usize = 20_000_000;

/// End of a chain of entries.
const NONE: u32 = u32::MAX;
/// Entries of one block (1.7 MB): growing never copies what is there.
const BLOCK: usize = 1 << 15;
/// Agreements that grants may name.
const MAX_AGREEMENTS: usize = 1 << 13;
/// Datasets of one agreement that a grant can single out; one with more covers all or nothing of them.
const MAX_DATASETS: usize = 15;
/// Covers every dataset of its agreement.
const EVERYTHING: u16 = u16::MAX;

/// What a decision asks the index about: one agreement, and one dataset or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    agreement: u16,
    datasets: u16,
}

/// A grant as far as decisions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub id: GrantId,
    pub kind: GrantKind,
    pub status: GrantStatus,
    pub counter: u64,
    /// A whole second, not before the grant's own.
    pub opened_ms: i64,
    /// A whole second, not after the grant's own.
    pub expires_ms: i64,
    agreement: u16,
    datasets: u16,
}

impl Held {
    /// Whether it bears on what is asked.
    pub fn answers(&self, ask: Ask) -> bool {
        self.agreement == ask.agreement && self.datasets & ask.datasets != 0
    }

    /// Why the grant may not be used now; `None` when it may.
    pub fn bar(&self, now_ms: i64) -> Option<Bar> {
        let ahead = now_ms.saturating_add(CLOCK_SKEW_MS);
        match self.status {
            GrantStatus::Closed => Some(Bar::Closed),
            GrantStatus::Paused => Some(Bar::Paused),
            GrantStatus::Open if ahead >= self.expires_ms => Some(Bar::Expired),
            GrantStatus::Open if self.opened_ms > ahead => Some(Bar::NotBegun),
            GrantStatus::Open => None,
        }
    }
}

/// Why none of a person's grants may be used. Where several exist for different reasons, the one
/// that names what could most easily change is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bar {
    Closed,
    Expired,
    NotBegun,
    Paused,
}

/// What a person's grants under one agreement say at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody ever asked about this person.
    Nothing,
    InForce(GrantId),
    Barred(GrantId, Bar),
}

/// What a copy of a grant changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing, or nothing that lets more through.
    Kept,
    /// The grant is open now and was not before, or its owner asked for its facts again: what was
    /// published earlier is due.
    Opened,
    /// The grant was open and is no more.
    Ended,
}

/// The slot holds as many grants as it may: it must stop rather than decide without one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("more than {limit} grants in the lanes of one slot: raise the limit or add slots")]
pub struct GrantsFull {
    pub limit: usize,
}

/// 52 bytes.
#[derive(Clone, Copy)]
struct Entry {
    subject: [u8; 16],
    id: [u8; 16],
    opened_s: u32,
    expires_s: u32,
    counter: u32,
    /// The person's next grant.
    next: u32,
    /// Agreement, kind and status.
    what: u16,
    datasets: u16,
}

impl Entry {
    fn of(grant: &GrantRef<'_>, agreement: u16, datasets: u16) -> Self {
        let kind = u16::from(grant.kind == GrantKind::Case);
        let status = match grant.status {
            GrantStatus::Open => 0,
            GrantStatus::Paused => 1,
            GrantStatus::Closed => 2,
        };
        Self {
            subject: grant.subject.0,
            id: grant.id.0,
            // Begins late and ends early, by less than a second.
            opened_s: seconds(grant.opened_ms.saturating_add(999)),
            expires_s: seconds(grant.expires_ms),
            // A grant has a handful of changes.
            counter: u32::try_from(grant.counter).unwrap_or(u32::MAX),
            next: NONE,
            what: agreement << 3 | kind << 2 | status,
            datasets,
        }
    }

    fn status(&self) -> GrantStatus {
        match self.what & 3 {
            0 => GrantStatus::Open,
            1 => GrantStatus::Paused,
            _ => GrantStatus::Closed,
        }
    }

    fn held(&self) -> Held {
        Held {
            id: GrantId(self.id),
            kind: match self.what >> 2 & 1 {
                0 => GrantKind::Consent,
                _ => GrantKind::Case,
            },
            status: self.status(),
            counter: u64::from(self.counter),
            opened_ms: i64::from(self.opened_s) * 1000,
            expires_ms: i64::from(self.expires_s) * 1000,
            agreement: self.what >> 3,
            datasets: self.datasets,
        }
    }

    /// The order of which joining is the maximum; mirrors `Grant::join` and is tested against it.
    fn rank(&self, other: &Self) -> Ordering {
        let closed = |entry: &Self| entry.status() == GrantStatus::Closed;
        closed(self)
            .cmp(&closed(other))
            .then_with(|| self.counter.cmp(&other.counter))
            .then_with(|| self.status().cmp(&other.status()))
            .then_with(|| self.expires_s.cmp(&other.expires_s))
            // What is left decides nothing about status and times of an open grant.
            .then_with(|| self.opened_s.cmp(&other.opened_s))
    }
}

fn seconds(ms: i64) -> u32 {
    u32::try_from(ms.max(0) / 1000).unwrap_or(u32::MAX)
}

/// Agreements and datasets by number.
#[derive(Default)]
struct Names {
    by_id: FxHashMap<String, u16>,
    datasets: Vec<Vec<String>>,
}

impl Names {
    fn agreement(&mut self, id: &str) -> Option<u16> {
        if let Some(known) = self.by_id.get(id) {
            return Some(*known);
        }
        if self.datasets.len() >= MAX_AGREEMENTS {
            return None;
        }
        // Fits: below MAX_AGREEMENTS.
        let number = self.datasets.len() as u16;
        self.by_id.insert(id.to_owned(), number);
        self.datasets.push(Vec::new());
        Some(number)
    }

    /// The dataset's bit. One past the last has a bit that only grants of everything carry.
    fn dataset(&mut self, agreement: u16, id: &str) -> u16 {
        let known = &mut self.datasets[usize::from(agreement)];
        let at = match known.iter().position(|known| known == id) {
            Some(at) => at,
            None if known.len() < MAX_DATASETS => {
                known.push(id.to_owned());
                known.len() - 1
            }
            None => MAX_DATASETS,
        };
        1 << at
    }

    fn covers(&mut self, agreement: u16, datasets: &[&str]) -> u16 {
        if datasets.is_empty() {
            return EVERYTHING;
        }
        let bits = datasets.iter().map(|id| self.dataset(agreement, id));
        bits.fold(0, |all, bit| all | bit) & !(1 << MAX_DATASETS)
    }
}

/// All grants of some lanes, found by subject.
pub struct GrantsIndex {
    /// First entry of each person.
    heads: Heads,
    blocks: Vec<Vec<Entry>>,
    count: usize,
    names: Names,
    limit: usize,
}

/// Tags are HMACs: any of their bits are as good as a hash, and nobody outside can choose them.
fn hash(subject: &[u8; 16]) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&subject[..8]);
    u64::from_le_bytes(head)
}

fn entry(blocks: &[Vec<Entry>], at: u32) -> Option<&Entry> {
    blocks.get(at as usize / BLOCK)?.get(at as usize % BLOCK)
}

impl GrantsIndex {
    /// Holds at most `limit` grants.
    pub fn new(limit: usize) -> Self {
        Self {
            heads: Heads::default(),
            blocks: Vec::new(),
            count: 0,
            names: Names::default(),
            limit: limit.min(NONE as usize - 1),
        }
    }

    /// Number of grants, ended ones included.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Memory held for grants, in bytes.
    pub fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK * size_of::<Entry>() + self.heads.bytes()
    }

    /// What to ask about one dataset of an agreement. `None` when grants name more agreements than
    /// the index can number: nothing may be permitted then.
    pub fn ask(&mut self, agreement: &str, dataset: &str) -> Option<Ask> {
        let agreement = self.names.agreement(agreement)?;
        let datasets = self.names.dataset(agreement, dataset);
        Some(Ask {
            agreement,
            datasets,
        })
    }

    /// What to ask about an agreement as a whole: grants that cover any of its datasets count.
    pub fn ask_any(&mut self, agreement: &str) -> Option<Ask> {
        Some(Ask {
            agreement: self.names.agreement(agreement)?,
            datasets: EVERYTHING,
        })
    }

    /// Joins a copy of a grant.
    pub fn join<'g>(&mut self, grant: impl Into<GrantRef<'g>>) -> Result<Change, GrantsFull> {
        let grant = grant.into();
        let full = GrantsFull { limit: self.limit };
        let Some(agreement) = self.names.agreement(grant.agreement) else {
            return Err(full);
        };
        let datasets = self.names.covers(agreement, &grant.datasets);
        let copy = Entry::of(&grant, agreement, datasets);
        let mut at = self.head(&copy.subject);
        while let Some(held) = entry(&self.blocks, at) {
            if held.id == copy.id {
                return Ok(self.replace(at, copy, grant.reason == REFETCH));
            }
            at = held.next;
        }
        if self.count >= self.limit {
            return Err(full);
        }
        self.add(copy);
        Ok(match copy.status() {
            GrantStatus::Open => Change::Opened,
            _ => Change::Kept,
        })
    }

    fn replace(&mut self, at: u32, copy: Entry, refetch: bool) -> Change {
        let place = at as usize;
        let held = &mut self.blocks[place / BLOCK][place % BLOCK];
        if held.rank(&copy) != Ordering::Less {
            return Change::Kept;
        }
        let (before, covered) = (held.status(), held.datasets);
        *held = Entry {
            next: held.next,
            ..copy
        };
        match (before, copy.status()) {
            (GrantStatus::Open, GrantStatus::Open) if refetch || copy.datasets & !covered != 0 => {
                Change::Opened
            }
            (GrantStatus::Open, GrantStatus::Open) => Change::Kept,
            (GrantStatus::Open, _) => Change::Ended,
            (_, GrantStatus::Open) => Change::Opened,
            _ => Change::Kept,
        }
    }

    /// The person's first entry, or [`NONE`].
    fn head(&self, subject: &[u8; 16]) -> u32 {
        let blocks = &self.blocks;
        let same = |at| entry(blocks, at).is_some_and(|entry| entry.subject == *subject);
        self.heads.find(hash(subject), same).unwrap_or(NONE)
    }

    /// Puts an entry before the person's others.
    fn add(&mut self, mut fresh: Entry) {
        // Fits: the limit is below u32::MAX.
        let at = self.count as u32;
        if !self.heads.has_room() {
            self.grow();
        }
        fresh.next = self.lead(&fresh.subject, at);
        if self.count.is_multiple_of(BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.push(fresh);
        }
        self.count += 1;
    }

    /// Makes an entry the person's first; answers the one that was.
    fn lead(&mut self, subject: &[u8; 16], at: u32) -> u32 {
        let blocks = &self.blocks;
        let same = |at| entry(blocks, at).is_some_and(|entry| entry.subject == *subject);
        match self.heads.find_mut(hash(subject), same) {
            Some(head) => std::mem::replace(head, at),
            None => {
                self.heads.insert(hash(subject), at);
                NONE
            }
        }
    }

    /// A larger table, filled from the entries as they lie: in order through the memory, where going
    /// through the old table would jump.
    fn grow(&mut self) {
        self.heads.grow();
        // Fits: as in `add`.
        for at in 0..self.count as u32 {
            let (block, place) = (at as usize / BLOCK, at as usize % BLOCK);
            let subject = self.blocks[block][place].subject;
            self.blocks[block][place].next = self.lead(&subject, at);
        }
    }

    /// What the person's grants say to `ask` at `now_ms`. Of several in force, the one that expires
    /// last is named.
    pub fn standing(&self, subject: SubjectTag, ask: Ask, now_ms: i64) -> Standing {
        let mut asked = self.of(subject).filter(|held| held.answers(ask));
        let Some(first) = asked.next() else {
            return Standing::Nothing;
        };
        let mut best = (first, first.bar(now_ms));
        for held in asked {
            let bar = held.bar(now_ms);
            if rank(&held, bar) > rank(&best.0, best.1) {
                best = (held, bar);
            }
        }
        match best {
            (held, None) => Standing::InForce(held.id),
            (held, Some(bar)) => Standing::Barred(held.id, bar),
        }
    }

    /// The person's grants under all agreements, in no order.
    pub fn of(&self, subject: SubjectTag) -> impl Iterator<Item = Held> {
        let blocks = &self.blocks;
        let mut at = self.head(&subject.0);
        std::iter::from_fn(move || {
            let entry = entry(blocks, at)?;
            at = entry.next;
            Some(entry.held())
        })
    }

    /// Whether a grant of everything under the agreement is in force.
    pub fn has_all(&self, subject: SubjectTag, ask: Ask, now_ms: i64) -> bool {
        self.of(subject).any(|held| {
            held.agreement == ask.agreement
                && held.datasets == EVERYTHING
                && held.bar(now_ms).is_none()
        })
    }

    /// One grant.
    pub fn get(&self, subject: SubjectTag, id: GrantId) -> Option<Held> {
        self.of(subject).find(|held| held.id == id)
    }

    /// Forgets grants that expired more than [`KEEP_EXPIRED_MS`] ago; answers how many.
    pub fn forget_expired(&mut self, now_ms: i64) -> usize {
        let horizon = seconds(now_ms.saturating_sub(KEEP_EXPIRED_MS));
        let old = |entry: &Entry| entry.expires_s <= horizon;
        let gone = self
            .blocks
            .iter()
            .flatten()
            .filter(|entry| old(entry))
            .count();
        if gone == 0 {
            return 0;
        }
        self.heads.clear();
        self.count = 0;
        // Block by block, so that the old and the new never stand side by side.
        for block in std::mem::take(&mut self.blocks) {
            for kept in block.into_iter().filter(|entry| !old(entry)) {
                self.add(kept);
            }
        }
        gone
    }
}

/// Of several grants the greatest is named.
fn rank(held: &Held, bar: Option<Bar>) -> (bool, Bar, i64, GrantId) {
    let in_force = bar.is_none();
    (
        in_force,
        bar.unwrap_or(Bar::Closed),
        held.expires_ms,
        held.id,
    )
}

/// Reason of a copy whose owner wants the person's facts sent once more: an agreement that was
/// resumed, a contract that gives more.
pub const REFETCH: &str = "REFETCH";
