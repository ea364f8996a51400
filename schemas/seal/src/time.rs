//! Dates and timestamps as text, without a clock and without a time zone.

const MILLIS_PER_DAY: i64 = 86_400_000;

/// Proleptic Gregorian (year, month, day) of a day number (days since 1970-01-01).
/// Howard Hinnant's civil_from_days.
pub(crate) fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_index + 2) / 5 + 1) as u32;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// `YYYY-MM-DD`.
pub fn date_text(days: i32) -> String {
    let (year, month, day) = civil(i64::from(days));
    format!("{year:04}-{month:02}-{day:02}")
}

/// RFC 3339 in UTC with milliseconds: `2025-03-01T08:30:00.000Z`, always 24 characters
/// for years 0 to 9999.
pub fn timestamp_text(millis: i64) -> String {
    let mut out = String::with_capacity(24);
    write_timestamp(millis, &mut out);
    out
}

pub(crate) fn write_timestamp(millis: i64, out: &mut String) {
    use std::fmt::Write;
    let (year, month, day) = civil(millis.div_euclid(MILLIS_PER_DAY));
    let rest = millis.rem_euclid(MILLIS_PER_DAY);
    let (hour, minute, second, milli) = (
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1000 % 60,
        rest % 1000,
    );
    // Writing to a String can't fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
    );
}
