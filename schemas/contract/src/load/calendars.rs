//! `calendars/<name>.yaml`.

use chrono::{Datelike, Weekday};
use serde_saphyr::Location;

use super::{date, is_name, text};
use crate::calendar::{Calendar, Verified, Year};
use crate::fault::Faults;
use crate::raw::{RawCalendar, RawYear};
use crate::tree::Tree;
use crate::yaml::{self, Located};

/// Longest holiday, in days: a typing mistake in a month shows.
const MAX_HOLIDAY_DAYS: i64 = 15;

pub(super) fn load(tree: &Tree, faults: &mut Faults) -> Vec<Calendar> {
    let mut calendars = Vec::new();
    for (file, source) in tree.below("calendars") {
        let id = file
            .trim_start_matches("calendars/")
            .trim_end_matches(".yaml");
        if !is_name(id) {
            faults.push("NAME_INVALID", file, &Location::UNKNOWN, id, "");
            continue;
        }
        let Some(raw) = yaml::parse::<RawCalendar>(file, source, faults) else {
            continue;
        };
        let mut calendar = Calendar {
            id: id.to_owned(),
            name: text(raw.name),
            years: Default::default(),
        };
        for (number, written) in raw.years {
            match number.parse::<i32>() {
                Ok(year) if number.len() == 4 => drop(
                    calendar
                        .years
                        .insert(year, read_year(year, &written, file, faults)),
                ),
                _ => faults.push("DATE_INVALID", file, &written.referenced, &number, ""),
            }
        }
        calendars.push(calendar);
    }
    calendars
}

fn read_year(number: i32, raw: &Located<RawYear>, file: &str, faults: &mut Faults) -> Year {
    let raw = &raw.value;
    let mut year = Year::default();
    if let Some(verified) = &raw.verified
        && let Some(on) = date(&verified.on, file, faults)
    {
        year.verified = Some(Verified {
            by: verified.by.clone(),
            on,
            notice: verified.notice.clone(),
        });
    }
    for holiday in &raw.holidays {
        let (Some(from), Some(to)) = (
            date(&holiday.from, file, faults),
            date(&holiday.to, file, faults),
        ) else {
            continue;
        };
        let days = (to - from).num_days() + 1;
        if !(1..=MAX_HOLIDAY_DAYS).contains(&days) || from.year() != number || to.year() != number {
            faults.push(
                "HOLIDAY_INVALID",
                file,
                &holiday.to.referenced,
                &holiday.name.zh,
                &days.to_string(),
            );
            continue;
        }
        year.off
            .extend(from.iter_days().take_while(|day| *day <= to));
    }
    for written in &raw.work {
        let Some(day) = date(written, file, faults) else {
            continue;
        };
        // A make-up day is a weekend day of this year that is worked; anything else is a mistake.
        let weekend = matches!(day.weekday(), Weekday::Sat | Weekday::Sun);
        if !weekend || day.year() != number || year.off.contains(&day) {
            faults.push(
                "MAKE_UP_DAY_INVALID",
                file,
                &written.referenced,
                &written.value,
                "",
            );
            continue;
        }
        year.work.insert(day);
    }
    year
}
