//! Grants, enforcement, withdrawals and the contract in force, as text for a terminal.

use mz_consent::model::{
    Because, BecauseSection, Changed, Enforcement, EnforcementState, Erased, Given, GrantView,
    InForceView, Listed, Opened, VersionEntry, WithdrawalView, Withdrawals,
};
use mz_consent::record::{ConsentRecord, Covered, Receipt};
use mz_contract::{Lang, Reasons};

use super::{line, pick};
use crate::sheet::local;

/// What the person consented to, and since when it holds.
pub fn given(given: &Given, lang: Lang) -> String {
    let mut out = receipt(&given.receipt, lang);
    enforcement(&mut out, &given.enforcement, lang);
    out
}

/// What a receipt says.
pub fn receipt(receipt: &Receipt, lang: Lang) -> String {
    record(&receipt.consent, lang)
}

/// A consent: who gets what, until when, and how to take it back.
pub fn record(consent: &ConsentRecord, lang: Lang) -> String {
    let mut out = String::new();
    let both = |text: &mz_consent::record::Text| pick_text(lang, &text.zh, &text.en).to_owned();
    line(
        &mut out,
        &format!(
            "{} {} → {} · {}",
            pick(lang, "同意", "consent"),
            consent.record_id,
            both(&consent.recipient_title),
            both(&consent.purpose_title)
        ),
    );
    for covered in &consent.data {
        line(&mut out, &format!("  {}", covered_line(covered, lang)));
    }
    let until = format!(
        "  {} {} · {} {} · {} {}",
        pick(lang, "给出于", "given"),
        local(&consent.given_at),
        pick(lang, "有效至", "valid until"),
        consent.valid_until,
        pick(lang, "结束后保留天数", "days kept after it ends"),
        consent.retention_days
    );
    line(&mut out, &until);
    let withdrawal = both(&consent.withdrawal);
    if !withdrawal.is_empty() {
        let label = pick(lang, "撤回方式", "to withdraw");
        line(&mut out, &format!("  {label}: {withdrawal}"));
    }
    out
}

fn covered_line(covered: &Covered, lang: Lang) -> String {
    let mark = |field: &String| {
        if covered.separate.contains(field) {
            format!("{field}*")
        } else {
            field.clone()
        }
    };
    let fields: Vec<String> = covered.fields.iter().map(mark).collect();
    let note = if covered.separate.is_empty() {
        ""
    } else {
        pick(lang, "（*单独同意）", " (* separate consent)")
    };
    format!(
        "{} ({}): {}{note}",
        pick_text(lang, &covered.title.zh, &covered.title.en),
        covered.provider,
        fields.join(", ")
    )
}

/// A grant as it is now, and whether that holds everywhere.
pub fn changed(changed: &Changed, lang: Lang) -> String {
    let mut out = String::new();
    grant(&mut out, &changed.grant, lang);
    enforcement(&mut out, &changed.enforcement, lang);
    out
}

/// The grants of a case, one a person.
pub fn opened(opened: &Opened, lang: Lang) -> String {
    let mut out = String::new();
    for view in &opened.grants {
        grant(&mut out, view, lang);
    }
    for entry in &opened.enforcement {
        enforcement(&mut out, entry, lang);
    }
    out
}

/// A person's grants; with `history`, what was done to them.
pub fn listed(listed: &Listed, history: bool, lang: Lang) -> String {
    let mut out = String::new();
    if listed.grants.is_empty() {
        line(&mut out, pick(lang, "没有授权。", "There are no grants."));
    }
    for view in &listed.grants {
        grant(&mut out, view, lang);
        let own = listed.history.iter().filter(|entry| entry.grant == view.id);
        for entry in own.filter(|_| history) {
            line(
                &mut out,
                &format!(
                    "    {} {} #{} · {} {} · {}",
                    local(&entry.at),
                    action(&entry.action, lang),
                    entry.counter,
                    entry.principal,
                    entry.operator,
                    entry.reason
                ),
            );
        }
    }
    out
}

