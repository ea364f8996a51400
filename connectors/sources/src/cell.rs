//! One cell of a register, as its file or database holds it, before the mapping gives it a meaning.

use serde_json::Value as Json;

/// What stands in a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Cell {
    /// Nothing, or a database null.
    #[default]
    Empty,
    Text(String),
    /// A number without a text form of its own (a spreadsheet's or JSON's).
    Number(f64),
    Int(i64),
    Bool(bool),
    /// A spreadsheet's date: days since 1899-12-30 (already moved from the 1904 epoch).
    Serial(f64),
    /// A JSON array or object.
    Json(Json),
    /// The cell could not be read; the reason code.
    Fault(&'static str),
}

/// Significant digits of a spreadsheet number. Beyond them binary fractions show through
/// (0.30000000000000004), and an 18-digit number has lost its last digits.
const SIGNIFICANT_DIGITS: usize = 15;

impl Cell {
    /// `true` for a cell that holds nothing but space.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Empty | Self::Json(Json::Null) => true,
            Self::Text(text) => crate::clean::trim(text).is_empty(),
            _ => false,
        }
    }

    /// The cell as text, exactly; the reason code when that would be a guess.
    pub fn text(&self) -> Result<std::borrow::Cow<'_, str>, &'static str> {
        use std::borrow::Cow;
        match self {
            Self::Empty => Ok(Cow::Borrowed("")),
            Self::Text(text) => Ok(Cow::Borrowed(text)),
            Self::Int(number) => Ok(Cow::Owned(number.to_string())),
            Self::Number(number) => number_text(*number)
                .map(Cow::Owned)
                .ok_or("NUMBER_IMPRECISE"),
            Self::Bool(true) => Ok(Cow::Borrowed("true")),
            Self::Bool(false) => Ok(Cow::Borrowed("false")),
            Self::Serial(_) => Err("CELL_IS_DATE"),
            Self::Json(_) => Err("CELL_IS_NESTED"),
            Self::Fault(code) => Err(code),
        }
    }

    /// For the rejects file: what a person would look for in the register.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Number(number) | Self::Serial(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Json(value) => value.to_string(),
            Self::Fault(code) => format!("<{code}>"),
        }
    }
}

/// A number as a spreadsheet shows it: at most 15 significant digits, no exponent. `None` when the
/// whole part alone needs more (an identity number typed as a number has already lost its end).
fn number_text(number: f64) -> Option<String> {
    if !number.is_finite() || number.abs() >= 1e15 {
        return None;
    }
    if number == number.trunc() {
        return Some(format!("{number:.0}"));
    }
    let whole_digits = format!("{:.0}", number.abs().trunc()).len();
    let places =
        SIGNIFICANT_DIGITS.saturating_sub(if number.abs() < 1.0 { 0 } else { whole_digits });
    let text = format!("{number:.places$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    Some(if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_a_spreadsheet_shows_them() {
        for (number, text) in [
            (3.0, "3"),
            (89.5, "89.5"),
            (0.1 + 0.2, "0.3"),
            (-0.25, "-0.25"),
            (123_456.789, "123456.789"),
            (0.0, "0"),
            (-0.0, "-0"),
        ] {
            let shown = Cell::Number(number).text().unwrap().into_owned();
            assert_eq!(
                shown.trim_start_matches('-'),
                text.trim_start_matches('-'),
                "{number}"
            );
        }
    }

    #[test]
    fn an_identity_number_typed_as_a_number_is_not_guessed() {
        assert_eq!(
            Cell::Number(1.1010519491231e17).text(),
            Err("NUMBER_IMPRECISE")
        );
        assert_eq!(Cell::Number(f64::NAN).text(), Err("NUMBER_IMPRECISE"));
    }
}
