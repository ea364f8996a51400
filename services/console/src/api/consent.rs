//! Grants over HTTP: consents, cases, agreements, the contract in force, withdrawals, erasure. Each
//! route hands its body and the certificate's caller to the consent service, and nothing else.

use std::future::Future;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use axum::{Extension, Json, Router};
use mz_consent::model::{AgreementActKind, ChangeKind};
use mz_consent::{Caller, Handle, Refusal, RefusalKind};
use mz_contract::Contract;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::bundles::unreadable;
use super::guard::guarded;
use super::problem::{Problem, respond, unread};
use crate::limits::{MAX_ACTIVATE_BODY_BYTES, MAX_ACTIVATIONS, MAX_BODY_BYTES};
use crate::principal::Principal;
use crate::roles::{self, Route};

type Body<Q> = Result<Json<Q>, JsonRejection>;

/// A body that says nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The routes. `contract`: the one that refusals of the guards are worded from.
pub fn router(handle: Handle, contract: &Arc<Contract>) -> Router {
    let small = Router::new()
        .asked(&roles::GIVE, contract, |handle, caller, ask| async move {
            handle.give(&caller, ask).await
        })
        .changed(&roles::REVOKE, contract, ChangeKind::Revoke)
        .changed(&roles::PAUSE, contract, ChangeKind::Pause)
        .changed(&roles::RESUME, contract, ChangeKind::Resume)
        .changed(&roles::EXTEND, contract, ChangeKind::Extend)
        .changed(&roles::CLOSE, contract, ChangeKind::Close)
        .asked(&roles::LIST, contract, |handle, caller, ask| async move {
            handle.list(&caller, ask).await
        })
        .asked(
            &roles::ENFORCEMENT,
            contract,
            |handle, caller, ask| async move { handle.enforcement(&caller, ask).await },
        )
        .asked(
            &roles::OPEN_CASE,
            contract,
            |handle, caller, ask| async move { handle.open_case(&caller, ask).await },
        )
        .asked(&roles::WHY, contract, |handle, caller, ask| async move {
            handle.why(&caller, ask).await
        })
        .acted(&roles::SUSPEND, contract, AgreementActKind::Suspend)
        .acted(&roles::RESUME_AGREEMENT, contract, AgreementActKind::Resume)
        .acted(&roles::TERMINATE, contract, AgreementActKind::Terminate)
        .asked(
            &roles::VERSIONS,
            contract,
            |handle, caller, Nothing {}| async move { handle.versions(&caller).await },
        )
        .asked(
            &roles::WITHDRAWALS,
            contract,
            |handle, caller, ask| async move { handle.withdrawals(&caller, ask).await },
        )
        .asked(&roles::ERASE, contract, |handle, caller, ask| async move {
            handle.erase(&caller, ask).await
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    // A whole contract is in this body: few at once, since each is held in memory.
    let room = Arc::new(Semaphore::new(MAX_ACTIVATIONS));
    let worded = Arc::clone(contract);
    let one_at_a_time = axum::middleware::from_fn(move |request, next: axum::middleware::Next| {
        let (room, contract) = (Arc::clone(&room), Arc::clone(&worded));
        async move {
            match room.try_acquire() {
                Ok(_permit) => next.run(request).await,
                Err(_) => unread(
                    &contract.reasons,
                    StatusCode::SERVICE_UNAVAILABLE,
                    "HTTP_BUSY",
                ),
            }
        }
    });
    let activate = route(|handle: Handle, caller: Caller, ask| async move {
        handle.activate(&caller, ask).await
    })
    .layer(DefaultBodyLimit::max(MAX_ACTIVATE_BODY_BYTES))
    .layer(one_at_a_time);
    let activate = guarded(&roles::ACTIVATE, contract, activate);
    small
        .merge(Router::new().route(roles::ACTIVATE.path, activate))
        .with_state(handle)
}

/// One line a route.
trait Routes: Sized {
    fn asked<Q, A, F, Fut>(self, at: &'static Route, contract: &Arc<Contract>, act: F) -> Self
    where
        Q: DeserializeOwned + Send + 'static,
        A: Serialize + Send + 'static,
        F: FnOnce(Handle, Caller, Q) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Refusal>> + Send + 'static;

    fn changed(self, at: &'static Route, contract: &Arc<Contract>, kind: ChangeKind) -> Self {
        self.asked(at, contract, move |handle, caller, ask| async move {
            handle.change(&caller, kind, ask).await
        })
    }

    fn acted(self, at: &'static Route, contract: &Arc<Contract>, kind: AgreementActKind) -> Self {
        self.asked(at, contract, move |handle, caller, ask| async move {
            handle.agreement(&caller, kind, ask).await
        })
    }
}

impl Routes for Router<Handle> {
    fn asked<Q, A, F, Fut>(self, at: &'static Route, contract: &Arc<Contract>, act: F) -> Self
    where
        Q: DeserializeOwned + Send + 'static,
        A: Serialize + Send + 'static,
        F: FnOnce(Handle, Caller, Q) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Refusal>> + Send + 'static,
    {
        self.route(at.path, guarded(at, contract, route(act)))
    }
}

fn route<Q, A, F, Fut>(act: F) -> MethodRouter<Handle>
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
    F: FnOnce(Handle, Caller, Q) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<A, Refusal>> + Send + 'static,
{
    post(
        async move |State(handle): State<Handle>,
                    Extension(principal): Extension<Principal>,
                    body: Body<Q>| {
            let contract = handle.contract();
            let ask = match body {
                Ok(Json(ask)) => ask,
                Err(rejection) => return unreadable(&contract.reasons, &rejection),
            };
            let caller = Caller {
                department: principal.department().to_owned(),
                role: principal.role().to_owned(),
            };
            match act(handle, caller, ask).await {
                Ok(answer) => {
                    let mut response = Json(answer).into_response();
                    let no_store = HeaderValue::from_static("no-store");
                    let headers = response.headers_mut();
                    headers.insert(header::CACHE_CONTROL, no_store);
                    response
                }
                Err(refusal) => {
                    let code = refusal.code();
                    tracing::info!(principal = principal.name(), code, "refused");
                    refused(&contract, refusal)
                }
            }
        },
    )
}

/// A refusal as a response. Only a contract's faults carry details: they name files and lines, never
/// a person.
pub fn refused(contract: &Contract, refusal: Refusal) -> Response {
    let mut body = Problem::of(&contract.reasons, refusal.code());
    let status = status(refusal.kind());
    if let Refusal::ContractInvalid(faults) = refusal {
        body.detail = faults;
    }
    respond(status, body)
}

const fn status(kind: RefusalKind) -> StatusCode {
    match kind {
        RefusalKind::Invalid => StatusCode::BAD_REQUEST,
        RefusalKind::Denied => StatusCode::FORBIDDEN,
        RefusalKind::Unknown => StatusCode::NOT_FOUND,
        RefusalKind::Conflict => StatusCode::CONFLICT,
        RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}
