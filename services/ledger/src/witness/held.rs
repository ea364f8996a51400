//! What a department holds: its own `to.*` topics, each record with the audit record that its header names.

use std::collections::BTreeMap;

use mz_bus::{BusError, BusOptions, Isolation, Polled, Position, Reader, Record, Unread};
use mz_contract::Contract;
use mz_journal::{DELIVERY_HEADER, DeliveryHeader, Record as _};

use crate::witness::error::WitnessError;
use crate::witness::limits::{LATE_MS, MAX_POLL_RECORDS, PATIENCE, POLL};

/// One of the department's topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldTopic {
    pub topic: String,
    /// `<consumer>/<purpose>`.
    pub agreement: String,
    /// As audit records name it: a dataset, or `answer.<name>.v<N>`.
    pub dataset: String,
}

/// One delivery. Without a header that can be read, nobody can say where it was audited.
pub(super) struct Delivery<'h> {
    pub topic: &'h HeldTopic,
    pub lane: u16,
    pub offset: i64,
    pub header: Option<DeliveryHeader>,
}

/// What was not compared yet: the log has not got there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Lanes of topics that wait.
    pub lanes: u64,
    /// When the oldest of their first deliveries was written, milliseconds since 1970.
    pub since_ms: Option<i64>,
}

impl Waiting {
    /// Something waits for longer than the log's last look can explain. Of a shard's last log: what an older
    /// one has not reached stands in the next.
    pub fn is_late(&self, now_ms: i64) -> bool {
        self.since_ms
            .is_some_and(|since| now_ms.saturating_sub(since) > LATE_MS)
    }
}

pub(super) struct Held {
    topics: Vec<HeldTopic>,
    reader: Reader,
}

impl Held {
    pub fn open(bus: &BusOptions, contract: &Contract, department: &str) -> Result<Self, BusError> {
        let mut topics = Vec::new();
        for agreement in &contract.agreements {
            if agreement.consumer != department {
                continue;
            }
            for section in &agreement.sections {
                let mut add = |topic: &str, dataset: String| {
                    topics.push(HeldTopic {
                        topic: topic.to_owned(),
                        agreement: agreement.id.clone(),
                        dataset,
                    });
                };
                let dataset = contract.datasets.get(section.dataset_ix);
                add(
                    &section.out_topic,
                    dataset
                        .map(|dataset| dataset.id.clone())
                        .unwrap_or_default(),
                );
                for answer in &section.answers {
                    let label = format!("answer.{}.v{}", answer.name, answer.version);
                    add(&answer.out_topic, label);
                }
            }
        }
        Ok(Self {
            topics,
            reader: Reader::open(bus, Isolation::Committed)?,
        })
    }

