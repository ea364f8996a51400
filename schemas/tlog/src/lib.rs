//! The formats of a transparency log, by the C2SP specifications. No I/O, no clock.
//!
//! A log appends entry hashes to a [`merkle::Frontier`], writes the subtree hashes it
//! closes as tiles ([`tile`]) and signs a [`checkpoint::Checkpoint`] as a
//! [`note::Note`]. A witness cosigns it ([`witness`]). An auditor holds a
//! [`policy::Policy`] and checks a [`proof::Proof`] offline.
//!
//! Every parser accepts exactly one spelling of a value, states its limits, and
//! never panics on hostile input.

pub mod checkpoint;
pub mod merkle;
pub mod note;
pub mod policy;
pub mod proof;
#[cfg(test)]
mod testing;
mod text;
pub mod tile;
pub mod witness;

/// A tree has fewer than 2^63 leaves, so that a size fits a signed integer everywhere.
pub const MAX_SIZE: u64 = (1 << 63) - 1;
