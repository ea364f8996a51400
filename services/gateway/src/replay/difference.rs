//! What the two contracts make of the same event, row by row: a row is one agreement and one dataset or
//! derived answer, as the audit's summaries have them.

use std::collections::{BTreeMap, BTreeSet};

use mz_contract::Value;
use mz_journal::SubjectTag;
use rustc_hash::FxHashSet;

use crate::plan::{Plan, Source};

/// What became of an event in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// The contract has no such row.
    Absent,
    Delivered,
    Denied,
    OutOfScope,
}

impl Outcome {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Delivered => "delivered",
            Self::Denied => "denied",
            Self::OutOfScope => "out_of_scope",
        }
    }
}

/// What one contract's section makes of an event.
pub(super) enum Made {
    Denied(&'static str),
    OutOfScope,
    Permit {
        /// A withdrawal carries no value: no field and no answer differs.
        withdrawn: bool,
        answers: Vec<Result<Value<'static>, &'static str>>,
    },
}

/// Where a row's outcome is found: reading of the source, answer of the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    reading: usize,
    answer: Option<usize>,
}

/// One agreement and one dataset (or answer), under both contracts.
pub(super) struct RowPlan {
    pub agreement: String,
    pub label: String,
    before: Option<Spot>,
    after: Option<Spot>,
    /// Delivered fields that only the changed contract has, and those that only the one in force has.
    pub added: Vec<String>,
    pub withheld: Vec<String>,
}

/// All rows that read one source.
pub(super) struct Pairing {
    /// Position of the source in the changed contract's plan.
    pub after: Option<usize>,
    pub rows: Vec<RowPlan>,
}

impl Pairing {
    pub(super) fn new(
        before: &Plan,
        after: &Plan,
        at: usize,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Self {
        let source = &before.sources[at];
        let other = after.source_ix(&source.topic);
        let old = spots(before, source);
        let new = other.map_or_else(BTreeMap::new, |at| spots(after, &after.sources[at]));
        let mut keys: BTreeSet<&(String, String)> = old.keys().collect();
        keys.extend(new.keys());
        let rows = keys
            .into_iter()
            .filter(|(agreement, _)| wanted(agreement))
            .map(|key| {
                let (before_spot, after_spot) = (old.get(key), new.get(key));
                let had = names(before, before_spot.map(|spot| (source, spot)));
                let has = names(
                    after,
                    other
                        .zip(after_spot)
                        .map(|(at, spot)| (&after.sources[at], spot)),
                );
                let (added, withheld) = match (before_spot, after_spot) {
                    (Some(_), Some(_)) => (without(&has, &had), without(&had, &has)),
                    _ => (Vec::new(), Vec::new()),
                };
                RowPlan {
                    agreement: key.0.clone(),
                    label: key.1.clone(),
                    before: before_spot.copied(),
                    after: after_spot.copied(),
                    added,
                    withheld,
                }
            })
            .collect();
        Self { after: other, rows }
    }
}

fn spots(plan: &Plan, source: &Source) -> BTreeMap<(String, String), Spot> {
    let mut all = BTreeMap::new();
    for (at, reading) in source.readings.iter().enumerate() {
        let agreement = &plan.agreement(reading.agreement).id;
        let mut add = |output: usize, answer| {
            let label = plan.outputs[output].label.clone();
            let spot = Spot {
                reading: at,
                answer,
            };
            all.insert((agreement.clone(), label), spot);
        };
        add(reading.output, None);
        for (number, answer) in reading.answers.iter().enumerate() {
            add(answer.output, Some(number));
        }
    }
    all
}

/// Names of the fields that a row delivers; an answer delivers none.
fn names(plan: &Plan, at: Option<(&Source, &Spot)>) -> Vec<String> {
    let Some((
        source,
        Spot {
            reading,
            answer: None,
        },
    )) = at
    else {
        return Vec::new();
    };
    let reading = &source.readings[*reading];
    let section = &plan.agreement(reading.agreement).sections[reading.section];
    let fields = &plan.dataset(source).fields;
    section
        .fields
        .iter()
        .filter_map(|field| fields.get(usize::from(*field)))
        .map(|field| field.name.clone())
        .collect()
}

fn without(these: &[String], those: &[String]) -> Vec<String> {
    let only = these.iter().filter(|name| !those.contains(name));
    only.cloned().collect()
}

/// Counts of one row.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub transitions: BTreeMap<(Outcome, Outcome), u64>,
    /// Delivered under both, with other fields or another answer.
    pub changed: u64,
    /// Rules that would newly stop a delivery.
    pub denied_by: BTreeMap<&'static str, u64>,
    /// People for whom anything differs, in lanes that are done.
    pub people: u64,
    /// The same in the lane at hand. A person has one lane, so lanes only add up.
    here: FxHashSet<SubjectTag>,
}

