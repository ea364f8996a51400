//! PostgreSQL: initdb once, start, wait until it serves; databases for tests.

use crate::process::{ProcessId, run, spawn_background, tail};
use crate::state::Engine;
use crate::user::RunAs;
use crate::{Progress, StackError, StackOptions, Step};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const NAME: &str = "PostgreSQL";
/// Owner of the databases, and the database of the installation.
const OWNER: &str = "mianzheng";
const READY_WITHIN: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(50);
/// Where the data goes under root when the database's user can't enter the stack's directory.
const SYSTEM_DATA: &str = "/var/lib/mianzheng";
/// A test suite opens many small pools.
const MAX_CONNECTIONS: u32 = 400;

/// What it takes to start the database.
pub(crate) struct Postgres<'a> {
    pub options: &'a StackOptions,
    pub home: &'a Path,
    pub run_as: &'a RunAs,
    pub data: PathBuf,
    pub password: String,
}

impl<'a> Postgres<'a> {
    /// Finds a place that the database's user can reach, and the password (made once).
    pub(crate) fn prepare(
        options: &'a StackOptions,
        home: &'a Path,
        run_as: &'a RunAs,
    ) -> Result<Self, StackError> {
        let own = options.postgres();
        std::fs::create_dir_all(&own).map_err(StackError::io("cannot create", &own))?;
        let password = password(&own.join("password"))?;
        let data = if let Some(data) = usable(run_as, &own.join("data"))? {
            data
        } else {
            let system = system_data(options);
            usable(run_as, &system)?.ok_or_else(|| StackError::Unreachable {
                user: run_as.name().to_owned(),
                path: system,
            })?
        };
        Ok(Self {
            options,
            home,
            run_as,
            data,
            password,
        })
    }

    /// Initialises if need be, starts, waits until the database answers. `note` hears of the
    /// process before the wait.
    pub(crate) fn start(
        &self,
        port: u16,
        progress: &dyn Progress,
        note: &dyn Fn(&Engine) -> Result<(), StackError>,
    ) -> Result<Engine, StackError> {
        if !self.data.join("PG_VERSION").exists() {
            progress.step(Step::Formatting(NAME));
            self.initialise()?;
        }
        progress.step(Step::Starting(NAME));
        let logs = self.options.logs();
        std::fs::create_dir_all(&logs).map_err(StackError::io("cannot create", &logs))?;
        let log = logs.join("postgres.log");
        let mut command = self.run_as.command(&self.home.join("bin/postgres"));
        command
            .arg("-D")
            .arg(&self.data)
            .args(["-p", &port.to_string()]);
        let fsync = if self.options.fsync { "on" } else { "off" };
        for (name, value) in [
            ("listen_addresses", "127.0.0.1"),
            // Loopback TCP only: no socket file, whose path would also be limited in length.
            ("unix_socket_directories", ""),
            ("max_connections", &MAX_CONNECTIONS.to_string()),
            ("shared_buffers", "128MB"),
            ("max_wal_size", "1GB"),
            ("fsync", fsync),
            ("full_page_writes", fsync),
            // A log must not hold what a statement's parameters held.
            ("log_parameter_max_length_on_error", "0"),
            ("log_min_error_statement", "panic"),
            ("log_checkpoints", "off"),
        ] {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut child = spawn_background(command, "postgres", &log)?;
        let process = ProcessId::of(child.id());
        note(&Engine {
            port,
            process: process.clone(),
        })?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let ended = child
                .try_wait()
                .map_err(StackError::run("postgres"))?
                .is_some();
            if ended || process.is_none() {
                return Err(StackError::Ended {
                    engine: NAME,
                    tail: tail(&log),
                    log,
                });
            }
            if serves(&self.url(port, "postgres")) {
                break;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                return Err(StackError::NotReady {
                    engine: NAME,
                    seconds: READY_WITHIN.as_secs(),
                    tail: tail(&log),
                    log,
                });
            }
            std::thread::sleep(POLL);
        }
        create_database(&self.url(port, "postgres"), OWNER)?;
        Ok(Engine { port, process })
    }

