//! `.tlog-proof` files before both verifiers.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_ledger::witness::witness_name;
use mz_stack::testing::python;
use mz_tlog::note::Note;
use mz_tlog::proof::Proof;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{AUDIT_ID, agree, our_proof};
use crate::independent::{Case, mutated, script, theirs};
use crate::witness::world::World;

/// A signature line's bytes, altered.
fn resigned(line: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let (head, signature) = line.trim_end().rsplit_once(' ').unwrap();
    let mut bytes = BASE64.decode(signature).unwrap();
    change(&mut bytes);
    format!("{head} {}\n", BASE64.encode(bytes))
}

#[test]
fn a_verifier_that_is_not_ours_says_the_same_about_a_proof() {
    let world = World::cosigned();
    let keys = world.checkpoint_keys();
    let genuine = world.proven();
    let case = world.case(genuine.clone());
    let facts = our_proof(&case, &keys).unwrap();
    assert_eq!(facts["audit_id"], AUDIT_ID);
    assert_eq!(facts["witnesses"].as_object().unwrap().len(), 2);
    assert_eq!(
        agree(std::slice::from_ref(&case), |case| our_proof(case, &keys)),
        1
    );

    // As a person calls it.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("x.tlog-proof"), &genuine).unwrap();
    fs::write(path("tlog-policy"), &case.policy).unwrap();
    fs::write(
        path("bad.tlog-proof"),
        genuine.replacen("index ", "index 1", 1),
    )
    .unwrap();
    let run = |files: &[&str]| {
        let mut command = Command::new(python());
        command
            .arg(script())
            .arg("--policy")
            .arg(path("tlog-policy"));
        let output = command.args(files.iter().map(|name| path(name))).output();
        let output = output.unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (status, said) = run(&["x.tlog-proof"]);
    println!("{said}");
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains(AUDIT_ID) && said.contains("delivered"),
        "{said}"
    );
    let (status, said) = run(&["x.tlog-proof", "bad.tlog-proof"]);
    assert_eq!(status, Some(1));
    assert_eq!(said.matches("\"verified\"").count(), 1);

    let tampered = tampered(&world, &genuine);
    println!("{} kinds of tampering", tampered.len());
    let cases: Vec<Case> = tampered
        .iter()
        .map(|(_, file, _)| world.case(file.clone()))
        .collect();
    let both = cases.iter().zip(theirs(&cases));
    for ((name, _, code), (case, theirs)) in tampered.iter().zip(both) {
        assert_ne!(case.file, genuine.as_bytes(), "{name}");
        assert_eq!(our_proof(case, &keys).unwrap_err(), *code, "{name}: ours");
        assert_eq!(theirs.unwrap_err(), *code, "{name}: theirs");
    }
}

