//! The three services: the schema endpoint, a vault with its HTTP side, consent with its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use mz_consent::{ConsentError, Service as Consent};
use mz_contract::Contract;
use mz_vault::{Service as Vault, VaultError};
use tokio::sync::{Semaphore, watch};

use crate::api::problem::problem;
use crate::api::{bundles, consent, health, ledger, logs, schemas, who_read};
use crate::limits::{CONSENT_TIMEOUT, MAX_IN_FLIGHT, REQUEST_TIMEOUT};
use crate::options::{ConsentOptions, Options, VaultOptions};
use crate::registry::{Registry, RegistryError};
use crate::server::Server;
use crate::tls::{TlsError, server_config};

/// Longest time between two looks at whether to stop.
const STOP_POLL: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error("TLS")]
    Tls(#[from] TlsError),
    #[error("{address}: can't listen")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("schemas")]
    Registry(#[from] RegistryError),
    #[error("vault")]
    Vault(#[from] VaultError),
    #[error("consent")]
    Consent(#[from] ConsentError),
    #[error("threads could not be started")]
    Threads(#[source] io::Error),
}

impl ConsoleError {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tls(_) => "HTTP_TLS",
            Self::Listen { .. } => "HTTP_LISTEN",
            Self::Registry(_) => "HTTP_SCHEMAS",
            Self::Vault(error) => error.code(),
            Self::Consent(error) => error.code(),
            Self::Threads(_) => "VAULT_THREAD",
        }
    }

    /// Another process owns what this one was told to own.
    pub fn is_fenced(&self) -> bool {
        match self {
            Self::Vault(error) => matches!(error, VaultError::Fenced { .. }),
            Self::Consent(error) => error.is_fenced(),
            _ => false,
        }
    }
}

/// A started HTTP server. Dropping it stops it.
pub struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets running requests finish.
    pub fn stop(mut self) {
        self.wind_up();
    }

    fn wind_up(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.wind_up();
    }
}

/// Runs the schema endpoint until `stop`.
pub fn run(options: Options, stop: &AtomicBool) -> Result<(), ConsoleError> {
    let running = start(options)?;
    while !stop.load(Ordering::Acquire) {
        std::thread::sleep(STOP_POLL);
    }
    running.stop();
    Ok(())
}

/// Starts the schema endpoint.
pub fn start(options: Options) -> Result<Running, ConsoleError> {
    let registry = Arc::new(Registry::of(&options.contract)?);
    let router = schemas::router(registry)
        .merge(logs::router(options.ledger, &options.contract))
        .merge(health::live());
    serve(
        options.listen,
        &options.tls,
        guarded(router, options.contract, REQUEST_TIMEOUT),
    )
}

/// Runs a vault and its HTTP side until `stop`, or until the vault must end.
pub fn run_vault(options: VaultOptions, stop: &AtomicBool) -> Result<(), ConsoleError> {
    let (vault, running) = start_vault(options)?;
    while !stop.load(Ordering::Acquire) && !vault.has_failed() {
        std::thread::sleep(STOP_POLL);
    }
    // No new questions, then no more answers.
    running.stop();
    Ok(vault.stop()?)
}

/// Starts a vault and its HTTP side.
pub fn start_vault(options: VaultOptions) -> Result<(Vault, Running), ConsoleError> {
    let bus = options.vault.bus.clone();
    let contract = Arc::clone(&options.vault.contract);
    let vault = Vault::start(options.vault)?;
    let handle = vault.handle();
    let router = bundles::router(handle.clone())
        .merge(who_read::router(handle.clone(), bus.clone()))
        .merge(ledger::router(handle.clone(), bus, &options.index_url))
        .merge(health::vault(handle));
    let router = guarded(router, contract, REQUEST_TIMEOUT);
    let running = serve(options.listen, &options.tls, router)?;
    Ok((vault, running))
}

/// Runs the consent service and its HTTP side until `stop`, or until it must end.
pub fn run_consent(options: ConsentOptions, stop: &AtomicBool) -> Result<(), ConsoleError> {
    let (consent, running) = start_consent(options)?;
    while !stop.load(Ordering::Acquire) && !consent.has_failed() {
        std::thread::sleep(STOP_POLL);
    }
    running.stop();
    Ok(consent.stop()?)
}

/// Starts the consent service and its HTTP side.
pub fn start_consent(options: ConsentOptions) -> Result<(Consent, Running), ConsoleError> {
    let contract = Arc::clone(&options.consent.contract);
    let service = Consent::start(options.consent)?;
    let handle = service.handle();
    let router = consent::router(handle.clone(), &contract).merge(health::consent(handle));
    let router = guarded(router, contract, CONSENT_TIMEOUT);
    let running = serve(options.listen, &options.tls, router)?;
    Ok((service, running))
}

/// Bounds on every request: how many at once, how long, and nothing left unanswered.
fn guarded(router: Router, contract: Arc<Contract>, within: Duration) -> Router {
    let room = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let limit = from_fn(move |request: Request, next: Next| {
        let (room, contract) = (Arc::clone(&room), Arc::clone(&contract));
        async move {
            let reasons = &contract.reasons;
            let Ok(_permit) = room.try_acquire() else {
                return problem(reasons, StatusCode::SERVICE_UNAVAILABLE, "HTTP_BUSY");
            };
            match tokio::time::timeout(within, next.run(request)).await {
                Ok(response) => response,
                Err(_) => problem(reasons, StatusCode::GATEWAY_TIMEOUT, "HTTP_TIMEOUT"),
            }
        }
    });
    router.layer(limit)
}

fn serve(
    listen: SocketAddr,
    tls: &mz_bus::TlsFiles,
    router: Router,
) -> Result<Running, ConsoleError> {
    let config = server_config(tls)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("mz-http")
        .enable_all()
        .build()
        .map_err(ConsoleError::Threads)?;
    let bound = |source| ConsoleError::Listen {
        address: listen,
        source,
    };
    let server = runtime
        .block_on(Server::bind(listen, config, router))
        .map_err(bound)?;
    let address = server.address().map_err(bound)?;
    let (stop, stopped) = watch::channel(false);
    let thread = std::thread::Builder::new()
        .name("mz-http".to_owned())
        .spawn(move || runtime.block_on(server.serve(stopped)))
        .map_err(ConsoleError::Threads)?;
    tracing::info!(%address, "listening");
    Ok(Running {
        address,
        stop,
        thread: Some(thread),
    })
}
