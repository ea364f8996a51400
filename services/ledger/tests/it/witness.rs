//! Witnesses on a real bus: what they cosign, what they refuse, and what of it counts.

// Named, because the console's tests read this file from elsewhere.
#[path = "witness/audited.rs"]
mod audited;
#[path = "witness/hostile.rs"]
mod hostile;
#[path = "witness/ranges.rs"]
pub(crate) mod ranges;
#[path = "witness/running.rs"]
mod running;
#[path = "witness/trim.rs"]
mod trim;
#[path = "witness/world.rs"]
pub(crate) mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use mz_contract::{Contract, KeyUse, Mode};
use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, Chain};
use mz_keys::public::KeyUse as SignerUse;
use mz_ledger::log::{CHECKPOINT, Entry, Opened};
use mz_ledger::quorum::COSIGNED;
use mz_ledger::{checkpoint_keys, is_signed, verifier_key};
use mz_seal::KeyStatus;
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::note::{self, Note};
use mz_vault::testing::LANES;

use world::{LOG, World, append, create, taken};

#[test]
fn an_honest_log_is_cosigned_step_by_step() {
    let mut world = World::new();
    let [first, second] = world.departments();
    let (mut a, mut b) = (world.witness(&first), world.witness(&second));
    let mut quorum = world.quorum();
    let mut compared = 0;
    for round in 0..4u64 {
        world.deliver(150);
        let size = world.sign();
        assert_eq!(size, 1 + 150 * (round + 1));
        quorum.poll(Duration::ZERO).unwrap();
        let outcome = world.step(&mut a).unwrap();
        compared += outcome.compared;
        assert_eq!((outcome.size, outcome.cosigned), (size, true));
        assert_eq!(compared, world.written);
        // Alone it is no quorum.
        assert_eq!(taken(&mut quorum, 2).met, []);
        assert_eq!(world.step(&mut b).unwrap().compared, 0);
        let all = taken(&mut quorum, 2);
        assert_eq!((all.faults, all.met.len()), (vec![], 1));
        let cosigned = fs::read(world.logs().join(LOG).join(COSIGNED)).unwrap();
        let said = Checkpoint::parse(Note::parse(&cosigned).unwrap().text()).unwrap();
        assert_eq!((said.size, said.root), (size, world.log.root()));
        let statement = quorum.statements(world.log.origin()).next().unwrap();
        assert_eq!(statement.size, size);
        assert!(!world.step(&mut a).unwrap().cosigned, "nothing is new");
    }
    // A new start goes on where the last one ended, and says again what it said.
    drop(a);
    let mut a = world.witness(&first);
    let outcome = world.step(&mut a).unwrap();
    assert_eq!(
        (outcome.entries, outcome.compared, outcome.cosigned),
        (0, 0, true)
    );
    // What the log has not reached waits.
    world.deliver(8);
    let outcome = world.step(&mut a).unwrap();
    assert_eq!((outcome.compared, outcome.waiting.lanes), (0, 4));
    world.sign();
    // The last one is cosigned: the next is offered.
    quorum.poll(Duration::ZERO).unwrap();
    let outcome = world.step(&mut a).unwrap();
    assert_eq!((outcome.compared, outcome.waiting.lanes), (8, 0));
}

#[test]
fn a_witness_that_dies_before_it_cosigns_does_it_later() {
    let mut world = World::new();
    let [first, _] = world.departments();
    world.deliver(20);
    let size = world.sign();
    let mut witness = world.witness(&first);
    assert_eq!(witness.look(&*world.source, LOG).unwrap().compared, 20);
    // A second process is kept out.
    let other = std::panic::catch_unwind(AssertUnwindSafe(|| drop(world.witness(&first))));
    assert!(other.is_err());
    drop(witness);
    let mut witness = world.witness(&first);
    let outcome = world.step(&mut witness).unwrap();
    assert_eq!((outcome.size, outcome.compared), (size, 0));
    assert!(outcome.cosigned);
    assert_eq!(taken(&mut world.quorum(), 2).faults, []);
}

