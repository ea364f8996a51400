//! From an audit id to its place in a log.

use std::fmt;
use std::str::FromStr;

use mz_journal::{AUDIT_WRITERS, Audit, AuditWriter};

use crate::log::{Disk, Entry, LogFault, Stored};

/// `gateway-3-120`: writer, lane, number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AuditId {
    pub writer: AuditWriter,
    pub lane: u16,
    /// From 1.
    pub number: u64,
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.writer.name(), self.lane, self.number)
    }
}

/// Not an audit id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an audit id: writer-lane-number is wanted, for instance gateway-3-120")]
pub struct BadAuditId;

impl FromStr for AuditId {
    type Err = BadAuditId;

    fn from_str(text: &str) -> Result<Self, BadAuditId> {
        let mut parts = text.split('-');
        let (Some(writer), Some(lane), Some(number), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadAuditId);
        };
        let known = AUDIT_WRITERS
            .into_iter()
            .find(|known| known.name() == writer);
        let id = Self {
            writer: known.ok_or(BadAuditId)?,
            lane: lane.parse().map_err(|_| BadAuditId)?,
            number: number.parse().map_err(|_| BadAuditId)?,
        };
        // One spelling only.
        if id.number > 0 && id.to_string() == text {
            Ok(id)
        } else {
            Err(BadAuditId)
        }
    }
}

/// Entries read from one place before the search goes on elsewhere.
const STRIDE: u64 = 256;

/// The index of an audit record. A writer's numbers of a lane rise through the log, so that a few looks
/// narrow down where it is; a writer that is seldom heard of costs a walk through the log.
pub fn find(stored: &Stored<'_, impl Disk>, id: AuditId) -> Result<Option<u64>, LogFault> {
    let (mut low, mut high) = (0, stored.size());
    while high - low > 4 * STRIDE {
        let middle = low + (high - low) / 2;
        match next(stored, middle, high.min(middle + STRIDE), id)? {
            // Nothing of this writer here: what is left is walked.
            None => break,
            Some((index, number)) if number == id.number => return Ok(Some(index)),
            Some((_, number)) if number > id.number => high = middle,
            Some((index, _)) => low = index + 1,
        }
    }
    let mut at = low;
    while at < high {
        let to = high.min(at + 64 * STRIDE);
        let mut found = None;
        stored.entries(at, to, |index, entry| {
            if found.is_none() && number_of(entry, id) == Some(id.number) {
                found = Some(index);
            }
            Ok(())
        })?;
        if found.is_some() {
            return Ok(found);
        }
        at = to;
    }
    Ok(None)
}

fn number_of(entry: &[u8], id: AuditId) -> Option<u64> {
    let Ok(Entry::Audit(bytes)) = Entry::read(entry) else {
        return None;
    };
    let audit = Audit::read(bytes).ok()?;
    (audit.writer == id.writer && audit.lane == id.lane).then_some(audit.number)
}

/// The first record of this writer and lane in a range.
fn next(
    stored: &Stored<'_, impl Disk>,
    from: u64,
    to: u64,
    id: AuditId,
) -> Result<Option<(u64, u64)>, LogFault> {
    let mut found = None;
    stored.entries(from, to, |index, entry| {
        if found.is_none() {
            found = number_of(entry, id).map(|number| (index, number));
        }
        Ok(())
    })?;
    Ok(found)
}
