//! `cargo run --release -p mz-bench --example grants -- [grants [lanes]]`: the grants benchmark without
//! the rest of the binary, for profilers. `MIANZHENG_TEST_STACK` names the stack.

use mz_bench::gateway::{Grants, Options, grants};
use mz_bus::{BusOptions, TlsFiles};
use mz_stack::testing;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1);
    let mut what = Grants {
        grants: 2_000_000,
        lanes: 16,
    };
    if let Some(grants) = numbers.next() {
        what.grants = grants.parse()?;
    }
    if let Some(lanes) = numbers.next() {
        what.lanes = lanes.parse()?;
    }
    let stack = testing::shared();
    let parts = stack.bus("bus.admin");
    let admin = BusOptions {
        bootstrap: parts.bootstrap,
        prefix: String::new(),
        tls: Some(TlsFiles {
            ca: parts.ca,
            cert: parts.cert,
            key: parts.key,
        }),
        client_id: "bus.admin".to_owned(),
    };
    let mut options = Options::new(admin, stack.info().keys.clone());
    let broker = stack.info().kafka.process.as_ref();
    options.broker = broker.map(|process| process.pid);
    let report = grants(&options, what, &|step| eprintln!("{step}"))?;
    println!("{report}");
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
