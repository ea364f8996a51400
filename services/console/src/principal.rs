//! Who calls: the department and role in the client certificate, and nothing else.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The department name of the bus's own services.
pub const BUS: &str = "bus";

/// `<department>.<role>`, the common name of a certificate that the bus CA signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    department: String,
    role: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrincipalError {
    #[error("the client certificate can't be read")]
    Certificate,
    #[error("the client certificate names no principal")]
    Name,
}

impl Principal {
    /// From a certificate that the handshake already verified.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, PrincipalError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| PrincipalError::Certificate)?;
        let mut names = parsed.subject().iter_common_name();
        let name = names.next().ok_or(PrincipalError::Name)?;
        // Two names would leave it to the reader which one counts.
        if names.next().is_some() {
            return Err(PrincipalError::Name);
        }
        Self::parse(name.as_str().map_err(|_| PrincipalError::Name)?)
    }

    /// `police.window` → department `police`, role `window`.
    pub fn parse(name: &str) -> Result<Self, PrincipalError> {
        let plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 64
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        match name.split_once('.') {
            Some((department, role)) if plain(department) && plain(role) => Ok(Self {
                department: department.to_owned(),
                role: role.to_owned(),
            }),
            _ => Err(PrincipalError::Name),
        }
    }

    pub fn department(&self) -> &str {
        &self.department
    }

    pub fn role(&self) -> &str {
        &self.role
    }

    pub fn name(&self) -> String {
        format!("{}.{}", self.department, self.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_principals() {
        let police = Principal::parse("police.window").unwrap();
        assert_eq!((police.department(), police.role()), ("police", "window"));
        for bad in [
            "",
            "police",
            ".window",
            "police.",
            "Police.window",
            "a.b.c",
            "police.win dow",
        ] {
            assert_eq!(Principal::parse(bad), Err(PrincipalError::Name), "{bad}");
        }
    }
}
