//! Slots: source topics -> verify -> decide -> project -> department topics and audit, in one transaction.
//!
//! [`Service`] runs the slots that a process owns, one thread each ([`run_slot`]). A slot takes over
//! (`takeover`, `exposure`), then loops (`slot`): records are checked (`wire`, `sequence`, `judge`),
//! decided by `mz-policy`, written with their audit entries (`outbox`, `answers`), open and close
//! cases (`cases`), and fetch what was published before a case (`backfill`). Everything that a slot
//! knows about a lane is one record (`lane`), committed with what it wrote.

mod answers;
mod backfill;
mod cases;
#[cfg(test)]
mod codes;
mod engine;
mod error;
mod exposure;
mod judge;
mod lane;
mod options;
mod outbox;
mod people;
mod plan;
pub mod replay;
mod sequence;
mod service;
mod slot;
mod stats;
mod takeover;
pub mod telemetry;
mod wire;

pub use error::Error;
pub use options::{Keys, Options, Ownership, Pace};
pub use outbox::{REASON_HEADER, WITHDRAWN_BY_SOURCE};
pub use sequence::{MAX_MISSING_RANGES, Sequence, Step};
pub use service::{Handle, Service};
pub use slot::run_slot;
pub use stats::{Counts, Stats};
pub use takeover::load_grants;
