//! Asks the broker over mutual TLS whether it serves: one ApiVersions request as `bus.admin`. A
//! broker answers it only when start-up is complete, authorizer included.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use std::io::{Error, Read, Result, Write};
use std::net::{Ipv4Addr as StdIpv4, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(2000);
/// Longest answer to an ApiVersions request that we read (bytes).
const MAX_ANSWER: u32 = 64 * 1024;
/// ApiVersions (key 18) version 0, correlation id 1, client id "probe" (Kafka protocol guide).
const API_VERSIONS: &[u8] = b"\x00\x00\x00\x0f\x00\x12\x00\x00\x00\x00\x00\x01\x00\x05probe";

/// Succeeds when the broker on this port answers a caller with these credentials.
pub(crate) fn broker(port: u16, ca: &Path, cert: &Path, key: &Path) -> Result<()> {
    let config = client_config(ca, cert, key)?;
    let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from(StdIpv4::LOCALHOST)));
    let mut tls = ClientConnection::new(Arc::new(config), name).map_err(Error::other)?;
    let address = SocketAddr::from((StdIpv4::LOCALHOST, port));
    let mut tcp = TcpStream::connect_timeout(&address, TIMEOUT)?;
    tcp.set_read_timeout(Some(TIMEOUT))?;
    tcp.set_write_timeout(Some(TIMEOUT))?;
    let mut stream = Stream::new(&mut tls, &mut tcp);
    stream.write_all(API_VERSIONS)?;
    stream.flush()?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if !(6..=MAX_ANSWER).contains(&length) {
        return Err(Error::other("not a Kafka answer"));
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    // Correlation id 1, error code 0.
    if answer.starts_with(&[0, 0, 0, 1, 0, 0]) {
        Ok(())
    } else {
        Err(Error::other("the broker refused ApiVersions"))
    }
}

fn client_config(ca: &Path, cert: &Path, key: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for anchor in CertificateDer::pem_file_iter(ca).map_err(Error::other)? {
        roots
            .add(anchor.map_err(Error::other)?)
            .map_err(Error::other)?;
    }
    let chain = CertificateDer::pem_file_iter(cert)
        .map_err(Error::other)?
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(Error::other)
}
