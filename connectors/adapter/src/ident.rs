//! SQL identifiers. Only a checked name can be quoted, so nothing from a contract or a
//! configuration reaches SQL as anything but a name.

use std::fmt;

use crate::limits::MAX_IDENT_BYTES;

/// A plain lower-case identifier: `[a-z_][a-z0-9_]*`, at most 63 bytes. Displays quoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ident(String);

impl Ident {
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = name.bytes();
        let first = bytes.next()?;
        let plain = (first.is_ascii_lowercase() || first == b'_')
            && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && name.len() <= MAX_IDENT_BYTES;
        plain.then(|| Self(name.to_owned()))
    }

    /// From a name of the contract: `monthsTotal` → `months_total`, `insurance.status` →
    /// `insurance_status`.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut out = String::with_capacity(name.len() + 4);
        let mut lower = false;
        for letter in name.chars() {
            match letter {
                'A'..='Z' => {
                    if lower {
                        out.push('_');
                    }
                    out.push(letter.to_ascii_lowercase());
                    lower = false;
                }
                '.' | '-' | '/' => {
                    out.push('_');
                    lower = false;
                }
                other => {
                    out.push(other);
                    lower = other != '_';
                }
            }
        }
        Self::new(&out)
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "\"{}\"", self.0)
    }
}

/// A string constant. Titles of the contract become comments of tables and columns.
pub(crate) struct Literal<'a>(pub &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("'")?;
        for letter in self.0.chars() {
            match letter {
                '\'' => to.write_str("''")?,
                '\0' => {}
                other => write!(to, "{other}")?,
            }
        }
        to.write_str("'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_plain_identifiers_or_nothing() {
        let from = |name: &str| Ident::from_name(name).map(|ident| ident.as_str().to_owned());
        assert_eq!(from("idNo").as_deref(), Some("id_no"));
        assert_eq!(from("monthsLast12").as_deref(), Some("months_last12"));
        assert_eq!(
            from("hrss.insurance.status.v1").as_deref(),
            Some("hrss_insurance_status_v1")
        );
        assert_eq!(from("insured6of12").as_deref(), Some("insured6of12"));
        assert_eq!(from("12th"), None);
        assert_eq!(from("x\"; DROP TABLE y; --"), None);
        assert_eq!(Ident::new(&"a".repeat(64)), None);
    }

    #[test]
    fn literals_cannot_end_early() {
        assert_eq!(Literal("it's \\ '; --").to_string(), "'it''s \\ ''; --'");
    }
}
