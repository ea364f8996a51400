//! Grants: consents and cases, the revocation barrier, withdrawals with receipts, the contract in force.

mod handle;
pub mod model;
pub mod record;
mod refusal;

pub use handle::Caller;
pub use refusal::{Refusal, RefusalKind};
