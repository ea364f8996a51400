//! Values: decode one field for those who must look at it, encode a record for
//! those who publish it. The hot path copies spans and never comes here.

use serde_json::{Map as JsonMap, Value as Json};

use crate::MAX_DATUM_BYTES;
use crate::avro::{AvroFault, Reader, Writer};
use crate::layout::{Layout, MAX_ITEMS, decimal_fits, deeper, spend};
use crate::schema::Node;
use crate::time;

/// One Avro value. A union shows as the value of its branch.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Str(String),
    Enum(String),
    /// Days since 1970-01-01.
    Date(i32),
    /// Milliseconds since 1970-01-01T00:00Z.
    TimestampMillis(i64),
    Decimal {
        unscaled: i128,
        scale: u32,
    },
    Bytes(Vec<u8>),
    Array(Vec<Datum>),
    Record(Vec<(String, Datum)>),
    Map(Vec<(String, Datum)>),
}

/// Why values can't be encoded under a schema. Names fields, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("{given} values were given for {expected} fields")]
    FieldCount { expected: usize, given: usize },
    #[error("field {field}: a {given} was given where the schema has {expected}")]
    Mismatch {
        field: String,
        expected: &'static str,
        given: &'static str,
    },
    #[error("field {field}: {fault}")]
    Value { field: String, fault: AvroFault },
    #[error("the record is larger than {MAX_DATUM_BYTES} bytes")]
    TooLarge,
}

impl Layout {
    /// Decodes the bytes of one field, all of them.
    pub fn decode(&self, field: usize, bytes: &[u8]) -> Result<Datum, AvroFault> {
        let field = self.fields().get(field).ok_or(AvroFault::OutOfRange)?;
        let mut reader = Reader::new(bytes);
        let mut items = MAX_ITEMS;
        let datum = self.value(field.node, &mut reader, 0, &mut items)?;
        reader.finish()?;
        Ok(datum)
    }

    /// Decodes every field of a datum, in schema order.
    pub fn decode_record(&self, datum: &[u8]) -> Result<Vec<Datum>, AvroFault> {
        if datum.len() > MAX_DATUM_BYTES {
            return Err(AvroFault::TooLarge);
        }
        let mut reader = Reader::new(datum);
        let mut items = MAX_ITEMS;
        let values = self
            .fields()
            .iter()
            .map(|field| self.value(field.node, &mut reader, 0, &mut items))
            .collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(values)
    }

    fn value(
        &self,
        node: u32,
        reader: &mut Reader<'_>,
        depth: usize,
        items: &mut u32,
    ) -> Result<Datum, AvroFault> {
        Ok(match &self.nodes[node as usize] {
            Node::Null => Datum::Null,
            Node::Bool => Datum::Bool(reader.boolean()?),
            Node::Int => Datum::Int(i64::from(reader.int()?)),
            Node::Date => Datum::Date(reader.int()?),
            Node::Long => Datum::Int(reader.long()?),
            Node::TimestampMillis => Datum::TimestampMillis(reader.long()?),
            Node::Float => Datum::Double(f64::from(reader.float()?)),
            Node::Double => Datum::Double(reader.double()?),
            Node::Bytes => Datum::Bytes(reader.bytes()?.to_vec()),
            Node::Str => Datum::Str(reader.string()?.to_owned()),
            Node::Fixed(size) => Datum::Bytes(reader.take(*size as usize)?.to_vec()),
            Node::BytesDecimal(decimal) => Datum::Decimal {
                unscaled: decimal_fits(reader.bytes()?, *decimal)?,
                scale: decimal.scale,
            },
            Node::FixedDecimal(size, decimal) => Datum::Decimal {
                unscaled: decimal_fits(reader.take(*size as usize)?, *decimal)?,
                scale: decimal.scale,
            },
            Node::Enum(symbols) => Datum::Enum(symbols[reader.symbol(symbols.len())?].to_string()),
            Node::Union(branches) => {
                let branch = reader.union(branches.len())?;
                self.value(branches[branch], reader, deeper(depth)?, items)?
            }
            Node::Record(fields) => {
                let depth = deeper(depth)?;
                let mut values = Vec::with_capacity(fields.len());
                for (name, field) in fields {
                    values.push((name.to_string(), self.value(*field, reader, depth, items)?));
                }
                Datum::Record(values)
            }
            Node::Array(item) => {
                let depth = deeper(depth)?;
                // Grows as items are really read: a count alone never allocates.
                let mut values = Vec::new();
                while let Some(block) = reader.block()? {
                    spend(items, block.count)?;
                    for _ in 0..block.count {
                        values.push(self.value(*item, reader, depth, items)?);
                    }
                    block.check(reader)?;
                }
                Datum::Array(values)
            }
            Node::Map(value) => {
                let depth = deeper(depth)?;
                let mut values = Vec::new();
                while let Some(block) = reader.block()? {
                    spend(items, block.count)?;
                    for _ in 0..block.count {
                        let key = reader.string()?.to_owned();
                        values.push((key, self.value(*value, reader, depth, items)?));
                    }
                    block.check(reader)?;
                }
                Datum::Map(values)
            }
            Node::Pending => return Err(AvroFault::OutOfRange),
        })
    }
}

