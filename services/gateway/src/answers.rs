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
use crate::outbox::Halt;
use crate::plan::Plan;

/// Answers sealed under one signature at most; more are sealed in several batches.
const MAX_ANSWERS_PER_BATCH: usize = 4_096;
/// First byte of what an answer's event id hashes.
const ANSWER_ID_PREFIX: u8 = 0x22;

/// An answer that was decided, numbered and audited, and waits for the transaction's signature.
pub(crate) struct PendingAnswer {
    pub lane: u16,
    pub output: usize,
    pub schema_id: u32,
    pub layout: Arc<Layout>,
    pub datum: Vec<u8>,
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

impl PendingAnswer {
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

    fn draft(&self, sealed_as: &str, schema: Digest) -> Result<Draft, Error> {
        let mut spans = Vec::new();
        // Encoded with this very layout: it fits.
        self.layout
            .spans(&self.datum, &mut spans)
            .map_err(|fault| {
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
            value: self.datum.clone(),
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

/// Seals and writes the answers of one lane. `number` is the lane's last audit number: it rises
/// with every answer, so it can name the batch.
pub(crate) fn flush(
    answers: &mut Vec<PendingAnswer>,
    lane: u16,
    number: u64,
    plan: &Plan,
    keys: &Keys,
    producer: &mut TxProducer,
) -> Result<(), Halt> {
    let mut mine: Vec<PendingAnswer> = answers
        .extract_if(.., |answer| answer.lane == lane)
        .collect();
    // Stable: order within an epoch is kept.
    mine.sort_by_key(|answer| answer.version.epoch);
    let stream = format!("answers.{lane}");
    let batches = mine
        .chunk_by(|a, b| a.version.epoch == b.version.epoch)
        .flat_map(|epoch| epoch.chunks(MAX_ANSWERS_PER_BATCH));
    // Numbers at or below `number` that no earlier transaction used: one per answer.
    let mut batch = number + 1 - mine.len() as u64;
    for part in batches {
        let drafts = part
            .iter()
            .map(|answer| {
                let (sealed_as, schema) = sealed_as(plan, answer.output);
                answer.draft(sealed_as, schema)
            })
            .collect::<Result<_, _>>()?;
        let mut seeds = vec![[0; 32]; part.len()];
        for seed in &mut seeds {
            SystemRandom::new()
                .fill(seed)
                .map_err(|_| Error::NoRandom)?;
        }
        let mut seeds = seeds.into_iter();
        let sealed = seal_batch(
            &plan.contract.bus_id,
            BUS,
            &stream,
            part[0].version.epoch,
            batch,
            drafts,
            &mut || seeds.next().unwrap_or_default(),
            &*keys.signer,
        )
        .map_err(Error::Seal)?;
        batch += 1;
        for (answer, sealed) in part.iter().zip(sealed) {
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
                Some(&frame(answer.schema_id, &sealed.value)),
                &listed,
            )?;
        }
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
