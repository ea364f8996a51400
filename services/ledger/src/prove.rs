//! Proofs that an audit record is in the log: C2SP tlog-proof files, made from a log's files and verified
//! by anybody who knows the ledger's public key.

use mz_journal::Audit;
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::merkle::{self, leaf_hash};
use mz_tlog::note::Note;
use mz_tlog::proof::Proof;

use crate::find::{AuditId, find};
use crate::log::{CHECKPOINT, Disk, Entry, LogFault, Stored};
use crate::sign::is_signed;

#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    #[error("the log")]
    Log(#[from] LogFault),
    #[error("the log has no checkpoint that can be read")]
    Checkpoint,
    #[error("{0} is not in the log up to its checkpoint")]
    Unknown(AuditId),
    #[error("a proof could not be made from the log's tiles")]
    Tiles,
}

impl ProveError {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Log(fault) => fault.code(),
            Self::Checkpoint => "LEDGER_CHECKPOINT_MALFORMED",
            Self::Unknown(_) => "LEDGER_ENTRY_UNKNOWN",
            Self::Tiles => "LEDGER_TILE_MALFORMED",
        }
    }
}

/// A log's newest checkpoint: as it was signed, and what it says.
pub fn newest(disk: &impl Disk) -> Result<(Note, Checkpoint), ProveError> {
    signed(disk, CHECKPOINT)
}

/// A note of a log: its `checkpoint`, or the one with cosignatures.
fn signed(disk: &impl Disk, name: &str) -> Result<(Note, Checkpoint), ProveError> {
    let bytes = disk.read(name).map_err(LogFault::from)?;
    let note = bytes.and_then(|bytes| Note::parse(bytes).ok());
    let note = note.ok_or(ProveError::Checkpoint)?;
    let said = Checkpoint::parse(note.text()).map_err(|_| ProveError::Checkpoint)?;
    Ok((note, said))
}

/// Proves that a record is in the log: the text of a `.tlog-proof` file. The entry itself is its `extra`
/// line, so that the file can be verified alone.
pub fn prove(disk: &impl Disk, id: AuditId) -> Result<String, ProveError> {
    prove_under(disk, id, CHECKPOINT)
}

/// The same under another note of the log, for instance [`crate::quorum::COSIGNED`].
pub fn prove_under(disk: &impl Disk, id: AuditId, note: &str) -> Result<String, ProveError> {
    let (note, said) = signed(disk, note)?;
    let stored = Stored::new(disk, said.size);
    let index = find(&stored, id)?.ok_or(ProveError::Unknown(id))?;
    let hashes = merkle::inclusion(index, said.size, &stored.hashes());
    let proof = Proof {
        index,
        hashes: hashes.map_err(|_| ProveError::Tiles)?,
        checkpoint: note.to_string(),
        extra: Some(stored.entry(index)?),
    };
    Ok(proof.encode())
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("not a proof: {0}")]
    Malformed(String),
    #[error("the proof has no entry with it")]
    NoEntry,
    #[error("none of the ledger's published keys signed the checkpoint of {0}")]
    Key(String),
    #[error("the entry is not under the checkpoint")]
    Wrong,
}

impl VerifyError {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::NoEntry => "LEDGER_PROOF_MALFORMED",
            Self::Key(_) => "LEDGER_KEY_UNKNOWN",
            Self::Wrong => "LEDGER_PROOF_WRONG",
        }
    }
}

/// What a proof proves.
#[derive(Debug)]
pub struct Proven {
    pub origin: String,
    /// Of the entry in the log.
    pub index: u64,
    /// Entries under the checkpoint.
    pub size: u64,
    pub audit: Audit<'static>,
}

/// Verifies a proof offline: the entry is under the checkpoint, and one of `keys` (the ledger's, as its
/// contract publishes them) signed that.
pub fn verify<'k>(
    text: &str,
    keys: impl IntoIterator<Item = &'k [u8; 32]>,
) -> Result<Proven, VerifyError> {
    let malformed = |error: &dyn std::fmt::Display| VerifyError::Malformed(error.to_string());
    let proof = Proof::parse(text).map_err(|error| malformed(&error))?;
    let entry = proof.extra.as_deref().ok_or(VerifyError::NoEntry)?;
    let note = Note::parse(&proof.checkpoint).map_err(|error| malformed(&error))?;
    let said = Checkpoint::parse(note.text()).map_err(|error| malformed(&error))?;
    if !is_signed(&note, &said.origin, keys) {
        return Err(VerifyError::Key(said.origin));
    }
    let leaf = leaf_hash(entry);
    merkle::verify_inclusion(&leaf, proof.index, said.size, &proof.hashes, &said.root)
        .map_err(|_| VerifyError::Wrong)?;
    let audit = match Entry::read(entry) {
        Ok(Entry::Audit(bytes)) => Audit::read(bytes).ok(),
        _ => None,
    };
    let audit = audit.ok_or_else(|| malformed(&"the entry is no audit record"))?;
    Ok(Proven {
        origin: said.origin,
        index: proof.index,
        size: said.size,
        audit: audit.into_owned(),
    })
}
