//! A child table in memory, looked up by the parent's columns. Bounded: see `MAX_JOIN_BYTES`.

use crate::cell::Cell;
use crate::limits::MAX_JOIN_BYTES;
use mz_sdk::{Reject, SourceError};
use std::collections::HashMap;

/// Between two parts of a key: no text holds it (control characters are refused).
const SEPARATOR: char = '\u{1f}';
/// What a row costs beyond its texts, about.
const ROW_OVERHEAD: usize = 96;

#[derive(Debug)]
pub struct ChildRow {
    pub number: u64,
    pub cells: Vec<Cell>,
}

#[derive(Debug, Default)]
struct Family {
    rows: Vec<ChildRow>,
    /// A parent asked for them.
    wanted: bool,
}

/// The rows of one join, by key.
#[derive(Debug, Default)]
pub struct Children {
    name: String,
    columns: Vec<String>,
    by_key: HashMap<String, Family>,
    bytes: usize,
}

impl Children {
    #[must_use]
    pub fn new(name: &str, columns: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            columns: columns.to_vec(),
            ..Self::default()
        }
    }

    /// Keeps one row. `keys` are the places of its key columns.
    pub fn add(
        &mut self,
        keys: impl Iterator<Item = usize>,
        row: ChildRow,
    ) -> Result<(), SourceError> {
        let key = key_of(keys.map(|place| row.cells.get(place).unwrap_or(&Cell::Empty)));
        self.bytes += ROW_OVERHEAD + key.len() + row.cells.iter().map(cost).sum::<usize>();
        if self.bytes > MAX_JOIN_BYTES {
            return Err(SourceError::input(
                "JOIN_TOO_LARGE",
                format!("{}: {MAX_JOIN_BYTES} bytes", self.name),
            ));
        }
        self.by_key.entry(key).or_default().rows.push(row);
        Ok(())
    }

    /// The rows of one parent, in their own order.
    pub(crate) fn of(&mut self, keys: &[&Cell]) -> &[ChildRow] {
        match self.by_key.get_mut(&key_of(keys.iter().copied())) {
            Some(family) => {
                family.wanted = true;
                &family.rows
            }
            None => &[],
        }
    }

    /// Rows whose parent did not appear: each is rejected, none is dropped in silence.
    pub fn orphans(self) -> impl Iterator<Item = Reject> {
        let (name, columns) = (self.name, self.columns);
        self.by_key
            .into_values()
            .filter(|family| !family.wanted)
            .flat_map(|family| family.rows)
            .map(move |row| Reject {
                row: row.number,
                column: name.clone(),
                field: String::new(),
                code: "JOIN_ORPHAN",
                values: columns
                    .iter()
                    .zip(&row.cells)
                    .map(|(column, cell)| (format!("{name}.{column}"), cell.shown()))
                    .collect(),
                record: None,
            })
    }
}

fn key_of<'c>(cells: impl Iterator<Item = &'c Cell>) -> String {
    let mut key = String::new();
    for cell in cells {
        let text = cell.text().unwrap_or_default();
        key.push_str(crate::clean::trim(&crate::clean::narrow(&text)));
        key.push(SEPARATOR);
    }
    key
}

fn cost(cell: &Cell) -> usize {
    size_of::<Cell>()
        + match cell {
            Cell::Text(text) => text.len(),
            Cell::Json(value) => value.to_string().len(),
            _ => 0,
        }
}
