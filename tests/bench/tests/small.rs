//! The whole benchmark, small: it runs to the end, the gateway delivers what it must, and the JSON
//! object has the promised shape. The figures mean nothing here.

use mz_bench::gateway::{Grants, Options, Revocations, grants, revocations, run};
use mz_bus::{BusOptions, TlsFiles};
use mz_stack::testing;
use std::time::Duration;

fn options() -> Options {
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
    Options {
        events: 3_000,
        warm_up: 2_000,
        rounds: 2,
        people: 300,
        rate: 500,
        latency: Duration::from_secs(1),
        ..Options::new(admin, stack.info().keys.clone())
    }
}

#[test]
fn both_sides_run_and_the_object_has_its_shape() {
    let report = run(&options(), &|step| eprintln!("{step}")).unwrap();
    let object = serde_json::to_value(&report).unwrap();
    for figure in ["events_per_s", "p99_ms"] {
        for side in ["passthrough", "gateway", "ratio"] {
            assert!(
                object[figure][side].as_f64().unwrap() > 0.0,
                "{figure} {side}: {object}"
            );
        }
    }
    let keys: Vec<&str> = object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(keys, ["config", "events_per_s", "p99_ms"]);
    // The pass-through writes what the gateway writes.
    let bytes = &report.config.bytes;
    assert!(
        bytes.output_seal > 400 && bytes.audit > 200 && bytes.state > 50,
        "{bytes:?}"
    );
    assert!(report.to_string().contains("pass-through"));
}

#[test]
fn few_cases_mean_few_deliveries() {
    let options = Options {
        case_for_one_in: 100,
        rounds: 1,
        ..options()
    };
    let report = run(&options, &|_| {}).unwrap();
    assert!(report.events_per_s.gateway > 0.0);
}

#[test]
fn every_grant_is_loaded_and_found() {
    let what = Grants {
        grants: 5_000,
        lanes: 4,
    };
    let report = grants(&options(), what, &|_| {}).unwrap();
    assert!(report.grants_per_s > 0.0 && report.decision_ns > 0.0);
    assert!(report.to_string().contains("ns/decision"));
}

#[test]
fn nothing_comes_after_a_revocation_was_answered() {
    let what = Revocations {
        rate: 500,
        revocations: 20,
        slots: 2,
    };
    let url = testing::shared().database();
    let report = revocations(&options(), what, &url, &|_| {}).unwrap();
    assert!(report.holds(), "{report}");
    assert_eq!(report.verdict.people, 40);
    assert!(report.verdict.deliveries_checked > 0, "{report}");
    assert!(report.to_string().contains("violations = 0"));
}