/// Counts of a run, or of a part of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies {
    /// By source, then as the pairing's rows.
    pub rows: Vec<Vec<Tally>>,
    pub events: u64,
    /// Refused by the checks that come before any decision.
    pub refused: u64,
    /// Facts decided because a grant opened after them.
    pub backfilled: u64,
}

impl Tallies {
    pub(super) fn new(pairings: &[Pairing]) -> Self {
        let rows = pairings.iter();
        Self {
            rows: rows
                .map(|pairing| vec![Tally::default(); pairing.rows.len()])
                .collect(),
            ..Self::default()
        }
    }

    /// Books what the readings of one source made of one event. `None`: not asked this time.
    pub(super) fn book(
        &mut self,
        source: usize,
        pairing: &Pairing,
        subject: SubjectTag,
        before: &[Option<Made>],
        after: &[Option<Made>],
    ) {
        for (plan, tally) in pairing.rows.iter().zip(&mut self.rows[source]) {
            let old = told(before, plan.before);
            let new = told(after, plan.after);
            let outcomes = (old.outcome, new.outcome);
            if outcomes == (Outcome::Absent, Outcome::Absent) {
                continue;
            }
            *tally.transitions.entry(outcomes).or_default() += 1;
            let fields = !plan.added.is_empty() || !plan.withheld.is_empty();
            let changed = outcomes == (Outcome::Delivered, Outcome::Delivered)
                && !old.withdrawn
                && (fields || old.answer != new.answer);
            tally.changed += u64::from(changed);
            if old.outcome != Outcome::Denied
                && let Some(code) = new.denied
            {
                *tally.denied_by.entry(code).or_default() += 1;
            }
            if changed || old.outcome != new.outcome {
                tally.here.insert(subject);
            }
        }
    }

    /// Everybody of a lane was seen: their number is all that is kept.
    pub(super) fn close_lane(&mut self) {
        for tally in self.rows.iter_mut().flatten() {
            tally.people += std::mem::take(&mut tally.here).len() as u64;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.refused += other.refused;
        self.backfilled += other.backfilled;
        let pairs = self.rows.iter_mut().flatten();
        for (total, part) in pairs.zip(other.rows.iter().flatten()) {
            for (transition, count) in &part.transitions {
                *total.transitions.entry(*transition).or_default() += count;
            }
            for (code, count) in &part.denied_by {
                *total.denied_by.entry(code).or_default() += count;
            }
            total.changed += part.changed;
            total.people += part.people;
        }
    }
}

/// One side of one row.
struct Told<'m> {
    outcome: Outcome,
    denied: Option<&'static str>,
    answer: Option<&'m Value<'static>>,
    withdrawn: bool,
}

fn told(made: &[Option<Made>], spot: Option<Spot>) -> Told<'_> {
    let as_is = |outcome, denied| Told {
        outcome,
        denied,
        answer: None,
        withdrawn: false,
    };
    let found = spot.and_then(|spot| Some((made.get(spot.reading)?.as_ref()?, spot.answer)));
    match found {
        None => as_is(Outcome::Absent, None),
        Some((Made::Denied(code), _)) => as_is(Outcome::Denied, Some(code)),
        Some((Made::OutOfScope, _)) => as_is(Outcome::OutOfScope, None),
        Some((Made::Permit { withdrawn, answers }, answer)) => {
            let delivered = Told {
                withdrawn: *withdrawn,
                ..as_is(Outcome::Delivered, None)
            };
            match answer.and_then(|at| answers.get(at)) {
                // A section's own delivery, or a withdrawal, which carries no answer.
                None => delivered,
                Some(Ok(value)) => Told {
                    answer: Some(value),
                    ..delivered
                },
                Some(Err(code)) => as_is(Outcome::Denied, Some(code)),
            }
        }
    }
}
