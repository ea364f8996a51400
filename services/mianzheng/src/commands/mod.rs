//! One file per group of commands; each turns arguments into a crate's options and runs it.

mod apply;
mod contract;
mod install;
mod read;

use crate::cli::{Cli, Command};
use crate::outcome::Outcome;

pub fn run(cli: &Cli) -> Outcome {
    let dir = cli.dir.as_path();
    match &cli.command {
        Command::Init(args) => install::init(dir, args),
        Command::Stack(command) => install::stack(dir, command),
        Command::Keys(args) => install::keys(dir, args.command.as_ref()),
        Command::Synth(args) => install::synth(dir, args),
        Command::Lint(args) => contract::lint(dir, args),
        Command::Contract(command) => contract::run(dir, command),
        Command::Apply(args) => apply::run(dir, args),
        Command::Connect(_) => Err(crate::outcome::Failure::new(1, "not wired yet")),
        Command::Xlsx { .. } => Err(crate::outcome::Failure::new(1, "not wired yet")),
        Command::Gateway(_) => Err(crate::outcome::Failure::new(1, "not wired yet")),
        Command::Vault(_) => Err(crate::outcome::Failure::new(1, "not wired yet")),
        Command::Console(_) => Err(crate::outcome::Failure::new(1, "not wired yet")),
        Command::Adapter(_) => Err(crate::outcome::Failure::new(1, "not wired yet")),
        Command::Read(args) => read::run(dir, args),
        Command::Bundle(_) => Err(crate::outcome::Failure::new(1, "not wired yet")),
        Command::Verify(_) => Err(crate::outcome::Failure::new(1, "not wired yet")),
        Command::WhoRead(_) => Err(crate::outcome::Failure::new(1, "not wired yet")),
        Command::Bench(_) => Err(crate::outcome::Failure::new(1, "not wired yet")),
    }
}
