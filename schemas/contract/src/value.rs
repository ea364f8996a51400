//! The values that expressions see, and the calendar arithmetic they need.

use std::borrow::Cow;
use std::cmp::Ordering;

use chrono::{Datelike, NaiveDate};

/// A value read from an event, a fact or an expression's text.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Str(Cow<'a, str>),
    /// Index of an enum's symbol in its schema.
    Symbol(u32),
    /// Days since 1970-01-01.
    Date(i32),
    /// Milliseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
    Decimal(Decimal),
    /// An array or map: expressions may only ask for its size.
    Size(u64),
    /// Something an expression can't use: bytes, a record.
    Opaque,
}

impl Value<'_> {
    #[must_use]
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(v) => Value::Bool(v),
            Self::Int(v) => Value::Int(v),
            Self::Double(v) => Value::Double(v),
            Self::Str(v) => Value::Str(Cow::Owned(v.into_owned())),
            Self::Symbol(v) => Value::Symbol(v),
            Self::Date(v) => Value::Date(v),
            Self::Timestamp(v) => Value::Timestamp(v),
            Self::Decimal(v) => Value::Decimal(v),
            Self::Size(v) => Value::Size(v),
            Self::Opaque => Value::Opaque,
        }
    }
}

/// An exact decimal: `unscaled · 10^-scale`. 89.50 is not 89.5 as a schema, but is equal as a value.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    pub unscaled: i128,
    pub scale: u32,
}

impl Decimal {
    /// Digits after the point that a decimal may have.
    pub const MAX_SCALE: u32 = 18;

    /// Reads `-12.50`; no exponent.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let scale = u32::try_from(fraction.len())
            .ok()
            .filter(|&s| s <= Self::MAX_SCALE)?;
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        if digits.is_empty()
            || !digits
                .bytes()
                .chain(fraction.bytes())
                .all(|b| b.is_ascii_digit())
        {
            return None;
        }
        Some(Self {
            unscaled: format!("{whole}{fraction}").parse().ok()?,
            scale,
        })
    }

    /// `None` when aligning the scales overflows.
    #[must_use]
    pub fn compare(self, other: Self) -> Option<Ordering> {
        let scale = self.scale.max(other.scale);
        let align = |d: Self| {
            d.unscaled
                .checked_mul(10_i128.checked_pow(scale - d.scale)?)
        };
        Some(align(self)?.cmp(&align(other)?))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.compare(*other) == Some(Ordering::Equal)
    }
}

/// China keeps one time zone and no summer time.
const BEIJING_OFFSET_MS: i64 = 8 * 3_600_000;
const DAY_MS: i64 = 86_400_000;

/// The moment that an expression is evaluated for; given by the caller, never read from the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// `today` in Beijing, in days since 1970-01-01.
    pub today: i32,
}

impl Moment {
    /// From milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn at_ms(ms: i64) -> Self {
        let days = ms.saturating_add(BEIJING_OFFSET_MS).div_euclid(DAY_MS);
        Self {
            today: i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX }),
        }
    }

    #[must_use]
    pub fn on(day: NaiveDate) -> Self {
        Self {
            today: days_of(day),
        }
    }

    /// The day in Beijing; `None` beyond the calendar that chrono knows.
    #[must_use]
    pub fn day(self) -> Option<NaiveDate> {
        date_of(self.today)
    }
}

#[must_use]
pub fn days_of(day: NaiveDate) -> i32 {
    day.to_epoch_days()
}

#[must_use]
pub fn date_of(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_epoch_days(days)
}

/// `YYYY-MM-DD`; a number of days that is no date is written as a number.
#[must_use]
pub fn date_text(days: i32) -> String {
    date_of(days).map_or_else(
        || days.to_string(),
        |day| day.format("%Y-%m-%d").to_string(),
    )
}

/// Reads `YYYY-MM-DD`, nothing looser.
#[must_use]
pub fn parse_date(text: &str) -> Option<NaiveDate> {
    if text.len() != 10 {
        return None;
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
}

/// Whole months from `from` to `to`; negative when `to` is earlier. The 31st counts as reached on a
/// shorter month's last day.
#[must_use]
pub fn months_between(from: i32, to: i32) -> Option<i64> {
    if from > to {
        return months_between(to, from).map(|months| -months);
    }
    let (from, to) = (date_of(from)?, date_of(to)?);
    let months =
        i64::from(to.year() - from.year()) * 12 + i64::from(to.month()) - i64::from(from.month());
    let last_day = u32::from(to.num_days_in_month());
    Some(if to.day() < from.day().min(last_day) {
        months - 1
    } else {
        months
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> i32 {
        days_of(parse_date(text).unwrap())
    }

    #[test]
    fn months_are_whole() {
        for (from, to, months) in [
            ("2025-05-31", "2025-11-30", 6),
            ("2025-05-31", "2025-11-29", 5),
            ("2025-05-15", "2025-11-14", 5),
            ("2025-05-15", "2025-11-15", 6),
            ("2024-02-29", "2025-02-28", 12),
            ("2025-11-15", "2025-05-15", -6),
            ("2025-11-15", "2025-11-15", 0),
        ] {
            assert_eq!(
                months_between(day(from), day(to)),
                Some(months),
                "{from} {to}"
            );
        }
        assert_eq!(months_between(i32::MIN, i32::MAX), None);
    }

    #[test]
    fn a_day_begins_in_beijing() {
        let midnight = i64::from(day("2026-11-23")) * DAY_MS - BEIJING_OFFSET_MS;
        assert_eq!(Moment::at_ms(midnight).today, day("2026-11-23"));
        assert_eq!(Moment::at_ms(midnight - 1).today, day("2026-11-22"));
        assert!(Moment::at_ms(i64::MAX).day().is_none());
        assert!(Moment::at_ms(i64::MIN).day().is_none());
    }

    #[test]
    fn decimals_compare_exactly() {
        let d = |text: &str| Decimal::parse(text).unwrap();
        assert_eq!(d("89.50"), d("89.5"));
        assert_eq!(
            d("0.1").compare(d("0.10000000000000001")),
            Some(Ordering::Less)
        );
        assert_eq!(d("-0.05").unscaled, -5);
        for wrong in ["", "-", "1e3", "1.2.3", "+1", ".5", "1.2345678901234567890"] {
            assert!(Decimal::parse(wrong).is_none(), "{wrong}");
        }
    }
}
