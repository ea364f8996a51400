//! Whole and decimal numbers, exactly as written. Nothing is rounded, nothing passes through a float.

/// Digits of the largest decimal that is read (i128 holds 38).
const MAX_DIGITS: usize = 38;

/// A whole number: an optional sign and digits.
pub fn whole(text: &str) -> Result<i64, &'static str> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    // "12.0" is what a spreadsheet or a database makes of 12.
    let (digits, zeros) = digits.split_once('.').unwrap_or((digits, ""));
    if digits.is_empty()
        || !digits.bytes().all(|b| b.is_ascii_digit())
        || !zeros.bytes().all(|b| b == b'0')
    {
        return Err("NUMBER_FORM");
    }
    let negative = text.starts_with('-');
    let value: i64 = format!("{}{digits}", if negative { "-" } else { "" })
        .parse()
        .map_err(|_| "NUMBER_RANGE")?;
    Ok(value)
}

/// A decimal with exactly `scale` places as its unscaled integer; at most `precision` digits. More
/// places than `scale` are refused unless they are zeros: 89.505 is not 89.50.
pub fn decimal(text: &str, precision: u32, scale: u32) -> Result<i128, &'static str> {
    let negative = text.starts_with('-');
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, places) = body.split_once('.').unwrap_or((body, ""));
    if whole.is_empty()
        || !whole
            .bytes()
            .chain(places.bytes())
            .all(|b| b.is_ascii_digit())
    {
        return Err("NUMBER_FORM");
    }
    if body.ends_with('.') {
        return Err("NUMBER_FORM");
    }
    let scale = scale as usize;
    let (kept, lost) = places.split_at(places.len().min(scale));
    if lost.bytes().any(|b| b != b'0') {
        return Err("DECIMAL_SCALE");
    }
    let mut digits = String::with_capacity(whole.len() + scale);
    digits.push_str(whole.trim_start_matches('0'));
    digits.push_str(kept);
    digits.extend(std::iter::repeat_n('0', scale - kept.len()));
    let significant = digits.trim_start_matches('0');
    if significant.len() > (precision as usize).min(MAX_DIGITS) {
        return Err("NUMBER_RANGE");
    }
    let value: i128 = if significant.is_empty() {
        0
    } else {
        significant.parse().map_err(|_| "NUMBER_RANGE")?
    };
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(decimal("89.50", 12, 2), Ok(8950));
        assert_eq!(decimal("89.5", 12, 2), Ok(8950));
        assert_eq!(decimal("89.500", 12, 2), Ok(8950));
        assert_eq!(decimal("-0.01", 12, 2), Ok(-1));
        assert_eq!(decimal("89.505", 12, 2), Err("DECIMAL_SCALE"));
        assert_eq!(decimal("12345678901.00", 12, 2), Err("NUMBER_RANGE"));
        for bad in [
            "", ".", "1.", ".5", "1e3", "1,000", "0x10", "一", "--1", "1 2",
        ] {
            assert_eq!(decimal(bad, 12, 2), Err("NUMBER_FORM"), "{bad}");
        }
    }

    #[test]
    fn whole_numbers() {
        assert_eq!(whole("-12"), Ok(-12));
        assert_eq!(whole("12.0"), Ok(12));
        assert_eq!(whole("9223372036854775808"), Err("NUMBER_RANGE"));
        for bad in ["", "1.5", "1e3", "-", "１２"] {
            assert_eq!(whole(bad), Err("NUMBER_FORM"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_decimal_survives(unscaled in -999_999_999_999i128..999_999_999_999, scale in 0u32..6) {
            let divisor = 10i128.pow(scale);
            let (whole, places) = (unscaled.abs() / divisor, unscaled.abs() % divisor);
            let sign = if unscaled < 0 { "-" } else { "" };
            let text = if scale == 0 { format!("{sign}{whole}") }
                else { format!("{sign}{whole}.{places:0width$}", width = scale as usize) };
            prop_assert_eq!(decimal(&text, 38, scale), Ok(unscaled));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,60}", scale in 0u32..40) {
            let _ = decimal(&text, 12, scale);
            let _ = whole(&text);
        }
    }
}
