//! Approvals over the project's own contract: signed, it loads; touched or signed by the wrong
//! key, it doesn't.

#![cfg(test)]

use mz_contract::{Contract, Mode};
use mz_keys::{KeyError, KeysDir, provision, sign_approvals};
use std::path::{Path, PathBuf};

pub struct Signed {
    _dir: tempfile::TempDir,
    pub keys: KeysDir,
    pub contract: PathBuf,
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let data = [".yaml", ".avsc"]
            .iter()
            .any(|end| name.to_string_lossy().ends_with(end));
        if path.is_dir() && !["contract", "seal"].iter().any(|code| name == *code) {
            copy(&path, &to.join(name));
        } else if path.is_file() && data {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

pub fn signed() -> Signed {
    let dir = tempfile::tempdir().unwrap();
    let contract = dir.path().join("contract");
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas"),
        &contract,
    );
    let keys = KeysDir::new(dir.path().join("keys"));
    let departments = departments(&contract);
    provision(keys.root(), &contract, &departments).unwrap();
    for department in &departments {
        sign_approvals(&contract, department, &keys).unwrap();
    }
    Signed {
        _dir: dir,
        keys,
        contract,
    }
}

fn departments(root: &Path) -> Vec<String> {
    let contract = Contract::load(root, Mode::Draft).unwrap();
    contract
        .departments
        .into_iter()
        .map(|department| department.id)
        .collect()
}

fn codes(root: &Path) -> Vec<&'static str> {
    match Contract::load(root, Mode::Signed) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(|fault| fault.code).collect(),
    }
}

#[test]
fn a_signed_contract_loads_and_signing_again_changes_nothing() {
    let it = signed();
    assert_eq!(codes(&it.contract), Vec::<&str>::new());
    let file = it
        .contract
        .join("agreements/police/talent-settlement.approvals/hrss.yaml");
    let before = std::fs::read(&file).unwrap();
    let again = sign_approvals(&it.contract, "hrss", &it.keys).unwrap();
    assert!(
        again
            .iter()
            .any(|line| line.starts_with("police/talent-settlement hrss."))
    );
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn a_wider_agreement_needs_a_new_approval() {
    let it = signed();
    let agreement = it.contract.join("agreements/police/talent-settlement.yaml");
    let text = std::fs::read_to_string(&agreement).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("valid:"))
        .unwrap();
    let wider = text.replace(line, &line.replace("until: 20", "until: 21"));
    assert_ne!(wider, text);
    std::fs::write(&agreement, wider).unwrap();
    let found = codes(&it.contract);
    assert!(found.contains(&"APPROVAL_STALE"), "{found:?}");
}

#[test]
fn another_departments_key_does_not_count() {
    let it = signed();
    // Police sign in hrss's name with their own key.
    let file = it
        .contract
        .join("agreements/police/talent-settlement.approvals/hrss.yaml");
    let honest = std::fs::read_to_string(&file).unwrap();
    std::fs::copy(it.keys.approval_key("police"), it.keys.approval_key("hrss")).unwrap();
    assert!(matches!(
        sign_approvals(&it.contract, "hrss", &it.keys),
        Err(KeyError::Unlisted { .. })
    ));
    std::fs::write(
        &file,
        honest.replace("hrss-approval-1", "police-approval-1"),
    )
    .unwrap();
    let found = codes(&it.contract);
    assert!(found.contains(&"APPROVAL_KEY_UNKNOWN"), "{found:?}");
}
