//! `dry-run`: past events decided once more, under the contract in force and under another one, each at
//! the time when it was published; and how the two differ. Reads only; writes nothing, joins no group,
//! and what it answers names no person.
//!
//! What it can't know is said in [`Report::notes`] and in docs/operator.md: grants are taken as they
//! were (case rules are not played again), and facts that were published before the stretch of time are
//! not seen.

mod difference;
mod history;
mod passage;
mod report;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use mz_bus::{BusError, Isolation, Reader, Stretch, read_stretches};
use mz_contract::Contract;
use mz_journal::{GrantRef, InForce, topics};

use crate::contract;
use crate::error::Error;
use crate::grants::{self, GrantsRecord};
use crate::options::Options;
use crate::plan::Plan;
use difference::{Pairing, Tallies};
use history::{Collected, History};
use passage::Passage;

pub use report::{Note, People, Report, Row, since};

/// Lanes read side by side at most.
const MAX_THREADS: usize = 8;

/// Why a dry run can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A published schema never changes, so events can't be read under two of them.
    #[error("{dataset} has another schema in the changed contract")]
    SchemaChanged { dataset: String },
    /// The comparison began with another contract than the one that decides now.
    #[error("version {version} came into force meanwhile")]
    NotInForce { version: u64 },
    #[error("{agreement} is in neither contract")]
    AgreementUnknown { agreement: String },
    #[error(transparent)]
    Gateway(#[from] Error),
}

impl From<BusError> for ReplayError {
    fn from(error: BusError) -> Self {
        Self::Gateway(error.into())
    }
}

impl ReplayError {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SchemaChanged { .. } => "DRY_RUN_SCHEMA_CHANGED",
            Self::NotInForce { .. } => "DRY_RUN_NOT_IN_FORCE",
            Self::AgreementUnknown { .. } => "DRY_RUN_AGREEMENT_UNKNOWN",
            Self::Gateway(error) => error.code(),
        }
    }

    /// Codes of this module, for the test that holds them against `reasons.yaml`.
    pub const CODES: [&'static str; 3] = [
        "DRY_RUN_SCHEMA_CHANGED",
        "DRY_RUN_NOT_IN_FORCE",
        "DRY_RUN_AGREEMENT_UNKNOWN",
    ];
}

/// What all threads of one run share.
struct Run<'r> {
    options: &'r Options,
    /// Under the contract in force.
    before: Plan,
    /// Under the changed one.
    after: Plan,
    /// By source of `before`.
    pairings: Vec<Pairing>,
    since_ms: i64,
}

/// Replays what was published since `since_ms` (milliseconds since 1970), under the contract in force
/// (`options.contract` unless a version of `bus.contract` was put in force) and under `changed`, which may
/// be a draft. `agreements`: ids to look at; empty for all.
///
/// # Errors
/// [`ReplayError`]; nothing is changed by a run that fails, or by one that succeeds.
pub fn dry_run(
    options: &Options,
    changed: Arc<Contract>,
    since_ms: i64,
    agreements: &[String],
) -> Result<Report, ReplayError> {
    let options = &with_contract_in_force(options)?;
    let current = &options.contract;
    for dataset in &current.datasets {
        let other = changed.dataset(&dataset.id);
        if other.is_some_and(|other| other.schema_digest != dataset.schema_digest) {
            return Err(ReplayError::SchemaChanged {
                dataset: dataset.id.clone(),
            });
        }
    }
    if let Some(unknown) = agreements
        .iter()
        .find(|id| current.agreement(id).is_none() && changed.agreement(id).is_none())
    {
        return Err(ReplayError::AgreementUnknown {
            agreement: unknown.clone(),
        });
    }
    let before = Plan::new(Arc::clone(current), &options.keys);
    let after = Plan::new(changed, &options.keys);
    let wanted = |id: &str| agreements.is_empty() || agreements.iter().any(|one| one == id);
    let pairings = (0..before.sources.len())
        .map(|at| Pairing::new(&before, &after, at, &wanted))
        .collect();
    let run = Run {
        options,
        before,
        after,
        pairings,
        since_ms,
    };
    let tallies = run.all_lanes()?;
    Ok(Report::new(&run, &tallies, &wanted))
}

