//! Signers by key URI. Everything that signs goes through [`mz_seal::Signer`]; which module holds
//! the key is the URI's business (`file:` now; `pkcs11:` and `sdf:` name certified modules that
//! this build can't open and says so).

use crate::layout::KeysDir;
use crate::public::{KeyUse, PublicKeys};
use crate::secret::{fill_random, read_private, write_private_new};
use crate::{KeyError, layout};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signer as _, SigningKey};
use mz_seal::{SignError, Signer, Suite};
use std::path::Path;
use zeroize::Zeroizing;

/// An Ed25519 key in a PKCS#8 PEM file, held in memory and wiped when dropped.
struct FileSigner {
    key_id: String,
    key: SigningKey,
}

impl Signer for FileSigner {
    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn suite(&self) -> Suite {
        Suite::Ed25519Sha256
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.key.sign(message).to_bytes())
    }
}

/// Opens the signer behind a key URI under the name `key_id`. It is the caller who knows that
/// `key_id` names this key; [`department_signer`] looks it up instead.
pub fn signer(uri: &str, key_id: &str) -> Result<Box<dyn Signer>, KeyError> {
    let (scheme, rest) = uri.split_once(':').ok_or(KeyError::UriMalformed)?;
    match scheme {
        "file" => {
            // RFC 8089 also allows file:///path; a relative path is ours alone.
            let path = Path::new(rest.strip_prefix("//").unwrap_or(rest));
            if rest.is_empty() {
                return Err(KeyError::UriMalformed);
            }
            Ok(Box::new(FileSigner {
                key_id: key_id.to_owned(),
                key: load_signing_key(path)?,
            }))
        }
        other => Err(KeyError::SchemeUnsupported {
            scheme: other.chars().take(16).collect(),
        }),
    }
}

/// The signer of a department (or of the bus) as provisioned: the key on disk under the id that
/// the contract publishes for its public half. Refuses a key that is unlisted or revoked.
pub fn department_signer(
    keys: &KeysDir,
    contract_root: &Path,
    owner: &str,
    usage: KeyUse,
) -> Result<Box<dyn Signer>, KeyError> {
    let path = keys.signing_key(owner, usage);
    let key = load_signing_key(&path)?;
    let public_file = layout::public_file(contract_root, owner);
    let listed = PublicKeys::read(&public_file)?;
    let entry = listed
        .find_public(usage, key.verifying_key().as_bytes())
        .ok_or_else(|| KeyError::Unlisted {
            department: owner.to_owned(),
            usage: usage.as_str(),
            path: public_file,
        })?;
    if entry.is_revoked() {
        return Err(KeyError::Revoked {
            key_id: entry.id.clone(),
        });
    }
    Ok(Box::new(FileSigner {
        key_id: entry.id.clone(),
        key,
    }))
}

/// Makes an Ed25519 key file unless one exists; answers its public half either way, and whether
/// it was made.
pub(crate) fn ensure_signing_key(path: &Path) -> Result<([u8; 32], bool), KeyError> {
    let mut made = false;
    if !path.exists() {
        let mut secret = Zeroizing::new([0; 32]);
        fill_random(secret.as_mut())?;
        let key = SigningKey::from_bytes(&secret);
        let pem = key
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| KeyError::Malformed {
                path: path.to_owned(),
                reason: "the new key could not be encoded",
            })?;
        made = write_private_new(path, pem.as_bytes())?;
    }
    Ok((load_signing_key(path)?.verifying_key().to_bytes(), made))
}

fn load_signing_key(path: &Path) -> Result<SigningKey, KeyError> {
    let pem = read_private(path)?;
    SigningKey::from_pkcs8_pem(&pem).map_err(|_| KeyError::Malformed {
        path: path.to_owned(),
        reason: "expected an Ed25519 private key in PKCS#8 PEM",
    })
}
