//! Turns rows into events by a checked mapping. Knows no file and no database.

use super::field::key;
use super::plan::{
    Condition, EventPlan, FieldPlan, Kind, ListEntry, Mapping, Reading, Source, Test,
};
use crate::cell::Cell;
use crate::join::Children;
use crate::limits::{MAX_CELL_BYTES, MAX_CHILDREN, MAX_FAULTS_PER_ROW};
use crate::{clean, dates, numbers};
use chrono::NaiveTime;
use mz_contract::IdNumber;
use mz_sdk::{Event, Reject};
use mz_seal::Datum;
use std::sync::Arc;

/// What one row and one event rule come to.
#[derive(Debug)]
pub enum Made {
    Event(Event),
    Rejects(Vec<Reject>),
    /// Left out on purpose.
    Skipped,
}

/// A mapping with the child tables of one pass.
pub struct Mapper {
    mapping: Arc<Mapping>,
    children: Vec<Children>,
}

/// Something about a row that no field can be made of.
struct Problem {
    column: String,
    field: String,
    code: &'static str,
    /// Values of the child row it is about.
    values: Vec<(String, String)>,
}

impl Mapper {
    /// `children`: one for each join of the mapping, in its order.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>, children: Vec<Children>) -> Self {
        Self { mapping, children }
    }

    /// The child tables, to see after a pass which rows nobody asked for.
    #[must_use]
    pub fn into_children(self) -> Vec<Children> {
        self.children
    }

    /// One answer for each event rule. A row without any value answers nothing.
    pub fn row(&mut self, number: u64, cells: &[Cell], mut answer: impl FnMut(Made)) {
        if cells.iter().all(Cell::is_blank) {
            return;
        }
        let mapping = Arc::clone(&self.mapping);
        for event in &mapping.events {
            answer(self.event(event, number, cells));
        }
    }

    fn event(&mut self, plan: &EventPlan, number: u64, cells: &[Cell]) -> Made {
        if !holds(&plan.when, cells) {
            return Made::Skipped;
        }
        let mut problems = Vec::new();
        let made: Vec<Option<Datum>> = plan
            .fields
            .iter()
            .map(|field| self.field(field, cells, &mut problems))
            .collect();
        let occurred_ms =
            plan.time
                .as_ref()
                .and_then(|time| match self.field(time, cells, &mut problems) {
                    Some(Datum::TimestampMillis(ms)) => Some(ms),
                    _ => None,
                });
        if problems.is_empty() {
            return Made::Event(Event {
                dataset: plan.dataset.clone(),
                fields: made.into_iter().flatten().collect(),
                occurred_ms,
                withdrawn: !plan.withdrawn.is_empty() && holds(&plan.withdrawn, cells),
                row: number,
            });
        }
        let record = mz_sdk::record_text(
            plan.record_fields
                .iter()
                .map(|index| made.get(*index)?.as_ref()),
        )
        .map(|record| (plan.dataset.clone(), record));
        let values = self.values(cells);
        let rejects = problems
            .into_iter()
            .map(|problem| Reject {
                row: number,
                column: problem.column,
                field: problem.field,
                code: problem.code,
                values: values.iter().cloned().chain(problem.values).collect(),
                record: record.clone(),
            })
            .collect();
        Made::Rejects(rejects)
    }

    fn values(&self, cells: &[Cell]) -> Vec<(String, String)> {
        self.mapping
            .columns
            .iter()
            .cloned()
            .zip(cells.iter().map(Cell::shown))
            .collect()
    }

    fn field(
        &mut self,
        plan: &FieldPlan,
        cells: &[Cell],
        problems: &mut Vec<Problem>,
    ) -> Option<Datum> {
        let offset = self.mapping.offset_s;
        match &plan.source {
            Source::Nothing => Some(if plan.nullable {
                Datum::Null
            } else {
                Datum::Array(Vec::new())
            }),
            Source::Constant(value) => Some(value.clone()),
            Source::Cells(places) => scalar(plan, places, cells, offset)
                .map_err(|(place, code)| {
                    let column = self.mapping.columns.get(place).cloned().unwrap_or_default();
                    push(problems, column, &plan.name, code, Vec::new());
                })
                .ok(),
            Source::Array { column, entry } => {
                let name = self
                    .mapping
                    .columns
                    .get(*column)
                    .cloned()
                    .unwrap_or_default();
                let cell = cells.get(*column).unwrap_or(&Cell::Empty);
                let items = match cell {
                    Cell::Json(serde_json::Value::Array(items)) => items.as_slice(),
                    cell if cell.is_blank() => &[],
                    _ => {
                        push(problems, name, &plan.name, "LIST_EXPECTED", Vec::new());
                        return None;
                    }
                };
                let rows = items
                    .iter()
                    .map(|item| array_row(item, &entry.columns))
                    .collect::<Option<Vec<_>>>();
                let Some(rows) = rows else {
                    push(problems, name, &plan.name, "LIST_EXPECTED", Vec::new());
                    return None;
                };
                let list = ListOf {
                    plan,
                    entry,
                    name: &name,
                    columns: &entry.columns,
                    offset,
                };
                list.make(rows.iter().map(Vec::as_slice), problems)
            }
            Source::Joined { join, entry } => {
                let mapping = Arc::clone(&self.mapping);
                let table = mapping.joins.get(*join)?;
                let keys: Vec<&Cell> = table
                    .on
                    .iter()
                    .map(|(_, parent)| cells.get(*parent).unwrap_or(&Cell::Empty))
                    .collect();
                let rows = self
                    .children
                    .get_mut(*join)
                    .map(|children| children.of(&keys))
                    .unwrap_or_default();
                let list = ListOf {
                    plan,
                    entry,
                    name: &table.name,
                    columns: &table.columns,
                    offset,
                };
                list.make(rows.iter().map(|row| row.cells.as_slice()), problems)
            }
        }
    }
}

