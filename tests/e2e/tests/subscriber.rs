//! docs/subscriber.md as a reader types it: the printed program, a stock client from PyPI, the real
//! schema endpoint, the consumer's own certificate. Nothing of ours on the reading side.

use mz_e2e::{World, bus, repository};
use mz_stack::testing::python;
use std::process::Command;

const TOPIC: &str = "to.police.talent-settlement.hrss.insurance.status.v1";

/// The first Python block of a page.
pub fn program(page: &str) -> String {
    let page = std::fs::read_to_string(repository().join(page)).unwrap();
    let block = page.split("```python\n").nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

pub fn the_page_works_as_printed(world: &World) {
    let script = world.it.dir().join("subscriber.py");
    std::fs::write(&script, program("docs/subscriber.md")).unwrap();
    let keys = world.it.keys();
    let prefix = world.it.prefix();
    let run = |topic: &str, principal: &str| {
        Command::new(python())
            .arg(&script)
            .env("BUS_BOOTSTRAP", world.it.bus(principal).bootstrap)
            .env(
                "BUS_SCHEMAS",
                format!("https://{}", world.it.address("console")),
            )
            .env("BUS_CA", keys.ca_cert())
            .env("BUS_CERT", keys.tls_cert(principal))
            .env("BUS_KEY", keys.tls_key(principal))
            .env("BUS_GROUP", format!("{prefix}police.talent-settlement"))
            .env("BUS_TOPIC", format!("{prefix}{topic}"))
            .output()
            .unwrap()
    };
    let output = run(TOPIC, "police.adapter");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let count = bus::count(&world.it.bus("bus.admin"), TOPIC, world.contract.lanes).unwrap();
    assert!(count > 0);
    assert!(
        said.trim_end().ends_with(&format!("{count} records")),
        "{said}"
    );
    // Exactly the agreed fields, decoded; nothing else.
    let first: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let mut fields: Vec<&str> = first["fields"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    fields.sort_unstable();
    assert_eq!(fields, ["asOf", "idNo", "monthsTotal", "status", "type"]);

    // Another department's certificate opens nothing.
    let output = run(TOPIC, "realestate.adapter");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).trim().is_empty());
}
