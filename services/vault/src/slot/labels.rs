//! Tells `bus.audit` what people are called in the ledger: whoever's data passes through the vault, or is
//! asked for, once a year of the ledger. So the ledger can prove what was never read about somebody.
//!
//! Kept before the facts are, told with the next transaction, marked as told after it: a crash tells it
//! twice, which says the same.

use mz_contract::IdNumber;
use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, RecordTag, SubjectTag};
use rustc_hash::{FxHashMap, FxHashSet};

use super::error::SlotError;
use super::outbox::Outbox;
use super::{Slot, now_ms};
use crate::limits::{MAX_KNOWN_LABELS, MAX_LABELS_PER_TURN, MAX_UNTOLD_ROWS};
use crate::store::Labelled;

type Person = (u16, SubjectTag);

/// What a slot knows of the labels of its people.
pub(super) struct Labels {
    /// Of the function's key.
    key: [u8; 16],
    /// Beijing's; people are told anew in the next.
    year: i32,
    /// Who need not be looked up this year.
    known: FxHashSet<Person>,
    /// Who was asked about since the last turn.
    met: FxHashMap<Person, IdNumber>,
    /// Kept, and not told yet.
    untold: Vec<Labelled>,
    /// The store may hold more of them.
    more: bool,
    /// Of `untold`, in the transaction that is being made.
    telling: usize,
    /// Lanes in which this owner has told the key.
    announced: FxHashSet<u16>,
}

impl Labels {
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self {
            key,
            year: 0,
            known: FxHashSet::default(),
            met: FxHashMap::default(),
            untold: Vec::new(),
            more: true,
            telling: 0,
            announced: FxHashSet::default(),
        }
    }

    /// Somebody was asked about, by their number.
    pub(super) fn note(&mut self, lane: u16, subject: SubjectTag, person: Option<IdNumber>) {
        if let Some(id) = person
            && !self.known.contains(&(lane, subject))
        {
            self.met.insert((lane, subject), id);
        }
    }

    /// Another year is another period of the ledger at most.
    fn turn_year(&mut self, at_ms: i64) {
        let year = year_of(at_ms);
        if year != self.year {
            self.year = year;
            self.known.clear();
            self.announced.clear();
        }
    }

    fn know(&mut self, people: impl IntoIterator<Item = Person>) {
        if self.known.len() >= MAX_KNOWN_LABELS {
            self.known.clear();
        }
        self.known.extend(people);
    }
}

/// The ledger's periods are Beijing's.
fn year_of(at_ms: i64) -> i32 {
    let text = mz_seal::timestamp_text(at_ms.saturating_add(8 * 3_600_000));
    text.get(..4)
        .and_then(|year| year.parse().ok())
        .unwrap_or(0)
}

impl Slot {
    /// Labels whoever is new, durably, before anything of theirs is kept.
    pub(super) fn meet(&mut self, people: FxHashMap<Person, IdNumber>) -> Result<(), SlotError> {
        self.labels.turn_year(now_ms());
        let known = &self.labels.known;
        let mut new = std::mem::take(&mut self.labels.met);
        new.extend(people.into_iter().filter(|(who, _)| !known.contains(who)));
        let runtime = &self.shared.runtime;
        if self.labels.more {
            let untold = runtime.block_on(self.store.untold(MAX_UNTOLD_ROWS))?;
            self.labels.more = untold.len() as i64 >= MAX_UNTOLD_ROWS;
            self.labels.untold = untold;
        }
        if new.is_empty() {
            return Ok(());
        }
        let (key, year) = (self.labels.key, self.labels.year);
        let wanted: Vec<Person> = new.keys().copied().collect();
        let labelled = runtime.block_on(self.store.labelled(&key, year, &wanted))?;
        let vrf = &self.shared.keys.vrf;
        let missing: Vec<Labelled> = new
            .into_iter()
            .filter(|(who, _)| !labelled.contains(who))
            .map(|((lane, subject), id)| Labelled {
                lane,
                subject,
                label: vrf.label(&id),
            })
            .collect();
        if !missing.is_empty() {
            runtime.block_on(self.store.label(&key, &missing))?;
            self.labels.untold.extend(missing);
        }
        self.labels.know(wanted);
        Ok(())
    }

    /// Puts labels into the transaction, the key before the first of a lane.
    pub(super) fn tell_labels(&mut self, outbox: &mut Outbox) {
        let telling = self.labels.untold.len().min(MAX_LABELS_PER_TURN);
        let people: Vec<Labelled> = self.labels.untold[..telling].to_vec();
        self.labels.telling = telling;
        let key = RecordTag(self.labels.key);
        for one in people {
            if self.labels.announced.insert(one.lane) {
                let mut audit = self.fact_of_rule(one.lane, AuditKind::SubjectKey);
                audit.record = key;
                audit.event = self.shared.keys.vrf.public();
                self.record(one.lane, &mut audit, outbox);
            }
            let mut audit = self.fact_of_rule(one.lane, AuditKind::SubjectBound);
            audit.subject = one.subject;
            audit.record = key;
            audit.event = one.label;
            self.record(one.lane, &mut audit, outbox);
        }
    }

    fn fact_of_rule(&self, lane: u16, kind: AuditKind) -> Audit<'static> {
        let mut audit = Audit::empty(AuditWriter::Vault, lane, now_ms(), kind, AuditCause::Rule);
        audit.contract = self.in_force.contract.digest;
        audit
    }

    /// The transaction with them was committed.
    pub(super) fn labels_told(&mut self) -> Result<(), SlotError> {
        let telling = std::mem::take(&mut self.labels.telling);
        if telling == 0 {
            return Ok(());
        }
        let told: Vec<Labelled> = self.labels.untold.drain(..telling).collect();
        let year = self.labels.year;
        let done = self.store.told(year, &told);
        Ok(self.shared.runtime.block_on(done)?)
    }
}

#[test]
fn years_are_beijings() {
    // 2026-12-31T16:00:00Z is midnight there.
    assert_eq!(year_of(1_798_732_800_000 - 1), 2026);
    assert_eq!(year_of(1_798_732_800_000), 2027);
}
