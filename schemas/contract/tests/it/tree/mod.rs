//! A copy of the repository's contract that a test may spoil, and signatures for it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "tests; each binary uses its part"
)]

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use mz_contract::{Contract, Mode, approval_payload};

const DATA: [&str; 10] = [
    "installation.yaml",
    "schema-ids.yaml",
    "reasons.yaml",
    "departments",
    "catalogue",
    "agreements",
    "items",
    "calendars",
    "bus",
    "POLICY.md",
];

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub struct Tree(tempfile::TempDir);

impl Tree {
    pub fn copy() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for name in DATA {
            copy(&repository().join(name), &tree.root().join(name));
        }
        tree
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.root().join(file)).unwrap_or_default()
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.root().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Replaces the first occurrence; it must be there.
    pub fn replace(&self, file: &str, from: &str, to: &str) {
        let text = self.read(file);
        assert!(text.contains(from), "{file} does not contain {from:?}");
        self.write(file, &text.replacen(from, to, 1));
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.root().join(file)).unwrap();
    }

    /// The line of the first occurrence, from 1.
    pub fn line(&self, file: &str, needle: &str) -> u32 {
        let text = self.read(file);
        let at = text
            .find(needle)
            .unwrap_or_else(|| panic!("{file} does not contain {needle:?}"));
        u32::try_from(text[..at].lines().count().max(1) + usize::from(text[..at].ends_with('\n')))
            .unwrap()
    }

    /// Publishes made-up keys for every department and signs every section with them.
    pub fn sign(&self) {
        let contract = Contract::load(self.root(), Mode::Draft).unwrap();
        for (index, department) in contract.departments.iter().enumerate() {
            let key = |usage: u8| {
                SigningKey::from_bytes(&[u8::try_from(index).unwrap() * 2 + usage + 1; 32])
            };
            let public = |usage| STANDARD.encode(key(usage).verifying_key().as_bytes());
            let id = &department.id;
            self.write(
                &format!("departments/{id}.keys.yaml"),
                &format!(
                    "keys:\n  - {{id: {id}-seal-1, use: seal, suite: ed25519-sha256, public: \"{}\", status: active}}\n  - {{id: {id}-approval-1, use: approval, suite: ed25519-sha256, public: \"{}\", status: active}}\n",
                    public(0),
                    public(1)
                ),
            );
            for agreement in &contract.agreements {
                let mut file = "approvals:\n".to_owned();
                let mut any = false;
                for section in &agreement.sections {
                    let dataset = &contract.datasets[section.dataset_ix];
                    if dataset.department != *id {
                        continue;
                    }
                    any = true;
                    let key_id = format!("{id}-approval-1");
                    let digest = section.approval.digest;
                    let payload = approval_payload(
                        &contract.bus_id,
                        &agreement.id,
                        id,
                        &dataset.id,
                        &key_id,
                        &digest,
                    );
                    let signature = STANDARD.encode(key(1).sign(&payload).to_bytes());
                    file.push_str(&format!(
                        "  - {{dataset: {}, key: {key_id}, digest: {}, signature: \"{signature}\"}}\n",
                        dataset.id,
                        hex::encode(digest)
                    ));
                }
                if any {
                    self.write(
                        &format!("agreements/{}.approvals/{id}.yaml", agreement.id),
                        &file,
                    );
                }
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else if from.is_file() {
        fs::copy(from, to).unwrap();
    }
}
