//! One file per group of commands; each turns arguments into a crate's options and runs it.

mod absence;
mod adapter;
mod apply;
mod ask_ledger;
mod bench;
pub mod connect;
mod contract;
mod dry_run;
mod evidence;
mod grants;
mod hide;
mod install;
mod ledger;
mod ledger_audit;
mod logs;
mod read;
mod serve;
mod trim;
mod witness;

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
        Command::DryRun(args) => dry_run::run(dir, args),
        Command::Apply(args) => apply::run(dir, args),
        Command::Connect(args) => connect::run(dir, args),
        // Answered before a log or a language is chosen.
        Command::Xlsx => Ok(()),
        Command::Gateway(args) => serve::gateway(dir, args),
        Command::Vault(args) => serve::vault(dir, args),
        Command::Console(args) => serve::console(dir, args),
        Command::Ledger(command) => ledger::run(dir, command),
        Command::Adapter(args) => adapter::run(dir, args),
        Command::Read(args) => read::run(dir, args),
        Command::Bundle(args) => evidence::bundle(dir, args),
        Command::Verify(args) => evidence::verify(dir, args),
        Command::Witness(args) => witness::run(dir, args),
        Command::Prove(args) => ledger::prove(dir, args),
        Command::WhoRead(args) => evidence::who_read(dir, args),
        Command::Consent(command) => grants::consent(dir, command),
        Command::Case(command) => grants::case(dir, command),
        Command::Agreement(command) => grants::agreement(dir, command),
        Command::Why(args) => grants::why(dir, args),
        Command::Withdrawals(args) => grants::withdrawals(dir, args),
        Command::Subject(command) => grants::subject(dir, command),
        Command::Bench(command) => bench::run(dir, command),
    }
}
