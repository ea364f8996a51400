//! Reads one field of a datum as the value that expressions and record ids work with, straight from
//! its bytes: no tree, no copy of a string.
//!
//! Lint (`SCHEMA_UNION`) sees to it that a nullable field is `["null", T]`, so branch 0 is null.

use std::borrow::Cow;

use mz_seal::avro::{AvroFault, Reader};
use mz_seal::{FieldLayout, FieldType};

use crate::value::{Decimal, Value};

/// Reads the field's bytes; the span must hold exactly one value.
pub(crate) fn read<'a>(field: &FieldLayout, bytes: &'a [u8]) -> Result<Value<'a>, AvroFault> {
    let mut reader = Reader::new(bytes);
    if field.nullable && reader.union(2)? == 0 {
        return Ok(Value::Null);
    }
    Ok(match &field.ty {
        FieldType::Null => Value::Null,
        FieldType::Bool => Value::Bool(reader.boolean()?),
        FieldType::Int | FieldType::Long => Value::Int(reader.long()?),
        FieldType::Float => Value::Double(f64::from(reader.float()?)),
        FieldType::Double => Value::Double(reader.double()?),
        FieldType::String => Value::Str(Cow::Borrowed(reader.string()?)),
        FieldType::Date => Value::Date(reader.int()?),
        FieldType::TimestampMillis => Value::Timestamp(reader.long()?),
        FieldType::Enum(symbols) => Value::Symbol(
            u32::try_from(reader.symbol(symbols.len())?).map_err(|_| AvroFault::OutOfRange)?,
        ),
        FieldType::Decimal { scale, .. } => Value::Decimal(Decimal {
            unscaled: unscaled(reader.bytes()?)?,
            scale: *scale,
        }),
        // The walker has been through the whole datum, so a block's count is what really follows.
        FieldType::Array(_) | FieldType::Map(_) => Value::Size(items(&mut reader, &field.ty)?),
        FieldType::Bytes
        | FieldType::Fixed(_)
        | FieldType::Record(_)
        | FieldType::Union(_)
        | FieldType::Recursive => Value::Opaque,
    })
}

fn unscaled(bytes: &[u8]) -> Result<i128, AvroFault> {
    if bytes.is_empty() || bytes.len() > 16 {
        return Err(AvroFault::DecimalPrecision);
    }
    let mut wide = if bytes[0] & 0x80 == 0 {
        [0; 16]
    } else {
        [0xff; 16]
    };
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Ok(i128::from_be_bytes(wide))
}

/// Items of an array or map: steps over each one.
fn items(reader: &mut Reader<'_>, ty: &FieldType) -> Result<u64, AvroFault> {
    let mut total = 0_u64;
    while let Some(block) = reader.block()? {
        if block.count > u64::from(mz_seal::MAX_ITEMS) {
            return Err(AvroFault::TooManyItems);
        }
        for _ in 0..block.count {
            match ty {
                FieldType::Map(value) => {
                    reader.string()?;
                    step(reader, value)?;
                }
                FieldType::Array(item) => step(reader, item)?,
                _ => return Err(AvroFault::OutOfRange),
            }
        }
        total = total.saturating_add(block.count);
    }
    Ok(total)
}

/// Steps over one value inside an array or map.
fn step(reader: &mut Reader<'_>, ty: &FieldType) -> Result<(), AvroFault> {
    match ty {
        FieldType::Null => {}
        FieldType::Bool => drop(reader.boolean()?),
        FieldType::Int
        | FieldType::Long
        | FieldType::Date
        | FieldType::TimestampMillis
        | FieldType::Enum(_) => {
            reader.long()?;
        }
        FieldType::Float => drop(reader.take(4)?),
        FieldType::Double => drop(reader.take(8)?),
        FieldType::String | FieldType::Bytes | FieldType::Decimal { .. } => drop(reader.bytes()?),
        FieldType::Fixed(size) => drop(reader.take(*size as usize)?),
        FieldType::Record(fields) => {
            for (_, field) in fields {
                step(reader, field)?;
            }
        }
        FieldType::Union(branches) => {
            let branch = reader.union(branches.len())?;
            step(reader, branches.get(branch).ok_or(AvroFault::NoSuchBranch)?)?;
        }
        FieldType::Array(_) | FieldType::Map(_) => drop(items(reader, ty)?),
        FieldType::Recursive => return Err(AvroFault::OutOfRange),
    }
    Ok(())
}
