//! Kafka's own protocol, as far as administration needs it: one blocking connection over TLS and
//! the primitive types. librdkafka's Rust binding has no ACL calls, and the jars' tools would ask
//! for a JVM where only this binary is installed.
//!
//! Versions without tagged fields are spoken where there are any; brokers from 2.1 to 4.x know them.

use crate::error::BusError;
use crate::options::BusOptions;
use crate::tuning::CALL_TIMEOUT;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;

/// Largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection to any one broker: in KRaft mode each forwards what the controller must do.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    client_id: String,
    address: String,
    correlation: i32,
}

impl Connection {
    /// The first bootstrap address that answers.
    pub(crate) fn open(bus: &BusOptions) -> Result<Self, BusError> {
        let mut last = None;
        for address in bus.bootstrap.split(',').map(str::trim) {
            match dial(bus, address) {
                Ok(stream) => {
                    return Ok(Self {
                        stream,
                        client_id: bus.client_id.clone(),
                        address: address.to_owned(),
                        correlation: 0,
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| BusError::Connection {
            operation: "connect",
            address: String::new(),
            source: std::io::ErrorKind::NotFound.into(),
        }))
    }

    /// Sends one request and returns the body of its answer.
    pub(crate) fn call(
        &mut self,
        operation: &'static str,
        api: i16,
        version: i16,
        body: &Writer,
    ) -> Result<Vec<u8>, BusError> {
        self.exchange(operation, api, version, body, false)
    }

    /// The same for a version whose headers have tagged fields (KIP-482).
    pub(crate) fn call_flexible(
        &mut self,
        operation: &'static str,
        api: i16,
        version: i16,
        body: &Writer,
    ) -> Result<Vec<u8>, BusError> {
        let answer = self.exchange(operation, api, version, body, true)?;
        let mut read = Answer::new(operation, &answer);
        read.skip_tags()?;
        Ok(read.rest.to_vec())
    }

    fn exchange(
        &mut self,
        operation: &'static str,
        api: i16,
        version: i16,
        body: &Writer,
        flexible: bool,
    ) -> Result<Vec<u8>, BusError> {
        self.correlation += 1;
        let mut head = Writer::default();
        head.i16(api);
        head.i16(version);
        head.i32(self.correlation);
        head.text(Some(&self.client_id));
        if flexible {
            head.no_tags();
        }
        let length = i32::try_from(head.0.len() + body.0.len()).unwrap_or(i32::MAX);
        let mut request = length.to_be_bytes().to_vec();
        request.extend_from_slice(&head.0);
        request.extend_from_slice(&body.0);
        let address = self.address.clone();
        let lost = |source| BusError::Connection {
            operation,
            address: address.clone(),
            source,
        };
        self.stream.write_all(&request).map_err(lost)?;
        self.stream.flush().map_err(lost)?;
        let mut prefix = [0; 8];
        self.stream.read_exact(&mut prefix).map_err(lost)?;
        let [a, b, c, d, e, f, g, h] = prefix;
        let length = usize::try_from(i32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let protocol = |detail: &str| BusError::Protocol {
            operation,
            detail: detail.to_owned(),
        };
        if !(4..=MAX_ANSWER_BYTES).contains(&length) {
            return Err(protocol("its length is out of range"));
        }
        if i32::from_be_bytes([e, f, g, h]) != self.correlation {
            return Err(protocol("it answers another request"));
        }
        let mut answer = vec![0; length - 4];
        self.stream.read_exact(&mut answer).map_err(lost)?;
        Ok(answer)
    }
}

fn dial(bus: &BusOptions, address: &str) -> Result<Box<dyn Stream>, BusError> {
    let lost = |source| BusError::Connection {
        operation: "connect",
        address: address.to_owned(),
        source,
    };
    let target = address.to_socket_addrs().map_err(lost)?.next();
    let target = target.ok_or_else(|| lost(std::io::ErrorKind::NotFound.into()))?;
    let socket = TcpStream::connect_timeout(&target, CALL_TIMEOUT).map_err(lost)?;
    socket.set_read_timeout(Some(CALL_TIMEOUT)).map_err(lost)?;
    socket.set_write_timeout(Some(CALL_TIMEOUT)).map_err(lost)?;
    socket.set_nodelay(true).map_err(lost)?;
    let Some(tls) = &bus.tls else {
        return Ok(Box::new(socket));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.ca)? {
        roots
            .add(certificate)
            .map_err(|error| pem(&tls.ca, &error))?;
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| pem(&tls.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| pem(&tls.ca, &error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&tls.cert)?, key)
        .map_err(|error| pem(&tls.cert, &error))?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| BusError::Protocol {
        operation: "connect",
        detail: format!("{address} names no host"),
    })?;
    let session = ClientConnection::new(Arc::new(config), name)
        .map_err(|error| lost(std::io::Error::other(error)))?;
    Ok(Box::new(StreamOwned::new(session, socket)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BusError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| pem(path, &error))
}

fn pem(path: &Path, error: &dyn std::fmt::Display) -> BusError {
    BusError::Pem {
        path: path.to_owned(),
        detail: error.to_string(),
    }
}

/// Kafka's primitive types, written.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn i8(&mut self, value: i8) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    pub(crate) fn text(&mut self, value: Option<&str>) {
        match value {
            None => self.i16(-1),
            Some(text) => {
                // Names and settings are far shorter than 32 kB.
                self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
                self.0.extend_from_slice(text.as_bytes());
            }
        }
    }

    pub(crate) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.i32(i32::try_from(items.len()).unwrap_or(i32::MAX));
        for item in items {
            write(self, item);
        }
    }

    /// Number of items of a compact list, or of bytes of a compact text: one more, so that 0 is absent.
    pub(crate) fn compact_count(&mut self, count: usize) {
        let mut left = count + 1;
        while left > 0x7f {
            self.0.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        self.0.push(left as u8);
    }

    pub(crate) fn compact_text(&mut self, text: &str) {
        self.compact_count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn id(&mut self, id: &[u8; 16]) {
        self.0.extend_from_slice(id);
    }

    pub(crate) fn no_tags(&mut self) {
        self.0.push(0);
    }

    /// An absent list, where absent means all.
    pub(crate) fn no_list(&mut self) {
        self.i32(-1);
    }
}

/// Kafka's primitive types, read. Never reads past the answer.
pub(crate) struct Answer<'a> {
    operation: &'static str,
    rest: &'a [u8],
}

impl<'a> Answer<'a> {
    pub(crate) const fn new(operation: &'static str, bytes: &'a [u8]) -> Self {
        Self {
            operation,
            rest: bytes,
        }
    }

    fn short(&self) -> BusError {
        BusError::Protocol {
            operation: self.operation,
            detail: "it ends too early".to_owned(),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], BusError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, BusError> {
        self.take().map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, BusError> {
        self.take().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, BusError> {
        self.take().map(i32::from_be_bytes)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, BusError> {
        self.i8().map(|value| value != 0)
    }

    pub(crate) fn text(&mut self) -> Result<Option<String>, BusError> {
        let Ok(length) = usize::try_from(self.i16()?) else {
            return Ok(None);
        };
        let text = self.skip(length)?;
        Ok(Some(String::from_utf8_lossy(text).into_owned()))
    }

    fn varint(&mut self) -> Result<usize, BusError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BusError::Protocol {
            operation: self.operation,
            detail: "a number has no end".to_owned(),
        })
    }

    /// As [`Writer::compact_count`] writes it; absent is 0.
    pub(crate) fn compact_count(&mut self) -> Result<usize, BusError> {
        Ok(self.varint()?.saturating_sub(1))
    }

    fn skip(&mut self, length: usize) -> Result<&'a [u8], BusError> {
        let split = self.rest.split_at_checked(length);
        let (head, rest) = split.ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn compact_text(&mut self) -> Result<Option<String>, BusError> {
        let Some(length) = self.varint()?.checked_sub(1) else {
            return Ok(None);
        };
        let text = self.skip(length)?;
        Ok(Some(String::from_utf8_lossy(text).into_owned()))
    }

    pub(crate) fn id(&mut self) -> Result<[u8; 16], BusError> {
        self.take()
    }

    /// Fields that a newer broker adds.
    pub(crate) fn skip_tags(&mut self) -> Result<(), BusError> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.skip(length)?;
        }
        Ok(())
    }

    pub(crate) fn name(&mut self) -> Result<String, BusError> {
        self.text().map(Option::unwrap_or_default)
    }

    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, BusError>,
    ) -> Result<Vec<T>, BusError> {
        let mut items = Vec::new();
        for _ in 0..self.i32()?.max(0) {
            items.push(read(self)?);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_numbers_and_texts_come_back_and_hostile_ones_end() {
        for length in [0, 1, 126, 127, 128, 16_383, 16_384, 70_000] {
            let text = "x".repeat(length);
            let mut writer = Writer::default();
            writer.compact_text(&text);
            writer.no_tags();
            let mut answer = Answer::new("test", &writer.0);
            assert_eq!(answer.compact_text().unwrap(), Some(text));
            answer.skip_tags().unwrap();
            assert!(answer.rest.is_empty());
        }
        assert_eq!(Answer::new("test", &[0]).compact_text().unwrap(), None);
        // One tag of three bytes, and what follows.
        let mut tagged = Answer::new("test", &[1, 9, 3, 7, 7, 7, 5]);
        tagged.skip_tags().unwrap();
        assert_eq!(tagged.rest, [5]);
        for hostile in [
            &[][..],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[9, 1],
        ] {
            assert!(
                Answer::new("test", hostile).compact_text().is_err(),
                "{hostile:?}"
            );
        }
        assert!(Answer::new("test", &[2, 0, 0xff]).skip_tags().is_err());
    }
}
