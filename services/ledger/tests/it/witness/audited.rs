//! What `ledger audit` finds in a log that witnesses have cosigned.

use std::fs;

use mz_contract::KeyUse;
use mz_keys::public::KeyUse as SignerUse;
use mz_ledger::cosigned::{Cosigned, check_cosigned};
use mz_ledger::log::Folder;
use mz_ledger::quorum::COSIGNED;
use mz_ledger::witness::witness_name;
use mz_tlog::note::{self, KeyKind, Note, VerifierKey};

use super::world::{LOG, World, taken};

#[test]
fn a_log_set_back_or_told_anew_since_it_was_cosigned_is_named_and_so_are_forged_cosignatures() {
    let mut world = World::new();
    let [first, second] = world.departments();
    world.deliver(300);
    let size = world.sign();
    let mut quorum = world.quorum();
    for department in [&first, &second] {
        let mut witness = world.witness(department);
        world.step(&mut witness).unwrap();
    }
    taken(&mut quorum, 4);
    let origin = world.log.origin().to_owned();
    let folder = world.logs().join(LOG);
    let path = folder.join(COSIGNED);
    let genuine = fs::read_to_string(&path).unwrap();
    let audited = |size| check_cosigned(&Folder::new(&folder), &origin, size, &world.bus.contract);
    let witnesses = [first.clone(), second.clone()];
    let good = Cosigned {
        size,
        witnesses: world
            .bus
            .contract
            .departments
            .iter()
            .map(|department| department.id.clone())
            .filter(|id| witnesses.contains(id))
            .collect(),
    };
    assert_eq!(audited(size), (vec![], Some(good.clone())));
    assert_eq!(audited(size + 9).1, Some(good));

    let codes = |text: &str, size: u64| -> Vec<(&'static str, String)> {
        fs::write(&path, text).unwrap();
        let (faults, _) = audited(size);
        faults
            .into_iter()
            .map(|fault| (fault.code, fault.place))
            .collect()
    };
    let code = |text: &str, size: u64| codes(text, size).first().map(|(code, _)| *code);
    let wrong = "LEDGER_COSIGNATURE_WRONG";
    let differs = Some("LEDGER_COSIGNED_DIFFERS");
    // The log is shorter now than what was cosigned, or has another history.
    assert_eq!(code(&genuine, size - 1), differs);
    let forked = world.note_of(&origin, size, [9; 32]);
    let lines = |note: &str| -> String {
        let (_, lines) = note.split_once("\n\n").unwrap();
        let of = lines.lines().filter(|line| line.contains("/witness/"));
        of.map(|line| format!("{line}\n")).collect()
    };
    assert_eq!(code(&format!("{forked}{}", lines(&genuine)), size), differs);
    let elsewhere = world.note_of("other/audit/0/2026", size, world.log.root());
    assert_eq!(code(&elsewhere, size), differs);
    for malformed in ["", "no note", &genuine[..40]] {
        assert_eq!(code(malformed, size), differs, "{malformed:?}");
    }
    // Without the ledger's own signature.
    let (text, all) = genuine.split_once("\n\n").unwrap();
    let unsigned = format!("{text}\n\n{}", lines(&genuine));
    assert!(all.len() > lines(&genuine).len());
    assert_eq!(code(&unsigned, size), Some("LEDGER_KEY_UNKNOWN"));
    // Cosignatures that are altered, another's, or nobody's: named with the witness.
    let own = witness_name(&world.bus.contract.bus_id, &first);
    let other = witness_name(&world.bus.contract.bus_id, &second);
    let swapped = genuine
        .replace(&own, "\0")
        .replace(&other, &own)
        .replace('\0', &other);
    assert_eq!(codes(&swapped, size).len(), 2);
    let at = genuine.find(&own).unwrap() + own.len() + 40;
    let mut altered = genuine.clone().into_bytes();
    altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
    let found = codes(&String::from_utf8(altered).unwrap(), size);
    assert_eq!(found, [(wrong, format!("{origin}/{COSIGNED}: {own}"))]);
    // A department's good key under another's name, and beside a good line.
    let public = world.public(&second, KeyUse::Witness);
    let key = VerifierKey::new(&own, KeyKind::Cosignature, &public).unwrap();
    let signer = world.signer(&second, SignerUse::Witness);
    let note = Note::parse(&genuine).unwrap();
    let line = note::cosign_line(&key, note.text(), 1, |message| {
        signer.sign(message).unwrap()
    });
    let stolen = note.append(&line.unwrap()).unwrap().to_string();
    assert_eq!(code(&stolen, size), Some(wrong));
    // Nothing cosigned yet is no fault.
    fs::remove_file(&path).unwrap();
    assert_eq!(audited(size), (vec![], None));
}
