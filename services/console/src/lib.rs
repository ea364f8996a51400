//! HTTP over mutual TLS: evidence bundles, who-read, the schema endpoint; and their client.
//!
//! - [`run`]: the schema endpoint. [`run_vault`]: a vault with `POST /v1/bundles` and
//!   `POST /v1/who-read`. [`Options`] and [`VaultOptions`] say what they need.
//! - [`Client`]: the same services from the caller's side; [`pretty`] shows what came.
//! - [`sheet`]: the A4 sheet (数据核验单) of a bundle.
//! - [`who_read`]: walks the audit log about one person.
//! - [`registry`]: the contract as a schema registry.
//! - [`limits`]: every limit.

mod api;
mod client;
pub mod limits;
mod options;
pub mod pretty;
mod principal;
pub mod registry;
mod rows;
mod server;
mod service;
pub mod sheet;
mod tls;
pub mod who_read;

pub use api::problem::Problem;
pub use client::{Client, ClientError, read_id};
pub use options::{Options, VaultOptions};
pub use principal::{Principal, PrincipalError};
pub use server::Server;
pub use service::{ConsoleError, Running, run, run_vault, start, start_vault};
pub use tls::TlsError;
