//! What a log says, under its signed root.

use mz_journal::AuditWriter;
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::merkle::{self, Frontier, leaf_hash};

use crate::find::{AuditId, find};
use crate::log::{Entry, LogFault, Stored};
use crate::witness::error::WitnessError;
use crate::witness::source::Reading;
use crate::witness::state::States;
use crate::witness::walk::Logged;

/// The log and, for what came late, the one before it.
pub(super) struct Logs<'l> {
    pub disk: &'l Reading<'l>,
    pub said: &'l Checkpoint,
    pub before: Option<&'l str>,
}

impl Logs<'_> {
    /// A delivery to the department anywhere in these logs, under their signed roots.
    pub fn find(
        &self,
        states: &States,
        department: &str,
        lane: u16,
        number: u64,
    ) -> Result<Option<Logged>, WitnessError> {
        let writer = AuditWriter::Gateway;
        let id = AuditId {
            writer,
            lane,
            number,
        };
        let found = proven(self.disk, self.said.size, &self.said.root, id, department)?;
        let (None, Some(before)) = (&found, self.before) else {
            return Ok(found);
        };
        let Some(seen) = states.load(before)? else {
            return Ok(None);
        };
        let disk = Reading {
            source: self.disk.source,
            log: before,
        };
        proven(&disk, seen.size, &seen.root, id, department)
    }
}

fn proven(
    disk: &Reading<'_>,
    size: u64,
    root: &merkle::Hash,
    id: AuditId,
    department: &str,
) -> Result<Option<Logged>, WitnessError> {
    let unreadable = |source| WitnessError::Unreadable {
        log: disk.log.to_owned(),
        source,
    };
    let stored = Stored::new(disk, size);
    let Some(index) = find(&stored, id).map_err(unreadable)? else {
        return Ok(None);
    };
    let entry = stored.entry(index).map_err(unreadable)?;
    let proof = merkle::inclusion(index, size, &stored.hashes())
        .map_err(|error| unreadable(LogFault::tile(error)))?;
    if merkle::verify_inclusion(&leaf_hash(&entry), index, size, &proof, root).is_err() {
        return Err(WitnessError::Altered {
            origin: disk.log.to_owned(),
        });
    }
    let Ok(Entry::Audit(bytes)) = Entry::read(&entry) else {
        return Ok(None);
    };
    let audit = mz_journal::Audit::read(bytes).ok();
    Ok(audit.and_then(|audit| Logged::of(&audit, department)))
}

/// The root of the first `size` entries, if the entries are those that were signed.
pub(super) fn prefix(
    disk: &Reading<'_>,
    said: &Checkpoint,
    size: u64,
) -> Result<Option<merkle::Hash>, LogFault> {
    let mut frontier = Frontier::default();
    let mut prefix = frontier.root();
    Stored::new(disk, said.size).entries(0, said.size, |index, entry| {
        frontier.push(leaf_hash(entry));
        if index + 1 == size {
            prefix = frontier.root();
        }
        Ok(())
    })?;
    Ok((frontier.root() == said.root).then_some(prefix))
}
