//! `ledger audit`: each log from its files, the index and the hides against the logs; what does not agree is
//! named.

use std::path::Path;

use mz_contract::{Contract, Mode, Reasons};
use mz_ledger::batches::{Accepted, Batches, EQUIVOCATED, Equivocation};
use mz_ledger::check::{Report, check_after};
use mz_ledger::cosigned::{Cosigned, check_cosigned};
use mz_ledger::feed::{self, IndexReport};
use mz_ledger::index::Hidings;
use mz_ledger::limits::MAX_BATCHES_HELD;
use mz_ledger::log::{CHECKPOINT, Folder};
use mz_tlog::checkpoint::Checkpoint;
use serde_json::{Value, json};

use super::ledger::{feed_failure, logs, open_index, runtime, signed};
use crate::cli::LedgerAuditArgs;
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, lang, say};
use crate::say_line;

pub fn run(dir: &Path, audit: &LedgerAuditArgs) -> Outcome {
    let args = &audit.view;
    let instance = Instance::open(dir)?;
    let runtime = runtime()?;
    let index = audit
        .index
        .then(|| open_index(&instance, &runtime))
        .transpose()?;
    let contract = instance.contract(Mode::Draft)?;
    let reasons = Reasons::built_in();
    let (mut all, mut faults) = (Vec::new(), 0);
    let mut before: Option<Checkpoint> = None;
    let mut closed = super::absence::Auditing::new(&contract);
    let (mut batches, mut equivocated) = (Batches::new(MAX_BATCHES_HELD), 0);
    let mut hidings = Hidings::new(instance.settings.ledger.shards);
    for path in logs(args, &instance)? {
        let disk = Folder::new(&path);
        let (head, report) = match signed(&disk, &contract) {
            Ok(head) => {
                let report = check_after(&disk, head.size, &head.root, &mut batches);
                (Some(head), report)
            }
            Err(code) => (None, unsigned(code, &path)),
        };
        let mut report = follows(report, before.as_ref(), head.as_ref());
        let mut cosigned: Option<Cosigned> = None;
        if let Some(head) = head.as_ref().filter(|_| report.good()) {
            report.faults.extend(closed.check(&path, head));
            let found = check_cosigned(&disk, &head.origin, head.size, &contract);
            report.faults.extend(found.0);
            cosigned = found.1;
        }
        faults += report.faults.len();
        equivocated += report.equivocations.len();
        let rows = match &index {
            Some(index) if head.is_some() => {
                let found = runtime.block_on(feed::check_index(index, &path, &mut hidings));
                Some(found.map_err(feed_failure)?)
            }
            _ => None,
        };
        faults += rows
            .as_ref()
            .map_or(0, |rows| rows.faults.len() + rows.sums.len());
        if args.json {
            let mut value = as_json(&path, head.as_ref(), &report, rows.as_ref(), &contract);
            value["cosigned"] =
                json!(cosigned.map(
                    |cosigned| json!({"size": cosigned.size, "witnesses": cosigned.witnesses})
                ));
            all.push(value);
        } else {
            print_report(&path, head.as_ref(), &report, &reasons);
            cosigned.iter().for_each(print_cosigned);
            for found in &report.equivocations {
                print_equivocation(found, &contract, &reasons);
            }
            rows.iter().for_each(print_rows);
        }
        before = head;
    }
    if let Some(index) = &index {
        let hides = runtime.block_on(feed::check_hides(index, &hidings));
        let hides = hides.map_err(feed_failure)?;
        faults += hides.faults.len();
        match args.json {
            true => all.push(json!({ "hides": hides })),
            false => super::hide::print_checked(&hides, &reasons),
        }
    }
    if args.json {
        say_line!("{}", Value::from(all));
    }
    if batches.forgotten() > 0 && !args.json {
        say_line!(
            "{}",
            say(
                &format!("批次号的比对未涵盖较早的 {} 个批次", batches.forgotten()),
                &format!(
                    "batch numbers were not compared with {} older batches",
                    batches.forgotten()
                ),
            )
        );
    }
    match (faults, equivocated) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::silent(exit::EVIDENCE)),
        _ => Err(Failure::silent(exit::NOT_VERIFIED)),
    }
}

fn print_cosigned(cosigned: &Cosigned) {
    let (size, by) = (cosigned.size, cosigned.witnesses.join(", "));
    say_line!(
        "  {}",
        say(
            &format!("已联署至 {size} 条：{by}"),
            &format!("cosigned at {size} entries: {by}"),
        )
    );
}

fn equivocation_json(found: &Equivocation, contract: &Contract) -> Value {
    let batch = |batch: &Accepted| {
        json!({
            "audit_id": batch.id.to_string(), "events": batch.count,
            "root": mz_ledger::check::root_text(&batch.root), "key_id": batch.key_id,
        })
    };
    json!({
        "code": EQUIVOCATED, "stream": found.first.stream, "epoch": found.first.epoch,
        "batch": found.first.number, "first": batch(&found.first), "second": batch(&found.second),
        "signed_by_department": found.is_proven(contract),
    })
}

