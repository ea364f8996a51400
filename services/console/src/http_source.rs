//! The audit log over the network, as a witness or whoever proves something reads it. The other side may be
//! hostile: every answer has a limit and a time, nothing is followed elsewhere, and what it says is said again
//! in our own words.

use std::io;
use std::time::Duration;

use mz_bus::TlsFiles;
use mz_contract::Reasons;
use mz_ledger::log::{LogFile, LogName};
use mz_ledger::witness::Source;
use mz_ledger::witness::limits::MAX_LOGS;
use ureq::Agent;

use crate::api::logs::{LogList, PREFIX, UNKNOWN};
use crate::api::problem::Problem;
use crate::client::{ClientError, agent};
use crate::limits::{
    LOG_RETRIES, LOG_RETRY_PAUSE, LOG_TIMEOUT, MAX_LOG_LIST_BYTES, MAX_PROBLEM_BYTES,
    MAX_SERVICE_URL_BYTES,
};
use crate::roles;

/// The logs that a console of the bureau's hands out.
pub struct HttpSource {
    agent: Agent,
    base: String,
}

impl HttpSource {
    /// `base`: `https://host:port`, of the bureau's console.
    ///
    /// # Errors
    /// No such address; files of the certificate that can't be used.
    pub fn new(base: &str, tls: &TlsFiles) -> Result<Self, ClientError> {
        Self::within(base, tls, LOG_TIMEOUT)
    }

    /// The same, with another time for each request.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn within(base: &str, tls: &TlsFiles, time: Duration) -> Result<Self, ClientError> {
        let base = base.trim_end_matches('/');
        let host = base.strip_prefix("https://").unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
        if host.is_empty() || base.len() > MAX_SERVICE_URL_BYTES || !host.bytes().all(plain) {
            return Err(ClientError::Url);
        }
        Ok(Self {
            agent: agent(tls, time)?,
            base: base.to_owned(),
        })
    }

    /// `None`: the service says that there is none.
    fn get(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, ClientError> {
        let mut left = LOG_RETRIES;
        loop {
            match self.once(path, most) {
                Err(error) if left > 0 && may_pass(&error) => {
                    left -= 1;
                    std::thread::sleep(LOG_RETRY_PAUSE);
                }
                result => return result,
            }
        }
    }

    fn once(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, ClientError> {
        let transport = |fault| ClientError::Transport(Box::new(fault));
        let answer = self.agent.get(format!("{}{path}", self.base)).call();
        let mut response = answer.map_err(transport)?;
        let status = response.status().as_u16();
        let most = match status {
            200 => most,
            _ => MAX_PROBLEM_BYTES,
        };
        let body = response.body_mut().with_config().limit(most + 1);
        let bytes = match body.read_to_vec() {
            Ok(bytes) if bytes.len() as u64 <= most => bytes,
            Ok(_) | Err(ureq::Error::BodyExceedsLimit(_)) => {
                return Err(ClientError::TooLong { status, most });
            }
            Err(fault) => return Err(transport(fault)),
        };
        if status == 200 {
            return Ok(Some(bytes));
        }
        let problem: Option<Problem> = serde_json::from_slice(&bytes).ok();
        let reasons = Reasons::built_in();
        match problem.filter(|problem| reasons.contains(&problem.code)) {
            Some(problem) if status == 404 && problem.code == UNKNOWN => Ok(None),
            Some(problem) => Err(ClientError::Refused {
                status,
                // In our words, not in theirs.
                problem: Box::new(Problem::of(&reasons, &problem.code)),
            }),
            None => Err(ClientError::Answer { status }),
        }
    }
}

/// A moment's fault; what took its whole time is not asked for again at once.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Transport(fault) => !matches!(**fault, ureq::Error::Timeout(_)),
        ClientError::Refused { status, .. } => matches!(status, 503 | 504),
        _ => false,
    }
}

impl Source for HttpSource {
    fn logs(&self) -> io::Result<Vec<String>> {
        let path = roles::LOG_LIST.path;
        let bytes = self
            .get(path, MAX_LOG_LIST_BYTES)
            .map_err(io::Error::other)?;
        let bytes = bytes.ok_or_else(|| io::Error::other(ClientError::List))?;
        let listed: Option<LogList> = serde_json::from_slice(&bytes).ok();
        let listed = listed.filter(|listed| listed.logs.len() <= MAX_LOGS);
        let names = listed.and_then(|listed| {
            let names = listed.logs.iter().map(|name| LogName::parse(name));
            names.collect::<Option<Vec<_>>>()
        });
        let mut names = names.ok_or_else(|| io::Error::other(ClientError::List))?;
        names.sort_unstable();
        names.dedup();
        Ok(names.iter().map(ToString::to_string).collect())
    }

    fn read(&self, log: &str, path: &str) -> io::Result<Option<Vec<u8>>> {
        let (Some(log), Some(file)) = (LogName::parse(log), LogFile::parse(path)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.get(&format!("{PREFIX}{log}/{file}"), file.max_bytes())
            .map_err(io::Error::other)
    }
}
