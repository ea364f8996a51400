//! Checks the rule of one field against what the schema wants of it.

use super::plan::{FieldPlan, Input, Join, Kind, ListEntry, Reading, Source};
use super::raw::{At, RawField, RawReading};
use super::yaml::Faults;
use crate::cell::Cell;
use crate::clean;
use crate::dates::DatePattern;
use mz_seal::{Datum, FieldType};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Columns as rules name them; a row carries them in this order.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) names: Vec<String>,
    places: HashMap<String, usize>,
}

impl Columns {
    pub(super) fn place(&mut self, name: &str) -> usize {
        let next = self.names.len();
        *self.places.entry(name.to_owned()).or_insert_with(|| {
            self.names.push(name.to_owned());
            next
        })
    }
}

/// A join whose columns are still being collected.
pub(super) struct JoinDraft {
    pub(super) name: String,
    pub(super) input: Input,
    pub(super) columns: Columns,
    pub(super) on: Vec<(usize, usize)>,
}

impl JoinDraft {
    pub(super) fn finish(self) -> Join {
        Join {
            name: self.name,
            input: self.input,
            columns: self.columns.names,
            on: self.on,
        }
    }
}

/// What rules may refer to.
pub(super) struct Scope<'a> {
    pub(super) columns: &'a mut Columns,
    pub(super) joins: &'a mut Vec<JoinDraft>,
    pub(super) tables: &'a BTreeMap<String, At<BTreeMap<String, String>>>,
    pub(super) faults: &'a mut Faults,
}

/// One field as the schema has it.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) ty: &'a FieldType,
    pub(super) nullable: bool,
    /// The field that says whom the record is about.
    pub(super) subject: bool,
}

