//! A department: who publishes and who receives. USCC by GB 32100-2015.

use serde::Deserialize;

use crate::keys::PublicKey;
use crate::reasons::Text;

/// What a body is in law. Order 809 Art. 2 and 43 don't presume that courts and unions are government
/// departments; a third party needs the provider's consent (Art. 25) and the person's separate consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Government,
    Authorised,
    StateOrgan,
    Social,
    ThirdParty,
}

/// One body that publishes to the bus or receives from it.
#[derive(Clone, Debug)]
pub struct Department {
    /// Lower-case ASCII; the file's name, the first part of topics and the start of its principals.
    pub id: String,
    pub name: Text,
    pub kind: Kind,
    /// 统一社会信用代码, 18 characters.
    pub uscc: String,
    /// Seal and approval keys; empty until `mianzheng keys` has written them.
    pub keys: Vec<PublicKey>,
}

const USCC_ALPHABET: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
const USCC_LENGTH: usize = 18;

/// Whether a code has 18 characters of the alphabet of GB 32100-2015 and its check character fits:
/// weights 3^(i-1) mod 31, check = (31 - sum mod 31) mod 31.
#[must_use]
pub fn is_uscc(code: &str) -> bool {
    let value = |byte: u8| USCC_ALPHABET.iter().position(|&c| c == byte);
    let bytes = code.as_bytes();
    if bytes.len() != USCC_LENGTH {
        return false;
    }
    let mut sum = 0;
    let mut weight = 1;
    for &byte in &bytes[..USCC_LENGTH - 1] {
        let Some(value) = value(byte) else {
            return false;
        };
        sum += value * weight;
        weight = weight * 3 % 31;
    }
    value(bytes[USCC_LENGTH - 1]) == Some((31 - sum % 31) % 31)
}

#[cfg(test)]
mod tests {
    use super::is_uscc;

    #[test]
    fn the_check_character_is_checked() {
        // 91350100M000100Y43 is the worked example of GB 32100-2015.
        assert!(is_uscc("91350100M000100Y43"));
        for wrong in [
            "91350100M000100Y44",
            "91350100M000100Y4",
            "91350100M000100Y433",
            "91350100m000100y43",
            "",
            "91350100I000100Y43",
        ] {
            assert!(!is_uscc(wrong), "{wrong}");
        }
        for place in 0..17 {
            let mut bytes = b"91350100M000100Y43".to_vec();
            bytes[place] = if bytes[place] == b'7' { b'8' } else { b'7' };
            assert!(!is_uscc(std::str::from_utf8(&bytes).unwrap()), "{place}");
        }
    }
}
