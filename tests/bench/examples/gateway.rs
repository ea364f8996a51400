//! `cargo run --release -p mz-bench --example gateway -- [rounds [events [case for one in]]]`: the
//! benchmark without the rest of the binary, for profilers. `MIANZHENG_TEST_STACK` names the stack.

use mz_bench::gateway::{Options, run};
use mz_bus::{BusOptions, TlsFiles};
use mz_stack::testing;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
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
    if let Some(rounds) = numbers.first() {
        options.rounds = u32::try_from(*rounds)?;
    }
    if let Some(events) = numbers.get(1) {
        options.events = *events;
    }
    if let Some(one_in) = numbers.get(2) {
        options.case_for_one_in = u32::try_from(*one_in)?;
    }
    let report = run(&options, &|what| eprintln!("{what}"))?;
    println!("{report}");
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
