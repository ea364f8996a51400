//! Through a log's new entries: every writer's chain, and the department's own deliveries of a window.

use std::collections::HashMap;

use mz_journal::{Audit, AuditKind, AuditWriter, Chain, Digest, topics};

use crate::log::{Break, Entry, Opened};
use crate::witness::limits::MAX_BREAKS;
use crate::witness::state::Chains;

/// Breaks after which the ledger goes on from the record that it met.
const GOES_ON: [&str; 3] = ["AUDIT_GAP", "AUDIT_LINK_BROKEN", "AUDIT_REPEAT"];

/// What stands against the log: code and what it is about.
pub(super) type Finding = (&'static str, String);

/// A delivery as the log has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Logged {
    pub agreement: String,
    pub dataset: String,
    pub sequence: u64,
    pub contract: Digest,
}

impl Logged {
    /// A record of a delivery to this department, from the gateway.
    pub fn of(audit: &Audit<'_>, department: &str) -> Option<Self> {
        let kind = matches!(audit.kind, AuditKind::Delivered | AuditKind::Withdrawn);
        let own = audit.writer == AuditWriter::Gateway && audit.consumer == department;
        // The agreement's id says consumer and purpose once more; they must not contradict it.
        let agreement = format!("{}/{}", audit.consumer, audit.purpose);
        (kind && own).then(|| Self {
            agreement: if agreement == audit.agreement {
                agreement
            } else {
                String::new()
            },
            dataset: audit.dataset.clone().into_owned(),
            sequence: audit.output_sequence,
            contract: audit.contract,
        })
    }
}

pub(super) struct Walk<'w> {
    pub department: &'w str,
    /// What the first entry must say.
    pub opened: &'w Opened,
    pub chains: Chains,
    /// Own deliveries of the window by lane and number.
    pub own: HashMap<(u16, u64), Logged>,
    pub breaks: Vec<(u64, Break)>,
    /// All breaks.
    pub broken: u64,
    /// The first one.
    pub finding: Option<Finding>,
    excuse: Option<Break>,
}

impl<'w> Walk<'w> {
    pub fn new(department: &'w str, opened: &'w Opened, chains: Chains) -> Self {
        Self {
            department,
            opened,
            chains,
            own: HashMap::new(),
            breaks: Vec::new(),
            broken: 0,
            finding: None,
            excuse: None,
        }
    }

    pub fn find(&mut self, code: &'static str, what: String) {
        self.finding.get_or_insert((code, what));
    }

    pub fn take(&mut self, index: u64, entry: &[u8]) {
        let excuse = self.excuse.take();
        let place = || format!("entry {index}");
        match Entry::read(entry) {
            Ok(Entry::Opened(opened)) if index == 0 => {
                if opened != *self.opened {
                    let (was, is) = (&self.opened, &opened);
                    let what = format!(
                        "entry 0 follows {:?} of {}, seen was {:?} of {}",
                        is.origin, is.size, was.origin, was.size
                    );
                    self.find("WITNESS_LOG_FORKED", what);
                }
            }
            Ok(Entry::Audit(bytes)) if index > 0 => self.audit(index, bytes, excuse),
            Ok(Entry::Break(broken)) if index > 0 => {
                self.broken += 1;
                if broken.kept {
                    self.excuse = Some(broken.clone());
                }
                if self.breaks.len() < MAX_BREAKS {
                    self.breaks.push((index, broken));
                }
            }
            _ => self.find("WITNESS_ENTRY_MALFORMED", place()),
        }
    }

    fn audit(&mut self, index: u64, bytes: &[u8], excuse: Option<Break>) {
        let Ok(audit) = Audit::read(bytes) else {
            return self.find("WITNESS_ENTRY_MALFORMED", format!("entry {index}"));
        };
        let (writer, lane, number) = (audit.writer, audit.lane, audit.number);
        let chain = || Chain::new(writer, lane);
        match excuse {
            // The ledger itself reported it; it is listed in the outcome.
            Some(broken) => {
                let same = broken.writer == writer.name() && broken.lane == lane;
                if same && GOES_ON.contains(&&*broken.code) {
                    let digest = mz_journal::extend_chain(&audit.prev, bytes);
                    let chain = Chain::resume(writer, lane, number, digest);
                    self.chains.insert((lane, writer), chain);
                }
            }
            None => {
                let key = topics::audit_key(writer, lane, number);
                let chain = self.chains.entry((lane, writer)).or_insert_with(chain);
                if let Err(fault) = chain.check(&key, bytes) {
                    let name = writer.name();
                    let what = format!("entry {index}, {name}-{lane}-{number}: {}", fault.code());
                    return self.find("WITNESS_CHAIN_BROKEN", what);
                }
            }
        }
        if let Some(logged) = Logged::of(&audit, self.department) {
            self.own.insert((lane, number), logged);
        }
    }

    /// Number of the gateway's last record of a lane in the log so far.
    pub fn reached(&self, lane: u16) -> u64 {
        self.chains
            .get(&(lane, AuditWriter::Gateway))
            .map_or(0, Chain::number)
    }
}

#[cfg(test)]
mod tests {
    use mz_journal::AuditCause;

    use super::*;

    fn record(chain: &mut Chain) -> Vec<u8> {
        let (kind, cause) = (AuditKind::Delivered, AuditCause::Stream);
        let mut audit = Audit::empty(AuditWriter::Gateway, 0, 0, kind, cause);
        audit.consumer = "police".into();
        let mut bytes = Vec::new();
        chain.append(&mut audit, &mut bytes);
        bytes
    }

    #[test]
    fn a_break_is_listed_and_excuses_one_record() {
        let opened = Opened::default();
        let entry = |entry: Entry<'_>| {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            bytes
        };
        let mut chain = Chain::new(AuditWriter::Gateway, 2);
        let records: Vec<_> = (0..5).map(|_| record(&mut chain)).collect();
        let broken = Break {
            code: "AUDIT_GAP".to_owned(),
            writer: "gateway".to_owned(),
            lane: 2,
            last: 1,
            found: 3,
            offset: 9,
            kept: true,
        };
        for reported in [true, false] {
            let mut walk = Walk::new("police", &opened, Chains::new());
            walk.take(0, &entry(Entry::Opened(opened.clone())));
            walk.take(1, &entry(Entry::Audit(&records[0])));
            if reported {
                walk.take(2, &entry(Entry::Break(broken.clone())));
            }
            for (index, record) in (3..).zip(&records[2..]) {
                walk.take(index, &entry(Entry::Audit(record)));
            }
            assert_eq!(walk.finding.is_none(), reported, "{:?}", walk.finding);
            if reported {
                assert_eq!((walk.broken, walk.reached(2)), (1, 5));
                assert_eq!(walk.breaks, [(2, broken.clone())]);
                assert_eq!(walk.own.len(), 4);
            }
        }
        // An entry that belongs elsewhere.
        for (index, bytes) in [
            (0, entry(Entry::Audit(&records[0]))),
            (1, entry(Entry::Opened(opened.clone()))),
            (1, vec![9]),
        ] {
            let mut walk = Walk::new("police", &opened, Chains::new());
            walk.take(index, &bytes);
            assert_eq!(walk.finding.unwrap().0, "WITNESS_ENTRY_MALFORMED");
        }
    }
}
