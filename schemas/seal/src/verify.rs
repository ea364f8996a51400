//! Verifies source events and deliveries. Only [`Verifier`] can make a [`Verified`] or
//! a [`VerifiedDelivery`], so whoever holds one knows what was checked.

use crate::cache::{Batch, BatchCache};
use crate::fault::SealFault;
use crate::hash::{Digest, LEADING_LEAVES, RECORD_LEAF, SUBJECT_LEAF, leaf, meta_leaf, text_leaf};
use crate::keys::{BatchStatement, KeySource, Suite, verify_signature};
use crate::layout::{Layout, Span};
use crate::meta::MetaRef;
use crate::sealing::Scratch;
use crate::tree::climb;
use crate::wire::{BatchPart, DeliverySeal, LeafPart, SourceSeal};

/// Buffers kept for reuse; more events than this are seldom in hand at once.
const MAX_POOL: usize = 64;

/// What a source event must say, from the contract and from where it was read.
#[derive(Debug, Clone, Copy)]
pub struct Expect<'e> {
    pub bus: &'e str,
    pub dataset: &'e str,
    pub department: &'e str,
    /// Streams that may publish this dataset.
    pub streams: &'e [String],
    /// Partition the event was read from.
    pub lane: u16,
    pub layout: &'e Layout,
    pub schema_digest: &'e Digest,
    /// The field that names the person: a plain string.
    pub subject_field: usize,
}

/// What a delivery must say.
#[derive(Debug, Clone, Copy)]
pub struct ExpectDelivery<'e> {
    pub bus: &'e str,
    pub dataset: &'e str,
    pub department: &'e str,
    pub streams: &'e [String],
    /// Partition it was read from; `None` outside a topic (an evidence bundle).
    pub lane: Option<u16>,
    pub source_layout: &'e Layout,
    pub source_schema_digest: &'e Digest,
    /// Source field indices, rising.
    pub kept: &'e [u16],
    pub projected_layout: &'e Layout,
}

/// Which signature covers an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchRef<'a> {
    pub key_id: &'a str,
    pub epoch: u32,
    pub number: u64,
    pub count: u32,
    pub index: u32,
    /// The department's, over the batch's statement: it stands without the event.
    pub signature: &'a [u8; 64],
}

/// A source event whose seal verified.
#[derive(Debug)]
pub struct Verified<'a> {
    pub meta: MetaRef<'a>,
    /// The person, as the subject field says it.
    pub subject: &'a str,
    pub record: &'a str,
    pub datum: &'a [u8],
    /// Span of every top-level field.
    pub spans: Vec<Span>,
    pub event_digest: Digest,
    /// Two roots for one (stream, epoch, batch number) prove equivocation.
    pub batch_root: Digest,
    pub batch: BatchRef<'a>,
    /// [`Verifier::accepted`] was not told of this batch since the verifier began to remember it.
    pub batch_is_new: bool,
    pub(crate) suite: Suite,
    pub(crate) meta_bytes: &'a [u8],
    pub(crate) scratch: Scratch,
    pub(crate) batch_bytes: &'a [u8],
}

/// A delivery whose seal verified: the department signed these fields.
#[derive(Debug)]
pub struct VerifiedDelivery<'a> {
    pub meta: MetaRef<'a>,
    /// `None`: whose record this is rests on the bus.
    pub subject: Option<&'a str>,
    pub record: Option<&'a str>,
    pub datum: &'a [u8],
    /// Spans of the projected record's fields.
    pub spans: Vec<Span>,
    pub event_digest: Digest,
    pub batch_root: Digest,
    pub batch: BatchRef<'a>,
}

/// Verifies events; remembers batches, so keep one per thread for as long as it lives.
#[derive(Debug)]
pub struct Verifier {
    batches: BatchCache,
    scratch: Scratch,
    pool: Vec<(Vec<Span>, Scratch)>,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    pub fn new() -> Self {
        Self {
            batches: BatchCache::new(),
            scratch: Scratch::default(),
            pool: Vec::new(),
        }
    }

