//! `bench`: our figure, the baseline and the ratio from the same run.

use std::path::Path;
use std::time::Duration;

use mz_bench::gateway::{
    Grants, LedgerWork, Options, Revocations, arrival, grants as run_grants, ledger as run_ledger,
    revocations, run as run_gateway,
};
use mz_stack::StackInfo;

use crate::cli::BenchCommand;
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, say};
use crate::say_line;

/// The second figure: a case for one person in so many.
const SPARSE: u32 = 1_000;

pub fn run(dir: &Path, command: &BenchCommand) -> Outcome {
    if cfg!(debug_assertions) {
        eprintln!(
            "{}",
            say(
                "这不是 release 构建,数字没有意义",
                "not a release build: the figures mean nothing"
            )
        );
    }
    match command {
        BenchCommand::Gateway {
            json,
            rounds,
            events,
            one_in,
        } => gateway(dir, *json, *rounds, *events, *one_in),
        BenchCommand::Grants {
            json,
            grants,
            lanes,
        } => {
            let (grants, lanes) = (*grants, *lanes);
            load(dir, *json, Grants { grants, lanes })
        }
        BenchCommand::Adapter {
            json,
            rate,
            seconds,
        } => adapter(dir, *json, *rate, *seconds),
        BenchCommand::Revoke {
            json,
            rate,
            revocations,
            slots,
        } => {
            let what = Revocations {
                rate: *rate,
                revocations: usize::try_from(*revocations).unwrap_or(usize::MAX),
                slots: *slots,
            };
            revoke(dir, *json, what)
        }
        BenchCommand::Ledger {
            json,
            entries,
            rows,
            rounds,
        } => {
            let what = LedgerWork {
                entries: *entries,
                rows: *rows,
                rounds: *rounds,
            };
            ledger(dir, *json, what)
        }
    }
}

/// The cluster as its administrator, under no prefix: a benchmark's topics are its own.
fn options(dir: &Path, instance: &Instance) -> Result<Options, Failure> {
    let mut admin = instance.bus("bus.admin")?;
    admin.prefix.clear();
    let mut options = Options::new(admin, instance.keys_dir());
    let stack = StackInfo::read(dir).map_err(|error| Failure::chain(exit::FAILED, &error))?;
    options.broker = stack.and_then(|stack| stack.kafka.process.map(|process| process.pid));
    Ok(options)
}

/// How far it is, on standard error.
fn step(text: &str) {
    eprintln!("{text}");
}

fn adapter(dir: &Path, json: bool, rate: u32, seconds: u64) -> Outcome {
    let instance = Instance::open(dir)?;
    let mut options = options(dir, &instance)?;
    options.rate = rate;
    options.latency = Duration::from_secs(seconds);
    let found = arrival(&options, &instance.database_url()?, &step)
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    if json {
        let text =
            serde_json::to_string(&found).map_err(|error| Failure::chain(exit::FAILED, &error))?;
        say_line!("{text}");
    } else {
        let (whole, last) = (&found.publish_to_table_ms, &found.delivery_to_table_ms);
        say_line!(
            "{} events/s, {} s, {} rows, {} missing",
            rate,
            seconds,
            found.rows,
            found.missing
        );
        say_line!(
            "publish  -> table  p50 {} ms  p95 {} ms  p99 {} ms",
            whole.p50,
            whole.p95,
            whole.p99
        );
        say_line!(
            "delivery -> table  p50 {} ms  p95 {} ms  p99 {} ms",
            last.p50,
            last.p95,
            last.p99
        );
    }
    Ok(())
}

fn revoke(dir: &Path, json: bool, what: Revocations) -> Outcome {
    let instance = Instance::open(dir)?;
    let options = options(dir, &instance)?;
    let report = revocations(&options, what, &instance.database_url()?, &step)
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    if json {
        let text =
            serde_json::to_string(&report).map_err(|error| Failure::chain(exit::FAILED, &error))?;
        say_line!("{text}");
    } else {
        say_line!("{report}");
    }
    if report.holds() {
        return Ok(());
    }
    Err(Failure::new(
        exit::FAILED,
        say(
            "撤回未全部生效，或生效之后仍有交付",
            "not every revocation was enforced, or something was delivered after one was",
        ),
    ))
}

fn ledger(dir: &Path, json: bool, what: LedgerWork) -> Outcome {
    let instance = Instance::open(dir)?;
    let options = options(dir, &instance)?;
    let report = run_ledger(&options, what, &instance.database_url()?, dir, &step)
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    if json {
        let text =
            serde_json::to_string(&report).map_err(|error| Failure::chain(exit::FAILED, &error))?;
        say_line!("{text}");
    } else {
        say_line!("{report}");
    }
    Ok(())
}

fn load(dir: &Path, json: bool, what: Grants) -> Outcome {
    let instance = Instance::open(dir)?;
    let options = options(dir, &instance)?;
    let report =
        run_grants(&options, what, &step).map_err(|error| Failure::chain(exit::FAILED, &error))?;
    if json {
        let text =
            serde_json::to_string(&report).map_err(|error| Failure::chain(exit::FAILED, &error))?;
        say_line!("{text}");
    } else {
        say_line!("{report}");
    }
    Ok(())
}

fn gateway(
    dir: &Path,
    json: bool,
    rounds: u32,
    events: Option<u64>,
    one_in: Option<u32>,
) -> Outcome {
    let instance = Instance::open(dir)?;
    let mut options = options(dir, &instance)?;
    options.rounds = rounds;
    if let Some(events) = events {
        options.events = events;
    }
    // One object: the figure that was asked for, or the main one.
    let cases = match (one_in, json) {
        (Some(one_in), _) => vec![one_in],
        (None, true) => vec![1],
        (None, false) => vec![1, SPARSE],
    };
    for one_in in cases {
        options.case_for_one_in = one_in;
        let report =
            run_gateway(&options, &step).map_err(|error| Failure::chain(exit::FAILED, &error))?;
        if json {
            let text = serde_json::to_string(&report)
                .map_err(|error| Failure::chain(exit::FAILED, &error))?;
            say_line!("{text}");
        } else {
            say_line!("{report}");
        }
    }
    Ok(())
}
