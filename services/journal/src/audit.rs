//! One entry of the audit log: what was delivered, denied, looked up, refused, opened or closed,
//! why, and under which contract. Numbered and hash-chained per lane by each writer for itself:
//! gateway and vault own the same lanes and neither can know the other's last number.
//!
//! Writing one is on the gateway's hot path: texts are borrowed, nothing allocates but `out`.

use crate::Digest;
use crate::codec::{Decoder, Record, put_bytes, put_count, put_long, put_option, put_text};
use crate::malformed::Malformed;
use crate::tags::{GrantId, OrderId, RecordTag, SubjectTag};
use std::borrow::Cow;

/// The only layout written so far.
pub const AUDIT_VERSION: i64 = 1;
/// Longest bitmap of fields, in bytes (2,048 fields).
pub const MAX_BITMAP_BYTES: usize = 256;

/// Whose chain an entry is in. Each writer numbers its entries of a lane from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuditWriter {
    Gateway,
    Vault,
    Console,
    Ledger,
    Consent,
}

/// All of them, in the order of their Avro symbols.
pub const AUDIT_WRITERS: [AuditWriter; 5] = [
    AuditWriter::Gateway,
    AuditWriter::Vault,
    AuditWriter::Console,
    AuditWriter::Ledger,
    AuditWriter::Consent,
];

impl AuditWriter {
    /// As people see it in an audit id: `vault-3-120`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Vault => "vault",
            Self::Console => "console",
            Self::Ledger => "ledger",
            Self::Consent => "consent",
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuditKind {
    /// One record reached one consumer's topic.
    Delivered,
    /// A grant, case or request existed and a rule said no; one per event for all agreements.
    Denied,
    /// Counts per transaction, lane, agreement and dataset, with the range of source offsets.
    Summary,
    /// Somebody read: an evidence bundle, an auditor's query.
    Lookup,
    /// An event that was refused as input.
    Quarantined,
    /// Readers of uncommitted data may have seen this delivery of an aborted transaction.
    Exposed,
    CaseOpened,
    CaseClosed,
    /// A consumer was told to stop using a record that it holds: `rule` says why, `order` which.
    Withdrawn,
    /// An order to withdraw was not carried out: `rule` says why (still in force, newer).
    OrderDeclined,
    /// An update that the row filter leaves out, of a record that may have been delivered before.
    Superseded,
    ConsentGiven,
    /// Paused, resumed, extended: `rule` says which.
    GrantChanged,
    ConsentRevoked,
    /// A contract version was put in force in this lane.
    ContractInForce,
    /// An owner that did not answer was shut out of this lane, so that a change holds.
    SlotFenced,
    /// A person's key was destroyed.
    Erased,
    /// A department's use of a person's data is kept from that person for a time: `rule` says whether it
    /// was requested or approved.
    Hiding,
    /// From here on, people of this lane are labelled by this verifiable random function: `event` is its
    /// public key.
    SubjectKey,
    /// The value of that function for the person that `subject` stands for is `event`; `record` names the key.
    SubjectBound,
    /// The first event of a department's batch was accepted. `rule`: the stream; `version_epoch` and
    /// `version_counter`: epoch and number of the batch; `counts.matched`: its events; `event`: its root;
    /// `operator`: the id of the key that signed it; `reason`: the signature, base64.
    BatchAccepted,
}

impl AuditKind {
    /// As written in answers and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Denied => "denied",
            Self::Summary => "summary",
            Self::Lookup => "lookup",
            Self::Quarantined => "quarantined",
            Self::Exposed => "exposed",
            Self::CaseOpened => "case_opened",
            Self::CaseClosed => "case_closed",
            Self::Withdrawn => "withdrawn",
            Self::OrderDeclined => "order_declined",
            Self::Superseded => "superseded",
            Self::ConsentGiven => "consent_given",
            Self::GrantChanged => "grant_changed",
            Self::ConsentRevoked => "consent_revoked",
            Self::ContractInForce => "contract_in_force",
            Self::SlotFenced => "slot_fenced",
            Self::Erased => "erased",
            Self::Hiding => "hiding",
            Self::SubjectKey => "subject_key",
            Self::SubjectBound => "subject_bound",
            Self::BatchAccepted => "batch_accepted",
        }
    }
}

