//! `POST /v1/who-read`: for an auditor, everything that was delivered, denied and looked up about
//! one person, from the audit log itself. The question is recorded before it is answered.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use mz_bus::BusOptions;
use mz_contract::{Contract, IdNumber};
use mz_vault::Handle;
use tokio::sync::Semaphore;

use super::guard::guarded;
use super::problem::{Body, Worded, problem, refused};
use crate::limits::{MAX_BODY_BYTES, MAX_PAGE, MAX_SCANS};
use crate::principal::{BUS, Principal};
use crate::roles;
use crate::who_read::{Cursor, Scan, WhoReadRequest, scan};

#[derive(Clone)]
struct Auditing {
    handle: Handle,
    bus: Arc<BusOptions>,
    room: Arc<Semaphore>,
}

impl Worded for Auditing {
    fn contract(&self) -> Arc<Contract> {
        self.handle.contract()
    }
}

pub fn router(handle: Handle, bus: BusOptions) -> Router {
    let route = guarded(&roles::WHO_READ, &handle.contract(), post(who_read));
    let state = Auditing {
        handle,
        bus: Arc::new(bus),
        room: Arc::new(Semaphore::new(MAX_SCANS)),
    };
    Router::new()
        .route(roles::WHO_READ.path, route)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(state)
}

async fn who_read(
    State(auditing): State<Auditing>,
    Extension(principal): Extension<Principal>,
    Body(request): Body<WhoReadRequest>,
) -> Response {
    let contract = auditing.handle.contract();
    let reasons = &contract.reasons;
    let id = match IdNumber::parse(&request.id) {
        Ok(id) => id,
        Err(fault) => return problem(reasons, StatusCode::BAD_REQUEST, fault.code()),
    };
    let (lane, _) = auditing.handle.place(&id);
    let cursor = match request
        .cursor
        .as_deref()
        .map(|text| Cursor::parse(text, lane))
    {
        None => None,
        Some(Some(cursor)) => Some(cursor),
        Some(None) => return problem(reasons, StatusCode::BAD_REQUEST, "WHO_READ_CURSOR_INVALID"),
    };
    let Ok(permit) = Arc::clone(&auditing.room).try_acquire_owned() else {
        return problem(reasons, StatusCode::SERVICE_UNAVAILABLE, "HTTP_BUSY");
    };
    let recorded = auditing
        .handle
        .record_auditor(
            principal.department(),
            &id,
            &request.operator,
            &request.reason,
        )
        .await;
    let (recorded, subject) = match recorded {
        Ok(recorded) => recorded,
        Err(refusal) => return refused(reasons, refusal),
    };
    let wanted = Scan {
        lane,
        subject,
        // A department's auditor sees what that department did; the bureau's sees all.
        department: (principal.department() != BUS).then(|| principal.department().to_owned()),
        cursor,
        limit: request.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE),
        audit_id: recorded.audit_id,
    };
    let bus = Arc::clone(&auditing.bus);
    let named = Arc::clone(&contract);
    // The reader blocks.
    let scanned = tokio::task::spawn_blocking(move || {
        let page = scan(&bus, &named, &wanted);
        drop(permit);
        page
    });
    match scanned.await {
        Ok(Ok(page)) => {
            let mut response = Json(page).into_response();
            let no_store = axum::http::HeaderValue::from_static("no-store");
            response
                .headers_mut()
                .insert(axum::http::header::CACHE_CONTROL, no_store);
            response
        }
        Ok(Err(error)) => {
            tracing::warn!(code = error.code(), error = %error, "audit log not readable");
            problem(reasons, StatusCode::SERVICE_UNAVAILABLE, error.code())
        }
        Err(_) => problem(reasons, StatusCode::SERVICE_UNAVAILABLE, "BUS_UNAVAILABLE"),
    }
}
