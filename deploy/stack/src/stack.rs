//! Up, down, status, reset of one stack directory.

use crate::kafka::{self, Kafka};
use crate::postgres::{self, Postgres};
use crate::process::ProcessId;
use crate::state::{Engine, StackInfo};
use crate::user::RunAs;
use crate::{Progress, StackError, StackOptions, Step, download, java};
use mz_keys::KeysDir;
use rustix::process::Signal;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

/// Ports are chosen here: below the range from which systems take ports of outgoing connections,
/// so that a remembered port is still free after `down`.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const PORT_TRIES: u32 = 200;
/// How often `up` starts an engine again on other ports when it ends at once.
const START_TRIES: u32 = 3;
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Whether an engine runs and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Runs and answers.
    Ready,
    /// The process is there but does not answer.
    Silent,
    /// No process.
    Down,
}

/// What [`Stack::status`] found.
#[derive(Clone, Debug)]
pub struct Status {
    pub kafka: Health,
    pub postgres: Health,
    /// `None` when the stack was never up.
    pub info: Option<StackInfo>,
}

impl Status {
    /// Both engines answer.
    pub fn ready(&self) -> bool {
        self.kafka == Health::Ready && self.postgres == Health::Ready
    }
}

/// One stack directory. Operations lock it, so that two commands at once don't mix.
#[derive(Clone, Debug)]
pub struct Stack {
    options: StackOptions,
}

impl Stack {
    /// The stack of these options; touches nothing. The directory becomes absolute: Java and
    /// PostgreSQL run elsewhere.
    pub fn new(mut options: StackOptions) -> Self {
        if let Ok(dir) = std::path::absolute(&options.dir) {
            options.dir = dir;
        }
        Self { options }
    }

    /// Brings both engines up: downloads, makes keys, formats and starts what is missing, waits
    /// until both answer. A stack that is up stays as it is.
    pub fn up(&self, progress: &dyn Progress) -> Result<StackInfo, StackError> {
        let _lock = self.lock()?;
        let before = StackInfo::read(&self.options.dir)?;
        let run_as = RunAs::choose()?;
        let engines = download::engines(&self.options, &run_as, progress)?;
        let java = java::java(self.options.install_missing, progress)?;
        progress.step(Step::Keys);
        let keys = KeysDir::new(self.options.keys());
        let contract = self.options.contract();
        mz_keys::provision(keys.root(), &contract, &self.options.departments)?;

        let kafka = Kafka {
            options: &self.options,
            java: &java,
            lib: &engines.lib,
            keys: &keys,
        };
        let postgres = Postgres::prepare(&self.options, &engines.postgres, &run_as)?;
        let never = Engine {
            port: 0,
            process: None,
        };
        let mut info = before.unwrap_or_else(|| StackInfo {
            bootstrap: String::new(),
            pg_url: String::new(),
            keys: keys.root().to_owned(),
            contract: contract.clone(),
            java: java.clone(),
            kafka_classpath: String::new(),
            kafka: never.clone(),
            controller_port: 0,
            postgres: never,
            postgres_data: postgres.data.clone(),
            postgres_user: run_as.name().to_owned(),
        });
        info.contract = contract;
        info.java.clone_from(&java);
        info.kafka_classpath = kafka::class_path(&engines.lib);
        info.postgres_data.clone_from(&postgres.data);
        run_as.name().clone_into(&mut info.postgres_user);

        // Side by side: both wait mostly for the disk and their own start-up.
        if info.postgres.alive() && !postgres::serves(&info.pg_url) {
            stop(&mut info.postgres, postgres::NAME, Signal::INT)?;
        }
        if info.kafka.alive() && !Kafka::serves(&keys, info.kafka.port) {
            stop(&mut info.kafka, kafka::NAME, Signal::TERM)?;
        }
        let kafka_up = info.kafka.alive();
        let postgres_up = info.postgres.alive();
        if !postgres_up {
            let remembered = info.postgres.port;
            let known = info.clone();
            let note = |engine: &Engine| {
                StackInfo {
                    postgres: engine.clone(),
                    ..known.clone()
                }
                .write(&self.options)
            };
            info.postgres =
                retrying(|again| postgres.start(port(remembered, again)?, progress, &note))?;
            info.pg_url = postgres.own_url(info.postgres.port);
            info.write(&self.options)?;
        }
        if !kafka_up {
            let (remembered, controller) = (info.kafka.port, info.controller_port);
            let known = info.clone();
            let note = |engine: &Engine| {
                StackInfo {
                    kafka: engine.clone(),
                    ..known.clone()
                }
                .write(&self.options)
            };
            info.kafka = retrying(|again| {
                info.controller_port = port(controller, again)?;
                let broker = port(remembered, again)?;
                kafka.start(broker, info.controller_port, progress, &note)
            })?;
            info.bootstrap = format!("127.0.0.1:{}", info.kafka.port);
        }
        info.write(&self.options)?;
        progress.step(Step::Ready);
        Ok(info)
    }

    /// Stops both engines in order and waits until they are gone. Says whether any was running.
    pub fn down(&self, progress: &dyn Progress) -> Result<bool, StackError> {
        if !self.options.dir.exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        self.down_locked(progress)
    }

    /// Looks, and asks both engines.
    pub fn status(&self) -> Result<Status, StackError> {
        let Some(info) = StackInfo::read(&self.options.dir)? else {
            return Ok(Status {
                kafka: Health::Down,
                postgres: Health::Down,
                info: None,
            });
        };
        let health = |engine: &Engine, serves: &dyn Fn() -> bool| match engine.alive() {
            false => Health::Down,
            true if serves() => Health::Ready,
            true => Health::Silent,
        };
        let keys = KeysDir::new(&info.keys);
        Ok(Status {
            kafka: health(&info.kafka, &|| Kafka::serves(&keys, info.kafka.port)),
            postgres: health(&info.postgres, &|| postgres::serves(&info.pg_url)),
            info: Some(info),
        })
    }

