//! A service item (办事项): which facts a decision needs, and which answer follows from them.
//!
//! The answer is a proposal; the clerk decides (PIPL Art. 24).

use serde_json::Value as Json;

use crate::agreement::AgreementIx;
use crate::dataset::DatasetIx;
use crate::expr::{EvalError, Input, Names, Rule, Ty};
use crate::reasons::Text;
use crate::value::{Decimal, Moment, Value, days_of, parse_date};

pub use crate::expr::Kind;

/// How many records answer a need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cardinality {
    /// The newest that fits; its fields can be named in outcomes.
    One,
    /// All that fit; outcomes can ask for their count.
    Many,
}

/// What is known about a need. `None` means that the source is complete and has nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactState {
    Present,
    None,
    SourceUnavailable,
    NotPermitted,
}

pub(crate) const FACT_STATES: [&str; 4] =
    ["present", "none", "source_unavailable", "not_permitted"];

impl FactState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        FACT_STATES[self as usize]
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Present,
            Self::None,
            Self::SourceUnavailable,
            Self::NotPermitted,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// One fact that the item needs.
#[derive(Clone, Debug)]
pub struct FactNeed {
    pub name: String,
    pub title: Text,
    pub dataset_ix: DatasetIx,
    /// Index of the section within the agreement.
    pub section: usize,
    pub cardinality: Cardinality,
    pub required: bool,
    pub(crate) filter: Option<Rule>,
    pub(crate) columns: Vec<Column>,
}

impl FactNeed {
    /// The rule that a record must meet, as written.
    #[must_use]
    pub fn filter_source(&self) -> Option<&str> {
        self.filter.as_ref().map(|rule| rule.source.as_str())
    }
}

/// What rules can name of one record: a delivered field or an answer.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) ty: Ty,
    pub(crate) answer: bool,
}

#[derive(Clone, Debug)]
pub struct OutcomeRule {
    pub(crate) when: Rule,
    pub kind: String,
    pub working_days: u32,
    /// Codes of `reasons.yaml`.
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct NoteRule {
    pub(crate) when: Rule,
    pub reasons: Vec<String>,
}

/// A service item, compiled.
#[derive(Clone, Debug)]
pub struct ServiceItem {
    pub id: String,
    pub title: Text,
    /// Version of its rules, shown in every bundle.
    pub version: u32,
    pub consumer: String,
    pub purpose: String,
    pub agreement_ix: AgreementIx,
    pub facts: Vec<FactNeed>,
    /// The first that holds is the outcome. The last always holds (lint).
    pub outcomes: Vec<OutcomeRule>,
    /// Each that holds adds its reasons.
    pub notes: Vec<NoteRule>,
    pub(crate) slots: Vec<Slot>,
}

/// What follows from the facts.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    pub kind: String,
    pub working_days: u32,
    /// Codes of `reasons.yaml`, each once: the outcome's, then those of the notes.
    pub reasons: Vec<String>,
}

/// What a name in an outcome rule stands for.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) fact: usize,
    pub(crate) what: SlotKind,
}

#[derive(Clone, Debug)]
pub(crate) enum SlotKind {
    State,
    Count,
    Column(usize),
}

/// Names inside a need's `where`: the columns of its record.
pub(crate) struct RowNames<'a>(pub(crate) &'a [Column]);

impl Names for RowNames<'_> {
    fn name(&self, name: &str) -> Option<(u16, Ty)> {
        let index = self.0.iter().position(|column| column.name == name)?;
        Some((u16::try_from(index).ok()?, self.0[index].ty.clone()))
    }
}

/// Names inside an outcome: `fact.state`, `fact.count`, and for one record `fact.field`.
pub(crate) struct FactNames<'a> {
    pub(crate) facts: &'a [FactNeed],
    pub(crate) slots: &'a [Slot],
}

impl Names for FactNames<'_> {
    fn name(&self, _: &str) -> Option<(u16, Ty)> {
        None
    }

    fn member(&self, root: &str, member: &str) -> Option<(u16, Ty)> {
        let index = self.slots.iter().position(|slot| {
            let fact = &self.facts[slot.fact];
            fact.name == root
                && match slot.what {
                    SlotKind::State => member == "state",
                    SlotKind::Count => member == "count",
                    SlotKind::Column(column) => fact.columns[column].name == member,
                }
        })?;
        let slot = &self.slots[index];
        let ty = match slot.what {
            SlotKind::State => Ty::symbols(&FACT_STATES),
            SlotKind::Count => Ty::plain(Kind::Int),
            // A fact may be absent, so its fields may be null.
            SlotKind::Column(column) => self.facts[slot.fact].columns[column].ty.clone().or_null(),
        };
        Some((u16::try_from(index).ok()?, ty))
    }
}

/// All slots of a set of needs, `state` and `count` first, so that no field can shadow them.
pub(crate) fn slots_of(facts: &[FactNeed]) -> Vec<Slot> {
    let mut slots = Vec::new();
    for (index, fact) in facts.iter().enumerate() {
        slots.push(Slot {
            fact: index,
            what: SlotKind::State,
        });
        slots.push(Slot {
            fact: index,
            what: SlotKind::Count,
        });
        if fact.cardinality == Cardinality::One {
            slots.extend((0..fact.columns.len()).map(|column| Slot {
                fact: index,
                what: SlotKind::Column(column),
            }));
        }
    }
    slots
}

/// One record as JSON: `{"fields": {…}, "answers": {…}}`.
struct RowInput<'a> {
    columns: &'a [Column],
    row: &'a Json,
}

