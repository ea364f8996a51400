//! Questions and answers.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::{DEFAULT_PAGE, MAX_PAGE};

/// From a time to before another, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    pub from_ms: i64,
    pub to_ms: i64,
}

/// From a day to before another, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Days {
    pub from: NaiveDate,
    pub to: NaiveDate,
}

/// Which part of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRequest {
    /// As the page before had it; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// 1 to [`MAX_PAGE`]; [`DEFAULT_PAGE`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl PageRequest {
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE)
    }
}

/// Part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Ask again with this for what follows. Absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One thing that was done with a person's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where its record is: the log and the leaf in it.
    pub log: String,
    pub leaf: i64,
    /// `gateway-3-120`.
    pub audit_id: String,
    /// RFC 3339.
    pub at: String,
    /// `delivered`, `denied`, `lookup`, and so on.
    pub kind: String,
    /// `stream`, `backfill`, `request`, and so on.
    pub cause: String,
    pub consumer: String,
    pub agreement: String,
    pub purpose: String,
    pub dataset: String,
    /// Source fields by number, ascending.
    pub fields: Vec<u16>,
    /// Codes of the rules that decided.
    pub rules: Vec<String>,
    pub operator: String,
    pub reason: String,
    /// The case or consent, hex.
    pub grant: Option<String>,
    /// How many agreements one denial stands for.
    pub denied: u32,
    /// Version of the record: stream epoch and counter.
    pub version: Option<(u32, u64)>,
}

/// One use of a person's data, as the person is shown it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// RFC 3339.
    pub logtime: String,
    /// `delivered`, `lookup` or `exposed`.
    pub action: String,
    /// The department. Empty: the operator of the bus.
    pub receiver: String,
    /// What was written down, else the purpose.
    pub reason: String,
}

/// What a department's use is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    Purpose,
    Dataset,
    /// Of each dataset.
    Field,
    Day,
}

/// How often, for one group and kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// The purpose, the dataset (also for fields), or the day as `YYYY-MM-DD`.
    pub key: String,
    /// The source field by number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<u16>,
    /// `delivered`, `denied`, and so on.
    pub kind: String,
    pub entries: u64,
    /// Agreements that were denied. 0 for fields.
    pub denied: u64,
}

/// How often one rule said no. A denial by two rules counts for both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedBy {
    /// Its code; empty where none was given.
    pub rule: String,
    pub entries: u64,
    /// Agreements that were denied.
    pub denied: u64,
}

/// What one agreement may see of one dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    pub agreement: String,
    pub dataset: String,
    /// A bitmap, as in the audit record.
    pub fields: Vec<u8>,
}

/// Agreed fields that were never delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unused {
    pub agreement: String,
    pub dataset: String,
    /// By number, ascending. Empty: every one was delivered.
    pub fields: Vec<u16>,
}

/// Entries of one agreement and dataset on one day. Days without any are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub day: NaiveDate,
    /// Of every kind.
    pub entries: u64,
    pub delivered: u64,
}

/// Source offsets that summaries or entries cover without a gap, first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRange {
    pub first: i64,
    pub last: i64,
}

/// What one agreement may see of one dataset, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promised {
    pub agreed: Agreed,
    /// Records a day, delivered and looked up; `None`: no number was agreed.
    pub per_day: Option<u32>,
}

/// Whether an agreement's use of a dataset went past what it stated, and what it never used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverReach {
    pub agreement: String,
    pub dataset: String,
    /// As agreed. Null: no number was, so that no day is above it.
    pub per_day: Option<u32>,
    /// How many days were above it.
    pub days_above: u64,
    /// The worst of them, at most [`MAX_ABOVE_DAYS`](super::MAX_ABOVE_DAYS).
    pub above: Vec<Above>,
    /// Most records delivered and looked up on one day, whatever was agreed.
    pub most: u64,
    /// Agreed fields that were never delivered, by number, ascending.
    pub unused: Vec<u16>,
}

/// A day above the agreed frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Above {
    pub day: NaiveDate,
    /// Records delivered and looked up.
    pub uses: u64,
}
