//! What people, counters and officers do with consents, cases and agreements: the real commands, with the
//! identity number on standard input, and the answer as the commands print it for programs.

use crate::install::Installation;
use crate::wait;
use chrono::{Days, Local};
use mz_contract::Contract;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest that a withdrawal may take from its order to its receipt, on a busy machine.
const RECEIPT_LIMIT: Duration = Duration::from_secs(60);

/// A day so many days from now, as consents name their last.
pub fn in_days(days: u64) -> String {
    (Local::now().date_naive() + Days::new(days)).to_string()
}

/// Runs a command that answers in JSON. Exit code 8 (not enforced yet) is as good as 0 here: the answer
/// says which.
#[track_caller]
pub fn asked(it: &Installation, args: &[&str], input: &str) -> Value {
    let args = [args, &["--json"]].concat();
    let text = it.run_with(&args, Some(input), &[0, 8]);
    match serde_json::from_str(&text) {
        Ok(value) => value,
        Err(error) => panic!("mianzheng {}: {error}\n{text}", args.join(" ")),
    }
}

/// Types a command that must be refused, and gives its exit code and words.
#[track_caller]
pub fn refused(it: &Installation, line: &str, input: &str) -> (i32, String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = it.output(&words, Some(input));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().unwrap_or(-1);
    assert!(code != 0, "mianzheng {line} succeeded");
    (code, said)
}

/// The person consents in the app to all that the agreement reads, its sensitive fields each by itself.
/// `more`: further arguments, such as a representation; `input`: identity numbers, a line each.
#[track_caller]
pub fn gives(
    it: &Installation,
    contract: &Contract,
    agreement: &str,
    input: &str,
    more: &[&str],
) -> Value {
    let until = in_days(100);
    let separate = separate(contract, agreement);
    let mut args = vec!["consent", "give", "--agreement", agreement, "--id", "-"];
    args.extend(["--valid-until", &until]);
    for field in &separate {
        args.extend(["--separate", field]);
    }
    args.extend(more);
    let given = asked(it, &args, input);
    enforced(&given["enforcement"]);
    given
}

/// `<dataset>#<field>` of every field that needs a consent of its own.
pub fn separate(contract: &Contract, agreement: &str) -> Vec<String> {
    let sections = contract.agreement(agreement).map(|agreed| &agreed.sections);
    sections
        .into_iter()
        .flatten()
        .flat_map(|section| {
            let dataset = &contract.datasets[section.dataset_ix];
            section.sensitive.iter().map(|field| {
                let name = &dataset.fields[usize::from(*field)].name;
                format!("{}#{name}", dataset.id)
            })
        })
        .collect()
}

/// The grant of a consent that was given.
#[track_caller]
pub fn grant(given: &Value) -> String {
    text(&given["consent"]["record_id"])
}

/// The person changes a consent in the app: revoke, pause, resume, extend.
#[track_caller]
pub fn changes(it: &Installation, verb: &str, grant: &str, id: &str, more: &[&str]) -> Value {
    let args = [&["consent", verb, grant, "--id", "-"], more].concat();
    let changed = asked(it, &args, id);
    enforced(&changed["enforcement"]);
    changed
}

/// A change must hold everywhere when the command returns.
#[track_caller]
pub fn enforced(enforcement: &Value) {
    assert_eq!(enforcement["state"], "enforced", "{enforcement:#}");
    assert!(enforcement["position"].as_i64().is_some_and(|at| at >= 0));
}

/// What the auditor is told when asking why.
#[track_caller]
pub fn why(it: &Installation, id: &str, consumer: &str, purpose: &str) -> Value {
    let args = [
        "why",
        "--id",
        "-",
        "--operator",
        "sj-1",
        "--consumer",
        consumer,
    ];
    asked(it, &[&args[..], &["--purpose", purpose]].concat(), id)
}

/// One dataset's part of that.
#[track_caller]
pub fn section<'w>(why: &'w Value, dataset: &str) -> &'w Value {
    let sections = why["sections"].as_array().map(Vec::as_slice);
    let found = sections
        .unwrap_or_default()
        .iter()
        .find(|section| section["dataset"] == dataset);
    match found {
        Some(section) => section,
        None => panic!("nothing about {dataset} in {why:#}"),
    }
}

/// Withdrawals under one agreement, once every one of them has its receipt.
#[track_caller]
pub fn withdrawals(it: &Installation, agreement: &str) -> Vec<Value> {
    let page = wait::until(
        "receipts of all withdrawals",
        RECEIPT_LIMIT,
        || asked(it, &["withdrawals", "--agreement", agreement], ""),
        |page| page["open"] == 0,
    );
    page["withdrawals"].as_array().cloned().unwrap_or_default()
}

/// Who read about the person, as the auditor sees it.
#[track_caller]
pub fn who_read(it: &Installation, id: &str) -> Vec<Value> {
    let args = ["who-read", "--id", "-", "--operator", "sj-1", "--reason"];
    let text = it.run_with(&[&args[..], &["检查", "--json"]].concat(), Some(id), &[0]);
    match serde_json::from_str::<Value>(&text) {
        Ok(page) => page["entries"].as_array().cloned().unwrap_or_default(),
        Err(error) => panic!("who-read: {error}\n{text}"),
    }
}

/// What `mianzheng read` shows of a topic: the newest record of each key, delivery or withdrawal.
#[track_caller]
pub fn reads(it: &Installation, department: &str, topic: &str) -> Vec<Value> {
    let text = it.run(&["read", "--department", department]);
    let mut newest: BTreeMap<String, Value> = BTreeMap::new();
    // Every record it was ever sent, lane by lane in order.
    for line in text.lines() {
        let Ok(record) = serde_json::from_str::<Value>(line) else {
            panic!("no JSON: {line}");
        };
        if record["topic"] == topic {
            newest.insert(format!("{} {}", record["person"], record["record"]), record);
        }
    }
    newest.into_values().collect()
}

/// What a department holds of a topic now: the fields of each record that was not withdrawn.
#[track_caller]
pub fn holds(it: &Installation, department: &str, topic: &str) -> Vec<Value> {
    let records = reads(it, department, topic);
    let fields = records.into_iter().map(|record| record["fields"].clone());
    fields.filter(|fields| fields.is_object()).collect()
}

/// The names of a record's fields, sorted.
pub fn names(fields: &Value) -> Vec<&str> {
    let map = fields.as_object();
    let mut names: Vec<&str> = map.into_iter().flatten().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names
}

/// Whether somebody was refused by this rule, as the auditor sees it.
#[track_caller]
pub fn denied(it: &Installation, id: &str, rule: &str) -> bool {
    let entries = who_read(it, id);
    let codes = |entry: &Value| {
        let rules = entry["rules"].as_array().cloned().unwrap_or_default();
        rules.iter().any(|one| one["code"] == rule)
    };
    let found = entries
        .iter()
        .any(|entry| entry["kind"] == "denied" && codes(entry));
    if !found {
        eprintln!("{entries:#?}");
    }
    found
}

/// A text in an answer.
#[track_caller]
pub fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => panic!("no text: {value}"),
    }
}
