//! The golden vectors: the committed files are what the code makes, and each altered
//! event is refused with its own reason. `MIANZHENG_BLESS=1` writes the files anew.

use mz_seal::testing::{Alteration, Golden, WireEvent, golden_dir};
use mz_seal::{Headers, SealFault, Verifier, unframe};

/// A door like the gateway's: headers, framing, seal, then headers against meta.
fn receive(
    golden: &Golden,
    verifier: &mut Verifier,
    event: &WireEvent,
) -> Result<[u8; 32], &'static str> {
    let run = |verifier: &mut Verifier| -> Result<Result<[u8; 32], &'static str>, SealFault> {
        let headers = Headers::collect(event.header_pairs())?;
        let seal = headers.seal()?;
        let (schema_id, datum) = unframe(&event.value)?;
        if schema_id != golden.schema_id {
            return Ok(Err("SCHEMA_UNKNOWN"));
        }
        let verified =
            verifier.verify_source(&golden.expect(event.lane), datum, seal, &golden.keys)?;
        headers.check(&verified.meta)?;
        Ok(Ok(verified.event_digest))
    };
    run(verifier).unwrap_or_else(|fault| Err(fault.code()))
}

#[test]
fn committed_vectors_are_what_the_code_makes() {
    let golden = Golden::make();
    for (name, made) in golden.files() {
        let path = golden_dir().join(name);
        if std::env::var_os("MIANZHENG_BLESS").is_some() {
            let text = serde_json::to_string_pretty(&made).unwrap();
            std::fs::write(&path, text + "\n").unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let committed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(
            committed == made,
            "{name} differs; the wire format changed, or bless it"
        );
    }
}

#[test]
fn good_events_verify_in_any_order() {
    let golden = Golden::make();
    for order in [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 5, 0, 4, 1, 2]] {
        let mut verifier = Verifier::new();
        for _ in 0..2 {
            for index in order {
                let vector = &golden.events[index];
                assert_eq!(
                    receive(&golden, &mut verifier, &vector.event),
                    Ok(vector.digest),
                    "{}",
                    vector.name
                );
            }
        }
    }
}

#[test]
fn altered_events_have_their_reason_cold_and_warm() {
    let golden = Golden::make();
    let committed = Golden::load_altered();
    assert_eq!(committed.len(), Alteration::ALL.len());
    let mut warm = Verifier::new();
    for vector in &golden.events {
        receive(&golden, &mut warm, &vector.event).unwrap();
    }
    for altered in committed {
        for (state, verifier) in [("cold", &mut Verifier::new()), ("warm", &mut warm)] {
            let outcome = receive(&golden, verifier, &altered.event).map(drop);
            if altered.needs_gateway && altered.code != "SCHEMA_UNKNOWN" {
                assert_eq!(
                    outcome,
                    Ok(()),
                    "{} {state}: only the gateway can tell",
                    altered.name
                );
            } else {
                assert_eq!(outcome, Err(&*altered.code), "{} {state}", altered.name);
            }
        }
    }
}

#[test]
fn every_alteration_has_a_name_of_its_own_and_works_on_every_event() {
    let golden = Golden::make();
    let names: std::collections::BTreeSet<String> =
        Alteration::ALL.iter().map(|a| a.name()).collect();
    assert_eq!(names.len(), Alteration::ALL.len());
    for vector in &golden.events {
        for alteration in Alteration::ALL {
            let bad = alteration.apply(&vector.event, &golden.kit());
            let outcome = receive(&golden, &mut Verifier::new(), &bad).map(drop);
            if !alteration.needs_gateway() {
                assert_eq!(
                    outcome,
                    Err(alteration.code()),
                    "{} of {}",
                    alteration.name(),
                    vector.name
                );
            }
        }
    }
}

#[test]
fn deliveries_verify_and_altered_ones_do_not() {
    let golden = Golden::make();
    for delivery in &golden.deliveries {
        let projected =
            mz_seal::project_schema(&golden.avsc, &delivery.kept, "police.vectors.Delivery")
                .unwrap();
        let projected = mz_seal::Layout::compile(projected.as_bytes()).unwrap();
        let expect = golden.expect_delivery(delivery.event.lane, &delivery.kept, &projected);
        let (_, datum) = unframe(&delivery.event.value).unwrap();
        let seal = delivery.event.header("mz-seal").unwrap();
        let mut verifier = Verifier::new();
        let verified = verifier
            .verify_delivery(&expect, datum, seal, &golden.keys)
            .unwrap();
        assert_eq!(
            verified.subject,
            delivery.subject.as_deref(),
            "{}",
            delivery.name
        );
        assert_eq!(
            verified.record,
            delivery.record.as_deref(),
            "{}",
            delivery.name
        );
        assert_eq!(
            verified.event_digest, golden.events[delivery.of].digest,
            "{}",
            delivery.name
        );
    }
    for altered in &golden.altered_deliveries {
        let expect =
            golden.expect_delivery(altered.event.lane, &golden.kept, &golden.projected_layout);
        let (_, datum) = unframe(&altered.event.value).unwrap();
        let seal = altered.event.header("mz-seal").unwrap();
        let fault = Verifier::new()
            .verify_delivery(&expect, datum, seal, &golden.keys)
            .unwrap_err();
        assert_eq!(fault.code(), altered.code, "{}", altered.name);
    }
}

