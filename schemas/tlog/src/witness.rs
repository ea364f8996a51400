//! What a log sends to a witness and what it answers, without the HTTP
//! (<https://c2sp.org/tlog-witness>, `add-checkpoint`).
//!
//! A witness answers 200 with signature lines, which [`Note::append`] takes, or 409 with
//! its own size, as [`SIZE_TYPE`].

use crate::merkle::Hash;
use crate::note::{MAX_NOTE_BYTES, Note, NoteError};
use crate::proof::hash_lines;
use crate::text::{decimal, to_base64};

/// Media type of the answer to a wrong old size.
pub const SIZE_TYPE: &str = "text/x.tlog.size";

/// Old size, 63 hashes, checkpoint; rounded up.
const MAX_REQUEST_BYTES: usize = MAX_NOTE_BYTES + 4096;

/// The body of `add-checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the witness saw last; 0 at first.
    pub old: u64,
    /// Consistency from the old size to the checkpoint's; empty if `old` is 0.
    pub proof: Vec<Hash>,
    /// The signed note, verbatim.
    pub checkpoint: String,
}

/// Why a body is no request or no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    #[error("a request has at most {MAX_REQUEST_BYTES} bytes")]
    TooLong,
    #[error("not UTF-8, or not of the form: old size, hashes, blank line, checkpoint")]
    Form,
    #[error("a size is not a decimal number")]
    Size,
    #[error("a hash is not the base64 of 32 bytes, or there are more than 63")]
    Hash,
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
}

impl AddCheckpoint {
    pub fn encode(&self) -> String {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            text.push_str(&to_base64(hash));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads exactly what `encode` writes. Nothing is verified.
    pub fn parse(body: impl AsRef<[u8]>) -> Result<Self, WitnessError> {
        let body = body.as_ref();
        if body.len() > MAX_REQUEST_BYTES {
            return Err(WitnessError::TooLong);
        }
        let body = std::str::from_utf8(body).map_err(|_| WitnessError::Form)?;
        let (head, checkpoint) = body.split_once("\n\n").ok_or(WitnessError::Form)?;
        let mut lines = head.split('\n');
        let old = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .ok_or(WitnessError::Form)?;
        let old = decimal(old).ok_or(WitnessError::Size)?;
        let proof = hash_lines(lines).ok_or(WitnessError::Hash)?;
        Note::parse(checkpoint)?;
        Ok(Self {
            old,
            proof,
            checkpoint: checkpoint.to_owned(),
        })
    }
}

/// The answer to a wrong old size: the size that the witness has.
pub fn size_line(size: u64) -> String {
    format!("{size}\n")
}

/// Reads [`size_line`].
pub fn parse_size_line(body: &str) -> Result<u64, WitnessError> {
    body.strip_suffix('\n')
        .and_then(decimal)
        .ok_or(WitnessError::Size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::testing::{Key, log};

    /// The example of the specification.
    const EXAMPLE: &str = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\n\
        example.com/behind-the-sofa\n20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";

    #[test]
    fn the_published_example() {
        let request = AddCheckpoint::parse(EXAMPLE).unwrap();
        assert_eq!((request.old, request.proof.len()), (20_852_014, 4));
        let note = Note::parse(&request.checkpoint).unwrap();
        assert_eq!(Checkpoint::parse(note.text()).unwrap().size, 20_852_163);
        assert_eq!(request.encode(), EXAMPLE);
    }

    #[test]
    fn hostile_bodies_are_refused() {
        use WitnessError::*;
        let with = |from: &str, to: &str| AddCheckpoint::parse(EXAMPLE.replacen(from, to, 1));
        assert_eq!(with("old ", "new "), Err(Form));
        assert_eq!(with("old ", "old 0"), Err(Size));
        assert_eq!(with("old 20852014", "old"), Err(Form));
        assert_eq!(with("PlRN", "PlR"), Err(Hash));
        let line = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
        assert!(with("PlRN", &(line.repeat(59) + "PlRN")).is_ok());
        assert_eq!(with("PlRN", &(line.repeat(60) + "PlRN")), Err(Hash));
        assert!(matches!(
            AddCheckpoint::parse(EXAMPLE.trim_end()),
            Err(Checkpoint(_))
        ));
        assert_eq!(AddCheckpoint::parse(""), Err(Form));
        assert_eq!(
            AddCheckpoint::parse(vec![0; MAX_REQUEST_BYTES + 1]),
            Err(TooLong)
        );
        assert_eq!(parse_size_line(&size_line(7)), Ok(7));
        for body in ["", "7", "7\n\n", "07\n", "-1\n", "7\r\n"] {
            assert_eq!(parse_size_line(body), Err(Size), "{body:?}");
        }
    }

    #[test]
    fn an_answer_is_appended() {
        let (_, text) = log("log", 4);
        let (key, witness) = (Key::log("log"), Key::witness("w"));
        let note = Note::assemble(&text, [key.sign(&text)]).unwrap();
        let noted = note
            .append(&(Key::witness("x").cosign(&text, 1) + &witness.cosign(&text, 2)))
            .unwrap();
        assert_eq!(noted.verify(&witness.public).unwrap().timestamp, Some(2));
        for body in ["", "no", "\n", "409\n"] {
            assert!(note.append(body).is_err() || body.is_empty(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, text: String) {
            let _ = AddCheckpoint::parse(&bytes);
            let _ = AddCheckpoint::parse([b"old 0\n".as_slice(), &bytes].concat());
            let _ = parse_size_line(&text);
        }
    }
}
