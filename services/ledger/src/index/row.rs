//! A row of `entry`: from an audit entry, to COPY's binary format, from a query.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use mz_journal::{Audit, AuditCounts};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{IndexError, clean};

/// Times that a row can hold: the years 1 to 9999, milliseconds since 1970.
pub(super) const AT_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;
/// 2000-01-01, PostgreSQL's epoch, in microseconds since 1970.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
/// Signature, flags and length of the extension of COPY's binary format.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Micros(pub i64);

pub(super) type Bytes<'a> = Cow<'a, [u8]>;
pub(super) type Text<'a> = Cow<'a, str>;

/// A column's value in COPY and in an answer.
pub(super) trait Column: Sized {
    /// The value with its length before it.
    fn put(&self, out: &mut Vec<u8>);
    fn get(row: &PgRow, at: usize) -> Result<Self, sqlx::Error>;
}

macro_rules! integer_columns {
    ($($type:ty),*) => {$(
        impl Column for $type {
            fn put(&self, out: &mut Vec<u8>) {
                put_bytes(out, &self.to_be_bytes());
            }
            fn get(row: &PgRow, at: usize) -> Result<Self, sqlx::Error> {
                row.try_get(at)
            }
        }
        impl Column for Option<$type> {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    Some(value) => value.put(out),
                    None => put_null(out),
                }
            }
            fn get(row: &PgRow, at: usize) -> Result<Self, sqlx::Error> {
                row.try_get(at)
            }
        }
    )*};
}
integer_columns!(i16, i32, i64);

impl Column for Micros {
    fn put(&self, out: &mut Vec<u8>) {
        (self.0 - POSTGRES_EPOCH_US).put(out);
    }
    fn get(row: &PgRow, at: usize) -> Result<Self, sqlx::Error> {
        let at: DateTime<Utc> = row.try_get(at)?;
        Ok(Self(at.timestamp_micros()))
    }
}

impl Column for Option<Bytes<'_>> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Some(bytes) => put_bytes(out, bytes),
            None => put_null(out),
        }
    }
    fn get(row: &PgRow, at: usize) -> Result<Self, sqlx::Error> {
        let bytes: Option<Vec<u8>> = row.try_get(at)?;
        Ok(bytes.map(Cow::Owned))
    }
}

impl Column for Option<Text<'_>> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Some(text) => put_bytes(out, text.as_bytes()),
            None => put_null(out),
        }
    }
    fn get(row: &PgRow, at: usize) -> Result<Self, sqlx::Error> {
        let text: Option<String> = row.try_get(at)?;
        Ok(text.map(Cow::Owned))
    }
}

pub(super) fn start_copy(out: &mut Vec<u8>) {
    out.extend_from_slice(COPY_HEADER);
}

/// Begins a row of so many columns.
pub(super) fn put_columns(out: &mut Vec<u8>, count: i16) {
    out.extend_from_slice(&count.to_be_bytes());
}

pub(super) fn end_copy(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1i16).to_be_bytes());
}

pub(super) fn put_null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1i32).to_be_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // A text of an entry is far shorter than 2 GiB: the journal's limits.
    out.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

macro_rules! columns {
    ($($name:ident: $type:ty,)*) => {
        /// One row, words by number.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(super) struct Row<'a> {
            $(pub $name: $type,)*
        }

        /// The columns in the order of [`Row::put`] and [`Row::get`].
        pub(super) const COLUMNS: &[&str] = &[$(stringify!($name)),*];

        impl<'a> Row<'a> {
            /// Appends the row in COPY's binary format.
            pub fn put(&self, out: &mut Vec<u8>) {
                const COUNT: i16 = COLUMNS.len() as i16;
                put_columns(out, COUNT);
                $(Column::put(&self.$name, out);)*
            }

            /// Reads a row of which [`COLUMNS`] are the first columns.
            pub fn get(row: &PgRow) -> Result<Self, sqlx::Error> {
                let mut at = 0..;
                Ok(Self {
                    $($name: Column::get(row, at.next().unwrap_or_default())?,)*
                })
            }

            /// The columns in which two rows differ.
            pub fn differing(&self, other: &Row<'_>) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.$name != other.$name {
                    names.push(stringify!($name));
                })*
                names
            }
        }
    };
}