/// Where a rule's columns are counted: the main table's, a join's, or an array entry's own.
enum Table<'a> {
    Main(&'a mut Columns),
    Own(&'a mut Columns),
}

pub(super) fn compile(
    wanted: &Wanted<'_>,
    rule: Option<&At<RawField>>,
    scope: &mut Scope<'_>,
) -> FieldPlan {
    let Some(rule) = rule else {
        return plan(wanted, Source::Nothing, Kind::Text(Reading::Text));
    };
    let raw = &rule.value;
    let sources = [
        raw.column.is_some(),
        raw.first_of.is_some(),
        raw.constant.is_some(),
        raw.array.is_some(),
        raw.join.is_some(),
    ];
    if sources.iter().filter(|given| **given).count() != 1 {
        scope.faults.at(
            "MAP_ONE_SOURCE",
            rule,
            wanted.name,
            "column, first_of, const, array, join",
        );
        return plan(wanted, Source::Nothing, Kind::Text(Reading::Text));
    }
    if raw.array.is_some() || raw.join.is_some() {
        return list(wanted, rule, scope);
    }
    scalar(
        wanted,
        rule,
        Table::Main(scope.columns),
        scope.tables,
        scope.faults,
    )
}

fn plan(wanted: &Wanted<'_>, source: Source, kind: Kind) -> FieldPlan {
    FieldPlan {
        name: wanted.name.to_owned(),
        source,
        kind,
        nullable: wanted.nullable,
        table: None,
        empty: HashSet::new(),
        default: None,
    }
}

/// A list of records, from a JSON array or a join.
fn list(wanted: &Wanted<'_>, rule: &At<RawField>, scope: &mut Scope<'_>) -> FieldPlan {
    let raw = &rule.value;
    unused(
        rule,
        wanted,
        scope.faults,
        &["as", "table", "dates", "yes", "no", "empty", "default"],
    );
    let FieldType::Array(item) = wanted.ty else {
        scope.faults.at("MAP_NOT_A_LIST", rule, wanted.name, "");
        return plan(wanted, Source::Nothing, Kind::List);
    };
    let (FieldType::Record(entry), Some(rules)) = (item.as_ref(), &raw.fields) else {
        scope
            .faults
            .at("MAP_LIST_FIELDS", rule, wanted.name, "fields");
        return plan(wanted, Source::Nothing, Kind::List);
    };
    for (name, rule) in rules {
        if !entry.iter().any(|(known, _)| known == name) {
            let known: Vec<&str> = entry.iter().map(|(name, _)| name.as_str()).collect();
            scope
                .faults
                .at("MAP_UNKNOWN_FIELD", rule, name, &known.join(", "));
        }
    }
    let join = match &raw.join {
        None => None,
        Some(name) => match scope.joins.iter().position(|join| join.name == name.value) {
            Some(index) => Some(index),
            None => {
                scope
                    .faults
                    .at("MAP_UNKNOWN_JOIN", name, &name.value, "joins");
                return plan(wanted, Source::Nothing, Kind::List);
            }
        },
    };
    let mut own = Columns::default();
    let mut fields = Vec::with_capacity(entry.len());
    for (name, ty) in entry {
        let (ty, nullable) = nested_type(ty);
        let path = format!("{}.{name}", wanted.name);
        let inner = Wanted {
            name: &path,
            ty,
            nullable,
            subject: false,
        };
        match rules.get(name) {
            None if nullable => {
                fields.push(plan(&inner, Source::Nothing, Kind::Text(Reading::Text)))
            }
            None => {
                scope.faults.at("MAP_FIELD_MISSING", rule, &path, "");
                fields.push(plan(&inner, Source::Nothing, Kind::Text(Reading::Text)));
            }
            Some(rule) => {
                let raw = &rule.value;
                if raw.array.is_some() || raw.join.is_some() {
                    scope.faults.at("MAP_NESTED_LIST", rule, &path, "");
                    continue;
                }
                if [
                    raw.column.is_some(),
                    raw.first_of.is_some(),
                    raw.constant.is_some(),
                ]
                .iter()
                .filter(|x| **x)
                .count()
                    != 1
                {
                    scope
                        .faults
                        .at("MAP_ONE_SOURCE", rule, &path, "column, first_of, const");
                    continue;
                }
                let columns = match join {
                    Some(index) => &mut scope.joins[index].columns,
                    None => &mut own,
                };
                fields.push(scalar(
                    &inner,
                    rule,
                    Table::Own(columns),
                    scope.tables,
                    scope.faults,
                ));
            }
        }
    }
    let entry = ListEntry {
        columns: own.names,
        fields,
    };
    let source = match (join, &raw.array) {
        (Some(join), _) => Source::Joined { join, entry },
        (None, Some(column)) => Source::Array {
            column: scope.columns.place(&column.value),
            entry,
        },
        (None, None) => Source::Nothing,
    };
    plan(wanted, source, Kind::List)
}

/// `["null", T]` inside a record, where the schema walker shows the union itself.
fn nested_type(ty: &FieldType) -> (&FieldType, bool) {
    match ty {
        FieldType::Union(branches) => match branches.as_slice() {
            [FieldType::Null, other] | [other, FieldType::Null] => (other, true),
            _ => (ty, false),
        },
        other => (other, false),
    }
}

fn scalar(
    wanted: &Wanted<'_>,
    rule: &At<RawField>,
    table: Table<'_>,
    tables: &BTreeMap<String, At<BTreeMap<String, String>>>,
    faults: &mut Faults,
) -> FieldPlan {
    let raw = &rule.value;
    if raw.fields.is_some() {
        faults.at("MAP_KEY_UNFIT", rule, wanted.name, "fields");
    }
    let kind = kind(wanted, rule, faults);
    let mut made = plan(wanted, Source::Nothing, kind);
    if let Some(name) = &raw.table {
        match tables.get(&name.value) {
            None => faults.at("MAP_UNKNOWN_TABLE", name, &name.value, "tables"),
            Some(entries) => made.table = Some(code_table(&made, entries, faults)),
        }
    }
    made.empty = raw.empty.iter().flatten().map(|text| key(text)).collect();
    if let Some(default) = &raw.default {
        made.default = constant(&made, default, "MAP_BAD_DEFAULT", faults);
    }
    made.source = match (&raw.column, &raw.first_of, &raw.constant) {
        (Some(column), ..) => Source::Cells(vec![place(table, &column.value)]),
        (_, Some(columns), _) => {
            if columns.is_empty() {
                faults.at("MAP_ONE_SOURCE", rule, wanted.name, "first_of");
            }
            let columns_of = match table {
                Table::Main(columns) | Table::Own(columns) => columns,
            };
            Source::Cells(
                columns
                    .iter()
                    .map(|column| columns_of.place(&column.value))
                    .collect(),
            )
        }
        (.., Some(text)) => {
            if wanted.subject {
                faults.at("MAP_CONSTANT_SUBJECT", text, wanted.name, "");
            }
            unused(rule, wanted, faults, &["table", "empty", "default"]);
            match constant(&made, text, "MAP_BAD_CONST", faults) {
                Some(value) => Source::Constant(value),
                None => Source::Nothing,
            }
        }
        _ => Source::Nothing,
    };
    made
}

fn place(table: Table<'_>, name: &str) -> usize {
    match table {
        Table::Main(columns) | Table::Own(columns) => columns.place(name),
    }
}

/// What the schema's type and the rule's keys make of a cell; keys that can't matter are faults.
fn kind(wanted: &Wanted<'_>, rule: &At<RawField>, faults: &mut Faults) -> Kind {
    let raw = &rule.value;
    let allow = |keys: &[&str], faults: &mut Faults| {
        let given = [
            ("as", raw.reading.is_some()),
            ("table", raw.table.is_some()),
            ("dates", raw.dates.is_some()),
            ("yes", raw.yes.is_some()),
            ("no", raw.no.is_some()),
        ];
        for (name, is_given) in given {
            if is_given && !keys.contains(&name) {
                faults.at("MAP_KEY_UNFIT", rule, wanted.name, name);
            }
        }
    };
    match wanted.ty {
        FieldType::String => {
            allow(&["as", "table"], faults);
            Kind::Text(reading(wanted, rule, faults))
        }
        FieldType::Enum(symbols) => {
            allow(&["table"], faults);
            Kind::Enum(symbols.iter().cloned().collect())
        }
        FieldType::Bool => {
            allow(&["yes", "no"], faults);
            yes_no(wanted, rule, faults)
        }
        FieldType::Int => {
            allow(&["table"], faults);
            Kind::Int {
                least: i64::from(i32::MIN),
                most: i64::from(i32::MAX),
            }
        }
        FieldType::Long => {
            allow(&["table"], faults);
            Kind::Int {
                least: i64::MIN,
                most: i64::MAX,
            }
        }
        FieldType::Float | FieldType::Double => {
            allow(&[], faults);
            Kind::Double
        }
        FieldType::Decimal { precision, scale } => {
            allow(&[], faults);
            Kind::Decimal {
                precision: *precision,
                scale: *scale,
            }
        }
        FieldType::Date => {
            allow(&["dates"], faults);
            Kind::Date(patterns(rule, "yyyy-MM-dd", faults))
        }
        FieldType::TimestampMillis => {
            allow(&["dates"], faults);
            Kind::Timestamp(patterns(rule, "rfc3339", faults))
        }
        FieldType::Array(_) => {
            faults.at("MAP_LIST_SOURCE", rule, wanted.name, "array, join");
            Kind::List
        }
        _ => {
            faults.at("MAP_TYPE", rule, wanted.name, "");
            Kind::List
        }
    }
}

fn reading(wanted: &Wanted<'_>, rule: &At<RawField>, faults: &mut Faults) -> Reading {
    let reading = match rule.value.reading.as_ref().map(|reading| reading.value) {
        None if wanted.subject => Reading::Id,
        None | Some(RawReading::Text) => Reading::Text,
        Some(RawReading::Code) => Reading::Code,
        Some(RawReading::Name) => Reading::Name,
        Some(RawReading::Id) => Reading::Id,
        Some(RawReading::Exact) => Reading::Exact,
    };
    if wanted.subject && reading != Reading::Id {
        faults.at("MAP_KEY_UNFIT", rule, wanted.name, "as");
    }
    reading
}

fn yes_no(wanted: &Wanted<'_>, rule: &At<RawField>, faults: &mut Faults) -> Kind {
    let set = |list: &Option<Vec<String>>, native: &str| -> HashSet<String> {
        match list {
            Some(list) => list.iter().map(|text| key(text)).collect(),
            None => HashSet::from([native.to_owned()]),
        }
    };
    let yes = set(&rule.value.yes, "true");
    let no = set(&rule.value.no, "false");
    if rule.value.yes.is_some() != rule.value.no.is_some()
        || !yes.is_disjoint(&no)
        || yes.is_empty()
        || no.is_empty()
    {
        faults.at("MAP_YES_NO", rule, wanted.name, "yes, no");
    }
    Kind::Bool { yes, no }
}

fn patterns(rule: &At<RawField>, default: &str, faults: &mut Faults) -> Vec<DatePattern> {
    let Some(texts) = &rule.value.dates else {
        return DatePattern::parse(default).into_iter().collect();
    };
    let mut patterns = Vec::new();
    for text in texts {
        match DatePattern::parse(&text.value) {
            Ok(pattern) => patterns.push(pattern),
            Err(why) => faults.at("MAP_DATE_PATTERN", text, &text.value, why),
        }
    }
    if texts.is_empty() {
        faults.at("MAP_DATE_PATTERN", rule, "dates", "");
    }
    patterns
}

/// The keys of a table compare narrowed and trimmed, as cells do. Targets must fit the field.
fn code_table(
    made: &FieldPlan,
    entries: &At<BTreeMap<String, String>>,
    faults: &mut Faults,
) -> HashMap<String, String> {
    let mut table = HashMap::new();
    for (from, to) in &entries.value {
        if super::apply::convert(made, &Cell::Text(to.clone()), 0).is_err() {
            faults.at("MAP_TABLE_TARGET", entries, to, &made.name);
        }
        if table.insert(key(from), to.clone()).is_some() {
            faults.at("MAP_TABLE_TWICE", entries, from, &made.name);
        }
    }
    table
}

fn constant(
    made: &FieldPlan,
    text: &At<String>,
    code: &'static str,
    faults: &mut Faults,
) -> Option<Datum> {
    match super::apply::convert(made, &Cell::Text(text.value.clone()), 0) {
        Ok(value) => Some(value),
        Err(why) => {
            faults.at(code, text, &made.name, why);
            None
        }
    }
}

/// How texts of rules and cells are compared.
pub(super) fn key(text: &str) -> String {
    clean::trim(&clean::narrow(text)).to_owned()
}

fn unused(rule: &At<RawField>, wanted: &Wanted<'_>, faults: &mut Faults, keys: &[&str]) {
    let raw = &rule.value;
    let given = [
        ("as", raw.reading.is_some()),
        ("table", raw.table.is_some()),
        ("dates", raw.dates.is_some()),
        ("yes", raw.yes.is_some()),
        ("no", raw.no.is_some()),
        ("empty", raw.empty.is_some()),
        ("default", raw.default.is_some()),
    ];
    for (name, is_given) in given {
        if is_given && keys.contains(&name) {
            faults.at("MAP_KEY_UNFIT", rule, wanted.name, name);
        }
    }
}
