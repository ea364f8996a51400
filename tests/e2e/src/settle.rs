//! Waiting until everything that was published has been decided, stored, delivered and fed.

use crate::adapter::AdapterTables;
use crate::audit::{outputs, states};
use crate::bus::each_record;
use crate::install::Installation;
use crate::{database, wait};
use mz_bus::{BusError, BusOptions, Isolation};
use mz_contract::Contract;
use mz_journal::topics;
use std::collections::BTreeMap;
use std::time::Duration;

/// Per topic and lane, the offset after the last committed record.
type Ends = BTreeMap<(String, u16), i64>;

/// Waits until gateway and vault have processed every source record that is committed now, every
/// case's backfill has ended, and (when there is an adapter) every delivery is in its tables.
#[track_caller]
pub fn settled(
    it: &Installation,
    contract: &Contract,
    adapter: Option<&AdapterTables>,
    limit: Duration,
) {
    let bus = it.bus("bus.admin");
    let topics: Vec<String> = contract.datasets.iter().map(|d| d.src_topic()).collect();
    let sources = must(ends(&bus, topics.iter(), contract.lanes));
    wait::until(
        "gateway and vault to catch up",
        limit,
        || must(behind(it, &bus, contract, &sources)),
        Vec::is_empty,
    );
    let Some(adapter) = adapter else { return };
    let deliveries: Vec<String> = outputs(contract)
        .into_iter()
        .filter(|topic| adapter.reads(topic))
        .collect();
    let deliveries = must(ends(&bus, deliveries.iter(), contract.lanes));
    wait::until(
        "the adapter to catch up",
        limit,
        || {
            let held = adapter.positions(it.database_url());
            deliveries
                .iter()
                .filter(|(place, end)| held.get(place).copied().unwrap_or(-1) < **end)
                .map(|((topic, lane), end)| format!("{topic} [{lane}] < {end}"))
                .collect()
        },
        Vec::is_empty,
    );
}

/// What is not processed yet, a line each.
fn behind(
    it: &Installation,
    bus: &BusOptions,
    contract: &Contract,
    sources: &Ends,
) -> Result<Vec<String>, BusError> {
    let mut behind = Vec::new();
    let states = states(bus, contract.lanes)?;
    let grants = ends(
        bus,
        std::iter::once(&topics::GRANTS.to_owned()),
        contract.lanes,
    )?;
    for ((topic, lane), end) in sources {
        let at = states
            .get(&("gw", *lane))
            .and_then(|state| state.position(topic))
            .unwrap_or(0);
        if at < *end {
            behind.push(format!("gateway: {topic} [{lane}] {at} < {end}"));
        }
    }
    for ((_, lane), end) in &grants {
        let at = states
            .get(&("gw", *lane))
            .map_or(0, |state| state.grants_position);
        if at < *end {
            behind.push(format!("gateway: grants [{lane}] {at} < {end}"));
        }
    }
    for ((kind, lane), state) in &states {
        if *kind == "gw" && !state.open_backfills.is_empty() {
            let open = state.open_backfills.len();
            behind.push(format!("gateway: {open} backfills open in lane {lane}"));
        }
    }
    let stored = vault_positions(it.database_url());
    for ((topic, lane), end) in sources {
        let at = stored.get(&(topic.clone(), *lane)).copied().unwrap_or(0);
        if at < *end {
            behind.push(format!("vault: {topic} [{lane}] {at} < {end}"));
        }
    }
    Ok(behind)
}

fn ends<'t>(
    bus: &BusOptions,
    topics: impl Iterator<Item = &'t String>,
    lanes: u16,
) -> Result<Ends, BusError> {
    let mut ends = Ends::new();
    for topic in topics {
        each_record(bus, topic, lanes, Isolation::Committed, |record| {
            let lane = u16::try_from(record.partition).unwrap_or(u16::MAX);
            let end = ends.entry((topic.clone(), lane)).or_insert(0);
            *end = (*end).max(record.offset + 1);
        })?;
    }
    Ok(ends)
}

fn vault_positions(url: &str) -> BTreeMap<(String, u16), i64> {
    database::with(url, async |connection| {
        let rows: Vec<(String, i32, i64)> =
            sqlx::query_as("SELECT topic, lane, next_offset FROM vault.source_position")
                .fetch_all(connection)
                .await?;
        Ok(rows
            .into_iter()
            .map(|(topic, lane, next)| ((topic, u16::try_from(lane).unwrap_or(u16::MAX)), next))
            .collect())
    })
}

#[track_caller]
fn must<T>(read: Result<T, BusError>) -> T {
    match read {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
