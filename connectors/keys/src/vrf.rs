//! The label of a person in the ledger, which can be proven: a verifiable random function of the identity
//! number (RFC 9381, ECVRF-RISTRETTO255-SHA512 of <https://c2sp.org/vrf-r255>). Only the bureau can
//! compute it; with its proof anybody can check that a label is this person's, and that there is no other.

use mz_contract::IdNumber;
use sha2::{Digest as _, Sha256, Sha512};
use std::path::Path;
use vrf_r255::{Proof, PublicKey, SecretKey as VrfSecret};

use crate::layout::{self, BUS, KeysDir};
use crate::public::{KeyUse, PublicKeys};
use crate::{KeyError, SecretKey};

/// Length of a label, in bytes: the first half of the function's value.
pub const LABEL_LEN: usize = 32;
/// Length of a proof, in bytes.
pub const PROOF_LEN: usize = 80;

/// A person's label in the ledger.
pub type SubjectLabel = [u8; LABEL_LEN];

/// The bureau's half of the function. Bureau only.
#[derive(Clone)]
pub struct SubjectVrf {
    secret: VrfSecret,
    public: [u8; 32],
}

impl SubjectVrf {
    /// The function of a secret.
    ///
    /// # Errors
    /// A secret that is no key, which no random one is.
    pub fn new(secret: &SecretKey) -> Result<Self, KeyError> {
        let mut scalar = *secret.bytes();
        // Little-endian, below 2^252 and so below the group's order: the one spelling of a scalar.
        scalar[31] &= 0x0f;
        let secret: Option<VrfSecret> = VrfSecret::from_bytes(scalar).into();
        let secret = secret.ok_or(KeyError::NoRandom)?;
        let public = PublicKey::from(secret).to_bytes();
        Ok(Self { secret, public })
    }

    /// Reads the key file; refuses one that others can read.
    ///
    /// # Errors
    /// As [`SecretKey::load`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        Self::new(&SecretKey::load(path)?)
    }

    /// The function whose public key the contract publishes.
    ///
    /// # Errors
    /// A file that can't be read; a key that is not listed, or was revoked.
    pub fn listed(keys: &KeysDir, contract_root: &Path) -> Result<Self, KeyError> {
        let function = Self::load(&keys.vrf_key())?;
        let file = layout::public_file(contract_root, BUS);
        let listed = PublicKeys::read(&file)?;
        match listed.find_public(KeyUse::Vrf, &function.public) {
            None => Err(KeyError::Unlisted {
                department: BUS.to_owned(),
                usage: KeyUse::Vrf.as_str(),
                path: file,
            }),
            Some(entry) if entry.is_revoked() => Err(KeyError::Revoked {
                key_id: entry.id.clone(),
            }),
            Some(_) => Ok(function),
        }
    }

    /// The public key in short, as audit records name it: 16 bytes of its SHA-256.
    pub fn key_tag(&self) -> [u8; 16] {
        key_tag(&self.public)
    }

    /// What the contract publishes.
    pub const fn public(&self) -> [u8; 32] {
        self.public
    }

    /// A person's label.
    pub fn label(&self, id: &IdNumber) -> SubjectLabel {
        label_of(&self.prove(id))
    }

    /// The proof that the label is this person's. With it and the public key a guessed number can be
    /// tried: it is as private as the number.
    pub fn prove(&self, id: &IdNumber) -> [u8; PROOF_LEN] {
        self.secret.prove(id.as_str().as_bytes()).to_bytes()
    }
}

impl std::fmt::Debug for SubjectVrf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SubjectVrf(…)")
    }
}

/// A public key in short: the first 16 bytes of its SHA-256.
pub fn key_tag(public: &[u8; 32]) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(public).into();
    let mut tag = [0; 16];
    tag.copy_from_slice(&digest[..16]);
    tag
}

/// The label in a proof that was just made (RFC 9381 section 5.2; its first 32 bytes are Gamma): nothing is
/// verified.
pub fn label_of(proof: &[u8; PROOF_LEN]) -> SubjectLabel {
    let mut hash = Sha512::new();
    hash.update(b"\xFFc2sp.org/vrf-r255\x03");
    hash.update(&proof[..32]);
    hash.update([0]);
    half(hash.finalize().into())
}

fn half(value: [u8; 64]) -> SubjectLabel {
    let mut label = [0; LABEL_LEN];
    label.copy_from_slice(&value[..LABEL_LEN]);
    label
}

/// The label that `proof` proves to be this person's under the public key; `None` when it proves nothing.
pub fn proven_label(
    public: &[u8; 32],
    id: &IdNumber,
    proof: &[u8; PROOF_LEN],
) -> Option<SubjectLabel> {
    let public = PublicKey::from_bytes(*public)?;
    let proof = Proof::from_bytes(*proof)?;
    let value: Option<[u8; 64]> = public.verify(id.as_str().as_bytes(), &proof).into();
    value.map(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(text: &str) -> IdNumber {
        IdNumber::parse(text).unwrap()
    }

    #[test]
    fn a_label_is_proven_for_one_person_under_one_key() {
        let vrf = SubjectVrf::new(&SecretKey::from_bytes([0xd7; 32])).unwrap();
        let (mine, other) = (person("11010519491231002X"), person("440524188001010014"));
        let proof = vrf.prove(&mine);
        assert_eq!(
            proven_label(&vrf.public(), &mine, &proof),
            Some(vrf.label(&mine))
        );
        assert_ne!(vrf.label(&mine), vrf.label(&other));
        assert_eq!(proven_label(&vrf.public(), &other, &proof), None);
        let stranger = SubjectVrf::new(&SecretKey::from_bytes([0xd8; 32])).unwrap();
        assert_eq!(proven_label(&stranger.public(), &mine, &proof), None);
        for at in 0..PROOF_LEN {
            let mut altered = proof;
            altered[at] ^= 1;
            assert_eq!(
                proven_label(&vrf.public(), &mine, &altered),
                None,
                "byte {at}"
            );
        }
        assert_eq!(format!("{vrf:?}"), "SubjectVrf(…)");
    }

    /// The vector of <https://c2sp.org/vrf-r255>: the value is cut as the crate computes it.
    #[test]
    fn the_published_vector() {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let proof: [u8; PROOF_LEN] = bytes(
            "0a97d961262fb549b4175c5117860f42ae44a123f93c476c439eddd1c0cff9265c805525233e2284dbed45e593b8eea3\
             1d5ca9734d72bcbba9738d5237f955f3b2422351149d1312503b6441a47c940c",
        )
        .try_into()
        .unwrap();
        let value = "dd653f0879b48c3ef69e13551239bec4cbcc1c18fe8894de2e9e1c790e182736";
        assert_eq!(label_of(&proof).to_vec(), bytes(value));
    }
}
