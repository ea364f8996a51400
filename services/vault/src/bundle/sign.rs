//! The bus's signature over a bundle.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_seal::{SignError, Signer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::model::{Bundle, SignatureEntry};
use mz_journal::canonical::{CanonicalError, canonical};

/// First line of the signed bytes: no other signature of the system starts so.
pub const CONTEXT: &[u8] = b"mianzheng/bundle/v1\n";

#[derive(Debug, thiserror::Error)]
pub enum BundleSignError {
    #[error("the bundle has no JSON form")]
    Json(#[from] serde_json::Error),
    #[error("the bundle has no canonical form")]
    Canonical(#[from] CanonicalError),
    #[error("bundle signature")]
    Sign(#[from] SignError),
}

/// What is signed: the context line, then the canonical JSON of the bundle without `signature`.
pub fn signed_bytes(mut bundle: Value) -> Result<Vec<u8>, CanonicalError> {
    if let Value::Object(map) = &mut bundle {
        map.remove("signature");
    }
    let mut bytes = CONTEXT.to_vec();
    bytes.extend(canonical(&bundle)?);
    Ok(bytes)
}

/// SHA-256 of the signed bytes, hex: names the bundle on paper.
pub fn digest_hex(signed: &[u8]) -> String {
    hex(&Sha256::digest(signed))
}

/// Signs `bundle` in place.
pub fn sign(bundle: &mut Bundle, signer: &dyn Signer) -> Result<(), BundleSignError> {
    bundle.signature = None;
    let bytes = signed_bytes(serde_json::to_value(&*bundle)?)?;
    bundle.signature = Some(SignatureEntry {
        key_id: signer.key_id().to_owned(),
        suite: signer.suite().name().to_owned(),
        digest: digest_hex(&bytes),
        value: BASE64.encode(signer.sign(&bytes)?),
    });
    Ok(())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
