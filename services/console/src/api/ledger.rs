//! `POST /v1/ledger/ask`: an auditor's questions to the ledger's index. Each is recorded before it is
//! answered, with who asked and why.

use std::sync::{Arc, OnceLock};

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_bus::BusOptions;
use mz_contract::IdNumber;
use mz_journal::SubjectTag;
use mz_ledger::index::{Days, GroupBy, Index, IndexError, PageRequest, SCHEMA};
use mz_vault::Handle;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::answers::answer;
use super::bundles::unreadable;
use super::find_usage;
use super::gaps;
use super::guard::guarded;
use super::hides;
use super::problem::{problem, refused};
use crate::limits::{MAX_BODY_BYTES, MAX_QUESTIONS};
use crate::principal::{BUS, Principal};
use crate::roles;

/// The body of `POST /v1/ledger/ask`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerRequest {
    pub operator: String,
    pub reason: String,
    pub question: Question,
    #[serde(default)]
    pub page: PageRequest,
}

/// Days are UTC's and end before `to`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// Everything about one person.
    WhoRead {
        /// Identity number (GB 11643). In the body, never in the URL.
        id: String,
        days: Days,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        consumer: Option<String>,
    },
    /// What a person is shown about their data, in the shape of Estonia's findUsage.
    FindUsage { id: String, days: Days },
    /// A person's label in the ledger and its proof: what a proof of absence is made with.
    Label { id: String },
    /// How often a department read what.
    Department {
        consumer: String,
        days: Days,
        by: GroupBy,
    },
    /// Which rules said no, how often.
    Denials { days: Days },
    /// Agreed fields that were never delivered.
    Unused { days: Days },
    /// Entries a day of one agreement and dataset.
    Rate {
        agreement: String,
        dataset: String,
        days: Days,
    },
    /// Days above the agreed frequency, and agreed fields that were never delivered.
    OverReach {
        days: Days,
        /// Only this department's agreements.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        consumer: Option<String>,
    },
    /// Source offsets that nobody accounted for, lane by lane.
    Gaps {
        days: Days,
        /// Only this department's registers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
    },
}

/// One page of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerAnswer {
    pub items: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The audit record of this very question.
    pub audit_id: String,
}

/// What the ledger's routes share.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) handle: Handle,
    bus: Arc<BusOptions>,
    url: Arc<str>,
    index: Arc<OnceLock<Index>>,
    pub(super) room: Arc<Semaphore>,
}

pub fn router(handle: Handle, bus: BusOptions, url: &str) -> Router {
    let route = guarded(&roles::ASK_LEDGER, &handle.contract(), post(ask));
    let state = Asking {
        handle,
        bus: Arc::new(bus),
        url: url.into(),
        index: Arc::default(),
        room: Arc::new(Semaphore::new(MAX_QUESTIONS)),
    };
    Router::new()
        .route(roles::ASK_LEDGER.path, route)
        .merge(hides::routes(&state.handle.contract()))
        .merge(find_usage::routes(&state.handle.contract()))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(state)
}

async fn ask(
    State(asking): State<Asking>,
    Extension(principal): Extension<Principal>,
    body: Result<Json<LedgerRequest>, JsonRejection>,
) -> Response {
    let contract = asking.handle.contract();
    let reasons = &contract.reasons;
    let mut request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return unreadable(reasons, &rejection),
    };
    let person = match request.question.person().map(IdNumber::parse).transpose() {
        Ok(person) => person,
        Err(fault) => return problem(reasons, StatusCode::BAD_REQUEST, fault.code()),
    };
    if principal.department() != BUS && !request.question.narrow(principal.department()) {
        return problem(reasons, StatusCode::FORBIDDEN, "HTTP_ROLE_FORBIDDEN");
    }
    let Ok(_permit) = asking.room.try_acquire() else {
        return problem(reasons, StatusCode::SERVICE_UNAVAILABLE, "HTTP_BUSY");
    };
    let (caller, operator) = (principal.department(), &request.operator);
    let recorded = match &person {
        Some(id) => {
            let asked = asking
                .handle
                .record_auditor(caller, id, operator, &request.reason);
            asked.await
        }
        None => {
            let asked = asking
                .handle
                .record_question(caller, operator, &request.reason);
            asked
                .await
                .map(|recorded| (recorded, SubjectTag::default()))
        }
    };
    let (recorded, subject) = match recorded {
        Ok(recorded) => recorded,
        Err(refusal) => return refused(reasons, refusal),
    };
    if let (Question::Label { .. }, Some(id)) = (&request.question, &person) {
        return labelled(&asking.handle, id, recorded.audit_id);
    }
    let index = match asking.index() {
        Ok(index) => index,
        Err(error) => return unanswered(reasons, &error),
    };
    let answered = match &request.question {
        Question::Gaps { days, provider } => {
            let page = &request.page;
            gaps::answer(
                index,
                &contract,
                &asking.bus,
                (*days, provider.as_deref()),
                page,
            )
            .await
        }
        _ => answer(index, &contract, &request, subject)
            .await
            .map_err(Unanswered::Index),
    };
    match answered {
        Ok((items, cursor)) => {
            let answer = LedgerAnswer {
                items,
                cursor,
                audit_id: recorded.audit_id,
            };
            unstored(answer)
        }
        Err(Unanswered::Index(error)) => unanswered(reasons, &error),
        Err(Unanswered::Source(code)) => problem(reasons, StatusCode::SERVICE_UNAVAILABLE, code),
    }
}

