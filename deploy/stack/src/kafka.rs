//! Kafka: format once, start, wait until it serves.

use crate::process::{ProcessId, run, spawn_background, tail};
use crate::state::Engine;
use crate::{Progress, StackError, StackOptions, Step, probe};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mz_keys::KeysDir;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) const NAME: &str = "Kafka";
const SERVER_PROPERTIES: &str = include_str!("../../local/server.properties");
const LOG4J: &str = include_str!("../../local/log4j2.properties");
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// What it takes to start the broker.
pub(crate) struct Kafka<'a> {
    pub options: &'a StackOptions,
    pub java: &'a Path,
    pub lib: &'a Path,
    pub keys: &'a KeysDir,
}

impl Kafka<'_> {
    /// Formats if need be, starts, waits until the broker answers. `note` hears of the process
    /// before the wait: whoever is interrupted in it leaves nothing that `down` can't find.
    pub(crate) fn start(
        &self,
        port: u16,
        controller_port: u16,
        progress: &dyn Progress,
        note: &dyn Fn(&Engine) -> Result<(), StackError>,
    ) -> Result<Engine, StackError> {
        let (home, logs) = (self.options.kafka(), self.options.logs());
        let data = home.join("data");
        for dir in [&home, &logs] {
            std::fs::create_dir_all(dir).map_err(StackError::io("cannot create", dir))?;
        }
        let properties = home.join("server.properties");
        let log4j = home.join("log4j2.properties");
        write(&properties, &self.properties(&data, port, controller_port))?;
        write(&log4j, LOG4J)?;
        if !data.join("meta.properties").exists() {
            progress.step(Step::Formatting(NAME));
            // What an interrupted format left behind.
            if data.exists() {
                std::fs::remove_dir_all(&data).map_err(StackError::io("cannot remove", &data))?;
            }
            self.format(&properties)?;
        }

        progress.step(Step::Starting(NAME));
        let log = logs.join("kafka.out");
        let mut command = self.jvm();
        command
            .arg(format!("-Xmx{}", self.options.kafka_heap))
            .args(["-Xms256m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"])
            .arg("-XX:+ExplicitGCInvokesConcurrent")
            .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
            .arg(format!("-Dmianzheng.logs={}", logs.display()))
            .arg("kafka.Kafka")
            .arg(&properties)
            .current_dir(&home);
        let child = spawn_background(command, "java", &log)?;
        note(&Engine {
            port,
            process: ProcessId::of(child.id()),
        })?;
        self.wait_ready(child, port)
    }

    /// Whether the broker answers.
    pub(crate) fn serves(keys: &KeysDir, port: u16) -> bool {
        const CALLER: &str = "bus.admin";
        let (ca, cert, key) = (keys.ca_cert(), keys.tls_cert(CALLER), keys.tls_key(CALLER));
        probe::broker(port, &ca, &cert, &key).is_ok()
    }

    fn wait_ready(&self, mut child: std::process::Child, port: u16) -> Result<Engine, StackError> {
        let log = self.options.logs().join("kafka.log");
        let deadline = Instant::now() + READY_WITHIN;
        let process = ProcessId::of(child.id());
        loop {
            let ended = child.try_wait().map_err(StackError::run("java"))?.is_some();
            if ended || process.is_none() {
                let out = self.options.logs().join("kafka.out");
                return Err(StackError::Ended {
                    engine: NAME,
                    tail: format!("{}\n{}", tail(&log), tail(&out)),
                    log,
                });
            }
            if Self::serves(self.keys, port) {
                return Ok(Engine { port, process });
            }
            if Instant::now() > deadline {
                // It is ours and nobody waits for it any more.
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
    }

    fn format(&self, properties: &Path) -> Result<(), StackError> {
        let id = mz_keys::secret::random()?;
        let mut command = self.jvm();
        command
            .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .args(["kafka.tools.StorageTool", "format", "-t"])
            .arg(cluster_id(id))
            .arg("-c")
            .arg(properties);
        run(command, "kafka.tools.StorageTool").map(drop)
    }

    fn jvm(&self) -> Command {
        let mut command = Command::new(self.java);
        command
            .arg("-cp")
            .arg(class_path(self.lib))
            .arg("-Djava.awt.headless=true");
        command
    }

    fn properties(&self, data: &Path, port: u16, controller_port: u16) -> String {
        SERVER_PROPERTIES
            .replace("@BROKER_PORT@", &port.to_string())
            .replace("@CONTROLLER_PORT@", &controller_port.to_string())
            .replace("@DATA@", &property(data))
            .replace("@KEYSTORE@", &property(&self.keys.tls_pem("bus.broker")))
            .replace("@TRUSTSTORE@", &property(&self.keys.ca_cert()))
    }
}

/// Kafka's jars as Java's class path.
pub(crate) fn class_path(lib: &Path) -> String {
    lib.join("*").display().to_string()
}

/// A path as the value in a Java properties file, where a backslash escapes.
fn property(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\")
}

/// Kafka's form of a UUID: URL-safe base64 without padding. The first bit is cleared, because an
/// id that starts with a hyphen would be taken for an option.
fn cluster_id(mut bytes: [u8; 16]) -> String {
    bytes[0] &= 0x7f;
    URL_SAFE_NO_PAD.encode(bytes)
}

fn write(path: &PathBuf, text: &str) -> Result<(), StackError> {
    std::fs::write(path, text).map_err(StackError::io("cannot write", path))
}
