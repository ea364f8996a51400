//! `POST /v1/ledger/find-usage`: what a person is shown about their data, for a citizen portal that speaks
//! the SOAP service `findUsage` of Estonia's data tracker (andmejälgija): `dumonitor.wsdl`, version 1.3, in
//! github.com/e-gov/AJ under `doc/spetsifikatsioonid`. Newest first, as its protocol demands.
//!
//! The answer is the same as that of the JSON question; hidden uses are left out alike.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use mz_contract::{Contract, IdNumber, Reasons};
use mz_ledger::index::Usage;

use super::guard::guarded;
use super::ledger::{Asking, unanswered};
use super::problem::{Problem, problem, refused};
use crate::limits::{MAX_USAGE_OFFSET, MAX_USAGES};
use crate::principal::{BUS, Principal};
use crate::roles::{self, Role};
use crate::soap::{
    CONTENT_TYPE, Element, Envelope, MAX_ENVELOPE_BYTES, envelope, fault, text_element,
};

/// Target namespace of the service's own elements; their children have none.
const PRODUCER: &str = "http://dumonitor.x-road.eu/producer";
/// Namespace of X-Road's message headers.
const XROAD: &str = "http://x-road.eu/xsd/xroad.xsd";
/// The headers that come back as they came.
const ECHOED: [&str; 6] = [
    "client",
    "service",
    "id",
    "userId",
    "issue",
    "protocolVersion",
];
/// Those without which there is no answer.
const NEEDED: [&str; 5] = ["client", "service", "id", "userId", "protocolVersion"];
/// Before the identity number in `userId`: X-Road writes the country first.
const COUNTRY: &str = "CN";
/// Largest problem that becomes a fault, bytes.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;
/// Namespace of a fault's detail.
const PROBLEM: &str = "urn:mianzheng:problem";

pub(super) fn routes(contract: &Arc<Contract>) -> Router<Asking> {
    let route = guarded(&roles::FIND_USAGE, contract, post(find_usage));
    // Outermost: whatever is refused, by whomever, comes back as a fault.
    Router::new().route(roles::FIND_USAGE.path, route.layer(from_fn(faults)))
}

/// What is asked.
struct Question {
    person: IdNumber,
    /// Written down as why: the case (`issue`), and the message's id.
    reason: String,
    offset: u32,
    limit: usize,
    headers: Vec<Element>,
}

async fn find_usage(
    State(asking): State<Asking>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: Result<axum::body::Bytes, BytesRejection>,
) -> Response {
    let contract = asking.handle.contract();
    let reasons = &contract.reasons;
    let invalid = |code| problem(reasons, StatusCode::BAD_REQUEST, code);
    let Ok(body) = body else {
        return problem(
            reasons,
            StatusCode::PAYLOAD_TOO_LARGE,
            "HTTP_BODY_TOO_LARGE",
        );
    };
    if body.len() > MAX_ENVELOPE_BYTES {
        return problem(
            reasons,
            StatusCode::PAYLOAD_TOO_LARGE,
            "HTTP_BODY_TOO_LARGE",
        );
    }
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str);
    let kind = kind.and_then(Result::ok).unwrap_or_default();
    if !kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("text/xml")
    {
        return invalid("HTTP_SOAP_CONTENT_TYPE");
    }
    let question = match read(&body, &principal) {
        Ok(question) => question,
        Err(code) => return invalid(code),
    };
    let Ok(_permit) = asking.room.try_acquire() else {
        return problem(reasons, StatusCode::SERVICE_UNAVAILABLE, "HTTP_BUSY");
    };
    let (person, operator) = (&question.person, principal.name());
    let recorded =
        asking
            .handle
            .record_auditor(principal.department(), person, &operator, &question.reason);
    let (_, subject) = match recorded.await {
        Ok(recorded) => recorded,
        Err(refusal) => return refused(reasons, refusal),
    };
    let index = match asking.index() {
        Ok(index) => index,
        Err(error) => return unanswered(reasons, &error),
    };
    let now = mz_ledger::system_clock();
    let part = (question.offset, question.limit);
    match index.newest_usage(&subject, now, part).await {
        Ok(usages) => xml(
            StatusCode::OK,
            answer(&question.headers, &usages, &contract),
        ),
        Err(error) => unanswered(reasons, &error),
    }
}

