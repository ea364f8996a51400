//! The integration tests of this crate, in one program: it links once.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod common;
mod crashes;
mod forgeries;
mod page;
mod tables;
mod withdrawals;
