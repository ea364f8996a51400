//! The data items of a dataset: every top-level field of the schema described once, enums with texts.

use std::collections::BTreeMap;

use mz_seal::{FieldLayout, FieldType, Layout};

use super::avsc::place;
use super::datasets::Source;
use super::text;
use crate::dataset::{Field, Share};
use crate::fault::Faults;
use crate::raw::{RawField, RawShare, RawText};
use crate::reasons::Text;
use crate::yaml::Located;

pub(super) fn describe(
    source: &Source<'_>,
    raw: Located<BTreeMap<String, Located<RawField>>>,
    layout: &Layout,
    faults: &mut Faults,
) -> Vec<Field> {
    let mut described = raw.value;
    let mut fields = Vec::with_capacity(layout.fields().len());
    for column in layout.fields() {
        let Some(raw) = described.remove(&column.name) else {
            let at = place(source.avsc, &column.name);
            faults.push_at(
                "FIELD_UNDESCRIBED",
                source.avsc_file,
                at,
                &column.name,
                source.file,
            );
            fields.push(undescribed(column));
            continue;
        };
        let at = raw.referenced;
        let raw = raw.value;
        if [&raw.zh, &raw.en].iter().any(|text| text.trim().is_empty()) {
            faults.push("FIELD_TEXT_MISSING", source.file, &at, &column.name, "");
        }
        let symbols = symbols(source, column, raw.symbols, (&at).into(), faults);
        fields.push(Field {
            name: column.name.clone(),
            title: Text {
                zh: raw.zh,
                en: raw.en,
            },
            class: raw.class,
            share: match raw.share {
                RawShare::Allowed => Share::Allowed,
                RawShare::AnswerOnly => Share::AnswerOnly,
                RawShare::Never => Share::Never,
            },
            layout: column.clone(),
            symbols,
        });
    }
    for (name, raw) in described {
        let code = if is_nested(&name) {
            "FIELD_NESTED"
        } else {
            "FIELD_UNKNOWN"
        };
        faults.push(code, source.file, &raw.referenced, &name, source.avsc_file);
    }
    fields
}

/// Whether a name reaches into a field: only whole top-level fields can be delivered.
pub(super) fn is_nested(name: &str) -> bool {
    name.contains(['.', '[', '/'])
}

/// So that one missing description doesn't make every rule about the field a fault too.
fn undescribed(column: &FieldLayout) -> Field {
    Field {
        name: column.name.clone(),
        title: Text::default(),
        class: crate::dataset::Classification::Sensitive,
        share: Share::Allowed,
        layout: column.clone(),
        symbols: Vec::new(),
    }
}

struct At(u32, u32);

impl From<&serde_saphyr::Location> for At {
    fn from(at: &serde_saphyr::Location) -> Self {
        Self(
            u32::try_from(at.line()).unwrap_or(u32::MAX),
            u32::try_from(at.column()).unwrap_or(u32::MAX),
        )
    }
}

fn symbols(
    source: &Source<'_>,
    column: &FieldLayout,
    mut raw: BTreeMap<String, Located<RawText>>,
    at: At,
    faults: &mut Faults,
) -> Vec<(String, Text)> {
    let mut symbols = Vec::new();
    // The symbols may stand inside a list or a record (dependents[].relation): all enums of the field.
    for symbol in enum_symbols(&column.ty) {
        match raw.remove(symbol) {
            Some(found) => symbols.push((symbol.clone(), text(found.value))),
            None => faults.push_at(
                "SYMBOL_TEXT_MISSING",
                source.file,
                (at.0, at.1),
                &column.name,
                symbol,
            ),
        }
    }
    for (symbol, found) in raw {
        faults.push(
            "SYMBOL_UNKNOWN",
            source.file,
            &found.referenced,
            &column.name,
            &symbol,
        );
    }
    symbols
}

fn enum_symbols(ty: &FieldType) -> Vec<&String> {
    match ty {
        FieldType::Enum(symbols) => symbols.iter().collect(),
        FieldType::Array(inner) | FieldType::Map(inner) => enum_symbols(inner),
        FieldType::Union(branches) => branches.iter().flat_map(enum_symbols).collect(),
        FieldType::Record(fields) => fields.iter().flat_map(|(_, ty)| enum_symbols(ty)).collect(),
        _ => Vec::new(),
    }
}
