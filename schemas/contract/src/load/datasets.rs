//! `catalogue/<dept>/<name>.v<N>.yaml` with its `.avsc`.

use std::collections::BTreeMap;
use std::sync::Arc;

use mz_seal::{FieldType, Layout, schema_digest};
use serde_saphyr::Location;

use super::{avsc, date, days, fields, is_name, seconds, text};
use crate::dataset::{
    Conditions, Dataset, Limits, Publication, SOURCE_RETENTION_MAX_DAYS, Sharing,
};
use crate::department::Department;
use crate::fault::Faults;
use crate::raw::{RawConditions, RawDataset, RawField};
use crate::tree::Tree;
use crate::yaml::{self, Located};

/// Order 809 Art. 13: what a catalogue entry must state, as key and as the law says it.
pub(crate) const NINE_ATTRIBUTES: [(&str, &str); 9] = [
    ("title", "目录名称"),
    ("fields", "数据项"),
    ("provider", "提供单位"),
    ("format", "数据格式"),
    ("update_frequency", "更新频率"),
    ("sharing", "共享属性"),
    ("ways", "共享方式"),
    ("conditions", "使用条件"),
    ("classification", "数据分类分级"),
];

/// Streams that may feed one dataset.
const MAX_STREAMS: usize = 64;
/// 数据分级: levels in use for government data.
const MAX_LEVEL: u8 = 4;

pub(super) fn load(tree: &Tree, departments: &[Department], faults: &mut Faults) -> Vec<Dataset> {
    let mut datasets: Vec<Dataset> = Vec::new();
    for (file, source) in tree.below("catalogue") {
        if let Some(stem) = file.strip_suffix(".avsc") {
            if tree.get(&format!("{stem}.yaml")).is_none() {
                faults.push("AVSC_ORPHAN", file, &Location::UNKNOWN, stem, "");
            }
            continue;
        }
        let Some(stem) = file.strip_suffix(".yaml") else {
            continue;
        };
        let Some((department, name, version)) = parse_stem(stem) else {
            faults.push("CATALOGUE_PATH", file, &Location::UNKNOWN, file, "");
            continue;
        };
        if !departments.iter().any(|known| known.id == department) {
            if tree
                .get(&format!("departments/{department}.yaml"))
                .is_none()
            {
                faults.push(
                    "DEPARTMENT_UNKNOWN",
                    file,
                    &Location::UNKNOWN,
                    department,
                    "",
                );
            }
            continue;
        }
        let Some(raw) = yaml::parse::<RawDataset>(file, source, faults) else {
            continue;
        };
        let avsc_file = format!("{stem}.avsc");
        let Some(schema) = tree.get(&avsc_file) else {
            faults.push("AVSC_MISSING", &avsc_file, &Location::UNKNOWN, stem, "");
            continue;
        };
        let layout = match Layout::compile(schema.as_bytes()) {
            Ok(layout) => Arc::new(layout),
            Err(error) => {
                faults.push_at("AVSC_INVALID", &avsc_file, (1, 1), name, &error.to_string());
                continue;
            }
        };
        avsc::check(&avsc_file, schema, faults);
        let source = Source {
            file,
            avsc_file: &avsc_file,
            avsc: schema,
            department,
            name,
            version,
        };
        if let Some(dataset) = build(&source, raw, layout, datasets.len(), faults) {
            datasets.push(dataset);
        }
    }
    datasets
}

/// `catalogue/hrss/insurance.status.v1` → department, name, version.
fn parse_stem(stem: &str) -> Option<(&str, &str, u16)> {
    let (department, rest) = stem.strip_prefix("catalogue/")?.split_once('/')?;
    let (name, version) = rest.rsplit_once(".v")?;
    let number: u16 = version.parse().ok().filter(|&v| v > 0)?;
    // "v01" would be a second name for v1.
    let plain = number.to_string() == version;
    let parts_hold = name.split('.').all(is_name) && name.split('.').count() <= 4;
    (plain && parts_hold && is_name(department)).then_some((department, name, number))
}