/// Encodes one value per top-level field, in schema order, into a bare datum.
pub fn encode(layout: &Layout, fields: &[Datum]) -> Result<Vec<u8>, EncodeError> {
    if fields.len() != layout.fields().len() {
        return Err(EncodeError::FieldCount {
            expected: layout.fields().len(),
            given: fields.len(),
        });
    }
    let mut out = Vec::with_capacity(256);
    for (field, value) in layout.fields().iter().zip(fields) {
        Encoder {
            layout,
            path: &field.name,
        }
        .put(field.node, value, &mut out, 0)?;
        if out.len() > MAX_DATUM_BYTES {
            return Err(EncodeError::TooLarge);
        }
    }
    Ok(out)
}

struct Encoder<'l> {
    layout: &'l Layout,
    path: &'l str,
}

impl Encoder<'_> {
    fn fault(&self, fault: AvroFault) -> EncodeError {
        EncodeError::Value {
            field: self.path.to_owned(),
            fault,
        }
    }

    fn mismatch(&self, node: u32, value: &Datum) -> EncodeError {
        EncodeError::Mismatch {
            field: self.path.to_owned(),
            expected: kind_of(&self.layout.nodes[node as usize]),
            given: value.kind(),
        }
    }

    fn put(
        &self,
        node: u32,
        value: &Datum,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), EncodeError> {
        let depth = deeper(depth).map_err(|fault| self.fault(fault))?;
        let mut writer = Writer(out);
        match (&self.layout.nodes[node as usize], value) {
            (Node::Null, Datum::Null) => {}
            (Node::Bool, Datum::Bool(value)) => writer.boolean(*value),
            (Node::Int, Datum::Int(value)) => {
                let value = i32::try_from(*value).map_err(|_| self.fault(AvroFault::OutOfRange))?;
                writer.int(value);
            }
            (Node::Date, Datum::Date(days)) => writer.int(*days),
            (Node::Long, Datum::Int(value)) => writer.long(*value),
            (Node::TimestampMillis, Datum::TimestampMillis(millis)) => writer.long(*millis),
            (Node::Float, Datum::Double(value)) => writer.float(*value as f32),
            (Node::Double, Datum::Double(value)) => writer.double(*value),
            (Node::Str, Datum::Str(text)) => writer.string(text),
            (Node::Bytes, Datum::Bytes(bytes)) => writer.bytes(bytes),
            (Node::Fixed(size), Datum::Bytes(bytes)) => {
                if bytes.len() != *size as usize {
                    return Err(self.fault(AvroFault::OutOfRange));
                }
                writer.fixed(bytes);
            }
            (Node::BytesDecimal(decimal), Datum::Decimal { unscaled, scale }) => {
                let wide = self
                    .rescale(*unscaled, *scale, decimal.scale)?
                    .to_be_bytes();
                let short = shortest(&wide);
                decimal_fits(short, *decimal).map_err(|fault| self.fault(fault))?;
                writer.bytes(short);
            }
            (Node::FixedDecimal(size, decimal), Datum::Decimal { unscaled, scale }) => {
                let wide = self
                    .rescale(*unscaled, *scale, decimal.scale)?
                    .to_be_bytes();
                let size = *size as usize;
                if shortest(&wide).len() > size {
                    return Err(self.fault(AvroFault::DecimalPrecision));
                }
                let bytes = &wide[16 - size..];
                decimal_fits(bytes, *decimal).map_err(|fault| self.fault(fault))?;
                writer.fixed(bytes);
            }
            (Node::Enum(symbols), Datum::Enum(symbol) | Datum::Str(symbol)) => {
                let index = symbols
                    .iter()
                    .position(|known| **known == **symbol)
                    .ok_or_else(|| self.fault(AvroFault::NoSuchSymbol))?;
                writer.index(index);
            }
            (Node::Union(branches), value) => {
                let (index, branch) = branches
                    .iter()
                    .enumerate()
                    .find(|(_, branch)| self.accepts(**branch, value))
                    .ok_or_else(|| self.mismatch(node, value))?;
                writer.index(index);
                self.put(*branch, value, out, depth)?;
            }
            (Node::Array(item), Datum::Array(values)) => {
                if !values.is_empty() {
                    writer.long(values.len() as i64);
                    for value in values {
                        self.put(*item, value, out, depth)?;
                    }
                }
                Writer(out).long(0);
            }
            (Node::Map(item), Datum::Map(values)) => {
                if !values.is_empty() {
                    writer.long(values.len() as i64);
                    for (key, value) in values {
                        Writer(out).string(key);
                        self.put(*item, value, out, depth)?;
                    }
                }
                Writer(out).long(0);
            }
            (Node::Record(fields), Datum::Record(values)) => {
                if fields.len() != values.len() {
                    return Err(self.mismatch(node, value));
                }
                for (name, field) in fields {
                    let (_, value) = values
                        .iter()
                        .find(|(given, _)| **given == **name)
                        .ok_or_else(|| self.mismatch(node, value))?;
                    let path = format!("{}.{name}", self.path);
                    Encoder {
                        layout: self.layout,
                        path: &path,
                    }
                    .put(*field, value, out, depth)?;
                }
            }
            _ => return Err(self.mismatch(node, value)),
        }
        Ok(())
    }

    /// Whether a union branch can hold the value. Enums are tried by symbol, so that a
    /// string goes to the enum that knows it and otherwise to the string branch.
    fn accepts(&self, branch: u32, value: &Datum) -> bool {
        match (&self.layout.nodes[branch as usize], value) {
            (Node::Enum(symbols), Datum::Enum(symbol) | Datum::Str(symbol)) => {
                symbols.iter().any(|known| **known == **symbol)
            }
            (Node::Int, Datum::Int(value)) => i32::try_from(*value).is_ok(),
            (Node::Fixed(size), Datum::Bytes(bytes)) => bytes.len() == *size as usize,
            (Node::Record(fields), Datum::Record(values)) => {
                fields.len() == values.len()
                    && fields
                        .iter()
                        .all(|(name, _)| values.iter().any(|(given, _)| **given == **name))
            }
            (Node::Null, Datum::Null)
            | (Node::Bool, Datum::Bool(_))
            | (Node::Date, Datum::Date(_))
            | (Node::Long, Datum::Int(_))
            | (Node::TimestampMillis, Datum::TimestampMillis(_))
            | (Node::Float | Node::Double, Datum::Double(_))
            | (Node::Str, Datum::Str(_))
            | (Node::Bytes, Datum::Bytes(_))
            | (Node::BytesDecimal(_) | Node::FixedDecimal(..), Datum::Decimal { .. })
            | (Node::Array(_), Datum::Array(_))
            | (Node::Map(_), Datum::Map(_)) => true,
            _ => false,
        }
    }

    /// Brings a decimal to the schema's scale when that loses nothing.
    fn rescale(&self, unscaled: i128, from: u32, to: u32) -> Result<i128, EncodeError> {
        let fault = || self.fault(AvroFault::DecimalPrecision);
        if from <= to {
            let factor = 10i128.checked_pow(to - from).ok_or_else(fault)?;
            unscaled.checked_mul(factor).ok_or_else(fault)
        } else {
            let factor = 10i128.checked_pow(from - to).ok_or_else(fault)?;
            if unscaled % factor == 0 {
                Ok(unscaled / factor)
            } else {
                Err(fault())
            }
        }
    }
}

