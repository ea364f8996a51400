//! A checked mapping: what to read and how each field is made. Built by [`super::compile`] only.

use super::raw::{Disappeared, Formulas};
use crate::dates::DatePattern;
use mz_seal::Datum;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// A mapping that fits the contract.
#[derive(Debug)]
pub struct Mapping {
    pub department: String,
    pub stream: String,
    pub input: Input,
    pub disappeared: Disappeared,
    pub withdraw_limit_percent: Option<u8>,
    /// The register's clock, seconds east of UTC.
    pub offset_s: i32,
    /// Columns of the main table, in the order that rows carry them.
    pub columns: Vec<String>,
    pub joins: Vec<Join>,
    pub events: Vec<EventPlan>,
}

impl Mapping {
    /// Ids of the datasets it makes, each once.
    #[must_use]
    pub fn datasets(&self) -> Vec<String> {
        let mut ids: Vec<String> = self
            .events
            .iter()
            .map(|event| event.dataset.clone())
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }
}

/// What kind of table is read, and how.
#[derive(Clone, Debug)]
pub enum Input {
    Csv(CsvFormat),
    Ndjson,
    Xlsx(XlsxFormat),
    Postgres(Query),
}

impl Input {
    /// Whether the data comes from a file (else from a database).
    #[must_use]
    pub fn is_file(&self) -> bool {
        !matches!(self, Self::Postgres(_))
    }
}

/// How a delimited file is written.
#[derive(Clone, Debug)]
pub struct CsvFormat {
    pub encoding: &'static encoding_rs::Encoding,
    pub delimiter: u8,
    /// `None`: a quote is a character like any other.
    pub quote: Option<u8>,
    /// Line of the header, 1-based.
    pub header: u32,
}

/// Which part of a workbook is read.
#[derive(Clone, Debug)]
pub struct XlsxFormat {
    pub sheet: String,
    /// Row of the header, 1-based as the spreadsheet shows it.
    pub header: u32,
    pub formulas: Formulas,
}

/// What is asked of a database.
#[derive(Clone, Debug)]
pub struct Query {
    pub sql: String,
    pub watermark: Option<Watermark>,
}

/// A column that rises when a row changes.
#[derive(Clone, Debug)]
pub struct Watermark {
    pub column: String,
    /// Seconds for a time column, units for a number.
    pub overlap: u64,
    pub full_every: Option<Duration>,
}

/// A child table, looked up by the parent's columns.
#[derive(Debug)]
pub struct Join {
    pub name: String,
    pub input: Input,
    /// Columns of the child table, in the order that its rows carry them.
    pub columns: Vec<String>,
    /// `(child column, parent column)`, as places in either row.
    pub on: Vec<(usize, usize)>,
}

/// How a row becomes one event.
#[derive(Debug)]
pub struct EventPlan {
    /// Dataset id.
    pub dataset: String,
    pub when: Vec<Condition>,
    pub withdrawn: Vec<Condition>,
    pub time: Option<FieldPlan>,
    /// One for each field of the dataset, in schema order.
    pub fields: Vec<FieldPlan>,
    /// Places of the record's fields in `fields`.
    pub record_fields: Vec<usize>,
}

/// A test on a raw cell; cells compare trimmed and narrowed.
#[derive(Debug)]
pub struct Condition {
    pub column: usize,
    pub test: Test,
}

#[derive(Debug)]
pub enum Test {
    In(HashSet<String>),
    NotIn(HashSet<String>),
    Present(bool),
}

/// How one field is made.
#[derive(Debug)]
pub struct FieldPlan {
    pub name: String,
    pub source: Source,
    pub kind: Kind,
    pub nullable: bool,
    pub table: Option<HashMap<String, String>>,
    pub empty: HashSet<String>,
    pub default: Option<Datum>,
}

#[derive(Debug)]
pub enum Source {
    /// A nullable field that the register does not know.
    Nothing,
    Constant(Datum),
    /// The first of these cells that holds something.
    Cells(Vec<usize>),
    /// A list from a JSON array.
    Array {
        column: usize,
        entry: ListEntry,
    },
    /// A list from the rows of a join.
    Joined {
        join: usize,
        entry: ListEntry,
    },
}

/// One entry of a list.
#[derive(Debug)]
pub struct ListEntry {
    /// Keys of an array's objects; empty for a join, whose columns the join holds.
    pub columns: Vec<String>,
    /// The entry record's fields, in schema order.
    pub fields: Vec<FieldPlan>,
}

/// What the schema wants.
#[derive(Clone, Debug)]
pub enum Kind {
    Text(Reading),
    Enum(HashSet<String>),
    Bool {
        yes: HashSet<String>,
        no: HashSet<String>,
    },
    /// Bounds included.
    Int {
        least: i64,
        most: i64,
    },
    Double,
    Decimal {
        precision: u32,
        scale: u32,
    },
    Date(Vec<DatePattern>),
    Timestamp(Vec<DatePattern>),
    List,
}

/// How a text is read; see the mapping key `as`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Text,
    Code,
    Name,
    Id,
    Exact,
}
