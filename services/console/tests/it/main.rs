//! The HTTP services and the sheet. One program, so that it links once.

#![expect(clippy::unwrap_used, reason = "test code")]

mod codes;
mod consent;
mod find_usage;
mod hides;
mod http;
mod ledger;
mod roles;
mod sheet;
