//! The only place that talks to librdkafka: TLS, readers, the transaction loop, topics and ACLs.
//!
//! - [`Reader`]: partitions from explicit positions, with end-of-partition events;
//! - [`TxProducer`]: one transaction at a time, errors sorted by what to do next;
//! - [`SlotGroup`]: who runs which slot;
//! - [`contract_in_force`]: a contract version that was put in force;
//! - [`Admin`], [`plan`]: topics and access rules, from the contract to the cluster.

pub mod admin;
mod client;
mod contract;
mod error;
mod options;
mod plain;
pub mod plan;
mod producer;
mod reader;
mod record;
mod slots;
mod stretch;
pub mod tuning;

pub use admin::Admin;
pub use contract::{ContractFault, Unfit, contract_in_force};
pub use error::{BusError, TxError, chain};
pub use options::{BusOptions, TlsFiles, reader_group};
pub use plain::PlainProducer;
pub use producer::TxProducer;
pub use reader::{Isolation, Position, Reader, read_to_end};
pub use record::{HeaderPair, MAX_HEADERS, Polled, Record, UnreadableHeaders};
pub use slots::{SlotGroup, SlotOptions, lanes_of, slot_group};
pub use stretch::{Stretch, Unread, read_stretches};
