//! `schemas/POLICY.md`: department × purpose × field, for people who read no YAML. It is reviewed as a
//! diff; a test compares the committed file with this text.

use std::fmt::Write as _;

use crate::agreement::{Agreement, ScopeKind, Section};
use crate::contract::Contract;
use crate::dataset::{Classification, Dataset, Field, Share, Sharing};

/// The whole page, in Markdown. The same on every machine.
#[must_use]
pub fn policy_matrix(contract: &Contract) -> String {
    let mut page = String::new();
    // Writing to a String can't fail.
    let _ = write_page(contract, &mut page);
    page
}

fn write_page(contract: &Contract, page: &mut String) -> std::fmt::Result {
    page.push_str(concat!(
        "# 谁可以看什么 · Who may see what\n\n",
        "由契约生成，勿手改；改契约后运行 `MIANZHENG_BLESS=1 cargo test -p mz-contract policy`。\n",
        "Generated from the contract; don't edit. After a change run the command above and review the diff.\n\n",
        "| 标记 Mark | 含义 Meaning |\n|---|---|\n",
        "| ● | 提供 delivered |\n",
        "| ◐ *name* | 只用于计算答案，不提供 used for that derived answer, not delivered |\n",
        "| ○ | 只用于判断是否提供，不提供 read by the rule that decides, not delivered |\n",
        "| – | 不提供 withheld |\n\n",
    ));
    agreements(contract, page)?;
    for dataset in &contract.datasets {
        fields(contract, dataset, page)?;
    }
    Ok(())
}

fn agreements(contract: &Contract, page: &mut String) -> std::fmt::Result {
    page.push_str("## 协议 · Agreements\n\n");
    page.push_str("| 部门 Department | 用途 Purpose | 依据 Basis | 有效期 Term | 数据集 Dataset | 范围 About whom | 每日 A day | 批准 Approved by |\n");
    page.push_str("|---|---|---|---|---|---|---|---|\n");
    for agreement in &contract.agreements {
        let department = contract.department(&agreement.consumer);
        for section in &agreement.sections {
            let dataset = &contract.datasets[section.dataset_ix];
            writeln!(
                page,
                "| {} `{}` | {} `{}` | {} | {} – {}{} | `{}` | {} | {} | {}, {} |",
                department.map_or("", |d| d.name.zh.as_str()),
                agreement.consumer,
                agreement.title.zh,
                agreement.purpose,
                agreement.basis.kind.as_str(),
                agreement.valid_from,
                agreement.valid_until,
                standing(agreement),
                dataset.id,
                about_whom(agreement, section),
                section
                    .per_day
                    .map_or_else(|| "–".to_owned(), |most| format!("≤ {most}")),
                section.approval.approver,
                section.approval.document,
            )?;
        }
    }
    for agreement in &contract.agreements {
        cases(contract, agreement, page)?;
        consent(contract, agreement, page)?;
    }
    page.push('\n');
    Ok(())
}

const fn standing(agreement: &Agreement) -> &'static str {
    if agreement.ended() {
        " **terminated**"
    } else if agreement.suspended() {
        " **suspended**"
    } else {
        ""
    }
}

fn about_whom(agreement: &Agreement, section: &Section) -> String {
    let scope = match section.scope {
        ScopeKind::Case if agreement.consent.is_some() => "同意的人员 people who have consented",
        ScopeKind::Population => "全部人员 everybody",
        ScopeKind::Matching => "符合条件的记录 matching records",
        ScopeKind::Case => "有个案的人员 people with an open case",
    };
    match &section.filter {
        Some(rule) => format!("{scope}: `{}`", rule.source().replace('|', "\\|")),
        None => scope.to_owned(),
    }
}

fn cases(contract: &Contract, agreement: &Agreement, page: &mut String) -> std::fmt::Result {
    let Some(cases) = &agreement.cases else {
        return Ok(());
    };
    writeln!(page, "\n个案 Cases of `{}`:\n", agreement.id)?;
    for open in &cases.opens {
        let subjects: Vec<_> = open
            .subjects
            .iter()
            .map(|path| format!("`{}`", path.source))
            .collect();
        writeln!(
            page,
            "- 开启 opens for {} days on `{}` when `{}`, for {}",
            open.days,
            contract.datasets[open.dataset].id,
            open.when.source(),
            subjects.join(", ")
        )?;
    }
    if let Some(days) = cases.on_request_days {
        writeln!(
            page,
            "- 开启 opens for {days} days on the first evidence bundle"
        )?;
    }
    for close in &cases.closes {
        writeln!(
            page,
            "- 关闭 closes on `{}` when `{}`",
            contract.datasets[close.dataset].id,
            close.when.source()
        )?;
    }
    Ok(())
}

