//! Everything that a transaction writes, except the state record: audit entries, deliveries,
//! quarantine notes. A delivery can't be written without its audit entry: one function does both.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mz_bus::{TxError, TxProducer};
use mz_journal::{
    Audit, AuditCause, AuditKind, AuditWriter, DELIVERY_HEADER, DeliveryHeader, GrantId, Mark,
    Pseudonym, Quarantine, Record as _, RecordTag, topics,
};
use mz_policy::{Denial, Now, Permit};
use mz_seal::{Digest, MetaRef, Verified, Verifier, headers};
use rustc_hash::FxHashMap;

use crate::answers::{Body, PendingAnswer};
use crate::error::Error;
use crate::lane::{Lane, Tally};
use crate::options::Keys;
use crate::people::Person;
use crate::plan::{AnswerPlan, Plan, Reading, Source};
use crate::stats::Counts;
use crate::wire::Refusal;

/// Header that says why a delivery has no value.
pub const REASON_HEADER: &str = "mz-reason";
/// The register no longer has the record.
pub const WITHDRAWN_BY_SOURCE: &str = "WITHDRAWN_BY_SOURCE";
/// Between two marks of one consumer topic and lane, milliseconds.
const MARK_EVERY_MS: i64 = 1_000;

/// Why the open transaction can't go on.
#[derive(Debug)]
pub(crate) enum Halt {
    Tx(TxError),
    Error(Error),
}

impl From<TxError> for Halt {
    fn from(error: TxError) -> Self {
        Self::Tx(error)
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Buffers and answers of the open transaction.
#[derive(Default)]
pub(crate) struct Outbox {
    audit: Vec<u8>,
    value: Vec<u8>,
    seal: Vec<u8>,
    /// The `mz-delivery` header that was written last.
    pub delivery: Vec<u8>,
    pub answers: Vec<PendingAnswer>,
    pub counts: Counts,
    /// Refusals of the open transaction by code, for the metrics.
    pub refused: FxHashMap<&'static str, u64>,
    /// Declined orders of the open transaction by code, for the metrics.
    pub declined: FxHashMap<&'static str, u64>,
}

/// What an event is called everywhere: the same for all its deliveries.
pub(crate) struct EventRef<'e> {
    pub source: &'e Source,
    pub person: &'e Person,
    /// The bus's own tag of the record.
    pub record: RecordTag,
    pub offset: i64,
    pub cause: AuditCause,
    pub meta: &'e MetaRef<'e>,
    pub digest: &'e Digest,
    /// CloudEvents headers as they belong to the event's meta.
    pub id: &'e [u8],
    pub ce_source: &'e [u8],
    pub time: &'e [u8],
}

/// Where the open transaction's records go.
pub(crate) struct Writer<'w> {
    pub producer: &'w mut TxProducer,
    pub plan: &'w Plan,
    pub keys: &'w Keys,
    pub out: &'w mut Outbox,
    pub now: Now,
}

