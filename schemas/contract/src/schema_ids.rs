//! Schema ids (`schema-ids.yaml`): append-only, so that a record stays readable for as long as it lives.
//!
//! Sources have ids from 1000, projected schemas from 2000, answers from 3000; a full range goes on at
//! the same thousand plus 10 000. An entry holds what it takes to build its schema again: an agreement
//! that changes its fields gets a new id, and the old one still resolves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use mz_seal::{Layout, project_schema, schema_digest};
use serde_saphyr::Location;

use crate::dataset::Dataset;
use crate::expr::Kind;
use crate::fault::Faults;
use crate::raw::{RawSchemaIds, RawSchemaKind};
use crate::yaml;

pub(crate) const SCHEMA_IDS_FILE: &str = "schema-ids.yaml";

/// First id of each range.
pub const FIRST_SOURCE_ID: u32 = 1000;
pub const FIRST_PROJECTED_ID: u32 = 2000;
pub const FIRST_ANSWER_ID: u32 = 3000;
const RANGE: u32 = 1000;
const NEXT_RANGE: u32 = 10_000;

/// What an id stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SchemaKey {
    Source {
        dataset: String,
    },
    Projected {
        agreement: String,
        dataset: String,
        fields: Vec<String>,
    },
    Answer {
        agreement: String,
        name: String,
        version: u16,
        kind: String,
    },
}

impl SchemaKey {
    /// The topic whose records carry the id.
    #[must_use]
    pub fn topic(&self) -> String {
        match self {
            Self::Source { dataset } => format!("src.{dataset}"),
            Self::Projected {
                agreement, dataset, ..
            } => out_topic(agreement, dataset),
            Self::Answer {
                agreement,
                name,
                version,
                ..
            } => answer_topic(agreement, name, *version),
        }
    }

    const fn first_id(&self) -> u32 {
        match self {
            Self::Source { .. } => FIRST_SOURCE_ID,
            Self::Projected { .. } => FIRST_PROJECTED_ID,
            Self::Answer { .. } => FIRST_ANSWER_ID,
        }
    }

    /// Whether an id lies in a range of this kind.
    fn may_have(&self, id: u32) -> bool {
        let first = self.first_id();
        id >= first && (id - first) % NEXT_RANGE < RANGE
    }
}

/// `to.police.talent-settlement.hrss.insurance.status.v1`
#[must_use]
pub fn out_topic(agreement: &str, dataset: &str) -> String {
    format!("to.{}.{dataset}", agreement.replacen('/', ".", 1))
}

/// `to.police.talent-settlement.answer.insured6of12.v1`
#[must_use]
pub fn answer_topic(agreement: &str, name: &str, version: u16) -> String {
    format!(
        "to.{}.answer.{name}.v{version}",
        agreement.replacen('/', ".", 1)
    )
}

/// One schema that the bus serves.
#[derive(Clone, Debug)]
pub struct SchemaEntry {
    pub id: u32,
    pub key: SchemaKey,
    /// SHA-256 of `avsc`.
    pub digest: [u8; 32],
    pub avsc: String,
    pub layout: Arc<Layout>,
}

/// All ids, current and past.
#[derive(Clone, Debug, Default)]
pub struct SchemaIds {
    entries: BTreeMap<u32, SchemaEntry>,
}

impl SchemaIds {
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&SchemaEntry> {
        self.entries.get(&id)
    }

    /// By rising id.
    pub fn iter(&self) -> impl Iterator<Item = &SchemaEntry> {
        self.entries.values()
    }

    /// The id of a schema, when it has one and the digest is still the recorded one.
    pub(crate) fn id_of(&self, key: &SchemaKey, digest: &[u8; 32]) -> Option<u32> {
        self.entries
            .values()
            .find(|entry| entry.key == *key && entry.digest == *digest)
            .map(|entry| entry.id)
    }

    /// All schemas of a topic, oldest first: the versions of a registry's subject.
    pub fn of_topic(&self, topic: &str) -> impl Iterator<Item = &SchemaEntry> {
        self.entries
            .values()
            .filter(move |entry| entry.key.topic() == topic)
    }
}

/// The record name of a projected schema: `police.talent_settlement.Status`, Avro names being ASCII
/// letters, digits and `_`.
#[must_use]
pub fn projected_name(agreement: &str, source_name: &str) -> String {
    let record = source_name.rsplit('.').next().unwrap_or(source_name);
    format!(
        "{}.{record}",
        agreement.replacen('/', ".", 1).replace('-', "_")
    )
}

