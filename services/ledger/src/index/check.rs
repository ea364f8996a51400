//! The index held against the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use super::append::{expired, month, size};
use super::row::{COLUMNS, Row};
use super::words::Numbers;
use super::{Index, IndexError, Leaf};

/// Where the index says something else than the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub log: String,
    /// The leaf of the log; of a row that the log doesn't have, what the row says.
    pub leaf: i64,
    pub kind: FaultKind,
    /// The column that was altered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Where a moved row is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The log has the entry, the index has no row.
    Missing,
    /// The index has a row, or a second one, that the log doesn't have.
    Extra,
    /// One column says something else.
    Altered,
    /// The row stands at another leaf or under another log.
    Moved,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub log: String,
    pub leaf: i64,
}

/// What no two entries share: writer, lane and number.
type Identity = (i16, i32, i64);

fn identity(row: &Row<'_>) -> Identity {
    (row.writer, row.lane, row.number)
}

impl Index {
    /// Compares the rows of one log, from `first_leaf` on, with the log's own entries. Entries
    /// past what is indexed, and those of expired months, are not expected. A batch that ends at
    /// or past the last indexed leaf also finds the rows after it.
    ///
    /// # Errors
    /// An entry that no row can hold, the database.
    pub async fn check(
        &self,
        origin: &str,
        first_leaf: u64,
        entries: &[impl Leaf],
    ) -> Result<Vec<Fault>, IndexError> {
        let Some(log) = self.known_log(origin).await? else {
            return Ok(Vec::new());
        };
        let mut connection = self.pool.acquire().await?;
        let size = size(&mut connection, log).await?;
        let expired = expired(&mut connection).await?;
        drop(connection);
        let numbers = Numbers::read(&self.pool, entries).await?;
        let mut wanted = BTreeMap::new();
        for (leaf, entry) in (first_leaf..size).zip(entries) {
            let Some(audit) = entry.audit() else { continue };
            if !expired.contains(&month(audit.at_ms)) {
                let row = Row::new(log, leaf, audit, |text| numbers.id(text))?;
                wanted.insert(row.leaf, row);
            }
        }
        let end = first_leaf.saturating_add(entries.len() as u64);
        // Below the first leaf and past the last, anything is one too many.
        let low = if first_leaf == 0 {
            i64::MIN
        } else {
            first_leaf.cast_signed()
        };
        let high = if end >= size {
            i64::MAX
        } else {
            end.cast_signed()
        };
        let stored = self
            .rows("log = $1 AND leaf >= $2 AND leaf <= $3", |query| {
                query
                    .bind(log)
                    .bind(low)
                    .bind(if high == i64::MAX { high } else { high - 1 })
            })
            .await?;
        let mut report = Report {
            origin,
            faults: Vec::new(),
        };
        let missing = report.compare(&wanted, stored);
        let elsewhere = self.elsewhere(log, (low, high), &missing).await?;
        for row in missing {
            match elsewhere.get(&row.leaf) {
                Some(found) => report.moved(row.leaf, found.clone()),
                None => report.add(row.leaf, FaultKind::Missing),
            }
        }
        report.faults.sort_by_key(|fault| fault.leaf);
        Ok(report.faults)
    }