/// A list field and where its entries come from.
struct ListOf<'a> {
    plan: &'a FieldPlan,
    entry: &'a ListEntry,
    /// Name of the join, or column of the array.
    name: &'a str,
    columns: &'a [String],
    offset: i32,
}

impl ListOf<'_> {
    /// All of its entries or none: a fact that silently lacks a child would be wrong.
    fn make<'r>(
        &self,
        rows: impl ExactSizeIterator<Item = &'r [Cell]>,
        problems: &mut Vec<Problem>,
    ) -> Option<Datum> {
        let Self {
            plan,
            entry,
            name,
            columns,
            offset,
        } = *self;
        if rows.len() > MAX_CHILDREN {
            push(
                problems,
                name.to_owned(),
                &plan.name,
                "LIST_TOO_LONG",
                Vec::new(),
            );
            return None;
        }
        let mut entries = Vec::with_capacity(rows.len());
        let mut whole = true;
        for cells in rows {
            let mut record = Vec::with_capacity(entry.fields.len());
            for field in &entry.fields {
                let made = match &field.source {
                    Source::Constant(value) => Ok(value.clone()),
                    Source::Cells(places) => scalar(field, places, cells, offset),
                    _ => Ok(Datum::Null),
                };
                match made {
                    Ok(value) => record.push((last(&field.name).to_owned(), value)),
                    Err((place, code)) => {
                        let column = columns.get(place).map_or("", String::as_str);
                        let values = columns
                            .iter()
                            .zip(cells)
                            .map(|(column, cell)| (format!("{name}.{column}"), cell.shown()))
                            .collect();
                        push(
                            problems,
                            format!("{name}.{column}"),
                            &field.name,
                            code,
                            values,
                        );
                        whole = false;
                    }
                }
            }
            entries.push(Datum::Record(record));
        }
        whole.then_some(Datum::Array(entries))
    }
}

fn push(
    problems: &mut Vec<Problem>,
    column: String,
    field: &str,
    code: &'static str,
    values: Vec<(String, String)>,
) {
    if problems.len() < MAX_FAULTS_PER_ROW {
        problems.push(Problem {
            column,
            field: field.to_owned(),
            code,
            values,
        });
    }
}

fn last(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, name)| name)
}

/// The cells of one array entry, by the keys that its rules name.
fn array_row(item: &serde_json::Value, keys: &[String]) -> Option<Vec<Cell>> {
    let object = item.as_object()?;
    Some(
        keys.iter()
            .map(|key| {
                object
                    .get(key)
                    .map_or(Cell::Empty, crate::read::ndjson::cell)
            })
            .collect(),
    )
}

fn holds(conditions: &[Condition], cells: &[Cell]) -> bool {
    conditions.iter().all(|condition| {
        let cell = cells.get(condition.column).unwrap_or(&Cell::Empty);
        let text = cell.text().map(|text| key(&text)).unwrap_or_default();
        match &condition.test {
            Test::In(texts) => texts.contains(&text),
            Test::NotIn(texts) => !texts.contains(&text),
            Test::Present(present) => cell.is_blank() != *present,
        }
    })
}

