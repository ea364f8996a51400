//! The audit chain: each writer numbers its records of a lane from 1 and hashes each onto the one
//! before, so that dropping, adding, changing or swapping records before they are logged shows.

use crate::Digest;
use crate::audit::{Audit, AuditWriter};
use crate::malformed::Malformed;
use sha2::{Digest as _, Sha256};

/// First byte of what a chain link hashes; used for nothing else in the bus.
pub const CHAIN_PREFIX: u8 = 0x20;

/// The chain before a writer's first record of a lane.
pub const CHAIN_START: Digest = [0; 32];

/// The chain after `record` (its encoded bytes): SHA-256(0x20 ‖ before ‖ record).
pub fn extend(before: &Digest, record: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update([CHAIN_PREFIX]);
    hash.update(before);
    hash.update(record);
    hash.finalize().into()
}

/// Where and how a lane's log does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreak {
    #[error("lane {lane}: after record {expected_before} comes {found}: records are missing")]
    Gap {
        lane: u16,
        expected_before: u64,
        found: u64,
    },
    #[error("lane {lane}: record {found} comes again, after {last}")]
    Repeat { lane: u16, last: u64, found: u64 },
    #[error("lane {lane}: record {number} does not continue the record before it")]
    Link { lane: u16, number: u64 },
    #[error("a record of lane {found} in lane {lane}")]
    Lane { lane: u16, found: u16 },
    #[error("lane {lane}: record {number} is another writer's")]
    Writer { lane: u16, number: u64 },
    #[error("lane {lane}: record after {last} can't be read")]
    Malformed {
        lane: u16,
        last: u64,
        source: Malformed,
    },
    #[error("lane {lane}: the key of record {number} names another record")]
    Key { lane: u16, number: u64 },
}

impl ChainBreak {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Gap { .. } => "AUDIT_GAP",
            Self::Repeat { .. } => "AUDIT_REPEAT",
            Self::Link { .. } => "AUDIT_LINK_BROKEN",
            Self::Lane { .. } => "AUDIT_LANE_FOREIGN",
            Self::Writer { .. } => "AUDIT_WRITER_FOREIGN",
            Self::Malformed { .. } => "AUDIT_MALFORMED",
            Self::Key { .. } => "AUDIT_KEY_CONTRADICTS",
        }
    }
}

/// Walks one writer's records of one lane from a known point and checks that every record continues it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    writer: AuditWriter,
    lane: u16,
    number: u64,
    digest: Digest,
}

impl Chain {
    /// From the writer's first record of the lane.
    pub const fn new(writer: AuditWriter, lane: u16) -> Self {
        Self::resume(writer, lane, 0, CHAIN_START)
    }

    /// From after record `number`, with the chain's value there.
    pub const fn resume(writer: AuditWriter, lane: u16, number: u64, digest: Digest) -> Self {
        Self {
            writer,
            lane,
            number,
            digest,
        }
    }

    pub const fn writer(&self) -> AuditWriter {
        self.writer
    }

    pub const fn lane(&self) -> u16 {
        self.lane
    }

    /// Number of the last record; 0 before the first.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The chain after the last record.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Numbers and links `audit`, appends its bytes to `out` and moves on.
    pub fn append(&mut self, audit: &mut Audit<'_>, out: &mut Vec<u8>) {
        audit.writer = self.writer;
        audit.lane = self.lane;
        audit.number = self.number + 1;
        audit.prev = self.digest;
        let start = out.len();
        audit.encode_into(out);
        self.digest = extend(&self.digest, &out[start..]);
        self.number = audit.number;
    }

    /// Checks the writer's next record of the lane. After a break the walk stays where it was.
    pub fn check<'a>(&mut self, key: &[u8], bytes: &'a [u8]) -> Result<Audit<'a>, ChainBreak> {
        let lane = self.lane;
        let audit = Audit::read(bytes).map_err(|source| ChainBreak::Malformed {
            lane,
            last: self.number,
            source,
        })?;
        let found = audit.number;
        if audit.lane != lane {
            return Err(ChainBreak::Lane {
                lane,
                found: audit.lane,
            });
        }
        if audit.writer != self.writer {
            return Err(ChainBreak::Writer {
                lane,
                number: found,
            });
        }
        if key != crate::topics::audit_key(self.writer, lane, found) {
            return Err(ChainBreak::Key {
                lane,
                number: found,
            });
        }
        if found <= self.number {
            return Err(ChainBreak::Repeat {
                lane,
                last: self.number,
                found,
            });
        }
        if found != self.number + 1 {
            return Err(ChainBreak::Gap {
                lane,
                expected_before: self.number,
                found,
            });
        }
        if audit.prev != self.digest {
            return Err(ChainBreak::Link {
                lane,
                number: found,
            });
        }
        self.digest = extend(&self.digest, bytes);
        self.number = found;
        Ok(audit)
    }
}
