//! `POST /v1/bundles`: the evidence bundle of a service item, for a department's window.

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use mz_vault::Handle;
use mz_vault::bundle::BundleRequest;

use super::guard::guarded;
use super::problem::{Body, refused, unread};
use crate::limits::MAX_BODY_BYTES;
use crate::principal::Principal;
use crate::roles;

pub fn router(handle: Handle) -> Router {
    let route = guarded(&roles::BUNDLES, &handle.contract(), post(bundle));
    Router::new()
        .route(roles::BUNDLES.path, route)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(handle)
}

async fn bundle(
    State(handle): State<Handle>,
    Extension(principal): Extension<Principal>,
    Body(request): Body<BundleRequest>,
) -> Response {
    let contract = handle.contract();
    let reasons = &contract.reasons;
    match handle.bundle(principal.department(), request).await {
        Ok(bundle) => {
            let mut response = Json(bundle).into_response();
            let no_store = HeaderValue::from_static("no-store");
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, no_store);
            response
        }
        Err(refusal) => {
            let code = refusal.code();
            tracing::info!(principal = principal.name(), code, "bundle refused");
            refused(reasons, refusal)
        }
    }
}

/// A body that isn't the JSON that was asked for. The parser's words may repeat the body, so they
/// go nowhere.
pub(super) fn unreadable(reasons: &mz_contract::Reasons, rejection: &JsonRejection) -> Response {
    let status = rejection.status();
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "HTTP_BODY_TOO_LARGE",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "HTTP_NOT_JSON",
        _ => "HTTP_BODY_INVALID",
    };
    let status = match status {
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE => status,
        _ => StatusCode::BAD_REQUEST,
    };
    unread(reasons, status, code)
}
