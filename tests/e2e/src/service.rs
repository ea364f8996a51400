//! A running `mianzheng`: killed, frozen, thawed, asked to stop; its output in a file.

use crate::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal,
}

/// A child process. Killed when dropped, so that a failing test leaves nothing behind.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    log: PathBuf,
    frozen: bool,
    ended: Option<ExitStatus>,
}

impl Service {
    /// Starts the command with its output appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> std::io::Result<Self> {
        let out = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)?;
        let err = out.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            frozen: false,
            ended: None,
        })
    }

    /// What it was started as.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said so far.
    pub fn said(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<Exit> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
            .map(|status| status.code().map_or(Exit::Signal, Exit::Code))
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> Exit {
        let found = wait::maybe(limit, || self.ended());
        match found {
            Some(exit) => exit,
            None => panic!(
                "{} did not end within {limit:?}; it said:\n{}",
                self.name,
                self.tail()
            ),
        }
    }

    /// SIGKILL: no goodbye. Does nothing to a process that has ended.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            self.ended = self.child.wait().ok();
        }
    }

    /// SIGTERM: please stop.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP: frozen as by a long pause of the machine.
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
        self.frozen = true;
    }

    /// SIGCONT: wakes up without knowing how long it was away.
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
        self.frozen = false;
    }

    /// The end of what it said, for a failure's text.
    pub fn tail(&self) -> String {
        const LINES: usize = 30;
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn signal(&self, signal: Signal) {
        // The child is not yet waited for, so its id can't have been given to another process.
        if self.ended.is_none()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
