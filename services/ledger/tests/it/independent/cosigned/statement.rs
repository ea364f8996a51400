//! What a department states about its deliveries, before both verifiers.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_bus::{Isolation, Polled, Position, Reader};
use mz_journal::topics;
use mz_ledger::witness::{Complete, statement_key, witness_name};
use mz_tlog::note::{KeyKind, Note, VerifierKey};
use mz_vault::testing::eventually;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::{agree, policy_of};
use crate::independent::{Case, mutated, theirs};
use crate::witness::world::World;

/// As the ledger does with a department's statement, under the keys of the policy.
fn our_complete(case: &Case) -> Result<Value, String> {
    let policy = policy_of(case)?;
    let malformed = "WITNESS_COSIGNATURE_MALFORMED".to_owned();
    let note = Note::parse(&case.file).map_err(|_| malformed.clone())?;
    let said = Complete::parse(note.text()).ok_or(malformed)?;
    let plain =
        |key: &VerifierKey| VerifierKey::new(key.name(), KeyKind::Ed25519, key.public()).unwrap();
    let keys = policy.witnesses().iter().map(|witness| plain(&witness.key));
    let signer = keys.into_iter().find(|key| note.verify(key).is_ok());
    let signer = signer.ok_or("WITNESS_KEY_UNKNOWN")?;
    let bus = said.origin.split("/audit/").next().unwrap();
    if witness_name(bus, &said.department) != signer.name() {
        return Err("WITNESS_ORIGIN_FOREIGN".to_owned());
    }
    let lanes: serde_json::Map<_, _> = said
        .lanes
        .iter()
        .map(|(lane, number)| (lane.to_string(), json!(number)))
        .collect();
    Ok(json!({
        "log": said.origin,
        "size": said.size,
        "root": BASE64.encode(said.root),
        "department": said.department,
        "lanes": lanes,
    }))
}

impl World {
    /// A witness's newest statement, as it stands in `bus.cosignatures`.
    fn statement(&self, department: &str) -> String {
        let witness = witness_name(&self.bus.contract.bus_id, department);
        let wanted = statement_key(self.log.origin(), &witness);
        let bus = self.bus.bus("bus.ledger");
        let mut reader = Reader::open(&bus, Isolation::Committed).unwrap();
        let all = [(topics::COSIGNATURES, 0, Position::Beginning)];
        reader.assign(&all).unwrap();
        let mut found = None;
        eventually("the statement is there", || {
            let polled = reader.poll(100, Duration::from_millis(100), |polled| {
                if let Polled::Record(record) = polled
                    && record.key == Some(wanted.as_bytes())
                {
                    found = record.value.map(<[u8]>::to_vec);
                }
            });
            polled.unwrap();
            found.is_some()
        });
        String::from_utf8(found.unwrap()).unwrap()
    }
}

#[test]
fn a_verifier_that_is_not_ours_reads_a_departments_statement() {
    let world = World::cosigned();
    let [first, second] = world.departments();
    let genuine = world.statement(&first);
    let case = world.case(genuine.clone());
    let facts = our_complete(&case).unwrap();
    assert_eq!(facts["department"], first.as_str());
    assert_eq!(facts["lanes"], json!({"0": 50, "1": 50, "2": 50, "3": 50}));
    assert_eq!(agree(&[case], our_complete), 1);

    let note = Note::parse(&genuine).unwrap();
    let text = note.text();
    let bus = &world.bus.contract.bus_id;
    let signed = |department: &str, text: &str| {
        let [_, plain] = world.lines_by(department, &witness_name(bus, department), text);
        Note::assemble(text, [plain]).unwrap().to_string()
    };
    let name = witness_name(bus, &first);
    let [cosigned, _] = world.lines_by(&first, &name, text);
    let (malformed, key) = ("WITNESS_COSIGNATURE_MALFORMED", "WITNESS_KEY_UNKNOWN");
    let stranger = world.stranger();
    let tampered = [
        ("size", genuine.replacen("\n201\n", "\n200\n", 1), key),
        ("number", genuine.replacen("\n2 50\n", "\n2 51\n", 1), key),
        ("lane left out", genuine.replacen("\n2 50\n", "\n", 1), key),
        (
            "lanes descend",
            signed(&first, &text.replacen("1 50\n2 50\n", "2 50\n1 50\n", 1)),
            malformed,
        ),
        (
            "lane twice",
            signed(&first, &text.replacen("1 50\n", "1 50\n1 50\n", 1)),
            malformed,
        ),
        (
            "number with a zero",
            signed(&first, &text.replacen("1 50\n", "1 050\n", 1)),
            malformed,
        ),
        (
            "line of three",
            signed(&first, &text.replacen("1 50\n", "1 50 1\n", 1)),
            malformed,
        ),
        (
            "another's department",
            signed(&second, text),
            "WITNESS_ORIGIN_FOREIGN",
        ),
        ("by a key that is not listed", signed(&stranger, text), key),
        (
            "cosigned, not stated",
            Note::assemble(text, [cosigned]).unwrap().to_string(),
            key,
        ),
        ("cut", genuine[..genuine.len() - 9].to_owned(), malformed),
    ];
    let cases: Vec<Case> = tampered
        .iter()
        .map(|(_, file, _)| world.case(file.clone()))
        .collect();
    for ((name, _, code), (case, theirs)) in tampered.iter().zip(cases.iter().zip(theirs(&cases))) {
        assert_ne!(case.file, genuine.as_bytes(), "{name}");
        assert_eq!(our_complete(case).unwrap_err(), *code, "{name}: ours");
        assert_eq!(theirs.unwrap_err(), *code, "{name}: theirs");
    }
    let mut rng = StdRng::seed_from_u64(0x5ec1);
    let altered: Vec<Case> = (0..200)
        .map(|_| world.case(mutated(genuine.as_bytes(), &mut rng)))
        .collect();
    assert_eq!(agree(&altered, our_complete), 0);
}
