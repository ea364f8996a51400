//! Checks a mapping against the contract, as a whole: every fault with file, line and field.

use super::field::{Columns, Scope};
use super::plan::{
    Condition, CsvFormat, EventPlan, Input, Mapping, Query, Test, Watermark, XlsxFormat,
};
use super::raw::{
    At, RawCondition, RawCsv, RawEvent, RawInput, RawJoin, RawMapping, RawPostgres, RawXlsx,
};
use super::yaml::{self, Faults};
use super::{field, split};
use crate::clean;
use crate::limits::MAX_HEADER_ROW;
use mz_contract::{Contract, Dataset, Fault};
use mz_seal::FieldLayout;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

const DEFAULT_OFFSET_S: i32 = 8 * 3600;

/// What a mapping needs to know of a dataset.
#[derive(Clone, Debug)]
pub struct DatasetView {
    pub id: String,
    pub department: String,
    pub streams: Vec<String>,
    pub fields: Vec<FieldLayout>,
    pub subject_field: usize,
    pub record_fields: Vec<usize>,
}

impl From<&Dataset> for DatasetView {
    fn from(dataset: &Dataset) -> Self {
        Self {
            id: dataset.id.clone(),
            department: dataset.department.clone(),
            streams: dataset.streams.clone(),
            fields: dataset.layout.fields().to_vec(),
            subject_field: dataset.subject_field,
            record_fields: dataset.record_fields.clone(),
        }
    }
}

/// Where dataset definitions come from.
pub trait Datasets {
    fn view(&self, id: &str) -> Option<DatasetView>;
    /// Ids, for the message about an unknown one.
    fn ids(&self) -> Vec<String>;
}

impl Datasets for Contract {
    fn view(&self, id: &str) -> Option<DatasetView> {
        self.dataset(id).map(DatasetView::from)
    }

    fn ids(&self) -> Vec<String> {
        self.datasets
            .iter()
            .map(|dataset| dataset.id.clone())
            .collect()
    }
}

/// Loads and checks a mapping file.
pub fn load(path: &Path, datasets: &dyn Datasets) -> Result<Mapping, Vec<Fault>> {
    let mut faults = Faults::of(path);
    let raw = yaml::load(path, &mut faults);
    finish(raw, datasets, faults)
}

/// Checks a mapping that is already in memory; `path` is for messages.
pub fn parse(text: &str, path: &Path, datasets: &dyn Datasets) -> Result<Mapping, Vec<Fault>> {
    let mut faults = Faults::of(path);
    let raw = yaml::parse(text, &mut faults);
    finish(raw, datasets, faults)
}

fn finish(
    raw: Option<RawMapping>,
    datasets: &dyn Datasets,
    mut faults: Faults,
) -> Result<Mapping, Vec<Fault>> {
    let mapping = raw.map(|raw| compile(&raw, datasets, &mut faults));
    match mapping {
        Some(mapping) if faults.is_empty() => Ok(mapping),
        _ => Err(faults.sorted()),
    }
}

fn compile(raw: &RawMapping, datasets: &dyn Datasets, faults: &mut Faults) -> Mapping {
    let offset_s = match &raw.utc_offset {
        None => DEFAULT_OFFSET_S,
        Some(text) => offset(&text.value).unwrap_or_else(|| {
            faults.at("MAP_BAD_VALUE", text, "utc_offset", "+08:00");
            DEFAULT_OFFSET_S
        }),
    };
    let percent = raw.withdraw_limit.as_ref().map(|percent| {
        if percent.value > 100 {
            faults.at("MAP_BAD_VALUE", percent, "withdraw_limit", "0 … 100");
        }
        percent.value
    });
    let mut columns = Columns::default();
    let mut joins = joins(&raw.joins, &mut columns, faults);
    let mut events = Vec::new();
    if raw.events.is_empty() {
        faults.whole("MAP_NO_EVENTS", "events", "");
    }
    for event in &raw.events {
        let Some(view) = dataset(raw, event, datasets, faults) else {
            continue;
        };
        let once = At {
            value: BTreeMap::new(),
            referenced: event.referenced,
            defined: event.defined,
        };
        let groups = if event.value.split.is_empty() {
            std::slice::from_ref(&once)
        } else {
            &event.value.split[..]
        };
        for group in groups {
            let mut scope = Scope {
                columns: &mut columns,
                joins: &mut joins,
                tables: &raw.tables,
                faults,
            };
            events.push(compile_event(event, &group.value, &view, &mut scope));
        }
    }
    for join in &joins {
        if join.columns.names.len() > crate::limits::MAX_COLUMNS {
            faults.whole("MAP_BAD_VALUE", &join.name, "columns");
        }
    }
    let input = input(&raw.input, faults);
    if let Input::Postgres(Query {
        watermark: Some(watermark),
        ..
    }) = &input
    {
        // The position is read from the row, so the row must carry the mark.
        columns.place(&watermark.column);
    }
    Mapping {
        department: raw.department.value.clone(),
        stream: raw.stream.value.clone(),
        input,
        disappeared: raw.disappeared,
        withdraw_limit_percent: percent,
        offset_s,
        columns: columns.names,
        joins: joins.into_iter().map(field::JoinDraft::finish).collect(),
        events,
    }
}