/// The first cell that holds something, made into what the field wants. On failure: which cell, why.
fn scalar(
    plan: &FieldPlan,
    places: &[usize],
    cells: &[Cell],
    offset_s: i32,
) -> Result<Datum, (usize, &'static str)> {
    const NOTHING: &Cell = &Cell::Empty;
    let at = |place: &usize| cells.get(*place).unwrap_or(NOTHING);
    let first = places.first().copied().unwrap_or_default();
    let found = places
        .iter()
        .find(|place| !at(place).is_blank() && !is_empty_word(plan, at(place)));
    let Some(place) = found.copied() else {
        return match (&plan.default, plan.nullable) {
            (Some(default), _) => Ok(default.clone()),
            (None, true) => Ok(Datum::Null),
            (None, false) if matches!(plan.kind, Kind::Text(Reading::Id)) => {
                Err((first, "ID_EMPTY"))
            }
            (None, false) => Err((first, "FIELD_EMPTY")),
        };
    };
    let fail = |code| (place, code);
    let cell = at(&place);
    match &plan.table {
        None => convert(plan, cell, offset_s).map_err(fail),
        Some(table) => {
            let text = cell.text().map_err(fail)?;
            check(&text).map_err(fail)?;
            let target = table.get(&key(&text)).ok_or(fail("CODE_UNKNOWN"))?;
            convert(plan, &Cell::Text(target.clone()), offset_s).map_err(fail)
        }
    }
}

fn is_empty_word(plan: &FieldPlan, cell: &Cell) -> bool {
    !plan.empty.is_empty()
        && cell
            .text()
            .is_ok_and(|text| plan.empty.contains(&key(&text)))
}

fn check(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_CELL_BYTES {
        return Err("CELL_TOO_LARGE");
    }
    clean::damage(text).map_or(Ok(()), Err)
}

/// One cell as the field's type; the reason code when it is not.
pub(super) fn convert(plan: &FieldPlan, cell: &Cell, offset_s: i32) -> Result<Datum, &'static str> {
    if let Cell::Fault(code) = cell {
        return Err(code);
    }
    match (&plan.kind, cell) {
        (Kind::Date(_), Cell::Serial(days)) => {
            let at = dates::from_serial(*days).map_err(dates::DateFault::code)?;
            return Ok(Datum::Date(dates::epoch_days(at.date())));
        }
        (Kind::Timestamp(_), Cell::Serial(days)) => {
            let at = dates::from_serial(*days).map_err(dates::DateFault::code)?;
            return Ok(Datum::TimestampMillis(dates::epoch_ms(at, offset_s)));
        }
        (Kind::Double, Cell::Number(number)) if number.is_finite() => {
            return Ok(Datum::Double(*number));
        }
        _ => {}
    }
    let text = cell.text()?;
    check(&text)?;
    let code = || key(&text);
    match &plan.kind {
        Kind::Text(reading) => self::text(*reading, &text),
        Kind::Enum(symbols) => {
            let symbol = code();
            if symbols.contains(&symbol) {
                Ok(Datum::Enum(symbol))
            } else {
                Err("CODE_UNKNOWN")
            }
        }
        Kind::Bool { yes, no } => {
            let word = code();
            match (yes.contains(&word), no.contains(&word)) {
                (true, _) => Ok(Datum::Bool(true)),
                (_, true) => Ok(Datum::Bool(false)),
                _ => Err("BOOLEAN_UNKNOWN"),
            }
        }
        Kind::Int { least, most } => {
            let number = numbers::whole(&code())?;
            if (*least..=*most).contains(&number) {
                Ok(Datum::Int(number))
            } else {
                Err("NUMBER_RANGE")
            }
        }
        Kind::Double => match code().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Datum::Double(number)),
            _ => Err("NUMBER_FORM"),
        },
        Kind::Decimal { precision, scale } => {
            numbers::decimal(&code(), *precision, *scale).map(|unscaled| Datum::Decimal {
                unscaled,
                scale: *scale,
            })
        }
        Kind::Date(patterns) => {
            let at = dates::read(&code(), patterns, offset_s).map_err(dates::DateFault::code)?;
            Ok(Datum::Date(dates::epoch_days(at.date())))
        }
        Kind::Timestamp(patterns) => {
            let at = dates::read(&code(), patterns, offset_s).map_err(dates::DateFault::code)?;
            // A day without a time of day begins at its midnight.
            let at = if patterns.iter().any(dates::DatePattern::has_time) {
                at
            } else {
                at.date().and_time(NaiveTime::MIN)
            };
            Ok(Datum::TimestampMillis(dates::epoch_ms(at, offset_s)))
        }
        Kind::List => Err("CELL_IS_NESTED"),
    }
}

fn text(reading: Reading, text: &str) -> Result<Datum, &'static str> {
    Ok(Datum::Str(match reading {
        Reading::Exact => text.to_owned(),
        Reading::Text => clean::trim(text).to_owned(),
        Reading::Code => key(text),
        Reading::Name => clean::name(text)?.to_owned(),
        Reading::Id => IdNumber::parse(text)
            .map_err(mz_contract::IdFault::code)?
            .as_str()
            .to_owned(),
    }))
}
