//! What an integrator writes against: a [`Source`], its checkpoint, publishing sealed events exactly
//! once. docs/integrator.md is the guide.
//!
//! - [`source`]: the trait, events, rejects;
//! - [`connector`]: the run loop, from a pass over the register to committed transactions;
//! - [`options`]: what a connector is started with; [`report`]: what it did;
//! - [`limits`]: every limit, with its unit.
//!
//! Inside: `draft` checks events, `known` compares them with what was published, `transaction`
//! commits, `checkpoint`, `last` and `restore` are the stream's memory, `rejects` is the file of rows
//! that published nothing.

mod checkpoint;
pub mod connector;
mod draft;
mod error;
mod known;
mod last;
pub mod limits;
pub mod options;
mod rejects;
pub mod report;
mod restore;
pub mod source;
mod transaction;

pub use connector::Connector;
pub use draft::record_text;
pub use error::ConnectorError;
pub use options::{Options, Schedule};
pub use report::{Observer, Progress, Report, Silent};
pub use source::{
    Chunk, Event, Item, Pass, PassEnd, Position, Reject, Source, SourceError, SourceErrorKind,
};
