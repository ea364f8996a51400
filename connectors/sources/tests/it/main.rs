//! Registers of every kind, good and hostile, read and published on the real engines.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a surprise must fail the test"
)]

mod bus;
mod city;
mod hostile;
mod lint;
mod properties;
mod publish;
mod reasons;
mod support;