impl Run<'_> {
    /// Lanes have nothing in common: as many threads as the machine has cores take one after another.
    fn all_lanes(&self) -> Result<Tallies, ReplayError> {
        let lanes = usize::from(self.before.contract.lanes);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let total = Mutex::new(Tallies::new(&self.pairings));
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                // At most MAX_LANES lanes.
                let Some(lane) = (at < lanes).then_some(at as u16) else {
                    return Ok(());
                };
                match self.lane(lane) {
                    Ok(found) => {
                        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                        total.add(&found);
                    }
                    Err(error) => {
                        next.store(lanes, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..cores.min(lanes).clamp(1, MAX_THREADS))
                .map(|_| scope.spawn(work))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| match thread.join() {
                    Ok(outcome) => outcome,
                    Err(_) => Err(Error::Panicked { slot: 0 }.into()),
                })
        })?;
        Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// All sources in one lane: everything about the people who live there.
    fn lane(&self, lane: u16) -> Result<Tallies, ReplayError> {
        let mut reader = Reader::open(&self.options.bus, Isolation::Committed)?;
        // Asked without isolation, the end of a partition lies behind open transactions too.
        let raw = Reader::open(&self.options.bus, Isolation::Uncommitted)?;
        let history = self.history(&mut reader, &raw, lane)?;
        let mut tallies = Tallies::new(&self.pairings);
        for (at, source) in self.before.sources.iter().enumerate() {
            if self.pairings[at].rows.is_empty() {
                continue;
            }
            let partition = i32::from(lane);
            let (low, high) = raw.watermarks(&source.topic, partition)?;
            let from = raw.offset_at(&source.topic, partition, self.since_ms)?;
            let stretch = Stretch {
                topic: &source.topic,
                lane,
                from: from.clamp(low.min(high), high),
                to: high,
            };
            let mut passage = Passage::new(self, &history, at, lane, stretch.from > low);
            read_stretches(&mut reader, &[stretch], |record| {
                if record.offset < high {
                    passage.event(record, &mut tallies);
                }
            })?;
            passage.finish(&mut tallies)?;
        }
        tallies.close_lane();
        Ok(tallies)
    }

    /// Every copy of every grant of the lane that the topic still has.
    fn history(
        &self,
        reader: &mut Reader,
        raw: &Reader,
        lane: u16,
    ) -> Result<History, ReplayError> {
        let mut collected = Collected::default();
        let in_force = read_grants(reader, raw, lane, |written_ms, grant| {
            collected.add(written_ms, grant);
        })?;
        match in_force {
            Some(note) if note.digest != self.before.contract.digest => {
                Err(ReplayError::NotInForce {
                    version: note.version,
                })
            }
            _ => Ok(collected.history()),
        }
    }
}

/// The same options, with the contract that decides now.
fn with_contract_in_force(options: &Options) -> Result<Options, ReplayError> {
    let mut reader = Reader::open(&options.bus, Isolation::Committed)?;
    let raw = Reader::open(&options.bus, Isolation::Uncommitted)?;
    // Every lane has the note.
    let note = read_grants(&mut reader, &raw, 0, |_, _| {})?;
    let mut options = options.clone();
    if let Some(note) = note
        && note.digest != options.contract.digest
    {
        options.contract = contract::load(&options, &note)?;
    }
    Ok(options)
}

/// Reads one lane of `bus.grants` from the beginning: each grant with the time at which it was written.
/// Answers the newest note of a contract in force.
fn read_grants(
    reader: &mut Reader,
    raw: &Reader,
    lane: u16,
    mut each: impl FnMut(i64, &GrantRef<'_>),
) -> Result<Option<InForce>, ReplayError> {
    let (low, high) = raw.watermarks(topics::GRANTS, i32::from(lane))?;
    let stretch = Stretch {
        topic: topics::GRANTS,
        lane,
        from: low,
        to: high,
    };
    let mut in_force: Option<InForce> = None;
    let mut fault = None;
    read_stretches(reader, &[stretch], |record| {
        match grants::read(lane, record) {
            Ok(GrantsRecord::Contract(note)) => {
                let known = in_force.as_ref().map_or(0, |held| held.version);
                if note.version > known {
                    in_force = Some(note);
                }
            }
            Ok(GrantsRecord::Grant(grant)) => each(record.timestamp_ms, &grant),
            Ok(GrantsRecord::Gone) => {}
            Err(error) => fault = Some(error),
        }
    })?;
    match fault {
        None => Ok(in_force),
        Some(fault) => Err(fault.into()),
    }
}
