//! `apply`: topics, access rules and database schemas, from the contract to the engines.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use mz_bus::plan::{self, PlanOptions};
use mz_consent::store as consent;
use mz_contract::{Contract, Mode};
use mz_ledger::index::{self, Index};

use crate::cli::ApplyArgs;
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, coded, say};
use crate::say_line;

pub fn run(dir: &Path, args: &ApplyArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let contract = match &args.contract {
        Some(root) => Contract::load(root, Mode::Signed)?,
        None => instance.contract(Mode::Signed)?,
    };
    let bus = instance.bus("bus.admin")?;
    let options = PlanOptions {
        slots: instance.settings.slots,
        replication: Some(instance.settings.replication),
        min_insync: instance.settings.min_insync,
    };
    if let Some(path) = &args.acls_out {
        let script = plan::acl_commands(&contract, &options, &bus.bootstrap, &bus.prefix);
        std::fs::write(path, script)
            .with_context(|| format!("{}: cannot write", path.display()))?;
        say_line!("{}", path.display());
        return Ok(());
    }

    let failed = |error: plan::PlanError| coded(exit::FAILED, error.code(), &error);
    let mut planned = plan::plan(&bus, &contract, &options).map_err(failed)?;
    if args.contract.is_some() {
        // Until it is in force, the services still work under the one before and need its rights.
        let taken_away = |change: &plan::Change| matches!(change, plan::Change::DeleteAcl(_));
        planned.changes.retain(|change| !taken_away(change));
    }
    let url = instance.database_url()?;
    let database = mz_vault::store::Database::new(&url, mz_vault::store::SCHEMA)
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    let consents = consent::Database::new(&url, consent::SCHEMA)
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    let vault = runtime
        .block_on(database.is_current())
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    let consent = runtime
        .block_on(consents.is_current())
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;

    let entered = runtime.enter();
    let index =
        Index::open(&url, index::SCHEMA).map_err(|error| Failure::chain(exit::FAILED, &error))?;
    drop(entered);
    let ledger = runtime
        .block_on(index.is_current())
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;

    let stale = [
        (mz_vault::store::SCHEMA, vault),
        (consent::SCHEMA, consent),
        (index::SCHEMA, ledger),
    ];
    let stale = stale.into_iter().filter(|(_, current)| !current);
    let stale: Vec<&str> = stale.map(|(schema, _)| schema).collect();
    show(&planned, &stale, &contract);
    if planned.is_empty() && stale.is_empty() {
        say_line!(
            "{}",
            say(
                "与合同一致,无需改动",
                "in line with the contract: nothing to do"
            )
        );
        return Ok(());
    }
    if args.check {
        return Err(Failure::new(
            exit::DRIFT,
            say(
                "与合同不一致",
                "cluster or database differ from the contract",
            ),
        ));
    }
    if !args.yes && !agreed()? {
        return Err(Failure::new(
            exit::FAILED,
            say("未改动", "nothing was changed"),
        ));
    }
    plan::apply(&bus, &planned).map_err(failed)?;
    runtime
        .block_on(database.migrate())
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    runtime
        .block_on(consents.migrate())
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    runtime
        .block_on(index.migrate())
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    say_line!("{}", say("已完成", "done"));
    Ok(())
}

fn show(planned: &plan::Plan, stale: &[&str], contract: &Contract) {
    for change in &planned.changes {
        say_line!("{change}");
    }
    for schema in stale {
        say_line!("+ schema {schema}");
    }
    for topic in &planned.orphans {
        say_line!(
            "? topic {topic}: {}",
            say("不在合同中,未动", "not in the contract, left alone")
        );
    }
    say_line!(
        "{}",
        say(
            &format!(
                "计划:{} 项改动,{} 个泳道",
                planned.changes.len(),
                contract.lanes
            ),
            &format!(
                "plan: {} change(s), {} lanes",
                planned.changes.len(),
                contract.lanes
            ),
        )
    );
}

/// Asks on a terminal; without one, only `--yes` agrees.
pub fn agreed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        eprintln!(
            "{}",
            say("没有终端可问:加 --yes", "no terminal to ask on: add --yes")
        );
        return Ok(false);
    }
    eprint!("{} [y/N] ", say("执行?", "apply?"));
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
