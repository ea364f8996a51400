//! Holds one delivery against the contract: the department's signature over a record that is
//! only partly at hand, the headers, the bus's mark. Nothing is believed before that.

use std::sync::Arc;

use mz_bus::Record;
use mz_contract::Contract;
use mz_journal::{DeliveryHeader, OrderId, Record as _, WITHDRAWAL_HEADER};
use mz_seal::{
    Expect, ExpectDelivery, Headers, KeySource as _, KeyStatus, SealFault, Span, Verifier, Version,
    unframe, verify_signature,
};

use crate::column::Cell;
use crate::target::{ANSWERS_BY, Kind, Target, Variant};

/// No fault of the delivery: it is in a form that only a later contract knows.
pub(crate) const CONTRACT_OUTDATED: &str = "ADAPTER_CONTRACT_OUTDATED";

/// Pseudonym ‖ record tag.
pub(crate) type Key = [u8; 32];

/// A verified record on its way into its table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub key: Key,
    pub version: Version,
    /// When the register changed.
    pub event_ms: i64,
    pub lane: i32,
    /// Where it stood in the topic.
    pub offset: i64,
    pub sequence: i64,
    pub audit_number: i64,
    pub proof: Option<Proof>,
    /// One per column of the table.
    pub cells: Vec<Cell>,
}

/// The delivered bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proof {
    /// Framed value.
    pub value: Vec<u8>,
    pub seal: Vec<u8>,
}

/// What a record turned out to be.
#[derive(Debug)]
pub(crate) enum Outcome {
    Row(Row),
    Withdrawal(Withdrawal),
    Rejected(&'static str),
}

/// A verified withdrawal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withdrawal {
    pub key: Key,
    /// The bus's order; without one the register itself took the record back.
    pub order: Option<OrderId>,
    /// Versions up to this one must not be used any more.
    pub version: Version,
    /// When the register changed, or when the bus withdrew.
    pub event_ms: i64,
    pub reason: String,
}

/// The bus's word for how far a topic and lane had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkSeen {
    None,
    Valid { at_ms: i64 },
    Invalid,
}

/// A checked record.
#[derive(Debug)]
pub(crate) struct Received {
    /// Delivery sequence, when the header could be read.
    pub sequence: Option<u64>,
    pub mark: MarkSeen,
    pub outcome: Outcome,
}

/// Longest withdrawal reason that is kept, bytes.
const MAX_REASON_BYTES: usize = 64;
/// Header that says why a record is withdrawn.
const REASON: &str = "mz-reason";
/// What a register's withdrawal without a usable reason says.
const UNSTATED: &str = "UNSTATED";

pub(crate) struct Checker {
    contract: Arc<Contract>,
    agreement: String,
    keep_proof: bool,
    verifier: Verifier,
    spans: Vec<Span>,
}

impl Checker {
    pub fn new(contract: Arc<Contract>, agreement: String, keep_proof: bool) -> Self {
        Self {
            contract,
            agreement,
            keep_proof,
            verifier: Verifier::new(),
            spans: Vec::new(),
        }
    }

    pub fn check(&mut self, target: &Target, record: &Record<'_>) -> Received {
        let mut received = Received {
            sequence: None,
            mark: MarkSeen::None,
            outcome: Outcome::Rejected(""),
        };
        received.outcome = match self.open(target, record, &mut received) {
            Ok(outcome) => outcome,
            Err(code) => Outcome::Rejected(code),
        };
        received
    }

