//! `.absence` files before both verifiers.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_contract::{BUS, IdNumber, KeyUse};
use mz_ledger::absence::{Answer, Asked, prove, verify};
use mz_stack::testing::python;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::{agree, policy_of};
use crate::independent::{Case, mutated, script, theirs};
use crate::witness::ranges::{MINUTE, somebody};
use crate::witness::world::{World, taken};

#[test]
fn a_verifier_that_is_not_ours_says_the_same_about_absence() {
    let mut world = World::new();
    let [first, second] = world.departments();
    let now = mz_ledger::system_clock();
    world.read_about_somebody();
    world.deliver(20);
    world.close(now - 10 * MINUTE);
    world.deliver(5);
    world.close(now - 9 * MINUTE);
    let mut quorum = world.quorum();
    for department in [&first, &second] {
        let mut witness = world.witness(department);
        assert_eq!(world.round(&mut witness).unwrap(), [0, 1]);
    }
    taken(&mut quorum, 8);
    let (id, vrf, to_ms) = (somebody(), world.vrf(), now - 19 * MINUTE / 2);
    let proof = |department, cosigned| {
        let asked = Asked {
            department,
            from_ms: 1,
            to_ms,
            label: vrf.label(&id),
            vrf: vrf.prove(&id),
            cosigned,
        };
        prove(&*world.source, &world.bus.contract.bus_id, &asked).unwrap()
    };
    let keys = [world.public(BUS, KeyUse::Checkpoint)];
    let case = |file: Vec<u8>| Case {
        person: id.as_str().to_owned(),
        labels: vec![world.bus.contract.vrf_keys[0].public],
        ..world.case(file)
    };
    let ours = |case: &Case| {
        let policy = policy_of(case)?;
        let text = std::str::from_utf8(&case.file).map_err(|_| "LEDGER_PROOF_MALFORMED")?;
        let person = IdNumber::parse(&case.person).unwrap();
        let verified = verify(text, &person, &case.labels, &keys, Some(&policy));
        let verified = verified.map_err(|error| error.code())?;
        let read: Vec<Value> = match verified.answer {
            Answer::Nothing => Vec::new(),
            Answer::Read(leaves) => leaves
                .iter()
                .map(|leaf| {
                    json!({"count": leaf.count, "first": leaf.first_ms, "last": leaf.last_ms})
                })
                .collect(),
        };
        Ok(json!({
            "department": verified.department,
            "from": verified.from_ms,
            "to": verified.to_ms,
            "read": read,
            "ranges": verified.ranges,
            "logs": verified.logs,
            "witnesses": verified.witnesses,
        }))
    };
    let (nothing, read) = (proof(&second, true), proof(&first, true));
    let genuine = [case(nothing.clone().into()), case(read.clone().into())];
    assert_eq!(ours(&genuine[0]).unwrap()["read"], json!([]));
    assert_eq!(
        ours(&genuine[1]).unwrap()["read"].as_array().unwrap().len(),
        1
    );
    assert_eq!(agree(&genuine, ours), 2);

    // As a person calls it.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("x.absence"), &nothing).unwrap();
    fs::write(path("tlog-policy"), &genuine[0].policy).unwrap();
    let mut child = Command::new(python())
        .arg(script())
        .arg("--policy")
        .arg(path("tlog-policy"))
        .args(["--label-key", &BASE64.encode(genuine[0].labels[0])])
        .arg(path("x.absence"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut number = child.stdin.take().unwrap();
    writeln!(number, "{}", id.as_str()).unwrap();
    drop(number);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && said.contains("\"read\": []"),
        "{said}"
    );
    assert!(!said.contains(id.as_str()));

    let other_person = Case {
        person: "440524188001010014".to_owned(),
        ..genuine[0].clone()
    };
    let other_label = Case {
        labels: vec![[7; 32]],
        ..genuine[0].clone()
    };
    let later = nothing.replacen(
        &format!("\n{to_ms}\n"),
        &format!("\n{}\n", to_ms + MINUTE),
        1,
    );
    let one_range = nothing.rsplit_once("note ").unwrap().0.to_owned();
    let leaf = read.lines().find(|line| line.starts_with("leaf ")).unwrap();
    let content = leaf.split(' ').nth(2).unwrap();
    let mut less = BASE64.decode(content).unwrap();
    less[39] -= 1;
    let fewer = read.replacen(content, &BASE64.encode(less), 1);
    let leaf_at = nothing.find("leaf ").unwrap();
    let leafless = nothing.lines().filter(|line| !line.starts_with("leaf "));
    let leafless: String = leafless.map(|line| format!("{line}\n")).collect();
    let tampered = [
        ("another person", other_person, "LEDGER_ABSENCE_PERSON"),
        ("another label's key", other_label, "LEDGER_KEY_UNKNOWN"),
        (
            "a leaf that says less",
            case(fewer.into()),
            "LEDGER_PROOF_WRONG",
        ),
        (
            "a range left out",
            case(one_range.into()),
            "LEDGER_ABSENCE_TIME",
        ),
        ("no leaves", case(leafless.into()), "LEDGER_PROOF_WRONG"),
        ("a later end", case(later.into()), "LEDGER_ABSENCE_TIME"),
        (
            "not cosigned",
            case(proof(&second, false).into()),
            "LEDGER_QUORUM",
        ),
        (
            "cut",
            case(nothing[..leaf_at + 9].into()),
            "LEDGER_PROOF_MALFORMED",
        ),
        (
            "nothing shown",
            case(nothing.split("note ").next().unwrap().into()),
            "LEDGER_ABSENCE_TIME",
        ),
    ];
    let cases: Vec<Case> = tampered.iter().map(|(_, case, _)| case.clone()).collect();
    for ((name, case, code), theirs) in tampered.iter().zip(theirs(&cases)) {
        assert_eq!(ours(case).unwrap_err(), *code, "{name}: ours");
        assert_eq!(theirs.unwrap_err(), *code, "{name}: theirs");
    }
    // One leaf is the reader's own, and the other department's neighbour: both files say the same of both.
    let other = |text: &str, from: &str, to: &str| {
        let text = text.replacen(&format!("\n{from}\n"), &format!("\n{to}\n"), 1);
        case(text.into())
    };
    let exchanged = [
        other(&nothing, &second, &first),
        other(&read, &first, &second),
    ];
    assert_eq!(agree(&exchanged, ours), 2);
    let mut rng = StdRng::seed_from_u64(0x5ec2);
    let altered: Vec<Case> = (0..300)
        .map(|at| {
            let file = if at % 2 == 0 { &nothing } else { &read };
            case(mutated(file.as_bytes(), &mut rng))
        })
        .collect();
    let verified = agree(&altered, ours);
    println!("of 300 altered proofs of absence {verified} hold: another time of the same ranges");
    assert!(verified < 60);
}
