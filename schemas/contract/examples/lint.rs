//! Checks a contract: `cargo run -p mz-contract --example lint -- schemas [ids|matrix]`.
use std::path::Path;
use mz_contract::{Lang, Mode, allocate_schema_ids, lint};

fn main() {
    let mut args = std::env::args().skip(1);
    let root = args.next().unwrap_or_else(|| "schemas".to_owned());
    let verb = args.next();
    if verb.as_deref() == Some("ids") {
        println!("{:?}", allocate_schema_ids(Path::new(&root), Lang::En));
    }
    let report = lint(Path::new(&root), Mode::Draft, Lang::En);
    for line in &report.lines {
        println!("{line}");
    }
    if let (Some(contract), Some("matrix")) = (&report.contract, verb.as_deref()) {
        print!("{}", mz_contract::matrix::policy_matrix(contract));
    }
    println!("{} faults", report.faults.len());
}
