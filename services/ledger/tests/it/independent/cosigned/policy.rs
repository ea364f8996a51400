//! The grammar of policies, and what a quorum is, before both verifiers.

use mz_contract::{BUS, KeyUse};
use mz_ledger::verifier_key;
use mz_ledger::witness::witness_name;
use mz_tlog::note::{KeyKind, VerifierKey};

use super::our_proof;
use crate::independent::{Case, theirs};
use crate::witness::world::World;

#[test]
fn policies_mean_the_same_to_both() {
    let world = World::cosigned();
    let keys = world.checkpoint_keys();
    let case = world.case(world.proven());
    let text = String::from_utf8(case.policy.clone()).unwrap();
    let (items, _) = text.split_once("group ").unwrap();
    let stranger = world.stranger();
    let name = witness_name(&world.bus.contract.bus_id, &stranger);
    let public = world.public(&stranger, KeyUse::Witness);
    let third = VerifierKey::new(&name, KeyKind::Cosignature, &public).unwrap();
    let items = format!("{items}witness c {third}\n");
    // The two of the log cosigned, c did not.
    let grammar = [
        ("quorum none", true),
        ("quorum a", true),
        ("quorum c", false),
        ("group g any a c\nquorum g", true),
        ("group g all a c\nquorum g", false),
        ("group g 2 a b c\nquorum g", true),
        ("group g 3 a b c\nquorum g", false),
        ("group g 0 a b c\nquorum g", false),
        ("group g 4 a b c\nquorum g", false),
        ("group g 02 a b c\nquorum g", false),
        ("group g +2 a b c\nquorum g", false),
        ("group g any a\ngroup h all g b\nquorum h", true),
        ("group g any c\ngroup h all g b\nquorum h", false),
        ("group g any a\ngroup h any g a\nquorum h", false),
        ("group g any h\ngroup h any a\nquorum g", false),
        ("group g any g\nquorum g", false),
        ("group g any a a\nquorum g", false),
        ("group g any none\nquorum g", false),
        ("group none any a\nquorum none", false),
        ("group a any b\nquorum a", false),
        ("group g any\nquorum g", false),
        ("quorum a\nquorum b", false),
        ("quorum A", false),
        ("# quorum c\n \t# more\n\n \t\n\tquorum\t a ", true),
        ("quorum a # why", false),
        ("quorum", false),
        ("", false),
        ("Quorum a", false),
    ];
    let mut cases: Vec<(Case, bool)> = Vec::new();
    let with = |policy: Vec<u8>| Case {
        policy,
        ..case.clone()
    };
    for (lines, holds) in grammar {
        cases.push((with(format!("{items}{lines}\n").into_bytes()), holds));
    }
    let witness = items
        .lines()
        .find(|line| line.starts_with("witness a"))
        .unwrap();
    let log = items.lines().find(|line| line.starts_with("log")).unwrap();
    let other_log = verifier_key(
        "dg-bus/audit/1/2027",
        &world.public(BUS, KeyUse::Checkpoint),
    );
    let other_log = format!("log {}", other_log.unwrap());
    for (from, to, holds) in [
        ("\n", "\r\n".to_owned(), false),
        ("witness a ", "witness \u{e9}\u{2003} ".to_owned(), true),
        (witness, format!("{witness} https://a.example"), true),
        (witness, format!("{witness} https://a.example x"), false),
        (
            witness,
            format!("{witness}\n{}", witness.replacen(" a ", " d ", 1)),
            false,
        ),
        (log, format!("{log}\n{log}"), false),
        (log, format!("{other_log}\n{log}"), true),
        (log, String::new(), false),
        (log, log.replacen("+A", "+B", 1), false),
        (log, witness.replacen("witness a", "log", 1), false),
    ] {
        let policy = format!("{items}quorum none\n").replacen(from, &to, 1);
        cases.push((with(policy.into_bytes()), holds));
    }
    // Names are octets, and the last line ends.
    let opaque = [items.as_bytes(), b"group \xff\xfe any a\nquorum \xff\xfe\n"].concat();
    cases.push((with(opaque), true));
    cases.push((with(format!("{items}quorum none").into_bytes()), false));
    let all: Vec<Case> = cases.iter().map(|(case, _)| case.clone()).collect();
    for ((case, holds), theirs) in cases.iter().zip(theirs(&all)) {
        let shown = String::from_utf8_lossy(&case.policy).into_owned();
        assert_eq!(our_proof(case, &keys).is_ok(), *holds, "ours: {shown}");
        assert_eq!(theirs.is_ok(), *holds, "theirs: {shown}");
    }
    println!("{} policies", cases.len());
}
