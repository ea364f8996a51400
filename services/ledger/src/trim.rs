//! Which records of `bus.audit` may be deleted: what the log has committed and a quorum of witnesses
//! cosigned, what every other reader has read, what is old enough. And only while the logs on this disk hold all
//! of it whole: afterwards they are the only place where it is. In doubt nothing goes.

use std::collections::BTreeMap;

use mz_bus::{BusError, BusOptions, Isolation, Reader};
use mz_journal::{LedgerState, topics};
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::merkle::{self, Hash};
use mz_tlog::note::Note;
use mz_tlog::policy::{Policy, PolicyError};

use crate::check::check;
use crate::commit;
use crate::error::LedgerError;
use crate::log::{Disk as _, Folder, LogFault, Stored};
use crate::options::Options;
use crate::quorum::COSIGNED;

/// Somebody else who reads `bus.audit` and must not find a hole in it.
pub struct OtherReader {
    pub name: &'static str,
    /// Next offset of each lane. A lane that is missing stays as it is.
    pub positions: BTreeMap<u16, i64>,
}

/// What bounds a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// What the ledger committed.
    Ledger,
    Reader(&'static str),
    Age,
}

impl Bound {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Reader(name) => name,
            Self::Age => "age",
        }
    }
}

/// One lane: records from `low` up to `to` may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneTrim {
    pub lane: u16,
    pub low: i64,
    /// At least `low`.
    pub to: i64,
    pub bound: Bound,
}

/// What may go of one shard's lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trim {
    /// The open log.
    pub origin: String,
    pub committed: u64,
    pub cosigned: u64,
    /// Entries of all the shard's logs that were verified.
    pub verified: u64,
    pub lanes: Vec<LaneTrim>,
}

impl Trim {
    /// Offsets that go; control records are among them.
    pub fn offsets(&self) -> u64 {
        let gone = self.lanes.iter().map(|lane| lane.to.abs_diff(lane.low));
        gone.sum()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("shard {shard}: nothing was committed yet")]
    Uncommitted { shard: u16 },
    #[error("{origin}: no checkpoint with a quorum of cosignatures")]
    Uncosigned { origin: String },
    #[error("{origin}: the cosigned checkpoint does not meet the policy")]
    Policy { origin: String, source: PolicyError },
    /// May pass: witnesses are on their way.
    #[error("{origin}: {committed} entries are committed, but only {cosigned} cosigned")]
    Behind {
        origin: String,
        committed: u64,
        cosigned: u64,
    },
    #[error("{origin}: the log on disk is not the one that was committed")]
    Differs { origin: String },
    #[error("{origin}: {faults} faults in the log on disk, the first: {first}")]
    NotWhole {
        origin: String,
        faults: u64,
        first: String,
    },
    #[error("{origin}")]
    Log { origin: String, source: LogFault },
}

impl TrimError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Ledger(error) => error.code(),
            Self::Uncommitted { .. } => "LEDGER_TRIM_UNCOMMITTED",
            Self::Uncosigned { .. } | Self::Policy { .. } => "LEDGER_TRIM_UNCOSIGNED",
            Self::Behind { .. } => "LEDGER_TRIM_BEHIND",
            Self::Differs { .. } => "LEDGER_PREFIX_DIFFERS",
            Self::NotWhole { .. } => "LEDGER_TRIM_NOT_WHOLE",
            Self::Log { source, .. } => source.code(),
        }
    }

    /// Witnesses may still come.
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Behind { .. } | Self::Uncosigned { .. })
    }
}

impl From<BusError> for TrimError {
    fn from(error: BusError) -> Self {
        Self::Ledger(error.into())
    }
}

/// The shard's last commit. A plan is made for one, and may wait for its cosignatures.
///
/// # Errors
/// The bus; no commit.
pub fn committed(options: &Options) -> Result<LedgerState, TrimError> {
    let state = commit::read(options)?;
    state.ok_or(TrimError::Uncommitted {
        shard: options.shard,
    })
}