    /// URL of the installation's database.
    pub(crate) fn own_url(&self, port: u16) -> String {
        self.url(port, OWNER)
    }

    fn url(&self, port: u16, database: &str) -> String {
        format!(
            "postgres://{OWNER}:{}@127.0.0.1:{port}/{database}?sslmode=disable",
            self.password
        )
    }

    fn initialise(&self) -> Result<(), StackError> {
        // initdb insists on an empty directory; an interrupted one left files in it.
        for entry in std::fs::read_dir(&self.data)
            .map_err(StackError::io("cannot list", &self.data))?
            .flatten()
        {
            let path = entry.path();
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.map_err(StackError::io("cannot remove", &path))?;
        }
        // The user of the database reads the password from a file of its own, gone right after.
        let handover = self.data.with_extension("pw");
        let _ = std::fs::remove_file(&handover);
        write_private(&handover, &self.password)?;
        self.run_as.own(&handover)?;
        let mut command = self.run_as.command(&self.home.join("bin/initdb"));
        command
            .arg("-D")
            .arg(&self.data)
            .args(["-U", OWNER, "-A", "scram-sha-256", "-E", "UTF8"])
            .args(["--no-locale", "--no-instructions", "--data-checksums"])
            .arg(format!("--pwfile={}", handover.display()));
        if !self.options.fsync {
            command.arg("--no-sync");
        }
        let done = run(command, "initdb");
        std::fs::remove_file(&handover).map_err(StackError::io("cannot remove", &handover))?;
        done.map(drop)
    }
}

/// Where `reset` finds data that did not fit below the stack.
pub(crate) fn system_data(options: &StackOptions) -> PathBuf {
    let dir = std::path::absolute(&options.dir).unwrap_or_else(|_| options.dir.clone());
    let hash = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    Path::new(SYSTEM_DATA)
        .join(hex::encode(&hash[..8]))
        .join("data")
}

/// Makes the directory for the database's user; `None` when that user can't get there.
fn usable(run_as: &RunAs, data: &Path) -> Result<Option<PathBuf>, StackError> {
    let existed = data.exists();
    std::fs::create_dir_all(data).map_err(StackError::io("cannot create", data))?;
    // PostgreSQL insists on a directory that is its own alone.
    std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700))
        .map_err(StackError::io("cannot set the mode of", data))?;
    run_as.own(data)?;
    // initdb also reads the password beside it: the parent must be enterable, which this implies.
    if run_as.can_use(data, true) {
        return Ok(Some(data.to_owned()));
    }
    if !existed {
        std::fs::remove_dir(data).map_err(StackError::io("cannot remove", data))?;
    }
    Ok(None)
}

fn password(path: &Path) -> Result<String, StackError> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(StackError::io("cannot read", path)(error));
        }
        _ => {}
    }
    let password = hex::encode(mz_keys::secret::random::<16>()?);
    let _ = std::fs::remove_file(path);
    write_private(path, &password)?;
    Ok(password)
}

fn write_private(path: &Path, text: &str) -> Result<(), StackError> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(StackError::io("cannot write", path))
}

/// Whether the database at this URL answers a query.
pub(crate) fn serves(url: &str) -> bool {
    execute(url, "SELECT 1".to_owned()).is_ok()
}

/// Creates a database unless it exists. The name must be `[a-z0-9_]`.
pub(crate) fn create_database(url: &str, name: &str) -> Result<(), StackError> {
    match execute(url, format!("CREATE DATABASE \"{name}\"")) {
        Err(StackError::Database(sqlx::Error::Database(error)))
            if error.code().as_deref() == Some("42P04") =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Runs one statement on a fresh connection, from any thread, inside a runtime or not.
fn execute(url: &str, statement: String) -> Result<(), StackError> {
    let url = url.to_owned();
    let work = move || -> Result<(), StackError> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StackError::run("a runtime"))?
            .block_on(async {
                let mut connection = PgConnection::connect(&url).await?;
                // The only statements are literals and CREATE DATABASE with a checked name.
                connection
                    .execute(sqlx::raw_sql(AssertSqlSafe(statement)))
                    .await?;
                connection.close().await?;
                Ok(())
            })
    };
    std::thread::spawn(work)
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