    /// Verifies a source event: `value` is the bare datum, `seal` the `mz-seal` header.
    ///
    /// # Errors
    /// The first check that fails, in the order: form of the seal, bus, stream, lane,
    /// schema, form of the value, key, signature.
    pub fn verify_source<'a>(
        &mut self,
        expect: &Expect<'_>,
        value: &'a [u8],
        seal: &'a [u8],
        keys: &dyn KeySource,
    ) -> Result<Verified<'a>, SealFault> {
        let seal = SourceSeal::parse(seal)?;
        check_origin(
            &seal.meta,
            expect.bus,
            expect.department,
            expect.dataset,
            expect.streams,
        )?;
        if seal.meta.lane != expect.lane {
            return Err(SealFault::LaneWrong);
        }
        let fields = expect.layout.fields().len();
        if seal.meta.schema != *expect.schema_digest || usize::from(seal.meta.field_count) != fields
        {
            return Err(SealFault::SchemaMismatch);
        }
        let (mut spans, mut scratch) = self.pool.pop().unwrap_or_default();
        let outcome = self.prove_source(expect, value, &seal, keys, &mut spans, &mut scratch);
        match outcome {
            Ok((subject, event_digest, (batch_root, accepted))) => Ok(Verified {
                subject,
                record: seal.record,
                datum: value,
                spans,
                event_digest,
                batch_root,
                batch: batch_ref(&seal.meta, &seal.batch),
                batch_is_new: !accepted,
                suite: seal.suite,
                meta_bytes: seal.meta_bytes,
                scratch,
                batch_bytes: seal.batch.raw,
                meta: seal.meta,
            }),
            Err(fault) => {
                self.keep(spans, scratch);
                Err(fault)
            }
        }
    }

    fn prove_source<'a>(
        &mut self,
        expect: &Expect<'_>,
        value: &'a [u8],
        seal: &SourceSeal<'a>,
        keys: &dyn KeySource,
        spans: &mut Vec<Span>,
        scratch: &mut Scratch,
    ) -> Result<(&'a str, Digest, (Digest, bool)), SealFault> {
        expect.layout.spans(value, spans)?;
        let subject = expect
            .layout
            .plain_string(expect.subject_field, value, spans)?;
        let digest = scratch.digest(
            seal.meta_bytes,
            seal.seed,
            subject,
            seal.record,
            value,
            spans,
        );
        let root = self.prove(&seal.meta, seal.suite, &seal.batch, &digest, keys)?;
        Ok((subject, digest, root))
    }

    /// Verifies a delivery offline: the department's signature over a record that is
    /// only partly at hand.
    ///
    /// # Errors
    /// As [`Verifier::verify_source`]; besides, the delivery must disclose exactly `kept`.
    pub fn verify_delivery<'a>(
        &mut self,
        expect: &ExpectDelivery<'_>,
        value: &'a [u8],
        seal: &'a [u8],
        keys: &dyn KeySource,
    ) -> Result<VerifiedDelivery<'a>, SealFault> {
        let seal = DeliverySeal::parse(seal)?;
        self.check_delivery(&seal, expect)?;
        if expect.projected_layout.fields().len() != expect.kept.len() {
            return Err(SealFault::DisclosureMismatch);
        }
        let mut spans = Vec::new();
        expect.projected_layout.spans(value, &mut spans)?;
        let event_digest = self.delivery_digest(&seal, expect.kept, value, &spans)?;
        let (batch_root, _) =
            self.prove(&seal.meta, seal.suite, &seal.batch, &event_digest, keys)?;
        Ok(VerifiedDelivery {
            subject: seal.subject,
            record: seal.record,
            datum: value,
            spans,
            event_digest,
            batch_root,
            batch: batch_ref(&seal.meta, &seal.batch),
            meta: seal.meta,
        })
    }

    /// Verifies the seal of a withdrawal (a record with a null value): the department said
    /// that a record is withdrawn. No field is disclosed; which record it was rests on the
    /// topic's key, which is the bus's. `kept` and `projected_layout` are not looked at.
    ///
    /// # Errors
    /// As [`Verifier::verify_delivery`]; an event that is not withdrawn contradicts its meta.
    pub fn verify_withdrawal<'a>(
        &mut self,
        expect: &ExpectDelivery<'_>,
        seal: &'a [u8],
        keys: &dyn KeySource,
    ) -> Result<VerifiedDelivery<'a>, SealFault> {
        let seal = DeliverySeal::parse(seal)?;
        self.check_delivery(&seal, expect)?;
        if !seal.meta.withdrawn {
            return Err(SealFault::MetaContradicts);
        }
        let event_digest = self.delivery_digest(&seal, &[], &[], &[])?;
        let (batch_root, _) =
            self.prove(&seal.meta, seal.suite, &seal.batch, &event_digest, keys)?;
        Ok(VerifiedDelivery {
            subject: seal.subject,
            record: seal.record,
            datum: &[],
            spans: Vec::new(),
            event_digest,
            batch_root,
            batch: batch_ref(&seal.meta, &seal.batch),
            meta: seal.meta,
        })
    }

    fn check_delivery(
        &self,
        seal: &DeliverySeal<'_>,
        expect: &ExpectDelivery<'_>,
    ) -> Result<(), SealFault> {
        check_origin(
            &seal.meta,
            expect.bus,
            expect.department,
            expect.dataset,
            expect.streams,
        )?;
        if expect.lane.is_some_and(|lane| lane != seal.meta.lane) {
            return Err(SealFault::LaneWrong);
        }
        let fields = expect.source_layout.fields().len();
        if seal.meta.schema != *expect.source_schema_digest
            || usize::from(seal.meta.field_count) != fields
        {
            return Err(SealFault::SchemaMismatch);
        }
        Ok(())
    }

    fn delivery_digest(
        &mut self,
        seal: &DeliverySeal<'_>,
        kept: &[u16],
        value: &[u8],
        spans: &[Span],
    ) -> Result<Digest, SealFault> {
        let Scratch { leaves, text, .. } = &mut self.scratch;
        leaves.start(seal.leaf_count.into());
        leaves.push(&meta_leaf(seal.meta_bytes));
        let mut fields = kept.iter().zip(spans).peekable();
        for (index, part) in seal.leaves() {
            let expected = match index {
                SUBJECT_LEAF => seal.subject.is_some(),
                RECORD_LEAF => seal.record.is_some(),
                _ => fields.peek().is_some_and(|(field, _)| {
                    usize::from(**field) + LEADING_LEAVES == usize::from(index)
                }),
            };
            match part {
                LeafPart::Withheld(hash) if !expected => leaves.push(hash),
                LeafPart::Disclosed(salt) if expected => {
                    let hash = match (index, seal.subject, seal.record) {
                        (SUBJECT_LEAF, Some(subject), _) => text_leaf(index, salt, subject, text),
                        (RECORD_LEAF, _, Some(record)) => text_leaf(index, salt, record, text),
                        _ => {
                            let (_, span) = fields.next().ok_or(SealFault::DisclosureMismatch)?;
                            leaf(index, salt, &value[span.start as usize..span.end as usize])
                        }
                    };
                    leaves.push(&hash);
                }
                _ => return Err(SealFault::DisclosureMismatch),
            }
        }
        if fields.next().is_some() {
            Err(SealFault::DisclosureMismatch)
        } else {
            Ok(leaves.digest())
        }
    }

    /// The key may speak, and its signature covers a tree that holds `digest`: its root, and whether the
    /// batch was accepted.
    fn prove(
        &mut self,
        meta: &MetaRef<'_>,
        suite: Suite,
        batch: &BatchPart<'_>,
        digest: &Digest,
        keys: &dyn KeySource,
    ) -> Result<(Digest, bool), SealFault> {
        let key = keys
            .seal_key(meta.department, batch.key_id)
            .ok_or(SealFault::KeyUnknown)?;
        if key.suite != suite {
            return Err(SealFault::KeyUnknown);
        }
        if !key.allows(meta.stream, meta.epoch, batch.number) {
            return Err(SealFault::KeyRevoked);
        }
        let mut statement = BatchStatement {
            suite,
            key_id: batch.key_id,
            department: meta.department,
            stream: meta.stream,
            epoch: meta.epoch,
            number: batch.number,
            count: batch.count,
            root: [0; 32],
        };
        if let Some(known) = self.batches.get(batch.signature)
            && known.covers(&statement, &key.public)
        {
            let included = known.includes(digest, batch.index, batch.path);
            return if included {
                Ok((known.root, known.accepted))
            } else {
                Err(SealFault::SignatureInvalid)
            };
        }
        statement.root = climb(digest, batch.index, batch.count, batch.path);
        verify_signature(&key.public, &statement.payload(), batch.signature)?;
        let mut verified = Batch::new(&statement, key.public);
        verified.includes(digest, batch.index, batch.path);
        self.batches.insert(*batch.signature, verified);
        Ok((statement.root, false))
    }

    /// The batch under this signature was accepted and recorded: its events are no longer
    /// [new](Verified::batch_is_new). Forgotten with the batch: a record may come twice, and is never missing.
    pub fn accepted(&mut self, signature: &[u8; 64]) {
        if let Some(batch) = self.batches.get(signature) {
            batch.accepted = true;
        }
    }

    /// Takes a verified event's buffers back. Optional: it spares three allocations an event.
    pub fn recycle(&mut self, event: Verified<'_>) {
        self.keep(event.spans, event.scratch);
    }

    fn keep(&mut self, spans: Vec<Span>, scratch: Scratch) {
        if self.pool.len() < MAX_POOL {
            self.pool.push((spans, scratch));
        }
    }
}

fn check_origin(
    meta: &MetaRef<'_>,
    bus: &str,
    department: &str,
    dataset: &str,
    streams: &[String],
) -> Result<(), SealFault> {
    if meta.bus != bus {
        return Err(SealFault::BusForeign);
    }
    if meta.dataset != dataset {
        return Err(SealFault::MetaContradicts);
    }
    if meta.department != department || !streams.iter().any(|stream| stream == meta.stream) {
        return Err(SealFault::StreamForeign);
    }
    Ok(())
}

fn batch_ref<'a>(meta: &MetaRef<'a>, batch: &BatchPart<'a>) -> BatchRef<'a> {
    BatchRef {
        key_id: batch.key_id,
        epoch: meta.epoch,
        number: batch.number,
        count: batch.count,
        index: batch.index,
        signature: batch.signature,
    }
}