    fn open(
        &mut self,
        target: &Target,
        record: &Record<'_>,
        received: &mut Received,
    ) -> Result<Outcome, &'static str> {
        let listed = record.headers().map_err(|_| "HEADERS_UNREADABLE")?;
        let pairs = || {
            listed
                .iter()
                .map(|(name, value)| (*name, value.unwrap_or_default()))
        };
        let headers = Headers::collect(pairs()).map_err(|fault| fault.code())?;
        let bytes = headers.delivery.ok_or("DELIVERY_HEADER_MISSING")?;
        let delivery = DeliveryHeader::decode(bytes).map_err(|_| "DELIVERY_HEADER_MALFORMED")?;
        if delivery.sequence == 0 {
            return Err("DELIVERY_HEADER_MALFORMED");
        }
        received.sequence = Some(delivery.sequence);
        received.mark = self.mark(target, record.partition, &delivery);
        let lane = u16::try_from(record.partition).map_err(|_| "LANE_WRONG")?;
        if delivery.agreement != self.agreement {
            return Err("AGREEMENT_FOREIGN");
        }
        if delivery.audit_lane != lane {
            return Err("LANE_WRONG");
        }
        let key: Key = record
            .key
            .and_then(|key| key.try_into().ok())
            .ok_or("DELIVERY_KEY_INVALID")?;
        let named = |wanted: &str| {
            pairs()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value)
        };
        match (record.value, named(WITHDRAWAL_HEADER)) {
            (None, Some(word)) => ordered(
                &self.contract,
                target,
                lane,
                key,
                word,
                &headers,
                named(REASON),
            ),
            // Which of the two is meant must never be a question.
            (Some(_), Some(_)) => Err("WITHDRAWAL_CONTRADICTS"),
            (None, None) => self.withdrawal(target, lane, key, &headers, named(REASON)),
            (Some(value), None) => self.row(
                target,
                (lane, record.offset),
                key,
                value,
                &headers,
                &delivery,
            ),
        }
    }

    fn row(
        &mut self,
        target: &Target,
        (lane, offset): (u16, i64),
        key: Key,
        value: &[u8],
        headers: &Headers<'_>,
        delivery: &DeliveryHeader,
    ) -> Result<Outcome, &'static str> {
        let code = |fault: SealFault| fault.code();
        let seal = headers.seal().map_err(code)?;
        let (schema_id, datum) = unframe(value).map_err(code)?;
        let variant = target
            .variants
            .iter()
            .find(|variant| variant.schema_id == schema_id)
            // Schema ids are never taken back: what is unknown under another contract is of a later one.
            .ok_or(if delivery.contract == self.contract.digest {
                "SCHEMA_UNKNOWN"
            } else {
                CONTRACT_OUTDATED
            })?;
        let (version, event_ms) = match &target.kind {
            Kind::Section { .. } => {
                let expect = expect(&self.contract, target, lane, variant);
                let verified = self
                    .verifier
                    .verify_delivery(&expect, datum, seal, &*self.contract)
                    .map_err(code)?;
                headers.check(&verified.meta).map_err(code)?;
                // A withdrawn record is delivered as a null value, never with its fields.
                if verified.meta.withdrawn {
                    return Err(SealFault::MetaContradicts.code());
                }
                self.spans = verified.spans;
                (verified.meta.version(), verified.meta.ce_time_ms)
            }
            Kind::Answer { sealed_as, .. } => {
                let streams = [format!("answers.{lane}")];
                let expect = Expect {
                    bus: &self.contract.bus_id,
                    dataset: sealed_as,
                    department: ANSWERS_BY,
                    streams: &streams,
                    lane,
                    layout: &variant.layout,
                    schema_digest: &variant.digest,
                    subject_field: variant
                        .layout
                        .field_index("dataset")
                        .ok_or("SCHEMA_UNKNOWN")?,
                };
                let verified = self
                    .verifier
                    .verify_source(&expect, datum, seal, &*self.contract)
                    .map_err(code)?;
                headers.check(&verified.meta).map_err(code)?;
                // The answer's record leaf is its key: an answer about one can't pass for another.
                if !is_hex_of(verified.record, &key) {
                    return Err("RECORD_FOREIGN");
                }
                let of = (verified.meta.version(), verified.meta.ce_time_ms);
                self.spans.clone_from(&verified.spans);
                self.verifier.recycle(verified);
                of
            }
        };
        let cells = self.cells(target, variant, datum)?;
        Ok(Outcome::Row(Row {
            key,
            version,
            event_ms,
            lane: i32::from(lane),
            offset,
            sequence: delivery.sequence as i64,
            audit_number: delivery.audit_number as i64,
            proof: self.keep_proof.then(|| Proof {
                value: value.to_vec(),
                seal: seal.to_vec(),
            }),
            cells,
        }))
    }

    fn cells(
        &self,
        target: &Target,
        variant: &Variant,
        datum: &[u8],
    ) -> Result<Vec<Cell>, &'static str> {
        target
            .columns
            .iter()
            .zip(&variant.fields)
            .map(|(column, field)| {
                let Some(field) = *field else {
                    return Ok(Cell::Null);
                };
                let span = &self.spans[field];
                let value = variant
                    .layout
                    .decode(field, &datum[span.start as usize..span.end as usize])
                    .map_err(|_| "DATUM_MALFORMED")?;
                Cell::of(value, column.ty).map_err(|_| "VALUE_UNSTORABLE")
            })
            .collect()
    }

    /// A null value under the department's seal. It discloses nothing but that the department withdrew a record; which
    /// one is the key's word, that is, the bus's.
    fn withdrawal(
        &mut self,
        target: &Target,
        lane: u16,
        key: Key,
        headers: &Headers<'_>,
        reason: Option<&[u8]>,
    ) -> Result<Outcome, &'static str> {
        let seal = headers.seal().map_err(|fault| fault.code())?;
        let variant = target.variants.last().ok_or("SCHEMA_UNKNOWN")?;
        let expect = expect(&self.contract, target, lane, variant);
        let verified = self
            .verifier
            .verify_withdrawal(&expect, seal, &*self.contract)
            .map_err(|fault| fault.code())?;
        // A withdrawn answer has no event of its own, so no CloudEvents headers either.
        if headers.id.is_some() || matches!(target.kind, Kind::Section { .. }) {
            headers
                .check(&verified.meta)
                .map_err(|fault| fault.code())?;
        }
        let reason = reason
            .and_then(|reason| std::str::from_utf8(reason).ok())
            .filter(|reason| is_code(reason))
            .unwrap_or(UNSTATED);
        Ok(Outcome::Withdrawal(Withdrawal {
            key,
            order: None,
            version: verified.meta.version(),
            event_ms: verified.meta.ce_time_ms,
            reason: reason.to_owned(),
        }))
    }

    fn mark(&self, target: &Target, partition: i32, delivery: &DeliveryHeader) -> MarkSeen {
        let (Some(mark), Ok(lane)) = (&delivery.mark, u16::try_from(partition)) else {
            return MarkSeen::None;
        };
        let payload =
            DeliveryHeader::mark_payload(&target.topic, lane, delivery.sequence, mark.at_ms);
        let signed = self
            .contract
            .seal_key(ANSWERS_BY, &mark.key_id)
            .filter(|key| key.status == KeyStatus::Active)
            .is_some_and(|key| verify_signature(&key.public, &payload, &mark.signature).is_ok());
        if signed {
            MarkSeen::Valid { at_ms: mark.at_ms }
        } else {
            MarkSeen::Invalid
        }
    }
}

