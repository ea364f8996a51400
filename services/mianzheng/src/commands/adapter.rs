//! `adapter`: deliveries, in the department's own database.

use std::path::Path;

use crate::cli::AdapterArgs;
use crate::outcome::{Failure, Outcome};

pub fn run(_dir: &Path, _args: &AdapterArgs) -> Outcome {
    Err(Failure::new(1, "not wired yet"))
}
