//! End-to-end tests against a real Kafka and a real PostgreSQL.
