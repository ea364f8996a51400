//! A per-person permission: a consent that the citizen gave, or a case that was opened at the
//! consumer. Grants only join: whatever order two copies meet in, the same grant results.

use crate::Digest;
use crate::codec::{
    Decoder, MAX_BLOB_BYTES, Record, put_bytes, put_count, put_list, put_long, put_option, put_text,
};
use crate::malformed::Malformed;
use crate::tags::{GrantId, SubjectTag, TAG_BYTES};
use sha2::{Digest as _, Sha256};
use std::cmp::Ordering;

/// First byte of what a case id hashes; used for nothing else in the bus.
const CASE_ID_PREFIX: u8 = 0x21;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GrantKind {
    Consent,
    Case,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GrantStatus {
    Open,
    Paused,
    /// For good. Kept as a value until expiry + 90 days, so that no late opening wins.
    Closed,
}

const KINDS: [GrantKind; 2] = [GrantKind::Consent, GrantKind::Case];
const STATUSES: [GrantStatus; 3] = [GrantStatus::Open, GrantStatus::Paused, GrantStatus::Closed];

/// One grant as its lane knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    pub id: GrantId,
    pub kind: GrantKind,
    pub subject: SubjectTag,
    /// `<consumer>/<purpose>`.
    pub agreement: String,
    /// Dataset ids that it covers; empty: every dataset of the agreement.
    pub datasets: Vec<String>,
    pub status: GrantStatus,
    /// Rises with every change that its owner makes (pause, resume, extension).
    pub counter: u64,
    pub opened_ms: i64,
    pub expires_ms: i64,
    pub closed_ms: Option<i64>,
    /// What opened it: the event's digest in hexadecimal, `request:<bundle id>`, or `act:<request id>`.
    pub cause: String,
    /// Reason code of the last change.
    pub reason: String,
    /// The identity number, encrypted to the one source that must be asked about this person.
    pub subject_sealed: Option<Vec<u8>>,
}

impl Grant {
    /// The id of the case that one event (or request) opens for one person under one agreement.
    pub fn case_id(trigger: &Digest, agreement: &str, subject: SubjectTag) -> GrantId {
        let mut hash = Sha256::new();
        hash.update([CASE_ID_PREFIX]);
        hash.update(trigger);
        hash.update((agreement.len() as u64).to_be_bytes());
        hash.update(agreement);
        hash.update(subject.0);
        let mut id = [0; TAG_BYTES];
        id.copy_from_slice(&hash.finalize()[..TAG_BYTES]);
        GrantId(id)
    }

    /// May be used at `now_ms`: open, begun, not expired. Add the stated skew to `now_ms` outside.
    pub fn in_force(&self, now_ms: i64) -> bool {
        self.status == GrantStatus::Open && self.opened_ms <= now_ms && now_ms < self.expires_ms
    }

    /// Least upper bound of two copies of the same grant: closed dominates; then the higher
    /// counter; then the later expiry. Commutative, associative and idempotent, so copies that
    /// meet in any order, any number of times, agree.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        match self.rank(&other) {
            Ordering::Less => other,
            _ => self,
        }
    }

    /// A total order, of which `join` is the maximum. Between two closings the earlier one
    /// counts: nothing may have flowed since. What is left decides only so that it is decided.
    fn rank(&self, other: &Self) -> Ordering {
        let closed = |grant: &Self| grant.status == GrantStatus::Closed;
        let closed_at = |grant: &Self| std::cmp::Reverse(grant.closed_ms.unwrap_or(i64::MAX));
        closed(self)
            .cmp(&closed(other))
            .then_with(|| self.counter.cmp(&other.counter))
            .then_with(|| self.status.cmp(&other.status))
            .then_with(|| self.expires_ms.cmp(&other.expires_ms))
            .then_with(|| closed_at(self).cmp(&closed_at(other)))
            .then_with(|| self.cmp(other))
    }
}

/// The same, read in place: a slot that takes over reads millions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRef<'a> {
    pub id: GrantId,
    pub kind: GrantKind,
    pub subject: SubjectTag,
    pub agreement: &'a str,
    pub datasets: Vec<&'a str>,
    pub status: GrantStatus,
    pub counter: u64,
    pub opened_ms: i64,
    pub expires_ms: i64,
    pub closed_ms: Option<i64>,
    pub cause: &'a str,
    pub reason: &'a str,
    pub subject_sealed: Option<&'a [u8]>,
}

impl<'a> GrantRef<'a> {
    /// Reads one grant; bytes after it are an error.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let grant = Self {
            id: GrantId(from.fixed("id")?),
            kind: KINDS[from.branch("kind", KINDS.len())?],
            subject: SubjectTag(from.fixed("subject")?),
            agreement: from.text("agreement")?,
            datasets: from.list("datasets", |from| from.text("datasets"))?,
            status: STATUSES[from.branch("status", STATUSES.len())?],
            counter: from.count("counter")?,
            opened_ms: from.long("opened_ms")?,
            expires_ms: from.long("expires_ms")?,
            closed_ms: from.option("closed_ms", |from| from.long("closed_ms"))?,
            cause: from.text("cause")?,
            reason: from.text("reason")?,
            subject_sealed: from.option("subject_sealed", |from| {
                from.bytes("subject_sealed", MAX_BLOB_BYTES)
            })?,
        };
        from.finish()?;
        Ok(grant)
    }

    pub fn to_owned(&self) -> Grant {
        Grant {
            id: self.id,
            kind: self.kind,
            subject: self.subject,
            agreement: self.agreement.to_owned(),
            datasets: self.datasets.iter().map(|id| (*id).to_owned()).collect(),
            status: self.status,
            counter: self.counter,
            opened_ms: self.opened_ms,
            expires_ms: self.expires_ms,
            closed_ms: self.closed_ms,
            cause: self.cause.to_owned(),
            reason: self.reason.to_owned(),
            subject_sealed: self.subject_sealed.map(<[u8]>::to_vec),
        }
    }
}

impl<'a> From<&'a Grant> for GrantRef<'a> {
    fn from(grant: &'a Grant) -> Self {
        Self {
            id: grant.id,
            kind: grant.kind,
            subject: grant.subject,
            agreement: &grant.agreement,
            datasets: grant.datasets.iter().map(String::as_str).collect(),
            status: grant.status,
            counter: grant.counter,
            opened_ms: grant.opened_ms,
            expires_ms: grant.expires_ms,
            closed_ms: grant.closed_ms,
            cause: &grant.cause,
            reason: &grant.reason,
            subject_sealed: grant.subject_sealed.as_deref(),
        }
    }
}

impl Record for Grant {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/grant.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        put_long(out, self.kind as i64);
        out.extend_from_slice(&self.subject.0);
        put_text(out, &self.agreement);
        put_list(out, &self.datasets, |out, dataset| put_text(out, dataset));
        put_long(out, self.status as i64);
        put_count(out, self.counter);
        put_long(out, self.opened_ms);
        put_long(out, self.expires_ms);
        put_option(out, self.closed_ms.as_ref(), |out, at| put_long(out, *at));
        put_text(out, &self.cause);
        put_text(out, &self.reason);
        put_option(out, self.subject_sealed.as_ref(), |out, sealed| {
            put_bytes(out, sealed);
        });
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        GrantRef::read(bytes).map(|grant| grant.to_owned())
    }
}
