//! `POST /v1/ledger/hide`, `…/{number}/approve`, `…/list`: a department's use of a person's data is kept from
//! that person while an investigation runs. One requests, another approves; each act is recorded before
//! it takes effect. What an auditor sees is never changed.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use chrono::NaiveDate;
use mz_contract::{Contract, IdNumber};
use mz_journal::SubjectTag;
use mz_ledger::index::{Actor, HIDE_APPROVED, HIDE_REQUESTED, Hide, PageRequest};
use mz_vault::Hiding;
use serde::{Deserialize, Serialize};

use super::answers::{start_of, values};
use super::guard::guarded;
use super::ledger::{Asking, LedgerAnswer, unanswered, unstored};
use super::problem::{Body, Worded, problem, refused};
use crate::principal::{BUS, Principal};
use crate::roles;

/// The body of `POST /v1/ledger/hide`. Whose use: the department's in the certificate.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HideRequest {
    /// Identity number (GB 11643). In the body, never in the URL.
    pub id: String,
    /// The day (UTC) from which the person is shown everything again.
    pub until: NaiveDate,
    pub operator: String,
    /// The legal ground.
    pub reason: String,
}

/// The body of an approval and of a look at the list.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HideAct {
    pub operator: String,
    pub reason: String,
    #[serde(default)]
    pub page: PageRequest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HideAnswer {
    pub number: i64,
    /// The audit record of this act.
    pub audit_id: String,
}

impl Worded for Asking {
    fn contract(&self) -> Arc<Contract> {
        self.handle.contract()
    }
}

pub(super) fn routes(contract: &Arc<Contract>) -> Router<Asking> {
    let route = |route: &'static roles::Route, handler| guarded(route, contract, handler);
    Router::new()
        .route(roles::HIDE.path, route(&roles::HIDE, post(request)))
        .route(
            roles::APPROVE_HIDE.path,
            route(&roles::APPROVE_HIDE, post(approve)),
        )
        .route(
            roles::LIST_HIDES.path,
            route(&roles::LIST_HIDES, post(list)),
        )
}

async fn request(
    State(asking): State<Asking>,
    Extension(principal): Extension<Principal>,
    Body(request): Body<HideRequest>,
) -> Response {
    let contract = asking.handle.contract();
    let reasons = &contract.reasons;
    let id = match IdNumber::parse(&request.id) {
        Ok(id) => id,
        Err(fault) => return problem(reasons, StatusCode::BAD_REQUEST, fault.code()),
    };
    let Ok(_permit) = asking.room.try_acquire() else {
        return problem(reasons, StatusCode::SERVICE_UNAVAILABLE, "HTTP_BUSY");
    };
    let (lane, subject) = asking.handle.place(&id);
    let hide = Hide {
        subject,
        lane,
        consumer: principal.department().to_owned(),
        until_ms: start_of(request.until),
        by: actor(&principal, &request.operator),
        reason: request.reason,
    };
    let now = mz_ledger::system_clock();
    if let Err(error) = hide.check(now) {
        return unanswered(reasons, &error);
    }
    let who = (&principal, request.operator.as_str(), hide.reason.as_str());
    let hiding = hiding(HIDE_REQUESTED, hide.terms(), hide.until_ms);
    let audit_id = match record(&asking, hiding, (lane, subject), who).await {
        Ok(audit_id) => audit_id,
        Err(refusal) => return refused(reasons, refusal),
    };
    let index = match asking.index() {
        Ok(index) => index,
        Err(error) => return unanswered(reasons, &error),
    };
    match index.request_hide(&hide, now).await {
        Ok(number) => unstored(HideAnswer { number, audit_id }),
        Err(error) => unanswered(reasons, &error),
    }
}

async fn approve(
    State(asking): State<Asking>,
    Extension(principal): Extension<Principal>,
    number: Result<Path<i64>, PathRejection>,
    Body(act): Body<HideAct>,
) -> Response {
    let contract = asking.handle.contract();
    let reasons = &contract.reasons;
    let Ok(Path(number)) = number else {
        return problem(reasons, StatusCode::NOT_FOUND, "LEDGER_HIDE_UNKNOWN");
    };
    let Ok(_permit) = asking.room.try_acquire() else {
        return problem(reasons, StatusCode::SERVICE_UNAVAILABLE, "HTTP_BUSY");
    };
    let index = match asking.index() {
        Ok(index) => index,
        Err(error) => return unanswered(reasons, &error),
    };
    let (approver, now) = (actor(&principal, &act.operator), mz_ledger::system_clock());
    let waiting = match index.approvable(number, &approver, now).await {
        Ok(waiting) => waiting,
        Err(error) => return unanswered(reasons, &error),
    };
    let who = (&principal, act.operator.as_str(), act.reason.as_str());
    let hiding = hiding(HIDE_APPROVED, waiting.terms, waiting.until_ms);
    let place = (waiting.lane, waiting.subject);
    let audit_id = match record(&asking, hiding, place, who).await {
        Ok(audit_id) => audit_id,
        Err(refusal) => return refused(reasons, refusal),
    };
    match index.approve_hide(number, &approver, now).await {
        Ok(()) => unstored(HideAnswer { number, audit_id }),
        Err(error) => unanswered(reasons, &error),
    }
}

async fn list(
    State(asking): State<Asking>,
    Extension(principal): Extension<Principal>,
    Body(asked): Body<HideAct>,
) -> Response {
    let contract = asking.handle.contract();
    let reasons = &contract.reasons;
    let Ok(_permit) = asking.room.try_acquire() else {
        return problem(reasons, StatusCode::SERVICE_UNAVAILABLE, "HTTP_BUSY");
    };
    let caller = principal.department();
    let question = asking
        .handle
        .record_question(caller, &asked.operator, &asked.reason);
    let recorded = match question.await {
        Ok(recorded) => recorded,
        Err(refusal) => return refused(reasons, refusal),
    };
    let index = match asking.index() {
        Ok(index) => index,
        Err(error) => return unanswered(reasons, &error),
    };
    let own = (caller != BUS).then_some(caller);
    let now = mz_ledger::system_clock();
    let found = index.open_hides(own, now, &asked.page).await;
    match found.and_then(|page| values(page, |_| {})) {
        Ok((items, cursor)) => unstored(LedgerAnswer {
            items,
            cursor,
            audit_id: recorded.audit_id,
        }),
        Err(error) => unanswered(reasons, &error),
    }
}

fn actor(principal: &Principal, operator: &str) -> Actor {
    Actor {
        operator: operator.to_owned(),
        principal: principal.name(),
    }
}

/// What the audit record of an act says, so that the tables can be held against it.
fn hiding(rule: &'static str, terms: [u8; 32], until_ms: i64) -> Hiding {
    Hiding {
        rule,
        terms,
        until_ms: until_ms.max(0).cast_unsigned(),
    }
}

async fn record(
    asking: &Asking,
    hiding: Hiding,
    place: (u16, SubjectTag),
    (principal, operator, reason): (&Principal, &str, &str),
) -> Result<String, mz_vault::Refusal> {
    let caller = principal.department();
    let recorded = asking
        .handle
        .record_hiding(hiding, place, caller, operator, reason);
    Ok(recorded.await?.audit_id)
}
