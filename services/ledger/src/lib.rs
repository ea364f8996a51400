//! `bus.audit` → Merkle log on disk → search index. The log proves itself: every record of the bus in one
//! order, numbered and chained by those who wrote it, under a tree head that is signed once it is durable
//! and committed.

pub mod absence;
pub mod batches;
pub mod check;
mod commit;
pub mod cosigned;
mod error;
pub mod feed;
mod find;
pub mod index;
mod intake;
pub mod limits;
pub mod log;
mod options;
pub mod prove;
pub mod quorum;
mod service;
mod sign;
pub mod trim;
pub mod witness;

pub use error::LedgerError;
pub use find::{AuditId, BadAuditId, find};
pub use options::{Options, Period, system_clock};
pub use service::{Progress, run};
pub use sign::{checkpoint_keys, is_signed, verifier_key};
