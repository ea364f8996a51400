//! The integration tests of this crate, in one program: it links once.

#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

mod contract;
mod extend;
mod faults;
mod item;
mod policy;
mod tree;
mod trust;
mod versions;
