//! `dry-run`: what would have differed under a changed contract, in counts.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mz_contract::{Mode, Reasons, load_draft};
use mz_gateway::replay::{Report, Row, dry_run, since};
use mz_keys::KeysDir;

use crate::cli::DryRunArgs;
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, coded, lang, say};
use crate::say_line;

pub fn run(dir: &Path, args: &DryRunArgs) -> Outcome {
    let since_ms = since(&args.since, now_ms()).ok_or_else(|| {
        let (code, reasons) = ("DRY_RUN_SINCE", Reasons::built_in());
        Failure::new(
            exit::USAGE,
            format!("{code}: {}", reasons.text(code, lang())),
        )
    })?;
    let instance = Instance::open(dir)?;
    let changed = Arc::new(load_draft(&args.contract)?);
    let in_force = Arc::new(instance.contract(Mode::Signed)?);
    let keys = KeysDir::new(instance.keys_dir());
    let keys = mz_gateway::Keys::load(&keys, &instance.contract_root())
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    let options = mz_gateway::Options::new(
        instance.bus("bus.gateway")?,
        in_force,
        Arc::new(keys),
        instance.settings.slots,
    );
    let report = dry_run(&options, changed, since_ms, &args.agreement)
        .map_err(|error| coded(exit::FAILED, error.code(), &error))?;
    if args.json {
        let text =
            serde_json::to_string(&report).map_err(|error| Failure::chain(exit::FAILED, &error))?;
        say_line!("{text}");
    } else {
        table(&report);
    }
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// One block for each agreement and dataset where anything differs.
fn table(report: &Report) {
    say_line!(
        "{}",
        say(
            &format!(
                "重新判断了 {} 条事件(另有 {} 条因授权开立而补判,{} 条被隔离,任何契约都不放行)",
                report.events, report.backfilled, report.refused
            ),
            &format!(
                "{} events decided again ({} more because a grant opened after them; {} quarantined, which no contract lets through)",
                report.events, report.backfilled, report.refused
            ),
        )
    );
    let reasons = Reasons::built_in();
    let mut same = 0;
    for row in &report.rows {
        if row.is_same() {
            same += 1;
        } else {
            difference(row, &reasons);
        }
    }
    say_line!(
        "{}",
        say(
            &format!("其余 {same} 项没有差别"),
            &format!("{same} others: no difference"),
        )
    );
    for note in &report.notes {
        say_line!("{}: {}", note.about, reasons.text(note.code, lang()));
    }
}

fn difference(row: &Row, reasons: &Reasons) {
    say_line!("{} <- {}", row.agreement, row.dataset);
    for (transition, count) in &row.transitions {
        let Some((before, after)) = transition.split_once("->") else {
            continue;
        };
        if before != after {
            say_line!("  {} -> {}: {count}", outcome(before), outcome(after));
        }
    }
    for (code, count) in &row.denied_by {
        let text = reasons.text(code, lang());
        say_line!("    {code} ({text}): {count}");
    }
    let line = |zh: &str, en: &str, what: String| say_line!("  {}: {what}", say(zh, en));
    if row.content_differs > 0 {
        let count = row.content_differs.to_string();
        line("仍投递但内容不同", "delivered, but not the same", count);
    }
    if !row.fields_added.is_empty() {
        line("新增字段", "fields added", row.fields_added.join(", "));
    }
    if !row.fields_withheld.is_empty() {
        line(
            "不再提供的字段",
            "fields withheld",
            row.fields_withheld.join(", "),
        );
    }
    line("涉及人数", "people concerned", row.people.to_string());
}

fn outcome(name: &str) -> String {
    match name {
        "delivered" => say("投递", "delivered"),
        "denied" => say("拒绝", "denied"),
        "out_of_scope" => say("范围外", "out of scope"),
        _ => say("无此约定", "not agreed"),
    }
}
