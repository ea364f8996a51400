//! What can go wrong with a local stack. The texts say what to do where the user can do something.

use std::path::PathBuf;

/// The stack could not be brought up, down or read.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The file system refused.
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot run {program}")]
    Run {
        program: String,
        #[source]
        source: std::io::Error,
    },
    /// A program ran and failed.
    #[error("{program} failed ({status}):\n{tail}")]
    Failed {
        program: String,
        status: String,
        tail: String,
    },
    /// Java or Maven is missing and this process can't install it.
    #[error("{what} is needed. Install it with:\n  {command}")]
    Missing {
        what: &'static str,
        command: &'static str,
    },
    /// No published PostgreSQL binary for this machine.
    #[error("no PostgreSQL binaries are published for {os}/{arch}")]
    Platform {
        os: &'static str,
        arch: &'static str,
    },
    /// A downloaded archive is not what it should be.
    #[error("{}: {reason}; delete {} and run again", path.display(), path.display())]
    Archive { path: PathBuf, reason: String },
    /// The engine's process ended before it was ready.
    #[error("{engine} ended before it was ready; the end of {}:\n{tail}", log.display())]
    Ended {
        engine: &'static str,
        log: PathBuf,
        tail: String,
    },
    /// The engine did not answer in time.
    #[error("{engine} did not answer within {seconds} s; the end of {}:\n{tail}", log.display())]
    NotReady {
        engine: &'static str,
        seconds: u64,
        log: PathBuf,
        tail: String,
    },
    /// The engine did not stop in time.
    #[error("{engine} (process {pid}) did not stop within {seconds} s")]
    NotStopped {
        engine: &'static str,
        pid: u32,
        seconds: u64,
    },
    /// PostgreSQL won't run as root and there is no other user to be.
    #[error(
        "PostgreSQL refuses to run as root, and {user:?} is not a user of this system; set MIANZHENG_PG_USER"
    )]
    NoUser { user: String },
    /// No place that the other user can reach.
    #[error("user {user} cannot reach {}; set MIANZHENG_CACHE and --dir to places that others may enter", path.display())]
    Unreachable { user: String, path: PathBuf },
    /// No free port on loopback.
    #[error("no free port on 127.0.0.1 between {from} and {to}")]
    NoPort { from: u16, to: u16 },
    /// Nothing to talk to.
    #[error("no stack is up in {}; run `mianzheng stack up`", dir.display())]
    NotUp { dir: PathBuf },
    /// `stack.json` can't be understood.
    #[error("{} is not a stack file of this version; run `mianzheng stack reset`", path.display())]
    State {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// Keys could not be made or read.
    #[error("keys")]
    Keys(#[from] mz_keys::KeyError),
    /// The database refused a test's request.
    #[error("database")]
    Database(#[from] sqlx::Error),
}

impl StackError {
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

    pub(crate) fn run(program: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let program = program.into();
        move |source| Self::Run { program, source }
    }
}