/// A null value under the bus's own word. The signature covers topic, lane and key, so that the word
/// about one record of one consumer says nothing about another.
fn ordered(
    contract: &Contract,
    target: &Target,
    lane: u16,
    key: Key,
    word: &[u8],
    headers: &Headers<'_>,
    reason: Option<&[u8]>,
) -> Result<Outcome, &'static str> {
    let word = mz_journal::Withdrawal::decode(word).map_err(|_| "WITHDRAWAL_MALFORMED")?;
    if !is_code(&word.reason) {
        return Err("WITHDRAWAL_MALFORMED");
    }
    // A department's seal beside it would be a second word about the same record.
    if headers.seal.is_some() {
        return Err("WITHDRAWAL_CONTRADICTS");
    }
    let public = contract
        .seal_key(ANSWERS_BY, &word.key_id)
        .ok_or("WITHDRAWAL_KEY_UNKNOWN")?;
    // A revocation counts batches of streams; a withdrawal is in none.
    if public.status != KeyStatus::Active {
        return Err("WITHDRAWAL_KEY_REVOKED");
    }
    let payload = word.payload(&target.topic, lane, &key);
    verify_signature(&public.public, &payload, &word.signature)
        .map_err(|_| "WITHDRAWAL_SIGNATURE_INVALID")?;
    if reason.is_some_and(|reason| reason != word.reason.as_bytes()) {
        return Err("WITHDRAWAL_CONTRADICTS");
    }
    Ok(Outcome::Withdrawal(Withdrawal {
        key,
        order: Some(word.order),
        version: Version {
            epoch: word.epoch,
            counter: word.counter,
        },
        event_ms: word.at_ms,
        reason: word.reason,
    }))
}

fn expect<'e>(
    contract: &'e Contract,
    target: &Target,
    lane: u16,
    variant: &'e Variant,
) -> ExpectDelivery<'e> {
    let dataset = target.dataset(contract);
    ExpectDelivery {
        bus: &contract.bus_id,
        dataset: &dataset.id,
        department: &dataset.department,
        streams: &dataset.streams,
        lane: Some(lane),
        source_layout: &dataset.layout,
        source_schema_digest: &dataset.schema_digest,
        kept: &variant.kept,
        projected_layout: &variant.layout,
    }
}

fn is_hex_of(text: &str, key: &Key) -> bool {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let text = text.as_bytes();
    text.len() == 2 * key.len()
        && text.chunks_exact(2).zip(key).all(|(pair, byte)| {
            pair[0] == HEX[usize::from(byte >> 4)] && pair[1] == HEX[usize::from(byte & 15)]
        })
}

fn is_code(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_REASON_BYTES
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}
