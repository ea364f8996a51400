//! What people may write into records that are kept for good: reasons, operator ids. No identity number
//! may get there, however it is spaced or typed.

use crate::id_number::IdNumber;

/// Longest operator id, bytes.
pub const MAX_OPERATOR_BYTES: usize = 64;
/// Longest reason an operator may write, bytes.
pub const MAX_REASON_BYTES: usize = 256;

/// Why a text may not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsFault {
    #[error("the text is empty, too long or holds characters that it may not")]
    Form,
    #[error("the text holds an identity number")]
    HoldsNumber,
}

/// An operator id names an employee in the department's own directory: letters, digits and `.-_@`,
/// never a citizen's number.
pub fn check_operator(operator: &str) -> Result<(), WordsFault> {
    let plain = operator
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'@'));
    if operator.is_empty() || operator.len() > MAX_OPERATOR_BYTES || !plain {
        return Err(WordsFault::Form);
    }
    refuse_number(operator)
}

/// A reason, a file number, a session: 1 to `longest` bytes, no control characters, no number.
pub fn check_text(text: &str, longest: usize) -> Result<(), WordsFault> {
    if text.trim().is_empty() || text.len() > longest || text.chars().any(char::is_control) {
        return Err(WordsFault::Form);
    }
    refuse_number(text)
}

fn refuse_number(text: &str) -> Result<(), WordsFault> {
    let kept: Vec<char> = text
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '-' | '_' | '.' | '/'))
        .collect();
    let found = kept.windows(18).any(|window| {
        let candidate: String = window.iter().collect();
        IdNumber::parse(&candidate).is_ok()
    });
    if found {
        Err(WordsFault::HoldsNumber)
    } else {
        Ok(())
    }
}
