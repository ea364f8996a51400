//! Proofs that an entry is in a log, for offline verification
//! (<https://c2sp.org/tlog-proof>).

use crate::merkle::{Hash, VerifyError, leaf_hash, verify_inclusion};
use crate::note::{MAX_NOTE_BYTES, Note, NoteError};
use crate::policy::{Accepted, Policy, PolicyError};
use crate::text::{decimal, from_base64, hash_from_base64, to_base64};

/// A path in a tree below 2^63 leaves has at most this many hashes.
pub const MAX_HASHES: usize = 63;
/// The extra data has at most this many bytes.
pub const MAX_EXTRA_BYTES: usize = 64 * 1024;

/// The first line of every proof.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Header, extra data in base64, index, hashes, checkpoint; rounded up.
const MAX_PROOF_BYTES: usize = 2 * MAX_EXTRA_BYTES + MAX_NOTE_BYTES + 4096;

/// Where an entry is, the path to the root, and the checkpoint with the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// From 0.
    pub index: u64,
    /// Siblings, the leaf's first.
    pub hashes: Vec<Hash>,
    /// The signed note, verbatim.
    pub checkpoint: String,
    /// Not authenticated. Never empty in a proof that was read.
    pub extra: Option<Vec<u8>>,
}

/// Why a text is no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofTextError {
    #[error("a proof has at most {MAX_PROOF_BYTES} bytes")]
    TooLong,
    #[error("not UTF-8, or not of the form of {HEADER}")]
    Form,
    #[error("the extra data is not base64 of 1 to {MAX_EXTRA_BYTES} bytes")]
    Extra,
    #[error("the index is not a decimal number")]
    Index,
    #[error("a hash is not the base64 of 32 bytes, or there are more than {MAX_HASHES}")]
    Hash,
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
}

/// Why a proof does not prove.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
    #[error("inclusion: {0}")]
    Inclusion(#[from] VerifyError),
}

impl Proof {
    pub fn encode(&self) -> String {
        let mut text = format!("{HEADER}\n");
        if let Some(extra) = self.extra.as_ref().filter(|extra| !extra.is_empty()) {
            text.push_str(&format!("extra {}\n", to_base64(extra)));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.hashes {
            text.push_str(&to_base64(hash));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads exactly what `encode` writes. The checkpoint is a note, nothing more is
    /// known of it.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, ProofTextError> {
        let text = text.as_ref();
        if text.len() > MAX_PROOF_BYTES {
            return Err(ProofTextError::TooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| ProofTextError::Form)?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ProofTextError::Form)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(ProofTextError::Form);
        }
        let mut extra = None;
        if let Some(data) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            let data = from_base64(data)
                .filter(|data| (1..=MAX_EXTRA_BYTES).contains(&data.len()))
                .ok_or(ProofTextError::Extra)?;
            extra = Some(data);
            lines.next();
        }
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .ok_or(ProofTextError::Form)?;
        let index = decimal(index).ok_or(ProofTextError::Index)?;
        let hashes = hash_lines(lines).ok_or(ProofTextError::Hash)?;
        Note::parse(checkpoint)?;
        Ok(Self {
            index,
            hashes,
            checkpoint: checkpoint.to_owned(),
            extra,
        })
    }

    /// Whether the entry is in a log that the policy accepts. The extra data does not
    /// matter.
    pub fn verify(&self, entry: &[u8], policy: &Policy) -> Result<Accepted, ProofFault> {
        self.verify_leaf(&leaf_hash(entry), policy)
    }

    /// The same for an entry whose leaf hash is known.
    pub fn verify_leaf(&self, leaf: &Hash, policy: &Policy) -> Result<Accepted, ProofFault> {
        let accepted = policy.check(&Note::parse(&self.checkpoint)?)?;
        let checkpoint = &accepted.checkpoint;
        verify_inclusion(
            leaf,
            self.index,
            checkpoint.size,
            &self.hashes,
            &checkpoint.root,
        )?;
        Ok(accepted)
    }
}

