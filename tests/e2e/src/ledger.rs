//! The ledger against `bus.audit` and against itself.

use crate::audit::Log;
use crate::check::Check;
use crate::install::Installation;
use crate::wait;
use serde_json::Value;
use std::time::Duration;

/// Longest that the ledger may take to catch up once nothing is written any more.
const CATCH_UP: Duration = Duration::from_secs(120);

/// What `ledger audit --index` says of every log.
fn audit(it: &Installation) -> Vec<Value> {
    let args = ["ledger", "audit", "--index", "--json"];
    let output = it.output(&args, None);
    match serde_json::from_slice(&output.stdout) {
        Ok(Value::Array(logs)) => logs,
        _ => Vec::new(),
    }
}

fn sum(logs: &[Value], name: &str) -> u64 {
    logs.iter().filter_map(|log| log[name].as_u64()).sum()
}

/// Whether this installation has a ledger.
pub fn runs(it: &Installation) -> bool {
    it.dir().join("ledger").is_dir()
}

/// Every record of the audit log is in the ledger once, nothing else is, logs and index verify.
pub fn whole(it: &Installation, log: &Log) -> Check {
    let mut check = Check::new("ledger = audit");
    let records = log.entries.len() as u64;
    let mut logs = Vec::new();
    wait::maybe(CATCH_UP, || {
        logs = audit(it);
        let indexed: u64 = logs
            .iter()
            .filter_map(|log| log["index"]["indexed"].as_u64())
            .sum();
        (sum(&logs, "records") >= records && indexed == sum(&logs, "size")).then_some(())
    });
    check.equal("records", sum(&logs, "records"), records);
    check.equal("faults beyond those listed", sum(&logs, "more_faults"), 0);
    for log in &logs {
        for list in [
            &log["faults"],
            &log["breaks"],
            &log["index"]["faults"],
            &log["index"]["sums"],
            &log["hides"]["faults"],
        ] {
            let faults = list.as_array().map_or(&[][..], Vec::as_slice);
            faults
                .iter()
                .for_each(|fault| check.fault(fault.to_string()));
        }
    }
    let many = logs.iter().filter(|log| log["folder"].is_string()).count();
    check.figure = format!("{} entries in {many} log(s)", sum(&logs, "size"));
    check
}
