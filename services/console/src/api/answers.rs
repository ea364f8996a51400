//! Questions of `POST /v1/ledger/ask` answered from the index, with fields by their names in the contract.

use std::num::NonZeroU32;

use mz_contract::{Contract, Section};
use mz_journal::{SubjectTag, field_bitmap};
use mz_ledger::index::{Agreed, Days, Index, IndexError, Period, Promised};
use serde::Serialize;
use serde_json::Value;

use super::ledger::{LedgerRequest, Question};

/// Items, and the cursor for what follows.
pub type Answered = (Vec<Value>, Option<String>);

pub async fn answer(
    index: &Index,
    contract: &Contract,
    request: &LedgerRequest,
    subject: SubjectTag,
) -> Result<Answered, IndexError> {
    let page = &request.page;
    match &request.question {
        Question::WhoRead { days, consumer, .. } => {
            let found = index.who_read(&subject, period(*days), consumer.as_deref(), page);
            values(found.await?, |_| {})
        }
        Question::FindUsage { days, .. } => {
            let now = mz_ledger::system_clock();
            let found = index.find_usage(&subject, period(*days), now, page);
            values(found.await?, |_| {})
        }
        Question::Department { consumer, days, by } => {
            let found = index.department(consumer, *days, *by, page).await?;
            values(found, |item| named(item, contract))
        }
        Question::Denials { days } => values(index.denials(*days, page).await?, |_| {}),
        Question::Unused { days } => {
            let found = index.unused_fields(&agreed(contract), *days).await?;
            let all = mz_ledger::index::Page {
                items: found,
                cursor: None,
            };
            values(all, |item| all_named(item, contract))
        }
        Question::Rate {
            agreement,
            dataset,
            days,
        } => values(index.rate(agreement, dataset, *days, page).await?, |_| {}),
        Question::OverReach { days, consumer } => {
            let promised = promised(contract, consumer.as_deref());
            let found = index.over_reach(&promised, *days, page).await?;
            values(found, |item| all_named(item, contract))
        }
        // Needs the source topics beside the index: `gaps`.
        // `Label` was answered by the vault's key.
        Question::Gaps { .. } | Question::Label { .. } => Err(IndexError::Damaged("question")),
    }
}

pub fn period(days: Days) -> Period {
    Period {
        from_ms: start_of(days.from),
        to_ms: start_of(days.to),
    }
}

/// Midnight, UTC.
pub fn start_of(day: chrono::NaiveDate) -> i64 {
    let midnight = day.and_time(chrono::NaiveTime::MIN);
    midnight.and_utc().timestamp_millis()
}

pub fn values<T: Serialize>(
    page: mz_ledger::index::Page<T>,
    change: impl Fn(&mut Value),
) -> Result<Answered, IndexError> {
    let mut items = Vec::new();
    for item in page.items {
        let mut value = serde_json::to_value(item).map_err(|_| IndexError::Damaged("answer"))?;
        change(&mut value);
        items.push(value);
    }
    Ok((items, page.cursor))
}

fn field_name(contract: &Contract, dataset: &str, field: u64) -> Value {
    let dataset = contract.dataset(dataset);
    let at = usize::try_from(field).unwrap_or(usize::MAX);
    let known = dataset.and_then(|dataset| dataset.layout.fields().get(at));
    known.map_or_else(
        || Value::from(field),
        |field| Value::from(field.name.clone()),
    )
}

/// A field by its name in the contract, where the contract still knows it.
fn named(item: &mut Value, contract: &Contract) {
    let Some(field) = item["field"].as_u64() else {
        return;
    };
    let dataset = item["key"].as_str().unwrap_or_default().to_owned();
    item["field"] = field_name(contract, &dataset, field);
}

fn all_named(item: &mut Value, contract: &Contract) {
    let dataset = item["dataset"].as_str().unwrap_or_default().to_owned();
    for column in ["fields", "unused"] {
        let fields = item.get_mut(column).and_then(Value::as_array_mut);
        for field in fields.into_iter().flatten() {
            *field = field_name(contract, &dataset, field.as_u64().unwrap_or(u64::MAX));
        }
    }
}

/// What each agreement may see of each dataset.
fn agreed(contract: &Contract) -> Vec<Agreed> {
    let sections = promised(contract, None).into_iter();
    sections.map(|section| section.agreed).collect()
}

/// And how often; of all departments or one.
fn promised(contract: &Contract, consumer: Option<&str>) -> Vec<Promised> {
    let agreement = |section: &Section| &contract.agreements[section.agreement_ix];
    let sections = contract
        .sections()
        .filter(|section| consumer.is_none_or(|consumer| agreement(section).consumer == consumer))
        .map(|section| Promised {
            agreed: Agreed {
                agreement: agreement(section).id.clone(),
                dataset: contract.datasets[section.dataset_ix].id.clone(),
                fields: field_bitmap(&section.fields),
            },
            per_day: section.per_day.map(NonZeroU32::get),
        });
    sections.collect()
}