/// A withdrawal proves that the department withdrew a record, and nothing else does.
#[test]
fn withdrawals_verify_without_a_value() {
    let golden = Golden::make();
    for delivery in &golden.deliveries {
        let expect =
            golden.expect_delivery(delivery.event.lane, &golden.kept, &golden.projected_layout);
        let seal = delivery.event.header("mz-seal").unwrap();
        let outcome = Verifier::new()
            .verify_withdrawal(&expect, seal, &golden.keys)
            .map(|withdrawal| withdrawal.event_digest)
            .map_err(|fault| fault.code());
        let wanted = match delivery.name.as_str() {
            "withdrawal" => Ok(golden.events[delivery.of].digest),
            "kept-fields-withdrawn" => Err("DISCLOSURE_MISMATCH"),
            _ => Err("META_CONTRADICTS"),
        };
        assert_eq!(outcome, wanted, "{}", delivery.name);
    }
}

#[test]
fn a_delivery_does_not_carry_the_seed_or_a_withheld_value() {
    let golden = Golden::make();
    let delivery = &golden.deliveries[0];
    let source = &golden.events[delivery.of].event;
    let seal = mz_seal::SourceSeal::parse(source.header("mz-seal").unwrap()).unwrap();
    let bytes: Vec<u8> = delivery
        .event
        .value
        .iter()
        .chain(delivery.event.header("mz-seal").unwrap())
        .copied()
        .collect();
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(!holds(seal.seed));
    assert!(!holds("张三丰".as_bytes()));
    assert!(!holds("东莞市某某电子有限公司".as_bytes()));
    assert!(holds(b"11010519491231002X"));
}

/// docs/wire-format.md: its example is a vector, its codes and limits are the code's.
#[test]
fn the_page_says_what_the_code_does() {
    let page = std::fs::read_to_string(golden_dir().join("../../docs/wire-format.md")).unwrap();
    let joined = page.replace('\n', "");
    let golden = Golden::make();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let (_, events) = golden
        .files()
        .into_iter()
        .find(|(name, _)| *name == "events.json")
        .unwrap();
    let event = &events[5];
    let mut wanted = vec![
        text(&event["value"]["hex"]),
        text(&event["meta_avro"]),
        text(&event["seed"]),
        text(&event["event_digest"]),
        text(&event["batch"]["root"]),
        text(&event["batch"]["payload"]),
        text(&event["headers"][6][1]["hex"]),
    ];
    let (_, deliveries) = golden
        .files()
        .into_iter()
        .find(|(name, _)| *name == "deliveries.json")
        .unwrap();
    wanted.push(text(&deliveries[3]["headers"][6][1]["hex"]));
    for hex in wanted {
        assert!(joined.contains(&hex), "not on the page: {hex}");
    }
    for code in SealFault::CODES {
        assert!(
            page.contains(&format!("`{code}`")),
            "{code} is not on the page"
        );
    }
    for limit in ["262,144", "16,384", "1,024", "1,048,576", "65,536"] {
        assert!(page.contains(limit), "{limit}");
    }
    assert_eq!(
        (
            mz_seal::MAX_DATUM_BYTES,
            mz_seal::MAX_SEAL_BYTES,
            mz_seal::MAX_META_BYTES,
            mz_seal::MAX_BATCH,
            mz_seal::MAX_ITEMS
        ),
        (262_144, 16_384, 1_024, 1_048_576, 65_536)
    );
}

/// Somebody else's code, in another language, agrees on every vector.
#[test]
fn the_independent_verifier_agrees() {
    let script = golden_dir().join("verify.py");
    match std::process::Command::new("python3").arg(&script).output() {
        Ok(run) => assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        ),
        Err(error) => eprintln!("skipped: python3 does not start: {error}"),
    }
}

/// Every code that a person may see has its texts.
#[test]
fn every_code_has_a_text() {
    let reasons = std::fs::read_to_string(golden_dir().join("../../schemas/reasons.yaml")).unwrap();
    for code in SealFault::CODES {
        assert!(
            reasons.contains(&format!("\n{code}: ")),
            "{code} has no text in reasons.yaml"
        );
    }
}
