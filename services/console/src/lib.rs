//! HTTP over mutual TLS: evidence bundles, who-read, grants, the schema endpoint; and their client.
//!
//! - [`run`]: the schema endpoint, and the audit log for witnesses ([`HttpSource`] reads it). [`run_vault`]: a vault with `POST /v1/bundles`, `POST /v1/who-read` and
//!   `POST /v1/ledger/…`. [`run_consent`]: the consent service with its routes (docs/consent.md).
//!   [`Options`], [`VaultOptions`] and [`ConsentOptions`] say what they need.
//! - [`roles`]: which certificate may call which route.
//! - [`Client`]: the same services from the caller's side; [`pretty`] shows what came.
//! - [`sheet`]: the A4 sheet (数据核验单) of a bundle.
//! - [`soap`]: the envelope of the citizen portal's `findUsage`.
//! - [`receipt`]: checks a consent receipt offline.
//! - [`who_read`]: walks the audit log about one person.
//! - [`registry`]: the contract as a schema registry.
//! - [`limits`]: every limit.

mod api;
mod client;
mod consent_client;
mod http_source;
pub mod limits;
mod log_body;
mod log_reads;
mod options;
pub mod pretty;
mod principal;
pub mod receipt;
pub mod registry;
pub mod roles;
mod rows;
mod server;
mod service;
pub mod sheet;
pub mod soap;
mod source_gaps;
mod source_numbers;
mod telemetry;
mod tls;
pub mod who_read;

pub use api::hides::{HideAct, HideAnswer, HideRequest};
pub use api::ledger::{LedgerAnswer, LedgerRequest, Question};
pub use api::problem::Problem;
pub use client::{Client, ClientError, read_id, read_ids};
pub use http_source::HttpSource;
pub use options::{ConsentOptions, Options, VaultOptions};
pub use principal::{Principal, PrincipalError};
pub use server::Server;
pub use service::{
    ConsoleError, Running, run, run_consent, run_vault, start, start_consent, start_vault,
};
pub use tls::TlsError;
