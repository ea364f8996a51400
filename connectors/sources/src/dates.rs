//! Dates and times as registers write them, by patterns that the mapping states. Nothing is tried
//! that was not stated: 03/04/2023 means two days.

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime};

/// Days from 1899-12-30 (a spreadsheet's day 0) to 1970-01-01.
const SERIAL_OF_EPOCH: f64 = 25_569.0;
const MS_PER_DAY: f64 = 86_400_000.0;
/// Dates outside these years are slips of the pen, not facts about living people's papers.
const FIRST_YEAR: i32 = 1850;
const LAST_YEAR: i32 = 2199;

/// One part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Year,
    Month { fixed: bool },
    Day { fixed: bool },
    Hour,
    Minute,
    Second,
    Literal(char),
}

/// A stated way to write a date or a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatePattern {
    /// `yyyy-MM-dd`, `yyyy年M月d日`, `yyyyMMdd`, `yyyy-MM-dd HH:mm:ss` …
    Parts(PatternParts),
    /// A spreadsheet's serial day in a text or number cell.
    Excel,
    /// RFC 3339 with an offset, `2026-11-20T09:30:00+08:00`.
    Rfc3339,
}

/// A pattern taken apart; made by [`DatePattern::parse`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternParts(Vec<Part>);

impl DatePattern {
    /// Reads a pattern: `yyyy`, `MM` or `M`, `dd` or `d`, `HH`, `mm`, `ss`, and literals; or `excel`,
    /// or `rfc3339`. Year, month and day must all be there, once, and a part of one or two digits
    /// must be followed by a literal: `yyyyMd` could mean two days.
    pub fn parse(pattern: &str) -> Result<Self, &'static str> {
        match pattern {
            "excel" => return Ok(Self::Excel),
            "rfc3339" => return Ok(Self::Rfc3339),
            _ => {}
        }
        let mut parts = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            if !matches!(c, 'y' | 'M' | 'd' | 'H' | 'm' | 's') {
                if c.is_ascii_alphanumeric() {
                    return Err("letters are yyyy, MM, M, dd, d, HH, mm, ss");
                }
                parts.push(Part::Literal(c));
                continue;
            }
            let mut count = 1;
            while chars.next_if_eq(&c).is_some() {
                count += 1;
            }
            parts.push(match (c, count) {
                ('y', 4) => Part::Year,
                ('M', 1 | 2) => Part::Month { fixed: count == 2 },
                ('d', 1 | 2) => Part::Day { fixed: count == 2 },
                ('H', 2) => Part::Hour,
                ('m', 2) => Part::Minute,
                ('s', 2) => Part::Second,
                _ => return Err("letters are yyyy, MM, M, dd, d, HH, mm, ss"),
            });
        }
        let count = |wanted: fn(&Part) -> bool| parts.iter().filter(|part| wanted(part)).count();
        if count(|p| matches!(p, Part::Year)) != 1
            || count(|p| matches!(p, Part::Month { .. })) != 1
            || count(|p| matches!(p, Part::Day { .. })) != 1
            || count(|p| matches!(p, Part::Hour)) > 1
            || count(|p| matches!(p, Part::Minute)) > 1
            || count(|p| matches!(p, Part::Second)) > 1
        {
            return Err("year, month and day must stand in it once");
        }
        let open = |part: &Part| {
            matches!(
                part,
                Part::Month { fixed: false } | Part::Day { fixed: false }
            )
        };
        let digit_follows =
            |next: Option<&Part>| next.is_some_and(|part| !matches!(part, Part::Literal(_)));
        if parts
            .iter()
            .enumerate()
            .any(|(i, part)| open(part) && digit_follows(parts.get(i + 1)))
        {
            return Err("M and d need a separator after them: yyyyMd could mean two days");
        }
        Ok(Self::Parts(PatternParts(parts)))
    }

    /// Whether the pattern tells a time of day.
    #[must_use]
    pub fn has_time(&self) -> bool {
        match self {
            Self::Parts(PatternParts(parts)) => parts.iter().any(|part| matches!(part, Part::Hour)),
            Self::Excel => false,
            Self::Rfc3339 => true,
        }
    }
}

/// Why a text is no date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateFault {
    /// No stated pattern fits.
    Pattern,
    /// A pattern fits, but there is no such day (or not in a year that can be meant).
    Impossible,
}