/// What made it happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuditCause {
    /// A source event as it came.
    Stream,
    /// A fact published before the grant.
    Backfill,
    /// A department's request for evidence.
    Request,
    Auditor,
    /// The person's own act.
    Subject,
    /// An operator's act, with a reason.
    Operator,
    /// A rule of the bus: end of data life, supersession, a contract.
    Rule,
}

impl AuditCause {
    /// As written in answers and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Backfill => "backfill",
            Self::Request => "request",
            Self::Auditor => "auditor",
            Self::Subject => "subject",
            Self::Operator => "operator",
            Self::Rule => "rule",
        }
    }
}

/// All of them, in the order of their Avro symbols.
pub const AUDIT_KINDS: [AuditKind; 21] = [
    AuditKind::Delivered,
    AuditKind::Denied,
    AuditKind::Summary,
    AuditKind::Lookup,
    AuditKind::Quarantined,
    AuditKind::Exposed,
    AuditKind::CaseOpened,
    AuditKind::CaseClosed,
    AuditKind::Withdrawn,
    AuditKind::OrderDeclined,
    AuditKind::Superseded,
    AuditKind::ConsentGiven,
    AuditKind::GrantChanged,
    AuditKind::ConsentRevoked,
    AuditKind::ContractInForce,
    AuditKind::SlotFenced,
    AuditKind::Erased,
    AuditKind::Hiding,
    AuditKind::SubjectKey,
    AuditKind::SubjectBound,
    AuditKind::BatchAccepted,
];
/// All of them, in the order of their Avro symbols.
pub const AUDIT_CAUSES: [AuditCause; 7] = [
    AuditCause::Stream,
    AuditCause::Backfill,
    AuditCause::Request,
    AuditCause::Auditor,
    AuditCause::Subject,
    AuditCause::Operator,
    AuditCause::Rule,
];

/// Counts of a summary; `denied` also counts the agreements that one denial stands for.
/// In a summary, matched = delivered + denied + out of scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditCounts {
    pub matched: u32,
    pub delivered: u32,
    pub denied: u32,
    pub out_of_scope: u32,
    /// First source offset that the summary covers; -1 where there is none.
    pub from_offset: i64,
    /// Last source offset that the summary covers; -1 where there is none.
    pub to_offset: i64,
}

impl AuditCounts {
    /// The law that every summary obeys.
    pub fn balanced(&self) -> bool {
        u64::from(self.matched)
            == u64::from(self.delivered) + u64::from(self.denied) + u64::from(self.out_of_scope)
    }
}

/// One entry. Empty text and zero tags mean "does not apply".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit<'a> {
    pub writer: AuditWriter,
    pub lane: u16,
    /// From 1, gapless per writer and lane.
    pub number: u64,
    /// The chain's value before this record: zero for number 1.
    pub prev: Digest,
    pub at_ms: i64,
    pub kind: AuditKind,
    pub cause: AuditCause,
    /// `<consumer>/<purpose>`.
    pub agreement: Cow<'a, str>,
    pub contract: Digest,
    pub consumer: Cow<'a, str>,
    pub purpose: Cow<'a, str>,
    /// `hrss.insurance.status.v1`.
    pub dataset: Cow<'a, str>,
    pub subject: SubjectTag,
    /// The bus's own tag of the record, not the consumer's.
    pub record: RecordTag,
    pub grant: Option<GrantId>,
    /// The order that was carried out or declined.
    pub order: Option<OrderId>,
    /// Delivered fields: bit i of byte i/8, least significant first, is source field i.
    pub fields: Cow<'a, [u8]>,
    /// The rule that decided, by its code.
    pub rule: Cow<'a, str>,
    /// Event digest of the source event.
    pub event: Digest,
    pub version_epoch: u32,
    pub version_counter: u64,
    /// Offset in the source topic's partition `lane`; -1 where there is none.
    pub source_offset: i64,
    /// Sequence in the consumer's topic and lane; 0 where nothing was delivered.
    pub output_sequence: u64,
    /// Who looked: an operator's id, never a citizen.
    pub operator: Cow<'a, str>,
    /// A reason code, or what the operator wrote down as the reason of a look-up.
    pub reason: Cow<'a, str>,
    pub counts: AuditCounts,
    /// So that two equal events don't hash to the same leaf.
    pub nonce: [u8; 16],
}

