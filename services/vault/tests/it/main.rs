//! The vault against a real broker and a real database. One program, so that it links once.

#![expect(clippy::unwrap_used, reason = "test code")]

mod altered;
mod bundles;
mod codes;
mod in_force;
mod labels;
mod orders;
mod reach;
mod rest;
mod slots;
mod store;
