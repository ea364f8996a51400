//! NDJSON: one object a line. A line that is no object rejects itself alone.

use super::file::{self, Fingerprint};
use super::lines::{self, Line};
use super::{BadRow, Next, Row, Table, raw_start};
use crate::cell::Cell;
use crate::limits::{MAX_CELL_BYTES, MAX_ROW_BYTES};
use mz_sdk::SourceError;
use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// One file of objects.
pub struct NdjsonTable {
    from: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    taken: u64,
    size: u64,
    wanted: Wanted,
    complete: bool,
}

/// Which keys go to which cells. `a.b` is the key `b` of the object under `a`.
struct Wanted {
    /// Top-level key → cells, each with the keys below.
    keys: HashMap<String, Vec<(usize, Vec<String>)>>,
    count: usize,
}

impl NdjsonTable {
    pub fn open(path: &Path, columns: &[String]) -> Result<(Self, Fingerprint), SourceError> {
        let (file, print) = file::open(path)?;
        let mut keys: HashMap<String, Vec<(usize, Vec<String>)>> = HashMap::new();
        for (place, column) in columns.iter().enumerate() {
            let mut parts = column.split('.').map(str::to_owned);
            let top = parts.next().unwrap_or_default();
            keys.entry(top).or_default().push((place, parts.collect()));
        }
        let table = Self {
            from: BufReader::with_capacity(1 << 16, file),
            line: Vec::new(),
            number: 0,
            taken: 0,
            size: print.length(),
            wanted: Wanted {
                keys,
                count: columns.len(),
            },
            complete: true,
        };
        Ok((table, print))
    }

    fn bad(&self, code: &'static str) -> Next {
        Next::Bad(BadRow {
            number: self.number,
            code,
            raw: raw_start(&self.line, encoding_rs::UTF_8),
        })
    }
}

impl Table for NdjsonTable {
    fn next(&mut self, row: &mut Row) -> Result<Next, SourceError> {
        loop {
            let found = lines::next(
                &mut self.from,
                &mut self.line,
                MAX_ROW_BYTES,
                &mut self.taken,
            )
            .map_err(|error| SourceError::environment("INPUT_UNREADABLE", "").because(error))?;
            self.number += 1;
            if found == Line::End {
                return Ok(Next::End);
            }
            if found == Line::TooLong {
                return Ok(self.bad("ROW_TOO_LARGE"));
            }
            let mut text = self.line.as_slice();
            if self.number == 1 {
                text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
                if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
                    return Err(SourceError::input("INPUT_ENCODING", "utf-16"));
                }
            }
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if std::str::from_utf8(text).is_err() {
                return Ok(self.bad("CELL_ENCODING"));
            }
            row.number = self.number;
            row.cells.clear();
            row.cells.resize(self.wanted.count, Cell::Empty);
            let mut json = serde_json::Deserializer::from_slice(text);
            let read = json
                .deserialize_any(ObjectVisitor {
                    wanted: &self.wanted,
                    cells: &mut row.cells,
                })
                .and_then(|()| json.end());
            match read {
                Ok(()) => return Ok(Next::Row),
                Err(error) => {
                    let code = code_of(&error, found == Line::Unended);
                    if code == "INPUT_TRUNCATED" {
                        self.complete = false;
                    }
                    return Ok(self.bad(code));
                }
            }
        }
    }

    fn progress(&self) -> Option<(u64, u64)> {
        Some((self.taken, self.size))
    }

    fn complete(&self) -> bool {
        self.complete
    }
}

const DUPLICATE: &str = "duplicate key";

fn code_of(error: &serde_json::Error, last: bool) -> &'static str {
    if error.is_eof() && last {
        "INPUT_TRUNCATED"
    } else if error.is_data() && error.to_string().starts_with(DUPLICATE) {
        "JSON_DUPLICATE_KEY"
    } else if error.is_data() {
        "JSON_NOT_OBJECT"
    } else {
        "JSON_SYNTAX"
    }
}

struct ObjectVisitor<'a> {
    wanted: &'a Wanted,
    cells: &'a mut Vec<Cell>,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen: Vec<&str> = Vec::with_capacity(self.wanted.keys.len());
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let Some((name, places)) = self.wanted.keys.get_key_value(key.as_ref()) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            // Readers disagree about which of two equal keys counts.
            if seen.contains(&name.as_str()) {
                return Err(A::Error::custom(DUPLICATE));
            }
            seen.push(name);
            let value: Json = map.next_value()?;
            for (place, below) in places {
                let found = below.iter().try_fold(&value, |value, key| value.get(key));
                if let Some(cell) = self.cells.get_mut(*place) {
                    *cell = found.map_or(Cell::Empty, self::cell);
                }
            }
        }
        Ok(())
    }
}

/// A JSON value as a cell. Whole numbers stay exact.
pub(crate) fn cell(value: &Json) -> Cell {
    match value {
        Json::Null => Cell::Empty,
        Json::Bool(value) => Cell::Bool(*value),
        Json::String(text) if text.len() > MAX_CELL_BYTES => Cell::Fault("CELL_TOO_LARGE"),
        Json::String(text) => Cell::Text(text.clone()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Cell::Int(whole),
            (None, Some(real)) => Cell::Number(real),
            _ => Cell::Fault("NUMBER_IMPRECISE"),
        },
        Json::Array(_) | Json::Object(_) => Cell::Json(value.clone()),
    }
}
