//! How a contract version reaches running slots: its files on `bus.contract`, then, in every lane of
//! `bus.grants`, the note that it is in force. The note takes the same way as a grant, so the same
//! barrier tells when it holds.

use crate::Digest;
use crate::codec::{
    Decoder, MAX_BLOB_BYTES, Record, put_bytes, put_count, put_list, put_long, put_text,
};
use crate::malformed::Malformed;

/// Most files of one contract version.
pub const MAX_CONTRACT_FILES: usize = 16_384;

/// In every lane of `bus.grants`, under [`crate::topics::IN_FORCE_KEY`]: decide under this contract from
/// the next transaction on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Rises by one with every version that is put in force; a lower one never follows a higher.
    pub version: u64,
    pub digest: Digest,
    pub at_ms: i64,
}

impl Record for InForce {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/in-force.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        put_count(out, self.version);
        out.extend_from_slice(&self.digest);
        put_long(out, self.at_ms);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let in_force = Self {
            version: from.count("version")?,
            digest: from.fixed("digest")?,
            at_ms: from.long("at_ms")?,
        };
        from.finish()?;
        Ok(in_force)
    }
}

/// The list of one version's files, on `bus.contract` under the digest (32 bytes). Committed in one
/// transaction with the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractVersion {
    pub version: u64,
    pub digest: Digest,
    /// Paths below the contract root, `/` between the parts.
    pub paths: Vec<String>,
    pub at_ms: i64,
}

impl Record for ContractVersion {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/contract-version.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        put_count(out, self.version);
        out.extend_from_slice(&self.digest);
        put_list(out, &self.paths, |out, path| put_text(out, path));
        put_long(out, self.at_ms);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let version = Self {
            version: from.count("version")?,
            digest: from.fixed("digest")?,
            paths: from.list("paths", |from| from.owned_text("paths"))?,
            at_ms: from.long("at_ms")?,
        };
        from.finish()?;
        Ok(version)
    }
}

/// One file of one version, on `bus.contract` under digest ‖ path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractFile {
    pub digest: Digest,
    pub path: String,
    pub bytes: Vec<u8>,
}

impl ContractFile {
    /// The record's key.
    pub fn key(&self) -> Vec<u8> {
        let mut key = self.digest.to_vec();
        key.extend_from_slice(self.path.as_bytes());
        key
    }
}

impl Record for ContractFile {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/contract-file.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.digest);
        put_text(out, &self.path);
        put_bytes(out, &self.bytes);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let file = Self {
            digest: from.fixed("digest")?,
            path: from.owned_text("path")?,
            bytes: from.bytes("bytes", MAX_BLOB_BYTES)?.to_vec(),
        };
        from.finish()?;
        Ok(file)
    }
}
