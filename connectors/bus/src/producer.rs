//! One transaction at a time, under one transactional id. Every call may block: give a slot its
//! own thread.

use crate::client::Context;
use crate::error::{BusError, TxError, means_fenced};
use crate::options::BusOptions;
use crate::tuning;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at the delivery reports. Slept, not polled: for waits below a millisecond
/// rust-rdkafka's `poll(timeout)` spins until its deadline, which took half of the process's CPU.
const TICK: Duration = Duration::from_micros(300);

/// The transactional producer of one slot or stream.
pub struct TxProducer {
    transactional_id: String,
    prefix: String,
    timeout: Duration,
    /// Physical name of the topic last sent to.
    topic: String,
    producer: BaseProducer<Context>,
}

impl TxProducer {
    /// `timeout`: how long a transaction may stay open before the cluster ends it; also how long
    /// each step may take. [`tuning::TRANSACTION_TIMEOUT`] unless there is a reason.
    pub fn open(
        bus: &BusOptions,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<Self, BusError> {
        let producer = tuning::producer(bus, transactional_id, timeout)
            .create_with_context(Context)
            .map_err(BusError::Settings)?;
        Ok(Self {
            transactional_id: transactional_id.to_owned(),
            prefix: bus.prefix.clone(),
            timeout,
            topic: String::new(),
            producer,
        })
    }

    /// Takes the transactional id: ends the predecessor's open transaction and fences it. Once,
    /// before anything else.
    pub fn init(&mut self) -> Result<(), TxError> {
        let deadline = Instant::now() + self.timeout * 3;
        loop {
            match self.producer.init_transactions(self.timeout) {
                Ok(()) => return Ok(()),
                Err(error) => match self.classify(error) {
                    TxError::Retriable(_) if Instant::now() < deadline => {}
                    other => return Err(other),
                },
            }
        }
    }

    pub fn begin(&mut self) -> Result<(), TxError> {
        self.producer
            .begin_transaction()
            .map_err(|error| self.classify(error))
    }

    /// Adds a record to the transaction. Waits when the client's buffer is full.
    pub fn send(
        &mut self,
        topic: &str,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> Result<(), TxError> {
        let name = topic;
        if self.topic.strip_prefix(&self.prefix) != Some(name) {
            self.topic.clear();
            self.topic.push_str(&self.prefix);
            self.topic.push_str(name);
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic)
            .partition(partition)
            .key(key);
        record.payload = value;
        record.headers = self::headers(headers);
        let mut deadline = None;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.timeout);
                    if Instant::now() >= deadline {
                        return Err(TxError::Abort(KafkaError::MessageProduction(
                            RDKafkaErrorCode::QueueFull,
                        )));
                    }
                    self.take_reports();
                    record = back;
                }
                Err((error, _)) => return Err(self.classify(error)),
            }
        }
    }

    /// Hands finished deliveries back to the client. Call now and then while a transaction is
    /// filled, so that the commit has less to wait for. Does not wait.
    pub fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Takes the delivery reports that are there; rests when there were none.
    fn take_reports(&self) {
        let before = self.producer.in_flight_count();
        self.producer.poll(Duration::ZERO);
        if self.producer.in_flight_count() == before {
            thread::sleep(TICK);
        }
    }

    /// Commits. On [`TxError::Retriable`] call it again; on [`TxError::Abort`] call
    /// [`Self::abort`].
    pub fn commit(&mut self) -> Result<(), TxError> {
        let deadline = Instant::now() + self.timeout;
        // rust-rdkafka's commit flushes, and its flush sleeps in steps of 100 ms. Nothing must be
        // left for it to wait for.
        while self.producer.in_flight_count() > 0 {
            if let Some(fatal) = self.fatal() {
                return Err(fatal);
            }
            if Instant::now() >= deadline {
                return Err(TxError::Abort(KafkaError::Flush(
                    RDKafkaErrorCode::OperationTimedOut,
                )));
            }
            self.take_reports();
        }
        loop {
            match self.producer.commit_transaction(self.timeout) {
                Ok(()) => return Ok(()),
                Err(error) => match self.classify(error) {
                    TxError::Retriable(_) if Instant::now() < deadline => {}
                    other => return Err(other),
                },
            }
        }
    }

    /// Drops the transaction: readers of committed data never see it.
    pub fn abort(&mut self) -> Result<(), TxError> {
        // The abort waits until every delivery report was taken, and reports come as events: a
        // second thread takes them meanwhile.
        let done = AtomicBool::new(false);
        let producer = &self.producer;
        let deadline = Instant::now() + self.timeout;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    producer.poll(Duration::ZERO);
                    thread::sleep(TICK);
                }
            });
            let result = loop {
                match producer.abort_transaction(self.timeout) {
                    Ok(()) => break Ok(()),
                    Err(error) => match self.classify(error) {
                        TxError::Retriable(_) if Instant::now() < deadline => {}
                        other => break Err(other),
                    },
                }
            };
            done.store(true, Ordering::Release);
            result
        })
    }

    pub fn transactional_id(&self) -> &str {
        &self.transactional_id
    }

    fn fatal(&self) -> Option<TxError> {
        let (code, _) = self.producer.client().fatal_error()?;
        Some(if means_fenced(code) {
            self.fenced()
        } else {
            TxError::Fatal(KafkaError::Global(code))
        })
    }

    fn fenced(&self) -> TxError {
        TxError::Fenced {
            transactional_id: self.transactional_id.clone(),
        }
    }

    fn classify(&self, error: KafkaError) -> TxError {
        if error.rdkafka_error_code().is_some_and(means_fenced) {
            return self.fenced();
        }
        if let Some(fatal) = self.fatal() {
            return fatal;
        }
        match &error {
            KafkaError::Transaction(inner) if inner.txn_requires_abort() => TxError::Abort(error),
            KafkaError::Transaction(inner) if inner.is_retriable() => TxError::Retriable(error),
            // The transaction is in a state in which only an abort is possible.
            KafkaError::MessageProduction(_) | KafkaError::Flush(_) => TxError::Abort(error),
            _ => TxError::Fatal(error),
        }
    }
}

/// Headers as the client takes them over; `None` for none.
pub(crate) fn headers(pairs: &[(&str, &[u8])]) -> Option<OwnedHeaders> {
    if pairs.is_empty() {
        return None;
    }
    let mut owned = OwnedHeaders::new_with_capacity(pairs.len());
    for (key, value) in pairs {
        owned = owned.insert(Header {
            key,
            value: Some(*value),
        });
    }
    Some(owned)
}
