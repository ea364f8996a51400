//! The HTTP services as a department's programs call them: mutual TLS, JSON, typed refusals.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use mz_bus::TlsFiles;
use mz_contract::{IdFault, IdNumber};
use mz_vault::bundle::{Bundle, BundleRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::api::hides::{HideAct, HideAnswer, HideRequest};
use crate::api::ledger::{LedgerAnswer, LedgerRequest};
use crate::api::problem::Problem;
use crate::roles::{self, Route};
use crate::tls::{TlsError, read};
use crate::who_read::{Page, WhoReadRequest};

/// Longest wait for an answer: longer than any service takes, so that it says itself what happened.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer that is read, bytes.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
/// Pages that one who-read follows.
const MAX_PAGES: usize = 1_000;
/// Identity numbers read at once: more than a case takes.
const MAX_IDS: usize = 1_000;
/// Longest line read as an identity number, bytes.
const MAX_ID_LINE_BYTES: u64 = 256;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("TLS")]
    Tls(#[from] TlsError),
    /// The service said no, and why.
    #[error("{}: {}", .problem.code, .problem.en)]
    Refused { status: u16, problem: Box<Problem> },
    #[error("the service can't be reached")]
    Transport(#[source] Box<ureq::Error>),
    #[error("the answer with status {status} can't be read")]
    Answer { status: u16 },
    #[error("the answer is not JSON")]
    Json(#[from] serde_json::Error),
    #[error("the answer with status {status} is longer than {most} bytes")]
    TooLong { status: u16, most: u64 },
    #[error("the answer is no list of logs")]
    List,
    #[error("not the address of a service: https://host:port")]
    Url,
    #[error("more than {MAX_PAGES} pages")]
    Endless,
    #[error("standard input")]
    Input(#[source] std::io::Error),
    #[error(transparent)]
    Id(#[from] IdFault),
}

impl ClientError {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub fn code(&self) -> &str {
        match self {
            Self::Tls(_) => "HTTP_TLS",
            Self::Refused { problem, .. } => &problem.code,
            Self::Transport(_) => "HTTP_UNREACHABLE",
            Self::Answer { .. }
            | Self::TooLong { .. }
            | Self::List
            | Self::Json(_)
            | Self::Endless => "HTTP_ANSWER_INVALID",
            Self::Url => "HTTP_URL",
            Self::Input(_) => "HTTP_INPUT",
            Self::Id(fault) => fault.code(),
        }
    }
}

/// A principal that calls one service.
pub struct Client {
    agent: Agent,
    base: String,
}

impl Client {
    /// `base`: `https://host:port`.
    pub fn new(base: &str, tls: &TlsFiles) -> Result<Self, ClientError> {
        Ok(Self {
            agent: agent(tls, TIMEOUT)?,
            base: base.trim_end_matches('/').to_owned(),
        })
    }

    /// The bundle, and its bytes as they came: keep those, they are what verifies.
    pub fn bundle(&self, request: &BundleRequest) -> Result<(Bundle, Vec<u8>), ClientError> {
        let bytes = self.post(roles::BUNDLES.path, request)?;
        Ok((serde_json::from_slice(&bytes)?, bytes))
    }

    /// All pages of one person's log, joined.
    pub fn who_read(
        &self,
        id: &IdNumber,
        operator: &str,
        reason: &str,
    ) -> Result<Page, ClientError> {
        let mut whole: Option<Page> = None;
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let request = WhoReadRequest {
                id: id.as_str().to_owned(),
                operator: operator.to_owned(),
                reason: reason.to_owned(),
                cursor: cursor.take(),
                limit: None,
            };
            let page: Page = serde_json::from_slice(&self.post(roles::WHO_READ.path, &request)?)?;
            cursor.clone_from(&page.cursor);
            let joined = match whole.take() {
                None => page,
                Some(before) => join(before, page),
            };
            if cursor.is_none() {
                return Ok(joined);
            }
            whole = Some(joined);
        }
        Err(ClientError::Endless)
    }

    /// One page of an answer of the ledger's index.
    pub fn ask_ledger(&self, request: &LedgerRequest) -> Result<LedgerAnswer, ClientError> {
        self.call(&roles::ASK_LEDGER, request)
    }

    /// Requests that this department's use of somebody's data is kept from that person.
    pub fn request_hide(&self, request: &HideRequest) -> Result<HideAnswer, ClientError> {
        self.call(&roles::HIDE, request)
    }

    /// Approves such a request.
    pub fn approve_hide(&self, number: i64, act: &HideAct) -> Result<HideAnswer, ClientError> {
        let path = roles::APPROVE_HIDE.path;
        let path = path.replace("{number}", &number.to_string());
        Ok(serde_json::from_slice(&self.post(&path, act)?)?)
    }

    /// One page of what waits and what is in force.
    pub fn list_hides(&self, act: &HideAct) -> Result<LedgerAnswer, ClientError> {
        self.call(&roles::LIST_HIDES, act)
    }

    /// Any route by its path: what the typed calls are made of.
    pub(crate) fn call<A: DeserializeOwned>(
        &self,
        route: &Route,
        body: &impl Serialize,
    ) -> Result<A, ClientError> {
        Ok(serde_json::from_slice(&self.post(route.path, body)?)?)
    }

    fn post(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, ClientError> {
        let url = format!("{}{path}", self.base);
        let mut response = self
            .agent
            .post(&url)
            .send_json(body)
            .map_err(|fault| ClientError::Transport(Box::new(fault)))?;
        let status = response.status().as_u16();
        let bytes = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_vec()
            .map_err(|_| ClientError::Answer { status })?;
        if status == 200 {
            return Ok(bytes);
        }
        match serde_json::from_slice(&bytes) {
            Ok(problem) => Err(ClientError::Refused {
                status,
                problem: Box::new(problem),
            }),
            Err(_) => Err(ClientError::Answer { status }),
        }
    }
}

/// HTTPS with a principal's certificate, to a service of the bus CA, and nowhere else.
pub(crate) fn agent(tls: &TlsFiles, time: Duration) -> Result<Agent, ClientError> {
    let unusable = |path: &std::path::Path| TlsError::Pem {
        file: path.display().to_string(),
    };
    let roots: Vec<Certificate<'static>> = pem_certificates(&read(&tls.ca)?);
    let chain = pem_certificates(&read(&tls.cert)?);
    if roots.is_empty() || chain.is_empty() {
        let path = if roots.is_empty() { &tls.ca } else { &tls.cert };
        return Err(unusable(path).into());
    }
    let key = PrivateKey::from_pem(&read(&tls.key)?).map_err(|_| unusable(&tls.key))?;
    let config = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(Some(ClientCert::new_with_certs(&chain, key)))
        .build();
    let agent = Agent::config_builder()
        .tls_config(config)
        .https_only(true)
        .http_status_as_error(false)
        .max_redirects(0)
        // A proxy of the environment would see who is asked about.
        .proxy(None)
        .timeout_global(Some(time))
        .build();
    Ok(agent.into())
}

fn pem_certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect()
}

fn join(mut before: Page, page: Page) -> Page {
    before.entries.extend(page.entries);
    before.breaks.extend(page.breaks);
    for walked in page.chains {
        match before
            .chains
            .iter_mut()
            .find(|held| held.writer == walked.writer)
        {
            Some(held) => held.last = walked.last,
            None => before.chains.push(walked),
        }
    }
    before.cursor = page.cursor;
    before.audit_id = page.audit_id;
    before
}

/// Identity numbers from standard input, one a line, up to an empty line or the end. At a terminal
/// each is asked for.
pub fn read_ids(prompt: &str) -> Result<Vec<IdNumber>, ClientError> {
    let mut found = Vec::new();
    while found.len() < MAX_IDS {
        let line = read_line(prompt)?;
        if line.trim().is_empty() {
            break;
        }
        found.push(IdNumber::parse(line.trim())?);
    }
    Ok(found)
}

/// An identity number from standard input: asked for at a terminal, else the first line. Never
/// from an argument, where `ps` and the shell's history would show it.
pub fn read_id(prompt: &str) -> Result<IdNumber, ClientError> {
    Ok(IdNumber::parse(read_line(prompt)?.trim())?)
}

fn read_line(prompt: &str) -> Result<String, ClientError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let mut err = std::io::stderr();
        err.write_all(prompt.as_bytes())
            .and_then(|()| err.flush())
            .map_err(ClientError::Input)?;
    }
    let mut line = String::new();
    stdin
        .lock()
        .take(MAX_ID_LINE_BYTES)
        .read_line(&mut line)
        .map_err(ClientError::Input)?;
    Ok(line)
}
