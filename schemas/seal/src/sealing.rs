//! Seals the events of one connector transaction: leaves, digests, one tree, one signature.

use crate::MAX_DATUM_BYTES;
use crate::avro::AvroFault;
use crate::hash::{
    Digest, LEADING_LEAVES, Leaves, RECORD_LEAF, SUBJECT_LEAF, Salt, Seed, leaf, meta_leaf, salts,
    text_leaf,
};
use crate::keys::{BatchStatement, SignError, Signer};
use crate::layout::Span;
use crate::meta::{MAX_META_BYTES, Meta, is_name};
use crate::schema::MAX_FIELDS;
use crate::tree::{MAX_BATCH, Tree, path_length};
use crate::wire::{FORM_SOURCE, MAX_ID_BYTES, MAX_SEAL_BYTES, write_head, write_text};

/// One event before it is sealed. Bus, department, stream and epoch come from the batch.
#[derive(Debug, Clone)]
pub struct Draft {
    /// `<department>.<dataset>.v<N>`
    pub dataset: String,
    pub lane: u16,
    /// Next number of this stream, dataset and lane, from 1.
    pub sequence: u64,
    /// UUIDv7.
    pub ce_id: [u8; 16],
    pub ce_time_ms: i64,
    /// [`crate::schema_digest`] of the source schema.
    pub schema: Digest,
    /// Version within the epoch, from 1.
    pub counter: u64,
    pub withdrawn: bool,
    /// Equal to the text of the dataset's subject field.
    pub subject: String,
    /// The record-id fields as text, joined by `|`.
    pub record: String,
    /// Bare Avro datum, without framing.
    pub value: Vec<u8>,
    /// From [`crate::Layout::spans`] over `value`.
    pub spans: Vec<Span>,
}

/// One event ready to publish.
#[derive(Debug, Clone)]
pub struct SealedEvent {
    /// The draft's datum, unchanged.
    pub value: Vec<u8>,
    /// Bytes of the `mz-seal` header.
    pub seal: Vec<u8>,
    pub meta: Meta,
    pub digest: Digest,
}

/// Why a batch can't be sealed. `index` is the position of the draft in the batch.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("a batch has 1 to {MAX_BATCH} events")]
    BatchSize,
    #[error("bus, department, stream or key id is not a name, or epoch or batch number is 0")]
    BatchNames,
    #[error("draft {index}: meta is outside the format's limits")]
    Meta { index: usize },
    #[error("draft {index}: subject or record id is empty or longer than {MAX_ID_BYTES} bytes")]
    Ids { index: usize },
    #[error("draft {index}: the value or its seal is too large")]
    TooLarge { index: usize },
    #[error("draft {index}: spans do not cover the value: {fault}")]
    Spans { index: usize, fault: AvroFault },
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Seals drafts under one signature. `batch` is the number after the stream's last
/// batch (from 1); `seeds` gives a fresh random seed for each event.
#[expect(
    clippy::too_many_arguments,
    reason = "they are the fields of the signed statement"
)]
pub fn seal_batch(
    bus: &str,
    department: &str,
    stream: &str,
    epoch: u32,
    batch: u64,
    drafts: Vec<Draft>,
    seeds: &mut dyn FnMut() -> Seed,
    signer: &dyn Signer,
) -> Result<Vec<SealedEvent>, SealError> {
    let count = u32::try_from(drafts.len()).map_err(|_| SealError::BatchSize)?;
    if count == 0 || count > MAX_BATCH {
        return Err(SealError::BatchSize);
    }
    let names = [bus, department, stream, signer.key_id()];
    if epoch == 0 || batch == 0 || !names.iter().all(|name| is_name(name)) {
        return Err(SealError::BatchNames);
    }

    let mut scratch = Scratch::default();
    let mut events = Vec::with_capacity(drafts.len());
    let mut digests = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.into_iter().enumerate() {
        check(&draft, index)?;
        let meta = Meta {
            bus: bus.to_owned(),
            department: department.to_owned(),
            stream: stream.to_owned(),
            dataset: draft.dataset,
            lane: draft.lane,
            sequence: draft.sequence,
            ce_id: draft.ce_id,
            ce_time_ms: draft.ce_time_ms,
            schema: draft.schema,
            field_count: draft.spans.len() as u16,
            epoch,
            counter: draft.counter,
            withdrawn: draft.withdrawn,
        };
        meta.check().map_err(|_| SealError::Meta { index })?;
        let mut meta_bytes = Vec::with_capacity(192);
        meta.encode_into(&mut meta_bytes);
        if meta_bytes.len() > MAX_META_BYTES {
            return Err(SealError::Meta { index });
        }
        let seed = seeds();
        let digest = scratch.digest(
            &meta_bytes,
            &seed,
            &draft.subject,
            &draft.record,
            &draft.value,
            &draft.spans,
        );
        let mut seal = Vec::with_capacity(640);
        write_head(signer.suite(), FORM_SOURCE, &meta_bytes, &mut seal);
        seal.extend_from_slice(&seed);
        write_text(&draft.record, &mut seal);
        digests.push(digest);
        events.push(SealedEvent {
            value: draft.value,
            seal,
            meta,
            digest,
        });
    }

    let tree = Tree::build(&digests);
    let statement = BatchStatement {
        suite: signer.suite(),
        key_id: signer.key_id(),
        department,
        stream,
        epoch,
        number: batch,
        count,
        root: tree.head(),
    };
    let signature = signer.sign(&statement.payload())?;
    for (position, event) in events.iter_mut().enumerate() {
        let index = position as u32;
        let seal = &mut event.seal;
        seal.push(signer.key_id().len() as u8);
        seal.extend_from_slice(signer.key_id().as_bytes());
        seal.extend_from_slice(&batch.to_be_bytes());
        seal.extend_from_slice(&count.to_be_bytes());
        seal.extend_from_slice(&index.to_be_bytes());
        seal.push(path_length(index, count) as u8);
        for sibling in tree.path(index) {
            seal.extend_from_slice(sibling);
        }
        seal.extend_from_slice(&signature);
        if seal.len() > MAX_SEAL_BYTES {
            return Err(SealError::TooLarge { index: position });
        }
    }
    Ok(events)
}

