//! A consent as a record in the shape of ISO/IEC TS 27560, and the receipt of it that the person keeps.
//! Neither names the person: the receipt carries a salted hash of the number, which its owner can
//! compute and nobody else can look up.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_journal::canonical::{CanonicalError, canonical};
use mz_seal::{SignError, Signer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::model::Evidence;

/// Value of `schema_version`.
pub const SCHEMA_VERSION: &str = "ISO/IEC TS 27560:2023";
/// Value of a receipt's `format`.
pub const RECEIPT_FORMAT: &str = "mianzheng/consent-receipt/v1";
/// First line of the signed bytes of a receipt.
pub const RECEIPT_CONTEXT: &[u8] = b"mianzheng/consent-receipt/v1\n";

/// Text in both languages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    pub zh: String,
    pub en: String,
}

impl From<&mz_contract::Text> for Text {
    fn from(text: &mz_contract::Text) -> Self {
        Self {
            zh: text.zh.clone(),
            en: text.en.clone(),
        }
    }
}

/// One dataset that a consent covers, and its fields as the agreement delivers them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    pub dataset: String,
    pub title: Text,
    /// The department that issues it.
    pub provider: String,
    pub fields: Vec<String>,
    /// Those of them that are sensitive (PIPL Art. 28) and were consented to separately (Art. 29).
    pub separate: Vec<String>,
}

/// The record that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentRecord {
    pub schema_version: String,
    /// The grant's id.
    pub record_id: String,
    /// The bus's tag of the person, hex: pii_principal_id.
    pub pii_principal_id: String,
    pub jurisdiction: String,
    /// The department that receives.
    pub recipient: String,
    pub recipient_title: Text,
    pub purpose: String,
    pub purpose_title: Text,
    pub lawful_basis: String,
    pub data: Vec<Covered>,
    pub notice_version: u32,
    /// SHA-256 of the notice's text in Chinese, hex: what the person was shown.
    pub notice_digest: String,
    pub given_at: String,
    pub valid_until: String,
    pub withdrawal: Text,
    pub evidence: Evidence,
    pub representation: Option<RepresentationRecord>,
    /// Days for which the recipient may keep what it was sent after the consent has ended.
    pub retention_days: u32,
    /// The contract under which it was given, hex.
    pub contract: String,
}

/// Who acted for the person: by a tag, not by a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepresentationRecord {
    /// `guardian`, `heir` or `agent`.
    pub kind: String,
    /// The bus's tag of the representative, hex.
    pub representative: String,
    pub document: String,
    pub valid_until: String,
}

/// What the person takes home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub format: String,
    pub bus: String,
    /// Hex of 16 random bytes.
    pub salt: String,
    /// SHA-256 of salt ‖ identity number, hex.
    pub person: String,
    pub consent: ConsentRecord,
    pub signature: Option<ReceiptSignature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptSignature {
    pub key_id: String,
    pub suite: String,
    /// Base64.
    pub value: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    #[error("the receipt has no JSON form")]
    Json(#[from] serde_json::Error),
    #[error("the receipt has no canonical form")]
    Canonical(#[from] CanonicalError),
    #[error("receipt signature")]
    Sign(#[from] SignError),
}

/// What is signed: the context line, then the canonical JSON of the receipt without `signature`.
pub fn signed_bytes(mut receipt: Value) -> Result<Vec<u8>, CanonicalError> {
    if let Value::Object(map) = &mut receipt {
        map.remove("signature");
    }
    let mut bytes = RECEIPT_CONTEXT.to_vec();
    bytes.extend(canonical(&receipt)?);
    Ok(bytes)
}

/// The person as the receipt names them.
pub fn person_digest(salt: &[u8; 16], id: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(id);
    hex::encode(hash.finalize())
}

/// Makes and signs a receipt.
pub fn receipt(
    bus: &str,
    salt: [u8; 16],
    id: &str,
    consent: ConsentRecord,
    signer: &dyn Signer,
) -> Result<Receipt, ReceiptError> {
    let mut receipt = Receipt {
        format: RECEIPT_FORMAT.to_owned(),
        bus: bus.to_owned(),
        salt: hex::encode(salt),
        person: person_digest(&salt, id),
        consent,
        signature: None,
    };
    let bytes = signed_bytes(serde_json::to_value(&receipt)?)?;
    receipt.signature = Some(ReceiptSignature {
        key_id: signer.key_id().to_owned(),
        suite: signer.suite().name().to_owned(),
        value: BASE64.encode(signer.sign(&bytes)?),
    });
    Ok(receipt)
}
