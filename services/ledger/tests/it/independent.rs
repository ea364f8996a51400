//! tests/vectors/verify_proof.py, the verifier that was written from the documents: one process for many files.

mod cosigned;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_stack::testing::python;
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::prove::altered;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The script that a person would call.
pub fn script() -> PathBuf {
    repository().join("tests/vectors/verify_proof.py")
}

/// A file and what it is verified with.
#[derive(Clone)]
pub struct Case {
    pub file: Vec<u8>,
    pub policy: Vec<u8>,
    pub person: String,
    pub labels: Vec<[u8; 32]>,
}

/// One case a line in, one outcome a line out.
const DRIVER: &str = r#"
import base64, json, pathlib, sys
sys.path.insert(0, sys.argv[1])
import tlog, verify_proof
schema = json.loads(verify_proof.SCHEMA.read_text())
for line in sys.stdin:
    case = json.loads(line)
    part = lambda name: base64.b64decode(case[name])
    try:
        policy = tlog.Policy(part("policy"))
    except tlog.PolicyFault as fault:
        print(json.dumps({"verdict": "refused", "code": "POLICY", "why": str(fault)}))
        continue
    labels = [bytes.fromhex(label) for label in case["labels"]]
    print(json.dumps(verify_proof.outcome(part("file"), policy, schema, case["person"], labels)))
"#;

/// What the other verifier says about each case: the facts, or its code.
pub fn theirs(cases: &[Case]) -> Vec<Result<Value, String>> {
    let mut child = Command::new(python())
        .args(["-c", DRIVER])
        .arg(script().parent().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: Vec<String> = cases
        .iter()
        .map(|case| {
            let labels: Vec<String> = case.labels.iter().map(|label| hex(label)).collect();
            json!({
                "file": BASE64.encode(&case.file),
                "policy": BASE64.encode(&case.policy),
                "person": case.person,
                "labels": labels,
            })
            .to_string()
        })
        .collect();
    let feeding = std::thread::spawn(move || {
        for line in lines {
            writeln!(input, "{line}").unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let outcomes: Vec<_> = said
        .lines()
        .map(|line| {
            let said: Value = serde_json::from_str(line).unwrap();
            match said["verdict"].as_str() {
                Some("verified") => Ok(said),
                _ => Err(said["code"].as_str().unwrap().to_owned()),
            }
        })
        .collect();
    assert_eq!(outcomes.len(), cases.len());
    outcomes
}

/// The bytes with one of them altered: half of the time to one of the same kind, so that it still can be read.
pub fn mutated(bytes: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let at = rng.random_range(0..bytes.len());
    let text = std::str::from_utf8(bytes).ok();
    let same_kind = text
        .filter(|_| rng.random())
        .and_then(|text| altered(text, at));
    if let Some(text) = same_kind {
        return text.into_bytes();
    }
    let mut other = bytes.to_vec();
    other[at] ^= rng.random_range(1..=255_u8);
    other
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