/// What is done to the file, the file, and the code of the refusal.
fn tampered(world: &World, genuine: &str) -> Vec<(&'static str, String, &'static str)> {
    const MALFORMED: &str = "LEDGER_PROOF_MALFORMED";
    const WRONG: &str = "LEDGER_PROOF_WRONG";
    const KEY: &str = "LEDGER_KEY_UNKNOWN";
    const QUORUM: &str = "LEDGER_QUORUM";
    let proof = Proof::parse(genuine).unwrap();
    let note = Note::parse(&proof.checkpoint).unwrap();
    let lines: Vec<String> = note.lines().collect();
    let [log, a, b] = lines.as_slice() else {
        panic!("a log and two witnesses signed");
    };
    let swap = |from: &str, to: &str| {
        assert!(genuine.contains(from));
        genuine.replacen(from, to, 1)
    };
    let with = |change: &dyn Fn(&mut Proof)| {
        let mut other = proof.clone();
        change(&mut other);
        other.encode()
    };
    let [_, second] = world.departments();
    let own = witness_name(&world.bus.contract.bus_id, &second);
    let stranger = world.stranger();
    let named = witness_name(&world.bus.contract.bus_id, &stranger);
    let [unlisted, _] = world.lines_by(&stranger, &named, note.text());
    let [posing, _] = world.lines_by(&stranger, &own, note.text());
    let [again, plain] = world.lines_by(&second, &own, note.text());
    let root = note.text().lines().nth(2).unwrap();
    let mut other_root = BASE64.decode(root).unwrap();
    other_root[31] ^= 1;
    let size = world.log.size();
    let origin = world.log.origin();
    let signature = |line: &str| {
        let bytes = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        BASE64.decode(bytes).unwrap()[4..].to_vec()
    };
    let tail = |line: &str, from: &str| {
        resigned(line, |bytes| {
            bytes.truncate(4);
            bytes.extend(signature(from));
        })
    };
    let end = genuine.len();
    vec![
        ("entry", with(&|p| p.extra.as_mut().unwrap()[9] ^= 1), WRONG),
        (
            "entry's kind",
            with(&|p| p.extra.as_mut().unwrap()[0] = 2),
            WRONG,
        ),
        ("index", with(&|p| p.index += 1), WRONG),
        ("index past the end", with(&|p| p.index = size), WRONG),
        ("hash of the path", with(&|p| p.hashes[2][0] ^= 1), WRONG),
        (
            "hash left out",
            with(&|p| p.hashes.truncate(p.hashes.len() - 1)),
            WRONG,
        ),
        ("hash added", with(&|p| p.hashes.push([0; 32])), WRONG),
        ("hashes exchanged", with(&|p| p.hashes.swap(0, 1)), WRONG),
        ("root", swap(root, &BASE64.encode(other_root)), KEY),
        (
            "size",
            swap(&format!("\n{size}\n"), &format!("\n{}\n", size - 1)),
            KEY,
        ),
        (
            "origin",
            swap(&format!("\n{origin}\n"), &format!("\n{origin}x\n")),
            KEY,
        ),
        (
            "extension line",
            swap(&format!("{root}\n\n"), &format!("{root}\nmore\n\n")),
            KEY,
        ),
        (
            "checkpoint's signature",
            swap(log, &resigned(log, |bytes| bytes[20] ^= 1)),
            KEY,
        ),
        ("checkpoint not signed", swap(log, ""), KEY),
        (
            "time of a cosignature",
            swap(a, &resigned(a, |bytes| bytes[11] ^= 1)),
            QUORUM,
        ),
        (
            "time past 63 bits",
            swap(a, &resigned(a, |bytes| bytes[4] = 0x80)),
            QUORUM,
        ),
        (
            "cosignature's bytes",
            swap(b, &resigned(b, |bytes| bytes[70] ^= 1)),
            QUORUM,
        ),
        (
            "cosignature cut",
            swap(b, &resigned(b, |bytes| bytes.truncate(60))),
            QUORUM,
        ),
        ("by a key that is not listed", swap(b, &unlisted), QUORUM),
        (
            "by another key under a listed name",
            swap(b, &posing),
            QUORUM,
        ),
        ("quorum short by one", swap(b, ""), QUORUM),
        ("one line twice", swap(b, a), QUORUM),
        (
            "the same witness twice",
            genuine.replacen(a, "", 1) + &again,
            QUORUM,
        ),
        ("plain signature of a witness", swap(b, &plain), QUORUM),
        (
            "cosignatures exchanged",
            swap(a, &tail(a, b)).replacen(b, &tail(b, a), 1),
            QUORUM,
        ),
        (
            "one of two signatures bad",
            format!("{genuine}{}", tail(b, a)),
            QUORUM,
        ),
        ("cut", genuine[..end / 2].to_owned(), MALFORMED),
        ("last newline cut", genuine[..end - 1].to_owned(), MALFORMED),
        ("no entry", with(&|p| p.extra = None), MALFORMED),
        (
            "newlines of another system",
            genuine.replace('\n', "\r\n"),
            MALFORMED,
        ),
        (
            "index with a zero before it",
            swap("\nindex ", "\nindex 0"),
            MALFORMED,
        ),
    ]
}

#[test]
fn two_verifiers_agree_about_altered_bytes() {
    let world = World::cosigned();
    let keys = world.checkpoint_keys();
    let mut rng = StdRng::seed_from_u64(0x5ec0);
    // With a signature that nobody knows: what is altered there changes nothing.
    let stranger = world.stranger();
    let genuine = world.proven();
    let text = Note::parse(&Proof::parse(&genuine).unwrap().checkpoint).unwrap();
    let [unknown, _] = world.lines_by(&stranger, "elsewhere", text.text());
    let genuine = format!("{genuine}{unknown}").into_bytes();
    let case = world.case(genuine.clone());
    let proofs: Vec<Case> = (0..400)
        .map(|_| world.case(mutated(&genuine, &mut rng)))
        .collect();
    // With places in which what is altered means nothing.
    let text = String::from_utf8(case.policy.clone()).unwrap();
    let policy = format!(
        "# whom the department trusts since 2026\n{}",
        text.replacen(
            "\nwitness a",
            " https://ledger.example/audit/0/2026\nwitness a",
            1
        )
    );
    let policies: Vec<Case> = (0..300)
        .map(|_| Case {
            policy: mutated(policy.as_bytes(), &mut rng),
            ..case.clone()
        })
        .collect();
    let ours = |case: &Case| our_proof(case, &keys);
    let verified = [agree(&proofs, ours), agree(&policies, ours)];
    println!(
        "of 400 altered proofs {} hold, under 300 altered policies {}",
        verified[0], verified[1]
    );
    assert!(verified[0] > 0 && verified[0] < 200);
    assert!(verified[1] > 0 && verified[1] < 200);
}
