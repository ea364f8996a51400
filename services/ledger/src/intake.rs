//! From records of `bus.audit` to entries: each must continue its writer's chain of its lane. What does
//! not is reported in the log itself, before it; what can't be read at all is reported alone.

use std::collections::HashMap;

use mz_journal::{Audit, AuditWriter, CHAIN_START, Chain, ChainBreak, topics};

use crate::batches::Accepted;
use crate::limits::MAX_RECORD_BYTES;
use crate::log::{Break, Entry};

/// Where each writer's records of each lane have got to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chains(HashMap<(AuditWriter, u16), Chain>);

/// What a record becomes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Comes first.
    pub broken: Option<Break>,
    /// The record itself becomes an entry.
    pub kept: bool,
    /// Its time, if it can be read.
    pub at_ms: Option<i64>,
    /// It says that a batch was accepted.
    pub batch: Option<Accepted>,
}

impl Chains {
    pub fn of(chains: &[Chain]) -> Self {
        let known = chains.iter().cloned();
        Self(
            known
                .map(|chain| ((chain.writer(), chain.lane()), chain))
                .collect(),
        )
    }

    /// In a fixed order, so that equal states have equal bytes.
    pub fn all(&self) -> Vec<Chain> {
        let mut all: Vec<Chain> = self.0.values().cloned().collect();
        all.sort_by_key(|chain| (chain.lane(), chain.writer()));
        all
    }

    /// Takes the next record of a lane.
    pub fn take(&mut self, lane: u16, offset: i64, key: &[u8], bytes: &[u8]) -> Taken {
        let named = topics::parse_audit_key(key);
        let readable = Audit::read(bytes)
            .ok()
            .filter(|_| bytes.len() <= MAX_RECORD_BYTES);
        let (Some(audit), Some((writer, ..))) = (readable, named) else {
            let writer = named.map_or("", |(writer, ..)| writer.name());
            return lost("AUDIT_MALFORMED", writer, lane, offset);
        };
        let at_ms = Some(audit.at_ms);
        let batch = Accepted::of(&audit);
        let fresh = || Chain::resume(writer, lane, 0, CHAIN_START);
        let chain = self.0.entry((writer, lane)).or_insert_with(fresh);
        let last = chain.number();
        let fault = match chain.check(key, bytes) {
            Ok(_) => {
                return Taken {
                    broken: None,
                    kept: true,
                    at_ms,
                    batch,
                };
            }
            Err(fault) => fault,
        };
        // What is there is evidence and is kept. The walk goes on from it, so that one strange record makes
        // one break or two and never hides the good ones after it.
        if matches!(
            fault,
            ChainBreak::Gap { .. } | ChainBreak::Link { .. } | ChainBreak::Repeat { .. }
        ) {
            let digest = mz_journal::extend_chain(&audit.prev, bytes);
            *chain = Chain::resume(writer, lane, audit.number, digest);
        }
        Taken {
            broken: Some(Break {
                code: fault.code().to_owned(),
                writer: writer.name().to_owned(),
                lane,
                last,
                found: audit.number,
                offset,
                kept: true,
            }),
            kept: true,
            at_ms,
            batch,
        }
    }
}

fn lost(code: &str, writer: &str, lane: u16, offset: i64) -> Taken {
    Taken {
        broken: Some(Break {
            code: code.to_owned(),
            writer: writer.to_owned(),
            lane,
            last: 0,
            found: 0,
            offset,
            kept: false,
        }),
        kept: false,
        at_ms: None,
        batch: None,
    }
}

/// The entries of a record, one after the other.
pub(crate) fn entries<E>(
    taken: &Taken,
    bytes: &[u8],
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    if let Some(broken) = &taken.broken {
        Entry::Break(broken.clone()).encode(buffer);
        each(buffer)?;
    }
    if taken.kept {
        Entry::Audit(bytes).encode(buffer);
        each(buffer)?;
    }
    Ok(())
}
