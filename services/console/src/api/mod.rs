//! What is served: one file per resource.

pub mod bundles;
pub mod consent;
pub mod guard;
pub mod health;
pub mod ledger;
pub mod problem;
pub mod schemas;
pub mod who_read;
