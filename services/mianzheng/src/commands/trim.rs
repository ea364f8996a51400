//! `ledger trim`: old records of `bus.audit` go once the logs hold them, cosigned. In doubt they stay.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use mz_contract::Mode;
use mz_journal::topics;
use mz_ledger::system_clock;
use mz_ledger::trim::{self, Bound, OtherReader, Trim, TrimError};
use mz_tlog::policy::Policy;

use super::witness::POLICY;
use crate::cli::LedgerTrimArgs;
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, coded, say};
use crate::say_line;

const MS_PER_DAY: i64 = 86_400_000;
/// Between two looks for cosignatures.
const LOOK: Duration = Duration::from_secs(1);

fn failure(error: &TrimError) -> Failure {
    let code = match error {
        TrimError::Differs { .. } | TrimError::NotWhole { .. } => exit::NOT_VERIFIED,
        _ => exit::FAILED,
    };
    coded(code, error.code(), error)
}

pub fn run(dir: &Path, args: &LedgerTrimArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let contract = instance.contract(Mode::Signed)?;
    let path = instance.ledger_folder().join(POLICY);
    let text = std::fs::read(&path).map_err(|error| {
        // Without a policy nothing is cosigned as it demands.
        let error = anyhow::Error::from(error).context(path.display().to_string());
        coded(exit::FAILED, "LEDGER_TRIM_UNCOSIGNED", &*error)
    })?;
    let policy = Policy::parse(&text)
        .map_err(|error| Failure::new(exit::FAULTS, format!("{}: {error}", path.display())))?;
    let runtime = super::ledger::runtime()?;
    let admin = instance.bus("bus.admin")?;
    let before_ms = system_clock() - i64::from(args.keep_days) * MS_PER_DAY;
    // All shards' commits first: one wait serves them all.
    let mut shards = Vec::new();
    for options in super::ledger::shards(&instance, &contract, &args.shards)? {
        let state = trim::committed(&options).map_err(|error| failure(&error))?;
        shards.push((options, state));
    }
    let until = Instant::now() + Duration::from_secs(args.wait);
    for (options, state) in shards {
        let planned = loop {
            let readers = [consent(&instance, &runtime)?];
            match trim::plan(&options, &state, &policy, &readers, before_ms) {
                Err(error) if error.may_pass() && Instant::now() < until => {
                    std::thread::sleep(LOOK);
                }
                planned => break planned.map_err(|error| failure(&error))?,
            }
        };
        report(&planned, args.dry_run);
        if !args.dry_run {
            runtime
                .block_on(trim::carry_out(&admin, &planned))
                .map_err(|error| coded(exit::FAILED, error.code(), &error))?;
        }
    }
    Ok(())
}

/// How far the consent service has read: it learns from `bus.audit` who holds what.
fn consent(instance: &Instance, runtime: &tokio::runtime::Runtime) -> Result<OtherReader, Failure> {
    let _entered = runtime.enter();
    let failed =
        |error: mz_consent::store::StoreError| coded(exit::FAILED, "CONSENT_STORE", &error);
    let database =
        mz_consent::store::Database::new(&instance.database_url()?, mz_consent::store::SCHEMA)
            .map_err(failed)?;
    let all = runtime.block_on(database.positions()).map_err(failed)?;
    let audit = all
        .into_iter()
        .filter(|((topic, _), _)| topic == topics::AUDIT);
    let positions: BTreeMap<u16, i64> = audit.map(|((_, lane), next)| (lane, next)).collect();
    Ok(OtherReader {
        name: "consent",
        positions,
    })
}

fn report(trim: &Trim, dry_run: bool) {
    let offsets = trim.offsets();
    let (committed, cosigned, verified) = (trim.committed, trim.cosigned, trim.verified);
    say_line!(
        "{}: {}",
        trim.origin,
        say(
            &format!("已提交 {committed} 条，已联署 {cosigned} 条，已逐条核对 {verified} 条"),
            &format!("{committed} entries committed, {cosigned} cosigned, {verified} verified"),
        )
    );
    for lane in &trim.lanes {
        let why = match lane.bound {
            Bound::Age => say("保留期", "age"),
            bound => bound.name().to_owned(),
        };
        say_line!(
            "  bus.audit {}: {}..{} ({why})",
            lane.lane,
            lane.low,
            lane.to
        );
    }
    say_line!(
        "{}",
        if dry_run {
            say(
                &format!("可删除 {offsets} 个位置，未删除"),
                &format!("{offsets} offsets may go; nothing was deleted"),
            )
        } else {
            say(
                &format!("删除 {offsets} 个位置"),
                &format!("{offsets} offsets deleted"),
            )
        }
    );
}