impl Audit<'_> {
    /// An entry in which nothing but place, time and kind is said yet.
    pub fn empty(
        writer: AuditWriter,
        lane: u16,
        at_ms: i64,
        kind: AuditKind,
        cause: AuditCause,
    ) -> Self {
        Self {
            writer,
            lane,
            number: 0,
            prev: [0; 32],
            at_ms,
            kind,
            cause,
            agreement: Cow::Borrowed(""),
            contract: [0; 32],
            consumer: Cow::Borrowed(""),
            purpose: Cow::Borrowed(""),
            dataset: Cow::Borrowed(""),
            subject: SubjectTag::default(),
            record: RecordTag::default(),
            grant: None,
            order: None,
            fields: Cow::Borrowed(&[]),
            rule: Cow::Borrowed(""),
            event: [0; 32],
            version_epoch: 0,
            version_counter: 0,
            source_offset: -1,
            output_sequence: 0,
            operator: Cow::Borrowed(""),
            reason: Cow::Borrowed(""),
            counts: AuditCounts {
                from_offset: -1,
                to_offset: -1,
                ..AuditCounts::default()
            },
            nonce: [0; 16],
        }
    }

    /// Appends the record's bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_long(out, AUDIT_VERSION);
        put_long(out, self.writer as i64);
        put_long(out, i64::from(self.lane));
        put_count(out, self.number);
        out.extend_from_slice(&self.prev);
        put_long(out, self.at_ms);
        put_long(out, self.kind as i64);
        put_long(out, self.cause as i64);
        put_text(out, &self.agreement);
        out.extend_from_slice(&self.contract);
        put_text(out, &self.consumer);
        put_text(out, &self.purpose);
        put_text(out, &self.dataset);
        out.extend_from_slice(&self.subject.0);
        out.extend_from_slice(&self.record.0);
        put_option(out, self.grant.as_ref(), |out, grant| {
            out.extend_from_slice(&grant.0);
        });
        put_option(out, self.order.as_ref(), |out, order| {
            out.extend_from_slice(&order.0);
        });
        put_bytes(out, &self.fields);
        put_text(out, &self.rule);
        out.extend_from_slice(&self.event);
        put_long(out, i64::from(self.version_epoch));
        put_count(out, self.version_counter);
        put_long(out, self.source_offset);
        put_count(out, self.output_sequence);
        put_text(out, &self.operator);
        put_text(out, &self.reason);
        put_long(out, i64::from(self.counts.matched));
        put_long(out, i64::from(self.counts.delivered));
        put_long(out, i64::from(self.counts.denied));
        put_long(out, i64::from(self.counts.out_of_scope));
        put_long(out, self.counts.from_offset);
        put_long(out, self.counts.to_offset);
        out.extend_from_slice(&self.nonce);
    }

    /// Reads an entry, texts borrowed from `bytes`.
    pub fn read(bytes: &[u8]) -> Result<Audit<'_>, Malformed> {
        let mut from = Decoder::new(bytes);
        match from.long("version")? {
            AUDIT_VERSION => {}
            found => return Err(Malformed::Version { found }),
        }
        let audit = Audit {
            writer: AUDIT_WRITERS[from.branch("writer", AUDIT_WRITERS.len())?],
            lane: from.number("lane")?,
            number: from.count("number")?,
            prev: from.fixed("prev")?,
            at_ms: from.long("at_ms")?,
            kind: AUDIT_KINDS[from.branch("kind", AUDIT_KINDS.len())?],
            cause: AUDIT_CAUSES[from.branch("cause", AUDIT_CAUSES.len())?],
            agreement: from.cow_text("agreement")?,
            contract: from.fixed("contract")?,
            consumer: from.cow_text("consumer")?,
            purpose: from.cow_text("purpose")?,
            dataset: from.cow_text("dataset")?,
            subject: SubjectTag(from.fixed("subject")?),
            record: RecordTag(from.fixed("record")?),
            grant: from.option("grant", |from| from.fixed("grant").map(GrantId))?,
            order: from.option("order", |from| from.fixed("order").map(OrderId))?,
            fields: Cow::Borrowed(from.bytes("fields", MAX_BITMAP_BYTES)?),
            rule: from.cow_text("rule")?,
            event: from.fixed("event")?,
            version_epoch: from.number("version_epoch")?,
            version_counter: from.count("version_counter")?,
            source_offset: from.long("source_offset")?,
            output_sequence: from.count("output_sequence")?,
            operator: from.cow_text("operator")?,
            reason: from.cow_text("reason")?,
            counts: AuditCounts {
                matched: from.number("counts.matched")?,
                delivered: from.number("counts.delivered")?,
                denied: from.number("counts.denied")?,
                out_of_scope: from.number("counts.out_of_scope")?,
                from_offset: from.long("counts.from_offset")?,
                to_offset: from.long("counts.to_offset")?,
            },
            nonce: from.fixed("nonce")?,
        };
        from.finish()?;
        Ok(audit)
    }

    /// The same entry, holding its own texts.
    pub fn into_owned(self) -> Audit<'static> {
        fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        Audit {
            writer: self.writer,
            lane: self.lane,
            number: self.number,
            prev: self.prev,
            at_ms: self.at_ms,
            kind: self.kind,
            cause: self.cause,
            agreement: owned(self.agreement),
            contract: self.contract,
            consumer: owned(self.consumer),
            purpose: owned(self.purpose),
            dataset: owned(self.dataset),
            subject: self.subject,
            record: self.record,
            grant: self.grant,
            order: self.order,
            fields: Cow::Owned(self.fields.into_owned()),
            rule: owned(self.rule),
            event: self.event,
            version_epoch: self.version_epoch,
            version_counter: self.version_counter,
            source_offset: self.source_offset,
            output_sequence: self.output_sequence,
            operator: owned(self.operator),
            reason: owned(self.reason),
            counts: self.counts,
            nonce: self.nonce,
        }
    }
}

impl Record for Audit<'static> {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/audit.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        Audit::encode_into(self, out);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Audit::read(bytes).map(Audit::into_owned)
    }
}

/// A bitmap with the bits of `fields` set, as [`Audit::fields`] wants it.
pub fn field_bitmap(fields: &[u16]) -> Vec<u8> {
    let bytes = fields
        .iter()
        .max()
        .map_or(0, |last| usize::from(*last) / 8 + 1);
    let mut bitmap = vec![0; bytes];
    for field in fields {
        bitmap[usize::from(field / 8)] |= 1 << (field % 8);
    }
    bitmap
}

/// Inverse of [`field_bitmap`], ascending.
pub fn bitmap_fields(bitmap: &[u8]) -> Vec<u16> {
    (0u16..)
        .zip(bitmap)
        .flat_map(|(at, byte)| {
            (0..8)
                .filter(move |bit| byte >> bit & 1 == 1)
                .map(move |bit| at * 8 + bit)
        })
        .collect()
}
