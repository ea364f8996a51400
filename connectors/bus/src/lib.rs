//! The only place that talks to librdkafka: TLS, readers, the transaction loop, topics and ACLs.