fn grant(out: &mut String, view: &GrantView, lang: Lang) {
    let kind = match view.kind.as_str() {
        "consent" => pick(lang, "同意", "consent"),
        "case" => pick(lang, "办件", "case"),
        other => other,
    };
    line(
        out,
        &format!(
            "{} [{}] {kind} · {} ({})",
            view.id,
            status(&view.status, lang),
            pick_text(lang, &view.title_zh, &view.title_en),
            view.agreement
        ),
    );
    let datasets = if view.datasets.is_empty() {
        pick(lang, "协议的全部数据", "all of the agreement").to_owned()
    } else {
        view.datasets.join(", ")
    };
    line(out, &format!("    {datasets}"));
    let (from, to) = (local(&view.opened_at), local(&view.expires_at));
    let mut dates = format!("    {from} – {to}");
    if let Some(closed) = &view.closed_at {
        let label = pick(lang, "结束于", "closed");
        dates = format!("{dates} · {label} {}", local(closed));
    }
    line(out, &dates);
}

fn enforcement(out: &mut String, it: &Enforcement, lang: Lang) {
    let place = format!("bus.grants[{}]@{}", it.lane, it.position);
    let mut text = match (it.state, &it.at) {
        (EnforcementState::Enforced, at) => format!(
            "{} {} · {place}",
            pick(lang, "已生效", "enforced"),
            at.as_deref().map(local).unwrap_or_default()
        ),
        (EnforcementState::Pending, _) => format!(
            "{}: {} · {place} · {} ms",
            pick(lang, "尚未确认生效，等待", "PENDING, waiting for"),
            it.missing.join(", "),
            it.waited_ms
        ),
    };
    if !it.fenced.is_empty() {
        let label = pick(lang, "已隔离", "shut out");
        text = format!("{text} · {label} {}", it.fenced.join(", "));
    }
    line(out, &text);
}

/// Whether a change holds everywhere.
pub fn enforced(it: &Enforcement, lang: Lang) -> String {
    let mut out = String::new();
    enforcement(&mut out, it, lang);
    out
}

/// A barrier over all lanes, in one line where it holds.
fn barrier(out: &mut String, all: &[Enforcement], lang: Lang) {
    let pending = all
        .iter()
        .filter(|it| it.state == EnforcementState::Pending);
    let pending: Vec<&Enforcement> = pending.collect();
    if pending.is_empty() {
        let at = all.iter().filter_map(|it| it.at.as_deref()).max();
        line(
            out,
            &format!(
                "{} {} ({} {})",
                pick(lang, "已生效", "enforced"),
                at.map(local).unwrap_or_default(),
                all.len(),
                pick(lang, "个泳道", "lanes")
            ),
        );
    }
    for it in pending {
        enforcement(out, it, lang);
    }
}

/// A version that is in force, and what follows from it.
pub fn in_force(view: &InForceView, lang: Lang) -> String {
    let mut out = String::new();
    let label = pick(lang, "契约版本", "contract version");
    line(
        &mut out,
        &format!("{label} {} {}", view.version, view.digest),
    );
    barrier(&mut out, &view.enforcement, lang);
    line(
        &mut out,
        &format!(
            "{} {} · {} {}",
            pick(lang, "补送人数", "people sent once more"),
            view.refetched,
            pick(lang, "收回条数", "records to withdraw"),
            view.withdrawals
        ),
    );
    out
}

/// The versions that were in force.
pub fn versions(entries: &[VersionEntry], lang: Lang) -> String {
    let mut out = String::new();
    for entry in entries {
        line(
            &mut out,
            &format!(
                "{:>4} {} {} {} · {} {} · {}",
                entry.version,
                local(&entry.at),
                action(&entry.act, lang),
                entry.agreement,
                entry.principal,
                entry.operator,
                entry.reason
            ),
        );
        line(&mut out, &format!("     {}", entry.digest));
    }
    out
}

/// Orders to withdraw, the state of each, and the age of those without a receipt.
pub fn withdrawals(page: &Withdrawals, reasons: &Reasons, lang: Lang) -> String {
    let mut out = String::new();
    for it in &page.withdrawals {
        withdrawal(&mut out, it, reasons, lang);
    }
    line(
        &mut out,
        &format!(
            "{}: {} · {}: {}",
            pick(lang, "未回执", "without a receipt"),
            page.open,
            pick(lang, "最久", "the oldest"),
            age(page.oldest_s, lang)
        ),
    );
    out
}