/// Where a dataset is written.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) avsc_file: &'a str,
    pub(super) avsc: &'a str,
    department: &'a str,
    name: &'a str,
    version: u16,
}

fn build(
    source: &Source<'_>,
    raw: RawDataset,
    layout: Arc<Layout>,
    ix: usize,
    faults: &mut Faults,
) -> Option<Dataset> {
    let file = source.file;
    let present = [
        raw.title.is_some(),
        raw.fields.is_some(),
        raw.provider.is_some(),
        raw.format.is_some(),
        raw.update_frequency.is_some(),
        raw.sharing.is_some(),
        raw.ways.is_some(),
        raw.conditions.is_some(),
        raw.classification.is_some(),
    ];
    for ((key, law), present) in NINE_ATTRIBUTES.iter().zip(present) {
        if !present {
            faults.push_at("ATTRIBUTE_MISSING", file, (1, 1), key, law);
        }
    }
    let provider = raw.provider?;
    if provider.value != source.department {
        faults.push(
            "PROVIDER_MISMATCH",
            file,
            &provider.referenced,
            &provider.value,
            source.department,
        );
    }
    let format = raw.format?;
    if format.value != "avro" {
        faults.push(
            "FORMAT_UNKNOWN",
            file,
            &format.referenced,
            &format.value,
            "avro",
        );
    }
    let ways = raw.ways?;
    if ways.value.is_empty() {
        faults.push("LIST_EMPTY", file, &ways.referenced, "ways", "");
    }
    let sharing = raw.sharing?.value;
    let conditions = conditions(sharing, raw.conditions?, file, faults);
    let classification = raw.classification?.value;
    let level = classification.level;
    if !(1..=MAX_LEVEL).contains(&level.value) {
        faults.push(
            "LEVEL_INVALID",
            file,
            &level.referenced,
            &level.value.to_string(),
            &MAX_LEVEL.to_string(),
        );
    }
    let raw_fields: Located<BTreeMap<String, Located<RawField>>> = raw.fields?;
    let fields = fields::describe(source, raw_fields, &layout, faults);

    let subject_field = fields
        .iter()
        .position(|field| field.name == raw.subject.value);
    match subject_field.map(|index| &fields[index].layout) {
        None => faults.push(
            "FIELD_UNKNOWN",
            file,
            &raw.subject.referenced,
            &raw.subject.value,
            "subject",
        ),
        Some(subject) if subject.ty != FieldType::String || subject.nullable => {
            faults.push(
                "SUBJECT_TYPE",
                file,
                &raw.subject.referenced,
                &raw.subject.value,
                "",
            );
        }
        Some(_) => {}
    }
    let mut record_fields = Vec::new();
    if raw.record.value.is_empty() {
        faults.push("LIST_EMPTY", file, &raw.record.referenced, "record", "");
    }
    for name in &raw.record.value {
        let index = fields.iter().position(|field| field.name == name.value);
        match index {
            None => faults.push(
                "FIELD_UNKNOWN",
                file,
                &name.referenced,
                &name.value,
                "record",
            ),
            Some(index) if record_fields.contains(&index) => {
                faults.push(
                    "FIELD_DUPLICATE",
                    file,
                    &name.referenced,
                    &name.value,
                    "record",
                );
            }
            Some(index) => {
                let layout = &fields[index].layout;
                let fits = matches!(
                    layout.ty,
                    FieldType::String
                        | FieldType::Int
                        | FieldType::Long
                        | FieldType::Enum(_)
                        | FieldType::Date
                );
                if !fits || layout.nullable {
                    faults.push("RECORD_TYPE", file, &name.referenced, &name.value, "");
                }
                record_fields.push(index);
            }
        }
    }
    let streams = streams(&raw.streams, file, faults);
    let retention_days = days(&raw.retention, file, faults);
    if retention_days.is_some_and(|days| days > SOURCE_RETENTION_MAX_DAYS) {
        let limit = format!("{SOURCE_RETENTION_MAX_DAYS}d");
        faults.push(
            "RETENTION_TOO_LONG",
            file,
            &raw.retention.referenced,
            &raw.retention.value,
            &limit,
        );
    }
    let stale_after_s = seconds(&raw.stale_after, file, faults);
    let approved_on = date(&raw.published.approved_on, file, faults);
    let until = date(&raw.limits.until, file, faults);
    if raw.code.value.is_empty()
        || !raw
            .code
            .value
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'/')
    {
        faults.push(
            "CATALOGUE_CODE",
            file,
            &raw.code.referenced,
            &raw.code.value,
            "",
        );
    }
    Some(Dataset {
        ix,
        id: format!("{}.{}.v{}", source.department, source.name, source.version),
        department: source.department.to_owned(),
        name: source.name.to_owned(),
        version: source.version,
        title: text(raw.title?.value),
        summary: text(raw.summary),
        code: raw.code.value,
        format: format.value,
        update_frequency: raw.update_frequency?.value,
        sharing,
        ways: ways.value,
        conditions,
        category: text(classification.category),
        level: level.value,
        published: Publication {
            secrecy_review: raw.published.secrecy_review,
            impact_assessment: raw.published.impact_assessment,
            approved_by: raw.published.approved_by,
            approved_on: approved_on?,
        },
        limits: Limits {
            bases: raw.limits.bases,
            max_case_days: raw.limits.max_case_days.value,
            until: until?,
        },
        avsc: source.avsc.as_bytes().to_vec(),
        schema_digest: schema_digest(source.avsc.as_bytes()),
        schema_id: 0,
        layout,
        fields,
        subject_field: subject_field?,
        record_fields,
        streams,
        availability: raw.availability,
        stale_after_s: stale_after_s?,
        retention_days: retention_days?,
        breaking_change: raw.breaking_change.map(text),
    })
}

