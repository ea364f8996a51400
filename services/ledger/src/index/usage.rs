//! What a batch adds to the days' roll-ups.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate};
use mz_journal::bitmap_fields;

use super::row::{Column as _, Row, end_copy, put_bytes, put_columns, put_null, start_copy};

const US_PER_DAY: i64 = 86_400_000_000;
/// 2000-01-01 in days since 1970.
const POSTGRES_EPOCH_DAYS: i64 = 10_957;
/// Type number of bigint, as PostgreSQL's binary arrays name it.
const BIGINT: i32 = 20;

/// Sums of one batch of one log.
#[derive(Default)]
pub(super) struct Deltas(pub HashMap<Key, Sums>);

/// What sums are kept by.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// Since 1970.
    pub day: i64,
    pub agreement: Option<i32>,
    pub consumer: Option<i32>,
    pub purpose: Option<i32>,
    pub dataset: Option<i32>,
    pub rule: Option<i32>,
    pub kind: i16,
}

#[derive(Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub entries: i64,
    pub denied: i64,
    /// From field 0 on.
    pub fields: Vec<i64>,
}

impl Key {
    /// Agreement, consumer, purpose, dataset, rule.
    pub fn words(&self) -> [Option<i32>; 5] {
        [
            self.agreement,
            self.consumer,
            self.purpose,
            self.dataset,
            self.rule,
        ]
    }

    pub fn date(&self) -> NaiveDate {
        let seconds = self.day.saturating_mul(US_PER_DAY / 1_000_000);
        DateTime::from_timestamp_secs(seconds)
            .unwrap_or_default()
            .date_naive()
    }
}

impl FromIterator<(Key, Sums)> for Deltas {
    fn from_iter<I: IntoIterator<Item = (Key, Sums)>>(sums: I) -> Self {
        Self(sums.into_iter().collect())
    }
}

impl Deltas {
    /// For what [`Self::rows`] returns.
    pub const COPY: &'static str = "COPY usage_day (entries, denied, log, day, agreement, consumer, \
         purpose, dataset, rule, kind, fields) FROM STDIN (FORMAT binary)";

    pub fn add(&mut self, row: &Row<'_>) {
        let sums = self.0.entry(Key {
            day: row.at.0.div_euclid(US_PER_DAY),
            agreement: row.agreement,
            consumer: row.consumer,
            purpose: row.purpose,
            dataset: row.dataset,
            rule: row.rule,
            kind: row.kind,
        });
        let sums = sums.or_default();
        sums.entries += 1;
        sums.denied += row.denied.unwrap_or_default();
        for field in bitmap_fields(row.fields.as_deref().unwrap_or_default()) {
            let field = usize::from(field);
            if sums.fields.len() <= field {
                sums.fields.resize(field + 1, 0);
            }
            sums.fields[field] += 1;
        }
    }

    pub fn rows(&self, log: i32) -> Vec<u8> {
        let mut out = Vec::new();
        start_copy(&mut out);
        for (key, sums) in &self.0 {
            put_columns(&mut out, 11);
            sums.entries.put(&mut out);
            sums.denied.put(&mut out);
            log.put(&mut out);
            // Days of the years 1 to 9999: `Row` has no other.
            let day = i32::try_from(key.day - POSTGRES_EPOCH_DAYS).unwrap_or_default();
            day.put(&mut out);
            key.agreement.put(&mut out);
            key.consumer.put(&mut out);
            key.purpose.put(&mut out);
            key.dataset.put(&mut out);
            key.rule.put(&mut out);
            key.kind.put(&mut out);
            put_array(&mut out, &sums.fields);
        }
        end_copy(&mut out);
        out
    }
}

fn put_array(out: &mut Vec<u8>, values: &[i64]) {
    if values.is_empty() {
        return put_null(out);
    }
    let mut array = Vec::with_capacity(20 + values.len() * 12);
    // A bitmap has 2,048 bits at most.
    let count = i32::try_from(values.len()).unwrap_or(i32::MAX);
    // One dimension without nulls, from 1 on.
    for head in [1, 0, BIGINT, count, 1] {
        array.extend_from_slice(&head.to_be_bytes());
    }
    for value in values {
        value.put(&mut array);
    }
    put_bytes(out, &array);
}
