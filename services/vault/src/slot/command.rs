//! What other threads ask of a slot.

use std::time::Instant;

use mz_contract::IdNumber;
use mz_journal::{GrantId, SubjectTag};
use tokio::sync::oneshot;

use crate::bundle::Bundle;
use crate::refusal::Refusal;

pub enum Command {
    Bundle(Box<BundleAsk>),
    /// Record that an auditor reads this person's log.
    Auditor(Box<AuditorAsk>),
}

/// A checked bundle request, on its way to the owner of the person's lane.
pub struct BundleAsk {
    /// UUID, version 7.
    pub bundle_id: String,
    /// Id of the service item: the contract may change before it is answered.
    pub item: String,
    pub lane: u16,
    pub subject: SubjectTag,
    /// `None` when the person was named by a case.
    pub person: Option<IdNumber>,
    /// The person was named by this case.
    pub case: Option<GrantId>,
    /// Department of the caller's certificate.
    pub caller: String,
    pub operator: String,
    pub reason: String,
    pub received: Instant,
    pub reply: oneshot::Sender<Result<Bundle, Refusal>>,
}

pub struct AuditorAsk {
    pub act: Act,
    pub lane: u16,
    pub subject: SubjectTag,
    /// `None` for a question about nobody in particular.
    pub person: Option<IdNumber>,
    /// Department of the caller's certificate (`bus` for the bureau's own auditor).
    pub caller: String,
    pub operator: String,
    pub reason: String,
    pub reply: oneshot::Sender<Result<Recorded, Refusal>>,
}

/// What is put on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// An auditor asks.
    Question,
    /// Somebody requests or approves that a use is kept from the person.
    Hiding(Hiding),
}

/// What is said about a use that is kept from the person for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hiding {
    /// Whether it was requested or approved.
    pub rule: &'static str,
    /// Digest of what is hidden, from whom, and on whose ground: the same in both acts.
    pub terms: [u8; 32],
    /// The end, milliseconds since 1970.
    pub until_ms: u64,
}

/// Where an entry of the audit log was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub lane: u16,
    pub number: u64,
    /// `vault-<lane>-<number>`.
    pub audit_id: String,
}
