//! How refusals look: a status, a code, and what the code says in both languages. Nothing of the
//! request comes back, so that no identity number can.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mz_contract::{Contract, Reasons};
use mz_vault::{Handle, Refusal, RefusalKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bundles::unreadable;

/// The body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub code: String,
    pub zh: String,
    pub en: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix_zh: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix_en: Option<String>,
    /// What exactly, a line each: a contract's faults by file and line. Never about a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detail: Vec<String>,
}

impl Problem {
    pub fn of(reasons: &Reasons, code: &str) -> Self {
        let reason = reasons.get(code);
        let fix = reason.and_then(|reason| reason.fix.as_ref());
        Self {
            code: code.to_owned(),
            zh: reason.map_or_else(|| code.to_owned(), |reason| reason.text.zh.clone()),
            en: reason.map_or_else(|| code.to_owned(), |reason| reason.text.en.clone()),
            fix_zh: fix.map(|fix| fix.zh.clone()),
            fix_en: fix.map(|fix| fix.en.clone()),
            detail: Vec::new(),
        }
    }
}

/// Where the words of refusals are.
pub trait Worded {
    fn contract(&self) -> Arc<Contract>;
}

impl Worded for Handle {
    fn contract(&self) -> Arc<Contract> {
        Handle::contract(self)
    }
}

/// A JSON body; or our refusal of it, so that no handler can forget to word one.
pub struct Body<T>(pub T);

impl<S, T> FromRequest<S> for Body<T>
where
    S: Worded + Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(unreadable(&state.contract().reasons, &rejection)),
        }
    }
}

/// A refusal as a response.
pub fn problem(reasons: &Reasons, status: StatusCode, code: &str) -> Response {
    respond(status, Problem::of(reasons, code))
}

/// A refusal of a request whose body was not read to its end: the connection can't carry another.
pub fn unread(reasons: &Reasons, status: StatusCode, code: &str) -> Response {
    let mut response = problem(reasons, status, code);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// A problem as a response: never stored, and with a time to ask again when that may help.
pub fn respond(status: StatusCode, problem: Problem) -> Response {
    let mut response = (status, Json(problem)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

pub fn refused(reasons: &Reasons, refusal: Refusal) -> Response {
    let status = match refusal.kind() {
        RefusalKind::Invalid => StatusCode::BAD_REQUEST,
        RefusalKind::Denied => StatusCode::FORBIDDEN,
        RefusalKind::Unknown => StatusCode::NOT_FOUND,
        RefusalKind::Elsewhere => StatusCode::MISDIRECTED_REQUEST,
        RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(reasons, status, refusal.code())
}
