//! Reads one YAML file into a typed value, with line and column kept and every cost bounded.

use super::raw::At;
use crate::limits::MAX_YAML_BYTES;
use mz_contract::Fault;
use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Location, Options};
use std::path::Path;

const MAX_NODES: usize = 20_000;
const MAX_DEPTH: usize = 24;

/// Faults of one file, as they are found.
pub(crate) struct Faults {
    file: String,
    found: Vec<Fault>,
}

impl Faults {
    pub(crate) fn of(path: &Path) -> Self {
        Self {
            file: path.display().to_string(),
            found: Vec::new(),
        }
    }

    pub(crate) fn at<T>(&mut self, code: &'static str, at: &At<T>, field: &str, detail: &str) {
        self.push(code, &at.referenced, field, detail);
    }

    pub(crate) fn push(&mut self, code: &'static str, at: &Location, field: &str, detail: &str) {
        self.found.push(Fault {
            code,
            file: self.file.clone(),
            line: u32::try_from(at.line()).unwrap_or(u32::MAX),
            column: u32::try_from(at.column()).unwrap_or(u32::MAX),
            field: field.to_owned(),
            detail: detail.to_owned(),
        });
    }

    pub(crate) fn whole(&mut self, code: &'static str, field: &str, detail: &str) {
        self.push(code, &Location::UNKNOWN, field, detail);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// In reading order, each once.
    pub(crate) fn sorted(mut self) -> Vec<Fault> {
        self.found.sort_by(|a, b| {
            (a.line, a.column, a.code, &a.field).cmp(&(b.line, b.column, b.code, &b.field))
        });
        self.found.dedup();
        self.found
    }
}

/// Reads a file; what is wrong with it goes to `faults`.
pub(crate) fn load<T: DeserializeOwned>(path: &Path, faults: &mut Faults) -> Option<T> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.len() > MAX_YAML_BYTES => {
            faults.whole("YAML_TOO_LARGE", "", &format!("{MAX_YAML_BYTES} bytes"));
            return None;
        }
        Ok(_) => {}
        Err(error) => {
            faults.whole("MAP_FILE", "", &error.to_string());
            return None;
        }
    }
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, faults),
        Err(error) => {
            faults.whole("MAP_FILE", "", &error.to_string());
            None
        }
    }
}

pub(crate) fn parse<T: DeserializeOwned>(text: &str, faults: &mut Faults) -> Option<T> {
    match serde_saphyr::from_str_with_options(text, options()) {
        Ok(value) => Some(value),
        Err(error) => {
            report(&error, faults);
            None
        }
    }
}

/// Aliases, merge keys and several documents are refused: a mapping says each thing where it is read.
fn options() -> Options {
    let budget = serde_saphyr::budget! {
        max_nodes: MAX_NODES,
        max_events: 4 * MAX_NODES,
        max_depth: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
        max_aliases: 0,
        max_anchors: 0,
        max_merge_keys: 0,
        max_documents: 1,
    };
    serde_saphyr::options! {
        budget: budget,
        with_snippet: false,
    }
}

fn report(error: &Error, faults: &mut Faults) {
    let error = error.without_snippet();
    let at = error.location().unwrap_or(Location::UNKNOWN);
    let (code, field, detail) = match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => ("YAML_UNKNOWN_KEY", field.clone(), expected.join(", ")),
        Error::SerdeMissingField { field, .. } => {
            ("YAML_MISSING_KEY", (*field).to_owned(), String::new())
        }
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => ("YAML_BAD_VALUE", variant.clone(), expected.join(", ")),
        Error::DuplicateMappingKey { key, .. } => (
            "YAML_DUPLICATE_KEY",
            key.clone().unwrap_or_default(),
            String::new(),
        ),
        Error::SerdeInvalidType { .. }
        | Error::SerdeInvalidValue { .. }
        | Error::InvalidScalar { .. }
        | Error::NullIntoString { .. } => ("YAML_BAD_VALUE", String::new(), one_line(error)),
        Error::Budget { .. } => ("YAML_TOO_LARGE", String::new(), one_line(error)),
        _ => ("YAML_SYNTAX", String::new(), one_line(error)),
    };
    faults.push(code, &at, &field, &detail);
}

fn one_line(error: &Error) -> String {
    error.render().lines().next().unwrap_or_default().to_owned()
}