fn print_equivocation(found: &Equivocation, contract: &Contract, reasons: &Reasons) {
    let (first, second) = (&found.first, &found.second);
    let signed = if found.is_proven(contract) {
        say("两者均有该部门签名", "both signed by the department")
    } else {
        say(
            "合同中的密钥不能证实两者的签名",
            "the contract's keys don't confirm both signatures",
        )
    };
    say_line!(
        "  {EQUIVOCATED}: {} {}/{}: {} ≠ {}; {signed}",
        first.stream,
        first.epoch,
        first.number,
        first.id,
        second.id,
    );
    say_line!("    {}", reasons.text(EQUIVOCATED, lang()));
}

fn unsigned(code: &'static str, path: &Path) -> Report {
    let place = path.join(CHECKPOINT).display().to_string();
    Report {
        faults: vec![mz_ledger::check::Fault { code, place }],
        ..Report::default()
    }
}

/// A log names the one it follows: that must be the one before it, as it was closed.
fn follows(mut report: Report, before: Option<&Checkpoint>, head: Option<&Checkpoint>) -> Report {
    let (Some(opened), Some(head)) = (&report.opened, head) else {
        return report;
    };
    let shard = |origin: &str| origin.rsplit_once('/').map(|(shard, _)| shard.to_owned());
    let before = before.filter(|before| shard(&before.origin) == shard(&head.origin));
    let good = match before {
        Some(before) => {
            (&*opened.origin, opened.size, opened.root)
                == (&*before.origin, before.size, before.root)
        }
        // Kept elsewhere, or the shard's first.
        None => true,
    };
    if !good {
        report.faults.push(mz_ledger::check::Fault {
            code: "LEDGER_PREFIX_DIFFERS",
            place: format!("{} → {}", opened.origin, head.origin),
        });
    }
    report
}

fn as_json(
    path: &Path,
    head: Option<&Checkpoint>,
    report: &Report,
    rows: Option<&IndexReport>,
    contract: &Contract,
) -> Value {
    let breaks = report.breaks.iter().map(|(index, broken)| {
        json!({
            "entry": index, "code": broken.code, "writer": broken.writer, "lane": broken.lane,
            "last": broken.last, "found": broken.found, "offset": broken.offset,
        })
    });
    let faults = report.faults.iter();
    json!({
        "folder": path,
        "origin": head.map(|head| &head.origin),
        "size": report.size,
        "root": mz_ledger::check::root_text(&report.root),
        "records": report.records,
        "breaks": breaks.collect::<Vec<_>>(),
        "faults": faults.map(|fault| json!({"code": fault.code, "place": fault.place})).collect::<Vec<_>>(),
        "more_faults": report.more,
        "equivocations": report.equivocations.iter()
            .map(|found| equivocation_json(found, contract)).collect::<Vec<_>>(),
        "more_equivocations": report.more_equivocations,
        "index": rows.map(|rows| {
            json!({"indexed": rows.indexed, "faults": rows.faults, "sums": rows.sums})
        }),
    })
}

fn print_rows(rows: &IndexReport) {
    let good = rows.faults.is_empty() && rows.sums.is_empty();
    say_line!(
        "  {} {}: {}",
        say("索引", "index"),
        rows.indexed,
        if good {
            say("与账本一致", "as the log says")
        } else {
            say("与账本不一致", "not as the log says")
        }
    );
    for fault in &rows.faults {
        let column = fault.column.as_deref().unwrap_or_default();
        say_line!(
            "  {} {}: {:?} {column}",
            say("条目", "entry"),
            fault.leaf,
            fault.kind
        );
    }
    for sum in &rows.sums {
        let (day, agreement, dataset) = (sum.day, &sum.agreement, &sum.dataset);
        say_line!(
            "  {day} {agreement} {dataset} {}: {} ≠ {}",
            sum.kind,
            sum.stored,
            sum.counted
        );
    }
}

fn print_report(path: &Path, head: Option<&Checkpoint>, report: &Report, reasons: &Reasons) {
    let name = head.map_or_else(|| path.display().to_string(), |head| head.origin.clone());
    let verdict = if report.good() {
        say("完整", "whole")
    } else {
        say("有问题", "not whole")
    };
    say_line!(
        "{name}: {verdict}; {}",
        say(
            &format!("{} 条目,其中 {} 条审计记录", report.size, report.records),
            &format!(
                "{} entries, {} of them audit records",
                report.size, report.records
            ),
        )
    );
    for (index, broken) in &report.breaks {
        say_line!(
            "  {} {index}: {} ({} {}@{}: {} → {}) {}",
            say("条目", "entry"),
            broken.code,
            broken.writer,
            broken.lane,
            broken.offset,
            broken.last,
            broken.found,
            reasons.text(&broken.code, lang())
        );
    }
    for fault in &report.faults {
        let text = reasons.text(fault.code, lang());
        say_line!("  {}: {}: {text}", fault.place, fault.code);
    }
    if report.more > 0 {
        say_line!("  + {}", report.more);
    }
}