    /// Kills PostgreSQL, every process of it at once, and brings it back where it was. For drills.
    pub fn crash_database(&self, progress: &dyn Progress) -> Result<StackInfo, StackError> {
        let before = self.info()?;
        if let Some(process) = &before.postgres.process {
            process.crash(postgres::NAME, STOP_PATIENCE)?;
            // All of them are gone. But a dead process keeps its id until its parent asks what became of
            // it, and PostgreSQL would not start beside that id.
            let lock = before.postgres_data.join("postmaster.pid");
            std::fs::remove_file(&lock).map_err(StackError::io("cannot remove", &lock))?;
        }
        let after = self.up(progress)?;
        match after.pg_url == before.pg_url {
            true => Ok(after),
            // Somebody took the port meanwhile.
            false => Err(StackError::NotUp {
                dir: self.options.dir.clone(),
            }),
        }
    }

    /// Freezes PostgreSQL, every process of it, or lets it go on. For drills.
    pub fn freeze_database(&self, freeze: bool) -> Result<(), StackError> {
        let info = StackInfo::read(&self.options.dir)?;
        let process = info.and_then(|info| info.postgres.process);
        let process = process.ok_or_else(|| StackError::NotUp {
            dir: self.options.dir.clone(),
        })?;
        process.signal_all(if freeze { Signal::STOP } else { Signal::CONT });
        Ok(())
    }

    /// What a running stack offers; an error when it is not up.
    pub fn info(&self) -> Result<StackInfo, StackError> {
        match self.status()? {
            Status {
                kafka: Health::Ready,
                postgres: Health::Ready,
                info: Some(info),
            } => Ok(info),
            _ => Err(StackError::NotUp {
                dir: self.options.dir.clone(),
            }),
        }
    }

    /// Stops, and wipes the data of both engines. Keys, contract copy and downloads stay.
    pub fn reset(&self, progress: &dyn Progress) -> Result<(), StackError> {
        if !self.options.dir.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let elsewhere = match StackInfo::read(&self.options.dir) {
            Ok(Some(info)) => {
                self.down_locked(progress)?;
                Some(info.postgres_data)
            }
            Ok(None) => None,
            // Unreadable, hence not ours to stop; wiping is what was asked for.
            Err(StackError::State { .. }) => None,
            Err(error) => return Err(error),
        };
        for dir in [
            Some(self.options.kafka()),
            Some(self.options.postgres()),
            Some(self.options.logs()),
            elsewhere
                .filter(|data| *data == postgres::system_data(&self.options))
                .and_then(|data| data.parent().map(Path::to_owned)),
        ]
        .into_iter()
        .flatten()
        {
            remove(&dir, std::fs::remove_dir_all(&dir))?;
        }
        let state = self.options.state_file();
        remove(&state, std::fs::remove_file(&state))
    }

    fn down_locked(&self, progress: &dyn Progress) -> Result<bool, StackError> {
        let Some(mut info) = StackInfo::read(&self.options.dir)? else {
            return Ok(false);
        };
        let running = info.kafka.alive() || info.postgres.alive();
        if info.kafka.alive() {
            progress.step(Step::Stopping(kafka::NAME));
        }
        stop(&mut info.kafka, kafka::NAME, Signal::TERM)?;
        if info.postgres.alive() {
            progress.step(Step::Stopping(postgres::NAME));
        }
        // SIGINT is PostgreSQL's "fast" shutdown: open sessions are rolled back.
        stop(&mut info.postgres, postgres::NAME, Signal::INT)?;
        info.write(&self.options)?;
        Ok(running)
    }

    fn lock(&self) -> Result<File, StackError> {
        let dir = &self.options.dir;
        std::fs::create_dir_all(dir).map_err(StackError::io("cannot create", dir))?;
        let path = self.options.lock_file();
        let file = File::create(&path).map_err(StackError::io("cannot create", &path))?;
        file.lock().map_err(StackError::io("cannot lock", &path))?;
        Ok(file)
    }
}

fn stop(engine: &mut Engine, name: &'static str, ask: Signal) -> Result<(), StackError> {
    if let Some(process) = engine.process.take().filter(ProcessId::alive) {
        process.stop(name, ask, STOP_PATIENCE)?;
    }
    Ok(())
}

/// Runs a start again, on other ports, when the engine ended at once: somebody else may have taken
/// the port between our look and its bind.
fn retrying(
    mut start: impl FnMut(bool) -> Result<Engine, StackError>,
) -> Result<Engine, StackError> {
    let mut tries = 1;
    loop {
        match start(tries > 1) {
            Err(StackError::Ended { tail, .. })
                if tries < START_TRIES
                    && tail.to_lowercase().contains("address already in use") =>
            {
                tries += 1;
            }
            done => return done,
        }
    }
}

/// The remembered port when it is free, else a new one.
fn port(remembered: u16, fresh: bool) -> Result<u16, StackError> {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    if remembered != 0 && !fresh && free(remembered) {
        return Ok(remembered);
    }
    for _ in 0..PORT_TRIES {
        let random = u16::from_be_bytes(mz_keys::secret::random()?);
        let port = PORTS.start + random % (PORTS.end - PORTS.start);
        if free(port) {
            return Ok(port);
        }
    }
    Err(StackError::NoPort {
        from: PORTS.start,
        to: PORTS.end,
    })
}

fn remove(path: &Path, removed: std::io::Result<()>) -> Result<(), StackError> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StackError::io("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}