    /// Hands over deliveries from `positions` on, each lane of a topic up to the first whose audit number is
    /// above `limit` of the lane. Moves `positions` behind what was handed over. Ends early, with positions
    /// that mean nothing, when `each` answers false.
    pub fn read(
        &mut self,
        lanes: &[u16],
        positions: &mut BTreeMap<String, i64>,
        limit: &dyn Fn(u16) -> u64,
        each: &mut dyn FnMut(&Delivery<'_>) -> Result<bool, WitnessError>,
    ) -> Result<Waiting, WitnessError> {
        let Self { topics, reader } = self;
        let mut unread = Unread::default();
        let mut assignment = Vec::new();
        for topic in &*topics {
            for lane in lanes {
                let partition = i32::from(*lane);
                let (low, end) = reader.watermarks(&topic.topic, partition)?;
                let known = positions.get(&place(&topic.topic, *lane));
                // What has left the topic is not held any more.
                let from = known.copied().unwrap_or(0).max(low);
                if from < end {
                    unread.add(&topic.topic, partition, end);
                    let at = Position::Offset(from);
                    assignment.push((topic.topic.as_str(), partition, at));
                }
            }
        }
        let mut waiting = Waiting::default();
        if assignment.is_empty() {
            return Ok(waiting);
        }
        reader.assign(&assignment)?;
        // A pause outlives an assignment.
        let all: Vec<_> = assignment.iter().map(|at| (at.0, at.1)).collect();
        reader.resume(&all)?;
        let mut stopped: Vec<(String, i32)> = Vec::new();
        let mut result = Ok(true);
        while !unread.is_empty() {
            let before = stopped.len();
            let handed = poll(reader, |polled| {
                let (topic, partition, next) = match &polled {
                    Polled::Record(record) => (record.topic, record.partition, record.offset + 1),
                    Polled::Eof {
                        topic,
                        partition,
                        next_offset,
                    } => (*topic, *partition, *next_offset),
                };
                let is_it = |held: &&HeldTopic| held.topic == topic;
                let (Some(held), Ok(lane)) = (topics.iter().find(is_it), u16::try_from(partition))
                else {
                    return;
                };
                let gone = stopped.iter().any(|at| at.0 == topic && at.1 == partition);
                if gone || !matches!(result, Ok(true)) {
                    return;
                }
                if let Polled::Record(record) = &polled {
                    let header = header(record);
                    let number = header.as_ref().map_or(0, |header| header.audit_number);
                    if number > limit(lane) {
                        stopped.push((topic.to_owned(), partition));
                        unread.reach(topic, partition, i64::MAX);
                        waiting.lanes += 1;
                        let oldest = waiting.since_ms.unwrap_or(i64::MAX);
                        waiting.since_ms = Some(oldest.min(record.timestamp_ms));
                        return;
                    }
                    result = each(&Delivery {
                        topic: held,
                        lane,
                        offset: record.offset,
                        header,
                    });
                    unread.reach(topic, partition, next);
                } else {
                    // Control records may lie behind the last delivery.
                    unread.reach(topic, partition, i64::MAX);
                }
                let position = positions.entry(place(topic, lane)).or_default();
                *position = next.max(*position);
            })?;
            if !matches!(result, Ok(true)) {
                break;
            }
            if handed == 0 {
                return Err(WitnessError::Bus(BusError::Timeout {
                    operation: "read deliveries",
                    waited: PATIENCE,
                }));
            }
            let fresh: Vec<_> = stopped[before..]
                .iter()
                .map(|(topic, partition)| (topic.as_str(), *partition))
                .collect();
            if !fresh.is_empty() {
                reader.pause(&fresh)?;
            }
        }
        // Nothing is fetched between two steps.
        reader.assign::<&str>(&[])?;
        result.map(|_| waiting)
    }
}

/// As [`Reader::poll`], with patience.
fn poll(reader: &mut Reader, mut each: impl FnMut(Polled<'_>)) -> Result<usize, BusError> {
    let rounds = PATIENCE.as_millis() / POLL.as_millis();
    for _ in 0..rounds {
        let handed = reader.poll(MAX_POLL_RECORDS, POLL, &mut each)?;
        if handed > 0 {
            return Ok(handed);
        }
    }
    Ok(0)
}

fn place(topic: &str, lane: u16) -> String {
    format!("{topic}|{lane}")
}

/// The one `mz-delivery` header.
fn header(record: &Record<'_>) -> Option<DeliveryHeader> {
    let headers = record.headers().ok()?;
    let mut named = headers.iter().filter(|(name, _)| *name == DELIVERY_HEADER);
    let (Some((_, value)), None) = (named.next(), named.next()) else {
        return None;
    };
    DeliveryHeader::decode((*value)?).ok()
}

#[test]
fn what_waits_for_long_is_late() {
    let since = |since_ms| Waiting { lanes: 1, since_ms };
    assert!(!since(None).is_late(i64::MAX));
    assert!(!since(Some(5)).is_late(5 + LATE_MS));
    assert!(since(Some(5)).is_late(6 + LATE_MS));
}
