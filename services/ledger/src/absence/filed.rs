//! The statements that lie beside a log, as they lie there: nothing is verified.

use mz_tlog::note::Note;

use super::error::AbsenceFault;
use super::statement::Statement;
use super::{COSIGNED, STATEMENT, path};
use crate::log::{Disk, LogFault};

/// Note and statement of a range; `None` when it was not closed yet.
pub(crate) fn statement(
    disk: &impl Disk,
    origin: &str,
    number: u64,
) -> Result<Option<(Note, Statement)>, AbsenceFault> {
    file(disk, origin, number, STATEMENT)
}

/// The same with its cosignatures, if a quorum gave them.
pub(crate) fn cosigned(
    disk: &impl Disk,
    origin: &str,
    number: u64,
) -> Result<Option<(Note, Statement)>, AbsenceFault> {
    file(disk, origin, number, COSIGNED)
}

/// All of a log, in order.
pub(crate) fn all(disk: &impl Disk, origin: &str) -> Result<Vec<(Note, Statement)>, AbsenceFault> {
    let mut all = Vec::new();
    while let Some(one) = statement(disk, origin, all.len() as u64)? {
        all.push(one);
    }
    Ok(all)
}

fn file(
    disk: &impl Disk,
    origin: &str,
    number: u64,
    name: &str,
) -> Result<Option<(Note, Statement)>, AbsenceFault> {
    let bytes = disk.read(&path(number, name)).map_err(LogFault::from)?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let malformed = || AbsenceFault::Statement(number);
    let note = Note::parse(bytes).map_err(|_| malformed())?;
    let said = Statement::parse(note.text()).ok_or_else(malformed)?;
    match said.origin == origin && said.number == number {
        true => Ok(Some((note, said))),
        false => Err(malformed()),
    }
}
