//! Roots of batches that the bus accepted. A department numbers the batches of a stream, and signs one root
//! under each number; two roots under one number are its *equivocation*: it told two stories. That is the
//! department's fault and none of the log's, which holds both, each under the department's own signature.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mz_contract::Contract;
use mz_journal::{Audit, AuditKind, AuditWriter};
use mz_seal::{BatchStatement, KeySource as _, verify_signature};
use mz_tlog::merkle::Hash;

use crate::find::AuditId;

/// As `schemas/reasons.yaml` explains it.
pub const EQUIVOCATED: &str = "LEDGER_BATCH_EQUIVOCATED";

/// A batch as an audit record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The record.
    pub id: AuditId,
    pub dataset: String,
    pub stream: String,
    pub epoch: u32,
    /// Of the batch.
    pub number: u64,
    /// Events of the batch.
    pub count: u32,
    pub root: Hash,
    pub key_id: String,
    /// The department's, over all of the above but `id` and `dataset` ([`BatchStatement`]).
    pub signature: [u8; 64],
}

impl Accepted {
    /// `None`: the record says nothing of a batch, or not all that it must.
    pub fn of(audit: &Audit<'_>) -> Option<Self> {
        if audit.kind != AuditKind::BatchAccepted || audit.writer != AuditWriter::Gateway {
            return None;
        }
        let signature = BASE64_STANDARD.decode(&*audit.reason).ok()?;
        let said = [&audit.dataset, &audit.rule, &audit.operator];
        if said.iter().any(|text| text.is_empty()) {
            return None;
        }
        Some(Self {
            id: AuditId {
                writer: audit.writer,
                lane: audit.lane,
                number: audit.number,
            },
            dataset: audit.dataset.clone().into_owned(),
            stream: audit.rule.clone().into_owned(),
            epoch: audit.version_epoch,
            number: audit.version_counter,
            count: audit.counts.matched,
            root: audit.event,
            key_id: audit.operator.clone().into_owned(),
            signature: signature.try_into().ok()?,
        })
    }

    /// Whether the department that the contract names signed this. Without the bus's word for it.
    pub fn is_signed(&self, contract: &Contract) -> bool {
        let Some(dataset) = contract.dataset(&self.dataset) else {
            return false;
        };
        let Some(key) = contract.seal_key(&dataset.department, &self.key_id) else {
            return false;
        };
        let statement = BatchStatement {
            suite: key.suite,
            key_id: &self.key_id,
            department: &dataset.department,
            stream: &self.stream,
            epoch: self.epoch,
            number: self.number,
            count: self.count,
            root: self.root,
        };
        verify_signature(&key.public, &statement.payload(), &self.signature).is_ok()
    }
}

/// Two roots under one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equivocation {
    pub first: Accepted,
    pub second: Accepted,
}

impl Equivocation {
    /// Both carry the department's signature: evidence against the department, whoever the bus is.
    pub fn is_proven(&self, contract: &Contract) -> bool {
        self.first.is_signed(contract) && self.second.is_signed(contract)
    }
}

/// Stream by number, epoch, batch.
type Key = (u32, u32, u64);

/// What is kept of a batch: names by number, so that it is small.
struct Held {
    root: Hash,
    signature: [u8; 64],
    /// Of the audit record.
    number: u64,
    count: u32,
    dataset: u32,
    key_id: u32,
    lane: u16,
    /// Other roots that were told of already.
    others: Vec<Hash>,
}

/// Batches that were seen, the older half of them forgotten when there are too many.
pub struct Batches {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
    young: HashMap<Key, Held>,
    old: HashMap<Key, Held>,
    most: usize,
    forgotten: u64,
}

impl Batches {
    /// Holds at least half of `most` batches, the newest, about 200 bytes each.
    pub fn new(most: usize) -> Self {
        Self {
            names: Vec::new(),
            numbers: HashMap::new(),
            young: HashMap::new(),
            old: HashMap::new(),
            most,
            forgotten: 0,
        }
    }

