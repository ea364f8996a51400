//! What a witness signs: a checkpoint (C2SP tlog-cosignature), and its own statement that every delivery
//! of its department is in the log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_seal::Signer;
use mz_tlog::merkle::Hash;
use mz_tlog::note::{self, KeyKind, Note, NoteError, VerifierKey};

use crate::witness::error::WitnessError;

const COMPLETE_V1: &str = "mianzheng/witness/complete/v1";
/// After a witness's name in the key of its statement.
pub const COMPLETE: &str = "complete";

/// `<bus id>/witness/<department>`: the name of a witness's keys.
pub fn witness_name(bus_id: &str, department: &str) -> String {
    format!("{bus_id}/witness/{department}")
}

/// Key in `bus.cosignatures` of a witness's newest cosignature of a log.
pub fn cosignature_key(origin: &str, witness: &str) -> String {
    format!("{origin}|{witness}")
}

/// Key in `bus.cosignatures` of a witness's newest statement about a log.
pub fn statement_key(origin: &str, witness: &str) -> String {
    format!("{origin}|{witness}|{COMPLETE}")
}

/// "Every delivery that this department holds up to these audit numbers is in the log of this size."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complete {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
    pub department: String,
    /// Lane and number of the gateway's last record in it, ascending.
    pub lanes: Vec<(u16, u64)>,
}

impl Complete {
    pub fn encode(&self) -> String {
        let root = BASE64.encode(self.root);
        let (origin, size, department) = (&self.origin, self.size, &self.department);
        let mut text = format!("{COMPLETE_V1}\n{origin}\n{size}\n{root}\n{department}\n");
        for (lane, number) in &self.lanes {
            text.push_str(&format!("{lane} {number}\n"));
        }
        text
    }

    /// Reads exactly what [`Complete::encode`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next()? != COMPLETE_V1 {
            return None;
        }
        let mut said = Self {
            origin: lines.next()?.to_owned(),
            size: lines.next()?.parse().ok()?,
            root: BASE64.decode(lines.next()?).ok()?.try_into().ok()?,
            department: lines.next()?.to_owned(),
            lanes: Vec::new(),
        };
        for line in lines {
            let (lane, number) = line.split_once(' ')?;
            said.lanes.push((lane.parse().ok()?, number.parse().ok()?));
        }
        let ascending = said.lanes.is_sorted_by(|a, b| a.0 < b.0);
        (ascending && said.encode() == text).then_some(said)
    }
}

/// A witness's own key.
pub(super) struct Cosigner {
    signer: Box<dyn Signer>,
    cosigns: VerifierKey,
    states: VerifierKey,
}

impl Cosigner {
    pub fn new(
        name: &str,
        signer: Box<dyn Signer>,
        public: &[u8; 32],
    ) -> Result<Self, WitnessError> {
        let key = |kind| VerifierKey::new(name, kind, public).map_err(failed);
        Ok(Self {
            signer,
            cosigns: key(KeyKind::Cosignature)?,
            states: key(KeyKind::Ed25519)?,
        })
    }

    /// The note with the witness's line below the log's; `at` in seconds since 1970.
    pub fn cosign(&self, note: &Note, log: &VerifierKey, at: u64) -> Result<String, WitnessError> {
        let mut lines: Vec<String> = note.lines_by(log).collect();
        let line = self.signed(|sign| note::cosign_line(&self.cosigns, note.text(), at, sign))?;
        lines.push(line);
        Ok(Note::assemble(note.text(), lines)
            .map_err(failed)?
            .to_string())
    }

    pub fn state(&self, complete: &Complete) -> Result<String, WitnessError> {
        let text = complete.encode();
        let line = self.signed(|sign| note::sign_line(&self.states, &text, sign))?;
        Ok(Note::assemble(&text, [line]).map_err(failed)?.to_string())
    }

    fn signed(
        &self,
        make: impl FnOnce(&mut dyn FnMut(&[u8]) -> [u8; 64]) -> Result<String, NoteError>,
    ) -> Result<String, WitnessError> {
        let mut fault = None;
        // A signature of zeros does not verify, and what is made is verified.
        let mut sign = |message: &[u8]| {
            self.signer.sign(message).unwrap_or_else(|error| {
                fault = Some(error.to_string());
                [0; 64]
            })
        };
        let made = make(&mut sign);
        match fault {
            Some(fault) => Err(WitnessError::Sign(fault)),
            None => made.map_err(failed),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> WitnessError {
    WitnessError::Sign(error.to_string())
}

#[test]
fn a_statement_has_one_spelling() {
    let said = Complete {
        origin: "dg-bus/audit/0/2026".to_owned(),
        size: 12,
        root: [7; 32],
        department: "police".to_owned(),
        lanes: vec![(0, 3), (2, 9)],
    };
    let text = said.encode();
    assert_eq!(Complete::parse(&text), Some(said));
    for (from, to) in [
        ("0 3", "0 03"),
        ("0 3\n", "2 3\n"),
        ("12", "+12"),
        ("v1", "v2"),
        ("2 9\n", "2 9"),
        ("2 9\n", "2 9\n\n"),
    ] {
        assert_eq!(Complete::parse(&text.replacen(from, to, 1)), None, "{from}");
    }
}
