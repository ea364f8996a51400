//! The citizen identity number (公民身份号码, GB 11643-1999): 6 digits of region, 8 of birth date,
//! 3 of sequence and a check character by ISO 7064 MOD 11-2.
//!
//! It has no `Display`, and `Debug` hides it: a number can't slip into a log line by accident.

use std::fmt;

use thiserror::Error;

/// Characters of a number.
pub const ID_LENGTH: usize = 18;
/// Longest input looked at, in bytes: full-width digits take three bytes each, and people type spaces.
pub const ID_INPUT_MAX_BYTES: usize = 128;
/// Length of the numbers issued before 1999-10-01. They have no check character, so they are refused
/// rather than guessed into the new form.
const OLD_ID_LENGTH: usize = 15;

const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
const CHECK: [u8; 11] = *b"10X98765432";
const FIRST_BIRTH_YEAR: i32 = 1800;
const LAST_BIRTH_YEAR: i32 = 2199;

/// A citizen identity number whose form, birth date and check character hold.
///
/// Whether the number was ever issued, and to whom, only the register knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdNumber([u8; ID_LENGTH]);

/// Why a text is no identity number. Never carries the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdFault {
    #[error("no identity number was given")]
    Empty,
    #[error("an identity number has 18 characters")]
    Length,
    #[error("a 15-digit number of the old form has no check character")]
    OldForm,
    #[error("an identity number has 17 digits and a digit or X")]
    Character,
    #[error("the birth date in the number is no date")]
    BirthDate,
    #[error("the check character does not fit the digits")]
    Check,
}

impl IdFault {
    /// The reason code; its texts are in `schemas/reasons.yaml`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "ID_EMPTY",
            Self::Length => "ID_LENGTH",
            Self::OldForm => "ID_OLD_FORM",
            Self::Character => "ID_CHARACTER",
            Self::BirthDate => "ID_BIRTH_DATE",
            Self::Check => "ID_CHECK",
        }
    }
}

impl IdNumber {
    /// Reads a number as registers and people write it. What is safe is normalised: spaces around it,
    /// full-width digits and letters (U+FF10…), a lower-case `x`. Everything else is refused.
    pub fn parse(text: &str) -> Result<Self, IdFault> {
        if text.len() > ID_INPUT_MAX_BYTES {
            return Err(IdFault::Length);
        }
        // `char::is_whitespace` covers U+3000; the others are what spreadsheets leave behind.
        let text =
            text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}'));
        if text.is_empty() {
            return Err(IdFault::Empty);
        }
        let mut number = [0_u8; ID_LENGTH];
        let mut length = 0_usize;
        for character in text.chars() {
            let Some(place) = number.get_mut(length) else {
                return Err(IdFault::Length);
            };
            *place = narrow(character).ok_or(IdFault::Character)?;
            length += 1;
        }
        if length == OLD_ID_LENGTH && number.iter().take(length).all(u8::is_ascii_digit) {
            return Err(IdFault::OldForm);
        }
        if length != ID_LENGTH {
            return Err(IdFault::Length);
        }
        let mut sum = 0_u32;
        for (digit, weight) in number.iter().zip(WEIGHTS) {
            if !digit.is_ascii_digit() {
                return Err(IdFault::Character);
            }
            sum += u32::from(digit - b'0') * weight;
        }
        if number[0] == b'0' {
            return Err(IdFault::Character);
        }
        let part = |from: usize, to: usize| {
            number[from..to].iter().fold(0_u32, |value, digit| {
                value * 10 + u32::from(digit.wrapping_sub(b'0'))
            })
        };
        let year = i32::try_from(part(6, 10)).map_err(|_| IdFault::BirthDate)?;
        let is_date = chrono::NaiveDate::from_ymd_opt(year, part(10, 12), part(12, 14)).is_some();
        if !is_date || !(FIRST_BIRTH_YEAR..=LAST_BIRTH_YEAR).contains(&year) {
            return Err(IdFault::BirthDate);
        }
        if number[17] != CHECK[(sum % 11) as usize] {
            return Err(IdFault::Check);
        }
        Ok(Self(number))
    }

    /// The 18 normalised characters. Only for what must have the number itself: keyed tags, the seal's
    /// subject leaf, a query to the register. Never for keys, logs, metrics, URLs or error texts.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII digits and X ever get in; the empty text can't be reached.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; ID_LENGTH] {
        &self.0
    }

    /// The birth date in the number.
    #[must_use]
    pub fn birth_date(&self) -> Option<chrono::NaiveDate> {
        chrono::NaiveDate::parse_from_str(&self.as_str()[6..14], "%Y%m%d").ok()
    }
}

