//! The vault's table against the source topics: exactly the newest version of each record.

use crate::check::Check;
use crate::database;
use crate::events::Events;
use mz_contract::Contract;
use std::collections::{BTreeMap, HashSet};

/// Place and version of one fact: dataset's schema id, lane, offset, epoch, counter.
type Place = (u32, u16, i64, u32, u64);

/// The vault holds for every record its newest version, from the very offset where it was
/// published, and nothing else.
pub fn newest(url: &str, contract: &Contract, events: &BTreeMap<String, Events>) -> Check {
    let mut check = Check::new("vault = newest");
    let mut expected: HashSet<Place> = HashSet::new();
    for (dataset, events) in events {
        let Some(dataset) = contract.dataset(dataset) else {
            continue;
        };
        for event in events.newest().values() {
            expected.insert((
                dataset.schema_id,
                event.lane,
                event.offset,
                event.version.epoch,
                event.version.counter,
            ));
        }
    }
    let rows = facts(url);
    let held: HashSet<Place> = rows.iter().copied().collect();
    check.equal("facts", rows.len(), expected.len());
    check.equal("facts, each once", held.len(), rows.len());
    for place in expected.difference(&held).take(3) {
        check.fault(format!("missing: {place:?}"));
    }
    for place in held.difference(&expected).take(3) {
        check.fault(format!("not the newest: {place:?}"));
    }
    check.figure = format!("{} facts", rows.len());
    check
}

fn facts(url: &str) -> Vec<Place> {
    database::with(url, async |connection| {
        let rows: Vec<(i32, i32, i64, i64, i64)> =
            sqlx::query_as("SELECT dataset, lane, source_offset, epoch, counter FROM vault.fact")
                .fetch_all(connection)
                .await?;
        Ok(rows
            .into_iter()
            .map(|(dataset, lane, offset, epoch, counter)| {
                (
                    u32::try_from(dataset).unwrap_or(0),
                    u16::try_from(lane).unwrap_or(u16::MAX),
                    offset,
                    u32::try_from(epoch).unwrap_or(0),
                    u64::try_from(counter).unwrap_or(0),
                )
            })
            .collect())
    })
}
