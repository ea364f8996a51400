//! One binary for all tests of the crate.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says by panicking what went wrong"
)]

mod absence;
mod independent;
mod index;
mod log;
mod power;
mod prove;
mod service;
mod tamper;
mod witness;
mod witness_source;