fn dataset(
    raw: &RawMapping,
    event: &At<RawEvent>,
    datasets: &dyn Datasets,
    faults: &mut Faults,
) -> Option<DatasetView> {
    let id = &event.value.dataset;
    let Some(view) = datasets.view(&id.value) else {
        faults.at(
            "MAP_UNKNOWN_DATASET",
            id,
            &id.value,
            &datasets.ids().join(", "),
        );
        return None;
    };
    if view.department != raw.department.value {
        faults.at("MAP_FOREIGN_DATASET", id, &id.value, &view.department);
    }
    if !view.streams.contains(&raw.stream.value) {
        faults.at(
            "MAP_FOREIGN_STREAM",
            &raw.stream,
            &id.value,
            &view.streams.join(", "),
        );
    }
    Some(view)
}

fn compile_event(
    event: &At<RawEvent>,
    places: &BTreeMap<String, String>,
    view: &DatasetView,
    scope: &mut Scope<'_>,
) -> EventPlan {
    let raw = &event.value;
    let mut fields = Vec::with_capacity(view.fields.len());
    for (name, rule) in &raw.fields {
        if !view.fields.iter().any(|field| field.name == *name) {
            let known: Vec<&str> = view
                .fields
                .iter()
                .map(|field| field.name.as_str())
                .collect();
            scope
                .faults
                .at("MAP_UNKNOWN_FIELD", rule, name, &known.join(", "));
        }
    }
    for (index, layout) in view.fields.iter().enumerate() {
        let rule = raw
            .fields
            .get(&layout.name)
            .map(|rule| split::field(rule, places, scope.faults));
        let wanted = field::Wanted {
            name: &layout.name,
            ty: &layout.ty,
            nullable: layout.nullable,
            subject: index == view.subject_field,
        };
        if rule.is_none() && !layout.nullable {
            scope
                .faults
                .at("MAP_FIELD_MISSING", event, &layout.name, &view.id);
        }
        fields.push(field::compile(&wanted, rule.as_ref(), scope));
    }
    let time = raw.time.as_ref().map(|rule| {
        let rule = split::field(rule, places, scope.faults);
        let wanted = field::Wanted {
            name: "time",
            ty: &mz_seal::FieldType::TimestampMillis,
            nullable: true,
            subject: false,
        };
        field::compile(&wanted, Some(&rule), scope)
    });
    EventPlan {
        dataset: view.id.clone(),
        when: conditions(&raw.when, places, scope),
        withdrawn: conditions(&raw.withdrawn, places, scope),
        time,
        fields,
        record_fields: view.record_fields.clone(),
    }
}

fn conditions(
    raw: &[At<RawCondition>],
    places: &BTreeMap<String, String>,
    scope: &mut Scope<'_>,
) -> Vec<Condition> {
    let mut all = Vec::new();
    for condition in raw {
        let condition = split::condition(condition, places, scope.faults);
        let texts = |list: &[String]| -> HashSet<String> {
            list.iter()
                .map(|text| clean::trim(&clean::narrow(text)).to_owned())
                .collect()
        };
        let RawCondition {
            column,
            is_in,
            not_in,
            present,
        } = &condition.value;
        let test = match (is_in, not_in, present) {
            (Some(list), None, None) => Test::In(texts(list)),
            (None, Some(list), None) => Test::NotIn(texts(list)),
            (None, None, Some(present)) => Test::Present(*present),
            _ => {
                scope.faults.at(
                    "MAP_CONDITION",
                    &condition,
                    &column.value,
                    "in, not_in, present",
                );
                continue;
            }
        };
        all.push(Condition {
            column: scope.columns.place(&column.value),
            test,
        });
    }
    all
}

fn joins(
    raw: &BTreeMap<String, At<RawJoin>>,
    parent: &mut Columns,
    faults: &mut Faults,
) -> Vec<field::JoinDraft> {
    raw.iter()
        .map(|(name, join)| {
            let mut columns = Columns::default();
            if join.value.on.is_empty() {
                faults.at("MAP_JOIN_KEYS", join, name, "");
            }
            let on = join
                .value
                .on
                .iter()
                .map(|(child, from)| (columns.place(child), parent.place(&from.value)))
                .collect();
            let input = input(&join.value.input, faults);
            if matches!(
                &input,
                Input::Postgres(Query {
                    watermark: Some(_),
                    ..
                })
            ) {
                faults.at("MAP_JOIN_WATERMARK", join, name, "");
            }
            field::JoinDraft {
                name: name.clone(),
                input,
                columns,
                on,
            }
        })
        .collect()
}

