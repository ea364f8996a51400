//! The local certificate authority: one P-256 root, one certificate per principal whose common
//! name is the principal (the broker's and the HTTP services' notion of who is calling).
//!
//! For a laptop, a test, a first installation. In production the same files come from the
//! department's own CA; nothing else in the system looks at who issued them.

use crate::layout::{KeysDir, SERVERS};
use crate::secret::{fill_random, read_private, replace_public, write_private_new};
use crate::{KeyError, layout};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

const CA_NAME: &str = "mianzheng local CA";
const CA_DAYS: u64 = 3650;
/// Below the 825 days that some TLS stacks take as the maximum.
const LEAF_DAYS: u64 = 820;
const DAY: Duration = Duration::from_secs(86_400);

/// An opened authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
}

impl Authority {
    /// Opens the authority of a keys directory; makes one where there is none. Says whether it
    /// made one.
    pub fn ensure(keys: &KeysDir) -> Result<(Self, bool), KeyError> {
        let key_path = keys.ca_key();
        let mut made = false;
        if !key_path.exists() {
            let pair = KeyPair::generate().map_err(certificate("ca"))?;
            let pem = Zeroizing::new(pair.serialize_pem());
            made = write_private_new(&key_path, pem.as_bytes())?;
        }
        let pair = read_pair(&key_path)?;
        let params = ca_params()?;
        let cert_path = keys.ca_cert();
        // Same name and key: certificates issued under a rewritten root still verify.
        if made || !cert_path.exists() {
            let root = params.self_signed(&pair).map_err(certificate("ca"))?;
            replace_public(&cert_path, root.pem().as_bytes())?;
        }
        let cert_pem =
            std::fs::read_to_string(&cert_path).map_err(KeyError::io("cannot read", &cert_path))?;
        Ok((
            Self {
                issuer: Issuer::new(params, pair),
                cert_pem,
            },
            made,
        ))
    }

    /// Makes the principal's key, certificate and PEM bundle where one is missing. Says whether
    /// anything was made.
    pub fn ensure_principal(&self, keys: &KeysDir, principal: &str) -> Result<bool, KeyError> {
        for part in principal.split('.') {
            layout::check_name(part)?;
        }
        let (key_path, cert_path, pem_path) = (
            keys.tls_key(principal),
            keys.tls_cert(principal),
            keys.tls_pem(principal),
        );
        if key_path.exists() && cert_path.exists() && pem_path.exists() {
            return Ok(false);
        }
        if !key_path.exists() {
            let pair = KeyPair::generate().map_err(certificate(principal))?;
            let pem = Zeroizing::new(pair.serialize_pem());
            if write_private_new(&key_path, pem.as_bytes())? {
                // A new key makes what was certified for the old one useless.
                for stale in [&cert_path, &pem_path] {
                    if stale.exists() {
                        std::fs::remove_file(stale)
                            .map_err(KeyError::io("cannot remove", stale))?;
                    }
                }
            }
        }
        let pair = read_pair(&key_path)?;
        if !cert_path.exists() {
            let cert = leaf_params(principal)?
                .signed_by(&pair, &self.issuer)
                .map_err(certificate(principal))?;
            replace_public(&cert_path, cert.pem().as_bytes())?;
        }
        if !pem_path.exists() {
            let cert = std::fs::read_to_string(&cert_path)
                .map_err(KeyError::io("cannot read", &cert_path))?;
            let mut bundle = Zeroizing::new(pair.serialize_pem());
            bundle.push_str(&cert);
            bundle.push_str(&self.cert_pem);
            write_private_new(&pem_path, bundle.as_bytes())?;
        }
        Ok(true)
    }
}

fn ca_params() -> Result<CertificateParams, KeyError> {
    let mut params = named(CA_NAME)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, CA_DAYS);
    Ok(params)
}

fn leaf_params(principal: &str) -> Result<CertificateParams, KeyError> {
    let mut params = named(principal)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if SERVERS.contains(&principal) {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
        let localhost = "localhost".try_into().map_err(certificate(principal))?;
        params.subject_alt_names = vec![
            SanType::DnsName(localhost),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ];
    }
    valid_for(&mut params, LEAF_DAYS);
    Ok(params)
}

fn named(common_name: &str) -> Result<CertificateParams, KeyError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    // RFC 5280 §4.1.2.2: a positive serial of at most 20 octets.
    let mut serial = [0; 16];
    fill_random(&mut serial)?;
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn valid_for(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now();
    // A day back: the peer's clock may be slow.
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * u32::try_from(days).unwrap_or(u32::MAX)).into();
}

fn read_pair(path: &std::path::Path) -> Result<KeyPair, KeyError> {
    let pem = read_private(path)?;
    KeyPair::from_pem(&pem).map_err(|_| KeyError::Malformed {
        path: path.to_owned(),
        reason: "expected a private key in PKCS#8 PEM",
    })
}

fn certificate(principal: &str) -> impl FnOnce(rcgen::Error) -> KeyError {
    let principal = principal.to_owned();
    move |source| KeyError::Certificate { principal, source }
}
