//! Facts as people read them, on the sheet and on a terminal: records of one need that differ in
//! one field only (five insurances) share a row, so that a sheet stays one page.

use mz_contract::Lang;
use mz_vault::bundle::{FactEntry, FieldTitle, RecordEntry};
use serde_json::Value;

use crate::sheet::{local, shown};

/// One row: a fact, or several records of the same need.
pub struct Row<'a> {
    /// The first of them; need, department, state and times are the same for all.
    pub entry: &'a FactEntry,
    pub fields: Vec<Field>,
    pub as_of: Option<String>,
}

/// A field by its title. Where records differ, all their values in turn.
pub struct Field {
    pub title: String,
    pub value: String,
}

/// The rows of a bundle's facts, in their order.
pub fn rows(facts: &[FactEntry], lang: Lang) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::with_capacity(facts.len());
    // The values of the records in the row that is being filled.
    let mut members: Vec<Vec<String>> = Vec::new();
    for entry in facts {
        let values = entry.record.as_ref().map(|record| values(record, lang));
        if let (Some(row), Some(values)) = (rows.last_mut(), &values)
            && same_place(row, entry)
            && joins(&members, values)
        {
            members.push(values.clone());
            for (at, field) in row.fields.iter_mut().enumerate() {
                field.value = together(&members, at);
            }
            continue;
        }
        let fields = entry
            .record
            .as_ref()
            .zip(values.as_ref())
            .map(|(record, values)| {
                let titles = record.titles.iter().map(|title| self::title(title, lang));
                titles
                    .zip(values)
                    .map(|(title, value)| Field {
                        title,
                        value: value.clone(),
                    })
                    .collect()
            });
        members = values.into_iter().collect();
        rows.push(Row {
            entry,
            fields: fields.unwrap_or_default(),
            as_of: stated(entry),
        });
    }
    rows
}

fn same_place(row: &Row<'_>, entry: &FactEntry) -> bool {
    let first = row.entry;
    let minute = |time: &Option<String>| time.as_deref().map(local);
    (&first.need, &first.dataset, first.state) == (&entry.need, &entry.dataset, entry.state)
        && minute(&first.complete_to) == minute(&entry.complete_to)
        && minute(&first.since) == minute(&entry.since)
        && row.as_of == stated(entry)
}

/// When the register stated what is shown, or what made it go.
fn stated(entry: &FactEntry) -> Option<String> {
    let record = entry.record.as_ref().map(|record| record.as_of.as_str());
    record.or(entry.as_of.as_deref()).map(local)
}

/// Whether a record, beside those already in the row, still differs in one field only.
fn joins(members: &[Vec<String>], values: &[String]) -> bool {
    let same_form = members.iter().all(|member| member.len() == values.len());
    let differing =
        (0..values.len()).filter(|&at| members.iter().any(|member| member[at] != values[at]));
    let varying = |at: &usize| members.iter().any(|member| member[*at] != members[0][*at]);
    let before: Vec<usize> = (0..members.first().map_or(0, Vec::len))
        .filter(varying)
        .collect();
    let mut fields: Vec<usize> = differing.collect();
    fields.extend(before);
    fields.sort_unstable();
    fields.dedup();
    same_form && fields.len() == 1
}

fn together(members: &[Vec<String>], at: usize) -> String {
    let first = &members[0][at];
    if members.iter().all(|member| member[at] == *first) {
        return first.clone();
    }
    members
        .iter()
        .map(|member| member[at].as_str())
        .collect::<Vec<_>>()
        .join("、")
}

fn values(record: &RecordEntry, lang: Lang) -> Vec<String> {
    let value = |title: &FieldTitle| match (&title.value, lang) {
        (Some(text), Lang::Zh) => text.zh.clone(),
        (Some(text), Lang::En) => text.en.clone(),
        (None, _) => shown(record.fields.get(&title.name).unwrap_or(&Value::Null)),
    };
    record.titles.iter().map(value).collect()
}

fn title(title: &FieldTitle, lang: Lang) -> String {
    let text = match lang {
        Lang::Zh => &title.zh,
        Lang::En => &title.en,
    };
    if text.is_empty() {
        title.name.clone()
    } else {
        text.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn records_that_differ_in_one_field_share_a_row() {
        let first = vec![row(&["A", "养老", "36"])];
        assert!(joins(&first, &row(&["A", "医疗", "36"])));
        assert!(
            !joins(&first, &row(&["A", "医疗", "12"])),
            "two fields differ"
        );
        assert!(
            !joins(&first, &row(&["A", "养老", "36"])),
            "nothing tells them apart"
        );
        let two = vec![row(&["A", "养老", "36"]), row(&["A", "医疗", "36"])];
        assert!(joins(&two, &row(&["A", "工伤", "36"])));
        assert!(
            !joins(&two, &row(&["A", "养老", "12"])),
            "another field than before"
        );
        assert_eq!(together(&two, 1), "养老、医疗");
        assert_eq!(together(&two, 2), "36");
    }
}
