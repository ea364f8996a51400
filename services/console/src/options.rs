//! What the HTTP services are told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use mz_bus::TlsFiles;
use mz_contract::Contract;

/// The schema endpoint, and the audit log for witnesses and auditors.
#[derive(Clone)]
pub struct Options {
    pub listen: SocketAddr,
    /// The bus CA, and the certificate of `bus.console`.
    pub tls: TlsFiles,
    pub contract: Arc<Contract>,
    /// Where the audit ledger's logs lie, or a copy of them: `<folder>/<shard>/<period>`. It is only read.
    pub ledger: PathBuf,
}

/// A vault with its HTTP side: evidence bundles and who-read.
#[derive(Clone)]
pub struct VaultOptions {
    pub listen: SocketAddr,
    /// The bus CA, and the certificate of `bus.vault`.
    pub tls: TlsFiles,
    pub vault: mz_vault::Options,
    /// Where the ledger's index is: a PostgreSQL URL.
    pub index_url: String,
}

/// The consent service with its HTTP side.
pub struct ConsentOptions {
    pub listen: SocketAddr,
    /// The bus CA, and the certificate of `bus.consent`.
    pub tls: TlsFiles,
    pub consent: mz_consent::Options,
}
