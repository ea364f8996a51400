//! The HTTP services and the sheet. One program, so that it links once.

#![expect(clippy::unwrap_used, reason = "test code")]

mod codes;
mod consent;
mod http;
mod roles;
mod sheet;