/// At most 63 hashes, one a line.
pub(crate) fn hash_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Vec<Hash>> {
    let mut hashes = Vec::new();
    for line in lines {
        if hashes.len() == MAX_HASHES {
            return None;
        }
        hashes.push(hash_from_base64(line)?);
    }
    Some(hashes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::merkle::inclusion;
    use crate::testing::{Key, log};

    fn policy() -> Policy {
        let (log, witness) = (Key::log("log").public, Key::witness("w").public);
        Policy::parse(format!("log {log}\nwitness w {witness}\nquorum w\n")).unwrap()
    }

    fn proof(index: u64, size: u64) -> Proof {
        let (tree, text) = log("log", size);
        let lines = [
            Key::log("log").sign(&text),
            Key::witness("w").cosign(&text, 9),
        ];
        Proof {
            index,
            hashes: inclusion(index, size, &tree).unwrap(),
            checkpoint: Note::assemble(&text, lines).unwrap().to_string(),
            extra: None,
        }
    }

    #[test]
    fn entries_are_proved() {
        let policy = policy();
        for size in [1, 2, 7, 300] {
            for index in [0, size / 2, size - 1] {
                let proof = proof(index, size);
                let accepted = proof.verify(index.to_string().as_bytes(), &policy).unwrap();
                assert_eq!(accepted.witnesses, [("w".to_owned(), 9)]);
                assert_eq!(accepted.checkpoint.size, size);
                let inclusion = Err(ProofFault::Inclusion(VerifyError::Root));
                assert_eq!(proof.verify(b"else", &policy), inclusion);
            }
        }
        let mut proof = proof(3, 7);
        proof.index = 7;
        assert_eq!(
            proof.verify(b"3", &policy),
            Err(ProofFault::Inclusion(VerifyError::Range))
        );
        proof.index = 3;
        proof.hashes.clear();
        assert_eq!(
            proof.verify(b"3", &policy),
            Err(ProofFault::Inclusion(VerifyError::Length))
        );
    }

    #[test]
    fn the_form() {
        let text = proof(1, 2).encode();
        let hash = to_base64(&leaf_hash(b"0"));
        assert!(text.starts_with(&format!(
            "c2sp.org/tlog-proof@v1\nindex 1\n{hash}\n\nlog\n2\n"
        )));
        assert!(
            proof(0, 1)
                .encode()
                .starts_with("c2sp.org/tlog-proof@v1\nindex 0\n\nlog\n1\n")
        );
        let with = |from: &str, to: &str| Proof::parse(text.replacen(from, to, 1));
        assert!(with("\nindex", "\nextra AAAA\nindex").is_ok());
        use ProofTextError::*;
        assert_eq!(with("@v1", "@v2"), Err(Form));
        assert_eq!(with("c2sp", "\nc2sp"), Err(Form));
        assert_eq!(with("\nindex", "\r\nindex"), Err(Form));
        assert_eq!(with("\nindex", "\nextra \nindex"), Err(Extra));
        assert_eq!(with("\nindex", "\nextra AAA\nindex"), Err(Extra));
        assert_eq!(
            with("\nindex", "\nextra AAAA\nextra AAAA\nindex"),
            Err(Form)
        );
        assert_eq!(with("index 1", "index 01"), Err(Index));
        assert_eq!(with("index 1", "index"), Err(Form));
        assert_eq!(with("index 1", "index 18446744073709551616"), Err(Index));
        assert_eq!(with(&hash, &hash[1..]), Err(Hash));
        assert_eq!(with(&hash, &format!("{hash}\nextra AAAA")), Err(Hash));
        assert_eq!(with(&hash, &vec![hash.as_str(); 64].join("\n")), Err(Hash));
        assert!(with(&hash, &vec![hash.as_str(); 63].join("\n")).is_ok());
        let blank = with("\nlog\n", "\n\nlog\n").unwrap();
        assert!(blank.verify(b"1", &policy()).is_err());
        assert!(matches!(Proof::parse(text.trim_end()), Err(Checkpoint(_))));
        assert_eq!(Proof::parse(vec![b'a'; MAX_PROOF_BYTES + 1]), Err(TooLong));
        assert_eq!(Proof::parse(""), Err(Form));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            index: u64, hashes in prop::collection::vec(any::<Hash>(), 0..=MAX_HASHES),
            extra in prop::option::of(prop::collection::vec(any::<u8>(), 1..100)),
        ) {
            let proof = Proof { index, hashes, extra, ..proof(0, 3) };
            let text = proof.encode();
            let read = Proof::parse(&text).unwrap();
            prop_assert_eq!(read.encode(), text);
            prop_assert_eq!(read, proof);
        }

        #[test]
        fn a_flipped_bit_proves_nothing(size in 1_u64..40, at: prop::sample::Index, bit in 0_u8..8) {
            let proof = proof(size / 2, size);
            let entry = (size / 2).to_string();
            let mut text = proof.encode().into_bytes();
            let at = at.index(text.len());
            text[at] ^= 1 << bit;
            // The name and the id of the cosigner decide whether it counts, so nothing here
            // is without effect.
            if let Ok(changed) = Proof::parse(&text) {
                prop_assert!(changed.verify(entry.as_bytes(), &policy()).is_err());
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = Proof::parse(&bytes);
            let _ = Proof::parse([format!("{HEADER}\n").as_bytes(), &bytes].concat());
        }
    }
}
