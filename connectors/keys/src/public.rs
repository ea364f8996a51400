//! The public halves, as an installation's contract copy publishes them: `bus.keys.yaml` and
//! `departments/<dept>.keys.yaml`. The contract crate reads the same files when it verifies.

use crate::KeyError;
use crate::secret::replace_public;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// The only suite whose keys this build makes.
pub const SUITE_ED25519: &str = "ed25519-sha256";
/// Of the key that labels people in the ledger: RFC 9381 over ristretto255 (<https://c2sp.org/vrf-r255>).
pub const SUITE_VRF: &str = "vrf-r255";

/// What a key may sign. Kept apart: a stolen sealing key must not approve agreements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyUse {
    /// Seals batches of events (for the bus: marks, answers, bundles).
    Seal,
    /// Approves sections of agreements over the department's data.
    Approval,
    /// Signs receipts of withdrawals, for a consuming department.
    Receipt,
    /// Signs the receipts that citizens keep of their consents, for the bus.
    Consent,
    /// Signs the evidence of a citizen's act in an app, for the bus's portal.
    Evidence,
    /// Signs the ledger's checkpoints, for the bus.
    Checkpoint,
    /// Cosigns checkpoints, for a department's witness.
    Witness,
    /// Labels people in the ledger, for the bus: it proves a label and signs nothing.
    Vrf,
}

impl KeyUse {
    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Approval => "approval",
            Self::Receipt => "receipt",
            Self::Consent => "consent",
            Self::Evidence => "evidence",
            Self::Checkpoint => "checkpoint",
            Self::Witness => "witness",
            Self::Vrf => "vrf",
        }
    }

    /// The suite of the keys that this build makes for it.
    pub const fn suite(self) -> &'static str {
        match self {
            Self::Vrf => SUITE_VRF,
            _ => SUITE_ED25519,
        }
    }
}

/// Whether a key's signatures still count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    Active,
    Revoked(Revocation),
}

/// Up to where a revoked key counts. A date would trust the thief's clock, a batch number doesn't.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// A reason code.
    pub reason: String,
    /// Per stream, the last batch that counts; a stream that is not listed has none.
    pub last_batch: BTreeMap<String, BatchPosition>,
}

/// A batch of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchPosition {
    pub epoch: u32,
    pub batch: u64,
}

/// One public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKey {
    pub id: String,
    #[serde(rename = "use")]
    pub usage: KeyUse,
    pub suite: String,
    /// Base64 of the 32-byte public key.
    pub public: String,
    pub status: KeyStatus,
}

impl PublicKey {
    /// Whether a revocation stands against this key.
    pub fn is_revoked(&self) -> bool {
        matches!(self.status, KeyStatus::Revoked(_))
    }
}

/// The contents of one `*.keys.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeys {
    pub keys: Vec<PublicKey>,
}

impl PublicKeys {
    /// Reads the file; a missing one lists no keys.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(KeyError::io("cannot read", path)(error)),
        };
        serde_saphyr::from_str(&text).map_err(|error| KeyError::PublicFile {
            path: path.to_owned(),
            detail: error.to_string(),
        })
    }

    /// Writes the file as a whole. The text is the same for the same keys.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        replace_public(path, self.to_yaml().as_bytes())
    }

    /// The key of this use with these public bytes.
    pub fn find_public(&self, usage: KeyUse, public: &[u8; 32]) -> Option<&PublicKey> {
        let encoded = BASE64.encode(public);
        self.keys
            .iter()
            .find(|key| key.usage == usage && key.public == encoded)
    }

    /// Lists a key under the next free id of its owner and use, unless it is listed. Answers the id.
    pub fn list(&mut self, owner: &str, usage: KeyUse, public: &[u8; 32]) -> (String, bool) {
        if let Some(known) = self.find_public(usage, public) {
            return (known.id.clone(), false);
        }
        let prefix = format!("{owner}-{}-", usage.as_str());
        let last = self
            .keys
            .iter()
            .filter_map(|key| key.id.strip_prefix(&prefix)?.parse::<u32>().ok())
            .max()
            .unwrap_or(0);
        let id = format!("{prefix}{}", last.saturating_add(1));
        self.keys.push(PublicKey {
            id: id.clone(),
            usage,
            suite: usage.suite().to_owned(),
            public: BASE64.encode(public),
            status: KeyStatus::Active,
        });
        (id, true)
    }

    fn to_yaml(&self) -> String {
        let mut out = String::from(
            "# Public keys, written by `mianzheng keys`. A revoked key stays listed: what it\n\
             # sealed up to its last batch still verifies.\nkeys:\n",
        );
        for key in &self.keys {
            // Writing into a String can't fail.
            let _ = write!(
                out,
                "  - id: {}\n    use: {}\n    suite: {}\n    public: {}\n",
                quoted(&key.id),
                key.usage.as_str(),
                quoted(&key.suite),
                quoted(&key.public)
            );
            match &key.status {
                KeyStatus::Active => out.push_str("    status: active\n"),
                KeyStatus::Revoked(revocation) => {
                    let _ = write!(
                        out,
                        "    status:\n      revoked:\n        reason: {}\n",
                        quoted(&revocation.reason)
                    );
                    if revocation.last_batch.is_empty() {
                        out.push_str("        last_batch: {}\n");
                    } else {
                        out.push_str("        last_batch:\n");
                    }
                    for (stream, last) in &revocation.last_batch {
                        let _ = writeln!(
                            out,
                            "          {}: {{epoch: {}, batch: {}}}",
                            quoted(stream),
                            last.epoch,
                            last.batch
                        );
                    }
                }
            }
        }
        out
    }
}

/// A YAML double-quoted scalar: JSON's escapes are valid there.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
