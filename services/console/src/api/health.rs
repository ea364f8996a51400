//! Liveness and readiness, for whoever holds any certificate of the bus.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use mz_vault::Handle;
use serde_json::json;

/// `/health/live` only: a service without a vault is ready when it answers.
pub fn live() -> Router {
    Router::new()
        .route("/health/live", get(async || Json(json!({"live": true}))))
        .route("/health/ready", get(async || Json(json!({"ready": true}))))
}

/// Readiness of a vault: some slot is open, and the sources' freshness is known.
pub fn vault(handle: Handle) -> Router {
    Router::new()
        .route("/health/live", get(async || Json(json!({"live": true}))))
        .route("/health/ready", get(ready))
        .with_state(handle)
}

/// Readiness of the consent service: it owns its state and has caught up with the bus.
pub fn consent(handle: mz_consent::Handle) -> Router {
    let ready = async move || {
        let ready = handle.is_ready();
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        (status, Json(json!({"ready": ready})))
    };
    Router::new()
        .route("/health/live", get(async || Json(json!({"live": true}))))
        .route("/health/ready", get(ready))
}

async fn ready(State(handle): State<Handle>) -> Response {
    let state = handle.readiness();
    let status = if state.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "ready": state.is_ready(),
        "slots_open": state.slots_open,
        "slots": state.slots,
        "sources_read": state.sources_read,
    });
    (status, Json(body)).into_response()
}
