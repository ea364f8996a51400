//! The receipt that a person keeps: the program printed in docs/consent.md, one crypto package from PyPI,
//! nothing of ours on the checking side.

use crate::subscriber::program;
use mz_e2e::people::gives;
use mz_e2e::{Installation, World};
use mz_stack::testing::python;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const RETIREMENT: &str = "union/retirement-help";

struct Checker {
    script: PathBuf,
    keys: PathBuf,
}

impl Checker {
    /// The page's program, and the only file of the contract that it needs.
    fn new(it: &Installation) -> Self {
        let script = it.dir().join("verify_receipt.py");
        std::fs::write(&script, program("docs/consent.md")).unwrap();
        Self {
            script,
            keys: it.contract_root().join("bus.keys.yaml"),
        }
    }

    fn check(&self, receipt: &Path, number: &str) -> (bool, String) {
        use std::io::Write as _;
        let mut child = Command::new(python())
            .arg(&self.script)
            .arg(receipt)
            .arg(&self.keys)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{number}").unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }
}

#[test]
fn a_consent_receipt_verifies_without_our_code() {
    let world = World::start("receipt", 60, 31, false, 1);
    let story = world.city.expected().story;
    let (person, other) = (&story["lapsed"].id, &story["outsider"].id);
    let file = world.it.dir().join("receipt.json");
    let out = file.display().to_string();
    gives(
        &world.it,
        &world.contract,
        RETIREMENT,
        person,
        &["--out", &out],
    );
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(person.as_str()), "a receipt names nobody");

    let checker = Checker::new(&world.it);
    let (valid, said) = checker.check(&file, person);
    assert!(
        valid && said.starts_with("VALID: union retirement-help"),
        "{said}"
    );
    let (valid, said) = checker.check(&file, "");
    assert!(valid, "{said}");
    let (valid, said) = checker.check(&file, other);
    assert!(!valid && said.contains("another person"), "{said}");

    // Any part of what was signed, changed.
    let altered = world.it.dir().join("altered.json");
    for (from, to) in [
        ("\"retirement-help\"", "\"hardship-aid\""),
        ("\"employerName\"", "\"employerUscc\""),
        ("\"retention_days\": 30", "\"retention_days\": 3000"),
        ("\"union\"", "\"police\""),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        std::fs::write(&altered, changed).unwrap();
        let (valid, said) = checker.check(&altered, person);
        assert!(
            !valid && said.contains("does not cover this content"),
            "{said}"
        );
        let path = altered.display().to_string();
        let ours = ["consent", "verify-receipt", &path, "--id", "-"];
        world.it.run_with(&ours, Some(person), &[4]);
    }
    // The two agree on the good one too.
    let ours = ["consent", "verify-receipt", &out, "--id", "-"];
    world.it.run_with(&ours, Some(person), &[0]);
    world.it.run_with(&ours, Some(other), &[4]);
    world.stop();
}