fn consent(contract: &Contract, agreement: &Agreement, page: &mut String) -> std::fmt::Result {
    let Some(terms) = &agreement.consent else {
        return Ok(());
    };
    writeln!(page, "\n同意 Consent under `{}`:\n", agreement.id)?;
    writeln!(
        page,
        "- 一次最长 at most {} days at a time, 告知版本 notice version {}",
        terms.max_days, terms.notice_version
    )?;
    writeln!(
        page,
        "- 撤回 withdrawal: {} {}",
        terms.withdrawal.zh, terms.withdrawal.en
    )?;
    let by: Vec<_> = terms.representation.iter().map(|by| by.as_str()).collect();
    writeln!(
        page,
        "- {} 岁以下由监护人同意 below {} a guardian consents; 接受代理 accepted representatives: {}",
        terms.minor_age,
        terms.minor_age,
        if by.is_empty() {
            "–".to_owned()
        } else {
            by.join(", ")
        }
    )?;
    let separate: Vec<_> = agreement
        .sections
        .iter()
        .flat_map(|section| {
            let dataset = &contract.datasets[section.dataset_ix];
            section.sensitive.iter().map(move |&index| {
                format!(
                    "`{}.{}`",
                    dataset.id,
                    dataset.fields[usize::from(index)].name
                )
            })
        })
        .collect();
    if !separate.is_empty() {
        writeln!(
            page,
            "- 单独同意 separate consent for {}",
            separate.join(", ")
        )?;
    }
    Ok(())
}

fn fields(contract: &Contract, dataset: &Dataset, page: &mut String) -> std::fmt::Result {
    let sharing = match dataset.sharing {
        Sharing::Unconditional => "无条件共享 unconditional",
        Sharing::Conditional => "有条件共享 conditional",
        Sharing::NotShared => "不予共享 not shared",
    };
    writeln!(page, "## {} · `{}`\n", dataset.title.zh, dataset.id)?;
    writeln!(page, "{}. {sharing}.\n", dataset.title.en)?;
    let readers: Vec<(&Agreement, &Section)> = contract
        .sections_of(dataset.ix)
        .iter()
        .map(|at| (&contract.agreements[at.agreement], contract.section(*at)))
        .collect();
    if readers.is_empty() {
        page.push_str("没有部门读取 Nobody reads it.\n\n");
        return Ok(());
    }
    page.push_str("| 字段 Field | 分类 Class |");
    for (agreement, _) in &readers {
        write!(page, " {} |", agreement.id)?;
    }
    page.push_str("\n|---|---|");
    page.push_str(&"---|".repeat(readers.len()));
    page.push('\n');
    for (index, field) in dataset.fields.iter().enumerate() {
        write!(
            page,
            "| {} `{}` | {} |",
            field.title.zh,
            field.name,
            class(field)
        )?;
        for (_, section) in &readers {
            write!(page, " {} |", mark(section, index))?;
        }
        page.push('\n');
    }
    page.push('\n');
    Ok(())
}

fn class(field: &Field) -> String {
    let class = match field.class {
        Classification::Public => "公开 public",
        Classification::Internal => "内部 internal",
        Classification::Personal => "个人 personal",
        Classification::Sensitive => "敏感个人 sensitive",
    };
    match field.share {
        Share::Allowed => class.to_owned(),
        Share::AnswerOnly => format!("{class}; 只能用于答案 answers only"),
        Share::Never => format!("{class}; 不得共享 never shared"),
    }
}

fn mark(section: &Section, index: usize) -> String {
    let Ok(index) = u16::try_from(index) else {
        return String::new();
    };
    if section.field_set.contains(index) {
        return "●".to_owned();
    }
    let answers: Vec<_> = section
        .answers
        .iter()
        .filter(|answer| answer.expr.fields().contains(&index))
        .map(|answer| format!("◐ *{}*", answer.name))
        .collect();
    if !answers.is_empty() {
        return answers.join(", ");
    }
    let read = section
        .filter
        .as_ref()
        .is_some_and(|rule| rule.fields().contains(&index));
    if read { "○" } else { "–" }.to_owned()
}
