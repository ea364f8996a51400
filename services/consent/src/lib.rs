//! Grants: consents and cases, the revocation barrier, withdrawals with receipts, the contract in force.
//!
//! - [`Service`]: a running consent service; [`run`] until told to stop. [`Options`] say what it needs.
//! - [`Handle`]: what others ask of it, one file per act in `acts`; [`model`]: requests and answers.
//! - [`record`]: the consent record (ISO/IEC TS 27560) and the receipt that the person keeps.
//! - [`store`]: the PostgreSQL schema `consent`; every change is one transaction with its outbox.
//! - `publish`: the outbox on its way to Kafka, exactly once and in order.
//! - `watch`, `barrier`, `fence`: when a change holds everywhere, and how it is made to.
//! - `holders`, `life`: who holds what, and when it must be called back.
//! - [`limits`]: every limit.

mod acts;
mod barrier;
mod error;
mod fence;
mod handle;
mod holders;
mod life;
pub mod limits;
pub mod model;
mod options;
mod publish;
pub mod record;
mod refusal;
mod service;
mod shared;
pub mod store;
mod watch;

pub use error::ConsentError;
pub use handle::{Caller, Handle};
pub use options::{ConsentKeys, FENCE_AFTER, Options};
pub use refusal::{Refusal, RefusalKind};
pub use service::{Service, run};