/// The schema of a derived answer. `event` is the digest of the source event it was computed from.
pub(crate) fn answer_schema(agreement: &str, name: &str, version: u16, kind: &str) -> String {
    let space = agreement.replacen('/', ".", 1).replace('-', "_");
    let ty = match kind {
        "date" => r#"{"type":"int","logicalType":"date"}"#.to_owned(),
        "int" => r#""long""#.to_owned(),
        "bool" => r#""boolean""#.to_owned(),
        other => format!("{other:?}"),
    };
    format!(
        concat!(
            r#"{{"type":"record","name":"{}V{}","namespace":"{}.answer","fields":["#,
            r#"{{"name":"value","type":["null",{}]}},"#,
            r#"{{"name":"asOf","type":{{"type":"long","logicalType":"timestamp-millis"}}}},"#,
            r#"{{"name":"dataset","type":"string"}},"#,
            r#"{{"name":"event","type":"bytes"}}]}}"#
        ),
        name, version, space, ty
    )
}

/// The kinds an answer may have.
pub(crate) fn answer_kind(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Bool => Some("bool"),
        Kind::Int => Some("int"),
        Kind::Double => Some("double"),
        Kind::Str => Some("string"),
        Kind::Date => Some("date"),
        _ => None,
    }
}

/// A schema that the contract needs an id for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) key: SchemaKey,
    pub(crate) digest: [u8; 32],
}

/// `is_written` tells whether a dataset has a file: then what is wrong with it has been said elsewhere.
pub(crate) fn parse(
    text: &str,
    datasets: &[Dataset],
    is_written: &dyn Fn(&str) -> bool,
    faults: &mut Faults,
) -> SchemaIds {
    let mut ids = SchemaIds::default();
    let Some(raw) = yaml::parse::<RawSchemaIds>(SCHEMA_IDS_FILE, text, faults) else {
        return ids;
    };
    let mut last: BTreeMap<u32, u32> = BTreeMap::new();
    for raw in raw.ids {
        let raw = raw.value;
        let at = &raw.id.referenced;
        let id = raw.id.value;
        let key = match raw.schema {
            RawSchemaKind::Source(of) => SchemaKey::Source {
                dataset: of.dataset,
            },
            RawSchemaKind::Projected(of) => SchemaKey::Projected {
                agreement: of.agreement,
                dataset: of.dataset,
                fields: of.fields,
            },
            RawSchemaKind::Answer(of) => SchemaKey::Answer {
                agreement: of.agreement,
                name: of.name,
                version: of.version,
                kind: of.kind,
            },
        };
        if ids.entries.contains_key(&id) {
            faults.push(
                "SCHEMA_ID_DUPLICATE",
                SCHEMA_IDS_FILE,
                at,
                &id.to_string(),
                &key.topic(),
            );
            continue;
        }
        if !key.may_have(id) {
            faults.push(
                "SCHEMA_ID_RANGE",
                SCHEMA_IDS_FILE,
                at,
                &id.to_string(),
                &key.first_id().to_string(),
            );
            continue;
        }
        // Append-only: within a range, ids rise down the page.
        let previous = last.entry(key.first_id()).or_default();
        if id <= *previous {
            faults.push(
                "SCHEMA_ID_ORDER",
                SCHEMA_IDS_FILE,
                at,
                &id.to_string(),
                &previous.to_string(),
            );
        }
        *previous = id.max(*previous);
        if ids.entries.values().any(|entry| entry.key == key) {
            faults.push(
                "SCHEMA_ID_REUSED",
                SCHEMA_IDS_FILE,
                at,
                &id.to_string(),
                &key.topic(),
            );
            continue;
        }
        let Some(digest) = hex_digest(&raw.digest.value) else {
            faults.push(
                "DIGEST_MALFORMED",
                SCHEMA_IDS_FILE,
                &raw.digest.referenced,
                &id.to_string(),
                "",
            );
            continue;
        };
        let built = match build(&key, datasets) {
            Ok(built) => built,
            Err(detail) => {
                if is_written(&detail) {
                    continue;
                }
                faults.push(
                    "SCHEMA_ID_UNKNOWN",
                    SCHEMA_IDS_FILE,
                    at,
                    &id.to_string(),
                    &detail,
                );
                continue;
            }
        };
        if schema_digest(built.0.as_bytes()) != digest {
            changed(&key, id, &raw.digest.referenced, datasets, faults);
        }
        ids.entries.insert(
            id,
            SchemaEntry {
                id,
                key,
                digest,
                avsc: built.0,
                layout: built.1,
            },
        );
    }
    ids
}

