//! One transaction: sealed events, the checkpoint, the status and the quarantine records, all or
//! nothing. It is opened only when everything in it is ready, so that a slow register never holds
//! readers of the topic back.

use crate::checkpoint::{Head, Key, RecordState, RejectMark, Sequence, Tag};
use crate::draft::{Checked, Drafter};
use crate::error::{ConnectorError, Stop};
use crate::last::CheckpointKeys;
use crate::limits::{MAX_TX_AGE, MAX_TX_BYTES, MAX_TX_EVENTS, MAX_TX_REJECTS};
use mz_bus::{TxError, TxProducer};
use mz_journal::{Quarantine, Record as _, SourceStatus, topics};
use mz_seal::{Draft, SealedEvent, Signer, frame, headers, seal_batch};
use std::collections::HashMap;
use std::time::Instant;

/// One record for a topic other than the source topics.
struct Extra {
    topic: String,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// Who publishes what.
pub(crate) struct Identity {
    pub bus_id: String,
    pub department: String,
    pub stream: String,
    pub signer: Box<dyn Signer>,
}

/// What waits for the next commit.
#[derive(Default)]
pub(crate) struct Pending {
    drafts: Vec<Draft>,
    /// For each draft: index of its output, key on the source topic.
    routes: Vec<(usize, [u8; 32])>,
    extras: Vec<Extra>,
    rejects: usize,
    bytes: usize,
    since: Option<Instant>,
    /// The head or the status changed although there is no event.
    touched: bool,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.drafts.is_empty() && self.extras.is_empty() && !self.touched
    }

    pub(crate) fn is_full(&self) -> bool {
        self.drafts.len() >= MAX_TX_EVENTS
            || self.bytes >= MAX_TX_BYTES
            || self.rejects >= MAX_TX_REJECTS
    }

    pub(crate) fn is_old(&self) -> bool {
        self.since
            .is_some_and(|since| since.elapsed() >= MAX_TX_AGE)
    }

    pub(crate) fn touch(&mut self) {
        self.touched = true;
    }

    fn started(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }
}

/// Numbers given out and waiting to be given out.
pub(crate) struct Numbers {
    pub head: Head,
    lanes: HashMap<(usize, u16), u64>,
}

impl Numbers {
    pub(crate) fn new(head: Head, drafter: &Drafter) -> Self {
        let lanes = head
            .sequences
            .iter()
            .filter_map(|sequence| {
                let output = drafter
                    .outputs
                    .iter()
                    .position(|output| output.dataset.id == sequence.dataset)?;
                Some(((output, sequence.lane), sequence.last))
            })
            .collect();
        Self { head, lanes }
    }

    /// A new epoch: every number starts again.
    pub(crate) fn next_epoch(&mut self, epoch: u32) {
        self.head = Head {
            epoch,
            ..Head::default()
        };
        self.lanes.clear();
    }

    fn next(&mut self, output: usize, lane: u16) -> (u64, u64) {
        let last = self.lanes.entry((output, lane)).or_default();
        *last += 1;
        self.head.counter += 1;
        (*last, self.head.counter)
    }

    /// The head as it is committed. Sequences of datasets that this run does not publish are kept.
    fn snapshot(&self, drafter: &Drafter) -> Head {
        let ours = |sequence: &&Sequence| {
            drafter
                .outputs
                .iter()
                .any(|output| output.dataset.id == sequence.dataset)
        };
        let mut sequences: Vec<Sequence> = self
            .head
            .sequences
            .iter()
            .filter(|sequence| !ours(sequence))
            .cloned()
            .collect();
        sequences.extend(self.lanes.iter().map(|((output, lane), last)| Sequence {
            dataset: drafter.outputs[*output].dataset.id.clone(),
            lane: *lane,
            last: *last,
        }));
        sequences.sort_by(|a, b| (&a.dataset, a.lane).cmp(&(&b.dataset, b.lane)));
        Head {
            sequences,
            ..self.head.clone()
        }
    }
}

/// Puts one event into the transaction. Says what the checkpoint will remember of it.
#[expect(clippy::too_many_arguments, reason = "the parts of one transaction")]
pub(crate) fn add(
    pending: &mut Pending,
    numbers: &mut Numbers,
    drafter: &Drafter,
    keys: &CheckpointKeys,
    identity: &Identity,
    event: Checked,
    at_ms: i64,
    withdrawn: bool,
) -> Result<RecordState, ConnectorError> {
    pending.started();
    let output = &drafter.outputs[event.output];
    let (sequence, counter) = numbers.next(event.output, event.lane);
    let mut subject = [0; 4];
    subject.copy_from_slice(&event.subject_tag[..4]);
    let state = RecordState {
        hash: keys.row_hash(&event.value, withdrawn),
        subject,
        epoch: numbers.head.epoch,
        counter,
        withdrawn,
        last: match withdrawn {
            true => None,
            false => Some(keys.close(&event.record_tag, &output.dataset.id, &event.value)?),
        },
    };
    pending.extras.push(Extra {
        topic: topics::checkpoint(&identity.department, &identity.stream),
        key: Key::Record(event.record_tag).encode(),
        value: Some(state.encode()),
    });
    pending.bytes += event.value.len() * 2;
    pending.routes.push((
        event.output,
        topics::source_key(event.subject_tag, event.record_tag),
    ));
    pending.drafts.push(Draft {
        dataset: output.dataset.id.clone(),
        lane: event.lane,
        sequence,
        ce_id: *uuid::Uuid::now_v7().as_bytes(),
        ce_time_ms: at_ms.max(0),
        schema: output.dataset.schema_digest,
        counter,
        withdrawn,
        subject: event.subject.as_str().to_owned(),
        record: event.record,
        value: event.value,
        spans: event.spans,
    });
    Ok(state)
}

