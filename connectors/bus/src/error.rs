//! What can go wrong with the cluster. [`BusError`]: anything but a transaction. [`TxError`]: a
//! transaction, sorted by what its owner must do next. No value or key of a record is ever named.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::path::PathBuf;
use std::time::Duration;

/// A failed call, or an assignment that can't go on.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Wrong option or unusable PEM file: no retry helps.
    #[error("the Kafka client can't be made")]
    Settings(#[source] KafkaError),
    #[error("{path}: {detail}")]
    Pem { path: PathBuf, detail: String },
    /// The cluster answered with an error or not at all.
    #[error("{operation} failed")]
    Cluster {
        operation: &'static str,
        #[source]
        source: KafkaError,
    },
    #[error("{operation}: no answer within {waited:?}")]
    Timeout {
        operation: &'static str,
        waited: Duration,
    },
    /// The principal may not do this.
    #[error("{operation}: not permitted on {resource}")]
    Denied {
        operation: &'static str,
        resource: String,
    },
    #[error("topic {topic} does not exist")]
    TopicMissing { topic: String },
    /// The records at the wanted position are gone (or never were): never skip silently.
    #[error("{topic} [{partition}]: the wanted offset is not in the topic")]
    OffsetLost { topic: String, partition: i32 },
    #[error("{topic} [{partition}] is not assigned to this reader")]
    NotAssigned { topic: String, partition: i32 },
    #[error("the cluster's answer to {operation} can't be read: {detail}")]
    Protocol {
        operation: &'static str,
        detail: String,
    },
    #[error("{operation}: the cluster answered {code} for {resource}{detail}")]
    Refused {
        operation: &'static str,
        resource: String,
        code: i16,
        detail: String,
    },
    #[error("{operation}: connection to {address} failed")]
    Connection {
        operation: &'static str,
        address: String,
        #[source]
        source: std::io::Error,
    },
}

impl BusError {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Settings(_) | Self::Pem { .. } => "BUS_SETTINGS",
            Self::Cluster { .. }
            | Self::Timeout { .. }
            | Self::Connection { .. }
            | Self::Protocol { .. }
            | Self::Refused { .. } => "BUS_UNAVAILABLE",
            Self::Denied { .. } => "BUS_DENIED",
            Self::TopicMissing { .. } => "BUS_TOPIC_MISSING",
            Self::OffsetLost { .. } => "BUS_OFFSET_LOST",
            Self::NotAssigned { .. } => "BUS_NOT_ASSIGNED",
        }
    }

    /// A later attempt may succeed without anyone changing anything.
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Cluster { .. } | Self::Timeout { .. } | Self::Connection { .. }
        )
    }
}

/// What a transaction's owner must do.
#[derive(Debug, thiserror::Error)]
pub enum TxError {
    /// Call the same function again.
    #[error("the transaction's step can be repeated")]
    Retriable(#[source] KafkaError),
    /// Abort, then start over from the committed state.
    #[error("the transaction must be aborted")]
    Abort(#[source] KafkaError),
    /// Another owner has taken the transactional id: stop for good, nothing of this one commits.
    #[error("another owner has taken over {transactional_id}")]
    Fenced { transactional_id: String },
    /// This producer can't be used any more: make a new one and start over from committed state.
    #[error("the producer can't go on")]
    Fatal(#[source] KafkaError),
}

impl TxError {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Fenced { .. } => "BUS_FENCED",
            Self::Retriable(_) | Self::Abort(_) | Self::Fatal(_) => "BUS_TRANSACTION",
        }
    }
}

/// Codes by which a broker says that a newer producer owns the transactional id.
pub(crate) const fn means_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
    )
}

/// Codes that librdkafka recovers from by itself: worth a line in the log, never an error.
pub(crate) const fn means_transient(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::NodeUpdate
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::NotCoordinator
            | RDKafkaErrorCode::CoordinatorLoadInProgress
            | RDKafkaErrorCode::NetworkException
            | RDKafkaErrorCode::SSL
    )
}

/// An error and what it came from, for a log line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
