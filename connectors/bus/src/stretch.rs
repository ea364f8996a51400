//! Reads parts of partitions whose ends are known beforehand.
//!
//! An end-of-partition event is no such end: where others write without a pause it never comes, and for
//! a reader of committed records it comes at the first open transaction, whoever's that is. Whoever
//! takes over from a predecessor takes the high watermark from a reader that sees uncommitted records,
//! after the predecessor was shut out, and reads up to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::BusError;
use crate::reader::{Position, Reader};
use crate::record::{Polled, Record};

/// Reading to the end waits for open transactions of other writers, which end or time out.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);
const MAX_RECORDS: usize = 10_000;

/// Part of one lane of one topic: from an offset to a high watermark.
pub struct Stretch<'t> {
    pub topic: &'t str,
    pub lane: u16,
    pub from: i64,
    pub to: i64,
}

impl<'t> Stretch<'t> {
    /// All that is in a lane now, as far as `heads` sees: one that reads uncommitted records sees open
    /// transactions, too.
    pub fn whole(heads: &Reader, topic: &'t str, lane: u16) -> Result<Self, BusError> {
        let (from, to) = heads.watermarks(topic, i32::from(lane))?;
        Ok(Self {
            topic,
            lane,
            from,
            to,
        })
    }
}

/// Which partitions still have to be read to a known end.
#[derive(Debug, Default)]
pub struct Unread {
    open: Vec<(Arc<str>, i32, i64)>,
    /// Where the last one was found: records of a lane come in runs.
    last: usize,
}

impl Unread {
    pub fn add(&mut self, topic: &str, partition: i32, end: i64) {
        self.open.push((topic.into(), partition, end));
    }

    /// Where a partition ends that was added with another end.
    pub(crate) fn ends(&mut self, topic: &str, partition: i32, end: i64) {
        let mut open = self.open.iter_mut();
        if let Some(open) = open.find(|open| (&*open.0, open.1) == (topic, partition)) {
            open.2 = end;
        }
    }

    /// `next` is the offset after what was read.
    pub fn reach(&mut self, topic: &str, partition: i32, next: i64) {
        let is_it = |open: &(Arc<str>, i32, i64)| (&*open.0, open.1) == (topic, partition);
        if !self.open.get(self.last).is_some_and(is_it) {
            match self.open.iter().position(is_it) {
                Some(at) => self.last = at,
                None => return,
            }
        }
        if next >= self.open[self.last].2 {
            self.open.swap_remove(self.last);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

/// Reads each stretch to its end. Records behind it may be handed over too: for states and grants
/// newer is as good. Replaces the reader's assignment.
///
/// # Errors
/// [`BusError::Timeout`] when nothing comes for a minute; else as [`Reader::poll`].
pub fn read_stretches(
    reader: &mut Reader,
    stretches: &[Stretch<'_>],
    mut each: impl FnMut(&Record<'_>),
) -> Result<(), BusError> {
    let mut unread = Unread::default();
    let mut assignment = Vec::new();
    for stretch in stretches.iter().filter(|stretch| stretch.from < stretch.to) {
        let partition = i32::from(stretch.lane);
        unread.add(stretch.topic, partition, stretch.to);
        assignment.push((stretch.topic, partition, Position::Offset(stretch.from)));
    }
    if assignment.is_empty() {
        return Ok(());
    }
    reader.assign(&assignment)?;
    let mut deadline = Instant::now() + PATIENCE;
    while !unread.is_empty() {
        let handed = reader.poll(MAX_RECORDS, POLL, |polled| {
            let (topic, partition, next) = match &polled {
                Polled::Record(record) => {
                    each(record);
                    (record.topic, record.partition, record.offset + 1)
                }
                Polled::Eof {
                    topic,
                    partition,
                    next_offset,
                } => (*topic, *partition, *next_offset),
            };
            unread.reach(topic, partition, next);
        })?;
        if handed > 0 {
            deadline = Instant::now() + PATIENCE;
        } else if Instant::now() >= deadline {
            return Err(BusError::Timeout {
                operation: "read to the end",
                waited: PATIENCE,
            });
        }
    }
    Ok(())
}
