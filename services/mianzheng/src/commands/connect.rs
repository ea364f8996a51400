//! `connect`: a register, published.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use mz_contract::{Mode, Reasons};
use mz_keys::KeysDir;
use mz_sources::connect::{self, Options};
use mz_sources::read::xlsx::XlsxCommand;

use crate::cli::ConnectArgs;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, lang};
use crate::say_line;
use crate::shutdown;

pub fn run(dir: &Path, args: &ConnectArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let contract = Arc::new(instance.contract(Mode::Signed)?);
    let options = Options {
        config: args.config.clone(),
        once: args.once,
        plan: args.plan,
        new_epoch: args.new_epoch,
        lang: lang(),
        contract: Arc::clone(&contract),
        // The connector takes its department's own certificate; any one finds the files.
        bus: instance.bus("bus.gateway")?,
        keys: KeysDir::new(instance.keys_dir()),
        xlsx: XlsxCommand::this_program().context("this program's own path")?,
    };
    let stop = shutdown::flag().map_err(anyhow::Error::from)?;
    match connect::run(options, &stop) {
        Ok(outcome) => {
            say_line!("{}", outcome.summary);
            match outcome.exit_code() {
                0 => Ok(()),
                code => Err(Failure::silent(code)),
            }
        }
        Err(error) => Err(Failure::new(
            error.exit_code(),
            error.text(&Reasons::built_in(), lang()),
        )),
    }
}

/// The process that reads one workbook, with its memory limited.
pub fn xlsx() -> ExitCode {
    mz_sources::read::xlsx_child::main()
}
