//! The local stack: Kafka in KRaft mode and PostgreSQL 17, both from Maven Central, on loopback,
//! with mutual TLS and ACLs on, without root and safe under it. For a first run, for development
//! and for tests; production uses an existing cluster and an existing database.
//!
//! - [`Stack`]: `up`, `down`, `status`, `reset` of one directory; several run side by side.
//! - [`StackOptions`]: which directory, and what may be turned.
//! - [`StackInfo`]: what a running stack offers to clients, as `stack.json` records it.
//! - [`Progress`]: what `up` tells while it downloads and starts; [`Bar`] shows it on a terminal.
//! - [`testing`]: the one stack that all tests share.

mod download;
mod error;
mod java;
mod kafka;
mod options;
mod postgres;
mod probe;
mod process;
mod progress;
mod stack;
mod state;
pub mod testing;
mod user;

pub use error::StackError;
pub use options::StackOptions;
pub use process::ProcessId;
pub use progress::{Bar, Progress, Quiet, Step};
pub use stack::{Health, Stack, Status};
pub use state::StackInfo;