fn check(draft: &Draft, index: usize) -> Result<(), SealError> {
    if [&draft.subject, &draft.record]
        .iter()
        .any(|id| id.is_empty() || id.len() > MAX_ID_BYTES)
    {
        return Err(SealError::Ids { index });
    }
    if draft.value.len() > MAX_DATUM_BYTES || draft.spans.len() > MAX_FIELDS {
        return Err(SealError::TooLarge { index });
    }
    // Spans must tile the value: a gap would be bytes that no leaf covers.
    let mut end = 0;
    for span in &draft.spans {
        if span.start != end || span.end < span.start {
            return Err(SealError::Spans {
                index,
                fault: AvroFault::OutOfRange,
            });
        }
        end = span.end;
    }
    if end as usize != draft.value.len() {
        return Err(SealError::Spans {
            index,
            fault: AvroFault::TrailingBytes,
        });
    }
    Ok(())
}

/// Buffers reused from event to event.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub salts: Vec<Salt>,
    pub leaves: Leaves,
    pub text: Vec<u8>,
}

impl Scratch {
    /// Computes all leaves and the digest of a whole source event. `spans` lie inside `datum`.
    pub fn digest(
        &mut self,
        meta: &[u8],
        seed: &Seed,
        subject: &str,
        record: &str,
        datum: &[u8],
        spans: &[Span],
    ) -> Digest {
        let count = spans.len() + LEADING_LEAVES;
        salts(seed, count - 1, &mut self.salts);
        self.leaves.start(count);
        self.leaves.push(&meta_leaf(meta));
        self.leaves.push(&text_leaf(
            SUBJECT_LEAF,
            &self.salts[0],
            subject,
            &mut self.text,
        ));
        self.leaves.push(&text_leaf(
            RECORD_LEAF,
            &self.salts[1],
            record,
            &mut self.text,
        ));
        for (field, span) in spans.iter().enumerate() {
            let index = field + LEADING_LEAVES;
            let bytes = &datum[span.start as usize..span.end as usize];
            self.leaves
                .push(&leaf(index as u16, &self.salts[index - 1], bytes));
        }
        self.leaves.digest()
    }
}
