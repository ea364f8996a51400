#![doc = include_str!("../README.md")]

mod approvals;
mod chance;
mod dirt;
mod expected;
mod family;
mod hardship;
mod insurance;
mod load;
mod minliving;
mod name;
mod number;
mod options;
mod place;
mod police;
mod property;
mod shape;
mod write;

pub use chrono::NaiveDate;
pub use expected::{Expected, Register, StoryPerson};
pub use load::{PROPERTY_DATABASE, load_property};
pub use number::{id_check_character, uscc_check_character};
pub use options::{CityError, DEFAULT_AS_OF, MAX_PERSONS, Options, parse_day};
pub use place::REGIONS;
pub use write::{MARK, mutate, write};
