//! The gateway beside a pass-through of the same shape, on the same events, in the same run.
//!
//! Rounds alternate, the one that begins changes, and what is printed is the median. Throughput:
//! a backlog is written first, then read; the first tenth is not timed. Latency: events are made
//! at a fixed rate, and a consumer of committed data takes the age of each delivery.

mod arrival;
mod cases;
mod grants;
mod ledger;
mod measure;
mod passthrough;
mod publish;
mod report;
mod revoke;
mod revoke_check;
mod rounds;
mod shape;
mod world;

pub use arrival::{Arrival, arrival};
pub use grants::{Grants, GrantsReport, grants};
pub use ledger::{Asked, LedgerReport, LedgerWork, ledger};
pub use report::{Config, Latency, Pair, Report, Rounds, Throughput};
pub use revoke::{Revocations, RevokeReport, Waits, revocations};
pub use revoke_check::Verdict;
pub use shape::Shape;

use measure::cpu_seconds;
use mz_bus::{Admin, BusError, BusOptions, TxError};
use mz_gateway::Pace;
use report::{of, round};
use rounds::Bench;
use std::path::PathBuf;
use std::time::Duration;
use world::{Side, World};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The local stack as `bus.admin`, without a prefix.
    pub admin: BusOptions,
    /// The stack's keys directory: certificates of the principals.
    pub keys: PathBuf,
    /// The broker's process, to count its CPU time.
    pub broker: Option<u32>,
    /// Events in each throughput round.
    pub events: u64,
    /// Events that nobody times, before the first round.
    pub warm_up: u64,
    /// Rounds of each side; at least three make a median.
    pub rounds: u32,
    pub people: u32,
    /// A case for every person (1) or for one in so many.
    pub case_for_one_in: u32,
    /// Events a second, and for how long, in the latency rounds.
    pub rate: u32,
    pub latency: Duration,
}

impl Options {
    pub fn new(admin: BusOptions, keys: PathBuf) -> Self {
        Self {
            admin,
            keys,
            broker: None,
            events: 200_000,
            warm_up: 100_000,
            rounds: 3,
            people: 50_000,
            case_for_one_in: 1,
            rate: 2_000,
            latency: Duration::from_secs(10),
        }
    }
}

