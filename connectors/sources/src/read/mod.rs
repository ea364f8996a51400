//! Readers of tables: CSV, NDJSON, workbooks, databases. All yield rows of cells in the order of the
//! columns that were asked for, and never stop at a bad row.

pub mod csv;
pub mod file;
pub mod lines;
pub mod ndjson;
pub mod postgres;
mod sql;
pub mod xlsx;
pub mod xlsx_child;

use crate::cell::Cell;
use mz_sdk::{Reject, SourceError};

/// One row, reused from row to row.
#[derive(Debug, Default)]
pub struct Row {
    /// Line or row number as a person would count, 1-based.
    pub number: u64,
    /// Cells in the order of the columns asked for.
    pub cells: Vec<Cell>,
}

/// What a reader found next.
#[derive(Debug)]
pub enum Next {
    Row,
    /// A row that is no row; what follows it is read.
    Bad(BadRow),
    End,
}

/// A row that can't be taken apart into cells.
#[derive(Debug, PartialEq, Eq)]
pub struct BadRow {
    pub number: u64,
    pub code: &'static str,
    /// The start of the row as it stands in the file.
    pub raw: String,
}

impl BadRow {
    #[must_use]
    pub fn into_reject(self) -> Reject {
        Reject {
            row: self.number,
            column: String::new(),
            field: String::new(),
            code: self.code,
            values: vec![("raw".to_owned(), self.raw)],
            record: None,
        }
    }
}

/// A table that is read once, from its first row to its last.
pub trait Table {
    fn next(&mut self, row: &mut Row) -> Result<Next, SourceError>;

    /// Read so far and in all: bytes or rows.
    fn progress(&self) -> Option<(u64, u64)> {
        None
    }

    /// After the end: whether everything there was could be read. Not so for a file that stops in
    /// the middle of a row.
    fn complete(&self) -> bool {
        true
    }
}

/// Longest start of a bad row that is kept for the rejects file, in characters.
const RAW_CHARS: usize = 200;

/// The start of a row as text, whatever its bytes are.
pub(crate) fn raw_start(bytes: &[u8], encoding: &'static encoding_rs::Encoding) -> String {
    let head = bytes.get(..RAW_CHARS * 4).unwrap_or(bytes);
    encoding
        .decode_without_bom_handling(head)
        .0
        .chars()
        .take(RAW_CHARS)
        .collect()
}

/// Places of the wanted columns in a header row. Duplicate names and missing columns are refused:
/// which of two columns is meant must never be a guess.
pub(crate) fn header_places(
    header: &[String],
    wanted: &[String],
) -> Result<Vec<usize>, SourceError> {
    for (at, name) in header.iter().enumerate() {
        if !name.is_empty() && header[..at].contains(name) {
            return Err(SourceError::input("COLUMN_DUPLICATE", name.clone()));
        }
    }
    wanted
        .iter()
        .map(|name| {
            header
                .iter()
                .position(|column| column == name)
                .ok_or_else(|| SourceError::input("COLUMN_MISSING", name.clone()))
        })
        .collect()
}
