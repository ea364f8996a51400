//! How careless clerks write a number or a date. What is spoilt depends on the record alone, so a dirty row
//! stays the same dirty row in every later export.

use std::collections::BTreeMap;

use crate::chance::{Chance, Draw};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dirt {
    FullWidth,
    LowerX,
    Spaces,
    Duplicate,
    Checksum,
    Date,
    Fifteen,
    MissingId,
}

impl Dirt {
    pub fn name(self) -> &'static str {
        match self {
            Self::FullWidth => "full_width",
            Self::LowerX => "lower_x",
            Self::Spaces => "spaces",
            Self::Duplicate => "duplicate",
            Self::Checksum => "checksum",
            Self::Date => "date",
            Self::Fifteen => "fifteen",
            Self::MissingId => "missing_id",
        }
    }

    /// A connector must refuse the row instead of guessing whose it is.
    pub fn rejected(self) -> bool {
        matches!(
            self,
            Self::Checksum | Self::Date | Self::Fifteen | Self::MissingId
        )
    }

    /// The identity number as this row writes it.
    pub fn number(dirt: Option<Self>, number: &str) -> String {
        match dirt {
            Some(Self::FullWidth) => number
                .chars()
                .map(|character| match character.to_digit(10) {
                    Some(digit) => char::from_u32(0xff10 + digit).unwrap_or(character),
                    None => character,
                })
                .collect(),
            Some(Self::LowerX) => number.to_ascii_lowercase(),
            Some(Self::Spaces) => format!(" {number}\u{3000}"),
            Some(Self::Checksum) => {
                let wrong = if number.ends_with('7') { '3' } else { '7' };
                format!("{}{wrong}", &number[..17])
            }
            Some(Self::Fifteen) => format!("{}{}", &number[..6], &number[8..17]),
            Some(Self::MissingId) => String::new(),
            _ => number.to_owned(),
        }
    }
}

/// Which registers a record can be in; keys of one register don't spoil another.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    Approval = 1,
    Insurance,
    Owner,
    Household,
    Booking,
    Hardship,
    MinLiving,
}

pub fn dirt(seed: u64, share: u32, place: Place, key: u64, number: &str) -> Option<Dirt> {
    const ALL: &[Dirt] = &[
        Dirt::FullWidth,
        Dirt::LowerX,
        Dirt::Spaces,
        Dirt::Duplicate,
        Dirt::Checksum,
        Dirt::Date,
        Dirt::Fifteen,
        Dirt::MissingId,
    ];
    let mut chance = Chance::of(seed, Draw::Dirt, key << 3 | place as u64);
    if share == 0 || !chance.per_mille(share) {
        return None;
    }
    let kind = chance.pick(ALL);
    let typed = matches!(place, Place::Owner) && matches!(kind, Dirt::Date | Dirt::Duplicate);
    if typed || (kind == Dirt::LowerX && !number.ends_with('X')) {
        return Some(Dirt::FullWidth);
    }
    Some(kind)
}

/// Rows of one register, counted as they are written.
#[derive(Debug, Default)]
pub struct Tally {
    pub rows: u64,
    pub records: u64,
    pub safe: BTreeMap<&'static str, u64>,
    pub rejected: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts a row and says how often it must be written.
    pub fn count(&mut self, dirt: Option<Dirt>) -> u32 {
        let copies = if dirt == Some(Dirt::Duplicate) { 2 } else { 1 };
        self.rows += u64::from(copies);
        match dirt {
            Some(kind) if kind.rejected() => *self.rejected.entry(kind.name()).or_default() += 1,
            Some(kind) => *self.safe.entry(kind.name()).or_default() += 1,
            None => {}
        }
        if !dirt.is_some_and(Dirt::rejected) {
            self.records += 1;
        }
        copies
    }
}
