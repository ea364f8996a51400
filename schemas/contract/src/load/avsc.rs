//! What the bus asks of a source schema beyond Avro's own rules, so that every reader reads the same.

use serde_json::{Map, Value as Json};

use crate::fault::Faults;

/// Line and column of the definition of a field, or of any quoted word; (1, 1) when it isn't found.
/// JSON parsers keep no positions, and the schema is small.
pub(super) fn place(avsc: &str, word: &str) -> (u32, u32) {
    let quoted = format!("\"{word}\"");
    for (index, line) in avsc.lines().enumerate() {
        for (column, _) in line.match_indices(&quoted) {
            let before: String = line[..column]
                .chars()
                .filter(|c| !c.is_whitespace())
                .collect();
            if before.ends_with("\"name\":") {
                return (at(index), at(line[..column].chars().count()));
            }
        }
    }
    (1, 1)
}

fn at(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

const LOGICAL: [(&str, &str); 4] = [
    ("date", "int"),
    ("timestamp-millis", "long"),
    ("decimal", "bytes"),
    ("uuid", "string"),
];

/// Unions are only `["null", T]`; logical types only those that the walker knows: a reader that
/// ignores one would show another value than a reader that doesn't.
pub(super) fn check(file: &str, avsc: &str, faults: &mut Faults) {
    let Ok(Json::Object(top)) = serde_json::from_str::<Json>(avsc) else {
        return;
    };
    record(&top, "", &mut Walk { file, avsc, faults });
}

struct Walk<'a> {
    file: &'a str,
    avsc: &'a str,
    faults: &'a mut Faults,
}

fn record(map: &Map<String, Json>, path: &str, walk: &mut Walk<'_>) {
    for field in map
        .get("fields")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
    {
        let name = field.get("name").and_then(Json::as_str).unwrap_or_default();
        let below = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        let fault = |code, detail: &str, walk: &mut Walk<'_>| {
            let at = place(walk.avsc, name);
            walk.faults.push_at(code, walk.file, at, &below, detail);
        };
        if let Some(Json::Array(branches)) = field.get("type") {
            if branches.len() != 2 || branches.first().and_then(Json::as_str) != Some("null") {
                fault("SCHEMA_UNION", "", walk);
            } else if field.get("default") != Some(&Json::Null) {
                // Without it the next version can't leave the field out.
                fault("SCHEMA_DEFAULT", "", walk);
            }
        }
        for wrong in wrong_logical(field.get("type")) {
            fault("SCHEMA_LOGICAL_TYPE", &wrong, walk);
        }
        nested(field.get("type"), &below, walk);
    }
}

/// Records inside a type.
fn nested(ty: Option<&Json>, path: &str, walk: &mut Walk<'_>) {
    match ty {
        Some(Json::Array(branches)) => {
            for branch in branches {
                nested(Some(branch), path, walk);
            }
        }
        Some(Json::Object(map)) => {
            if map.contains_key("fields") {
                record(map, path, walk);
            }
            for inner in ["items", "values", "type"] {
                nested(map.get(inner), path, walk);
            }
        }
        _ => {}
    }
}

/// Logical types of one field's type, not of records inside it.
fn wrong_logical(ty: Option<&Json>) -> Vec<String> {
    match ty {
        Some(Json::Array(branches)) => branches
            .iter()
            .flat_map(|branch| wrong_logical(Some(branch)))
            .collect(),
        Some(Json::Object(map)) => {
            let base = map.get("type").and_then(Json::as_str).unwrap_or_default();
            let mut wrong = Vec::new();
            if let Some(logical) = map.get("logicalType") {
                let logical = logical.as_str().unwrap_or_default();
                if !LOGICAL.contains(&(logical, base)) {
                    wrong.push(format!("{logical} / {base}"));
                }
            }
            for inner in ["items", "values"] {
                wrong.extend(wrong_logical(map.get(inner)));
            }
            wrong
        }
        _ => Vec::new(),
    }
}
