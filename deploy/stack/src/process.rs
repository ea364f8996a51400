//! Processes that outlive us: started in the background, remembered by id and start time, and
//! never signalled unless both still match (ids are recycled).

use crate::StackError;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(25);

/// A process, told apart from a later one with the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: u32,
    /// Boot and start time of the process, in whatever form the system gives them.
    pub started: String,
}

impl ProcessId {
    /// Identifies a running process. `None` when there is none with this id.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self {
            pid,
            started: start_mark(pid)?,
        })
    }

    /// Whether this very process still runs (a zombie doesn't).
    pub fn alive(&self) -> bool {
        start_mark(self.pid).is_some_and(|now| now == self.started)
    }

    /// Sends a signal to this very process. Says whether it was there.
    fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return false;
        };
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
            // The handle pins the process; only then is the start time compared.
            if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) {
                return self.alive() && pidfd_send_signal(handle, signal).is_ok();
            }
        }
        self.alive() && rustix::process::kill_process(pid, signal).is_ok()
    }

    /// Asks the process to stop and waits; after `patience` kills it. An error only when even that
    /// does not end it.
    pub(crate) fn stop(
        &self,
        engine: &'static str,
        ask: Signal,
        patience: Duration,
    ) -> Result<(), StackError> {
        self.signal(ask);
        if self.gone_within(patience) {
            return Ok(());
        }
        self.signal(Signal::KILL);
        if self.gone_within(patience) {
            return Ok(());
        }
        Err(StackError::NotStopped {
            engine,
            pid: self.pid,
            seconds: patience.as_secs() * 2,
        })
    }

    /// Signals this very process, then its children: answers who they are.
    pub(crate) fn signal_all(&self, signal: Signal) -> Vec<Self> {
        // Looked for behind the signal: who is stopped has no more children.
        self.signal(signal);
        let mut all = children(self.pid);
        for child in &all {
            child.signal(signal);
        }
        all.push(self.clone());
        all
    }

    /// Ends this very process and its children as a crash does: nobody gets to tidy up. An error when
    /// one of them stays.
    pub(crate) fn crash(&self, engine: &'static str, patience: Duration) -> Result<(), StackError> {
        // Stopped first: a dead process's children are nobody's.
        let all = self.signal_all(Signal::STOP);
        for process in &all {
            process.signal(Signal::KILL);
        }
        for process in &all {
            if !process.gone_within(patience) {
                return Err(StackError::NotStopped {
                    engine,
                    pid: process.pid,
                    seconds: patience.as_secs(),
                });
            }
        }
        Ok(())
    }

    fn gone_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.alive() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }
}

/// Starts a program in its own process group with its output in a file, and forgets the handle:
/// the child lives on when we end, and a Ctrl-C at our terminal does not reach it.
pub(crate) fn spawn_background(
    mut command: Command,
    program: &str,
    log: &Path,
) -> Result<std::process::Child, StackError> {
    let out = append(log)?;
    let err = out
        .try_clone()
        .map_err(StackError::io("cannot open", log))?;
    command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .map_err(StackError::run(program))
}

/// Runs a program to its end; its output is shown only when it fails.
pub(crate) fn run(mut command: Command, program: &str) -> Result<String, StackError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(StackError::run(program))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return Ok(text);
    }
    Err(StackError::Failed {
        program: program.to_owned(),
        status: output.status.to_string(),
        tail: last_lines(&text),
    })
}

/// The last lines of a log, for an error text.
pub(crate) fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&bytes))
}

fn last_lines(text: &str) -> String {
    const LINES: usize = 15;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn append(path: &Path) -> Result<File, StackError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(StackError::io("cannot open", path))
}

/// The processes that one has started and that still run.
fn children(of: u32) -> Vec<ProcessId> {
    let mut command = Command::new("ps");
    command.args(["-A", "-o", "pid=,ppid="]);
    let Ok(output) = command.output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter_map(|line| {
            let (pid, parent) = line.trim().split_once(char::is_whitespace)?;
            let (pid, parent): (u32, u32) = (pid.parse().ok()?, parent.trim().parse().ok()?);
            (parent == of).then(|| ProcessId::of(pid)).flatten()
        })
        .collect()
}

#[cfg(target_os = "linux")]
fn start_mark(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything, so count fields from its closing parenthesis:
    // state is field 3, start time (ticks since boot) field 22 (proc(5)).
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let started = fields.nth(18)?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{}/{started}", boot.trim()))
}

#[cfg(not(target_os = "linux"))]
fn start_mark(pid: u32) -> Option<String> {
    let output = Command::new("ps")
        .args(["-o", "stat=,lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let (state, started) = text.split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| started.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_id_is_not_the_process() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut id = ProcessId::of(child.id()).unwrap();
        assert!(id.alive());
        let real = id.started.clone();
        id.started.push('0');
        assert!(!id.alive());
        assert!(!id.signal(Signal::KILL), "signalled a stranger");
        assert!(child.try_wait().unwrap().is_none());
        id.started = real;
        assert!(id.signal(Signal::KILL));
        child.wait().unwrap();
        assert!(!id.alive());
    }
}
