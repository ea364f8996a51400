//! A bundle that is not what was issued: the verifier says so, and where.

use std::collections::BTreeSet;

use mz_vault::bundle::Bundle;
use mz_vault::bundle::sign::sign;
use mz_vault::bundle::verify::{Report, verify};
use mz_vault::testing::{TestBus, insurance, person};
use serde_json::{Value, json};

use crate::bundles::{Sources, ask, checked};

/// How one alteration is made, and where the verifier must say that it is.
type Alteration = (&'static str, fn(&mut Value), &'static str);

const ALTERED: &[Alteration] = &[
    (
        "another value shown",
        |b| b["facts"][1]["record"]["fields"]["monthsTotal"] = json!(99),
        "facts[1].fields",
    ),
    (
        "another title shown",
        |b| b["facts"][1]["record"]["titles"][0]["zh"] = json!("x"),
        "facts[1].titles",
    ),
    (
        "another time",
        |b| b["facts"][1]["record"]["as_of"] = json!("2020-01-01T00:00:00.000Z"),
        "facts[1].as_of",
    ),
    (
        "another version",
        |b| b["facts"][1]["record"]["version_counter"] = json!(77),
        "facts[1].version_counter",
    ),
    (
        "another event",
        |b| b["facts"][1]["record"]["event"] = json!("00"),
        "facts[1].event",
    ),
    (
        "another stream",
        |b| b["facts"][1]["record"]["stream"] = json!("x"),
        "facts[1].stream",
    ),
    (
        "another schema",
        |b| b["facts"][1]["record"]["schema_id"] = json!(1),
        "facts[1].schema_id",
    ),
    (
        "a changed byte of data",
        |b| flip(&mut b["facts"][1]["record"]["datum"]),
        "facts[1]",
    ),
    (
        "a changed byte of a seal",
        |b| flip(&mut b["facts"][1]["record"]["seal"]),
        "facts[1].seal",
    ),
    (
        "data without base64",
        |b| b["facts"][1]["record"]["datum"] = json!("§"),
        "facts[1].record",
    ),
    (
        "the seal of another fact",
        |b| {
            b["facts"][1]["record"]["seal"] = b["facts"][2]["record"]["seal"].clone();
        },
        "facts[1].seal",
    ),
    (
        "a present fact without its record",
        |b| {
            b["facts"][1].as_object_mut().unwrap().remove("record");
        },
        "facts[1]",
    ),
    (
        "an absent fact made present",
        |b| {
            b["facts"][3]["record"] = b["facts"][1]["record"].clone();
        },
        "facts[3].state",
    ),
    (
        "a state turned",
        |b| b["facts"][0]["state"] = json!("none"),
        "facts[0].state",
    ),
    (
        "a fact dropped",
        |b| drop(b["facts"].as_array_mut().unwrap().remove(0)),
        "outcome",
    ),
    (
        "another dataset",
        |b| b["facts"][1]["dataset"] = json!("hrss.x.v1"),
        "facts[1].dataset",
    ),
    (
        "another department",
        |b| b["facts"][1]["department"] = json!("police"),
        "facts[1].department",
    ),
    (
        "another outcome",
        |b| b["outcome"]["kind"] = json!("not_eligible"),
        "outcome",
    ),
    (
        "another reason",
        |b| b["outcome"]["reasons"][0]["zh"] = json!("x"),
        "outcome",
    ),
    ("another bus", |b| b["bus"] = json!("x"), "bus"),
];

/// What only the bus vouches for: found by its signature alone.
const BUS_ONLY: &[Alteration] = &[
    (
        "another operator",
        |b| b["operator"] = json!("hz-08"),
        "signature",
    ),
    (
        "another time of issue",
        |b| b["issued_at"] = json!("2020-01-01T00:00:00.000Z"),
        "signature",
    ),
    (
        "another audit id",
        |b| b["audit_id"] = json!("vault-0-1"),
        "signature",
    ),
    (
        "another case",
        |b| b["subject"]["case"] = json!("00"),
        "signature",
    ),
    (
        "a source made available",
        |b| b["sources"][0]["available"] = json!(false),
        "signature",
    ),
    (
        "an answer turned",
        |b| b["facts"][1]["record"]["answers"]["insured6of12"] = json!(false),
        "signature",
    ),
    (
        "a fresher source",
        |b| b["facts"][3]["complete_to"] = json!("2030-01-01T00:00:00.000Z"),
        "signature",
    ),
    (
        "another digest",
        |b| b["signature"]["digest"] = json!("00"),
        "signature.digest",
    ),
    (
        "an unknown key",
        |b| b["signature"]["key_id"] = json!("bus-seal-9"),
        "signature.key_id",
    ),
    (
        "no signature",
        |b| drop(b.as_object_mut().unwrap().remove("signature")),
        "signature",
    ),
    ("a field more", |b| b["note"] = json!(""), "bundle"),
];