/// Two's complement without superfluous sign bytes, as Java's `BigInteger` writes it.
fn shortest(wide: &[u8; 16]) -> &[u8] {
    let mut start = 0;
    while start < 15 {
        let sign = wide[start + 1] & 0x80;
        if (wide[start] == 0 && sign == 0) || (wide[start] == 0xff && sign != 0) {
            start += 1;
        } else {
            break;
        }
    }
    &wide[start..]
}

fn kind_of(node: &Node) -> &'static str {
    match node {
        Node::Null => "null",
        Node::Bool => "a boolean",
        Node::Int => "an int",
        Node::Date => "a date",
        Node::Long => "a long",
        Node::TimestampMillis => "a timestamp",
        Node::Float => "a float",
        Node::Double => "a double",
        Node::Bytes => "bytes",
        Node::BytesDecimal(_) | Node::FixedDecimal(..) => "a decimal",
        Node::Str => "a string",
        Node::Fixed(_) => "a fixed",
        Node::Enum(_) => "an enum",
        Node::Array(_) => "an array",
        Node::Map(_) => "a map",
        Node::Union(_) => "a union",
        Node::Record(_) | Node::Pending => "a record",
    }
}

impl Datum {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Int(_) => "whole number",
            Self::Double(_) => "floating number",
            Self::Str(_) => "string",
            Self::Enum(_) => "enum symbol",
            Self::Date(_) => "date",
            Self::TimestampMillis(_) => "timestamp",
            Self::Decimal { .. } => "decimal",
            Self::Bytes(_) => "byte string",
            Self::Array(_) => "list",
            Self::Record(_) => "record",
            Self::Map(_) => "map",
        }
    }

    /// The value as text, the same on every machine: dates `YYYY-MM-DD`, timestamps
    /// RFC 3339 in UTC with milliseconds, decimals with all digits of their scale.
    /// Lists, records and maps show as JSON; null is the empty string.
    pub fn to_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Double(value) => value.to_string(),
            Self::Str(text) | Self::Enum(text) => text.clone(),
            Self::Date(days) => time::date_text(*days),
            Self::TimestampMillis(millis) => time::timestamp_text(*millis),
            Self::Decimal { unscaled, scale } => decimal_text(*unscaled, *scale),
            Self::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            Self::Array(_) | Self::Record(_) | Self::Map(_) => self.to_json().to_string(),
        }
    }

    /// The value as JSON. Decimals, dates and timestamps are strings, so that nothing is rounded.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => Json::from(*value),
            Self::Double(value) => Json::from(*value),
            Self::Array(values) => Json::Array(values.iter().map(Self::to_json).collect()),
            Self::Record(values) | Self::Map(values) => Json::Object(
                values
                    .iter()
                    .map(|(k, v)| (k.clone(), v.to_json()))
                    .collect::<JsonMap<_, _>>(),
            ),
            _ => Json::String(self.to_text()),
        }
    }
}

fn decimal_text(unscaled: i128, scale: u32) -> String {
    let digits = unscaled.unsigned_abs().to_string();
    let sign = if unscaled < 0 { "-" } else { "" };
    let scale = scale as usize;
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{part}")
}
