//! `bench`: our figure, the baseline and the ratio from the same run.

use std::path::Path;

use crate::cli::BenchCommand;
use crate::outcome::{Failure, Outcome};

pub fn run(_dir: &Path, _command: &BenchCommand) -> Outcome {
    Err(Failure::new(1, "not wired yet"))
}