fn withdrawal(out: &mut String, it: &WithdrawalView, reasons: &Reasons, lang: Lang) {
    let state = match (&it.declined, &it.receipt_at, it.action.as_deref()) {
        (Some(code), ..) => format!(
            "{}: {}",
            pick(lang, "未执行", "not carried out"),
            reasons.text(code, lang)
        ),
        (None, Some(at), done) => format!("{} {}", receipt_action(done, lang), local(at)),
        (None, None, _) => {
            let age = it.age_s.map(|s| age(s, lang)).unwrap_or_default();
            let label = if it.executed_at.is_some() {
                pick(lang, "已送达，未回执", "told, no receipt")
            } else {
                pick(lang, "已下达，未送达", "ordered, not told yet")
            };
            format!("{label} {age}")
        }
    };
    line(
        out,
        &format!(
            "{} {} · {} · {} · {}",
            local(&it.ordered_at),
            it.agreement,
            it.dataset,
            reasons.text(&it.reason, lang),
            state
        ),
    );
    line(out, &format!("    {}", it.order));
}

fn receipt_action(done: Option<&str>, lang: Lang) -> &str {
    match done {
        Some("deleted") => pick(lang, "已删除", "deleted"),
        Some("frozen") => pick(lang, "已冻结", "frozen (legal hold)"),
        Some("marked") => pick(lang, "已标记停用", "marked"),
        Some("absent") => pick(lang, "本就没有", "was not there"),
        Some(other) => other,
        None => pick(lang, "已回执", "receipt"),
    }
}

/// What was erased, and what remains where.
pub fn erased(it: &Erased, lang: Lang) -> String {
    let mut out = String::new();
    barrier(&mut out, &it.enforcement, lang);
    line(
        &mut out,
        &format!(
            "{} {} · {} {} ({} {})",
            pick(lang, "结束授权", "grants closed"),
            it.grants_closed,
            pick(lang, "收回", "withdrawals"),
            it.withdrawals,
            pick(lang, "未回执", "without a receipt"),
            it.withdrawals_open
        ),
    );
    let key = match (&it.key_destroyed, &it.key_destroyed_at) {
        (Some(audit), at) => format!(
            "{} {} [{audit}]",
            pick(lang, "密钥已销毁", "key destroyed"),
            at.as_deref().map(local).unwrap_or_default()
        ),
        (None, _) => format!(
            "{} --request-id {}",
            pick(
                lang,
                "密钥尚未销毁，稍后再问：",
                "key not destroyed yet; ask again with"
            ),
            it.request_id
        ),
    };
    line(&mut out, &key);
    for rest in &it.remains {
        let until = rest.until.as_deref().map_or_else(
            || pick(lang, "随日志保存", "as long as the log is kept").to_owned(),
            |until| format!("{} {}", pick(lang, "至", "until"), local(until)),
        );
        let what = pick_text(lang, &rest.what_zh, &rest.what_en);
        line(&mut out, &format!("  {}: {what} · {until}", rest.place));
    }
    out
}

/// For each field: allowed or withheld, by which rule, and what would change it.
pub fn because(it: &Because, reasons: &Reasons, lang: Lang) -> String {
    let mut out = String::new();
    let flag = |on: bool, zh, en| on.then(|| pick(lang, zh, en));
    let flags = [
        flag(!it.in_term, "不在有效期", "out of term"),
        flag(it.suspended, "已中止", "suspended"),
        flag(it.terminated, "已终止", "terminated"),
    ];
    let flags: Vec<&str> = flags.into_iter().flatten().collect();
    line(
        &mut out,
        &format!(
            "{} · {} {} · {} {} {}",
            it.agreement,
            pick(lang, "依据", "basis"),
            it.basis,
            pick(lang, "契约版本", "contract version"),
            it.contract_version,
            flags.join(" · ")
        ),
    );
    for section in &it.sections {
        because_section(&mut out, section, reasons, lang);
    }
    out
}

