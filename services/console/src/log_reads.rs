//! The trace of who reads the audit log: the first time that a certificate reads a kind of file of a log on a
//! day is a line of the service's log, every time is counted. Not one line a file, of which a witness reads
//! several a second; and no audit record, which would itself be one more entry to be read.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::limits::MAX_LOG_READS_KEPT;
use crate::principal::Principal;
use crate::telemetry;

#[derive(Debug, Default)]
pub struct LogReads(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Days since 1970, UTC.
    day: i64,
    /// Principal, log, kind of file.
    read: BTreeSet<(String, String, &'static str)>,
}

impl LogReads {
    /// `log`: its name, empty for the list of all. Answers whether it was the first time on this day.
    pub fn note(&self, principal: &Principal, log: String, class: &'static str) -> bool {
        telemetry::log_read(principal.department(), principal.role(), class);
        let day = mz_ledger::system_clock().div_euclid(86_400_000);
        let first = self.first(day, (principal.name(), log.clone(), class));
        if first {
            let principal = principal.name();
            tracing::info!(principal, log, class, "the audit log is read");
        }
        first
    }

    fn first(&self, day: i64, read: (String, String, &'static str)) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.day != day || seen.read.len() >= MAX_LOG_READS_KEPT {
            seen.read.clear();
            seen.day = day;
        }
        seen.read.insert(read)
    }
}

#[test]
fn once_a_day_and_kind() {
    let reads = LogReads::default();
    let read = |who: &str, log: &str, class| (who.to_owned(), log.to_owned(), class);
    assert!(reads.first(1, read("police.adapter", "0/2026", "entries")));
    assert!(!reads.first(1, read("police.adapter", "0/2026", "entries")));
    assert!(reads.first(1, read("police.adapter", "0/2026", "hashes")));
    assert!(reads.first(1, read("hrss.adapter", "0/2026", "entries")));
    assert!(reads.first(1, read("police.adapter", "0/2027", "entries")));
    assert!(reads.first(2, read("police.adapter", "0/2026", "entries")));
}
