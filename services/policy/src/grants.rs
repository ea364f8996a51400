//! The grants of a slot's lanes, in memory: who may be read under which agreement, and until when.
//!
//! Copies of a grant only join, in the order of [`mz_journal::Grant::join`]: closed dominates, then
//! the higher counter, then the later expiry. What a decision doesn't need (cause, reason, sealed
//! subject) is not kept: about 100 bytes a grant.

use std::cmp::{Ordering, Reverse};

use mz_journal::{Grant, GrantId, GrantKind, GrantStatus, SubjectTag};
use rustc_hash::FxHashMap;

/// Clocks of the bus's machines may differ by this much. A grant stamped up to so far ahead of
/// this clock has begun; a grant that expires within it has expired. Milliseconds.
pub const CLOCK_SKEW_MS: i64 = 5_000;
/// A grant is kept this long after its expiry, so that no late copy opens it again and so that an
/// event about the person is a denial rather than out of scope. Milliseconds (90 days).
pub const KEEP_EXPIRED_MS: i64 = 90 * 24 * 3600 * 1000;
/// Most grants that one slot holds unless configured otherwise: about 0.5 GB.
pub const DEFAULT_GRANT_LIMIT: usize = 5_000_000;

/// End of a chain of entries.
const NONE: u32 = u32::MAX;

/// A grant as far as decisions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub id: GrantId,
    pub kind: GrantKind,
    pub status: GrantStatus,
    pub counter: u64,
    pub opened_ms: i64,
    pub expires_ms: i64,
    pub closed_ms: Option<i64>,
    /// Index of the agreement in the contract.
    pub agreement: u32,
}

impl Held {
    fn of(grant: &Grant, agreement: u32) -> Self {
        Self {
            id: grant.id,
            kind: grant.kind,
            status: grant.status,
            counter: grant.counter,
            opened_ms: grant.opened_ms,
            expires_ms: grant.expires_ms,
            closed_ms: grant.closed_ms,
            agreement,
        }
    }

    /// The order of which joining is the maximum; mirrors `Grant::join` and is tested against it.
    fn rank(&self, other: &Self) -> Ordering {
        let closed = |held: &Self| held.status == GrantStatus::Closed;
        let closed_at = |held: &Self| Reverse(held.closed_ms.unwrap_or(i64::MAX));
        closed(self)
            .cmp(&closed(other))
            .then_with(|| self.counter.cmp(&other.counter))
            .then_with(|| self.status.cmp(&other.status))
            .then_with(|| self.expires_ms.cmp(&other.expires_ms))
            .then_with(|| closed_at(self).cmp(&closed_at(other)))
            .then_with(|| self.kind.cmp(&other.kind))
            .then_with(|| self.opened_ms.cmp(&other.opened_ms))
            .then_with(|| self.closed_ms.cmp(&other.closed_ms))
    }

    /// Why the grant may not be used now; `None` when it may.
    fn bar(&self, now_ms: i64) -> Option<Bar> {
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
    /// The grant is open now and was not before: what was published earlier is due.
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

#[derive(Clone, Copy)]
struct Entry {
    held: Held,
    subject: SubjectTag,
    next: u32,
}

/// All grants of some lanes, found by subject.
pub struct GrantsIndex {
    heads: FxHashMap<SubjectTag, u32>,
    entries: Vec<Entry>,
    limit: usize,
}

impl GrantsIndex {
    /// Holds at most `limit` grants.
    pub fn new(limit: usize) -> Self {
        Self {
            heads: FxHashMap::default(),
            entries: Vec::new(),
            limit: limit.min(NONE as usize - 1),
        }
    }

    /// Number of grants, ended ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Joins a copy of a grant. `agreement` is its agreement's index in the contract.
    pub fn join(&mut self, agreement: u32, grant: &Grant) -> Result<Change, GrantsFull> {
        let copy = Held::of(grant, agreement);
        if let Some(at) = self.find(grant.subject, grant.id) {
            let held = &mut self.entries[at].held;
            if held.rank(&copy) != Ordering::Less {
                return Ok(Change::Kept);
            }
            let before = std::mem::replace(held, copy).status;
            return Ok(match (before, copy.status) {
                (GrantStatus::Open, GrantStatus::Open) => Change::Kept,
                (GrantStatus::Open, _) => Change::Ended,
                (_, GrantStatus::Open) => Change::Opened,
                _ => Change::Kept,
            });
        }
        if self.entries.len() >= self.limit {
            return Err(GrantsFull { limit: self.limit });
        }
        // Fits: the limit is below u32::MAX.
        let at = self.entries.len() as u32;
        let next = self.heads.insert(grant.subject, at).unwrap_or(NONE);
        self.entries.push(Entry {
            held: copy,
            subject: grant.subject,
            next,
        });
        Ok(if copy.status == GrantStatus::Open {
            Change::Opened
        } else {
            Change::Kept
        })
    }

    /// What the person's grants under `agreement` say at `now_ms`. Of several in force, the one
    /// that expires last is named.
    pub fn standing(&self, subject: SubjectTag, agreement: u32, now_ms: i64) -> Standing {
        let mut standing = Standing::Nothing;
        let mut best = (false, Bar::Closed, i64::MIN, GrantId::default());
        for held in self.of(subject) {
            if held.agreement != agreement {
                continue;
            }
            let bar = held.bar(now_ms);
            let key = (
                bar.is_none(),
                bar.unwrap_or(Bar::Closed),
                held.expires_ms,
                held.id,
            );
            if standing == Standing::Nothing || key > best {
                best = key;
                standing = match bar {
                    None => Standing::InForce(held.id),
                    Some(bar) => Standing::Barred(held.id, bar),
                };
            }
        }
        standing
    }

    /// The person's grants under all agreements, in no order.
    pub fn of(&self, subject: SubjectTag) -> impl Iterator<Item = &Held> {
        let mut at = self.heads.get(&subject).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.next;
            Some(&entry.held)
        })
    }

    /// One grant.
    pub fn get(&self, subject: SubjectTag, id: GrantId) -> Option<&Held> {
        self.of(subject).find(|held| held.id == id)
    }

    /// Forgets grants that expired more than [`KEEP_EXPIRED_MS`] ago; answers how many.
    pub fn forget_expired(&mut self, now_ms: i64) -> usize {
        let horizon = now_ms.saturating_sub(KEEP_EXPIRED_MS);
        let before = self.entries.len();
        self.entries.retain(|entry| entry.held.expires_ms > horizon);
        if self.entries.len() != before {
            self.heads.clear();
            for at in 0..self.entries.len() {
                let subject = self.entries[at].subject;
                let next = self.heads.insert(subject, at as u32).unwrap_or(NONE);
                self.entries[at].next = next;
            }
        }
        before - self.entries.len()
    }

    fn find(&self, subject: SubjectTag, id: GrantId) -> Option<usize> {
        let mut at = self.heads.get(&subject).copied().unwrap_or(NONE);
        while let Some(entry) = self.entries.get(at as usize) {
            if entry.held.id == id {
                return Some(at as usize);
            }
            at = entry.next;
        }
        None
    }
}