fn input(raw: &At<RawInput>, faults: &mut Faults) -> Input {
    match &raw.value {
        RawInput::Csv(csv) => Input::Csv(csv_format(csv, faults)),
        RawInput::Ndjson(_) => Input::Ndjson,
        RawInput::Xlsx(xlsx) => Input::Xlsx(xlsx_format(xlsx, faults)),
        RawInput::Postgres(query) => Input::Postgres(compile_query(query, faults)),
    }
}

fn csv_format(raw: &RawCsv, faults: &mut Faults) -> CsvFormat {
    let encoding = match raw.encoding.value.to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" => encoding_rs::UTF_8,
        "gb18030" => encoding_rs::GB18030,
        "gbk" | "gb2312" => encoding_rs::GBK,
        "utf-16" | "utf-16le" => encoding_rs::UTF_16LE,
        "utf-16be" => encoding_rs::UTF_16BE,
        other => {
            faults.at(
                "MAP_ENCODING",
                &raw.encoding,
                other,
                "utf-8, gb18030, gbk, utf-16le, utf-16be",
            );
            encoding_rs::UTF_8
        }
    };
    let byte = |text: Option<&At<String>>, default: u8, faults: &mut Faults, key: &str| match text {
        None => default,
        Some(text) => match text.value.as_str() {
            "\t" | "tab" => b'\t',
            one if one.len() == 1
                && one.is_ascii()
                && one != "\n"
                && one != "\r"
                && one != "\0" =>
            {
                one.as_bytes()[0]
            }
            _ => {
                faults.at("MAP_DELIMITER", text, key, "");
                default
            }
        },
    };
    let delimiter = byte(raw.delimiter.as_ref(), b',', faults, "delimiter");
    let quote = match &raw.quote {
        Some(text) if text.value == "none" => None,
        text => Some(byte(text.as_ref(), b'"', faults, "quote")),
    };
    // In GB18030 these bytes are also halves of characters; in UTF-16 the file is converted first.
    let half = |b: u8| b.is_ascii_digit() || (0x40..=0x7e).contains(&b);
    let gb = encoding == encoding_rs::GB18030 || encoding == encoding_rs::GBK;
    if let (true, Some(text)) = (gb && half(delimiter), &raw.delimiter) {
        faults.at("MAP_DELIMITER", text, "delimiter", encoding.name());
    }
    if let (true, Some(text)) = (quote == Some(delimiter), &raw.delimiter) {
        faults.at("MAP_DELIMITER", text, "quote", "");
    }
    CsvFormat {
        encoding,
        delimiter,
        quote,
        header: header(raw.header.as_ref(), faults),
    }
}

fn xlsx_format(raw: &RawXlsx, faults: &mut Faults) -> XlsxFormat {
    XlsxFormat {
        sheet: raw.sheet.value.clone(),
        header: header(raw.header.as_ref(), faults),
        formulas: raw.formulas,
    }
}

fn header(raw: Option<&At<u32>>, faults: &mut Faults) -> u32 {
    match raw {
        Some(row) if row.value == 0 || row.value > MAX_HEADER_ROW => {
            faults.at(
                "MAP_BAD_VALUE",
                row,
                "header",
                &format!("1 … {MAX_HEADER_ROW}"),
            );
            1
        }
        Some(row) => row.value,
        None => 1,
    }
}

fn compile_query(raw: &RawPostgres, faults: &mut Faults) -> Query {
    let sql = raw
        .query
        .value
        .trim()
        .trim_end_matches(';')
        .trim_end()
        .to_owned();
    // The query is wrapped into others; the database refuses whatever else is wrong with it.
    if sql.is_empty() {
        faults.at("MAP_BAD_VALUE", &raw.query, "query", "SELECT …");
    }
    let watermark = raw.watermark.as_ref().map(|raw| Watermark {
        column: raw.column.value.clone(),
        overlap: raw.overlap.as_ref().map_or(0, |text| {
            text.value
                .parse()
                .ok()
                .or_else(|| duration(&text.value).map(|time| time.as_secs()))
                .unwrap_or_else(|| {
                    faults.at("MAP_BAD_VALUE", text, "overlap", "30s, 10m, 2h, 1d, 1000");
                    0
                })
        }),
        full_every: raw.full_every.as_ref().map(|text| {
            duration(&text.value).unwrap_or_else(|| {
                faults.at("MAP_BAD_VALUE", text, "full_every", "30s, 10m, 2h, 1d");
                Duration::from_secs(86_400)
            })
        }),
    });
    Query { sql, watermark }
}

/// `30s`, `10m`, `2h`, `1d`, `500ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
}

/// `+08:00` in seconds.
fn offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}