#[test]
fn forked_and_shrunken_logs_are_refused_for_good() {
    let mut world = World::new();
    let [first, _] = world.departments();
    let mut witness = world.witness(&first);
    world.deliver(300);
    world.sign();
    world.step(&mut witness).unwrap();
    let old = fs::read_to_string(world.logs().join(LOG).join(CHECKPOINT)).unwrap();
    let evidence = world.dir.path().join(&first).join("0_2026.refused");

    // The same size with another root.
    let other = world.note_of(world.log.origin(), world.log.size(), [7; 32]);
    world.checkpoint(&other);
    assert_eq!(world.refused(&mut witness), "WITNESS_LOG_FORKED");
    let text = fs::read_to_string(&evidence).unwrap();
    assert!(text.contains(&old) && text.contains(&other));
    let mode = fs::metadata(&evidence).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // It stands, although the log looks good again.
    world.checkpoint(&old);
    assert_eq!(world.refused(&mut witness), "WITNESS_LOG_FORKED");
    fs::remove_file(&evidence).unwrap();
    world.step(&mut witness).unwrap();

    // Smaller.
    world.deliver(5);
    world.sign();
    world.step(&mut witness).unwrap();
    world.checkpoint(&old);
    assert_eq!(world.refused(&mut witness), "WITNESS_LOG_SHRANK");
    fs::remove_file(&evidence).unwrap();

    // Another history, larger, whole and signed by the true key.
    let seen = world.log.size();
    fs::rename(world.logs().join(LOG), world.dir.path().join("true")).unwrap();
    world.log = create(&world.bus, world.logs(), LOG, &Opened::default());
    world.chains = (0..LANES)
        .map(|lane| Chain::new(AuditWriter::Gateway, lane))
        .collect();
    while world.log.size() < seen + 50 {
        let chain = &mut world.chains[0];
        let (kind, cause) = (AuditKind::Denied, AuditCause::Stream);
        let mut audit = Audit::empty(AuditWriter::Gateway, 0, 2, kind, cause);
        let mut bytes = Vec::new();
        chain.append(&mut audit, &mut bytes);
        append(&mut world.log, &Entry::Audit(&bytes));
    }
    world.sign();
    assert_eq!(world.refused(&mut witness), "WITNESS_LOG_FORKED");
}

#[test]
fn a_delivery_that_is_not_in_the_log_is_named() {
    let mut world = World::new();
    let [first, second] = world.departments();
    let mut witness = world.witness(&first);
    world.deliver(10);
    world.sign();
    world.step(&mut witness).unwrap();
    world.deliver_but(10, |at, audit| {
        if at == 6 {
            audit.kind = AuditKind::Denied;
        }
    });
    world.sign();
    let error = world.step(&mut witness).unwrap_err();
    assert_eq!(error.code(), "WITNESS_DELIVERY_OMITTED");
    // Delivery 17 of all is the fifth of lane 0.
    assert!(error.to_string().contains("gateway-0-5"), "{error}");
    // Others cosign: it was not theirs.
    let mut other = world.witness(&second);
    assert!(world.step(&mut other).unwrap().cosigned);
}

#[test]
fn a_delivery_that_the_log_tells_otherwise_is_named() {
    for at in 0..4 {
        let mut world = World::new();
        let [first, second] = world.departments();
        world.deliver_but(9, |number, audit| match (number, at) {
            (7, 0) => audit.output_sequence += 1,
            (7, 1) => audit.dataset = "other.data.v1".into(),
            (7, 2) => audit.contract = [1; 32],
            (7, 3) => audit.consumer = second.clone().into(),
            _ => {}
        });
        world.sign();
        let mut witness = world.witness(&first);
        let wanted = match at {
            3 => "WITNESS_DELIVERY_OMITTED",
            _ => "WITNESS_DELIVERY_DIFFERS",
        };
        assert_eq!(world.refused(&mut witness), wanted, "{at}");
    }
}

#[test]
fn altered_entries_and_broken_chains_are_not_cosigned() {
    let mut world = World::new();
    let [first, _] = world.departments();
    let mut witness = world.witness(&first);
    world.deliver(20);
    world.sign();
    let bundle = world.logs().join(LOG).join("tile/entries/000.p/21");
    let good = fs::read(&bundle).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&bundle, &bad).unwrap();
    assert_eq!(world.refused(&mut witness), "WITNESS_ENTRY_ALTERED");
    fs::remove_file(&bundle).unwrap();
    assert_eq!(world.refused(&mut witness), "WITNESS_LOG_UNREADABLE");
    fs::write(&bundle, &good).unwrap();
    world.step(&mut witness).unwrap();

    // Under another key.
    let note = world.note_of(world.log.origin(), world.log.size(), world.log.root());
    let text = Note::parse(&note).unwrap().text().to_owned();
    let public = world.public(&first, KeyUse::Witness);
    let key = verifier_key(world.log.origin(), &public).unwrap();
    let signer = world.signer(&first, SignerUse::Witness);
    let line = note::sign_line(&key, &text, |message| signer.sign(message).unwrap()).unwrap();
    world.checkpoint(&Note::assemble(&text, [line]).unwrap().to_string());
    assert_eq!(world.refused(&mut witness), "WITNESS_KEY_UNKNOWN");

    // A record that the log leaves out without a word.
    let mut audit = Audit::empty(
        AuditWriter::Gateway,
        0,
        3,
        AuditKind::Denied,
        AuditCause::Stream,
    );
    world.chains[0].append(&mut audit, &mut Vec::new());
    world.deliver(4);
    world.sign();
    assert_eq!(world.refused(&mut witness), "WITNESS_CHAIN_BROKEN");
}