columns! {
    at: Micros,
    leaf: i64,
    number: i64,
    version_counter: Option<i64>,
    source_offset: Option<i64>,
    output_sequence: Option<i64>,
    log: i32,
    lane: i32,
    agreement: Option<i32>,
    consumer: Option<i32>,
    purpose: Option<i32>,
    dataset: Option<i32>,
    rule: Option<i32>,
    version_epoch: Option<i32>,
    writer: i16,
    kind: i16,
    cause: i16,
    subject: Option<Bytes<'a>>,
    record: Option<Bytes<'a>>,
    grant_id: Option<Bytes<'a>>,
    event: Option<Bytes<'a>>,
    fields: Option<Bytes<'a>>,
    operator: Option<Text<'a>>,
    reason: Option<Text<'a>>,
    matched: Option<i64>,
    delivered: Option<i64>,
    denied: Option<i64>,
    out_of_scope: Option<i64>,
    from_offset: Option<i64>,
    to_offset: Option<i64>,
}

impl<'a> Row<'a> {
    /// `words` has the number of every word of the entry.
    ///
    /// # Errors
    /// A time that no row can hold, a leaf past 2^63.
    pub fn new(
        log: i32,
        leaf: u64,
        audit: &'a Audit<'_>,
        words: impl Fn(&str) -> Option<i32>,
    ) -> Result<Self, IndexError> {
        let unfit = |column| IndexError::Unfit { leaf, column };
        if !AT_MS.contains(&audit.at_ms) {
            return Err(unfit("at"));
        }
        let counts = Some(audit.counts).filter(|counts| {
            *counts
                != AuditCounts {
                    from_offset: -1,
                    to_offset: -1,
                    ..AuditCounts::default()
                }
        });
        Ok(Self {
            at: Micros(audit.at_ms * 1_000),
            leaf: i64::try_from(leaf).map_err(|_| unfit("leaf"))?,
            number: audit.number.cast_signed(),
            version_counter: some(audit.version_counter.cast_signed(), 0),
            source_offset: some(audit.source_offset, -1),
            output_sequence: some(audit.output_sequence.cast_signed(), 0),
            log,
            lane: i32::from(audit.lane),
            agreement: words(&audit.agreement),
            consumer: words(&audit.consumer),
            purpose: words(&audit.purpose),
            dataset: words(&audit.dataset),
            rule: words(&audit.rule),
            version_epoch: some(audit.version_epoch.cast_signed(), 0),
            writer: audit.writer as i16,
            kind: audit.kind as i16,
            cause: audit.cause as i16,
            subject: bytes(&audit.subject.0),
            record: bytes(&audit.record.0),
            grant_id: audit
                .grant
                .as_ref()
                .map(|grant| Cow::Borrowed(&grant.0[..])),
            event: bytes(&audit.event),
            fields: Some(Cow::Borrowed(&*audit.fields)).filter(|fields| !fields.is_empty()),
            operator: Some(clean::text(&audit.operator)).filter(|text| !text.is_empty()),
            reason: Some(clean::text(&audit.reason)).filter(|text| !text.is_empty()),
            matched: counts.map(|counts| counts.matched.into()),
            delivered: counts.map(|counts| counts.delivered.into()),
            denied: counts.map(|counts| counts.denied.into()),
            out_of_scope: counts.map(|counts| counts.out_of_scope.into()),
            from_offset: counts.map(|counts| counts.from_offset),
            to_offset: counts.map(|counts| counts.to_offset),
        })
    }
}

fn some<T: PartialEq>(value: T, none: T) -> Option<T> {
    (value != none).then_some(value)
}

/// All zero means "does not apply".
fn bytes(tag: &[u8]) -> Option<Bytes<'_>> {
    tag.iter()
        .any(|byte| *byte != 0)
        .then_some(Cow::Borrowed(tag))
}
