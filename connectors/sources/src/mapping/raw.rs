//! A mapping as it stands in its YAML file, with line and column kept. [`super::compile`] checks it.
//!
//! Every key is in the table of docs/integrator.md.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A value and where it stands in its file.
pub type At<T> = serde_saphyr::Spanned<T>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMapping {
    pub department: At<String>,
    pub stream: At<String>,
    pub input: At<RawInput>,
    /// What a record that is no longer in the register means. Default: nothing is concluded.
    #[serde(default)]
    pub disappeared: Disappeared,
    /// Percent of the known records that one snapshot may withdraw.
    pub withdraw_limit: Option<At<u8>>,
    /// The register's clock, `+08:00` unless said otherwise.
    pub utc_offset: Option<At<String>>,
    #[serde(default)]
    pub tables: BTreeMap<String, At<BTreeMap<String, String>>>,
    #[serde(default)]
    pub joins: BTreeMap<String, At<RawJoin>>,
    pub events: Vec<At<RawEvent>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Disappeared {
    /// The record stays as it was last published.
    #[default]
    Keep,
    /// The register deleted it: publish its withdrawal.
    Withdraw,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawInput {
    Csv(RawCsv),
    Ndjson(RawNdjson),
    Xlsx(RawXlsx),
    Postgres(RawPostgres),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCsv {
    pub encoding: At<String>,
    pub delimiter: Option<At<String>>,
    pub quote: Option<At<String>>,
    pub header: Option<At<u32>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNdjson {}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawXlsx {
    pub sheet: At<String>,
    pub header: Option<At<u32>>,
    #[serde(default)]
    pub formulas: Formulas,
}

/// What a formula cell is worth.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Formulas {
    /// Its row is rejected: the value depends on what the file was last opened with.
    #[default]
    Reject,
    /// The value that the spreadsheet last computed and stored.
    Cached,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPostgres {
    pub query: At<String>,
    pub watermark: Option<RawWatermark>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWatermark {
    pub column: At<String>,
    /// Read this much again each time: rows that were committed late carry an older mark.
    pub overlap: Option<At<String>>,
    /// Read everything again this often, so that deleted rows are noticed.
    pub full_every: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawJoin {
    pub input: At<RawInput>,
    /// Child column → parent column.
    pub on: BTreeMap<String, At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEvent {
    pub dataset: At<String>,
    /// All must hold, or the row makes no event.
    #[serde(default)]
    pub when: Vec<At<RawCondition>>,
    /// All hold: the register says that the record is void.
    #[serde(default)]
    pub withdrawn: Vec<At<RawCondition>>,
    /// One event for each entry; its `{names}` are filled into `column`, `const`, … below.
    #[serde(default)]
    pub split: Vec<At<BTreeMap<String, String>>>,
    /// When it became so.
    pub time: Option<At<RawField>>,
    pub fields: BTreeMap<String, At<RawField>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCondition {
    pub column: At<String>,
    #[serde(rename = "in")]
    pub is_in: Option<Vec<String>>,
    pub not_in: Option<Vec<String>>,
    pub present: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawField {
    pub column: Option<At<String>>,
    pub first_of: Option<Vec<At<String>>>,
    #[serde(rename = "const")]
    pub constant: Option<At<String>>,
    /// A JSON array in this column becomes the list.
    pub array: Option<At<String>>,
    /// The rows of this join become the list.
    pub join: Option<At<String>>,
    /// The fields of one list entry.
    pub fields: Option<BTreeMap<String, At<RawField>>>,
    #[serde(rename = "as")]
    pub reading: Option<At<RawReading>>,
    pub table: Option<At<String>>,
    pub dates: Option<Vec<At<String>>>,
    pub yes: Option<Vec<String>>,
    pub no: Option<Vec<String>>,
    /// Texts that mean "nothing": 无, —, 长期.
    pub empty: Option<Vec<String>>,
    pub default: Option<At<String>>,
}

/// How a text is read.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawReading {
    /// Space around it goes.
    Text,
    /// Also narrowed: full-width letters and digits.
    Code,
    /// A person's name.
    Name,
    /// A citizen identity number.
    Id,
    /// Nothing is touched.
    Exact,
}
