//! Reads one YAML file into a typed value, with line and column kept and every cost bounded.

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Options};

use crate::fault::Faults;

/// A value together with where it stands in its file.
pub(crate) type Located<T> = serde_saphyr::Spanned<T>;

/// YAML nodes in one file.
const MAX_NODES: usize = 50_000;
/// Nesting of one file.
const MAX_DEPTH: usize = 24;

/// Aliases, merge keys and several documents are refused: a contract says each thing where it is read.
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

pub(crate) fn parse<T: DeserializeOwned>(file: &str, text: &str, faults: &mut Faults) -> Option<T> {
    match serde_saphyr::from_str_with_options(text, options()) {
        Ok(value) => Some(value),
        Err(error) => {
            report(file, &error, faults);
            None
        }
    }
}

fn report(file: &str, error: &Error, faults: &mut Faults) {
    let error = error.without_snippet();
    let at = error.location().unwrap_or(serde_saphyr::Location::UNKNOWN);
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
        | Error::Unexpected { .. }
        | Error::NullIntoString { .. } => ("YAML_BAD_VALUE", String::new(), one_line(error)),
        Error::Budget { .. } => ("YAML_TOO_LARGE", String::new(), one_line(error)),
        _ => ("YAML_SYNTAX", String::new(), one_line(error)),
    };
    faults.push(code, file, &at, &field, &detail);
}

fn one_line(error: &Error) -> String {
    let text = error.render();
    let first = text.lines().next().unwrap_or_default();
    // The fault has the place already.
    first
        .rsplit_once(" at line ")
        .map_or(first, |(what, _)| what)
        .to_owned()
}
