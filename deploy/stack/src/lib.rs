//! The local stack: Kafka in KRaft mode and PostgreSQL from Maven Central, on loopback, without root.
