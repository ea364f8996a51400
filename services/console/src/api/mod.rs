//! What is served: one file per resource.

mod answers;
pub mod bundles;
pub mod consent;
mod find_usage;
mod gaps;
pub mod guard;
pub mod health;
pub mod hides;
pub mod ledger;
pub mod logs;
pub mod problem;
pub mod schemas;
pub mod who_read;
