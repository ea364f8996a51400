//! What a city is made from, and what can go wrong while writing it.

use std::path::PathBuf;

use chrono::NaiveDate;

/// Most people in one city: beyond it the sheet of approvals would pass the 1,048,576 rows of xlsx.
pub const MAX_PERSONS: u64 = 5_000_000;
/// Most dirty rows, per thousand: beyond it the story persons drown.
pub const MAX_DIRTY_PER_MILLE: u32 = 500;
/// Latest snapshot: [`crate::mutate`] replays each one, so the number bounds the work per record.
pub const MAX_SNAPSHOT: u32 = 64;
/// Day of the export when none is given: fixed, so that the same seed gives the same bytes tomorrow.
pub const DEFAULT_AS_OF: (i32, u32, u32) = (2026, 11, 20);

/// A city is a function of these options; `out` only says where it is written.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory that receives `hrss/`, `realestate/`, `police/`, `union/`, `civil/` and `expected.json`.
    pub out: PathBuf,
    /// People in all, dependents included, 1 to [`MAX_PERSONS`].
    pub persons: u64,
    pub seed: u64,
    /// Share of rows written as careless clerks write them, per thousand.
    pub dirty_per_mille: u32,
    /// Plant [`crate::MARK`] in every text that police must not see.
    pub marks: bool,
    /// Day of the first export.
    pub as_of: NaiveDate,
    /// 0 is the first export; later ones hold the same people with changed records.
    pub snapshot: u32,
}

impl Options {
    /// A clean first export without marks, as of [`DEFAULT_AS_OF`].
    pub fn new(out: impl Into<PathBuf>, persons: u64, seed: u64) -> Self {
        let (year, month, day) = DEFAULT_AS_OF;
        Self {
            out: out.into(),
            persons,
            seed,
            dirty_per_mille: 0,
            marks: false,
            as_of: NaiveDate::from_ymd_opt(year, month, day).unwrap_or_default(),
            snapshot: 0,
        }
    }

    pub(crate) fn check(&self) -> Result<(), CityError> {
        if self.persons == 0 || self.persons > MAX_PERSONS {
            return Err(CityError::Persons(self.persons));
        }
        if self.dirty_per_mille > MAX_DIRTY_PER_MILLE {
            return Err(CityError::Dirty(self.dirty_per_mille));
        }
        if self.snapshot > MAX_SNAPSHOT {
            return Err(CityError::Snapshot(self.snapshot));
        }
        Ok(())
    }
}

/// A day as an option states it: `2026-11-20`.
///
/// # Errors
/// Not a day of the calendar.
pub fn parse_day(text: &str) -> Result<NaiveDate, CityError> {
    text.parse().map_err(|_| CityError::Day(text.to_owned()))
}

#[derive(Debug, thiserror::Error)]
pub enum CityError {
    #[error("a city has 1 to {MAX_PERSONS} persons, not {0}")]
    Persons(u64),
    #[error("at most {MAX_DIRTY_PER_MILLE} rows in a thousand can be dirty, not {0}")]
    Dirty(u32),
    #[error("a city has snapshots 0 to {MAX_SNAPSHOT}, not {0}")]
    Snapshot(u32),
    #[error("{0}: not a day, expected YYYY-MM-DD")]
    Day(String),
    #[error("cannot use {path}")]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot load the property registry into PostgreSQL")]
    Database(#[from] sqlx::Error),
    #[error("cannot start the database client")]
    Runtime(#[source] std::io::Error),
    #[error("cannot write the workbook of approvals")]
    Workbook(#[from] rust_xlsxwriter::XlsxError),
}