/// Order 809 Art. 14 and 15: conditional sharing states scope and use; refusing it cites the law;
/// unconditional sharing has no conditions of one's own making.
fn conditions(
    sharing: Sharing,
    raw: Located<RawConditions>,
    file: &str,
    faults: &mut Faults,
) -> Conditions {
    let at = raw.referenced;
    let raw = raw.value;
    let (code, field) = match sharing {
        Sharing::Conditional if raw.scope.is_none() => ("CONDITIONS_MISSING", "scope"),
        Sharing::Conditional if raw.uses.is_none() => ("CONDITIONS_MISSING", "uses"),
        Sharing::NotShared if raw.law.as_ref().is_none_or(|law| law.trim().is_empty()) => {
            ("LAW_MISSING", "law")
        }
        Sharing::Unconditional if raw.scope.is_some() => ("CONDITIONS_UNEXPECTED", "scope"),
        Sharing::Unconditional if raw.uses.is_some() => ("CONDITIONS_UNEXPECTED", "uses"),
        _ => ("", ""),
    };
    if !code.is_empty() {
        faults.push(code, file, &at, field, "");
    }
    Conditions {
        scope: raw.scope.map(text),
        uses: raw.uses.map(text),
        law: raw.law,
    }
}

fn streams(raw: &Located<Vec<Located<String>>>, file: &str, faults: &mut Faults) -> Vec<String> {
    let mut streams: Vec<String> = Vec::new();
    if raw.value.is_empty() || raw.value.len() > MAX_STREAMS {
        faults.push(
            "LIST_EMPTY",
            file,
            &raw.referenced,
            "streams",
            &MAX_STREAMS.to_string(),
        );
    }
    for stream in &raw.value {
        if !is_name(&stream.value) {
            faults.push("NAME_INVALID", file, &stream.referenced, &stream.value, "");
        } else if streams.contains(&stream.value) {
            faults.push(
                "STREAM_DUPLICATE",
                file,
                &stream.referenced,
                &stream.value,
                "",
            );
        } else {
            streams.push(stream.value.clone());
        }
    }
    streams
}
