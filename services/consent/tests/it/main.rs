//! The consent service with a real gateway, a real vault, Kafka and PostgreSQL.

#![cfg(test)]
mod acts;
mod audit_gap;
mod barrier;
mod contracts;
mod erase;
mod withdrawals;
mod world;
