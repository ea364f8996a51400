//! The consent service with a real gateway, a real vault, Kafka and PostgreSQL.

#![cfg(test)]
#![expect(
    clippy::expect_used,
    reason = "a test says by panicking what went wrong"
)]

mod acts;
mod barrier;
mod contracts;
mod erase;
mod withdrawals;
mod world;
