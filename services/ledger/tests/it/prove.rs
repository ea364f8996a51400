//! Proofs of single records: made from files, verified with nothing but the ledger's public key.

use ed25519_dalek::{Signer as _, SigningKey};
use mz_journal::AuditWriter;
use mz_ledger::log::{CHECKPOINT, Disk};
use mz_ledger::prove::{ProveError, VerifyError, prove, verify};
use mz_ledger::{AuditId, verifier_key};
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::note::{Note, sign_line};

use crate::log::{ORIGIN, filled};
use crate::power::Memory;

fn public(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

/// A log of this size under a signed checkpoint.
fn signed(size: u64, key: &SigningKey) -> Memory {
    let (log, _) = filled(Memory::default(), size);
    let text = Checkpoint {
        origin: ORIGIN.to_owned(),
        size,
        root: log.root(),
        extensions: Vec::new(),
    }
    .encode()
    .unwrap();
    let named = verifier_key(ORIGIN, &key.verifying_key().to_bytes()).unwrap();
    let line = sign_line(&named, &text, |message| key.sign(message).to_bytes()).unwrap();
    let mut disk = log.disk().clone();
    let note = Note::assemble(&text, [line]).unwrap().to_string();
    disk.replace(CHECKPOINT, note.as_bytes()).unwrap();
    disk
}

#[test]
fn every_record_of_a_log_is_found_and_proven() {
    let key = SigningKey::from_bytes(&[5; 32]);
    let disk = signed(5_000, &key);
    let mut proven = 0;
    for writer in [AuditWriter::Gateway, AuditWriter::Vault] {
        for lane in 0..3 {
            for number in (1..2_000).step_by(61) {
                let id = AuditId {
                    writer,
                    lane,
                    number,
                };
                let text = match prove(&disk, id) {
                    Ok(text) => text,
                    Err(ProveError::Unknown(_)) => continue,
                    Err(error) => panic!("{id}: {error}"),
                };
                let found = verify(&text, [&public(&key)]).unwrap();
                let audit = &found.audit;
                assert_eq!(
                    (audit.writer, audit.lane, audit.number),
                    (writer, lane, number)
                );
                assert_eq!((&*found.origin, found.size), (ORIGIN, 5_000));
                proven += 1;
            }
        }
    }
    assert!(proven > 60, "{proven}");
    let stranger = "console-0-1".parse().unwrap();
    assert!(matches!(
        prove(&disk, stranger),
        Err(ProveError::Unknown(_))
    ));
}

/// The text with another letter of the same kind at a place, so that parsers alone don't refuse it.
pub fn altered(text: &str, at: usize) -> Option<String> {
    let mut other = text.as_bytes().to_vec();
    other[at] = match other[at] {
        b'a'..=b'y' | b'A'..=b'Y' | b'0'..=b'8' => other[at] + 1,
        _ => other[at] ^ 2,
    };
    String::from_utf8(other).ok()
}

#[test]
fn an_altered_proof_proves_nothing() {
    let key = SigningKey::from_bytes(&[5; 32]);
    let text = prove(&signed(700, &key), "gateway-1-20".parse().unwrap()).unwrap();
    assert!(verify(&text, [&public(&key)]).is_ok());
    for at in 0..text.len() {
        let Some(other) = altered(&text, at) else {
            continue;
        };
        assert!(verify(&other, [&public(&key)]).is_err(), "byte {at}");
    }
    let thief = SigningKey::from_bytes(&[6; 32]);
    assert!(matches!(
        verify(&text, [&public(&thief)]),
        Err(VerifyError::Key(_))
    ));
    assert!(matches!(verify(&text, []), Err(VerifyError::Key(_))));
    // Another log's checkpoint, signed by the same key, does not do.
    let other = prove(&signed(701, &key), "gateway-1-20".parse().unwrap()).unwrap();
    let (head, _) = text.split_once("\n\n").unwrap();
    let (_, foreign) = other.split_once("\n\n").unwrap();
    let mixed = format!("{head}\n\n{foreign}");
    assert!(matches!(
        verify(&mixed, [&public(&key)]),
        Err(VerifyError::Wrong)
    ));
}

#[test]
fn audit_ids_have_one_spelling() {
    let id: AuditId = "vault-3-120".parse().unwrap();
    assert_eq!(id.to_string(), "vault-3-120");
    for bad in [
        "vault-3",
        "vault-03-1",
        "vault-3-0",
        "clerk-3-1",
        "vault-3-1-1",
        "vault-+3-1",
        "",
    ] {
        assert!(bad.parse::<AuditId>().is_err(), "{bad}");
    }
}
