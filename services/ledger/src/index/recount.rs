//! The days' roll-ups held against the log: counted again from all its entries.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate};
use serde::{Deserialize, Serialize};

use super::append::size;
use super::row::Row;
use super::usage::{Deltas, Key, Sums};
use super::words::Numbers;
use super::{Index, IndexError, Leaf, names};

/// Sums of a log, counted from its entries in the order of their leaves.
#[derive(Default)]
pub struct Recount {
    sums: Deltas,
    leaves: u64,
}

impl Recount {
    /// How many entries were counted.
    pub const fn leaves(&self) -> u64 {
        self.leaves
    }
}

/// A sum of the roll-ups that the log doesn't bear out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SumFault {
    pub log: String,
    pub day: NaiveDate,
    pub agreement: String,
    pub consumer: String,
    pub purpose: String,
    pub dataset: String,
    pub rule: String,
    pub kind: String,
    /// Entries by the log.
    pub counted: u64,
    /// Entries by the roll-ups; they can also differ in what was denied or in single fields.
    pub stored: u64,
}

/// Day, agreement, consumer, purpose, dataset, rule, kind, entries, denied, fields.
type SumRow = (
    NaiveDate,
    Option<i32>,
    Option<i32>,
    Option<i32>,
    Option<i32>,
    Option<i32>,
    i16,
    i64,
    i64,
    Option<Vec<i64>>,
);

impl Index {
    /// Counts the next entries of a log.
    ///
    /// # Errors
    /// An entry that no row can hold, the database.
    pub async fn recount(
        &self,
        recount: &mut Recount,
        entries: &[impl Leaf],
    ) -> Result<(), IndexError> {
        let numbers = Numbers::read(&self.pool, entries).await?;
        for entry in entries {
            if let Some(audit) = entry.audit() {
                // Sums know no log and no leaf.
                let row = Row::new(0, recount.leaves, audit, |text| numbers.id(text))?;
                recount.sums.add(&row);
            }
            recount.leaves += 1;
        }
        Ok(())
    }

    /// Compares the roll-ups of a log with what was counted.
    ///
    /// # Errors
    /// [`IndexError::Recount`] when more or fewer entries were counted than are indexed now; the
    /// database.
    pub async fn check_sums(
        &self,
        origin: &str,
        recount: &Recount,
    ) -> Result<Vec<SumFault>, IndexError> {
        let log = self.known_log(origin).await?.unwrap_or_default();
        let mut tx = self
            .pool
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
            .await?;
        let size = size(&mut tx, log).await?;
        if size != recount.leaves {
            let counted = recount.leaves;
            return Err(IndexError::Recount { size, counted });
        }
        let rows: Vec<SumRow> = sqlx::query_as(
            "SELECT day, agreement, consumer, purpose, dataset, rule, kind, sum(entries)::bigint,
                    sum(denied)::bigint, sum_counts(fields)
             FROM usage_day WHERE log = $1
             GROUP BY day, agreement, consumer, purpose, dataset, rule, kind",
        )
        .bind(log)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let stored: Deltas = rows.into_iter().map(sums).collect();
        let keys: BTreeSet<&Key> = stored.0.keys().chain(recount.sums.0.keys()).collect();
        let wrong: Vec<&Key> = keys
            .into_iter()
            .filter(|key| stored.0.get(key) != recount.sums.0.get(key))
            .collect();
        let words = wrong
            .iter()
            .flat_map(|key| key.words().into_iter().flatten());
        self.words.load(&self.pool, words).await?;
        let entries = |sums: Option<&Sums>| sums.map_or(0, |sums| sums.entries.cast_unsigned());
        let fault = |key: &Key| {
            let [agreement, consumer, purpose, dataset, rule] =
                key.words().map(|word| self.words.text(word));
            SumFault {
                log: origin.to_owned(),
                day: key.date(),
                agreement,
                consumer,
                purpose,
                dataset,
                rule,
                kind: names::kind(key.kind).to_owned(),
                counted: entries(recount.sums.0.get(key)),
                stored: entries(stored.0.get(key)),
            }
        };
        let mut faults: Vec<SumFault> = wrong.into_iter().map(fault).collect();
        faults.sort();
        Ok(faults)
    }
}

fn sums(row: SumRow) -> (Key, Sums) {
    let (day, agreement, consumer, purpose, dataset, rule, kind, entries, denied, fields) = row;
    let key = Key {
        day: day
            .signed_duration_since(DateTime::UNIX_EPOCH.date_naive())
            .num_days(),
        agreement,
        consumer,
        purpose,
        dataset,
        rule,
        kind,
    };
    let fields = fields.unwrap_or_default();
    (
        key,
        Sums {
            entries,
            denied,
            fields,
        },
    )
}
