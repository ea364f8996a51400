//! What a batch adds to the days' roll-ups.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate};
use mz_journal::bitmap_fields;

use sqlx::{Postgres, Transaction};

use super::IndexError;
use super::row::Row;

const US_PER_DAY: i64 = 86_400_000_000;

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

    /// Adds them to the table. One statement and not a second COPY: a few rows sent by COPY wait for the
    /// other side's delayed acknowledgement, 40 ms a batch.
    pub async fn insert(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        log: i32,
    ) -> Result<(), IndexError> {
        let all: Vec<(&Key, &Sums)> = self.0.iter().collect();
        let words = |word: fn(&Key) -> Option<i32>| -> Vec<Option<i32>> {
            all.iter().map(|(key, _)| word(key)).collect()
        };
        // An array of arrays would have to be rectangular.
        let fields: Vec<Option<String>> = all.iter().map(|(_, sums)| sums.fields_text()).collect();
        sqlx::query(
            "INSERT INTO usage_day (log, day, kind, entries, denied, agreement, consumer, purpose,
                 dataset, rule, fields)
             SELECT $1, day, kind, entries, denied, agreement, consumer, purpose, dataset, rule,
                 fields::bigint[]
             FROM unnest($2::date[], $3::smallint[], $4::bigint[], $5::bigint[], $6::integer[],
                 $7::integer[], $8::integer[], $9::integer[], $10::integer[], $11::text[])
                 AS sums (day, kind, entries, denied, agreement, consumer, purpose, dataset, rule,
                 fields)",
        )
        .bind(log)
        .bind(all.iter().map(|(key, _)| key.date()).collect::<Vec<_>>())
        .bind(all.iter().map(|(key, _)| key.kind).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, sums)| sums.entries).collect::<Vec<_>>())
        .bind(all.iter().map(|(_, sums)| sums.denied).collect::<Vec<_>>())
        .bind(words(|key| key.agreement))
        .bind(words(|key| key.consumer))
        .bind(words(|key| key.purpose))
        .bind(words(|key| key.dataset))
        .bind(words(|key| key.rule))
        .bind(fields)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

impl Sums {
    /// As PostgreSQL writes an array; null where there is nothing.
    fn fields_text(&self) -> Option<String> {
        if self.fields.is_empty() {
            return None;
        }
        let counts: Vec<String> = self.fields.iter().map(ToString::to_string).collect();
        Some(format!("{{{}}}", counts.join(",")))
    }
}
