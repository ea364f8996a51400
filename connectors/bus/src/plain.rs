//! A producer without transactions: for whoever owns no stream and no slot (an adapter's receipts, a
//! load generator, a test that plays an attacker).

use crate::client::log;
use crate::error::BusError;
use crate::options::BusOptions;
use crate::producer::headers;
use crate::tuning;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Idempotent: what is sent is written once and in order.
pub struct PlainProducer {
    bus: BusOptions,
    producer: BaseProducer<Reports>,
}

/// Without a transaction nothing but the delivery report says that a record was not written.
#[derive(Default)]
struct Reports {
    failed: Mutex<Option<KafkaError>>,
}

impl Reports {
    fn take(&self) -> Option<KafkaError> {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        if let Err((error, _)) = result {
            self.failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_with(|| error.clone());
        }
    }
}

impl PlainProducer {
    pub fn open(bus: &BusOptions) -> Result<Self, BusError> {
        let producer = tuning::plain_producer(bus)
            .create_with_context(Reports::default())
            .map_err(BusError::Settings)?;
        Ok(Self {
            bus: bus.clone(),
            producer,
        })
    }

    /// Hands a record to the client; waits while its buffer is full.
    pub fn send(
        &mut self,
        topic: &str,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
        pairs: &[(&str, &[u8])],
    ) -> Result<(), BusError> {
        let topic = self.bus.physical(topic);
        let mut record = BaseRecord::<[u8], [u8]>::to(&topic)
            .partition(partition)
            .key(key);
        record.payload = value;
        record.headers = headers(pairs);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(1));
                    record = back;
                }
                Err((source, _)) => {
                    return Err(BusError::Cluster {
                        operation: "write",
                        source,
                    });
                }
            }
        }
    }

    /// Hands finished deliveries back to the client. Does not wait.
    pub fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until the cluster has acknowledged everything.
    ///
    /// # Errors
    /// The first record since the last flush that was refused or lost, or the wait is over.
    pub fn flush(&self, timeout: Duration) -> Result<(), BusError> {
        let deadline = Instant::now() + timeout;
        while self.producer.in_flight_count() > 0 {
            if Instant::now() >= deadline {
                return Err(BusError::Timeout {
                    operation: "write",
                    waited: timeout,
                });
            }
            self.producer.poll(Duration::from_millis(1));
        }
        match self.producer.context().take() {
            None => Ok(()),
            Some(source) => Err(BusError::Cluster {
                operation: "write",
                source,
            }),
        }
    }
}
