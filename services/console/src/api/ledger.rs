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
use mz_contract::{Contract, IdNumber};
use mz_journal::{SubjectTag, field_bitmap};
use mz_ledger::index::{Agreed, Days, GroupBy, Index, IndexError, PageRequest, Period, SCHEMA};
use mz_vault::Handle;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::bundles::unreadable;
use super::guard::guarded;
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

#[derive(Clone)]
struct Asking {
    handle: Handle,
    url: Arc<str>,
    index: Arc<OnceLock<Index>>,
    room: Arc<Semaphore>,
}

pub fn router(handle: Handle, url: &str) -> Router {
    let route = guarded(&roles::ASK_LEDGER, &handle.contract(), post(ask));
    let state = Asking {
        handle,
        url: url.into(),
        index: Arc::default(),
        room: Arc::new(Semaphore::new(MAX_QUESTIONS)),
    };
    Router::new()
        .route(roles::ASK_LEDGER.path, route)
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
    match answer(index, &contract, &request, subject).await {
        Ok((items, cursor)) => answered(LedgerAnswer {
            items,
            cursor,
            audit_id: recorded.audit_id,
        }),
        Err(error) => unanswered(reasons, &error),
    }
}

fn answered(answer: LedgerAnswer) -> Response {
    let mut response = Json(answer).into_response();
    let no_store = axum::http::HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(axum::http::header::CACHE_CONTROL, no_store);
    response
}

fn labelled(handle: &Handle, id: &IdNumber, audit_id: String) -> Response {
    let (label, proof) = handle.label(id);
    let item = serde_json::json!({
        "label": BASE64.encode(label),
        "proof": BASE64.encode(proof),
    });
    answered(LedgerAnswer {
        items: vec![item],
        cursor: None,
        audit_id,
    })
}

fn unanswered(reasons: &mz_contract::Reasons, error: &IndexError) -> Response {
    match error {
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
    fn index(&self) -> Result<&Index, IndexError> {
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
            Self::WhoRead { consumer, .. } => {
                *consumer = Some(department.to_owned());
                true
            }
            Self::Department { consumer, .. } => consumer == department,
            _ => false,
        }
    }
}

type Answered = (Vec<Value>, Option<String>);

async fn answer(
    index: &Index,
    contract: &Contract,
    request: &LedgerRequest,
    subject: SubjectTag,
) -> Result<Answered, IndexError> {
    let page = &request.page;
    match &request.question {
        Question::WhoRead { days, consumer, .. } => {
            let found = index.who_read(&subject, period(*days), consumer.as_deref(), page);
            values(found.await?, |_| {})
        }
        Question::FindUsage { days, .. } => {
            let now = mz_ledger::system_clock();
            let found = index.find_usage(&subject, period(*days), now, page);
            values(found.await?, |_| {})
        }
        Question::Department { consumer, days, by } => {
            let found = index.department(consumer, *days, *by, page).await?;
            values(found, |item| named(item, contract))
        }
        Question::Denials { days } => values(index.denials(*days, page).await?, |_| {}),
        Question::Unused { days } => {
            let found = index.unused_fields(&agreed(contract), *days).await?;
            let all = mz_ledger::index::Page {
                items: found,
                cursor: None,
            };
            values(all, |item| all_named(item, contract))
        }
        Question::Rate {
            agreement,
            dataset,
            days,
        } => values(index.rate(agreement, dataset, *days, page).await?, |_| {}),
        // Not the index's to answer.
        Question::Label { .. } => Ok((Vec::new(), None)),
    }
}

fn period(days: Days) -> Period {
    let start = |day: chrono::NaiveDate| {
        let midnight = day.and_time(chrono::NaiveTime::MIN);
        midnight.and_utc().timestamp_millis()
    };
    Period {
        from_ms: start(days.from),
        to_ms: start(days.to),
    }
}

fn values<T: Serialize>(
    page: mz_ledger::index::Page<T>,
    change: impl Fn(&mut Value),
) -> Result<Answered, IndexError> {
    let mut items = Vec::new();
    for item in page.items {
        let mut value = serde_json::to_value(item).map_err(|_| IndexError::Damaged("answer"))?;
        change(&mut value);
        items.push(value);
    }
    Ok((items, page.cursor))
}

fn field_name(contract: &Contract, dataset: &str, field: u64) -> Value {
    let dataset = contract.dataset(dataset);
    let at = usize::try_from(field).unwrap_or(usize::MAX);
    let known = dataset.and_then(|dataset| dataset.layout.fields().get(at));
    known.map_or_else(
        || Value::from(field),
        |field| Value::from(field.name.clone()),
    )
}

/// A field by its name in the contract, where the contract still knows it.
fn named(item: &mut Value, contract: &Contract) {
    let Some(field) = item["field"].as_u64() else {
        return;
    };
    let dataset = item["key"].as_str().unwrap_or_default().to_owned();
    item["field"] = field_name(contract, &dataset, field);
}

fn all_named(item: &mut Value, contract: &Contract) {
    let dataset = item["dataset"].as_str().unwrap_or_default().to_owned();
    if let Some(fields) = item["fields"].as_array_mut() {
        for field in fields {
            *field = field_name(contract, &dataset, field.as_u64().unwrap_or(u64::MAX));
        }
    }
}

/// What each agreement may see of each dataset.
fn agreed(contract: &Contract) -> Vec<Agreed> {
    let sections = contract.sections().map(|section| Agreed {
        agreement: contract.agreements[section.agreement_ix].id.clone(),
        dataset: contract.datasets[section.dataset_ix].id.clone(),
        fields: field_bitmap(&section.fields),
    });
    sections.collect()
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
