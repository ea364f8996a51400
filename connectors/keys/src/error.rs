//! What can go wrong with keys. Paths and key ids appear in the texts; key material never does.

use std::path::PathBuf;

/// A key could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system refused.
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A private file that the group or others may read is as good as published.
    #[error("{} has mode {mode:04o}: a private key must be readable by its owner alone (chmod 600)", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    /// The file belongs to somebody else, who could swap it.
    #[error("{} belongs to user {owner}, not to the user of this process", path.display())]
    ForeignOwner { path: PathBuf, owner: u32 },
    /// Not a regular file (a directory, device or pipe).
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    /// The contents are not what the name promises.
    #[error("{}: {reason}", path.display())]
    Malformed { path: PathBuf, reason: &'static str },
    /// A `*.keys.yaml` that can't be read.
    #[error("{}: {detail}", path.display())]
    PublicFile { path: PathBuf, detail: String },
    /// A key URI whose scheme this build can't open.
    #[error("key URI scheme {scheme}: is not supported by this build (supported: file:)")]
    SchemeUnsupported { scheme: String },
    /// A key URI that is not one.
    #[error("not a key URI (expected file:/path)")]
    UriMalformed,
    /// A department id, principal or key id outside `[a-z0-9-]`.
    #[error("{name:?} is not a name of a department, principal or key")]
    BadName { name: String },
    /// The private key has no public half in the contract.
    #[error("the {usage} key of {department} is not listed in {}", path.display())]
    Unlisted {
        department: String,
        usage: &'static str,
        path: PathBuf,
    },
    /// The key that is asked for is revoked: it must not sign any more.
    #[error("key {key_id} is revoked")]
    Revoked { key_id: String },
    /// No such key.
    #[error("no key {key_id} in {}", path.display())]
    NoSuchKey { key_id: String, path: PathBuf },
    /// The certificate library refused.
    #[error("certificate for {principal}")]
    Certificate {
        principal: String,
        #[source]
        source: rcgen::Error,
    },
    /// The contract has faults: nothing is signed that nobody can read. `faults` says which.
    #[error("the contract has {} fault(s), the first: {}", faults.len(), faults.first().map_or_else(String::new, ToString::to_string))]
    Contract { faults: Vec<mz_contract::Fault> },
    /// The key module refused to sign.
    #[error("signing")]
    Sign(#[source] mz_seal::SignError),
    /// The operating system gave no random bytes.
    #[error("the system's random source failed")]
    NoRandom,
}

impl KeyError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
