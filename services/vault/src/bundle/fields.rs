//! Agreed fields as people and rules read them. One conversion serves issuing and checking, so
//! that what a bundle shows can be held against the sealed bytes exactly.

use mz_contract::{Dataset, Section, Value};
use mz_seal::avro::AvroFault;
use mz_seal::{Datum, Layout, Span};
use serde_json::{Map, Value as Json};

use super::model::{FieldTitle, Text};

/// Largest integer that every JSON reader keeps exactly; larger ones are written as text.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// A record's fields, decoded.
pub struct Decoded {
    /// For people and the signature: no fractional numbers, none beyond 2^53.
    pub shown: Json,
    /// For rules, as `ServiceItem::decide` wants them.
    pub ruled: Json,
}

/// Decodes a projected datum.
pub fn decode(layout: &Layout, datum: &[u8]) -> Result<Decoded, AvroFault> {
    let mut spans: Vec<Span> = Vec::new();
    layout
        .spans(datum, &mut spans)
        .map_err(|fault| fault.fault)?;
    let (mut shown, mut ruled) = (Map::new(), Map::new());
    for (at, (field, span)) in layout.fields().iter().zip(&spans).enumerate() {
        let value = layout.decode(at, &datum[span.start as usize..span.end as usize])?;
        shown.insert(field.name.clone(), exact(&value));
        ruled.insert(field.name.clone(), value.to_json());
    }
    Ok(Decoded {
        shown: Json::Object(shown),
        ruled: Json::Object(ruled),
    })
}

/// JSON without numbers that readers might round.
fn exact(value: &Datum) -> Json {
    match value {
        Datum::Int(number) if number.unsigned_abs() > MAX_SAFE => Json::String(number.to_string()),
        Datum::Double(number) => Json::String(number.to_string()),
        Datum::Array(items) => Json::Array(items.iter().map(exact).collect()),
        Datum::Record(members) | Datum::Map(members) => Json::Object(
            members
                .iter()
                .map(|(name, item)| (name.clone(), exact(item)))
                .collect(),
        ),
        other => other.to_json(),
    }
}

/// Titles of the delivered fields, in the datum's order, with the words for code values.
pub fn titles(dataset: &Dataset, section: &Section, shown: &Json) -> Vec<FieldTitle> {
    section
        .fields
        .iter()
        .filter_map(|&index| dataset.fields.get(usize::from(index)))
        .map(|field| {
            let symbol = shown.get(&field.name).and_then(Json::as_str);
            let text = symbol.and_then(|symbol| {
                let (_, text) = field.symbols.iter().find(|(name, _)| name == symbol)?;
                Some(Text::from(text))
            });
            FieldTitle {
                name: field.name.clone(),
                zh: field.title.zh.clone(),
                en: field.title.en.clone(),
                value: text,
            }
        })
        .collect()
}

/// A derived answer's value: attested by the bus, not by the department.
pub fn answer(value: &Value<'_>) -> Json {
    match value {
        Value::Null | Value::Opaque => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) if value.unsigned_abs() > MAX_SAFE => Json::String(value.to_string()),
        Value::Int(value) => Json::from(*value),
        Value::Double(value) => Json::String(value.to_string()),
        Value::Str(value) => Json::String(value.as_ref().to_owned()),
        // An answer of an enum type says the symbol's place: its own schema names it.
        Value::Symbol(index) => Json::from(*index),
        Value::Date(days) => Datum::Date(*days).to_json(),
        Value::Timestamp(ms) => Datum::TimestampMillis(*ms).to_json(),
        Value::Decimal(decimal) => Datum::Decimal {
            unscaled: decimal.unscaled,
            scale: decimal.scale,
        }
        .to_json(),
        Value::Size(size) => Json::from(*size),
    }
}