fn flip(text: &mut Value) {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let mut bytes = engine.decode(text.as_str().unwrap()).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    *text = json!(engine.encode(bytes));
}

#[test]
fn an_altered_bundle_says_where() {
    let bus = TestBus::new();
    let (id, stranger) = (person(10), person(11));
    let mut sources = Sources::of(&bus);
    sources.settle(&id);
    sources
        .insurances
        .publish(vec![insurance(&stranger, "PENSION", 200)]);
    let (service, handle) = bus.start_vault();
    let bundle = ask(&handle, &id).unwrap();
    let other = ask(&handle, &stranger).unwrap();
    service.stop().unwrap();
    let genuine = serde_json::to_value(&bundle).unwrap();
    assert!(verify(genuine.to_string().as_bytes(), &bus.contract).is_valid());
    // Spacing and key order are nobody's business.
    let spaced = serde_json::to_vec_pretty(&genuine).unwrap();
    assert!(verify(&spaced, &bus.contract).is_valid());

    let found = |report: &Report, place: &str| {
        report
            .failures()
            .any(|check| check.place.starts_with(place))
    };
    for (what, alter, place) in ALTERED.iter().chain(BUS_ONLY) {
        let mut altered = genuine.clone();
        alter(&mut altered);
        let report = verify(altered.to_string().as_bytes(), &bus.contract);
        assert!(!report.is_valid(), "{what} went unnoticed");
        assert!(found(&report, place), "{what}: {:?}", report.checks);
    }
    // Whoever holds the bus's key still can't speak for a department.
    for (what, alter, place) in ALTERED {
        let mut altered = genuine.clone();
        alter(&mut altered);
        let mut forged: Bundle = serde_json::from_value(altered).unwrap();
        sign(&mut forged, &*bus.vault_keys().signer).unwrap();
        let report = checked(&bus, &forged);
        assert!(
            found(&report, place),
            "{what}, signed by the bus: {:?}",
            report.checks
        );
        assert!(!found(&report, "signature"), "{what}: {:?}", report.checks);
    }
    // A genuine fact of somebody else.
    let mut mixed = bundle.clone();
    let theirs = other
        .facts
        .iter()
        .find(|fact| fact.need == "insurance")
        .unwrap();
    mixed.facts[1] = theirs.clone();
    sign(&mut mixed, &*bus.vault_keys().signer).unwrap();
    let report = checked(&bus, &mixed);
    assert!(
        report.failures().any(|c| c.code == "VERIFY_PERSON_DIFFERS"),
        "{:?}",
        report.checks
    );

    // Any changed byte, whatever it does to the JSON.
    let bytes = genuine.to_string().into_bytes();
    for at in (0..bytes.len()).step_by(61) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let report = verify(&flipped, &bus.contract);
        assert!(!report.is_valid(), "byte {at} changed unnoticed");
    }

    // Not even the shape of a bundle.
    for bad in [
        &b""[..],
        b"{}",
        b"[]",
        b"\xff",
        br#"{"format":"mianzheng/bundle/v1"}"#,
    ] {
        assert!(!verify(bad, &bus.contract).is_valid());
    }
    let twice = genuine.to_string().replacen('{', r#"{"operator":"x","#, 1);
    let report = verify(twice.as_bytes(), &bus.contract);
    assert!(found(&report, "bundle"), "{:?}", report.checks);
    let every_code: BTreeSet<&str> = report.checks.iter().map(|check| check.code).collect();
    for code in every_code {
        assert!(bus.contract.reasons.contains(code), "{code} has no text");
    }
}