/// A rejected row: its place and code, none of its values.
pub(crate) fn add_reject(
    pending: &mut Pending,
    identity: &Identity,
    tag: Tag,
    (row, place, code): (u64, &str, &'static str),
    mark: RejectMark,
) {
    pending.started();
    pending.rejects += 1;
    let record = Quarantine {
        topic: identity.stream.clone(),
        partition: -1,
        offset: i64::try_from(row).unwrap_or(i64::MAX),
        code: code.to_owned(),
        place: place.chars().take(128).collect(),
        at_ms: mark.first_ms,
    };
    pending.extras.push(Extra {
        topic: topics::quarantine(&identity.department),
        key: [identity.stream.as_bytes(), b"|", &tag].concat(),
        value: Some(record.encode()),
    });
    pending.extras.push(Extra {
        topic: topics::checkpoint(&identity.department, &identity.stream),
        key: Key::Reject(tag).encode(),
        value: Some(mark.encode()),
    });
}

/// A row that was rejected before no longer is: forget it.
pub(crate) fn forget_reject(pending: &mut Pending, identity: &Identity, tag: Tag) {
    pending.started();
    pending.rejects += 1;
    pending.extras.push(Extra {
        topic: topics::checkpoint(&identity.department, &identity.stream),
        key: Key::Reject(tag).encode(),
        value: None,
    });
}

/// Seals and commits what is pending. `Ok(false)` when there was nothing.
pub(crate) fn commit(
    producer: &mut TxProducer,
    pending: &mut Pending,
    numbers: &mut Numbers,
    drafter: &Drafter,
    keys: &CheckpointKeys,
    identity: &Identity,
    now_ms: i64,
) -> Result<bool, Stop> {
    if pending.is_empty() {
        return Ok(false);
    }
    let Pending {
        drafts,
        routes,
        extras,
        ..
    } = std::mem::take(pending);
    let events = if drafts.is_empty() {
        Vec::new()
    } else {
        numbers.head.batch += 1;
        seal(drafts, &numbers.head, keys, identity)?
    };
    let head = numbers.snapshot(drafter);
    let sent = send(
        producer, &events, &routes, &extras, &head, drafter, identity, now_ms,
    );
    match sent.and_then(|()| commit_until_known(producer)) {
        Ok(()) => Ok(true),
        Err(TxError::Fenced { .. }) => Err(Stop::Failed(ConnectorError::Fenced {
            stream: identity.stream.clone(),
        })),
        Err(error @ TxError::Fatal(_)) => Err(Stop::Restart(error)),
        Err(error) => match producer.abort() {
            Err(TxError::Fenced { .. }) => Err(Stop::Failed(ConnectorError::Fenced {
                stream: identity.stream.clone(),
            })),
            // An abort that failed leaves the producer unusable; the restart makes a new one.
            _ => Err(Stop::Restart(error)),
        },
    }
}

fn seal(
    drafts: Vec<Draft>,
    head: &Head,
    keys: &CheckpointKeys,
    identity: &Identity,
) -> Result<Vec<SealedEvent>, ConnectorError> {
    let mut random_failed = false;
    let mut seeds = || {
        keys.seed().unwrap_or_else(|| {
            random_failed = true;
            mz_seal::Seed::default()
        })
    };
    let sealed = seal_batch(
        &identity.bus_id,
        &identity.department,
        &identity.stream,
        head.epoch,
        head.batch,
        drafts,
        &mut seeds,
        identity.signer.as_ref(),
    )?;
    if random_failed {
        return Err(ConnectorError::Crypto);
    }
    Ok(sealed)
}

#[expect(clippy::too_many_arguments, reason = "the parts of one transaction")]
fn send(
    producer: &mut TxProducer,
    events: &[SealedEvent],
    routes: &[(usize, [u8; 32])],
    extras: &[Extra],
    head: &Head,
    drafter: &Drafter,
    identity: &Identity,
    now_ms: i64,
) -> Result<(), TxError> {
    producer.begin()?;
    for (event, (output, key)) in events.iter().zip(routes) {
        let output = &drafter.outputs[*output];
        let value = frame(output.dataset.schema_id, &event.value);
        let cloud = headers::cloud_event(&event.meta);
        let mut all: Vec<(&str, &[u8])> = cloud
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        all.push((headers::SEAL, &event.seal));
        producer.send(
            &output.topic,
            i32::from(event.meta.lane),
            key,
            Some(&value),
            &all,
        )?;
    }
    for extra in extras {
        producer.send(&extra.topic, 0, &extra.key, extra.value.as_deref(), &[])?;
    }
    let checkpoint = topics::checkpoint(&identity.department, &identity.stream);
    producer.send(
        &checkpoint,
        0,
        &Key::Head.encode(),
        Some(&head.encode()),
        &[],
    )?;
    let status = SourceStatus {
        stream: identity.stream.clone(),
        epoch: head.epoch,
        last_batch: head.batch,
        complete_to_ms: head.complete_to_ms,
        rejected: head.rejected,
        at_ms: now_ms,
    };
    let topic = topics::status(&identity.department, &identity.stream);
    producer.send(
        &topic,
        0,
        identity.stream.as_bytes(),
        Some(&status.encode()),
        &[],
    )
}

/// A commit whose answer was lost is asked for again: the answer is then the outcome.
fn commit_until_known(producer: &mut TxProducer) -> Result<(), TxError> {
    const TRIES: u32 = 5;
    let mut outcome = producer.commit();
    for _ in 1..TRIES {
        match outcome {
            Err(TxError::Retriable(_)) => outcome = producer.commit(),
            done => return done,
        }
    }
    outcome
}
