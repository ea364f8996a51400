//! The people of one family and what the registers hold about them, as of one snapshot.

use chrono::{Days, Months, NaiveDate};

use crate::chance::{Chance, Draw};
use crate::dirt::{Dirt, Place, dirt};
use crate::number::{self, Age, Identity, Sex};
use crate::options::Options;
use crate::shape::{Home, Shape};
use crate::{name, place};

/// Room for members in a person's key: family × 8 + position.
const MEMBERS: u64 = 8;
/// Share of a register's records that change from one snapshot to the next, per thousand.
const CHANGE_PER_MILLE: u32 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Head,
    Spouse,
    Son,
    Daughter,
}

impl Relation {
    pub fn text(self) -> &'static str {
        match self {
            Self::Head => "户主",
            Self::Spouse => "配偶",
            Self::Son => "子",
            Self::Daughter => "女",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Person {
    pub key: u64,
    pub identity: Identity,
    pub name: String,
    pub relation: Relation,
    pub adult: bool,
}

#[derive(Debug, Clone)]
pub struct Owner {
    pub person: Person,
    pub mode: &'static str,
    pub share: &'static str,
    /// The person, or someone who settles with them, books a visit in some snapshot.
    pub case_ever: bool,
    /// … has booked by this snapshot, in a row that a connector accepts.
    pub case_now: bool,
}

#[derive(Debug, Clone)]
pub struct Right {
    pub key: u64,
    pub certificate_no: u64,
    pub owners: Vec<Owner>,
}

#[derive(Debug, Clone)]
pub struct Family {
    pub index: u64,
    pub shape: Shape,
    pub members: Vec<Person>,
    pub rights: Vec<Right>,
}

impl Family {
    /// At most `room` members: the last family of a city is cut where the city is full.
    pub fn new(options: &Options, index: u64, room: u64) -> Self {
        let mut family = Self::people(options, index, room);
        family.rights = family.rights(options);
        family
    }

    fn people(options: &Options, index: u64, room: u64) -> Self {
        let shape = Shape::of(options.seed, index);
        let mut chance = Chance::of(options.seed, Draw::Name, index);
        let head = if chance.per_mille(550) {
            Sex::Male
        } else {
            Sex::Female
        };
        let partner = if head == Sex::Male {
            Sex::Female
        } else {
            Sex::Male
        };
        let mut wanted = vec![(Relation::Head, head, Age::Adult)];
        if shape.spouse {
            wanted.push((Relation::Spouse, partner, Age::Adult));
        }
        for _ in 0..shape.children {
            wanted.push(if chance.per_mille(520) {
                (Relation::Son, Sex::Male, Age::Minor)
            } else {
                (Relation::Daughter, Sex::Female, Age::Minor)
            });
        }
        let members = wanted
            .into_iter()
            .take(room as usize)
            .enumerate()
            .map(|(position, (relation, sex, age))| {
                let key = index * MEMBERS + position as u64;
                // Children carry the head's surname: the same surname key.
                let surname = if age == Age::Minor {
                    index * MEMBERS
                } else {
                    key
                };
                let rare = shape.rare_name && relation == Relation::Head;
                Person {
                    key,
                    identity: number::identity(options.seed, sex, age, key),
                    name: name::person(options.seed, key, surname, sex, rare),
                    relation,
                    adult: age == Age::Adult,
                }
            })
            .collect();
        Self {
            index,
            shape,
            members,
            rights: Vec::new(),
        }
    }

    fn rights(&self, options: &Options) -> Vec<Right> {
        let mut chance = Chance::of(options.seed, Draw::Right, self.index);
        let mut homes = vec![self.shape.home];
        if self.shape.home == Home::Own && self.shape.role.is_none() && chance.per_mille(200) {
            homes.push(Home::Own);
        }
        let owned = homes
            .into_iter()
            .filter(|home| *home != Home::None)
            .enumerate();
        owned
            .map(|(nth, home)| {
                let key = self.index * 2 + nth as u64;
                let Some(head) = self.members.first() else {
                    return Right {
                        key,
                        certificate_no: key,
                        owners: Vec::new(),
                    };
                };
                let owners = match (home, self.members.get(1)) {
                    (Home::Joint, Some(spouse)) => vec![
                        self.owner(options, head, "1", ""),
                        self.owner(options, spouse, "1", ""),
                    ],
                    (Home::SharedWith(other), _) => {
                        let other = Self::people(options, other, 1);
                        let mut owners = vec![self.owner(options, head, "2", "70%")];
                        owners.extend(
                            other
                                .members
                                .first()
                                .map(|person| other.owner(options, person, "2", "30%")),
                        );
                        owners
                    }
                    _ => vec![self.owner(options, head, "0", "100%")],
                };
                Right {
                    key,
                    certificate_no: key,
                    owners,
                }
            })
            .collect()
    }

    fn owner(
        &self,
        options: &Options,
        person: &Person,
        mode: &'static str,
        share: &'static str,
    ) -> Owner {
        Owner {
            person: person.clone(),
            mode,
            share,
            case_ever: self.covered(person) && self.shape.approval && self.shape.books_at.is_some(),
            case_now: self.case(options, person),
        }
    }

    /// The booking names this person.
    fn covered(&self, person: &Person) -> bool {
        person.relation == Relation::Head || self.shape.dependents
    }

    /// A booking that stands and that a connector accepts names this person.
    pub fn case(&self, options: &Options, person: &Person) -> bool {
        self.shape.booked(options.snapshot)
            && !self.shape.cancelled
            && self.covered(person)
            && self.members.first().is_some_and(|head| {
                let dirt = self.dirt(options, Place::Booking, self.index, head);
                !dirt.is_some_and(Dirt::rejected)
            })
    }

    pub fn dependents(&self) -> &[Person] {
        match (self.shape.dependents, self.members.get(1..)) {
            (true, Some(rest)) => rest,
            _ => &[],
        }
    }

    pub fn approval_no(&self, options: &Options) -> String {
        format!("DGRC{}{:07}", options.as_of.format("%Y"), self.index + 1)
    }

    /// How the row about a member of this family is spoilt; rows of story families never are.
    pub fn dirt(&self, options: &Options, place: Place, key: u64, person: &Person) -> Option<Dirt> {
        if self.shape.role.is_some() {
            return None;
        }
        dirt(
            options.seed,
            options.dirty_per_mille,
            place,
            key,
            &person.identity.number,
        )
    }
}

/// How often a record changed up to a snapshot, and at which one last.
pub fn changes(options: &Options, place: Place, key: u64) -> (u32, u32) {
    let (mut count, mut last) = (0, 0);
    for snapshot in 1..=options.snapshot {
        let draw = (key << 3 | place as u64) ^ (u64::from(snapshot) << 56);
        if Chance::of(options.seed, Draw::Change, draw).per_mille(CHANGE_PER_MILLE) {
            (count, last) = (count + 1, snapshot);
        }
    }
    (count, last)
}

/// The day of a snapshot: one export a day.
pub fn day(options: &Options, snapshot: u32) -> NaiveDate {
    options.as_of + Days::new(u64::from(snapshot))
}

pub fn months_before(date: NaiveDate, months: u32) -> NaiveDate {
    date.checked_sub_months(Months::new(months)).unwrap_or(date)
}

/// The person's own address, the same in every register that knows it.
pub fn address(options: &Options, key: u64) -> String {
    place::address(&mut Chance::of(options.seed, Draw::Address, key))
}
