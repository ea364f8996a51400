//! From Avro fields to columns, and from values to cells.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use mz_seal::{Datum, FieldType};

use crate::ident::Ident;

/// First year that PostgreSQL's dates and timestamps know (4713 BC).
const FIRST_YEAR: i32 = -4712;
/// 1970-01-01 counted from 0001-01-01, as chrono does.
const UNIX_DAY_FROM_CE: i32 = 719_163;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    Boolean,
    Integer,
    Bigint,
    Double,
    Text,
    Bytea,
    Date,
    Timestamptz,
    Numeric {
        precision: u32,
        scale: u32,
    },
    /// Lists, nested records, maps, unions of several types.
    Jsonb,
}

impl ColumnType {
    pub fn of(field: &FieldType) -> Self {
        match field {
            FieldType::Bool => Self::Boolean,
            FieldType::Int => Self::Integer,
            FieldType::Long => Self::Bigint,
            FieldType::Float | FieldType::Double => Self::Double,
            FieldType::String | FieldType::Enum(_) => Self::Text,
            FieldType::Bytes | FieldType::Fixed(_) => Self::Bytea,
            FieldType::Date => Self::Date,
            FieldType::TimestampMillis => Self::Timestamptz,
            FieldType::Decimal { precision, scale } => Self::Numeric {
                precision: *precision,
                scale: *scale,
            },
            FieldType::Null
            | FieldType::Array(_)
            | FieldType::Map(_)
            | FieldType::Record(_)
            | FieldType::Union(_)
            | FieldType::Recursive => Self::Jsonb,
        }
    }

    /// As PostgreSQL's `format_type` writes it.
    pub fn sql(self) -> String {
        match self {
            Self::Boolean => "boolean".into(),
            Self::Integer => "integer".into(),
            Self::Bigint => "bigint".into(),
            Self::Double => "double precision".into(),
            Self::Text => "text".into(),
            Self::Bytea => "bytea".into(),
            Self::Date => "date".into(),
            Self::Timestamptz => "timestamp with time zone".into(),
            Self::Numeric { precision, scale } => format!("numeric({precision},{scale})"),
            Self::Jsonb => "jsonb".into(),
        }
    }
}

/// One column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: Ident,
    pub ty: ColumnType,
    /// Title of the field, zh and en.
    pub comment: String,
}

/// One value on its way into a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Boolean(bool),
    Integer(i32),
    Bigint(i64),
    Double(f64),
    /// Also numeric and jsonb, which the statement casts.
    Text(String),
    Bytea(Vec<u8>),
    Date(NaiveDate),
    Timestamptz(DateTime<Utc>),
}

/// The value has no place in PostgreSQL: a NUL character, a date before 4713 BC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unstorable;

impl Cell {
    pub fn of(datum: Datum, ty: ColumnType) -> Result<Self, Unstorable> {
        Ok(match (datum, ty) {
            (Datum::Null, _) => Self::Null,
            (datum, ColumnType::Jsonb) => {
                let text = datum.to_json().to_string();
                // JSON writes a NUL as \u0000, which jsonb refuses.
                if text.contains("\\u0000") {
                    return Err(Unstorable);
                }
                Self::Text(text)
            }
            (Datum::Bool(value), ColumnType::Boolean) => Self::Boolean(value),
            (Datum::Int(value), ColumnType::Integer) => {
                Self::Integer(i32::try_from(value).map_err(|_| Unstorable)?)
            }
            (Datum::Int(value), ColumnType::Bigint) => Self::Bigint(value),
            (Datum::Double(value), ColumnType::Double) => Self::Double(value),
            (Datum::Str(text) | Datum::Enum(text), ColumnType::Text) => {
                if text.contains('\0') {
                    return Err(Unstorable);
                }
                Self::Text(text)
            }
            (Datum::Bytes(bytes), ColumnType::Bytea) => Self::Bytea(bytes),
            (Datum::Date(days), ColumnType::Date) => {
                let date = days
                    .checked_add(UNIX_DAY_FROM_CE)
                    .and_then(NaiveDate::from_num_days_from_ce_opt)
                    .filter(|date| date.year() >= FIRST_YEAR)
                    .ok_or(Unstorable)?;
                Self::Date(date)
            }
            (Datum::TimestampMillis(millis), ColumnType::Timestamptz) => {
                let time = DateTime::from_timestamp_millis(millis)
                    .filter(|time| time.year() >= FIRST_YEAR)
                    .ok_or(Unstorable)?;
                Self::Timestamptz(time)
            }
            (decimal @ Datum::Decimal { .. }, ColumnType::Numeric { .. }) => {
                Self::Text(decimal.to_text())
            }
            _ => return Err(Unstorable),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgresql_cannot_hold_is_refused_before_it_is_asked() {
        let cell = |datum, ty| Cell::of(datum, ty);
        assert_eq!(
            cell(Datum::Str("a\0b".into()), ColumnType::Text),
            Err(Unstorable)
        );
        let nested = Datum::Array(vec![Datum::Str("\0".into())]);
        assert_eq!(cell(nested, ColumnType::Jsonb), Err(Unstorable));
        for days in [i32::MIN, i32::MAX, -3_000_000] {
            assert_eq!(
                cell(Datum::Date(days), ColumnType::Date),
                Err(Unstorable),
                "{days}"
            );
        }
        for millis in [i64::MIN, i64::MAX] {
            assert_eq!(
                cell(Datum::TimestampMillis(millis), ColumnType::Timestamptz),
                Err(Unstorable)
            );
        }
        assert_eq!(
            cell(Datum::Int(i64::MAX), ColumnType::Integer),
            Err(Unstorable)
        );
        let date = NaiveDate::from_ymd_opt(2026, 2, 1);
        assert_eq!(
            Some(cell(Datum::Date(20_485), ColumnType::Date)),
            date.map(|d| Ok(Cell::Date(d)))
        );
        let numeric = ColumnType::Numeric {
            precision: 5,
            scale: 2,
        };
        assert_eq!(
            cell(
                Datum::Decimal {
                    unscaled: -8950,
                    scale: 2
                },
                numeric
            ),
            Ok(Cell::Text("-89.50".into()))
        );
    }
}