/// Why a benchmark could not be run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("the temporary folder can't be used")]
    Folder(#[source] std::io::Error),
    #[error("the benchmark's contract does not load: {0}")]
    Contract(String),
    #[error("a synthetic identity number is not valid")]
    Person,
    #[error(transparent)]
    Key(#[from] mz_keys::KeyError),
    #[error(transparent)]
    Seal(#[from] mz_seal::SealError),
    #[error(transparent)]
    Encode(#[from] mz_seal::EncodeError),
    #[error(transparent)]
    Walk(#[from] mz_seal::WalkError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Plan(#[from] mz_bus::plan::PlanError),
    #[error(transparent)]
    Tx(#[from] TxError),
    #[error(transparent)]
    Gateway(#[from] mz_gateway::Error),
    #[error(transparent)]
    Adapter(#[from] mz_adapter::Error),
    #[error(transparent)]
    Vault(#[from] mz_vault::VaultError),
    #[error(transparent)]
    VaultStore(#[from] mz_vault::store::StoreError),
    #[error(transparent)]
    Consent(#[from] mz_consent::ConsentError),
    #[error(transparent)]
    ConsentStore(#[from] mz_consent::store::StoreError),
    #[error("the consent service refused")]
    Refused(#[from] mz_consent::Refusal),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the benchmark's own event does not verify")]
    Seals(#[from] mz_seal::SealFault),
    #[error("the ledger failed: {0}")]
    Ledger(&'static str),
    #[error("a thread of the benchmark panicked")]
    Panicked,
    #[error("{0} did not get on for a minute")]
    Stuck(&'static str),
    #[error(
        "the gateway counted {found} {what}, expected {expected}: this measures something else"
    )]
    Counts {
        what: &'static str,
        expected: u64,
        found: u64,
    },
}

/// Sets up, warms up, measures, takes down. `progress` is told what is going on.
pub fn run(options: &Options, progress: &dyn Fn(&str)) -> Result<Report, BenchError> {
    progress("contract, keys, people");
    let world = World::new(options.people)?;
    let run = publish::now_us();
    let ours = Side::new(&options.admin, &options.keys, format!("bench{run}g."));
    let theirs = Side::new(&options.admin, &options.keys, format!("bench{run}p."));
    let result = measure_all(options, &world, &ours, &theirs, progress);
    progress("taking down");
    for side in [&ours, &theirs] {
        take_down(side)?;
    }
    result
}

fn measure_all(
    options: &Options,
    world: &World,
    ours: &Side,
    theirs: &Side,
    progress: &dyn Fn(&str),
) -> Result<Report, BenchError> {
    set_up(world, [ours, theirs])?;
    let mut bench = Bench::new(options, world, ours, theirs)?;
    progress("cases and their backfills");
    bench.open_cases()?;
    progress("warm-up");
    bench.warm_up()?;
    let (mut passthrough, mut gateway) = (Rounds::default(), Rounds::default());
    for number in 0..options.rounds {
        progress(&format!(
            "throughput, round {} of {}",
            number + 1,
            options.rounds
        ));
        bench.backlog(options.events)?;
        for turn in 0..2 {
            if (number + turn) % 2 == 0 {
                passthrough
                    .throughput
                    .push(bench.passthrough_throughput(options.events)?);
            } else {
                gateway
                    .throughput
                    .push(bench.gateway_throughput(options.events)?);
            }
        }
    }
    for number in 0..options.rounds {
        progress(&format!(
            "latency, round {} of {}",
            number + 1,
            options.rounds
        ));
        for turn in 0..2 {
            if (number + turn) % 2 == 0 {
                passthrough.latency.push(bench.passthrough_latency()?);
            } else {
                gateway.latency.push(bench.gateway_latency()?);
            }
        }
    }
    Ok(summarise(
        options,
        world,
        bench.shape().clone(),
        passthrough,
        gateway,
    ))
}

fn summarise(
    options: &Options,
    world: &World,
    bytes: Shape,
    passthrough: Rounds,
    gateway: Rounds,
) -> Report {
    let speed = |rounds: &Rounds| of(&rounds.throughput, |round| round.events_per_s);
    let p99 = |rounds: &Rounds| of(&rounds.latency, |round| round.p99);
    let both =
        |figure: &dyn Fn(&Rounds) -> f64| [round(figure(&passthrough)), round(figure(&gateway))];
    Report {
        events_per_s: Pair::new(speed(&passthrough), speed(&gateway)),
        p99_ms: Pair::new(p99(&passthrough), p99(&gateway)),
        config: Config {
            events_per_round: options.events,
            rounds: options.rounds,
            people: options.people,
            case_for_one_in: options.case_for_one_in,
            lanes: world.contract.lanes,
            slots: 1,
            commit_every_ms: u64::try_from(Pace::default().commit_every.as_millis())
                .unwrap_or(u64::MAX),
            latency_rate_per_s: options.rate,
            latency_seconds: options.latency.as_secs(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            release: !cfg!(debug_assertions),
            bytes,
            cpu_us_per_event: both(&|rounds| of(&rounds.throughput, |round| round.cpu_us)),
            broker_us_per_event: both(&|rounds| of(&rounds.throughput, |round| round.broker_us)),
            p50_ms: both(&|rounds| of(&rounds.latency, |round| round.p50)),
            p95_ms: both(&|rounds| of(&rounds.latency, |round| round.p95)),
            passthrough_rounds: passthrough.clone(),
            gateway_rounds: gateway.clone(),
        },
    }
}

/// Topics and access rules for each side.
fn set_up<const N: usize>(world: &World, sides: [&Side; N]) -> Result<(), BenchError> {
    set_up_slots(world, sides, 1)
}

fn set_up_slots<const N: usize>(
    world: &World,
    sides: [&Side; N],
    slots: u32,
) -> Result<(), BenchError> {
    for side in sides {
        let plan_options = mz_bus::plan::PlanOptions {
            slots,
            ..mz_bus::plan::PlanOptions::default()
        };
        let plan = mz_bus::plan::plan(&side.admin, &world.contract, &plan_options)?;
        mz_bus::plan::apply(&side.admin, &plan)?;
    }
    Ok(())
}

/// Leaves nothing on the cluster.
fn take_down(side: &Side) -> Result<(), BenchError> {
    let mut admin = Admin::connect(&side.admin)?;
    let prefix = &side.admin.prefix;
    let topics: Vec<String> = admin
        .topics(|name| name.starts_with(prefix))?
        .into_keys()
        .collect();
    admin.delete_topics(&topics)?;
    let mut acls = admin.acls()?;
    acls.retain(|acl| acl.name.starts_with(prefix));
    admin.delete_acls(&acls)?;
    Ok(())
}