#[test]
fn a_new_log_follows_the_one_that_was_seen() {
    let mut world = World::new();
    let [first, _] = world.departments();
    let mut witness = world.witness(&first);
    world.deliver(10);
    world.sign();
    world.step(&mut witness).unwrap();
    world.deliver(10);
    world.sign();
    let mut opened = Opened {
        origin: world.log.origin().to_owned(),
        size: world.log.size(),
        root: world.log.root(),
    };
    world.log = create(&world.bus, world.logs(), "0/2027", &opened);
    world.deliver(10);
    world.sign();
    // Not before the old one was seen to its end.
    let early = witness.step(&*world.source, "0/2027").unwrap_err();
    assert_eq!(early.code(), "WITNESS_LOG_BEFORE_UNKNOWN");
    let round = witness.round(&*world.source).unwrap();
    let compared: Vec<u64> = round
        .into_iter()
        .map(|(_, outcome)| outcome.unwrap().compared)
        .collect();
    assert_eq!(compared, [10, 10]);

    // One that names another end of the log before it.
    opened.origin = world.log.origin().to_owned();
    opened.size = world.log.size();
    world.log = create(&world.bus, world.logs(), "0/2028", &opened);
    world.sign();
    let forked = witness.step(&*world.source, "0/2028").unwrap_err();
    assert_eq!(forked.code(), "WITNESS_LOG_FORKED");
}

/// A stolen key is revoked: then nobody believes it, whoever asks, and whatever it signed.
#[test]
fn a_revoked_key_vouches_for_no_log() {
    let mut world = World::new();
    world.deliver(5);
    world.sign();
    let root = world.bus.contract_root();
    let mut contract = Contract::load(&root, Mode::Draft).ok().unwrap();
    let note = fs::read(world.logs().join(LOG).join(CHECKPOINT)).unwrap();
    let note = Note::parse(note).unwrap();
    let origin = world.log.origin();
    assert!(is_signed(&note, origin, checkpoint_keys(&contract)));
    let mut keys = contract.bus_keys.iter_mut();
    let key = keys.find(|key| key.usage == KeyUse::Checkpoint).unwrap();
    let last_batch = Vec::new();
    key.info.status = KeyStatus::Revoked { last_batch };
    assert_eq!(checkpoint_keys(&contract).count(), 0);
    assert!(!is_signed(&note, origin, checkpoint_keys(&contract)));
}

/// A log that is longer than a window, and a delivery that came late.
#[test]
fn windows_hide_nothing() {
    let mut world = World::new();
    let [first, _] = world.departments();
    let mut witness = world.witness_of(&first, 16);
    world.deliver(100);
    world.sign();
    let outcome = world.step(&mut witness).unwrap();
    assert_eq!((outcome.entries, outcome.compared), (101, 100));
    drop(witness);
    // Everything comes again, long after its entries: as if it had come late.
    let state = world.dir.path().join(&first).join("0_2026.seen");
    let text = fs::read_to_string(&state).unwrap();
    let mut seen: serde_json::Value = serde_json::from_str(&text).unwrap();
    seen["positions"] = serde_json::json!({});
    fs::write(&state, seen.to_string()).unwrap();
    world.deliver_but(50, |at, audit| {
        if at == 45 {
            audit.output_sequence = 99;
        }
    });
    let mut witness = world.witness_of(&first, 16);
    let outcome = world.step(&mut witness).unwrap();
    assert_eq!((outcome.entries, outcome.compared), (0, 100));
    assert_eq!(outcome.waiting.lanes, 4);
    world.sign();
    assert_eq!(world.refused(&mut witness), "WITNESS_DELIVERY_DIFFERS");
    drop(witness);
    // A state that nobody can read is no empty one.
    fs::write(&state, "{}").unwrap();
    fs::remove_file(world.dir.path().join(&first).join("0_2026.refused")).unwrap();
    let mut witness = world.witness_of(&first, 16);
    assert_eq!(world.refused(&mut witness), "WITNESS_STATE");
}

#[test]
fn a_log_that_is_not_listed_any_more_is_named() {
    let mut world = World::new();
    let [first, _] = world.departments();
    let mut witness = world.witness(&first);
    world.deliver(5);
    world.sign();
    world.step(&mut witness).unwrap();
    fs::rename(world.logs().join(LOG), world.dir.path().join("away")).unwrap();
    let round = witness.round(&*world.source).unwrap();
    let [(log, Err(error))] = &round[..] else {
        panic!("{round:?}");
    };
    assert_eq!(
        (log.as_str(), error.code()),
        (LOG, "WITNESS_CHECKPOINT_MALFORMED")
    );
    assert!(!error.is_refusal());
    // It comes back, and nothing was lost.
    fs::rename(world.dir.path().join("away"), world.logs().join(LOG)).unwrap();
    let round = witness.round(&*world.source).unwrap();
    assert!(round[0].1.is_ok(), "{round:?}");
}
