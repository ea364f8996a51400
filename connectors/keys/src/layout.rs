//! Where each key lives below a keys directory, and which principals exist.

use crate::KeyError;
use crate::public::KeyUse;
use std::path::{Path, PathBuf};

/// Principals of the bureau that runs the bus; each gets one TLS certificate.
pub const BUS_PRINCIPALS: [&str; 10] = [
    "bus.broker",
    "bus.admin",
    "bus.gateway",
    "bus.vault",
    "bus.console",
    "bus.consent",
    "bus.ledger",
    "bus.auditor",
    "bus.portal",
    "bus.security",
];
/// Roles of a department; the principal is `<dept>.<role>`.
pub const DEPARTMENT_ROLES: [&str; 4] = ["connector", "adapter", "window", "auditor"];
/// Principals that listen, and so need host names in their certificates.
pub const SERVERS: [&str; 4] = ["bus.broker", "bus.vault", "bus.console", "bus.consent"];
/// The bureau's own folder and key-id prefix.
pub const BUS: &str = "bus";

/// The paths of a keys directory. Knows names only; touches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysDir(PathBuf);

impl KeysDir {
    /// The directory that [`crate::provision()`] fills.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }
    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.0
    }
    /// The CA certificate: the trust anchor of every TLS peer.
    pub fn ca_cert(&self) -> PathBuf {
        self.0.join("ca/ca.crt")
    }
    /// The CA's private key.
    pub fn ca_key(&self) -> PathBuf {
        self.0.join("ca/ca.key")
    }
    /// A principal's certificate chain.
    pub fn tls_cert(&self, principal: &str) -> PathBuf {
        self.0.join("tls").join(format!("{principal}.crt"))
    }
    /// A principal's TLS private key.
    pub fn tls_key(&self, principal: &str) -> PathBuf {
        self.0.join("tls").join(format!("{principal}.key"))
    }
    /// Key and chain in one file, as Kafka's PEM key stores want them.
    pub fn tls_pem(&self, principal: &str) -> PathBuf {
        self.0.join("tls").join(format!("{principal}.pem"))
    }
    /// The signing key of one use (`owner` is a department id or `bus`).
    pub fn signing_key(&self, owner: &str, usage: KeyUse) -> PathBuf {
        self.0.join(owner).join(format!("{}.key", usage.as_str()))
    }
    /// The key that seals events (`owner` is a department id or `bus`).
    pub fn seal_key(&self, owner: &str) -> PathBuf {
        self.signing_key(owner, KeyUse::Seal)
    }
    /// The key with which a department approves agreements over its data.
    pub fn approval_key(&self, department: &str) -> PathBuf {
        self.signing_key(department, KeyUse::Approval)
    }
    /// Wraps the keys under which facts rest in the vault.
    pub fn vault_key(&self) -> PathBuf {
        self.0.join("bus/vault.key")
    }

    /// The next master key, while it takes over.
    pub fn next_vault_key(&self) -> PathBuf {
        self.0.join("bus/vault.key.next")
    }

    /// A master key that was replaced.
    pub fn former_vault_key(&self, key_id: &str) -> PathBuf {
        self.0.join(format!("bus/vault.key.former-{key_id}"))
    }
    /// A department's key for people and records in its own topics.
    pub fn record_key(&self, department: &str) -> PathBuf {
        self.0.join(department).join("record.key")
    }
    /// The bureau's key for people in `bus.*`.
    pub fn subject_key(&self) -> PathBuf {
        self.0.join("bus/subject.key")
    }
    /// Root key of the pseudonyms.
    pub fn pseudonym_key(&self) -> PathBuf {
        self.0.join("bus/pseudonym.key")
    }
    /// The key of the function that labels people in the ledger.
    pub fn vrf_key(&self) -> PathBuf {
        self.signing_key(BUS, KeyUse::Vrf)
    }
    /// The audit log's key.
    pub fn audit_key(&self) -> PathBuf {
        self.0.join("bus/audit.key")
    }
    /// The placement key, shared by all connectors and the gateway.
    pub fn placement_key(&self) -> PathBuf {
        self.0.join("placement.key")
    }
}

/// Where an owner's public keys are published below a contract root.
pub fn public_file(contract_root: &Path, owner: &str) -> PathBuf {
    if owner == BUS {
        contract_root.join("bus.keys.yaml")
    } else {
        contract_root
            .join("departments")
            .join(format!("{owner}.keys.yaml"))
    }
}

/// Names become file names and certificate subjects: lower-case letters, digits, inner hyphens.
pub(crate) fn check_name(name: &str) -> Result<(), KeyError> {
    const MAX_NAME: usize = 40;
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = !name.is_empty()
        && name.len() <= MAX_NAME
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good {
        Ok(())
    } else {
        Err(KeyError::BadName {
            name: name.to_owned(),
        })
    }
}
