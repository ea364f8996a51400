//! Reads partitions from positions that its owner keeps: explicit assignment, no committed
//! offsets, an event at the end of each partition.
//!
//! Each partition has its own queue: rust-rdkafka's end-of-partition error names no topic, and
//! records of one lane come in runs, which the verifier's caches like.

use crate::client::Context;
use crate::error::{BusError, means_transient};
use crate::options::BusOptions;
use crate::record::{Polled, Record};
use crate::stretch::Unread;
use crate::tuning::{self, CALL_TIMEOUT, LANE_BURST};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaRespErr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long [`Reader::poll_to_end`] waits for end-of-partition events before it asks where the ends are.
const ENDS_AFTER: Duration = Duration::from_millis(300);

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Records of committed transactions only, up to the first open one.
    Committed,
    /// All records, also those of transactions that will abort.
    Uncommitted,
}

/// Where to start in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Offset(i64),
    Beginning,
    End,
}

/// One assigned partition.
struct Lane {
    topic: Arc<str>,
    partition: i32,
    /// Next offset after the last record handed over; -1 before the first.
    next: i64,
    ready: Arc<AtomicBool>,
    queue: PartitionQueue<Context>,
}

/// Told by librdkafka's threads that some lane has something.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    fn wait(&self, timeout: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) = self
            .changed
            .wait_timeout_while(rung, timeout, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

/// Reads assigned partitions. Not for sharing: one thread owns it.
pub struct Reader {
    bus: BusOptions,
    // Dropped before `consumer`: a queue must not outlive it.
    lanes: Vec<Lane>,
    turn: usize,
    bell: Arc<Bell>,
    consumer: Arc<BaseConsumer<Context>>,
}

impl Reader {
    pub fn open(bus: &BusOptions, isolation: Isolation) -> Result<Self, BusError> {
        let consumer = tuning::reader(bus, isolation == Isolation::Committed)
            .create_with_context(Context)
            .map_err(BusError::Settings)?;
        Ok(Self {
            bus: bus.clone(),
            lanes: Vec::new(),
            turn: 0,
            bell: Arc::default(),
            consumer: Arc::new(consumer),
        })
    }

    /// Replaces the assignment. What was fetched before and not handed over is dropped.
    pub fn assign<T: AsRef<str>>(
        &mut self,
        partitions: &[(T, i32, Position)],
    ) -> Result<(), BusError> {
        self.lanes.clear();
        self.turn = 0;
        let failed = |source| BusError::Cluster {
            operation: "assign",
            source,
        };
        self.consumer.unassign().map_err(failed)?;
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition, position) in partitions {
            let (topic, partition) = (topic.as_ref(), *partition);
            let physical = self.bus.physical(topic);
            let offset = match position {
                Position::Offset(offset) => Offset::Offset(*offset),
                Position::Beginning => Offset::Beginning,
                Position::End => Offset::End,
            };
            // Split before the assignment starts fetching, or the first records would go to the
            // common queue.
            let lane = self.split(topic, &physical, partition)?;
            self.lanes.push(lane);
            list.add_partition_offset(&physical, partition, offset)
                .map_err(failed)?;
        }
        self.check_permitted()?;
        self.consumer.assign(&list).map_err(failed)
    }

    fn split(&self, topic: &str, physical: &str, partition: i32) -> Result<Lane, BusError> {
        let mut queue = self
            .consumer
            .split_partition_queue(physical, partition)
            .ok_or_else(|| BusError::NotAssigned {
                topic: topic.to_owned(),
                partition,
            })?;
        let ready = Arc::new(AtomicBool::new(true));
        let (flag, bell) = (Arc::clone(&ready), Arc::clone(&self.bell));
        queue.set_nonempty_callback(move || {
            flag.store(true, Ordering::Release);
            bell.ring();
        });
        Ok(Lane {
            topic: topic.into(),
            partition,
            next: -1,
            ready,
            queue,
        })
    }

    /// Hands over up to `max` records and end-of-partition events, waiting at most `timeout` for
    /// the first. Order holds within a partition. Returns how many were handed over.
    ///
    /// # Errors
    /// [`BusError::OffsetLost`], [`BusError::Denied`], [`BusError::TopicMissing`]: the assignment
    /// can't go on. What was handed over before the error counts as read. Outages are waited for,
    /// not reported.
    pub fn poll(
        &mut self,
        max: usize,
        timeout: Duration,
        mut each: impl FnMut(Polled<'_>),
    ) -> Result<usize, BusError> {
        let deadline = Instant::now() + timeout;
        let mut handed = 0;
        loop {
            self.serve_events(&mut each, &mut handed)?;
            handed += self.drain(max - handed.min(max), &mut each)?;
            if handed > 0 {
                return Ok(handed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(0);
            }
            self.bell.wait(left);
        }
    }

    /// Reads everything that was there when it began, in every assigned partition, and perhaps some
    /// of what came since; or fails after `timeout` without any progress. It ends while others write:
    /// a partition that is written without a pause may never be seen at its end.
    pub fn poll_to_end(
        &mut self,
        timeout: Duration,
        mut each: impl FnMut(Record<'_>),
    ) -> Result<(), BusError> {
        let started = Instant::now();
        let (mut unread, mut asked) = (Unread::default(), false);
        for lane in &self.lanes {
            unread.add(&lane.topic, lane.partition, i64::MAX);
        }
        while !unread.is_empty() {
            let handed = self.poll(10_000, timeout, |polled| match polled {
                Polled::Record(record) => {
                    unread.reach(record.topic, record.partition, record.offset + 1);
                    each(record);
                }
                // Control records may lie behind the last record.
                Polled::Eof {
                    topic, partition, ..
                } => unread.reach(topic, partition, i64::MAX),
            })?;
            if handed == 0 {
                return Err(BusError::Timeout {
                    operation: "read to the end",
                    waited: timeout,
                });
            }
            // Most reads have ended by now, and a question waits behind the reader's own long fetches.
            if !asked && started.elapsed() >= ENDS_AFTER {
                asked = true;
                self.ask_ends(&mut unread)?;
            }
        }
        Ok(())
    }

    /// Sets the ends of what is unread, as they are now: one question for all partitions.
    fn ask_ends(&self, unread: &mut Unread) -> Result<(), BusError> {
        let failed = |source| call_fault("look up ends", "", source);
        let mut list = TopicPartitionList::with_capacity(self.lanes.len());
        for lane in &self.lanes {
            list.add_partition_offset(
                &self.bus.physical(&lane.topic),
                lane.partition,
                // As a time it means the offset behind the last record (KIP-79).
                Offset::End,
            )
            .map_err(failed)?;
        }
        let found = self
            .consumer
            .offsets_for_times(list, CALL_TIMEOUT)
            .map_err(failed)?;
        for lane in &self.lanes {
            let element = found.find_partition(&self.bus.physical(&lane.topic), lane.partition);
            let end = element.filter(|element| element.error().is_ok());
            if let Some(Offset::Offset(end)) = end.map(|element| element.offset()) {
                unread.ends(&lane.topic, lane.partition, end);
                unread.reach(&lane.topic, lane.partition, lane.next);
            }
        }
        Ok(())
    }

    /// Errors of the client as a whole, and (against expectation) records in the common queue.
    fn serve_events(
        &mut self,
        each: &mut impl FnMut(Polled<'_>),
        handed: &mut usize,
    ) -> Result<(), BusError> {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            match event {
                Ok(message) => {
                    let (topic, partition) = (message.topic(), message.partition());
                    let found = self.lanes.iter_mut().find(|lane| {
                        lane.partition == partition
                            && topic.strip_prefix(&self.bus.prefix) == Some(&lane.topic)
                    });
                    if let Some(lane) = found {
                        lane.next = message.offset() + 1;
                        each(Polled::Record(Record::new(&lane.topic, &message)));
                        *handed += 1;
                    }
                }
                Err(error) => self.note(error)?,
            }
        }
        Ok(())
    }

    fn drain(&mut self, max: usize, each: &mut impl FnMut(Polled<'_>)) -> Result<usize, BusError> {
        let mut handed = 0;
        let count = self.lanes.len();
        for _ in 0..count {
            if handed == max {
                break;
            }
            let lane = &mut self.lanes[self.turn];
            self.turn = (self.turn + 1) % count;
            // Cleared before looking: whatever comes later rings again.
            if !lane.ready.swap(false, Ordering::AcqRel) {
                continue;
            }
            let mut budget = LANE_BURST.min(max - handed);
            loop {
                if budget == 0 {
                    lane.ready.store(true, Ordering::Release);
                    break;
                }
                let Some(event) = lane.queue.poll(Duration::ZERO) else {
                    break;
                };
                budget -= 1;
                match event {
                    Ok(message) => {
                        lane.next = message.offset() + 1;
                        let message: &BorrowedMessage<'_> = &message;
                        each(Polled::Record(Record::new(&lane.topic, message)));
                        handed += 1;
                    }
                    Err(KafkaError::PartitionEOF(_)) => {
                        let next_offset = position(&self.consumer, &self.bus, lane);
                        each(Polled::Eof {
                            topic: &lane.topic,
                            partition: lane.partition,
                            next_offset,
                        });
                        handed += 1;
                    }
                    Err(error) => {
                        lane.ready.store(true, Ordering::Release);
                        lane_fault(error, lane)?;
                    }
                }
            }
        }
        Ok(handed)
    }

    fn note(&self, error: KafkaError) -> Result<(), BusError> {
        match error.rdkafka_error_code() {
            Some(code) if means_transient(code) => {
                tracing::debug!(client = self.bus.client_id, %error, "cluster not reachable, retrying");
                Ok(())
            }
            // Nothing is ever committed there.
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => Ok(()),
            // The event names no topic; a fetch that is refused names its own.
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => self.check_permitted(),
            _ => Err(BusError::Cluster {
                operation: "read",
                source: error,
            }),
        }
    }

    /// librdkafka waits for ever for a topic that it may not see; so ask before. An outage is no
    /// answer: then the fetch itself will tell.
    fn check_permitted(&self) -> Result<(), BusError> {
        let mut topics: Vec<&str> = self.lanes.iter().map(|lane| &*lane.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        for topic in topics {
            let physical = self.bus.physical(topic);
            let Ok(found) = self.consumer.fetch_metadata(Some(&physical), CALL_TIMEOUT) else {
                return Ok(());
            };
            let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
            if found
                .topics()
                .iter()
                .any(|topic| topic.error() == Some(denied))
            {
                return Err(BusError::Denied {
                    operation: "read",
                    resource: topic.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// First offset and the offset after the last record: for a committed reader, the last stable
    /// offset. Asks the cluster.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), BusError> {
        self.consumer
            .fetch_watermarks(&self.bus.physical(topic), partition, CALL_TIMEOUT)
            .map_err(|source| call_fault("read watermarks", topic, source))
    }

    /// Offset of the first record that was written at `ms` (milliseconds since 1970) or later; the end
    /// of the partition when there is none. Asks the cluster.
    pub fn offset_at(&self, topic: &str, partition: i32, ms: i64) -> Result<i64, BusError> {
        let physical = self.bus.physical(topic);
        let failed = |source| call_fault("look up a time", topic, source);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&physical, partition, Offset::Offset(ms.max(0)))
            .map_err(failed)?;
        let found = self
            .consumer
            .offsets_for_times(list, CALL_TIMEOUT)
            .map_err(failed)?;
        let element = found.find_partition(&physical, partition);
        match element.map(|element| (element.error(), element.offset())) {
            Some((Ok(()), Offset::Offset(offset))) => Ok(offset),
            Some((Err(source), _)) => Err(failed(source)),
            _ => self.watermarks(topic, partition).map(|(_, high)| high),
        }
    }

    /// Number of partitions of a topic. Asks the cluster.
    pub fn partitions(&self, topic: &str) -> Result<usize, BusError> {
        let physical = self.bus.physical(topic);
        let metadata = self
            .consumer
            .fetch_metadata(Some(&physical), CALL_TIMEOUT)
            .map_err(|source| call_fault("read metadata", topic, source))?;
        match metadata.topics() {
            [found] if found.error().is_none() && !found.partitions().is_empty() => {
                Ok(found.partitions().len())
            }
            _ => Err(BusError::TopicMissing {
                topic: topic.to_owned(),
            }),
        }
    }

    /// Next offset after the last record handed over; `None` before the first.
    pub fn next_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        self.lanes
            .iter()
            .find(|lane| &*lane.topic == topic && lane.partition == partition)
            .and_then(|lane| (lane.next >= 0).then_some(lane.next))
    }

    /// Goes on from another offset of an assigned partition.
    pub fn seek(&mut self, topic: &str, partition: i32, offset: i64) -> Result<(), BusError> {
        let physical = self.bus.physical(topic);
        self.consumer
            .seek(&physical, partition, Offset::Offset(offset), CALL_TIMEOUT)
            .map_err(|source| call_fault("seek", topic, source))
    }

    /// Stops fetching from partitions (a lane that waits for its backfill).
    pub fn pause(&self, partitions: &[(&str, i32)]) -> Result<(), BusError> {
        self.consumer
            .pause(&self.list(partitions))
            .map_err(|source| call_fault("pause", "", source))
    }

    pub fn resume(&self, partitions: &[(&str, i32)]) -> Result<(), BusError> {
        self.consumer
            .resume(&self.list(partitions))
            .map_err(|source| call_fault("resume", "", source))
    }

    fn list(&self, partitions: &[(&str, i32)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            list.add_partition(&self.bus.physical(topic), *partition);
        }
        list
    }
}

/// The position behind control records, which only the client knows.
fn position(consumer: &BaseConsumer<Context>, bus: &BusOptions, lane: &Lane) -> i64 {
    let physical = bus.physical(&lane.topic);
    let known = consumer.position().ok().and_then(|list| {
        match list.find_partition(&physical, lane.partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    });
    known.unwrap_or(0).max(lane.next).max(0)
}

fn lane_fault(error: KafkaError, lane: &Lane) -> Result<(), BusError> {
    let (topic, partition) = (lane.topic.to_string(), lane.partition);
    match error.rdkafka_error_code() {
        Some(code) if means_transient(code) => {
            tracing::debug!(topic, partition, %error, "partition not readable, retrying");
            Ok(())
        }
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            Err(BusError::OffsetLost { topic, partition })
        }
        _ => Err(call_fault("read", &topic, error)),
    }
}

pub(crate) fn call_fault(operation: &'static str, resource: &str, source: KafkaError) -> BusError {
    match source.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed,
        ) => BusError::Denied {
            operation,
            resource: resource.to_owned(),
        },
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition,
        ) => BusError::TopicMissing {
            topic: resource.to_owned(),
        },
        _ => BusError::Cluster { operation, source },
    }
}

/// Reads one partition of committed records from `from` to its end, as [`Reader::poll_to_end`] does.
pub fn read_to_end(
    bus: &BusOptions,
    topic: &str,
    partition: i32,
    from: Position,
    each: impl FnMut(Record<'_>),
) -> Result<(), BusError> {
    let mut reader = Reader::open(bus, Isolation::Committed)?;
    reader.assign(&[(topic, partition, from)])?;
    reader.poll_to_end(CALL_TIMEOUT, each)
}
