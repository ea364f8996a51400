//! decide(event, agreement, grants) -> Permit or Denial. Pure.
//!
//! - [`GrantsIndex`]: whom a lane's grants concern, and whether they are in force;
//! - [`decide`]: one verified event under one section of one agreement;
//! - [`Permit`]: the only input from which a delivery can be made.

mod asks;
mod decide;
mod grants;
mod heads;
mod permit;

pub use asks::Asks;
pub use decide::{Decision, Denial, Now, Outside, Rule, decide};
pub use grants::{
    Ask, Bar, CLOCK_SKEW_MS, Change, DEFAULT_GRANT_LIMIT, GrantsFull, GrantsIndex, Held,
    KEEP_EXPIRED_MS, REFETCH, Standing,
};
pub use permit::Permit;