impl DateFault {
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Pattern => "DATE_PATTERN",
            Self::Impossible => "DATE_IMPOSSIBLE",
        }
    }
}

/// Reads a text by the first pattern whose form fits. `offset_s` is the register's clock, seconds
/// east of UTC; RFC 3339 brings its own.
pub fn read(
    text: &str,
    patterns: &[DatePattern],
    offset_s: i32,
) -> Result<NaiveDateTime, DateFault> {
    for pattern in patterns {
        match pattern {
            DatePattern::Parts(PatternParts(parts)) => {
                if let Some(numbers) = scan(parts, text) {
                    return numbers.build().ok_or(DateFault::Impossible);
                }
            }
            DatePattern::Excel => {
                if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
                    let serial = text.parse().map_err(|_| DateFault::Pattern)?;
                    return from_serial(serial);
                }
            }
            DatePattern::Rfc3339 => {
                if let Ok(at) = chrono::DateTime::parse_from_rfc3339(text) {
                    let local = at.naive_utc() + chrono::TimeDelta::seconds(i64::from(offset_s));
                    return in_years(local).ok_or(DateFault::Impossible);
                }
                if looks_like_rfc3339(text) {
                    return Err(DateFault::Impossible);
                }
            }
        }
    }
    Err(DateFault::Pattern)
}

/// `2026-02-30T…`: the form fits, the day does not exist.
fn looks_like_rfc3339(text: &str) -> bool {
    let b = text.as_bytes();
    b.len() >= 20
        && b.iter().take(10).enumerate().all(|(i, c)| {
            if i == 4 || i == 7 {
                *c == b'-'
            } else {
                c.is_ascii_digit()
            }
        })
        && matches!(b.get(10), Some(b'T' | b't' | b' '))
}

/// A spreadsheet's serial day. Days 0 to 60 are refused: 1900-02-29 is one of them.
pub fn from_serial(serial: f64) -> Result<NaiveDateTime, DateFault> {
    if !(61.0..=109_940.0).contains(&serial) {
        return Err(DateFault::Impossible);
    }
    // In range: below 1e13.
    let ms = ((serial - SERIAL_OF_EPOCH) * MS_PER_DAY).round() as i64;
    let at = chrono::DateTime::from_timestamp_millis(ms).ok_or(DateFault::Impossible)?;
    in_years(at.naive_utc()).ok_or(DateFault::Impossible)
}

/// Days since 1970-01-01, Avro's `date`.
#[must_use]
pub fn epoch_days(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - 719_163
}

/// Milliseconds since 1970-01-01 UTC of a local time, Avro's `timestamp-millis`.
#[must_use]
pub fn epoch_ms(local: NaiveDateTime, offset_s: i32) -> i64 {
    local.and_utc().timestamp_millis() - i64::from(offset_s) * 1000
}

fn in_years(at: NaiveDateTime) -> Option<NaiveDateTime> {
    (FIRST_YEAR..=LAST_YEAR).contains(&at.year()).then_some(at)
}

