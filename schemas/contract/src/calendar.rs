//! Working days (工作日): weekdays, less the holidays, plus the make-up days, year by year as data.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Datelike, Days, NaiveDate, Weekday};

use crate::reasons::Text;

/// Longest term that is counted, in working days.
pub const MAX_WORKING_DAYS: u32 = 1000;

#[derive(Clone, Debug)]
pub struct Calendar {
    pub id: String,
    pub name: Text,
    pub years: BTreeMap<i32, Year>,
}

#[derive(Clone, Debug, Default)]
pub struct Year {
    /// Who compared this year with the State Council's notice; `None` = nobody yet.
    pub verified: Option<Verified>,
    /// Weekdays and weekends that are off.
    pub off: BTreeSet<NaiveDate>,
    /// Weekend days that are worked.
    pub work: BTreeSet<NaiveDate>,
}

#[derive(Clone, Debug)]
pub struct Verified {
    pub by: String,
    pub on: NaiveDate,
    pub notice: String,
}

/// A due date, and how far it can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub day: NaiveDate,
    /// False when a year on the way is not in the calendar (plain weekdays were counted) or not verified.
    pub certain: bool,
}

impl Calendar {
    /// In a year that is not in the calendar, weekdays are working days.
    #[must_use]
    pub fn is_working_day(&self, day: NaiveDate) -> bool {
        let weekend = matches!(day.weekday(), Weekday::Sat | Weekday::Sun);
        match self.years.get(&day.year()) {
            Some(year) if year.work.contains(&day) => true,
            Some(year) if year.off.contains(&day) => false,
            _ => !weekend,
        }
    }

    /// The last day of a term of `working_days`, beginning the day after `from` (民法典 Art. 201: the
    /// day itself doesn't count). A term of 0 ends on the same day.
    #[must_use]
    pub fn due(&self, from: NaiveDate, working_days: u32) -> Due {
        let known = |day: NaiveDate| {
            self.years
                .get(&day.year())
                .is_some_and(|year| year.verified.is_some())
        };
        let mut due = Due {
            day: from,
            certain: working_days == 0 || known(from),
        };
        let mut left = working_days.min(MAX_WORKING_DAYS);
        while left > 0 {
            let Some(next) = due.day.checked_add_days(Days::new(1)) else {
                return Due {
                    certain: false,
                    ..due
                };
            };
            due.day = next;
            due.certain &= known(next);
            if self.is_working_day(next) {
                left -= 1;
            }
        }
        due
    }
}