impl fmt::Debug for IdNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdNumber(hidden)")
    }
}

/// The ASCII form of a digit or an X, narrow or full-width.
fn narrow(character: char) -> Option<u8> {
    match character {
        '0'..='9' => u8::try_from(character).ok(),
        'X' | 'x' | '\u{ff38}' | '\u{ff58}' => Some(b'X'),
        '\u{ff10}'..='\u{ff19}' => u8::try_from(u32::from(character) - 0xff10)
            .ok()
            .map(|digit| digit + b'0'),
        _ => None,
    }
}

/// The check character of 17 digits; for those who make synthetic numbers.
#[must_use]
pub fn check_character(first_17: &[u8; 17]) -> Option<u8> {
    let mut sum = 0_u32;
    for (digit, weight) in first_17.iter().zip(WEIGHTS) {
        if !digit.is_ascii_digit() {
            return None;
        }
        sum += u32::from(digit - b'0') * weight;
    }
    Some(CHECK[(sum % 11) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers printed in the standard and in public teaching material.
    const GOOD: [&str; 4] = [
        "11010519491231002X",
        "440524188001010014",
        "34052419800101001X",
        "513101198201130014",
    ];

    #[test]
    fn the_published_examples_hold() {
        for text in GOOD {
            assert_eq!(IdNumber::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_is_safe_is_normalised_and_nothing_else() {
        let wide: String = "11010519491231002x"
            .chars()
            .map(|c| char::from_u32(u32::from(c) - 0x20 + 0xff00).unwrap())
            .collect();
        for text in [
            "11010519491231002x",
            " 11010519491231002X\t",
            "\u{feff}11010519491231002X\u{3000}",
            wide.as_str(),
        ] {
            assert_eq!(
                IdNumber::parse(text).unwrap().as_str(),
                "11010519491231002X"
            );
        }
        for (text, fault) in [
            ("", IdFault::Empty),
            ("  \u{3000}", IdFault::Empty),
            ("110105491231002", IdFault::OldForm),
            ("1101051949123100", IdFault::Length),
            ("11010519491231002X1", IdFault::Length),
            ("110105194912310021", IdFault::Check),
            ("11010519491331002X", IdFault::BirthDate),
            ("110105194902300021", IdFault::BirthDate),
            ("1101051949X231002X", IdFault::Character),
            ("11010519491231 02X", IdFault::Character),
            ("11010519491231००2X", IdFault::Character),
            ("1101051949\u{0}231002X", IdFault::Character),
        ] {
            assert_eq!(IdNumber::parse(text), Err(fault), "{text:?}");
        }
        assert_eq!(
            IdNumber::parse(&"1".repeat(10_000_000)),
            Err(IdFault::Length)
        );
    }

    #[test]
    fn neither_debug_nor_an_error_shows_the_number() {
        let shown = format!("{:?}", IdNumber::parse(GOOD[0]).unwrap());
        assert!(!shown.contains("110105") && !shown.contains("1949"));
        let shown = format!(
            "{:?} {0}",
            IdNumber::parse("110105194912310021").unwrap_err()
        );
        assert!(!shown.contains("110105"));
    }

    proptest! {
        /// One wrong digit, or two neighbours exchanged, is always seen: that is what the check is for.
        #[test]
        fn one_mistake_is_always_seen(number in 0_usize..4, place in 0_usize..18, digit in 0_u8..10) {
            let good = GOOD[number];
            let mut bytes = good.as_bytes().to_vec();
            bytes[place] = b'0' + digit;
            let changed = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(IdNumber::parse(&changed).is_ok(), changed == good);
        }

        #[test]
        fn any_text_is_answered(text in ".{0,64}") {
            if let Ok(number) = IdNumber::parse(&text) {
                prop_assert_eq!(IdNumber::parse(number.as_str()), Ok(number));
            }
        }
    }
}
