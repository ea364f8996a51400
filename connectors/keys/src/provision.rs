//! Makes a keys directory: authority, certificates, sealing, approval and tag keys, and the public
//! halves in the installation's contract copy. Idempotent: makes what is missing, never overwrites.

use crate::KeyError;
use crate::authority::Authority;
use crate::layout::{self, BUS, BUS_PRINCIPALS, DEPARTMENT_ROLES, KeysDir};
use crate::public::{KeyUse, PublicKeys};
use crate::secret::{SecretKey, private_dir, write_private_new};
use crate::sign::ensure_signing_key;
use crate::vrf::SubjectVrf;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What provisioning did; paths and ids only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Private files that were made.
    pub made: Vec<PathBuf>,
    /// Number of keys and certificates that were there already.
    pub kept: usize,
    /// Key ids that were newly listed in the contract copy.
    pub listed: Vec<String>,
}

impl Report {
    fn note(&mut self, path: PathBuf, made: bool) {
        if made {
            self.made.push(path);
        } else {
            self.kept += 1;
        }
    }
}

/// Provisions `dir` for the bus and these departments, and lists the public keys below
/// `contract_root` (an installation's copy of the contract).
pub fn provision(
    dir: &Path,
    contract_root: &Path,
    departments: &[impl AsRef<str>],
) -> Result<Report, KeyError> {
    let keys = KeysDir::new(dir);
    let mut report = Report::default();
    for department in departments {
        layout::check_name(department.as_ref())?;
    }
    for private in ["", "ca", "tls", BUS] {
        private_dir(&dir.join(private))?;
    }

    // One at a time: two commands at once must not certify each other's half-made keys.
    let lock = dir.join("provision.lock");
    write_private_new(&lock, b"")?;
    let held = File::open(&lock).map_err(KeyError::io("cannot open", &lock))?;
    held.lock().map_err(KeyError::io("cannot lock", &lock))?;

    let (authority, made) = Authority::ensure(&keys)?;
    report.note(keys.ca_key(), made);
    for principal in BUS_PRINCIPALS {
        let made = authority.ensure_principal(&keys, principal)?;
        report.note(keys.tls_key(principal), made);
    }
    for path in [
        keys.subject_key(),
        keys.pseudonym_key(),
        keys.audit_key(),
        keys.vault_key(),
        keys.placement_key(),
    ] {
        ensure_secret(path, &mut report)?;
    }
    let uses = [
        KeyUse::Seal,
        KeyUse::Consent,
        KeyUse::Evidence,
        KeyUse::Checkpoint,
    ];
    ensure_listed(&keys, contract_root, BUS, &uses, &mut report)?;
    ensure_secret(keys.vrf_key(), &mut report)?;
    let public = SubjectVrf::load(&keys.vrf_key())?.public();
    list(contract_root, BUS, &[(KeyUse::Vrf, public)], &mut report)?;

    for department in departments.iter().map(AsRef::as_ref) {
        private_dir(&dir.join(department))?;
        for role in DEPARTMENT_ROLES {
            let principal = format!("{department}.{role}");
            let made = authority.ensure_principal(&keys, &principal)?;
            report.note(keys.tls_key(&principal), made);
        }
        ensure_secret(keys.record_key(department), &mut report)?;
        let uses = [
            KeyUse::Seal,
            KeyUse::Approval,
            KeyUse::Receipt,
            KeyUse::Witness,
        ];
        ensure_listed(&keys, contract_root, department, &uses, &mut report)?;
    }
    Ok(report)
}

fn ensure_secret(path: PathBuf, report: &mut Report) -> Result<(), KeyError> {
    let made = !path.exists() && SecretKey::generate()?.save_new(&path)?;
    // Also a key that was there must be one that we would accept at start-up.
    SecretKey::load(&path)?;
    report.note(path, made);
    Ok(())
}

fn ensure_listed(
    keys: &KeysDir,
    contract_root: &Path,
    owner: &str,
    uses: &[KeyUse],
    report: &mut Report,
) -> Result<(), KeyError> {
    let mut publics = Vec::new();
    for usage in uses {
        let path = keys.signing_key(owner, *usage);
        let (public, made) = ensure_signing_key(&path)?;
        report.note(path, made);
        publics.push((*usage, public));
    }
    list(contract_root, owner, &publics, report)
}

fn list(
    contract_root: &Path,
    owner: &str,
    publics: &[(KeyUse, [u8; 32])],
    report: &mut Report,
) -> Result<(), KeyError> {
    let file = layout::public_file(contract_root, owner);
    let mut listed = PublicKeys::read(&file)?;
    let mut changed = false;
    for (usage, public) in publics {
        let (id, new) = listed.list(owner, *usage, public);
        if new {
            report.listed.push(id);
            changed = true;
        }
    }
    if changed {
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)
                .map_err(KeyError::io("cannot create directory", parent))?;
        }
        listed.write(&file)?;
    }
    Ok(())
}