/// What may go of the shard's lanes: below what `state` committed and `policy` sees cosigned, below every one
/// of `readers`, and written before `before_ms`.
///
/// # Errors
/// Whatever makes it doubtful that the logs hold all of it. Then nothing goes.
pub fn plan(
    options: &Options,
    state: &LedgerState,
    policy: &Policy,
    readers: &[OtherReader],
    before_ms: i64,
) -> Result<Trim, TrimError> {
    let mut trim = Trim {
        origin: state.origin.clone(),
        committed: state.size,
        cosigned: 0,
        verified: 0,
        lanes: Vec::new(),
    };
    // From the open log back to the shard's first: each must be cosigned up to where the next one says it ended.
    let (mut origin, mut size, mut root) = (state.origin.clone(), state.size, state.root);
    while !origin.is_empty() {
        let held = held(options, &origin, size, &root, policy)?;
        trim.verified += held.size;
        if origin == state.origin {
            trim.cosigned = held.size;
        }
        (origin, size, root) = held.before;
    }

    let reader = Reader::open(&options.bus, Isolation::Committed)?;
    for lane in options.lanes() {
        let (low, _) = reader.watermarks(topics::AUDIT, i32::from(lane))?;
        let mut bounds = vec![(state.position(lane), Bound::Ledger)];
        let others = readers.iter().map(|other| {
            let next = other.positions.get(&lane).copied();
            (next, Bound::Reader(other.name))
        });
        bounds.extend(others);
        let aged = reader.offset_at(topics::AUDIT, i32::from(lane), before_ms)?;
        bounds.push((Some(aged), Bound::Age));
        // Nobody knows how far a reader without a position has got.
        let least = bounds
            .into_iter()
            .map(|(next, bound)| (next.unwrap_or(low), bound))
            .min_by_key(|(next, _)| *next);
        let (to, bound) = least.unwrap_or((low, Bound::Ledger));
        trim.lanes.push(LaneTrim {
            lane,
            low,
            to: to.max(low),
            bound,
        });
    }
    Ok(trim)
}

struct Held {
    /// Cosigned.
    size: u64,
    /// Name, size and root of the log before.
    before: (String, u64, Hash),
}

/// Holds one log on disk against what must be in it and against its cosigned checkpoint, entry by entry.
fn held(
    options: &Options,
    origin: &str,
    size: u64,
    root: &Hash,
    policy: &Policy,
) -> Result<Held, TrimError> {
    let folder = Folder::new(options.folder_of(origin));
    let origin = || origin.to_owned();
    let uncosigned = || TrimError::Uncosigned { origin: origin() };
    let log = |source| TrimError::Log {
        origin: origin(),
        source,
    };
    let note = folder.read(COSIGNED).map_err(|error| log(error.into()))?;
    let note = Note::parse(&note.ok_or_else(uncosigned)?).map_err(|_| uncosigned())?;
    policy.check(&note).map_err(|source| TrimError::Policy {
        origin: origin(),
        source,
    })?;
    let head = Checkpoint::parse(note.text()).map_err(|_| uncosigned())?;
    if head.origin != origin() {
        return Err(TrimError::Differs { origin: origin() });
    }
    if head.size < size {
        return Err(TrimError::Behind {
            origin: origin(),
            committed: size,
            cosigned: head.size,
        });
    }
    let report = check(&folder, head.size, &head.root);
    if let Some(first) = report.faults.first() {
        return Err(TrimError::NotWhole {
            origin: origin(),
            faults: report.faults.len() as u64 + report.more,
            first: format!("{}: {}", first.place, first.code),
        });
    }
    let stored = Stored::new(&folder, head.size);
    let found = merkle::root(size, &stored.hashes());
    let opened = report
        .opened
        .filter(|_| found.is_ok_and(|found| found == *root));
    let opened = opened.ok_or_else(|| TrimError::Differs { origin: origin() })?;
    Ok(Held {
        size: head.size,
        before: (opened.origin, opened.size, opened.root),
    })
}

/// Deletes what a plan lets go, as `bus.admin`. Answers the first offset that is left, by lane.
///
/// # Errors
/// The cluster refused; a second try does the rest.
pub async fn carry_out(bus: &BusOptions, trim: &Trim) -> Result<Vec<(i32, i64)>, BusError> {
    let lanes = trim.lanes.iter().filter(|lane| lane.to > lane.low);
    let below: Vec<(i32, i64)> = lanes.map(|lane| (i32::from(lane.lane), lane.to)).collect();
    mz_bus::admin::delete_records(bus, topics::AUDIT, &below).await
}
