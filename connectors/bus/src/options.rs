//! Which cluster, as whom, and under which prefix.

use std::path::{Path, PathBuf};

/// PEM files of one principal. The certificate's CN is the Kafka principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CA that signed the brokers' certificates.
    pub ca: PathBuf,
    /// Certificate chain of this client.
    pub cert: PathBuf,
    /// Its private key (PKCS#8).
    pub key: PathBuf,
}

impl TlsFiles {
    /// Where `mianzheng keys` puts the files of `principal` under a keys directory.
    pub fn of(keys: &Path, principal: &str) -> Self {
        Self {
            ca: keys.join("ca/ca.crt"),
            cert: keys.join(format!("tls/{principal}.crt")),
            key: keys.join(format!("tls/{principal}.key")),
        }
    }
}

/// How to reach the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusOptions {
    /// `host:port`, several separated by commas.
    pub bootstrap: String,
    /// Put before every topic, group and transactional id; empty in production. Everything in
    /// this crate takes and gives logical names, without it.
    pub prefix: String,
    /// `None`: plaintext, for a cluster behind its own encryption only.
    pub tls: Option<TlsFiles>,
    /// The principal's name (`police.adapter`): shows in the brokers' logs, and names the group
    /// under which a [`crate::Reader`] is known (it commits nothing there).
    pub client_id: String,
}

impl BusOptions {
    /// The same cluster as another principal, whose PEM files lie beside the present ones.
    #[must_use]
    pub fn as_principal(&self, keys: &Path, principal: &str) -> Self {
        Self {
            tls: self.tls.as_ref().map(|_| TlsFiles::of(keys, principal)),
            client_id: principal.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) fn physical(&self, logical: &str) -> String {
        format!("{}{logical}", self.prefix)
    }
}

/// The group under which a reader of this principal is known: `mz-<principal>`.
pub fn reader_group(principal: &str) -> String {
    format!("mz-{principal}")
}
