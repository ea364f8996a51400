//! Mutual TLS: no certificate from the bus CA, no connection.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use mz_bus::TlsFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::limits::MAX_PEM_BYTES;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{file}: can't be read")]
    File {
        file: String,
        source: std::io::Error,
    },
    #[error("{file}: larger than {MAX_PEM_BYTES} bytes")]
    TooLarge { file: String },
    #[error("{file}: no usable PEM in it")]
    Pem { file: String },
    #[error("the certificate authority is not usable")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("certificate and key don't make a server identity")]
    Identity(#[source] rustls::Error),
}

/// A server that demands a client certificate signed by the CA in `files`.
pub fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots
            .add(certificate)
            .map_err(|fault| TlsError::Authority(Box::new(fault)))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|fault| TlsError::Authority(Box::new(fault)))?;
    let chain = certificates(&files.cert)?;
    let key = private_key(&files.key)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Identity)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Pem { file: shown(path) }),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| TlsError::Pem { file: shown(path) })
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let fault = |source| TlsError::File {
        file: shown(path),
        source,
    };
    if fs::metadata(path).map_err(fault)?.len() > MAX_PEM_BYTES {
        return Err(TlsError::TooLarge { file: shown(path) });
    }
    fs::read(path).map_err(fault)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