fn read(body: &[u8], principal: &Principal) -> Result<Question, &'static str> {
    let envelope = Envelope::read(body, XROAD).map_err(|error| error.code())?;
    if !envelope.request.is(PRODUCER, "findUsage") {
        return Err("HTTP_SOAP_ENVELOPE");
    }
    let header = |name| envelope.header(XROAD, name);
    // `client` and `service` are made of elements, the others of text.
    let holds_one = |name: &&str| {
        let mut entries = envelope.headers.iter();
        let entry = entries.find(|entry| entry.is(XROAD, name));
        entry.is_some_and(|entry| !entry.text.trim().is_empty() || !entry.children.is_empty())
    };
    if !NEEDED.iter().all(holds_one) {
        return Err("HTTP_SOAP_HEADER");
    }
    let code = header("userId").unwrap_or_default();
    let person = IdNumber::parse(code.strip_prefix(COUNTRY).unwrap_or(code));
    let issue = header("issue").filter(|issue| !issue.is_empty());
    if issue.is_none() && Role::of(principal) != Role::Portal {
        return Err("HTTP_SOAP_HEADER");
    }
    let (issue, id) = (
        issue.unwrap_or("findUsage"),
        header("id").unwrap_or_default(),
    );
    let (mut offset, mut limit) = (None, None);
    for field in &envelope.request.children {
        let place = match field.name.as_str() {
            "offset" if offset.is_none() => &mut offset,
            "limit" if limit.is_none() => &mut limit,
            _ => return Err("HTTP_SOAP_ENVELOPE"),
        };
        if !field.namespace.is_empty() || !field.children.is_empty() {
            return Err("HTTP_SOAP_ENVELOPE");
        }
        *place = Some(
            field
                .text
                .trim()
                .parse::<u32>()
                .map_err(|_| "HTTP_SOAP_RANGE")?,
        );
    }
    let most = u32::try_from(MAX_USAGES).unwrap_or(u32::MAX);
    let (offset, limit) = (offset.unwrap_or(0), limit.unwrap_or(most));
    if offset > MAX_USAGE_OFFSET || limit == 0 {
        return Err("HTTP_SOAP_RANGE");
    }
    Ok(Question {
        person: person.map_err(|fault| fault.code())?,
        reason: format!("{issue} ({id})"),
        offset,
        limit: usize::try_from(limit.min(most)).unwrap_or(MAX_USAGES),
        headers: envelope
            .headers
            .into_iter()
            .filter(|entry| ECHOED.iter().any(|name| entry.is(XROAD, name)))
            .collect(),
    })
}

fn answer(headers: &[Element], usages: &[Usage], contract: &Contract) -> String {
    let mut body = format!("<d:findUsageResponse xmlns:d=\"{PRODUCER}\">");
    for usage in usages {
        body.push_str("<usage>");
        body.push_str(&text_element("logtime", &usage.logtime));
        // A person reads it: what was done, and why.
        let action = format!("{}: {}", usage.action, usage.reason);
        body.push_str(&text_element("action", action.trim_end_matches([' ', ':'])));
        body.push_str(&text_element(
            "receiver",
            &receiver(&usage.receiver, contract),
        ));
        body.push_str("</usage>");
    }
    body.push_str("</d:findUsageResponse>");
    envelope(headers, &body)
}

/// A department by its name, as far as the contract knows it.
fn receiver(id: &str, contract: &Contract) -> String {
    match contract.department(id) {
        Some(department) => department.name.zh.clone(),
        None if id.is_empty() => BUS.to_owned(),
        None => id.to_owned(),
    }
}

/// SOAP 1.1, section 6.2: a fault travels with status 500.
async fn faults(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let (status, close) = (
        response.status(),
        response.headers().get(header::CONNECTION).cloned(),
    );
    let is_xml = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == CONTENT_TYPE);
    if is_xml {
        return response;
    }
    let bytes = to_bytes(response.into_body(), MAX_PROBLEM_BYTES).await;
    let said = bytes
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    // A method that the route doesn't have is answered without a word.
    let problem: Problem =
        said.unwrap_or_else(|| Problem::of(&Reasons::built_in(), "HTTP_SOAP_ENVELOPE"));
    let who = match problem.code.as_str() {
        "HTTP_SOAP_MUST_UNDERSTAND" => "MustUnderstand",
        _ if status.is_server_error() => "Server",
        _ => "Client",
    };
    let detail = format!(
        "<p:problem xmlns:p=\"{PROBLEM}\">{}{}{}</p:problem>",
        text_element("code", &problem.code),
        text_element("zh", &problem.zh),
        text_element("en", &problem.en),
    );
    let text = fault(who, &problem.code, &problem.en, &detail);
    let mut response = xml(StatusCode::INTERNAL_SERVER_ERROR, text);
    if let Some(close) = close {
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

fn xml(status: StatusCode, text: String) -> Response {
    let mut response = (status, Body::from(text)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
