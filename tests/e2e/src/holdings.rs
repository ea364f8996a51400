//! What the consent service says that consumers hold, against the audit log: withdrawals go to exactly
//! those.

use crate::audit::Log;
use crate::check::Check;
use crate::database;
use mz_journal::{AuditKind, SubjectTag};
use std::collections::HashMap;

/// Lane, agreement, dataset, person, record.
type Key = (u16, String, String, SubjectTag, [u8; 16]);
/// The same with epoch and counter, as the table has them.
type Row = (i32, String, String, Vec<u8>, Vec<u8>, i64, i64);

/// As a delivery says it that takes a record back at the wish of its register.
const BY_REGISTER: &str = "WITHDRAWN_BY_SOURCE";

/// The newest version of every record that was delivered and not withdrawn after, and nothing else.
/// Answers go with their dataset and are not held apart.
pub fn held(url: &str, log: &Log) -> Check {
    let mut check = Check::new("holdings = deliveries");
    let mut expected: HashMap<Key, (u32, u64)> = HashMap::new();
    for entry in log.entries.iter().filter(|entry| entry.is_output()) {
        if entry.dataset.starts_with("answer.") {
            continue;
        }
        let key = (
            entry.lane,
            entry.agreement.clone(),
            entry.dataset.clone(),
            entry.subject,
            entry.record,
        );
        let ends = entry.kind == AuditKind::Withdrawn || entry.reason == BY_REGISTER;
        let held = expected.get(&key).copied();
        match held {
            Some(held) if held > entry.version => {}
            _ if ends => drop(expected.remove(&key)),
            _ => drop(expected.insert(key, entry.version)),
        }
    }
    let rows: Vec<Row> = database::with(url, async |connection| {
        sqlx::query_as(
            "SELECT lane, agreement, dataset, subject, record, epoch, counter FROM consent.holding",
        )
        .fetch_all(connection)
        .await
    });
    check.figure = format!("{} records held", rows.len());
    check.equal("holdings", rows.len(), expected.len());
    for (lane, agreement, dataset, subject, record, epoch, counter) in rows {
        let (Ok(subject), Ok(record)) = (subject.try_into(), record.try_into()) else {
            check.fault("a tag of another length");
            continue;
        };
        let lane = u16::try_from(lane).unwrap_or(u16::MAX);
        let key = (lane, agreement, dataset, SubjectTag(subject), record);
        let version = (
            u32::try_from(epoch).unwrap_or(0),
            u64::try_from(counter).unwrap_or(0),
        );
        if expected.get(&key) != Some(&version) {
            check.fault(format!(
                "{} {} in lane {lane}: {version:?}, delivered {:?}",
                key.1,
                key.2,
                expected.get(&key)
            ));
        }
    }
    check
}
