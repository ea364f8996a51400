//! From publishing to the row: how long until an event about a person with a case stands in the
//! department's own table. Source, gateway and adapter are the real ones; 500 events a second.

use super::rounds::Bench;
use super::world::{Side, World};
use super::{BenchError, Options, set_up, take_down};
use mz_adapter::{Config, Quantiles, Service};
use serde::Serialize;
use sqlx::{Connection as _, PgConnection};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often the watcher looks whether the ramp is over.
const LOOK: Duration = Duration::from_millis(5);

/// Milliseconds, from `ce_time` and from the delivery's write to the commit of its row.
#[derive(Clone, Debug, Serialize)]
pub struct Arrival {
    pub rate_per_s: u32,
    pub seconds: u64,
    pub publish_to_table_ms: Quantiles,
    pub delivery_to_table_ms: Quantiles,
    /// Rows of one department; the other agreement's deliveries are made too.
    pub rows: u64,
    pub missing: u64,
}

/// Sets up, measures, takes down. `database_url`: where a schema of the benchmark's own may stand.
pub fn arrival(
    options: &Options,
    database_url: &str,
    progress: &dyn Fn(&str),
) -> Result<Arrival, BenchError> {
    progress("contract, keys, people");
    let world = World::new(options.people)?;
    let run = super::publish::now_us();
    let ours = Side::new(&options.admin, &options.keys, format!("bench{run}a."));
    let spare = Side::new(&options.admin, &options.keys, format!("bench{run}s."));
    let schema = format!("bench_{run}");
    let result = measure(
        options,
        &world,
        [&ours, &spare],
        (database_url, &schema),
        progress,
    );
    progress("taking down");
    for side in [&ours, &spare] {
        take_down(side)?;
    }
    drop_schema(database_url, &schema)?;
    result
}

fn measure(
    options: &Options,
    world: &World,
    [ours, spare]: [&Side; 2],
    (url, schema): (&str, &str),
    progress: &dyn Fn(&str),
) -> Result<Arrival, BenchError> {
    set_up(world, [ours, spare])?;
    let mut bench = Bench::new(options, world, ours, spare)?;
    progress("cases and their backfills");
    bench.open_cases()?;
    let config = Config::parse(&format!(
        "consumer: police\npurpose: bench\ndatabase: {{schema: {schema}}}\n"
    ))
    .map_err(BenchError::Contract)?;
    let bus = ours.admin.as_principal(&options.keys, &config.principal());
    let adapter = mz_adapter::Options::new(bus, Arc::clone(&world.contract), config, Some(url))?;
    let service = Service::new(adapter)?;
    let handle = service.handle();
    progress("events at the rate");
    let (ready, counting, stop) = (
        AtomicBool::new(true),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    let summary = thread::scope(|scope| {
        let adapter = scope.spawn(|| service.run(&stop));
        scope.spawn(|| {
            while !counting.load(Ordering::Acquire) && !stop.load(Ordering::Acquire) {
                thread::sleep(LOOK);
            }
            handle.forget_latencies();
        });
        let published = bench.publish_through_gateway(&ready, &counting);
        stop.store(true, Ordering::Release);
        let summary = adapter.join().map_err(|_| BenchError::Panicked)??;
        published.map(|()| summary)
    })?;
    let totals = summary.totals();
    Ok(Arrival {
        rate_per_s: options.rate,
        seconds: options.latency.as_secs(),
        publish_to_table_ms: summary.event_to_table.quantiles(),
        delivery_to_table_ms: summary.delivery_to_table.quantiles(),
        rows: totals.stored,
        missing: totals.missing + totals.rejected,
    })
}

/// The name is made of digits here, so it needs no quoting.
pub(super) fn drop_schema(url: &str, schema: &str) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::Folder)?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await?;
        let drop = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
        sqlx::raw_sql(sqlx::AssertSqlSafe(drop))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(())
    })
}