    /// Missing entries that are the same, but for their place, under another log or past the
    /// leaves that were compared.
    async fn elsewhere(
        &self,
        log: i32,
        (low, high): (i64, i64),
        missing: &[&Row<'_>],
    ) -> Result<HashMap<i64, Found>, IndexError> {
        if missing.is_empty() {
            return Ok(HashMap::new());
        }
        let times: Vec<_> = missing
            .iter()
            .filter_map(|row| chrono::DateTime::from_timestamp_micros(row.at.0))
            .collect();
        let (first, last) = (times.iter().min().copied(), times.iter().max().copied());
        let rows = self
            .rows(
                "at >= $1 AND at <= $2 AND at = ANY($3) AND (log <> $4 OR leaf < $5 OR leaf >= $6)",
                {
                    |query| {
                        query
                            .bind(first)
                            .bind(last)
                            .bind(times)
                            .bind(log)
                            .bind(low)
                            .bind(high)
                    }
                },
            )
            .await?;
        let logs = self
            .origins(rows.iter().map(|row| row.log).collect())
            .await?;
        let wanted: HashMap<Identity, &Row<'_>> =
            missing.iter().map(|row| (identity(row), *row)).collect();
        let mut found = HashMap::new();
        for row in rows {
            let Some(entry) = wanted.get(&identity(&row)) else {
                continue;
            };
            if entry
                .differing(&row)
                .iter()
                .all(|column| matches!(*column, "log" | "leaf"))
            {
                let log = logs.get(&row.log).cloned().unwrap_or_default();
                found.insert(
                    entry.leaf,
                    Found {
                        log,
                        leaf: row.leaf,
                    },
                );
            }
        }
        Ok(found)
    }

    async fn rows(
        &self,
        condition: &'static str,
        bind: impl for<'q> FnOnce(super::person::Query<'q>) -> super::person::Query<'q>,
    ) -> Result<Vec<Row<'static>>, IndexError> {
        let sql = format!("SELECT {} FROM entry WHERE {condition}", COLUMNS.join(", "));
        let rows = bind(sqlx::query(AssertSqlSafe(sql)))
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().map(Row::get).collect::<Result<_, _>>()?)
    }
}

struct Report<'a> {
    origin: &'a str,
    faults: Vec<Fault>,
}

impl Report<'_> {
    /// Reports all but what is missing, which is returned.
    fn compare<'w, 'r>(
        &mut self,
        wanted: &'w BTreeMap<i64, Row<'r>>,
        stored: Vec<Row<'static>>,
    ) -> Vec<&'w Row<'r>> {
        let identities: HashMap<Identity, i64> = wanted
            .values()
            .map(|row| (identity(row), row.leaf))
            .collect();
        // Rows at their leaf: the right one, else the nearest to it.
        let mut placed: HashMap<i64, (usize, Arc<Row<'static>>)> = HashMap::new();
        let mut strays: Vec<Arc<Row<'static>>> = Vec::new();
        for row in stored.into_iter().map(Arc::new) {
            let belongs = identities
                .get(&identity(&row))
                .is_none_or(|leaf| *leaf == row.leaf);
            match wanted.get(&row.leaf).filter(|_| belongs) {
                Some(entry) => {
                    let differing = entry.differing(&row).len();
                    match placed.get(&row.leaf) {
                        Some((known, _)) if *known <= differing => strays.push(row),
                        _ => {
                            let last = placed.insert(row.leaf, (differing, Arc::clone(&row)));
                            strays.extend(last.map(|(_, row)| row));
                        }
                    }
                }
                None => strays.push(row),
            }
        }
        let mut moved: HashMap<i64, i64> = HashMap::new();
        for row in strays {
            match identities.get(&identity(&row)) {
                Some(leaf) if !placed.contains_key(leaf) && !moved.contains_key(leaf) => {
                    moved.insert(*leaf, row.leaf);
                    let found = Found {
                        log: self.origin.to_owned(),
                        leaf: row.leaf,
                    };
                    self.moved(*leaf, found);
                    self.altered(&wanted[leaf], &row, "leaf");
                }
                _ => self.add(row.leaf, FaultKind::Extra),
            }
        }
        for (leaf, (_, row)) in &placed {
            self.altered(&wanted[leaf], row, "");
        }
        wanted
            .values()
            .filter(|row| !placed.contains_key(&row.leaf) && !moved.contains_key(&row.leaf))
            .collect()
    }

    fn altered(&mut self, entry: &Row<'_>, row: &Row<'_>, except: &str) {
        for column in entry
            .differing(row)
            .into_iter()
            .filter(|column| *column != except)
        {
            self.push(entry.leaf, FaultKind::Altered, Some(column), None);
        }
    }

    fn moved(&mut self, leaf: i64, found: Found) {
        self.push(leaf, FaultKind::Moved, None, Some(found));
    }

    fn add(&mut self, leaf: i64, kind: FaultKind) {
        self.push(leaf, kind, None, None);
    }

    fn push(&mut self, leaf: i64, kind: FaultKind, column: Option<&str>, found: Option<Found>) {
        let column = column.map(str::to_owned);
        self.faults.push(Fault {
            log: self.origin.to_owned(),
            leaf,
            kind,
            column,
            found,
        });
    }
}
