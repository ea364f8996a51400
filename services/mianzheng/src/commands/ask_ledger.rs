//! `ledger ask`: an auditor's questions, page after page.

use std::path::Path;

use anyhow::Context;
use chrono::{Days as More, NaiveDate, Utc};
use mz_console::{Client, LedgerRequest, Question};
use mz_ledger::index::{Days, GroupBy, PageRequest};
use serde_json::Value;

use super::evidence::stdin_only;
use crate::cli::{AskedArgs, LedgerAsk, UsedBy};
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, coded, say};
use crate::say_line;

/// Pages that are joined before the command gives up.
pub const MAX_PAGES: usize = 10_000;

pub fn run(dir: &Path, ask: &LedgerAsk) -> Outcome {
    let instance = Instance::open(dir)?;
    let (question, asked) = match ask {
        LedgerAsk::WhoRead {
            id,
            consumer,
            asked,
        } => {
            let id = stdin_only(id)?.as_str().to_owned();
            let (days, consumer) = (days(asked)?, consumer.clone());
            (Question::WhoRead { id, days, consumer }, asked)
        }
        LedgerAsk::FindUsage { id, asked } => {
            let id = stdin_only(id)?.as_str().to_owned();
            let days = days(asked)?;
            (Question::FindUsage { id, days }, asked)
        }
        LedgerAsk::Department {
            consumer,
            by,
            asked,
        } => {
            let by = match by {
                UsedBy::Purpose => GroupBy::Purpose,
                UsedBy::Dataset => GroupBy::Dataset,
                UsedBy::Field => GroupBy::Field,
                UsedBy::Day => GroupBy::Day,
            };
            let (consumer, days) = (consumer.clone(), days(asked)?);
            (Question::Department { consumer, days, by }, asked)
        }
        LedgerAsk::Denials { asked } => (Question::Denials { days: days(asked)? }, asked),
        LedgerAsk::Unused { asked } => (Question::Unused { days: days(asked)? }, asked),
        LedgerAsk::Rate {
            agreement,
            dataset,
            asked,
        } => {
            let (agreement, dataset, days) = (agreement.clone(), dataset.clone(), days(asked)?);
            let question = Question::Rate {
                agreement,
                dataset,
                days,
            };
            (question, asked)
        }
        LedgerAsk::OverReach { consumer, asked } => {
            let (days, consumer) = (days(asked)?, consumer.clone());
            (Question::OverReach { days, consumer }, asked)
        }
        LedgerAsk::Gaps { provider, asked } => {
            let (days, provider) = (days(asked)?, provider.clone());
            (Question::Gaps { days, provider }, asked)
        }
    };
    let tls = instance.tls(&asked.principal)?;
    let client = Client::new(&format!("https://{}", instance.settings.http.vault), &tls)
        .map_err(|error| coded(exit::FAILED, error.code(), &error))?;
    let mut request = LedgerRequest {
        operator: asked.operator.clone(),
        reason: asked.reason.clone(),
        question,
        page: PageRequest::default(),
    };
    let mut header = Vec::new();
    for _ in 0..MAX_PAGES {
        let answer = client
            .ask_ledger(&request)
            .map_err(|error| coded(exit::FAILED, error.code(), &error))?;
        for item in &answer.items {
            show(item, (asked.json, asked.csv), &mut header)?;
        }
        if answer.cursor.is_none() {
            return Ok(());
        }
        request.page.cursor = answer.cursor;
    }
    Err(Failure::silent(exit::FAILED))
}

pub fn day(text: &str) -> Result<NaiveDate, Failure> {
    text.parse().map_err(|_| {
        let text = say(
            &format!("不是日期：{text}，应为 2026-11-01"),
            &format!("not a day: {text}; 2026-11-01 is wanted"),
        );
        Failure::new(exit::USAGE, text)
    })
}

fn days(asked: &AskedArgs) -> Result<Days, Failure> {
    let today = Utc::now().date_naive();
    let from = match &asked.from {
        Some(text) => day(text)?,
        None => today.checked_sub_days(More::new(365)).unwrap_or(today),
    };
    let to = match &asked.to {
        Some(text) => day(text)?,
        None => today.checked_add_days(More::new(1)).unwrap_or(today),
    };
    Ok(Days { from, to })
}

/// One line an item; the columns are those of the first.
pub fn show(item: &Value, (json, csv): (bool, bool), header: &mut Vec<String>) -> Outcome {
    if json {
        say_line!("{item}");
        return Ok(());
    }
    let fields = item.as_object().context("an item is no object")?;
    let separator = if csv { "," } else { "  " };
    if header.is_empty() {
        header.extend(fields.keys().cloned());
        say_line!("{}", header.join(separator));
    }
    let cells = header.iter().map(|name| {
        let text = cell(&item[name.as_str()]);
        if csv { quoted(&text) } else { text }
    });
    say_line!("{}", cells.collect::<Vec<_>>().join(separator));
    Ok(())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        // A day and a number, first and last: short, in one cell.
        Value::Object(fields) => fields.values().map(cell).collect::<Vec<_>>().join(":"),
        other => other.to_string(),
    }
}

/// RFC 4180; a cell that a spreadsheet would take for a formula gets an apostrophe.
fn quoted(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@']);
    let text = if formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn cells_are_quoted_and_no_formula() {
        for (text, cell) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "'=1+1"),
            ("", ""),
        ] {
            assert_eq!(quoted(text), cell);
        }
    }
}
