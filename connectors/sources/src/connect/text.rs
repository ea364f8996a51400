//! What a run did, for a person: counts, rejects by reason with their remedy, and for a plan how
//! often each field is filled. No value of any row.

use mz_contract::{Lang, Reasons};
use mz_sdk::Report;
use mz_sdk::connector::by_code;
use std::fmt::Write;
use std::path::Path;

/// The summary of a run or a plan.
#[must_use]
pub fn summary(
    report: &Report,
    plan: bool,
    rejects: &Path,
    reasons: &Reasons,
    lang: Lang,
) -> String {
    let zh = lang == Lang::Zh;
    let mut out = String::new();
    let Report {
        events,
        new,
        changed,
        unchanged,
        withdrawn,
        skipped,
        held,
        transactions,
        ..
    } = report;
    let seconds = report.elapsed.as_secs_f64();
    // Shown to a person: a rounded rate is enough.
    let rate = if seconds > 0.0 {
        (*events as f64 / seconds).round()
    } else {
        0.0
    };
    // Writing to a String can't fail.
    let _ = match (zh, plan) {
        (true, true) => writeln!(
            out,
            "将发布：新增 {new}，变更 {changed}，撤回 {withdrawn}（未变 {unchanged}，略过 {skipped}）"
        ),
        (false, true) => writeln!(
            out,
            "would publish: {new} new, {changed} changed, {withdrawn} withdrawn ({unchanged} unchanged, {skipped} left out)"
        ),
        (true, false) => writeln!(
            out,
            "已发布：新增 {new}，变更 {changed}，撤回 {withdrawn}（未变 {unchanged}，略过 {skipped}）；{transactions} 个事务，{seconds:.1} 秒，每秒 {rate} 条"
        ),
        (false, false) => writeln!(
            out,
            "published: {new} new, {changed} changed, {withdrawn} withdrawn ({unchanged} unchanged, {skipped} left out); {transactions} transactions, {seconds:.1} s, {rate}/s"
        ),
    };
    if report.without_checkpoint {
        let _ = writeln!(
            out,
            "{}",
            if zh {
                "读不到检查点：全部按新增计"
            } else {
                "the checkpoint can't be read: everything counts as new"
            }
        );
    }
    if *held > 0 {
        let _ = match zh {
            true => writeln!(out, "{held} 条记录不再出现，但不能确定已注销，未撤回"),
            false => writeln!(
                out,
                "{held} records no longer appear; that they are void is not certain, so none was withdrawn"
            ),
        };
    }
    for (dataset, fields) in &report.filled {
        let _ = writeln!(out, "{dataset}");
        for (name, count) in fields {
            let _ = writeln!(out, "    {name:<24} {count:>10}");
        }
    }
    if report.rejects() > 0 {
        let total = report.rejects();
        let _ = match zh {
            true => writeln!(out, "拒收 {total}，见 {}", rejects.display()),
            false => writeln!(out, "{total} rejected, see {}", rejects.display()),
        };
        for (code, count) in by_code(&report.rejected) {
            let text = reasons.render(code, lang, &[("field", ""), ("detail", "")]);
            let _ = writeln!(out, "    {count:>8}  {code}  {text}");
            if let Some(fix) = reasons.fix(code, lang) {
                let _ = writeln!(out, "              → {fix}");
            }
        }
    }
    out
}
