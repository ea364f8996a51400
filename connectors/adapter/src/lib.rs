//! Ready sinks: verifies deliveries and writes them into the consumer's own database exactly once.
//!
//! - [`Config`]: the file that an operator writes; [`Options`]: with cluster, contract, database.
//! - [`Service`] and [`run`]: the loop; [`Handle`], [`Summary`]: what it did.
//! - [`Target`]: topics of the agreement and their tables; [`Column`]: from Avro to SQL.
//! - [`Inspector`]: the same checks on single deliveries, without a database.
//! - `check`: nothing is written that the issuing department's signature does not cover.
//! - `batch`, `store`: newest version per record, rows and positions in one transaction.
//! - `endings`, `receipts`: withdrawals carried out by their place in the lane; legal holds; the
//!   department's signed word for it.
//! - `sql`, [`Ident`]: the only place that makes SQL of names.

mod batch;
mod check;
mod column;
mod config;
mod endings;
mod error;
mod ident;
mod inspect;
pub mod limits;
mod receipts;
mod service;
mod session;
mod sql;
mod store;
mod summary;
mod target;

pub use batch::SequenceFault;
pub use column::{Column, ColumnType};
pub use config::{Config, DatabaseConfig, OnWithdrawal, WhenLost};
pub use endings::Endings;
pub use error::Error;
pub use ident::Ident;
pub use inspect::{Inspected, Inspector};
pub use service::{Handle, Options, Service, run};
pub use store::Database;
pub use summary::{Histogram, Quantiles, Summary, TopicCounts};
pub use target::{Target, targets};
