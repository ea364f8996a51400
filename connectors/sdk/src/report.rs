//! What a connector did, in numbers. Nothing in it names a person.

use std::collections::BTreeMap;
use std::time::Duration;

/// Counts of one run (all passes together).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Passes read to their end.
    pub passes: u64,
    /// Events the source made.
    pub events: u64,
    /// Published because the record was not known.
    pub new: u64,
    /// Published because the record had changed.
    pub changed: u64,
    /// As already published.
    pub unchanged: u64,
    /// Published as withdrawn.
    pub withdrawn: u64,
    /// Rows that the mapping leaves out.
    pub skipped: u64,
    /// Rejects of the last pass, by code.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Records that did not appear and were not withdrawn, because that was not certain.
    pub held: u64,
    /// Committed transactions.
    pub transactions: u64,
    pub elapsed: Duration,
    /// `--plan` only: for each dataset, how often each field holds something.
    pub filled: BTreeMap<String, Vec<(String, u64)>>,
    /// `--plan` only: nothing could be compared with, so everything counts as new.
    pub without_checkpoint: bool,
}

impl Report {
    /// Events that were published (or, planning, would be).
    #[must_use]
    pub fn published(&self) -> u64 {
        self.new + self.changed + self.withdrawn
    }

    #[must_use]
    pub fn rejects(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// What is told while a pass runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Read so far and in all, in the source's unit.
    pub read: Option<(u64, u64)>,
    pub events: u64,
    pub published: u64,
    pub rejected: u64,
}

/// Whoever shows progress.
pub trait Observer {
    fn progress(&mut self, progress: &Progress);
    /// A pass was read to its end.
    fn pass(&mut self, report: &Report);
    /// The register could not be read and will be tried again.
    fn trouble(&mut self, code: &'static str, detail: &str);
}

/// Shows nothing.
pub struct Silent;

impl Observer for Silent {
    fn progress(&mut self, _: &Progress) {}
    fn pass(&mut self, _: &Report) {}
    fn trouble(&mut self, _: &'static str, _: &str) {}
}
