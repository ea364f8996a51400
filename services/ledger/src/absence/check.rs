//! Holds every closed range of a log against the log.

use mz_tlog::merkle::Hash;

use super::error::AbsenceFault;
use super::leaf::Leaf;
use super::range::{Labels, Range, ranges};
use super::statement::{After, Statement};
use super::{COSIGNED, LEAVES, STATEMENT, filed, path};
use crate::check::Fault;
use crate::log::{Disk, LogFault, Stored};
use crate::sign::is_signed;

/// What a log's ranges are held against.
pub struct Checked<'c> {
    pub origin: &'c str,
    /// The log's size and tree head, as its checkpoint says.
    pub size: u64,
    pub root: Hash,
    /// The ledger's public keys.
    pub keys: &'c [[u8; 32]],
    /// The last range of the log before.
    pub before: Option<&'c Statement>,
}

/// Compares statements, leaves and cosigned statements with the log; answers the last range, too. `earlier`
/// gives the disk of a log before this one.
pub fn check<D: Disk>(
    disk: &D,
    log: &Checked<'_>,
    earlier: &mut dyn FnMut(&str) -> Option<D>,
) -> (Vec<Fault>, Option<Statement>) {
    let mut faults = Vec::new();
    let fault = |number: u64, code: &'static str| Fault {
        code,
        place: format!("{}/absence/{number}", log.origin),
    };
    let all = match filed::all(disk, log.origin, STATEMENT) {
        Ok(all) => all,
        Err(error) => {
            let number = match error {
                AbsenceFault::Statement(number) => number,
                _ => 0,
            };
            return (vec![fault(number, error.code())], None);
        }
    };
    let Some((_, last)) = all.last() else {
        return (faults, None);
    };
    let (last, mut before) = (last.clone(), log.before);
    for (note, said) in &all {
        if !is_signed(note, log.origin, log.keys) {
            faults.push(fault(said.number, "LEDGER_KEY_UNKNOWN"));
        }
        if !follows(said, before) || said.to > log.size {
            faults.push(fault(said.number, "LEDGER_RANGE_MISPLACED"));
        }
        let cosigned = filed::read(disk, log.origin, said.number, COSIGNED);
        if !matches!(&cosigned, Ok(None))
            && !matches!(&cosigned, Ok(Some((other, _))) if other.text() == note.text())
        {
            faults.push(fault(said.number, "LEDGER_RANGE_DIFFERS"));
        }
        before = Some(said);
    }
    if !faults.is_empty() {
        return (faults, Some(last));
    }
    let ends: Vec<u64> = all.iter().map(|(_, said)| said.to).collect();
    let lanes = (last.shard().unwrap_or_default(), last.shards);
    let stored = Stored::new(disk, log.size);
    let mut logs = |after: &After| match earlier(&after.origin) {
        Some(disk) => labels(after, &disk),
        None => Ok(None),
    };
    let mut at = 0;
    let walked = ranges(&stored, log.origin, (0, &ends), lanes, &mut logs, |range| {
        let (_, said) = &all[at];
        at += 1;
        let alone = said.number == 0 && log.before.is_none();
        if !agrees(said, &range, alone) || !leaves_agree(disk, said, &range.leaves) {
            faults.push(fault(said.number, "LEDGER_RANGE_DIFFERS"));
        }
    });
    match walked {
        Ok(root) if root == log.root => {}
        // The log's own check names where.
        Ok(_) => faults.push(fault(0, "LEDGER_PREFIX_DIFFERS")),
        Err(error) => faults.push(Fault {
            code: error.code(),
            place: format!("{}: {error}", log.origin),
        }),
    }
    (faults, Some(last))
}

/// What can be computed from the log is what the statement says. `alone`: the range before it is not known,
/// so that it vouches for no time before the log's own first record.
pub(crate) fn agrees(said: &Statement, range: &Range, alone: bool) -> bool {
    let began = range.began_ms.unwrap_or(0);
    let since = !alone || said.after.is_none() || said.since_ms == began;
    since && agrees_but_time(said, range)
}

fn agrees_but_time(said: &Statement, range: &Range) -> bool {
    said.leaves == range.leaves.len() as u64
        && said.head == range.tree.root()
        && said.root == range.root
        && said.unbound == range.unbound
        && said.key == range.key
        && said.after == range.after
}

/// A range begins where and when the one before it ended.
pub(crate) fn follows(said: &Statement, before: Option<&Statement>) -> bool {
    let order = said.from <= said.to && said.since_ms <= said.until_ms;
    let place = match before {
        Some(before) if before.origin == said.origin => {
            said.number == before.number + 1
                && said.from == before.to
                && said.since_ms == before.until_ms
                && said.shards == before.shards
        }
        Some(before) => {
            let after = said.after.as_ref();
            let next =
                after.is_some_and(|log| log.origin == before.origin && log.size == before.to);
            said.number == 0 && said.from == 0 && next && said.since_ms == before.until_ms
        }
        // The shard's first log; or one whose predecessor is gone, which [`agrees`] looks at.
        None => {
            let first = said.number == 0 && said.from == 0;
            first && (said.after.is_some() || said.since_ms == 0)
        }
    };
    order && place
}

fn leaves_agree(disk: &impl Disk, said: &Statement, leaves: &[Leaf]) -> bool {
    let Ok(Some(bytes)) = disk.read(&path(said.number, LEAVES)) else {
        return false;
    };
    Leaf::all(&bytes).is_some_and(|found| found == leaves)
}

/// The labels of the log before a log, if its files are there.
pub(crate) fn labels(
    after: &After,
    disk: &impl Disk,
) -> Result<Option<(String, Labels)>, AbsenceFault> {
    match Labels::of_log(&Stored::new(disk, after.size)) {
        Ok(labels) => Ok(Some((after.origin.clone(), labels))),
        Err(AbsenceFault::Log(LogFault::Missing { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}
