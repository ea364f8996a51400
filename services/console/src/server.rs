//! Accepts mutual-TLS connections and serves a router on them: bounded connections, handshake and
//! header timeouts, an orderly end. Knows nothing about what is served.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::limits::{DRAIN_TIMEOUT, HANDSHAKE_TIMEOUT, HEADER_TIMEOUT, MAX_CONNECTIONS};
use crate::principal::Principal;

/// A bound listener and what it will serve.
pub struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
}

impl Server {
    pub async fn bind(
        listen: SocketAddr,
        tls: Arc<ServerConfig>,
        router: Router,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(listen).await?,
            tls: tls.into(),
            router,
        })
    }

    /// Where it listens: the chosen port, when 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` says true (or its sender is gone), then lets running requests finish.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stop) => break,
                accepted = accept(&self.listener, &room) => accepted,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            };
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(fault) => {
                    // Out of file descriptors, mostly: accepting again at once would spin.
                    tracing::warn!(error = %fault, "accept failed");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (tls, router, stop) = (self.tls.clone(), self.router.clone(), stop.clone());
            connections.spawn(async move {
                connection(stream, tls, router, stop).await;
                drop(permit);
            });
        }
        drop(self.listener);
        let drained = timeout(DRAIN_TIMEOUT, async {
            while connections.join_next().await.is_some() {}
        });
        if drained.await.is_err() {
            tracing::warn!("connections were still busy at the end");
        }
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // Closed never: the semaphore lives as long as the server.
    let permit = Arc::clone(room)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection(
    stream: TcpStream,
    tls: TlsAcceptor,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let stream = match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(fault)) => {
            tracing::info!(error = %fault, "TLS handshake refused");
            return;
        }
        Err(_) => return,
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first);
    let principal = match certificate.map(Principal::of) {
        Some(Ok(principal)) => principal,
        Some(Err(fault)) => {
            tracing::info!(error = %fault, "client certificate refused");
            return;
        }
        // The verifier demands one.
        None => return,
    };
    let service = TowerToHyperService::new(router.layer(Extension(principal)));
    let mut serving = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let finished = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = stopped(&mut stop) => None,
    };
    match finished {
        Some(ended) => log_end(ended),
        None => {
            serving.as_mut().graceful_shutdown();
            log_end(serving.await);
        }
    }
}

/// Also when the sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(fault) = ended {
        tracing::debug!(error = %fault, "connection ended");
    }
}
