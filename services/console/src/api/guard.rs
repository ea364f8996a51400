//! The first look at a caller, before a byte of the body is read: may this role call this route?

use std::sync::Arc;

use axum::Extension;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::routing::MethodRouter;
use mz_contract::Contract;

use super::problem::unread;
use crate::principal::Principal;
use crate::roles::Route;

/// `handlers`, for the callers that the table names.
pub fn guarded<S: Clone + Send + Sync + 'static>(
    route: &'static Route,
    contract: &Arc<Contract>,
    handlers: MethodRouter<S>,
) -> MethodRouter<S> {
    let contract = Arc::clone(contract);
    handlers.layer(from_fn(
        move |Extension(principal): Extension<Principal>, request: Request, next: Next| {
            let contract = Arc::clone(&contract);
            async move {
                if route.allows(&principal) {
                    return next.run(request).await;
                }
                let (caller, path) = (principal.name(), route.path);
                tracing::info!(principal = caller, path, "role refused");
                let reasons = &contract.reasons;
                unread(reasons, StatusCode::FORBIDDEN, "HTTP_ROLE_FORBIDDEN")
            }
        },
    ))
}
