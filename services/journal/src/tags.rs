//! Keyed tags: who and what a record is about, without saying it. Each is a different type, so
//! that a consumer's pseudonym can't end up where the bus's own tag belongs.
//!
//! A tag is still personal information in law (PIPL Art. 4 and 73). `Debug` prints four bytes of it.

use std::fmt;

/// Length in bytes of every tag.
pub const TAG_BYTES: usize = 16;

macro_rules! tag {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; TAG_BYTES]);

        impl $name {
            pub const fn as_bytes(&self) -> &[u8; TAG_BYTES] {
                &self.0
            }

            /// All 32 hexadecimal digits: for an answer to an auditor, never for a log line.
            pub fn hex(&self) -> String {
                hex(&self.0)
            }

            /// The inverse of [`Self::hex`].
            pub fn from_hex(text: &str) -> Option<Self> {
                unhex(text).map(Self)
            }
        }

        impl From<[u8; TAG_BYTES]> for $name {
            fn from(bytes: [u8; TAG_BYTES]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, d, ..] = self.0;
                write!(f, "{}({a:02x}{b:02x}{c:02x}{d:02x}…)", stringify!($name))
            }
        }
    };
}

tag!(
    /// A person in the bus's own topics: HMAC under the bus subject key.
    SubjectTag
);
tag!(
    /// A person as one consumer knows them for one purpose: HMAC under that pair's pseudonym key.
    Pseudonym
);
tag!(
    /// One record of one register. On `to.*` it is keyed per consumer and purpose; in the audit
    /// log it is the bus's own.
    RecordTag
);
tag!(
    /// A consent or a case. A case's id is derived from what opened it, so opening twice is
    /// opening once.
    GrantId
);
tag!(
    /// One order to a gateway slot: a withdrawal, or that there is nothing to withdraw.
    OrderId
);

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn unhex(text: &str) -> Option<[u8; TAG_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != TAG_BYTES * 2 {
        return None;
    }
    let mut bytes = [0; TAG_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_comes_back_and_debug_hides() {
        let tag = SubjectTag([0xab; 16]);
        assert_eq!(SubjectTag::from_hex(&tag.hex()), Some(tag));
        assert_eq!(SubjectTag::from_hex("ab"), None);
        assert_eq!(SubjectTag::from_hex(&"é".repeat(16)), None);
        assert_eq!(format!("{tag:?}"), "SubjectTag(abababab…)");
    }
}