#[derive(Default)]
struct Numbers {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

impl Numbers {
    fn build(&self) -> Option<NaiveDateTime> {
        let date = NaiveDate::from_ymd_opt(i32::try_from(self.year).ok()?, self.month, self.day)?;
        let time = NaiveTime::from_hms_opt(self.hour, self.minute, self.second)?;
        in_years(date.and_time(time))
    }
}

/// The numbers of a text that has the pattern's form, to its last character.
fn scan(parts: &[Part], text: &str) -> Option<Numbers> {
    let mut numbers = Numbers::default();
    let mut rest = text;
    for part in parts {
        let (place, least, most) = match part {
            Part::Literal(c) => {
                rest = rest.strip_prefix(*c)?;
                continue;
            }
            Part::Year => (&mut numbers.year, 4, 4),
            Part::Month { fixed } => (&mut numbers.month, if *fixed { 2 } else { 1 }, 2),
            Part::Day { fixed } => (&mut numbers.day, if *fixed { 2 } else { 1 }, 2),
            Part::Hour => (&mut numbers.hour, 2, 2),
            Part::Minute => (&mut numbers.minute, 2, 2),
            Part::Second => (&mut numbers.second, 2, 2),
        };
        let digits = rest
            .bytes()
            .take(most)
            .take_while(u8::is_ascii_digit)
            .count();
        if digits < least {
            return None;
        }
        let (head, tail) = rest.split_at(digits);
        *place = head.parse().ok()?;
        rest = tail;
    }
    rest.is_empty().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn patterns(texts: &[&str]) -> Vec<DatePattern> {
        texts
            .iter()
            .map(|text| DatePattern::parse(text).unwrap())
            .collect()
    }

    fn day(text: &str, stated: &[&str]) -> Result<String, DateFault> {
        read(text, &patterns(stated), 8 * 3600).map(|at| at.date().to_string())
    }

    #[test]
    fn the_ways_registers_write_a_day() {
        for (text, stated) in [
            ("2023年8月1日", "yyyy年M月d日"),
            ("2023年08月01日", "yyyy年M月d日"),
            ("20230801", "yyyyMMdd"),
            ("2023-08-01", "yyyy-MM-dd"),
            ("2023/8/1", "yyyy/M/d"),
            ("01.08.2023", "dd.MM.yyyy"),
            ("45139", "excel"),
            ("2023-08-01 23:59:59", "yyyy-MM-dd HH:mm:ss"),
            ("2023-07-31T16:00:00Z", "rfc3339"),
        ] {
            assert_eq!(day(text, &[stated]), Ok("2023-08-01".into()), "{text}");
        }
    }

    #[test]
    fn impossible_days_and_strange_forms_are_told_apart() {
        assert_eq!(
            day("2023-02-30", &["yyyy-MM-dd"]),
            Err(DateFault::Impossible)
        );
        assert_eq!(
            day("20190230", &["yyyy-MM-dd", "yyyyMMdd"]),
            Err(DateFault::Impossible)
        );
        assert_eq!(
            day("2026-02-30T09:00:00+08:00", &["rfc3339"]),
            Err(DateFault::Impossible)
        );
        assert_eq!(
            day("0023-08-01", &["yyyy-MM-dd"]),
            Err(DateFault::Impossible)
        );
        assert_eq!(day("60", &["excel"]), Err(DateFault::Impossible));
        assert_eq!(day("08/01/2023", &["yyyy-MM-dd"]), Err(DateFault::Pattern));
        assert_eq!(day("2023-08-01x", &["yyyy-MM-dd"]), Err(DateFault::Pattern));
        assert_eq!(day("", &["excel", "yyyyMMdd"]), Err(DateFault::Pattern));
        assert_eq!(day("1e9", &["excel"]), Err(DateFault::Pattern));
    }

    #[test]
    fn a_pattern_that_could_mean_two_days_is_refused() {
        for bad in [
            "yyyyMd",
            "yyyyM",
            "yyyy-MM-dd-dd",
            "yy-MM-dd",
            "yyyy-MMM-dd",
            "DD.MM.YYYY",
            "",
        ] {
            assert!(DatePattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn days_count_from_1970() {
        assert_eq!(epoch_days(NaiveDate::from_ymd_opt(1970, 1, 1).unwrap()), 0);
        assert_eq!(
            epoch_days(NaiveDate::from_ymd_opt(2000, 3, 1).unwrap()),
            11_017
        );
        let midnight = NaiveDate::from_ymd_opt(1970, 1, 1)
            .unwrap()
            .and_time(NaiveTime::MIN);
        assert_eq!(epoch_ms(midnight, 8 * 3600), -28_800_000);
    }

    proptest! {
        /// What a pattern writes it reads back, and reading any text never panics.
        #[test]
        fn every_day_survives(days in -43_000i32..80_000, which in 0usize..3) {
            let date = NaiveDate::from_num_days_from_ce_opt(days + 719_163).unwrap();
            let (pattern, text) = [
                ("yyyy-MM-dd", date.format("%Y-%m-%d").to_string()),
                ("yyyy年M月d日", date.format("%Y年%-m月%-d日").to_string()),
                ("yyyyMMdd", date.format("%Y%m%d").to_string()),
            ][which].clone();
            let read = read(&text, &patterns(&[pattern]), 0).unwrap();
            prop_assert_eq!(epoch_days(read.date()), days);
        }

        #[test]
        fn any_text_is_answered(text in ".{0,30}") {
            let _ = read(&text, &patterns(&["yyyy-M-d", "yyyyMMdd", "excel", "rfc3339"]), 0);
        }
    }
}
