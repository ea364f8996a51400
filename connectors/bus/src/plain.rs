//! A producer without transactions: for whoever owns no stream and no slot (a load generator, a
//! test that plays an attacker).

use crate::client::Context;
use crate::error::BusError;
use crate::options::BusOptions;
use crate::producer::headers;
use crate::tuning;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::time::{Duration, Instant};

/// Idempotent: what is sent is written once and in order.
pub struct PlainProducer {
    bus: BusOptions,
    producer: BaseProducer<Context>,
}

impl PlainProducer {
    pub fn open(bus: &BusOptions) -> Result<Self, BusError> {
        let producer = tuning::plain_producer(bus)
            .create_with_context(Context)
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

    /// Waits until everything is written.
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
        Ok(())
    }
}
