//! Derived answers (`insured ≥ 6 of 12 months: true`): computed from the source event, sealed by
//! the bus, a transaction's answers of one lane under one signature. Attested by the bus only; the
//! record itself names the source event's digest.
//!
//! Seal: department `bus`, stream `answers.<lane>`, dataset `<consumer>.<purpose>.answer.<name>.v<N>`,
//! sequence and version as delivered; subject leaf = the source dataset's id (the record's only
//! plain text), record leaf = the Kafka key in hexadecimal, which ties the answer to its reader.

use std::sync::Arc;

use mz_bus::TxProducer;
use mz_contract::{Answer, BUS, Value};
use mz_journal::DELIVERY_HEADER;
use mz_seal::{
    Datum, Digest, Draft, EncodeError, Layout, Verified, Version, encode, frame, headers,
    seal_batch,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::options::Keys;
use crate::orders::Recall;
use crate::outbox::{Halt, REASON_HEADER, WITHDRAWN_BY_SOURCE};
use crate::plan::Plan;

/// Answers sealed under one signature at most; more are sealed in several batches.
const MAX_ANSWERS_PER_BATCH: usize = 4_096;
/// First byte of what an answer's event id hashes.
const ANSWER_ID_PREFIX: u8 = 0x22;

/// An answer that was decided, numbered and audited, and waits for the transaction's signature.
pub(crate) struct PendingAnswer {
    pub lane: u16,
    pub output: usize,
    pub body: Body,
    pub key: [u8; 32],
    pub sequence: u64,
    /// The `mz-delivery` header.
    pub delivery: Vec<u8>,
    /// Digest of the source event.
    pub event: Digest,
    pub version: Version,
    pub ce_time_ms: i64,
    /// Id of the source dataset.
    pub dataset: String,
}

/// What is delivered. Both kinds wait, so that they keep their order.
pub(crate) enum Body {
    Value {
        schema_id: u32,
        layout: Arc<Layout>,
        datum: Vec<u8>,
    },
    /// The record is gone: the source's own seal says so.
    Withdrawal { seal: Vec<u8> },
    /// The bus takes it back.
    Recall(Recall),
}

impl PendingAnswer {
    fn is_withdrawal(&self) -> bool {
        matches!(self.body, Body::Withdrawal { .. } | Body::Recall(_))
    }

    /// The Avro record of an answer: value, as of, source dataset, source event.
    pub(crate) fn datum(
        answer: &Answer,
        value: Value<'_>,
        as_of_ms: i64,
        dataset: &str,
        event: &Verified<'_>,
    ) -> Result<Vec<u8>, EncodeError> {
        let value = match value {
            Value::Bool(value) => Datum::Bool(value),
            Value::Int(value) => Datum::Int(value),
            Value::Double(value) => Datum::Double(value),
            Value::Str(value) => Datum::Str(value.into_owned()),
            Value::Date(value) => Datum::Date(value),
            // The contract allows no other kind; whatever else came out has no value.
            _ => Datum::Null,
        };
        encode(
            &answer.layout,
            &[
                value,
                Datum::TimestampMillis(as_of_ms),
                Datum::Str(dataset.to_owned()),
                Datum::Bytes(event.event_digest.to_vec()),
            ],
        )
    }

    fn draft(
        &self,
        layout: &Layout,
        datum: &[u8],
        sealed_as: &str,
        schema: Digest,
    ) -> Result<Draft, Error> {
        let mut spans = Vec::new();
        // Encoded with this very layout: it fits.
        layout.spans(datum, &mut spans).map_err(|fault| {
            Error::Seal(mz_seal::SealError::Spans {
                index: 0,
                fault: fault.fault,
            })
        })?;
        let mut record = String::with_capacity(64);
        for byte in self.key {
            record.push(char::from(HEX[usize::from(byte >> 4)]));
            record.push(char::from(HEX[usize::from(byte & 15)]));
        }
        Ok(Draft {
            dataset: sealed_as.to_owned(),
            lane: self.lane,
            sequence: self.sequence,
            ce_id: answer_id(self.ce_time_ms, &self.event, sealed_as),
            ce_time_ms: self.ce_time_ms,
            schema,
            counter: self.version.counter,
            withdrawn: false,
            subject: self.dataset.clone(),
            record,
            value: datum.to_vec(),
            spans,
        })
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A UUIDv7 of the event's time that depends on event and answer alone.
fn answer_id(time_ms: i64, event: &Digest, sealed_as: &str) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update([ANSWER_ID_PREFIX]);
    hash.update(event);
    hash.update(sealed_as);
    let digest = hash.finalize();
    let mut id = [0; 16];
    id[..6].copy_from_slice(&time_ms.to_be_bytes()[2..]);
    id[6..].copy_from_slice(&digest[..10]);
    id[6] = id[6] & 0x0f | 0x70;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

/// Seals and writes the answers of one lane, in the order in which they were decided. `number` is
/// the lane's last audit number: it rises with every answer, so it can name the batches.
pub(crate) fn flush(
    answers: &mut Vec<PendingAnswer>,
    lane: u16,
    number: u64,
    plan: &Plan,
    keys: &Keys,
    producer: &mut TxProducer,
) -> Result<(), Halt> {
    let mine: Vec<PendingAnswer> = answers
        .extract_if(.., |answer| answer.lane == lane)
        .collect();
    // Numbers at or below `number` that no earlier transaction used: one per answer.
    let mut batch = number + 1 - mine.len() as u64;
    let alike = |a: &PendingAnswer, b: &PendingAnswer| {
        a.is_withdrawal() == b.is_withdrawal() && a.version.epoch == b.version.epoch
    };
    for run in mine.chunk_by(alike) {
        for part in run.chunks(MAX_ANSWERS_PER_BATCH) {
            if part[0].is_withdrawal() {
                withdraw(part, lane, plan, producer)?;
            } else {
                seal(part, lane, batch, plan, keys, producer)?;
                batch += 1;
            }
        }
    }
    Ok(())
}

fn withdraw(
    part: &[PendingAnswer],
    lane: u16,
    plan: &Plan,
    producer: &mut TxProducer,
) -> Result<(), Halt> {
    for answer in part {
        let topic = &plan.outputs[answer.output].topic;
        let partition = i32::from(lane);
        match &answer.body {
            Body::Withdrawal { seal } => {
                let listed: [(&str, &[u8]); 3] = [
                    (headers::SEAL, seal),
                    (DELIVERY_HEADER, &answer.delivery),
                    (REASON_HEADER, WITHDRAWN_BY_SOURCE.as_bytes()),
                ];
                producer.send(topic, partition, &answer.key, None, &listed)?;
            }
            Body::Recall(recall) => {
                let listed = recall.headers(&answer.delivery);
                producer.send(topic, partition, &answer.key, None, &listed)?;
            }
            Body::Value { .. } => {}
        }
    }
    Ok(())
}

fn seal(
    part: &[PendingAnswer],
    lane: u16,
    batch: u64,
    plan: &Plan,
    keys: &Keys,
    producer: &mut TxProducer,
) -> Result<(), Halt> {
    let mut drafts = Vec::with_capacity(part.len());
    let mut seeds = Vec::with_capacity(part.len());
    let mut ids = Vec::with_capacity(part.len());
    for answer in part {
        let Body::Value {
            schema_id,
            layout,
            datum,
        } = &answer.body
        else {
            continue;
        };
        let (name, schema) = sealed_as(plan, answer.output);
        drafts.push(answer.draft(layout, datum, name, schema)?);
        let mut seed = [0; 32];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| Error::NoRandom)?;
        seeds.push(seed);
        ids.push((answer, *schema_id));
    }
    let mut seeds = seeds.into_iter();
    let sealed = seal_batch(
        &plan.contract.bus_id,
        BUS,
        &format!("answers.{lane}"),
        part[0].version.epoch,
        batch,
        drafts,
        // One for each draft.
        &mut || seeds.next().unwrap_or_default(),
        &*keys.signer,
    )
    .map_err(Error::Seal)?;
    for ((answer, schema_id), sealed) in ids.into_iter().zip(sealed) {
        let ce = headers::cloud_event(&sealed.meta);
        let mut listed: Vec<(&str, &[u8])> = ce
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        listed.push((headers::SEAL, &sealed.seal));
        listed.push((DELIVERY_HEADER, &answer.delivery));
        producer.send(
            &plan.outputs[answer.output].topic,
            i32::from(lane),
            &answer.key,
            Some(&frame(schema_id, &sealed.value)),
            &listed,
        )?;
    }
    Ok(())
}

fn sealed_as(plan: &Plan, output: usize) -> (&str, Digest) {
    match &plan.outputs[output].answer {
        Some((name, schema)) => (name, *schema),
        // Pending answers are made for answer outputs only.
        None => ("", [0; 32]),
    }
}