impl Input for RowInput<'_> {
    fn read(&self, slot: u16) -> Result<Value<'_>, EvalError> {
        let column = self
            .columns
            .get(usize::from(slot))
            .ok_or(EvalError::Shape)?;
        read_column(column, self.row)
    }
}

struct Known<'a> {
    state: FactState,
    rows: Vec<&'a Json>,
}

struct FactInput<'a> {
    item: &'a ServiceItem,
    known: &'a [Known<'a>],
}

impl Input for FactInput<'_> {
    fn read(&self, slot: u16) -> Result<Value<'_>, EvalError> {
        let slot = self
            .item
            .slots
            .get(usize::from(slot))
            .ok_or(EvalError::Shape)?;
        let known = self.known.get(slot.fact).ok_or(EvalError::Shape)?;
        match slot.what {
            SlotKind::State => Ok(Value::Symbol(known.state as u32)),
            SlotKind::Count => i64::try_from(known.rows.len())
                .map(Value::Int)
                .map_err(|_| EvalError::Arithmetic),
            SlotKind::Column(column) => {
                let column = self.item.facts[slot.fact]
                    .columns
                    .get(column)
                    .ok_or(EvalError::Shape)?;
                known
                    .rows
                    .first()
                    .map_or(Ok(Value::Null), |row| read_column(column, row))
            }
        }
    }
}

fn read_column<'a>(column: &Column, row: &'a Json) -> Result<Value<'a>, EvalError> {
    let part = row.get(if column.answer { "answers" } else { "fields" });
    let Some(json) = part.and_then(|part| part.get(&column.name)) else {
        return Ok(Value::Null);
    };
    read_json(&column.ty, json).ok_or(EvalError::Shape)
}

fn read_json<'a>(ty: &Ty, json: &'a Json) -> Option<Value<'a>> {
    if json.is_null() {
        return Some(Value::Null);
    }
    Some(match ty.kind() {
        Kind::Null => return None,
        Kind::Bool => Value::Bool(json.as_bool()?),
        Kind::Int => Value::Int(json.as_i64()?),
        Kind::Double => Value::Double(json.as_f64()?),
        Kind::Str => Value::Str(json.as_str()?.into()),
        Kind::Enum => {
            let text = json.as_str()?;
            Value::Symbol(u32::try_from(ty.symbols.iter().position(|symbol| symbol == text)?).ok()?)
        }
        Kind::Date => Value::Date(days_of(parse_date(json.as_str()?)?)),
        Kind::Timestamp => Value::Timestamp(
            chrono::DateTime::parse_from_rfc3339(json.as_str()?)
                .ok()?
                .timestamp_millis(),
        ),
        Kind::Decimal => Value::Decimal(Decimal::parse(json.as_str()?)?),
        Kind::Many => match json {
            Json::Array(items) => Value::Size(items.len() as u64),
            Json::Object(items) => Value::Size(items.len() as u64),
            _ => return None,
        },
        Kind::Opaque => Value::Opaque,
    })
}

impl ServiceItem {
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&FactNeed> {
        self.facts.iter().find(|fact| fact.name == name)
    }

    /// The state and the records that a need is left with after its `where`: `rows` are the records of
    /// its dataset, newest first, each `{"fields": {…}, "answers": {…}}` in the JSON of
    /// `mz_seal::Datum::to_json`. A record that can't be read counts as not fitting.
    #[must_use]
    pub fn fitting<'r>(&self, need: &FactNeed, rows: &'r [Json], now: Moment) -> Vec<&'r Json> {
        rows.iter()
            .filter(|row| match &need.filter {
                None => true,
                Some(rule) => {
                    rule.holds(
                        &RowInput {
                            columns: &need.columns,
                            row,
                        },
                        now,
                    ) == Ok(true)
                }
            })
            .collect()
    }

    /// What follows from the facts. `facts` maps each need's name to
    /// `{"state": "present" | "none" | "source_unavailable" | "not_permitted", "rows": [record, …]}`,
    /// records newest first as in [`Self::fitting`]. A need that is not in the map counts as
    /// `source_unavailable`: silence is not absence.
    #[must_use]
    pub fn decide(&self, facts: &Json, now: Moment) -> Outcome {
        let known: Vec<Known<'_>> = self
            .facts
            .iter()
            .map(|need| {
                let given = facts.get(&need.name);
                let state = given
                    .and_then(|fact| FactState::parse(fact.get("state")?.as_str()?))
                    .unwrap_or(FactState::SourceUnavailable);
                let rows = given
                    .and_then(|fact| fact.get("rows")?.as_array())
                    .map_or(&[][..], Vec::as_slice);
                let rows = if state == FactState::Present {
                    self.fitting(need, rows, now)
                } else {
                    Vec::new()
                };
                let state = if state == FactState::Present && rows.is_empty() {
                    FactState::None
                } else {
                    state
                };
                Known { state, rows }
            })
            .collect();
        let input = FactInput {
            item: self,
            known: &known,
        };
        let mut outcome = Outcome {
            kind: "undecided".to_owned(),
            working_days: 0,
            reasons: Vec::new(),
        };
        // A rule that can't be evaluated doesn't hold; the last one has no names in it.
        if let Some(rule) = self
            .outcomes
            .iter()
            .find(|rule| rule.when.holds(&input, now) == Ok(true))
        {
            outcome = Outcome {
                kind: rule.kind.clone(),
                working_days: rule.working_days,
                reasons: rule.reasons.clone(),
            };
        }
        for note in &self.notes {
            if note.when.holds(&input, now) == Ok(true) {
                for reason in &note.reasons {
                    if !outcome.reasons.contains(reason) {
                        outcome.reasons.push(reason.clone());
                    }
                }
            }
        }
        outcome
    }
}
