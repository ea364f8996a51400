//! Holds what witnesses cosigned against the log as it lies there: a log that was set back, or told anew,
//! since they saw it, and cosignatures that nobody gave.

use std::collections::BTreeSet;

use mz_contract::Contract;
use mz_seal::KeyStatus;
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::merkle;
use mz_tlog::note::{KeyKind, Note, VerifierKey};

use crate::absence::{self, STATEMENT, filed};
use crate::check::Fault;
use crate::log::{Disk, Stored};
use crate::quorum::COSIGNED;
use crate::sign::{checkpoint_keys, is_signed, verifier_key};
use crate::witness::witness_name;

const DIFFERS: &str = "LEDGER_COSIGNED_DIFFERS";
const WRONG: &str = "LEDGER_COSIGNATURE_WRONG";

/// The newest checkpoint that witnesses cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    pub size: u64,
    /// Departments whose active key cosigned it, in order.
    pub witnesses: Vec<String>,
}

/// Checks `checkpoint.cosigned` and the cosigned statements of closed ranges of a log of `size` entries, whose
/// tiles were checked before. A log that nobody has cosigned yet has none.
pub fn check_cosigned(
    disk: &impl Disk,
    origin: &str,
    size: u64,
    contract: &Contract,
) -> (Vec<Fault>, Option<Cosigned>) {
    let mut faults = Vec::new();
    let found = match disk.read(COSIGNED) {
        Ok(None) => None,
        Ok(Some(bytes)) => {
            let place = format!("{origin}/{COSIGNED}");
            head(disk, origin, size, contract, &bytes, &place, &mut faults)
        }
        Err(_) => {
            let place = format!("{origin}/{COSIGNED}");
            faults.push(Fault {
                code: DIFFERS,
                place,
            });
            None
        }
    };
    for number in 0.. {
        // Whether statements say what the log says, and their cosigned copies the same, is checked with them.
        if !matches!(filed::read(disk, origin, number, STATEMENT), Ok(Some(_))) {
            break;
        }
        if let Ok(Some((note, _))) = filed::read(disk, origin, number, absence::COSIGNED) {
            let place = format!("{origin}/absence/{number}");
            cosigners(&note, origin, contract, &place, &mut faults);
        }
    }
    (faults, found)
}

fn head(
    disk: &impl Disk,
    origin: &str,
    size: u64,
    contract: &Contract,
    bytes: &[u8],
    place: &str,
    faults: &mut Vec<Fault>,
) -> Option<Cosigned> {
    let mut fault = |code| {
        let place = place.to_owned();
        faults.push(Fault { code, place });
    };
    let Ok(note) = Note::parse(bytes) else {
        fault(DIFFERS);
        return None;
    };
    let said = Checkpoint::parse(note.text()).ok();
    let Some(said) = said.filter(|said| said.origin == origin && said.size <= size) else {
        fault(DIFFERS);
        return None;
    };
    let now = merkle::root(said.size, &Stored::new(disk, size).hashes());
    if !now.is_ok_and(|now| now == said.root) {
        fault(DIFFERS);
    }
    if !is_signed(&note, origin, checkpoint_keys(contract)) {
        fault("LEDGER_KEY_UNKNOWN");
    }
    Some(Cosigned {
        size: said.size,
        witnesses: cosigners(&note, origin, contract, place, faults),
    })
}

/// Who cosigned a note. Every line must be the log's own or good under a key that some department has, or
/// had: what a revoked key signed counts for nothing, but accuses nobody.
fn cosigners(
    note: &Note,
    origin: &str,
    contract: &Contract,
    place: &str,
    faults: &mut Vec<Fault>,
) -> Vec<String> {
    let (mut good, mut witnesses) = (BTreeSet::new(), Vec::new());
    for public in checkpoint_keys(contract) {
        let key = verifier_key(origin, public);
        good.extend(key.iter().flat_map(|key| note.lines_by(key)));
    }
    for department in &contract.departments {
        let name = witness_name(&contract.bus_id, &department.id);
        let mut active = false;
        for key in contract.keys_of(&department.id) {
            if key.usage != mz_contract::KeyUse::Witness {
                continue;
            }
            let verifier = VerifierKey::new(&name, KeyKind::Cosignature, &key.info.public);
            let Ok(verifier) = verifier else { continue };
            if note.verify(&verifier).is_ok() {
                good.extend(note.lines_by(&verifier));
                active |= key.info.status == KeyStatus::Active;
            }
        }
        if active {
            witnesses.push(department.id.clone());
        }
    }
    for line in note.lines().filter(|line| !good.contains(line)) {
        // The name alone: it is what an auditor asks about.
        let name = line.split(' ').nth(1).unwrap_or_default();
        faults.push(Fault {
            code: WRONG,
            place: format!("{place}: {name}"),
        });
    }
    witnesses
}
