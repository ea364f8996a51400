//! The statements that lie beside a log, as they lie there: nothing is verified.

use mz_tlog::note::Note;

use super::error::AbsenceFault;
use super::path;
use super::statement::Statement;
use crate::limits::MAX_RANGES_OF_LOG;
use crate::log::{Disk, LogFault};

/// All of a log in one spelling ([`super::STATEMENT`] or [`super::COSIGNED`]), in order.
pub(crate) fn all(
    disk: &impl Disk,
    origin: &str,
    file: &str,
) -> Result<Vec<(Note, Statement)>, AbsenceFault> {
    let mut all = Vec::new();
    while let Some(one) = read(disk, origin, all.len() as u64, file)? {
        if all.len() == MAX_RANGES_OF_LOG {
            return Err(AbsenceFault::Statement(all.len() as u64));
        }
        all.push(one);
    }
    Ok(all)
}

/// Note and statement of a range; `None` when it is not there yet.
pub(crate) fn read(
    disk: &impl Disk,
    origin: &str,
    number: u64,
    file: &str,
) -> Result<Option<(Note, Statement)>, AbsenceFault> {
    let bytes = disk.read(&path(number, file)).map_err(LogFault::from)?;
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
