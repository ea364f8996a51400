//! `GET /v1/ledger/logs`, `GET /v1/ledger/<shard>/<period>/<file>`: the audit log as C2SP tlog-tiles, for the
//! witnesses of the departments and for auditors. What a request names is read into values first, and only
//! what a checkpoint is signed for is handed out.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use mz_contract::Contract;
use mz_ledger::log::{LogFile, LogFolder, LogName};
use serde::{Deserialize, Serialize};

use super::guard::guarded;
use super::problem::problem;
use crate::log_body::FileBody;
use crate::log_reads::LogReads;
use crate::principal::{BUS, Principal};
use crate::roles;

/// Before a log's name.
pub const PREFIX: &str = "/v1/ledger/";
/// There is no such log or file.
pub const UNKNOWN: &str = "HTTP_LOG_UNKNOWN";
const UNREADABLE: &str = "HTTP_LOG_UNREADABLE";

/// The answer of `GET /v1/ledger/logs`.
#[derive(Debug, Serialize, Deserialize)]
pub struct LogList {
    /// `<shard>/<period>`, each shard's older logs first.
    pub logs: Vec<String>,
}

#[derive(Clone)]
struct Logs {
    folder: LogFolder,
    contract: Arc<Contract>,
    reads: Arc<LogReads>,
}

pub fn router(folder: PathBuf, contract: &Arc<Contract>) -> Router {
    let state = Logs {
        folder: LogFolder::new(folder),
        contract: Arc::clone(contract),
        reads: Arc::default(),
    };
    let refused = async |State(logs): State<Logs>| {
        let reasons = &logs.contract.reasons;
        problem(reasons, StatusCode::METHOD_NOT_ALLOWED, "HTTP_METHOD")
    };
    let listing = guarded(&roles::LOG_LIST, contract, get(list).fallback(refused));
    let reading = guarded(&roles::LOG_FILE, contract, get(read).fallback(refused));
    Router::new()
        .route(roles::LOG_LIST.path, listing)
        .route("/v1/ledger/{*name}", reading)
        .with_state(state)
}

impl Logs {
    fn problem(&self, status: StatusCode, code: &str) -> Response {
        problem(&self.contract.reasons, status, code)
    }

    fn unknown(&self) -> Response {
        self.problem(StatusCode::NOT_FOUND, UNKNOWN)
    }

    fn unreadable(&self, error: &io::Error) -> Response {
        tracing::warn!(error = mz_bus::chain(error), "the logs can't be read");
        self.problem(StatusCode::SERVICE_UNAVAILABLE, UNREADABLE)
    }

    /// A department that has left the contract may still hold a certificate.
    fn knows(&self, principal: &Principal) -> bool {
        let department = principal.department();
        department == BUS || self.contract.department(department).is_some()
    }

    fn foreign(&self) -> Response {
        self.problem(StatusCode::FORBIDDEN, "HTTP_ROLE_FORBIDDEN")
    }
}

async fn list(State(logs): State<Logs>, Extension(principal): Extension<Principal>) -> Response {
    if !logs.knows(&principal) {
        return logs.foreign();
    }
    let folder = logs.folder.clone();
    match blocking(move || folder.names()).await {
        Ok(names) => {
            logs.reads.note(&principal, String::new(), "list");
            let names = names.iter().map(ToString::to_string).collect();
            let mut response = Json(LogList { logs: names }).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => logs.unreadable(&error),
    }
}

async fn read(
    State(logs): State<Logs>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Response {
    if !logs.knows(&principal) {
        return logs.foreign();
    }
    let Some((log, file)) = named(request.uri().path()) else {
        return logs.unknown();
    };
    let folder = logs.folder.clone();
    match blocking(move || published(&folder, &log, &file)).await {
        Ok(Some((opened, length))) => {
            logs.reads.note(&principal, log.to_string(), file.class());
            sent(&file, opened, length)
        }
        Ok(None) => logs.unknown(),
        Err(error) => logs.unreadable(&error),
    }
}

/// The path as it came, undecoded: no name of a log or file needs an escape.
fn named(path: &str) -> Option<(LogName, LogFile)> {
    let name = path.strip_prefix(PREFIX)?;
    let (second, _) = name.match_indices('/').nth(1)?;
    let (log, file) = (&name[..second], &name[second + 1..]);
    Some((LogName::parse(log)?, LogFile::parse(file)?))
}

/// What lies behind the checkpoint may still change: nobody is shown it.
fn published(folder: &LogFolder, log: &LogName, file: &LogFile) -> io::Result<Option<(File, u64)>> {
    if let LogFile::Tile(_) = file {
        let size = folder.signed_size(log)?;
        if !size.is_some_and(|size| file.is_within(size)) {
            return folder.exists().map(|()| None);
        }
    }
    match folder.open(log, file)? {
        Some(opened) => Ok(Some(opened)),
        None => folder.exists().map(|()| None),
    }
}

fn sent(file: &LogFile, opened: File, length: u64) -> Response {
    let (kind, caching) = match file {
        // What a tile of signed entries holds never changes. Tags are personal information: no shared cache.
        LogFile::Tile(_) => (
            "application/octet-stream",
            "private, max-age=31536000, immutable",
        ),
        LogFile::Range { .. } => ("application/octet-stream", "no-store"),
        _ => ("text/plain; charset=utf-8", "no-store"),
    };
    let mut response = Response::new(Body::new(FileBody::new(opened, length)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(io::Error::other("a thread that read panicked")))
}

#[test]
fn only_plain_names_are_read() {
    let (log, file) = named("/v1/ledger/0/2026-11/tile/0/000.p/3").unwrap();
    assert_eq!(
        (log.to_string(), file.to_string()),
        ("0/2026-11".to_owned(), "tile/0/000.p/3".to_owned())
    );
    for path in [
        "/v1/ledger/0/2026",
        "/v1/ledger/0/2026/",
        "/v1/ledger//0/2026/checkpoint",
        "/v1/ledger/0//2026/checkpoint",
        "/v1/ledger/0/2026//checkpoint",
        "/v1/ledger/0/2026/checkpoint/",
        "/v1/ledger/0/2026/%63heckpoint",
        "/v1/ledger/0%2f2026/checkpoint",
        "/v1/ledger/0/2026/tile%2F0%2F000",
        "/v1/ledger/0/2026/../2026/checkpoint",
        "/v1/ledger/0/2026/./checkpoint",
        "/v1/ledger/0/2026/%2e%2e/%2e%2e/tlog-policy",
        "/v1/ledger/0/2026/checkpoint%00",
        "/v1/ledger/0/2026-99/checkpoint",
        "/v1/ledger/00/2026/checkpoint",
        "/v1/ledger/0/2026/tlog-policy",
        "/V1/ledger/0/2026/checkpoint",
        "/v1/ledgers/0/2026/checkpoint",
    ] {
        assert_eq!(named(path), None, "{path}");
    }
}
