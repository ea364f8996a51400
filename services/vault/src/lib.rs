//! The latest verified fact per person and record; evidence bundles; answers backfill.
//!
//! - [`Service`]: a running vault; [`run`] until told to stop. [`Options`] say what it needs.
//! - [`Handle`]: what others ask of it: bundles, and the record of an auditor's look-up.
//! - [`bundle`]: the evidence bundle, its signature, and how to check one offline.
//! - [`store`]: the PostgreSQL schema `vault`, fenced per lane.
//! - [`cipher`]: how facts rest there.
//! - [`freshness`]: how complete each source is.
//! - [`refusal`]: why a request got no bundle.
//! - [`limits`]: every limit.
//! - `testing` (feature): an installation for tests.

pub mod bundle;
pub mod cipher;
pub mod freshness;
mod handle;
mod keys;
pub mod limits;
mod options;
pub mod refusal;
mod service;
mod shared;
mod slot;
pub mod store;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

pub use handle::{Handle, Readiness, check_operator, check_reason};
pub use keys::VaultKeys;
pub use options::{Options, Ownership};
pub use refusal::{Refusal, RefusalKind};
pub use service::{Service, VaultError, run};
pub use slot::command::{Hiding, Recorded};
pub use slot::ingest::IngestFault;