    /// Batches that later ones are not held against any more.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Takes the next. Another root than the one known under this number is answered, once.
    pub fn take(&mut self, batch: &Accepted) -> Option<Equivocation> {
        let key = (self.number(&batch.stream), batch.epoch, batch.number);
        let known = match self.young.get_mut(&key) {
            Some(known) => Some(known),
            None => self.old.get_mut(&key),
        };
        if let Some(known) = known {
            let same = known.root == batch.root && known.count == batch.count;
            if same || known.others.contains(&batch.root) {
                return None;
            }
            known.others.push(batch.root);
            let first = Accepted {
                id: AuditId {
                    writer: AuditWriter::Gateway,
                    lane: known.lane,
                    number: known.number,
                },
                dataset: self.names[known.dataset as usize].clone(),
                stream: batch.stream.clone(),
                epoch: batch.epoch,
                number: batch.number,
                count: known.count,
                root: known.root,
                key_id: self.names[known.key_id as usize].clone(),
                signature: known.signature,
            };
            let second = batch.clone();
            return Some(Equivocation { first, second });
        }
        let held = Held {
            root: batch.root,
            signature: batch.signature,
            number: batch.id.number,
            count: batch.count,
            dataset: self.number(&batch.dataset),
            key_id: self.number(&batch.key_id),
            lane: batch.id.lane,
            others: Vec::new(),
        };
        self.young.insert(key, held);
        if self.young.len() > self.most / 2 {
            self.forgotten += self.old.len() as u64;
            self.old = std::mem::take(&mut self.young);
        }
        None
    }

    /// Names are the contract's: few.
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        // Fits: a log has fewer names than 2^32.
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(stream: &str, number: u64, root: u8, at: u64) -> Accepted {
        Accepted {
            id: AuditId {
                writer: AuditWriter::Gateway,
                lane: 3,
                number: at,
            },
            dataset: "talent.approval.v1".to_owned(),
            stream: stream.to_owned(),
            epoch: 1,
            number,
            count: 9,
            root: [root; 32],
            key_id: "talent-seal-1".to_owned(),
            signature: [root; 64],
        }
    }

    #[test]
    fn another_root_under_a_number_is_told_once_and_a_repeat_never() {
        let mut batches = Batches::new(1_000);
        assert_eq!(batches.take(&batch("a", 1, 1, 1)), None);
        assert_eq!(batches.take(&batch("a", 1, 1, 2)), None, "the same again");
        assert_eq!(batches.take(&batch("b", 1, 2, 3)), None, "another stream");
        assert_eq!(batches.take(&batch("a", 2, 2, 4)), None, "another number");
        let mut epoch = batch("a", 1, 2, 5);
        epoch.epoch = 2;
        assert_eq!(batches.take(&epoch), None, "another epoch");
        let (first, second) = (batch("a", 1, 1, 1), batch("a", 1, 2, 6));
        let found = batches.take(&second);
        assert_eq!(found, Some(Equivocation { first, second }));
        assert_eq!(batches.take(&batch("a", 1, 2, 7)), None, "told already");
        let third = batches.take(&batch("a", 1, 3, 8)).unwrap();
        assert_eq!((third.first.id.number, third.second.id.number), (1, 8));
    }

    #[test]
    fn the_newest_half_is_always_held_and_what_is_forgotten_is_counted() {
        let mut batches = Batches::new(100);
        for number in 0..1_000 {
            assert_eq!(batches.take(&batch("a", number, 1, number)), None);
        }
        assert!(batches.forgotten() >= 900 - 51, "{}", batches.forgotten());
        for number in 951..1_000 {
            assert!(batches.take(&batch("a", number, 2, number)).is_some());
        }
    }

    #[test]
    fn a_record_that_does_not_say_all_is_not_read() {
        use mz_journal::AuditCause;
        let mut audit = Audit::empty(
            AuditWriter::Gateway,
            3,
            0,
            AuditKind::BatchAccepted,
            AuditCause::Stream,
        );
        audit.rule = "talent/all/talent.approval.v1".into();
        audit.dataset = "talent.approval.v1".into();
        audit.operator = "talent-seal-1".into();
        audit.reason = BASE64_STANDARD.encode([7; 64]).into();
        assert!(Accepted::of(&audit).is_some());
        for spoil in [
            |audit: &mut Audit<'_>| audit.reason = "AAAA".into(),
            |audit: &mut Audit<'_>| audit.reason = "not base64".into(),
            |audit: &mut Audit<'_>| audit.rule = "".into(),
            |audit: &mut Audit<'_>| audit.operator = "".into(),
            |audit: &mut Audit<'_>| audit.dataset = "".into(),
            |audit: &mut Audit<'_>| audit.writer = AuditWriter::Vault,
            |audit: &mut Audit<'_>| audit.kind = AuditKind::Summary,
        ] {
            let mut other = audit.clone();
            spoil(&mut other);
            assert_eq!(Accepted::of(&other), None);
        }
    }
}
