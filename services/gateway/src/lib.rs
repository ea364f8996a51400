//! Slots: source topics -> verify -> decide -> project -> department topics and audit, in one transaction.
//!
//! [`Service`] runs the slots that a process owns, one thread each ([`run_slot`]). A slot takes over
//! (`takeover`, `exposure`), then loops (`slot`): records are checked (`wire`, `sequence`, `judge`),
//! decided by `mz-policy`, written with their audit entries (`outbox`, `answers`), open and close
//! cases (`cases`), and fetch what was published before a case (`backfill`). What consent says comes the
//! same way: grants and the contract in force (`grants`, `contract`) hold from the next transaction on,
//! orders (`orders`) withdraw what was delivered, and an owner that consent shut out comes back (`fence`).
//! What a row filter leaves out is reported (`superseded`). Everything that a slot knows about a lane is
//! one record (`lane`), committed with what it wrote.

mod answers;
mod backfill;
mod cases;
#[cfg(test)]
mod codes;
mod contract;
mod engine;
mod error;
mod exposure;
mod fence;
mod grants;
mod judge;
mod lane;
mod options;
mod orders;
mod outbox;
mod people;
mod plan;
pub mod replay;
mod sequence;
mod service;
mod slot;
mod stats;
mod superseded;
mod takeover;
pub mod telemetry;
mod wire;

pub use error::Error;
pub use mz_bus::Unfit;
pub use options::{Keys, Options, Ownership, Pace};
pub use outbox::{REASON_HEADER, WITHDRAWN_BY_SOURCE};
pub use sequence::{MAX_MISSING_RANGES, Sequence, Step};
pub use service::{Handle, Service};
pub use slot::run_slot;
pub use stats::{Counts, Stats};
pub use takeover::load_grants;
