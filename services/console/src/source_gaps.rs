//! What lies between accounted source offsets: nothing but Kafka's own control records and aborted
//! transactions, or committed records that the audit log says nothing about.
//!
//! It looks at positions and at nothing else of a record.

use std::time::{Duration, Instant};

use mz_bus::{BusError, BusOptions, Isolation, Polled, Position, Reader};
use mz_journal::topics;
use mz_ledger::index::{OffsetRange, Stretch};
use serde::{Deserialize, Serialize};

use crate::limits::{GAP_TIMEOUT, MAX_GAP_RECORDS};
use crate::source_numbers::{Numbers, Unseen};
use crate::who_read::ScanError;

const POLL_RECORDS: usize = 1_024;
/// Longest wait for the next record.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// A range that begins so many offsets further on is sought, a nearer one read up to.
const SEEK_OFFSETS: i64 = 2_000;

/// One lane of a source topic: what is accounted for, and what is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    pub dataset: String,
    pub lane: u16,
    /// First and last source offset that is accounted for in these days.
    pub first: i64,
    pub last: i64,
    /// Events that were refused as input. Accounted for: the record names position and code.
    pub quarantined: u64,
    /// Committed records in between that nothing accounts for. Empty: none.
    pub missing: Vec<Missing>,
    /// Numbers that a connector gave and whose events never came, as the gateway knows now.
    pub unseen: Vec<Unseen>,
    /// Ranges in between that the source topic no longer holds: nobody can tell.
    pub expired: u64,
    /// Ranges in between, or the stream's numbers, that this answer left out: ask for fewer days.
    pub unchecked: u64,
}

/// Committed records that nothing accounts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    pub first: i64,
    pub last: i64,
    pub records: u64,
}

/// Looks at what lies between, lane after lane, until the page's bounds are reached.
///
/// # Errors
/// A source topic that can't be read.
pub fn look(bus: &BusOptions, stretches: Vec<Stretch>) -> Result<Vec<Lane>, ScanError> {
    let mut looking = Looking {
        reader: Reader::open(bus, Isolation::Committed)?,
        numbers: Numbers::default(),
        until: Instant::now() + GAP_TIMEOUT,
        left: MAX_GAP_RECORDS,
    };
    let lanes = stretches.into_iter().map(|stretch| looking.lane(stretch));
    lanes.collect()
}

struct Looking {
    reader: Reader,
    numbers: Numbers,
    until: Instant,
    left: u64,
}

impl Looking {
    fn lane(&mut self, stretch: Stretch) -> Result<Lane, ScanError> {
        let mut lane = Lane {
            dataset: stretch.dataset,
            lane: stretch.lane,
            first: stretch.accounted.first,
            last: stretch.accounted.last,
            quarantined: stretch.quarantined,
            missing: Vec::new(),
            unseen: Vec::new(),
            expired: 0,
            unchecked: stretch.more,
        };
        match self
            .numbers
            .of(&mut self.reader, &lane.dataset, lane.lane, self.until)?
        {
            Some(unseen) => lane.unseen = unseen,
            None => lane.unchecked += 1,
        }
        if stretch.between.is_empty() {
            return Ok(lane);
        }
        let (topic, partition) = (topics::source(&lane.dataset), i32::from(lane.lane));
        let (low, high) = self.reader.watermarks(&topic, partition)?;
        let mut walk = Walk::new(&mut lane, stretch.between, low);
        let mut at = None;
        while let Some(range) = walk.current() {
            if range.first >= high {
                // The topic is not the one that was accounted for: what it held is gone.
                walk.rest_is_expired();
                break;
            }
            if self.left == 0 || Instant::now() >= self.until {
                walk.rest_is_unchecked();
                break;
            }
            if at.is_none_or(|at| range.first < at || range.first - at > SEEK_OFFSETS) {
                let from = Position::Offset(range.first);
                self.reader.assign(&[(&topic, partition, from)])?;
                at = Some(range.first);
            }
            self.step(&mut walk, &mut at)?;
        }
        walk.close();
        Ok(lane)
    }