impl Writer<'_> {
    /// Numbers, chains and writes one audit entry of the lane.
    pub(crate) fn audit(&mut self, lane: &mut Lane, entry: &mut Audit<'_>) -> Result<(), TxError> {
        entry.contract = self.plan.contract.digest;
        let number = lane.chain.number() + 1;
        entry.nonce = self
            .keys
            .audit
            .nonce(AuditWriter::Gateway, lane.lane, number);
        self.out.audit.clear();
        lane.chain.append(entry, &mut self.out.audit);
        lane.touched = true;
        self.out.counts.audited += 1;
        let key = topics::audit_key(AuditWriter::Gateway, lane.lane, number);
        self.producer.send(
            topics::AUDIT,
            i32::from(lane.lane),
            &key,
            Some(&self.out.audit),
            &[],
        )
    }

    /// An entry with time and place filled in.
    pub(crate) fn entry(&self, lane: &Lane, kind: AuditKind, cause: AuditCause) -> Audit<'static> {
        Audit::empty(AuditWriter::Gateway, lane.lane, self.now.ms, kind, cause)
    }

    /// Delivers what `permit` allows, with its audit entry.
    pub(crate) fn deliver(
        &mut self,
        lane: &mut Lane,
        permit: &Permit<'_, '_>,
        reading: &Reading,
        event: &EventRef<'_>,
        pseudonym: Pseudonym,
        tag: RecordTag,
    ) -> Result<(), Halt> {
        let meta = &permit.event().meta;
        let withdrawn = permit.withdraws();
        let fields: &[u8] = if withdrawn { &[] } else { &reading.fields };
        self.number_delivery(lane, permit, reading.output, fields, event, "")?;
        let out = &mut *self.out;
        out.seal.clear();
        permit.seal_into(&mut out.seal);
        out.value.clear();
        if !withdrawn {
            permit.value_into(&mut out.value);
        }
        let value = (!withdrawn).then_some(out.value.as_slice());
        let key = topics::delivery_key(pseudonym, tag);
        let headers: [(&str, &[u8]); 9] = [
            (headers::CE_SPECVERSION, headers::SPECVERSION.as_bytes()),
            (headers::CE_ID, event.id),
            (headers::CE_SOURCE, event.ce_source),
            (headers::CE_TYPE, meta.dataset.as_bytes()),
            (headers::CE_TIME, event.time),
            (headers::CONTENT_TYPE, headers::AVRO.as_bytes()),
            (headers::SEAL, &out.seal),
            (DELIVERY_HEADER, &out.delivery),
            (REASON_HEADER, WITHDRAWN_BY_SOURCE.as_bytes()),
        ];
        let used = if withdrawn { 9 } else { 8 };
        let topic = &self.plan.outputs[reading.output].topic;
        self.producer
            .send(topic, i32::from(lane.lane), &key, value, &headers[..used])?;
        self.tally(lane, reading.output, event).delivered += 1;
        out_count(&mut self.out.counts, event.cause);
        if !lane.superseded.is_empty() {
            let version = meta.version();
            lane.superseded
                .delivered(reading.output, event.record, version);
        }
        Ok(())
    }

    /// Computes one derived answer and keeps it for sealing at the end of the transaction. Answers
    /// the code of the rule that failed, if one did. A withdrawn record withdraws its answers.
    pub(crate) fn answer(
        &mut self,
        lane: &mut Lane,
        permit: &Permit<'_, '_>,
        plan: &AnswerPlan,
        event: &EventRef<'_>,
        key: [u8; 32],
    ) -> Result<Option<&'static str>, Halt> {
        let answer = &permit.section().answers[plan.answer];
        let meta = &permit.event().meta;
        let source = &self.plan.dataset(event.source).id;
        let mut fields: &[u8] = &plan.fields;
        let body = if permit.withdraws() {
            fields = &[];
            let mut seal = Vec::new();
            permit.seal_into(&mut seal);
            Body::Withdrawal { seal }
        } else {
            let value = match permit.answer(answer) {
                Ok(value) => value,
                Err(fault) => return Ok(Some(fault.code())),
            };
            let event = permit.event();
            match PendingAnswer::datum(answer, value, meta.ce_time_ms, source, event) {
                Ok(datum) => Body::Value {
                    schema_id: answer.schema_id,
                    layout: Arc::clone(&answer.layout),
                    datum,
                },
                Err(_) => return Ok(Some("ANSWER_UNWRITABLE")),
            }
        };
        let rule = &answer.name;
        let sequence = self.number_delivery(lane, permit, plan.output, fields, event, rule)?;
        self.out.answers.push(PendingAnswer {
            lane: lane.lane,
            output: plan.output,
            body,
            key,
            sequence,
            delivery: self.out.delivery.clone(),
            event: permit.event().event_digest,
            version: meta.version(),
            ce_time_ms: meta.ce_time_ms,
            dataset: source.clone(),
        });
        self.tally(lane, plan.output, event).delivered += 1;
        out_count(&mut self.out.counts, event.cause);
        Ok(None)
    }

    /// Takes the next number of a consumer topic, writes the audit entry of the delivery and leaves
    /// its `mz-delivery` header in the buffer.
    fn number_delivery(
        &mut self,
        lane: &mut Lane,
        permit: &Permit<'_, '_>,
        output: usize,
        fields: &[u8],
        event: &EventRef<'_>,
        rule: &str,
    ) -> Result<u64, Halt> {
        let to = &self.plan.outputs[output];
        let agreement = self.plan.agreement(to.agreement);
        lane.outputs[output].last_seq += 1;
        let sequence = lane.outputs[output].last_seq;
        let mut entry = self.entry(lane, AuditKind::Delivered, event.cause);
        entry.agreement = agreement.id.as_str().into();
        entry.consumer = agreement.consumer.as_str().into();
        entry.purpose = agreement.purpose.as_str().into();
        entry.dataset = to.label.as_str().into();
        entry.fields = fields.into();
        entry.grant = permit.grant();
        entry.rule = rule.into();
        entry.output_sequence = sequence;
        if permit.withdraws() {
            entry.reason = WITHDRAWN_BY_SOURCE.into();
        }
        about(&mut entry, event);
        self.audit(lane, &mut entry)?;
        self.stamp(lane, output, sequence)?;
        Ok(sequence)
    }

    /// Leaves in the buffer the `mz-delivery` header that goes with the lane's last audit entry.
    pub(crate) fn stamp(
        &mut self,
        lane: &mut Lane,
        output: usize,
        sequence: u64,
    ) -> Result<(), Halt> {
        let agreement = self.plan.agreement(self.plan.outputs[output].agreement);
        let mark = self.mark(lane, output, sequence)?;
        self.out.delivery.clear();
        DeliveryHeader::write(
            &mut self.out.delivery,
            &agreement.id,
            &self.plan.contract.digest,
            (lane.lane, lane.chain.number()),
            sequence,
            mark.as_ref(),
        );
        Ok(())
    }

    /// About once a second, the bus's signature over what a topic and lane had reached.
    fn mark(&self, lane: &mut Lane, output: usize, sequence: u64) -> Result<Option<Mark>, Halt> {
        let state = &mut lane.outputs[output];
        let at_ms = self.now.ms;
        if at_ms < state.marked_ms.saturating_add(MARK_EVERY_MS) {
            return Ok(None);
        }
        state.marked_ms = at_ms;
        let topic = &self.plan.outputs[output].topic;
        let payload = DeliveryHeader::mark_payload(topic, lane.lane, sequence, at_ms);
        let signer = &self.keys.signer;
        let signature = signer
            .sign(&payload)
            .map_err(|source| Error::Seal(source.into()))?;
        Ok(Some(Mark {
            at_ms,
            signature,
            key_id: signer.key_id().to_owned(),
        }))
    }

    /// The tally of one agreement and dataset (or answer) in the open transaction.
    pub(crate) fn tally<'l>(
        &self,
        lane: &'l mut Lane,
        output: usize,
        event: &EventRef<'_>,
    ) -> &'l mut Tally {
        lane.touched = true;
        let tallies = match event.cause {
            AuditCause::Backfill => &mut lane.backfilled,
            _ => &mut lane.streamed,
        };
        tallies[output].at(event.offset)
    }

    /// One entry for all denials of an event. `count`: agreements and answers denied.
    pub(crate) fn denied(
        &mut self,
        lane: &mut Lane,
        first: (&Reading, Denial),
        rules: &str,
        count: u32,
        event: &EventRef<'_>,
    ) -> Result<(), Halt> {
        let (reading, denial) = first;
        let agreement = self.plan.agreement(reading.agreement);
        let mut entry = self.entry(lane, AuditKind::Denied, event.cause);
        entry.agreement = agreement.id.as_str().into();
        entry.consumer = agreement.consumer.as_str().into();
        entry.purpose = agreement.purpose.as_str().into();
        entry.dataset = self.plan.dataset(event.source).id.as_str().into();
        entry.grant = denial.grant;
        entry.rule = rules.into();
        entry.counts.denied = count;
        about(&mut entry, event);
        self.audit(lane, &mut entry)?;
        Ok(())
    }

    /// Tells the department what was refused, and the audit that it was. `proven`: what a verified
    /// event said about itself.
    pub(crate) fn quarantine(
        &mut self,
        lane: &mut Lane,
        source: &Source,
        offset: i64,
        refusal: &Refusal,
        cause: AuditCause,
        proven: Option<(&MetaRef<'_>, &Digest, Option<&Person>)>,
    ) -> Result<(), Halt> {
        self.note(lane, source, offset, refusal)?;
        let mut entry = self.entry(lane, AuditKind::Quarantined, cause);
        entry.dataset = self.plan.dataset(source).id.as_str().into();
        entry.rule = refusal.code.into();
        entry.reason = refusal.code.into();
        entry.source_offset = offset;
        if let Some((meta, digest, person)) = proven {
            entry.event = *digest;
            entry.version_epoch = meta.epoch;
            entry.version_counter = meta.counter;
            entry.subject = person.map(|person| person.tag).unwrap_or_default();
        }
        self.audit(lane, &mut entry)?;
        self.out.counts.quarantined += 1;
        *self.out.refused.entry(refusal.code).or_default() += 1;
        Ok(())
    }

    /// A line on the department's quarantine topic: position, code, place; never a value.
    pub(crate) fn note(
        &mut self,
        lane: &mut Lane,
        source: &Source,
        offset: i64,
        refusal: &Refusal,
    ) -> Result<(), Halt> {
        lane.touched = true;
        let note = Quarantine {
            topic: source.topic.clone(),
            partition: i32::from(lane.lane),
            offset,
            code: refusal.code.to_owned(),
            place: refusal.place.to_string(),
            at_ms: self.now.ms,
        };
        let key = format!("{}|{}|{offset}", source.topic, lane.lane);
        self.producer.send(
            &source.quarantine,
            0,
            key.as_bytes(),
            Some(&note.encode()),
            &[],
        )?;
        Ok(())
    }

    /// The department signed this batch, whatever becomes of its events: told once a batch and slot, so
    /// that two roots under one number stand in the log, each with the department's signature.
    pub(crate) fn batch_accepted(
        &mut self,
        lane: &mut Lane,
        verifier: &mut Verifier,
        source: &Source,
        offset: i64,
        cause: AuditCause,
        verified: &Verified<'_>,
    ) -> Result<(), Halt> {
        if !verified.batch_is_new {
            return Ok(());
        }
        let batch = &verified.batch;
        let mut entry = self.entry(lane, AuditKind::BatchAccepted, cause);
        entry.dataset = self.plan.dataset(source).id.as_str().into();
        entry.rule = verified.meta.stream.into();
        entry.event = verified.batch_root;
        entry.version_epoch = batch.epoch;
        entry.version_counter = batch.number;
        entry.source_offset = offset;
        entry.operator = batch.key_id.into();
        entry.reason = BASE64_STANDARD.encode(batch.signature).into();
        entry.counts.matched = batch.count;
        self.audit(lane, &mut entry)?;
        verifier.accepted(batch.signature);
        Ok(())
    }

    /// Cases opened and closed: one entry each.
    pub(crate) fn case(
        &mut self,
        lane: &mut Lane,
        kind: AuditKind,
        agreement: usize,
        subject: mz_journal::SubjectTag,
        grant: GrantId,
        event: &EventRef<'_>,
    ) -> Result<(), Halt> {
        let agreement = self.plan.agreement(agreement);
        let mut entry = self.entry(lane, kind, event.cause);
        entry.agreement = agreement.id.as_str().into();
        entry.consumer = agreement.consumer.as_str().into();
        entry.purpose = agreement.purpose.as_str().into();
        entry.dataset = self.plan.dataset(event.source).id.as_str().into();
        entry.grant = Some(grant);
        about(&mut entry, event);
        // A booking names dependents: the entry is about the person whose case it is.
        entry.subject = subject;
        self.audit(lane, &mut entry)?;
        Ok(())
    }
}

/// Which event an entry is about.
pub(crate) fn about(entry: &mut Audit<'_>, event: &EventRef<'_>) {
    entry.subject = event.person.tag;
    entry.record = event.record;
    entry.event = *event.digest;
    entry.version_epoch = event.meta.epoch;
    entry.version_counter = event.meta.counter;
    entry.source_offset = event.offset;
}

fn out_count(counts: &mut Counts, cause: AuditCause) {
    counts.delivered += 1;
    if cause == AuditCause::Backfill {
        counts.backfilled += 1;
    }
}
