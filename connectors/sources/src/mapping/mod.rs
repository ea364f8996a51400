//! The mapping from a register's columns to the fields of datasets: YAML on disk ([`raw`]), checked
//! against the contract ([`mod@compile`]) into a plan ([`plan`]) that turns rows into events ([`apply`]).

pub mod apply;
pub mod compile;
mod field;
pub mod plan;
pub mod raw;
mod split;
pub(crate) mod yaml;

pub use apply::{Made, Mapper};
pub use compile::{DatasetView, Datasets, load, parse};
pub use plan::Mapping;
