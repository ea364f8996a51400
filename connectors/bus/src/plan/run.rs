//! `mianzheng apply`: print the plan, then carry it out; or only say whether there is one.

use super::{Plan, PlanError, PlanOptions, acl_commands, apply, plan};
use crate::options::BusOptions;
use mz_contract::Contract;
use std::io::Write;

/// What to do about the differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Print and carry out.
    Apply,
    /// Print; [`Outcome::Drift`] when there is anything.
    Check,
    /// Print `kafka-acls` commands; talks to nobody.
    AclCommands,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing had to change.
    Unchanged,
    /// So many changes were made.
    Applied(usize),
    /// So many differences were found and left. Exit code 5.
    Drift(usize),
    /// Commands were printed.
    Printed,
}

/// Why `apply` stopped.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the plan can't be printed")]
    Print(#[from] std::io::Error),
}

impl ApplyError {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Plan(error) => error.code(),
            Self::Print(_) => "BUS_PLAN_NOT_PRINTED",
        }
    }
}

/// Prints the plan to `out`, a line for each change, before anything is changed.
pub fn run(
    bus: &BusOptions,
    contract: &Contract,
    options: &PlanOptions,
    mode: Mode,
    out: &mut dyn Write,
) -> Result<Outcome, ApplyError> {
    if mode == Mode::AclCommands {
        let script = acl_commands(contract, options, &bus.bootstrap, &bus.prefix);
        out.write_all(script.as_bytes())?;
        return Ok(Outcome::Printed);
    }
    let found = plan(bus, contract, options)?;
    print(&found, out)?;
    if found.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    let count = found.changes.len();
    if mode == Mode::Check {
        return Ok(Outcome::Drift(count));
    }
    apply(bus, &found)?;
    // What only people can change is still there.
    let by_hand = found
        .changes
        .iter()
        .filter(|change| change.by_hand())
        .count();
    Ok(match by_hand {
        0 => Outcome::Applied(count),
        left => Outcome::Drift(left),
    })
}

fn print(plan: &Plan, out: &mut dyn Write) -> std::io::Result<()> {
    for change in &plan.changes {
        writeln!(out, "{change}")?;
    }
    for orphan in &plan.orphans {
        writeln!(out, "? topic {orphan}: not in the contract, left alone")?;
    }
    out.flush()
}
