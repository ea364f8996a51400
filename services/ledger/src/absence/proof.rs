//! A proof of absence as a file. It does not name the person: whoever verifies it knows whom it is about.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_keys::vrf::PROOF_LEN;
use mz_tlog::merkle::Hash;
use mz_tlog::note::Note;

use super::leaf::Leaf;
use super::statement::Statement;
use crate::limits::{MAX_ABSENCE_BYTES, MAX_RANGES_SHOWN};

/// First line of the file.
pub const HEADER: &str = "mianzheng/absence@v1";
/// Hashes of a path in the largest tree.
const MAX_PATH: usize = 63;

/// A leaf where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub index: u64,
    pub leaf: Leaf,
    pub path: Vec<Hash>,
}

/// A range, and in it the person's leaf or the neighbours between which it would stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub note: Note,
    pub statement: Statement,
    pub leaves: Vec<Placed>,
}

/// What a department read about a person from `from_ms` until before `to_ms`, milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub department: String,
    pub from_ms: i64,
    pub to_ms: i64,
    /// Proves the person's label.
    pub vrf: [u8; PROOF_LEN],
    /// Shard by shard, each as its log went on.
    pub ranges: Vec<Shown>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {0}")]
pub struct ProofError(pub usize);

impl Proof {
    pub fn encode(&self) -> String {
        let (from, to, vrf) = (self.from_ms, self.to_ms, BASE64.encode(self.vrf));
        let mut text = format!("{HEADER}\n{}\n{from}\n{to}\n{vrf}\n", self.department);
        for shown in &self.ranges {
            text.push_str(&format!("note {}\n", BASE64.encode(shown.note.to_string())));
            for placed in &shown.leaves {
                let leaf = BASE64.encode(placed.leaf.encode());
                text.push_str(&format!("leaf {} {leaf}", placed.index));
                for hash in &placed.path {
                    text.push(' ');
                    text.push_str(&BASE64.encode(hash));
                }
                text.push('\n');
            }
        }
        text
    }

    /// Reads exactly what [`Proof::encode`] writes.
    ///
    /// # Errors
    /// The line that is not as it must be.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        if text.len() > MAX_ABSENCE_BYTES {
            return Err(ProofError(0));
        }
        let mut lines = (1..).zip(text.strip_suffix('\n').ok_or(ProofError(0))?.split('\n'));
        let mut next = || lines.next().ok_or(ProofError(0));
        let (at, first) = next()?;
        if first != HEADER {
            return Err(ProofError(at));
        }
        let (_, department) = next()?;
        let mut number = || {
            let (at, line) = next()?;
            let value: i64 = line.parse().map_err(|_| ProofError(at))?;
            Ok(value)
        };
        let (from_ms, to_ms) = (number()?, number()?);
        let (at, vrf) = next()?;
        let vrf = BASE64.decode(vrf).ok();
        let vrf = vrf.and_then(|bytes| bytes.try_into().ok());
        let mut proof = Self {
            department: department.to_owned(),
            from_ms,
            to_ms,
            vrf: vrf.ok_or(ProofError(at))?,
            ranges: Vec::new(),
        };
        for (at, line) in lines {
            proof.line(line).ok_or(ProofError(at))?;
        }
        // One spelling.
        match proof.encode() == text {
            true => Ok(proof),
            false => Err(ProofError(0)),
        }
    }

    fn line(&mut self, line: &str) -> Option<()> {
        if let Some(note) = line.strip_prefix("note ") {
            let note = Note::parse(BASE64.decode(note).ok()?).ok()?;
            let statement = Statement::parse(note.text())?;
            if self.ranges.len() == MAX_RANGES_SHOWN {
                return None;
            }
            self.ranges.push(Shown {
                note,
                statement,
                leaves: Vec::new(),
            });
            return Some(());
        }
        let mut parts = line.strip_prefix("leaf ")?.split(' ');
        let index = parts.next()?.parse().ok()?;
        let leaf: [u8; Leaf::BYTES] = BASE64.decode(parts.next()?).ok()?.try_into().ok()?;
        let mut path = Vec::new();
        for hash in parts {
            if path.len() == MAX_PATH {
                return None;
            }
            path.push(BASE64.decode(hash).ok()?.try_into().ok()?);
        }
        let shown = self.ranges.last_mut()?;
        if shown.leaves.len() == 2 {
            return None;
        }
        shown.leaves.push(Placed {
            index,
            leaf: Leaf::decode(&leaf),
            path,
        });
        Some(())
    }
}