fn because_section(out: &mut String, it: &BecauseSection, reasons: &Reasons, lang: Lang) {
    let flows = if it.flows {
        pick(lang, "提供", "flows")
    } else {
        pick(lang, "不提供", "does not flow")
    };
    line(
        out,
        &format!(
            "■ {} ({}) · {flows}: {} ({})",
            pick_text(lang, &it.title_zh, &it.title_en),
            it.dataset,
            pick_text(lang, &it.rule_zh, &it.rule_en),
            it.rule
        ),
    );
    if let Some(filter) = &it.filter {
        let label = pick(lang, "行过滤", "row filter");
        line(out, &format!("    {label}: {filter}"));
    }
    if let Some(grant) = &it.grant {
        line(
            out,
            &format!("    {}: {grant}", pick(lang, "授权", "grant")),
        );
    }
    let titles = |field: &mz_consent::model::BecauseField| {
        format!(
            "{} {}",
            pick_text(lang, &field.title_zh, &field.title_en),
            field.name
        )
    };
    let widest = it.fields.iter().map(|field| width(&titles(field))).max();
    for field in &it.fields {
        let mark = if field.allowed {
            pick(lang, "✓ 提供", "✓ allowed ")
        } else {
            pick(lang, "✗ 不给", "✗ withheld")
        };
        let title = titles(field);
        let gap = " ".repeat(widest.unwrap_or(0).saturating_sub(width(&title)));
        let rule = reasons.text(&field.rule, lang);
        line(out, &format!("    {title}{gap}  {mark}  {rule}"));
    }
    let change = pick_text(lang, &it.change_zh, &it.change_en);
    if !change.is_empty() {
        let label = pick(lang, "怎样会改变", "what would change it");
        line(out, &format!("    {label}: {change}"));
    }
    if it.held > 0 {
        let since = it.held_since.as_deref().map(local).unwrap_or_default();
        line(
            out,
            &format!(
                "    {} {} {since}",
                pick(lang, "该部门现存记录", "records held now"),
                it.held
            ),
        );
    }
}

fn status(status: &str, lang: Lang) -> &str {
    match status {
        "open" => pick(lang, "有效", "open"),
        "paused" => pick(lang, "暂停", "paused"),
        "closed" => pick(lang, "结束", "closed"),
        "expired" => pick(lang, "过期", "expired"),
        other => other,
    }
}

fn action(action: &str, lang: Lang) -> &str {
    match action {
        "given" => pick(lang, "同意", "given"),
        "opened" => pick(lang, "立案", "opened"),
        "revoked" => pick(lang, "撤回", "revoked"),
        "paused" => pick(lang, "暂停", "paused"),
        "resumed" => pick(lang, "恢复", "resumed"),
        "extended" => pick(lang, "延长", "extended"),
        "closed" => pick(lang, "结案", "closed"),
        "refetched" => pick(lang, "补送", "sent once more"),
        "start" => pick(lang, "初始", "start"),
        "activate" => pick(lang, "启用", "activate"),
        "suspend" => pick(lang, "中止", "suspend"),
        "resume" => pick(lang, "恢复", "resume"),
        "terminate" => pick(lang, "终止", "terminate"),
        other => other,
    }
}

fn pick_text<'a>(lang: Lang, zh: &'a str, en: &'a str) -> &'a str {
    match lang {
        Lang::Zh => zh,
        Lang::En => en,
    }
}

/// Seconds as people say them.
fn age(seconds: u64, lang: Lang) -> String {
    let (count, zh, en) = match seconds {
        0..=119 => (seconds, "秒", "s"),
        120..=7_199 => (seconds / 60, "分钟", "min"),
        7_200..=172_799 => (seconds / 3_600, "小时", "h"),
        _ => (seconds / 86_400, "天", "d"),
    };
    format!("{count} {}", pick(lang, zh, en))
}

/// Columns on a terminal: East Asian wide characters take two.
fn width(text: &str) -> usize {
    let columns = |c: char| match u32::from(c) {
        0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF => 2,
        0xFE30..=0xFE6F | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 | 0x20000..=0x3FFFD => 2,
        _ => 1,
    };
    text.chars().map(columns).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_columns() {
        assert_eq!(age(90, Lang::En), "90 s");
        assert_eq!(age(3_600, Lang::Zh), "60 分钟");
        assert_eq!(age(172_800, Lang::En), "2 d");
        assert_eq!((width("姓名 name"), width("")), (9, 0));
    }
}
