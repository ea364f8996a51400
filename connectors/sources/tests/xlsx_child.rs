//! `mianzheng __xlsx` without the rest of the program.

use std::process::ExitCode;

fn main() -> ExitCode {
    mz_sources::read::xlsx_child::main()
}
