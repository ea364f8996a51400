//! Ready sources: files (CSV, NDJSON, xlsx) and SQL, mapped to events by YAML. docs/integrator.md is
//! the guide.
//!
//! - [`connect`]: `mianzheng connect`, from a configuration to a running connector;
//! - [`mapping`]: YAML rules, checked against the contract, that turn rows into events;
//! - [`register`]: the [`mz_sdk::Source`] over any table;
//! - [`read`]: the tables: CSV, NDJSON, workbooks (in a process of their own), PostgreSQL;
//! - [`cell`], [`clean`], [`dates`], [`numbers`], [`join`]: what is done to values, and what is not;
//! - [`limits`]: every limit, with its unit.

pub mod cell;
pub mod clean;
pub mod connect;
pub mod dates;
pub mod join;
pub mod limits;
pub mod mapping;
pub mod numbers;
pub mod read;
pub mod register;