/// An answer that no cache keeps.
pub(super) fn unstored(answer: impl Serialize) -> Response {
    let mut response = Json(answer).into_response();
    let no_store = axum::http::HeaderValue::from_static("no-store");
    let headers = response.headers_mut();
    headers.insert(axum::http::header::CACHE_CONTROL, no_store);
    response
}

fn labelled(handle: &Handle, id: &IdNumber, audit_id: String) -> Response {
    let (label, proof) = handle.label(id);
    let item = serde_json::json!({
        "label": BASE64.encode(label),
        "proof": BASE64.encode(proof),
    });
    unstored(LedgerAnswer {
        items: vec![item],
        cursor: None,
        audit_id,
    })
}

/// Why a question that was recorded got no answer.
pub(super) enum Unanswered {
    Index(IndexError),
    /// The source topics can't be read.
    Source(&'static str),
}

impl From<IndexError> for Unanswered {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

pub(super) fn unanswered(reasons: &mz_contract::Reasons, error: &IndexError) -> Response {
    match error {
        IndexError::NoHide => problem(reasons, StatusCode::NOT_FOUND, "LEDGER_HIDE_UNKNOWN"),
        IndexError::OnePerson => problem(reasons, StatusCode::FORBIDDEN, "LEDGER_HIDE_ONE_PERSON"),
        IndexError::HideTerm { .. } => {
            problem(reasons, StatusCode::BAD_REQUEST, "LEDGER_HIDE_TERM")
        }
        IndexError::Cursor => problem(reasons, StatusCode::BAD_REQUEST, "WHO_READ_CURSOR_INVALID"),
        IndexError::Period => problem(reasons, StatusCode::BAD_REQUEST, "LEDGER_PERIOD"),
        other => {
            tracing::warn!(
                error = mz_bus::chain(other),
                "the ledger's index does not answer"
            );
            problem(reasons, StatusCode::SERVICE_UNAVAILABLE, "LEDGER_INDEX")
        }
    }
}

impl Asking {
    /// Opened by the first question: inside the runtime that answers.
    pub(super) fn index(&self) -> Result<&Index, IndexError> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let opened = Index::open(&self.url, SCHEMA)?;
        Ok(self.index.get_or_init(|| opened))
    }
}

impl Question {
    /// The person that is asked about.
    fn person(&self) -> Option<&str> {
        match self {
            Self::WhoRead { id, .. } | Self::FindUsage { id, .. } | Self::Label { id } => Some(id),
            _ => None,
        }
    }

    /// A department's auditor sees what that department did; whether that leaves anything to answer.
    fn narrow(&mut self, department: &str) -> bool {
        match self {
            Self::WhoRead { consumer, .. } | Self::OverReach { consumer, .. } => {
                *consumer = Some(department.to_owned());
                true
            }
            Self::Gaps { provider, .. } => {
                *provider = Some(department.to_owned());
                true
            }
            Self::Department { consumer, .. } => consumer == department,
            _ => false,
        }
    }
}
#[test]
fn a_department_is_told_nobodys_label() {
    let id = String::new();
    assert!(!Question::Label { id: id.clone() }.narrow("police"));
    let (from, to) = (chrono::NaiveDate::MIN, chrono::NaiveDate::MAX);
    let days = Days { from, to };
    let mut who = Question::WhoRead {
        id,
        days,
        consumer: None,
    };
    assert!(who.narrow("police"));
    assert!(matches!(who, Question::WhoRead { consumer: Some(name), .. } if name == "police"));
}
