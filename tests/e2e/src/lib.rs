//! End-to-end tests: the real binary as child processes, a real Kafka, a real PostgreSQL.
//!
//! - [`Installation`]: contract copy, keys, approvals, topics and database of one test, under a
//!   topic prefix of its own on the stack that all tests share.
//! - [`Service`]: a running `mianzheng`, which can be killed, frozen and thawed.
//! - [`wait`]: conditions instead of sleeps.
//! - [`city`]: registers and the connectors that publish them; [`settle`]: until all is processed.
//! - [`bus`]: whole topics, committed or not, in memory.
//! - [`audit`]: the equations that the log must satisfy; [`vault`], [`adapter`], [`holdings`]: the tables
//!   against the topics; [`registers`]: the topics against the registers.
//! - [`ledger`]: the ledger against the log.
//! - [`people`]: consents, cases, questions, as people and officers type them.
//! - [`drill`]: a load with processes killed at random, and then all of the above.
//! - [`grants_drill`]: the same for consents: [`consents`] are the counters that change them,
//!   [`arrears`] the register behind them, [`grants_check`] what must hold.

pub mod adapter;
pub mod arrears;
pub mod audit;
pub mod bus;
pub mod check;
pub mod city;
pub mod consents;
pub mod database;
pub mod drill;
pub mod equations;
pub mod events;
pub mod grants_check;
pub mod grants_drill;
pub mod holdings;
mod install;
pub mod ledger;
pub mod people;
pub mod registers;
mod service;
pub mod settle;
pub mod vault;
pub mod wait;
pub mod world;

pub use check::Check;
pub use install::{Installation, binary, repository};
pub use service::{Exit, Service};
pub use world::World;
