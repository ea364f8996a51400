//! What real witnesses cosigned, before a verifier that is not ours: both say the same about the genuine files,
//! about every way to tamper with them, and about bytes altered at random.

mod absence;
mod policy;
mod proof;
mod statement;

use mz_contract::{BUS, KeyUse};
use mz_journal::{bitmap_fields, field_bitmap};
use mz_keys::public::KeyUse as SignerUse;
use mz_ledger::log::Folder;
use mz_ledger::prove::{prove_under, verify};
use mz_ledger::quorum::COSIGNED;
use mz_seal::timestamp_text;
use mz_tlog::note::{KeyKind, VerifierKey, cosign_line, sign_line};
use mz_tlog::policy::{Policy, PolicyError};
use mz_tlog::proof::{Proof, ProofFault};
use serde_json::{Value, json};

use crate::independent::{Case, hex, theirs};
use crate::witness::world::{LOG, World, taken};

const AUDIT_ID: &str = "gateway-1-20";

/// What both verifiers said about these cases must be the same; answers how many were verified.
fn agree(cases: &[Case], ours: impl Fn(&Case) -> Result<Value, String>) -> usize {
    let mut verified = 0;
    for (at, (case, theirs)) in cases.iter().zip(theirs(cases)).enumerate() {
        let ours = ours(case);
        let shown = String::from_utf8_lossy(&case.file).into_owned();
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => {
                for (name, fact) in ours.as_object().unwrap() {
                    assert_eq!(fact, &theirs[name], "case {at}, {name}: {shown}");
                }
                verified += 1;
            }
            (Err(_), Err(_)) => {}
            _ => panic!("case {at}: ours {ours:?}, theirs {theirs:?}: {shown}"),
        }
    }
    verified
}

fn policy_of(case: &Case) -> Result<Policy, String> {
    Policy::parse(&case.policy).map_err(|_| "POLICY".to_owned())
}

/// As `mianzheng verify x.tlog-proof --policy` does.
fn our_proof(case: &Case, keys: &[[u8; 32]]) -> Result<Value, String> {
    let policy = policy_of(case)?;
    let text = std::str::from_utf8(&case.file).map_err(|_| "LEDGER_PROOF_MALFORMED")?;
    let proven = verify(text, keys).map_err(|error| error.code())?;
    let proof = Proof::parse(text).unwrap();
    let accepted = match proof.verify(proof.extra.as_ref().unwrap(), &policy) {
        Ok(accepted) => accepted,
        // The policy does not list the log.
        Err(ProofFault::Policy(PolicyError::UnknownLog(_))) => {
            return Err("LEDGER_KEY_UNKNOWN".to_owned());
        }
        Err(_) => return Err("LEDGER_QUORUM".to_owned()),
    };
    let audit = &proven.audit;
    let witnesses: serde_json::Map<_, _> = accepted
        .witnesses
        .into_iter()
        .map(|(name, time)| (name, json!(time)))
        .collect();
    Ok(json!({
        "log": proven.origin,
        "entry": proven.index,
        "size": proven.size,
        "audit_id": format!("{}-{}-{}", audit.writer.name(), audit.lane, audit.number),
        "at": timestamp_text(audit.at_ms),
        "kind": audit.kind.name(),
        "cause": audit.cause.name(),
        "agreement": audit.agreement,
        "consumer": audit.consumer,
        "purpose": audit.purpose,
        "dataset": audit.dataset,
        "fields": bitmap_fields(&audit.fields),
        "rule": audit.rule,
        "operator": audit.operator,
        "reason": audit.reason,
        "contract": hex(&audit.contract),
        "event": hex(&audit.event),
        "lane": audit.lane,
        "sequence": audit.output_sequence,
        "witnesses": witnesses,
    }))
}

impl World {
    /// A log that both departments' witnesses cosigned.
    fn cosigned() -> Self {
        let mut world = Self::new();
        let [first, second] = world.departments();
        world.deliver_but(200, |at, audit| {
            audit.fields = field_bitmap(&[0, (at % 11) as u16]).into();
            audit.rule = "BASIS_TASK".into();
            audit.event = [at as u8; 32];
        });
        world.sign();
        let mut quorum = world.quorum();
        for department in [first, second] {
            let mut witness = world.witness(&department);
            assert!(world.step(&mut witness).unwrap().cosigned);
        }
        assert_eq!(taken(&mut quorum, 4).met.len(), 1);
        world
    }

    fn case(&self, file: impl Into<Vec<u8>>) -> Case {
        Case {
            file: file.into(),
            policy: self.policy_text(self.log.origin()).into_bytes(),
            person: String::new(),
            labels: Vec::new(),
        }
    }

    fn checkpoint_keys(&self) -> Vec<[u8; 32]> {
        vec![self.public(BUS, KeyUse::Checkpoint)]
    }

    fn proven(&self) -> String {
        let disk = Folder::new(self.logs().join(LOG));
        prove_under(&disk, AUDIT_ID.parse().unwrap(), COSIGNED).unwrap()
    }

    /// Signature lines over the note's text by a department's witness key: as a cosignature, and plain, under
    /// this name.
    fn lines_by(&self, department: &str, name: &str, text: &str) -> [String; 2] {
        let signer = self.signer(department, SignerUse::Witness);
        let public = self.public(department, KeyUse::Witness);
        let key = |kind| VerifierKey::new(name, kind, &public).unwrap();
        let sign = |message: &[u8]| signer.sign(message).unwrap();
        let cosigned = cosign_line(&key(KeyKind::Cosignature), text, 1_700_000_000, sign);
        let plain = sign_line(&key(KeyKind::Ed25519), text, sign);
        [cosigned.unwrap(), plain.unwrap()]
    }

    /// A department that no policy of the tests lists.
    fn stranger(&self) -> String {
        let listed = self.departments();
        let mut all = self.bus.contract.departments.iter();
        let stranger = all.find(|department| !listed.contains(&department.id));
        stranger.unwrap().id.clone()
    }
}
