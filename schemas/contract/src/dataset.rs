//! A dataset (数据目录 entry): what a department publishes, under which conditions, in which schema.

use std::ops::Range;
use std::sync::Arc;

use mz_seal::{FieldLayout, FieldType, Layout};
use serde::Deserialize;
use thiserror::Error;

use crate::agreement::BasisKind;
use crate::avro;
use crate::reasons::Text;
use crate::value::Value;

/// Index of a dataset in `Contract::datasets`.
pub type DatasetIx = usize;

/// 更新频率, the values in use for government catalogues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateFrequency {
    Realtime,
    Daily,
    Weekly,
    TenDays,
    Monthly,
    Quarterly,
    Yearly,
}

/// 共享属性 (Order 809 Art. 14): 无条件共享, 有条件共享, 不予共享.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    Unconditional,
    Conditional,
    NotShared,
}

/// 共享方式 (Order 809 Art. 22). An event subscription counts as a service interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    ServiceInterface,
    BatchExchange,
    FileDownload,
}

/// How sensitive one field is. `Sensitive` is PIPL Art. 28: special care, separate consent where
/// consent is the basis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classification {
    Public,
    Internal,
    Personal,
    Sensitive,
}

/// Whether the register is published as it changes, or its connector answers for one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    Stream,
    OnRequest,
}

/// What may be done with one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// An agreement may deliver it.
    Allowed,
    /// An agreement may use it in a derived answer, not deliver it.
    AnswerOnly,
    /// No agreement may name it.
    Never,
}

/// One top-level field: 数据项.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub title: Text,
    pub class: Classification,
    pub share: Share,
    pub layout: FieldLayout,
    /// Texts of an enum's symbols, in the schema's order. Avro names are ASCII; 养老 is a text.
    pub symbols: Vec<(String, Text)>,
}

/// 使用条件.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    pub scope: Option<Text>,
    pub uses: Option<Text>,
    pub law: Option<String>,
}

/// The acts before publication (Order 809 Art. 13).
#[derive(Clone, Debug)]
pub struct Publication {
    pub secrecy_review: String,
    pub impact_assessment: String,
    pub approved_by: String,
    pub approved_on: chrono::NaiveDate,
}

/// The most that an agreement may ask of the dataset; set by its provider.
#[derive(Clone, Debug)]
pub struct Limits {
    pub bases: Vec<BasisKind>,
    pub max_case_days: u32,
    pub until: chrono::NaiveDate,
}

/// One version of one dataset.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub ix: DatasetIx,
    /// `hrss.insurance.status.v1`
    pub id: String,
    pub department: String,
    /// `insurance.status`
    pub name: String,
    pub version: u16,
    /// 目录名称
    pub title: Text,
    pub summary: Text,
    /// Catalogue code: 类项目细目.
    pub code: String,
    /// 数据格式
    pub format: String,
    pub update_frequency: UpdateFrequency,
    pub sharing: Sharing,
    pub ways: Vec<Way>,
    pub conditions: Conditions,
    /// 数据分类分级: category and level 1 (lowest) to 4.
    pub category: Text,
    pub level: u8,
    pub published: Publication,
    pub limits: Limits,
    /// The committed bytes of the .avsc file.
    pub avsc: Vec<u8>,
    /// SHA-256 of `avsc`.
    pub schema_digest: [u8; 32],
    /// 0 until `schema-ids.yaml` has one (drafts only).
    pub schema_id: u32,
    pub layout: Arc<Layout>,
    pub fields: Vec<Field>,
    pub subject_field: usize,
    pub record_fields: Vec<usize>,
    pub streams: Vec<String>,
    pub availability: Availability,
    /// Silence of a stream, in seconds, after which its facts are shown as stale.
    pub stale_after_s: u64,
    /// Retention of the source topic in days, at most `SOURCE_RETENTION_MAX_DAYS`.
    pub retention_days: u32,
    /// Why this version can't be read as the one before; lint asks for it when that is so.
    pub breaking_change: Option<Text>,
}

/// Longest retention of a source topic: the vault is the only long store.
pub const SOURCE_RETENTION_MAX_DAYS: u32 = 90;

/// A record id could not be read. Carries the field's name, never its value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordFault {
    #[error("the datum does not have the field {0}")]
    Missing(String),
    #[error("the record field {0} is empty or null")]
    Empty(String),
    #[error("the record field {0} can't be read")]
    Unreadable(String),
}

impl Dataset {
    /// `src.hrss.insurance.status.v1`
    #[must_use]
    pub fn src_topic(&self) -> String {
        format!("src.{}", self.id)
    }

    /// The path of its files below the contract root, without ending.
    #[must_use]
    pub fn stem(&self) -> String {
        format!(
            "catalogue/{}/{}.v{}",
            self.department, self.name, self.version
        )
    }

    #[must_use]
    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// The record id of a datum: the record fields as text, joined by `|`. `%` and `|` inside a field
    /// are written `%25` and `%7C`, so that two records never share an id.
    pub fn record_of(&self, datum: &[u8], spans: &[Range<u32>]) -> Result<String, RecordFault> {
        let mut record = String::new();
        for (position, &index) in self.record_fields.iter().enumerate() {
            let field = &self.fields[index];
            let bytes = spans
                .get(index)
                .and_then(|span| datum.get(span.start as usize..span.end as usize))
                .ok_or_else(|| RecordFault::Missing(field.name.clone()))?;
            let value = avro::read(&field.layout, bytes)
                .map_err(|_| RecordFault::Unreadable(field.name.clone()))?;
            if position > 0 {
                record.push('|');
            }
            let text = match value {
                Value::Str(text) => text.into_owned(),
                Value::Int(value) => value.to_string(),
                Value::Bool(value) => value.to_string(),
                Value::Symbol(index) => match &field.layout.ty {
                    FieldType::Enum(symbols) => symbols.get(index as usize).cloned(),
                    _ => None,
                }
                .ok_or_else(|| RecordFault::Unreadable(field.name.clone()))?,
                Value::Date(days) => crate::value::date_text(days),
                Value::Null => return Err(RecordFault::Empty(field.name.clone())),
                _ => return Err(RecordFault::Unreadable(field.name.clone())),
            };
            if text.is_empty() {
                return Err(RecordFault::Empty(field.name.clone()));
            }
            for character in text.chars() {
                match character {
                    '%' => record.push_str("%25"),
                    '|' => record.push_str("%7C"),
                    other => record.push(other),
                }
            }
        }
        Ok(record)
    }
}
