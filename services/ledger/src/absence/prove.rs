//! Makes a proof from the files beside the logs.

use mz_keys::vrf::{PROOF_LEN, SubjectLabel};
use mz_tlog::merkle::{MemoryTree, inclusion};
use mz_tlog::note::Note;

use super::error::AbsenceFault;
use super::leaf::{Leaf, key};
use super::proof::{Placed, Proof, Shown};
use super::statement::Statement;
use super::verify::{SETTLED_MS, begins_by};
use super::{COSIGNED, LEAVES, STATEMENT, filed, path};
use crate::log::{Disk, LogFault};
use crate::witness::{Reading, Source, log_name};

/// What a proof is asked for.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    pub department: &'a str,
    /// From then until before then, milliseconds since 1970.
    pub from_ms: i64,
    pub to_ms: i64,
    /// The person's label and its proof.
    pub label: SubjectLabel,
    pub vrf: [u8; PROOF_LEN],
    /// Only ranges that a quorum cosigned.
    pub cosigned: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum AbsenceError {
    #[error("{origin}")]
    Log {
        origin: String,
        source: AbsenceFault,
    },
    #[error("the logs")]
    Source(#[source] std::io::Error),
    #[error("shard {shard} is closed up to {until_ms} ms since 1970 only")]
    Open { shard: u16, until_ms: i64 },
}

impl AbsenceError {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Log { source, .. } => source.code(),
            Self::Source(_) => "LEDGER_DISK",
            Self::Open { .. } => "LEDGER_RANGE_OPEN",
        }
    }
}

/// A proof of what a department read, from a ledger's logs.
///
/// # Errors
/// The time is not closed yet (for `cosigned`: not cosigned yet); files that are not as they must be.
pub fn prove(source: &dyn Source, bus_id: &str, asked: &Asked<'_>) -> Result<String, AbsenceError> {
    let logs = source.logs().map_err(AbsenceError::Source)?;
    let file = if asked.cosigned { COSIGNED } else { STATEMENT };
    let mut shards: Vec<(u16, Vec<Placing>)> = Vec::new();
    for log in &logs {
        let Some((shard, _)) = log_name(log) else {
            continue;
        };
        let origin = format!("{bus_id}/audit/{log}");
        let disk = Reading { source, log };
        let failed = |source| AbsenceError::Log {
            origin: origin.clone(),
            source,
        };
        if shards.last().is_none_or(|(last, _)| *last != shard) {
            shards.push((shard, Vec::new()));
        }
        let found = filed::all(&disk, &origin, file).map_err(failed)?;
        if let Some((_, all)) = shards.last_mut() {
            all.extend(found.into_iter().map(|(note, statement)| Placing {
                log: log.clone(),
                note,
                statement,
            }));
        }
    }
    let mut ranges = Vec::new();
    for (shard, all) in shards {
        for placing in covering(shard, all, asked)? {
            let origin = placing.statement.origin.clone();
            let log = placing.log.clone();
            let disk = Reading { source, log: &log };
            let shown = show(&disk, placing, asked);
            ranges.push(shown.map_err(|source| AbsenceError::Log { origin, source })?);
        }
    }
    if ranges.is_empty() {
        return Err(AbsenceError::Open {
            shard: 0,
            until_ms: 0,
        });
    }
    let proof = Proof {
        department: asked.department.to_owned(),
        from_ms: asked.from_ms,
        to_ms: asked.to_ms,
        vrf: asked.vrf,
        ranges,
    };
    Ok(proof.encode())
}

struct Placing {
    log: String,
    note: Note,
    statement: Statement,
}

/// The fewest ranges of a shard that cover the time.
fn covering(
    shard: u16,
    all: Vec<Placing>,
    asked: &Asked<'_>,
) -> Result<Vec<Placing>, AbsenceError> {
    let until_ms = all.last().map_or(0, |last| last.statement.until_ms);
    let open = AbsenceError::Open { shard, until_ms };
    let begins = |one: &Placing| begins_by(&one.statement, asked.from_ms);
    let ends = |one: &Placing| one.statement.until_ms >= asked.to_ms.saturating_add(SETTLED_MS);
    let (Some(first), Some(last)) = (all.iter().rposition(begins), all.iter().position(ends))
    else {
        return Err(open);
    };
    let last = last.max(first);
    Ok(all.into_iter().take(last + 1).skip(first).collect())
}

fn show(disk: &impl Disk, placing: Placing, asked: &Asked<'_>) -> Result<Shown, AbsenceFault> {
    let Placing {
        note, statement, ..
    } = placing;
    let file = path(statement.number, LEAVES);
    let bytes = disk.read(&file).map_err(LogFault::from)?;
    let bytes = bytes.ok_or(LogFault::Missing { path: file })?;
    let leaves = Leaf::all(&bytes).ok_or(AbsenceFault::Leaves)?;
    let tree: MemoryTree = leaves.iter().map(Leaf::hash).collect();
    if leaves.len() as u64 != statement.leaves || tree.root() != statement.head {
        return Err(AbsenceFault::Leaves);
    }
    let wanted = key(&asked.label, asked.department);
    let placed = |index: usize| {
        let at = index as u64;
        let path = inclusion(at, statement.leaves, &tree).map_err(|_| AbsenceFault::Leaves)?;
        Ok(Placed {
            index: at,
            leaf: leaves[index],
            path,
        })
    };
    let indices = match leaves.binary_search_by_key(&wanted, |leaf| leaf.key) {
        Ok(at) => vec![at],
        Err(at) => [at.checked_sub(1), (at < leaves.len()).then_some(at)]
            .into_iter()
            .flatten()
            .collect(),
    };
    let leaves = indices
        .into_iter()
        .map(placed)
        .collect::<Result<Vec<_>, AbsenceFault>>()?;
    Ok(Shown {
        note,
        statement,
        leaves,
    })
}
