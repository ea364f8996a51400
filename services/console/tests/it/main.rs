//! The HTTP services and the sheet. One program, so that it links once.

#![expect(clippy::unwrap_used, reason = "test code")]

mod codes;
mod consent;
mod find_usage;
mod hides;
mod hostile_logs;
mod http;
mod ledger;
mod logs;
mod roles;
mod sheet;
mod tls_by_hand;
/// What a witness finds in a folder it finds over the network.
#[path = "../../../ledger/tests/it/witness.rs"]
mod witness;
mod witness_source;
