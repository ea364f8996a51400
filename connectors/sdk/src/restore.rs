//! Reads a stream's past: its checkpoint, and, when that is empty, whether the stream ever spoke.

use crate::checkpoint::{Head, Key, RecordState, RejectMark, Tag};
use crate::error::ConnectorError;
use crate::known::Known;
use mz_bus::{BusOptions, Isolation, Position, Reader, Stretch, read_stretches, read_to_end};
use mz_journal::{Record as _, SourceStatus, topics};
use mz_seal::{Headers, SourceSeal};
use std::collections::{HashMap, HashSet};

/// What the checkpoint topic holds.
#[derive(Default)]
pub(crate) struct Restored {
    /// `None`: the topic is empty.
    pub head: Option<Head>,
    pub known: Known,
    /// Rejected rows by tag, with [`Head::settled`] when they were first rejected.
    pub rejects: HashMap<Tag, u64>,
}

/// Reads the checkpoint to its end. Call after `init_transactions`, so that no older instance can
/// still add to it.
pub(crate) fn checkpoint(
    bus: &BusOptions,
    department: &str,
    stream: &str,
) -> Result<Restored, ConnectorError> {
    let mut restored = Restored::default();
    let mut newest_epoch = 0;
    let mut malformed = None;
    read_to_end(
        bus,
        &topics::checkpoint(department, stream),
        0,
        Position::Beginning,
        |record| {
            let Some(key) = record.key.and_then(Key::decode) else {
                malformed.get_or_insert(record.offset);
                return;
            };
            let read = match (key, record.value) {
                (Key::Head, Some(value)) => Head::decode(value).map(|head| {
                    if head.epoch > newest_epoch {
                        newest_epoch = head.epoch;
                        restored.known.age();
                    }
                    restored.head = Some(head);
                }),
                (Key::Record(tag), Some(value)) => RecordState::decode(value).map(|state| {
                    // Records of a new epoch stand in the log before that epoch's first head.
                    if state.epoch > newest_epoch {
                        newest_epoch = state.epoch;
                        restored.known.age();
                    }
                    restored
                        .known
                        .put(tag, state.hash, state.subject, state.withdrawn, false);
                }),
                (Key::Record(tag), None) => {
                    restored.known.remove(&tag);
                    Ok(())
                }
                (Key::Reject(tag), Some(value)) => RejectMark::decode(value).map(|mark| {
                    restored.rejects.insert(tag, mark.settled);
                }),
                (Key::Reject(tag), None) => {
                    restored.rejects.remove(&tag);
                    Ok(())
                }
                (Key::Head, None) => {
                    restored.head = None;
                    Ok(())
                }
            };
            if read.is_err() {
                malformed.get_or_insert(record.offset);
            }
        },
    )?;
    match malformed {
        Some(offset) => Err(ConnectorError::CheckpointMalformed {
            stream: stream.to_owned(),
            offset,
        }),
        None => Ok(restored),
    }
}

/// The last published fields of some records, as the checkpoint keeps them (encrypted), with the
/// dataset unknown: the caller opens them.
pub(crate) fn last_values(
    bus: &BusOptions,
    department: &str,
    stream: &str,
    wanted: &HashSet<Tag>,
) -> Result<HashMap<Tag, RecordState>, ConnectorError> {
    let mut found = HashMap::with_capacity(wanted.len());
    read_to_end(
        bus,
        &topics::checkpoint(department, stream),
        0,
        Position::Beginning,
        |record| {
            if let (Some(Key::Record(tag)), Some(value)) =
                (record.key.and_then(Key::decode), record.value)
                && wanted.contains(&tag)
                && let Ok(state) = RecordState::decode(value)
            {
                found.insert(tag, state);
            }
        },
    )?;
    Ok(found)
}

/// The last epoch of a stream whose checkpoint is empty; 0 when it never published.
///
/// The status topic says it at once. When that is empty too (it is compacted, so only a deleted or
/// recreated topic is), the events themselves are asked: a walk over the stream's source topics,
/// headers only, once in the life of a stream.
pub(crate) fn last_epoch(
    bus: &BusOptions,
    department: &str,
    stream: &str,
    source_topics: &[String],
    lanes: u16,
) -> Result<u32, ConnectorError> {
    let mut epoch = 0;
    read_to_end(
        bus,
        &topics::status(department, stream),
        0,
        Position::Beginning,
        |record| {
            if let Some(Ok(status)) = record.value.map(SourceStatus::decode)
                && status.stream == stream
            {
                epoch = epoch.max(status.epoch);
            }
        },
    )?;
    if epoch > 0 {
        return Ok(epoch);
    }
    // Another stream's open transaction must not hide what lies behind it: a used epoch would be used again.
    let heads = Reader::open(bus, Isolation::Uncommitted)?;
    let mut stretches = Vec::new();
    for topic in source_topics {
        for lane in 0..lanes {
            stretches.push(Stretch::whole(&heads, topic, lane)?);
        }
    }
    let mut reader = Reader::open(bus, Isolation::Committed)?;
    read_stretches(&mut reader, &stretches, |record| {
        let Ok(headers) = record.headers() else {
            return;
        };
        let pairs = headers
            .iter()
            .filter_map(|(name, value)| Some((*name, (*value)?)));
        if let Ok(Some(seal)) = Headers::collect(pairs).map(|headers| headers.seal)
            && let Ok(seal) = SourceSeal::parse(seal)
            && seal.meta.department == department
            && seal.meta.stream == stream
        {
            epoch = epoch.max(seal.meta.epoch);
        }
    })?;
    Ok(epoch)
}
