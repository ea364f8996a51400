//! What departments may write to `bus.cosignatures`, and what of it counts.

use std::time::Duration;

use mz_bus::PlainProducer;
use mz_contract::KeyUse;
use mz_journal::topics;
use mz_keys::public::KeyUse as SignerUse;
use mz_ledger::witness::{Complete, cosignature_key, statement_key, witness_name};
use mz_tlog::note::{self, KeyKind, Note, VerifierKey};

use super::world::{World, taken};

#[test]
fn hostile_cosignatures_do_not_count() {
    let mut world = World::new();
    let [first, second] = world.departments();
    world.deliver(10);
    let size = world.sign();
    let origin = world.log.origin().to_owned();
    let root = world.log.root();
    let bus_id = world.bus.contract.bus_id.clone();
    let name = witness_name(&bus_id, &first);
    // What a department can make with its own key.
    let cosigned = |as_name: &str, note: &str| {
        let public = world.public(&second, KeyUse::Witness);
        let key = VerifierKey::new(as_name, KeyKind::Cosignature, &public).unwrap();
        let signer = world.signer(&second, SignerUse::Witness);
        let note = Note::parse(note).unwrap();
        let line = note::cosign_line(&key, note.text(), 1, |message| {
            signer.sign(message).unwrap()
        });
        note.append(&line.unwrap()).unwrap().to_string()
    };
    let good = world.note_of(&origin, size, root);
    let own = witness_name(&bus_id, &second);
    let key = cosignature_key(&origin, &own);
    let mut wanted = Vec::new();
    let mut publish = |key: &str, value: &str, code: &'static str| {
        world.publish(&second, key, value);
        wanted.push(code);
    };
    // Another department's name, with the own key.
    let stolen = cosignature_key(&origin, &name);
    publish(&stolen, &cosigned(&name, &good), "WITNESS_KEY_UNKNOWN");
    publish(&stolen, &cosigned(&own, &good), "WITNESS_KEY_UNKNOWN");
    // Another log than the key says; a log that is none.
    let elsewhere = world.note_of("other/audit/0/2026", size, root);
    publish(&key, &cosigned(&own, &elsewhere), "WITNESS_ORIGIN_FOREIGN");
    let outside = format!("{bus_id}/audit/../../etc");
    let note = world.note_of(&outside, size, root);
    let strange = cosignature_key(&outside, &own);
    publish(&strange, &cosigned(&own, &note), "WITNESS_ORIGIN_FOREIGN");
    // The log's own signature under another root, and under more than there is.
    let forked = world.note_of(&origin, size, [9; 32]);
    publish(&key, &cosigned(&own, &forked), "WITNESS_LOG_FORKED");
    let larger = world.note_of(&origin, size + 1, root);
    publish(&key, &cosigned(&own, &larger), "WITNESS_LOG_SHRANK");
    // A root that only the department claims.
    let unsigned = forked.replace(&format!("\u{2014} {origin} "), "\u{2014} nobody ");
    publish(&key, &cosigned(&own, &unsigned), "WITNESS_KEY_UNKNOWN");
    for (key, value) in [
        ("", ""),
        ("a|b", "no note"),
        (&*key, &*"x".repeat(200_000)),
        (&*"k".repeat(600), &*cosigned(&own, &good)),
        (&*format!("{key}|other"), &*cosigned(&own, &good)),
    ] {
        publish(key, value, "WITNESS_COSIGNATURE_MALFORMED");
    }
    // A statement about a log that is another.
    let said = Complete {
        origin: origin.clone(),
        size,
        root: [9; 32],
        department: second.clone(),
        lanes: vec![],
    };
    let public = world.public(&second, KeyUse::Witness);
    let states = VerifierKey::new(&own, KeyKind::Ed25519, &public).unwrap();
    let signer = world.signer(&second, SignerUse::Witness);
    let text = said.encode();
    let line = note::sign_line(&states, &text, |message| signer.sign(message).unwrap()).unwrap();
    let note = Note::assemble(&text, [line]).unwrap().to_string();
    let place = statement_key(&origin, &own);
    publish(&place, &note, "WITNESS_STATEMENT_DIFFERS");

    let mut quorum = world.quorum();
    let all = taken(&mut quorum, wanted.len() as u64);
    let codes: Vec<&str> = all.faults.iter().map(|fault| fault.code).collect();
    assert_eq!(codes, wanted);
    assert_eq!((all.taken, all.met), (0, vec![]));
    let evidence = all.faults.iter().filter(|fault| fault.evidence.is_some());
    assert_eq!(evidence.count(), 2);
    // After all that the honest ones count.
    for department in [&first, &second] {
        world.step(&mut world.witness(department)).unwrap();
    }
    assert_eq!(taken(&mut quorum, 4).met, [(origin, size)]);
}

#[test]
fn a_department_can_write_there_and_not_read() {
    let world = World::new();
    let [first, _] = world.departments();
    let read = |principal: &str| {
        let bus = world.bus.bus(principal);
        mz_bus::read_to_end(
            &bus,
            topics::COSIGNATURES,
            0,
            mz_bus::Position::Beginning,
            |_| {},
        )
    };
    world.publish(&first, "a", "b");
    assert!(read(&format!("{first}.adapter")).is_err());
    read("bus.auditor").unwrap();
    let bus = world.bus.bus("bus.ledger");
    let mut producer = PlainProducer::open(&bus).unwrap();
    let sent = producer.send(topics::COSIGNATURES, 0, b"a", Some(b"b"), &[]);
    let written = sent.and_then(|()| producer.flush(Duration::from_secs(20)));
    assert!(written.is_err());
}
