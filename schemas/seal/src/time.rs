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

/// RFC 3339 in UTC with milliseconds: `2025-03-01T08:30:00.000Z`.
pub fn timestamp_text(millis: i64) -> String {
    if (0..=crate::meta::MAX_TIME_MS).contains(&millis) {
        return String::from_utf8_lossy(&timestamp_bytes(millis)).into_owned();
    }
    let (year, month, day) = civil(millis.div_euclid(MILLIS_PER_DAY));
    let rest = millis.rem_euclid(MILLIS_PER_DAY);
    let (hour, minute, second, milli) = (
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1000 % 60,
        rest % 1000,
    );
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// The same as 24 ASCII bytes, for times that [`crate::meta`] allows (1970 to 9999):
/// compared with a header for every event, so it does not allocate.
pub(crate) fn timestamp_bytes(millis: i64) -> [u8; 24] {
    let (year, month, day) = civil(millis.div_euclid(MILLIS_PER_DAY));
    let rest = millis.rem_euclid(MILLIS_PER_DAY);
    let mut out = *b"0000-00-00T00:00:00.000Z";
    let mut put = |at: usize, width: usize, mut value: i64| {
        for position in (at..at + width).rev() {
            out[position] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year.rem_euclid(10_000));
    put(5, 2, i64::from(month));
    put(8, 2, i64::from(day));
    put(11, 2, rest / 3_600_000);
    put(14, 2, rest / 60_000 % 60);
    put(17, 2, rest / 1000 % 60);
    put(20, 3, rest % 1000);
    out
}