    fn step(&mut self, walk: &mut Walk<'_>, at: &mut Option<i64>) -> Result<(), ScanError> {
        let mut seen = 0;
        let handed = self
            .reader
            .poll(POLL_RECORDS, READ_TIMEOUT, |polled| match polled {
                Polled::Record(record) => {
                    seen += 1;
                    *at = Some(record.offset + 1);
                    walk.take(record.offset);
                }
                // Below the last accounted offset there is no open transaction: what follows is empty.
                Polled::Eof { .. } => walk.end(),
            });
        match handed {
            Ok(0) => return Err(ScanError::Stalled),
            Ok(_) => {}
            // Retention went past the range while it was read.
            Err(BusError::OffsetLost { .. }) => walk.rest_is_expired(),
            Err(error) => return Err(error.into()),
        }
        self.left = self.left.saturating_sub(seen);
        Ok(())
    }
}

/// The ranges of one lane, ascending, against its committed records, ascending.
struct Walk<'a> {
    lane: &'a mut Lane,
    ranges: std::iter::Peekable<std::vec::IntoIter<OffsetRange>>,
    open: Option<Missing>,
}

impl<'a> Walk<'a> {
    fn new(lane: &'a mut Lane, mut ranges: Vec<OffsetRange>, low: i64) -> Self {
        lane.expired += ranges.iter().filter(|range| range.first < low).count() as u64;
        ranges.retain(|range| range.last >= low);
        for range in &mut ranges {
            range.first = range.first.max(low);
        }
        Self {
            lane,
            ranges: ranges.into_iter().peekable(),
            open: None,
        }
    }

    fn current(&mut self) -> Option<OffsetRange> {
        self.ranges.peek().copied()
    }

    /// A committed record is there.
    fn take(&mut self, offset: i64) {
        while let Some(range) = self.current() {
            if offset < range.first {
                return;
            }
            if offset <= range.last {
                let missing = self.open.get_or_insert(Missing {
                    first: offset,
                    last: offset,
                    records: 0,
                });
                missing.last = offset;
                missing.records += 1;
                return;
            }
            self.next();
        }
    }

    fn next(&mut self) {
        self.ranges.next();
        self.close();
    }

    fn close(&mut self) {
        self.lane.missing.extend(self.open.take());
    }

    /// No committed record follows.
    fn end(&mut self) {
        while self.current().is_some() {
            self.next();
        }
    }

    fn rest_is_expired(&mut self) {
        self.lane.expired += self.ranges.by_ref().count() as u64;
        self.close();
    }

    fn rest_is_unchecked(&mut self) {
        self.lane.unchecked += self.ranges.by_ref().count() as u64;
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(ranges: &[(i64, i64)], low: i64, records: &[i64], ended: bool) -> Lane {
        let mut lane = Lane {
            dataset: String::new(),
            lane: 0,
            first: 0,
            last: 99,
            quarantined: 0,
            missing: Vec::new(),
            unseen: Vec::new(),
            expired: 0,
            unchecked: 0,
        };
        let ranges = ranges
            .iter()
            .map(|&(first, last)| OffsetRange { first, last });
        let mut walk = Walk::new(&mut lane, ranges.collect(), low);
        records.iter().for_each(|offset| walk.take(*offset));
        if ended {
            walk.end();
        } else {
            walk.rest_is_unchecked();
        }
        lane
    }

    #[test]
    fn only_committed_records_are_missing() {
        // A marker at 5, an aborted transaction at 10 to 14: nothing committed in either.
        let quiet = walk(&[(5, 5), (10, 14)], 0, &[4, 6, 9, 15], true);
        assert_eq!(
            (quiet.missing, quiet.expired, quiet.unchecked),
            (vec![], 0, 0)
        );
        let lost = walk(&[(5, 5), (10, 14)], 0, &[4, 5, 6, 11, 13, 15], true);
        let missing = |first, last, records| Missing {
            first,
            last,
            records,
        };
        assert_eq!(lost.missing, [missing(5, 5, 1), missing(11, 13, 2)]);
    }

    #[test]
    fn what_nobody_can_tell_is_said() {
        // 5 is gone, of 10 to 14 the second half is left.
        let old = walk(&[(5, 5), (10, 14)], 12, &[13], true);
        assert_eq!((old.expired, old.missing.len(), old.unchecked), (2, 1, 0));
        let cut = walk(&[(5, 5), (10, 14), (20, 20)], 0, &[4, 6], false);
        assert_eq!((cut.expired, cut.missing.len(), cut.unchecked), (0, 0, 2));
    }
}
