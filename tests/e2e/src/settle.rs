//! Waiting until everything that was published has been decided, stored, delivered and fed.

use crate::adapter::AdapterTables;
use crate::audit::{outputs, states};
use crate::bus::each_record;
use crate::install::Installation;
use crate::{database, wait};
use mz_bus::{BusError, BusOptions, Isolation};
use mz_contract::Contract;
use mz_journal::topics;
use sqlx::AssertSqlSafe;
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

/// Looks in a row that must find nothing: what moves round from receipt to consent to order could
/// slip past one.
const QUIET_LOOKS: u32 = 2;

/// Waits until a settled installation with a consent service has nothing left to do: it knows the whole
/// log, every order was carried out or declined, nothing waits to be called a superseded record, and
/// every withdrawal that one of these adapters was told of has its receipt.
#[track_caller]
pub fn quiet(it: &Installation, contract: &Contract, adapters: &[&AdapterTables], limit: Duration) {
    let bus = it.bus("bus.admin");
    let mut looks = 0;
    wait::until(
        "orders, withdrawals and receipts to come to an end",
        limit,
        || must(unfinished(it, &bus, contract, adapters)),
        |left| {
            looks = if left.is_empty() { looks + 1 } else { 0 };
            looks >= QUIET_LOOKS
        },
    );
}

/// What is on its way, a line each, in the order in which it goes.
fn unfinished(
    it: &Installation,
    bus: &BusOptions,
    contract: &Contract,
    adapters: &[&AdapterTables],
) -> Result<Vec<String>, BusError> {
    let url = it.database_url();
    let lanes = contract.lanes;
    let mut left = Vec::new();
    let now = chrono::Utc::now().timestamp_millis();
    left.extend(rows(
        url,
        "due withdrawals",
        &format!("SELECT count(*) FROM consent.due WHERE due_ms <= {now}"),
    ));
    left.extend(rows(
        url,
        "unsent changes",
        "SELECT count(*) FROM consent.outbox",
    ));
    let states = states(bus, lanes)?;
    let orders = [topics::ORDERS.to_owned()];
    for ((topic, lane), end) in ends(bus, orders.iter(), lanes)? {
        let state = states.get(&("gw", lane));
        let at = state.and_then(|state| state.position(&topic)).unwrap_or(0);
        if at < end {
            left.push(format!("gateway: orders [{lane}] {at} < {end}"));
        }
    }
    for ((kind, lane), state) in &states {
        if *kind == "gw" && !state.superseded.is_empty() {
            let records = state.superseded.len();
            left.push(format!("{records} superseded records in lane {lane}"));
        }
    }
    let followed = [topics::AUDIT.to_owned(), topics::RECEIPTS.to_owned()];
    let known = positions(url, "consent.position");
    for (place, end) in ends(bus, followed.iter(), lanes)? {
        let at = known.get(&place).copied().unwrap_or(0);
        if at < end {
            left.push(format!("consent: {} [{}] {at} < {end}", place.0, place.1));
        }
    }
    left.extend(rows(
        url,
        "orders without an answer",
        "SELECT count(*) FROM consent.orders WHERE executed_ms IS NULL AND declined_ms IS NULL",
    ));
    for adapter in adapters {
        let agreement = adapter.agreement();
        left.extend(rows(
            url,
            "withdrawals without a receipt",
            &format!(
                "SELECT count(*) FROM consent.orders WHERE agreement = '{agreement}'
                 AND executed_ms IS NOT NULL AND receipt_ms IS NULL"
            ),
        ));
    }
    Ok(left)
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
    let stored = positions(it.database_url(), "vault.source_position");
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

fn rows(url: &str, what: &str, query: &str) -> Option<String> {
    let rows = database::number(url, query);
    (rows > 0).then(|| format!("{rows} {what}"))
}

/// Next offsets as a service keeps them in a table of its own.
fn positions(url: &str, table: &'static str) -> Ends {
    let query = format!("SELECT topic, lane, next_offset FROM {table}");
    database::with(url, async |connection| {
        let rows: Vec<(String, i32, i64)> = sqlx::query_as(AssertSqlSafe(query))
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
