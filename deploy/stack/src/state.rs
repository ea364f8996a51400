//! `stack.json`: what `up` decided and what clients need. Private, because it holds the database
//! password; replaced as a whole.

use crate::process::ProcessId;
use crate::{StackError, StackOptions};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A running (or once running) stack, as clients and the next `up` see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StackInfo {
    /// Kafka's address, `127.0.0.1:port`.
    pub bootstrap: String,
    /// Connection URL of the database `mianzheng`, password included.
    pub pg_url: String,
    /// Keys directory (see `mz_keys::KeysDir`).
    pub keys: PathBuf,
    /// Contract copy that holds the public keys.
    pub contract: PathBuf,
    /// The Java that runs Kafka, and the class path that also holds Kafka's command-line tools.
    pub java: PathBuf,
    pub kafka_classpath: String,
    /// Engines as started.
    pub kafka: Engine,
    pub controller_port: u16,
    pub postgres: Engine,
    /// PostgreSQL's data directory; elsewhere than below the stack when its user can't go there.
    pub postgres_data: PathBuf,
    /// The user it runs as; empty when that is the user who started the stack.
    pub postgres_user: String,
}

/// One engine's process and port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Engine {
    pub port: u16,
    /// `None` after `down`.
    pub process: Option<ProcessId>,
}

impl Engine {
    pub(crate) fn alive(&self) -> bool {
        self.process.as_ref().is_some_and(ProcessId::alive)
    }
}

impl StackInfo {
    /// Reads the stack file of a directory; `None` when there is none.
    pub fn read(dir: &Path) -> Result<Option<Self>, StackError> {
        let path = StackOptions::new(dir).state_file();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StackError::io("cannot read", path)(error)),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| StackError::State { path, source })
    }

    pub(crate) fn write(&self, options: &StackOptions) -> Result<(), StackError> {
        let path = options.state_file();
        let text = serde_json::to_vec_pretty(self).map_err(|source| StackError::State {
            path: path.clone(),
            source,
        })?;
        let temporary = path.with_extension("json.tmp");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(StackError::io("cannot create", &temporary))?;
        file.write_all(&text)
            .and_then(|()| file.sync_all())
            .map_err(StackError::io("cannot write", &temporary))?;
        std::fs::rename(&temporary, &path).map_err(StackError::io("cannot replace", &path))
    }
}