/// A source schema that is not what its id was given for: the schema's file is at fault, not the list.
fn changed(key: &SchemaKey, id: u32, at: &Location, datasets: &[Dataset], faults: &mut Faults) {
    let source = match key {
        SchemaKey::Source { dataset } => datasets.iter().find(|known| known.id == *dataset),
        _ => None,
    };
    match source {
        Some(dataset) => {
            let file = format!("{}.avsc", dataset.stem());
            faults.push_at(
                "SCHEMA_CHANGED",
                &file,
                (1, 1),
                &dataset.id,
                &(dataset.version + 1).to_string(),
            );
        }
        None => faults.push(
            "SCHEMA_ID_DIGEST",
            SCHEMA_IDS_FILE,
            at,
            &id.to_string(),
            &key.topic(),
        ),
    }
}

fn build(key: &SchemaKey, datasets: &[Dataset]) -> Result<(String, Arc<Layout>), String> {
    let find = |id: &str| {
        datasets
            .iter()
            .find(|dataset| dataset.id == id)
            .ok_or_else(|| id.to_owned())
    };
    match key {
        SchemaKey::Source { dataset } => {
            let dataset = find(dataset)?;
            let avsc =
                String::from_utf8(dataset.avsc.clone()).map_err(|error| error.to_string())?;
            Ok((avsc, Arc::clone(&dataset.layout)))
        }
        SchemaKey::Projected {
            agreement,
            dataset,
            fields,
        } => {
            let dataset = find(dataset)?;
            let mut kept = Vec::with_capacity(fields.len());
            for field in fields {
                let index = dataset
                    .field_index(field)
                    .and_then(|index| u16::try_from(index).ok());
                kept.push(index.ok_or_else(|| field.clone())?);
            }
            let name = projected_name(agreement, dataset.layout.name());
            let avsc =
                project_schema(&dataset.avsc, &kept, &name).map_err(|error| error.to_string())?;
            compiled(avsc)
        }
        SchemaKey::Answer {
            agreement,
            name,
            version,
            kind,
        } => {
            if !["bool", "int", "double", "string", "date"].contains(&kind.as_str()) {
                return Err(kind.clone());
            }
            compiled(answer_schema(agreement, name, *version, kind))
        }
    }
}

fn compiled(avsc: String) -> Result<(String, Arc<Layout>), String> {
    let layout = Layout::compile(avsc.as_bytes()).map_err(|error| error.to_string())?;
    Ok((avsc, Arc::new(layout)))
}

pub(crate) fn hex_digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok()?;
    Some(digest)
}

/// Faults for what the contract needs and the file does not have.
pub(crate) fn check_wanted(ids: &SchemaIds, wanted: &[Wanted], faults: &mut Faults) {
    for wanted in wanted {
        if ids.iter().all(|entry| entry.key != wanted.key) {
            faults.push(
                "SCHEMA_ID_MISSING",
                SCHEMA_IDS_FILE,
                &Location::UNKNOWN,
                &wanted.key.topic(),
                "",
            );
        }
    }
}

/// The file's text with the missing ids appended, and the ids that were added. Nothing that stands
/// there is touched.
pub(crate) fn append_missing(text: &str, ids: &SchemaIds, wanted: &[Wanted]) -> (String, Vec<u32>) {
    let mut text = text.to_owned();
    if text.trim().is_empty() || text.trim_end().ends_with("ids: []") {
        text = text.replace("ids: []", "");
        text.push_str("ids:\n");
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let mut highest: BTreeMap<u32, u32> = BTreeMap::new();
    for entry in ids.iter() {
        let last = highest.entry(entry.key.first_id()).or_default();
        *last = entry.id.max(*last);
    }
    let mut added = Vec::new();
    for wanted in wanted {
        if ids.iter().any(|entry| entry.key == wanted.key) {
            continue;
        }
        let first = wanted.key.first_id();
        let mut id = highest.get(&first).map_or(first, |last| last + 1);
        if !wanted.key.may_have(id) {
            // The range is full: go on at the same thousand of the next ten thousand.
            id = id - RANGE + NEXT_RANGE;
        }
        highest.insert(first, id);
        added.push(id);
        let schema = match &wanted.key {
            SchemaKey::Source { dataset } => format!("source: {{dataset: {dataset}}}"),
            SchemaKey::Projected {
                agreement,
                dataset,
                fields,
            } => {
                format!(
                    "projected: {{agreement: {agreement}, dataset: {dataset}, fields: [{}]}}",
                    fields.join(", ")
                )
            }
            SchemaKey::Answer {
                agreement,
                name,
                version,
                kind,
            } => {
                format!(
                    "answer: {{agreement: {agreement}, name: {name}, version: {version}, type: {kind}}}"
                )
            }
        };
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "  - id: {id}\n    schema: {{{schema}}}\n    digest: {}\n",
            hex::encode(wanted.digest)
        );
    }
    (text, added)
}
