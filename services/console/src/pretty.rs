//! Bundles and logs as text for a terminal, in Chinese or English.

pub mod grants;

use std::fmt::Write as _;

use mz_contract::Lang;
use mz_vault::bundle::{Bundle, FactState, Text};

use crate::rows::{Field, Row, rows};
use crate::sheet::{local, state_text};
use crate::who_read::{Entry, Named, Page};

fn say(text: &Text, lang: Lang) -> &str {
    match lang {
        Lang::Zh => &text.zh,
        Lang::En => &text.en,
    }
}

fn pick(lang: Lang, zh: &'static str, en: &'static str) -> &'static str {
    match lang {
        Lang::Zh => zh,
        Lang::En => en,
    }
}

/// What the bundle says, a fact a paragraph.
pub fn bundle(bundle: &Bundle, lang: Lang) -> String {
    let mut out = String::new();
    line(
        &mut out,
        &format!(
            "{} · {} {}",
            say(&bundle.item_title, lang),
            pick(lang, "证明材料包", "evidence bundle"),
            bundle.bundle_id
        ),
    );
    line(
        &mut out,
        &format!(
            "{} {} · {} {}",
            pick(lang, "出具", "issued"),
            local(&bundle.issued_at),
            pick(lang, "审计", "audit"),
            bundle.audit_id
        ),
    );
    for row in rows(&bundle.facts, lang) {
        fact_lines(&mut out, &row, lang);
    }
    let days = match bundle.outcome.working_days {
        0 => pick(lang, "即来即办", "same visit").to_owned(),
        days => format!("{days} {}", pick(lang, "个工作日", "working days")),
    };
    line(
        &mut out,
        &format!(
            "{}: {} ({days})",
            pick(lang, "系统建议", "proposal"),
            say(&bundle.outcome.title, lang)
        ),
    );
    for reason in &bundle.outcome.reasons {
        line(
            &mut out,
            &format!("  - {}", pick_reason(lang, &reason.zh, &reason.en)),
        );
    }
    out
}

fn fact_lines(out: &mut String, row: &Row<'_>, lang: Lang) {
    let fact = row.entry;
    let state = say(&state_text(fact.state), lang).to_owned();
    line(
        out,
        &format!(
            "[{state}] {} · {}",
            say(&fact.need_title, lang),
            say(&fact.department_title, lang)
        ),
    );
    if let Some(reason) = &fact.reason {
        line(
            out,
            &format!("    {}", pick_reason(lang, &reason.zh, &reason.en)),
        );
    }
    for Field { title, value } in &row.fields {
        line(out, &format!("    {title}: {value}"));
    }
    if let Some(as_of) = &row.as_of {
        line(
            out,
            &format!("    {} {as_of}", pick(lang, "数据时点", "as of")),
        );
    }
    match (&fact.since, &fact.complete_to, fact.state) {
        (Some(since), _, _) => {
            line(
                out,
                &format!(
                    "    {} {}",
                    pick(lang, "来源滞后,自", "source behind since"),
                    local(since)
                ),
            );
        }
        (None, Some(to), FactState::None) => {
            line(
                out,
                &format!(
                    "    {} {}",
                    pick(lang, "来源完整至", "source complete to"),
                    local(to)
                ),
            );
        }
        _ => {}
    }
}

/// One line per entry: when, who, what, which fields, under which rule.
pub fn who_read(page: &Page, lang: Lang) -> String {
    let mut out = String::new();
    for entry in &page.entries {
        entry_lines(&mut out, entry, lang);
    }
    if page.entries.is_empty() {
        line(
            &mut out,
            pick(lang, "没有任何部门读取过。", "Nobody has read anything."),
        );
    }
    for walked in &page.chains {
        line(
            &mut out,
            &format!(
                "{} {} {}..{}",
                pick(lang, "已核对日志链", "log chain checked"),
                walked.writer,
                walked.first,
                walked.last
            ),
        );
    }
    for broken in &page.breaks {
        line(
            &mut out,
            &format!(
                "!! {} {} ({} {}): {}",
                pick(lang, "日志链断裂", "LOG CHAIN BROKEN"),
                broken.code,
                broken.writer,
                broken.offset,
                broken.detail
            ),
        );
    }
    line(
        &mut out,
        &format!(
            "{} {}",
            pick(lang, "本次查询已记入审计:", "this query is in the log as"),
            page.audit_id
        ),
    );
    out
}

fn entry_lines(out: &mut String, entry: &Entry, lang: Lang) {
    let what = match (entry.kind.as_str(), lang) {
        ("delivered", Lang::Zh) => "送达",
        ("denied", Lang::Zh) => "拒绝",
        ("lookup", Lang::Zh) => "查询",
        ("exposed", Lang::Zh) => "可能泄露",
        ("case_opened", Lang::Zh) => "立案",
        ("case_closed", Lang::Zh) => "结案",
        ("withdrawn", Lang::Zh) => "收回",
        ("order_declined", Lang::Zh) => "收回未执行",
        ("superseded", Lang::Zh) => "不再符合条件",
        ("consent_given", Lang::Zh) => "同意",
        ("grant_changed", Lang::Zh) => "授权变更",
        ("consent_revoked", Lang::Zh) => "撤回同意",
        ("erased", Lang::Zh) => "删除",
        (other, _) => other,
    };
    line(
        out,
        &format!(
            "{} {what} {} · {} · {} [{}]",
            local(&entry.at),
            named(&entry.department, lang),
            named(&entry.agreement, lang),
            named(&entry.dataset, lang),
            entry.audit_id
        ),
    );
    if !entry.fields.is_empty() {
        let fields: Vec<&str> = entry
            .fields
            .iter()
            .map(|field| named(field, lang))
            .collect();
        line(
            out,
            &format!(
                "    {}: {}",
                pick(lang, "字段", "fields"),
                fields.join(", ")
            ),
        );
    }
    for rule in &entry.rules {
        line(
            out,
            &format!(
                "    {}: {}",
                pick(lang, "依据", "rule"),
                pick_reason(lang, &rule.zh, &rule.en)
            ),
        );
    }
    if !entry.operator.is_empty() {
        line(
            out,
            &format!(
                "    {}: {} · {}",
                pick(lang, "经办人", "operator"),
                entry.operator,
                entry.reason
            ),
        );
    }
}

fn named(named: &Named, lang: Lang) -> &str {
    let title = say(&named.title, lang);
    if !title.is_empty() {
        title
    } else if named.id.is_empty() {
        "—"
    } else {
        &named.id
    }
}

fn pick_reason<'a>(lang: Lang, zh: &'a str, en: &'a str) -> &'a str {
    match lang {
        Lang::Zh => zh,
        Lang::En => en,
    }
}

/// Text from registers and operators ends up on a terminal: no escape sequence may come with it.
fn line(out: &mut String, text: &str) {
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    // Writing to a String can't fail.
    let _ = writeln!(out, "{clean}");
}
