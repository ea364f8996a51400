//! TLS with certificates of the bus and bytes as they come: what no well-behaved client or server sends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use mz_bus::TlsFiles;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

fn chain(files: &TlsFiles) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_file_iter(&files.cert).unwrap();
    all.map(Result::unwrap).collect()
}

/// An answer as it came.
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The code of a refusal.
    pub fn code(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Sends a request and reads until the other side ends.
pub fn ask(address: SocketAddr, tls: &TlsFiles, request: &[u8]) -> Answer {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&tls.ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(tls), PrivateKeyDer::from_pem_file(&tls.key).unwrap())
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(request).unwrap();
    let mut bytes = Vec::new();
    // Some end without a goodbye.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes
        .windows(4)
        .position(|at| at == b"\r\n\r\n")
        .unwrap_or(0);
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or(0),
        body: bytes.get(end + 4..).unwrap_or_default().to_vec(),
        head,
    }
}

pub type Accepted = StreamOwned<ServerConnection, TcpStream>;

/// The bus's console, played by the test.
pub fn server(tls: &TlsFiles) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain(tls), PrivateKeyDer::from_pem_file(&tls.key).unwrap());
    Arc::new(config.unwrap())
}

/// Accepts one connection and reads a request's head; `None` when the caller hung up.
pub fn accept(config: &Arc<ServerConfig>, socket: TcpStream) -> Option<(Accepted, String)> {
    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    let mut stream = StreamOwned::new(connection, socket);
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1)?.to_owned();
    Some((stream, path))
}
