//! Writes every register in one pass over the families.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::approvals::{Approval, Approvals};
use crate::dirt::{Dirt, Place, Tally};
use crate::expected::{Expected, Register, StoryPerson};
use crate::family::Family;
use crate::hardship::Hardship;
use crate::insurance::Insurance;
use crate::minliving::MinLiving;
use crate::options::{CityError, Options};
use crate::police::Police;
use crate::property::Property;

/// Begins every text that police must not see, when marks are wanted.
pub const MARK: &str = "MZMARK";
/// People per employer.
const STAFF: u64 = 40;

/// Writes the city into `options.out` and returns what `expected.json` says.
///
/// # Errors
/// Options out of range, or a file that cannot be written.
pub fn write(options: &Options) -> Result<Expected, CityError> {
    options.check()?;
    let path = |name: &str| options.out.join(name);
    for directory in ["hrss", "realestate", "police", "union", "civil"] {
        fs::create_dir_all(path(directory)).map_err(at(&path(directory)))?;
    }
    let scratch_path = path("realestate/.owners.part");
    let scratch = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&scratch_path)
        .map_err(at(&scratch_path))?;

    let insurance_path = path("hrss/insurance.csv");
    let property_path = path("realestate/property.sql");
    let household_path = path("police/household.ndjson");
    let bookings_path = path("police/appointments.ndjson");
    let mut approvals = Approvals::create(options, &options.out)?;
    let mut insurance = Insurance::create(create(&insurance_path)?).map_err(at(&insurance_path))?;
    let mut property =
        Property::create(create(&property_path)?, scratch).map_err(at(&property_path))?;
    let mut police = Police::create(create(&household_path)?, create(&bookings_path)?);
    let hardship_path = path("union/hardship.ndjson");
    let minliving_path = path("civil/minliving.csv");
    let mut hardship = Hardship::create(create(&hardship_path)?);
    let mut minliving = MinLiving::create(create(&minliving_path)?).map_err(at(&minliving_path))?;
    let mut marks = Marks::default();
    let mut expected = Expected {
        persons: options.persons,
        seed: options.seed,
        as_of: options.as_of.to_string(),
        snapshot: options.snapshot,
        dirty_per_mille: options.dirty_per_mille,
        families: 0,
        adults: 0,
        registers: BTreeMap::new(),
        approvals: BTreeMap::new(),
        case_subjects: 0,
        about_case_subjects: BTreeMap::new(),
        story: BTreeMap::new(),
        marks: BTreeMap::new(),
    };

    let mut room = options.persons;
    let mut approvals_about_cases = 0;
    while room > 0 {
        let family = Family::new(options, expected.families, room);
        room -= family.members.len() as u64;
        expected.families += 1;
        expected.adults += family.members.iter().filter(|person| person.adult).count() as u64;

        let mut withheld = approvals.add(options, &family, &mut marks)?;
        withheld.extend(
            insurance
                .add(options, &family, &mut marks)
                .map_err(at(&insurance_path))?,
        );
        let (certificates, units) = property
            .add(options, &family, &mut marks)
            .map_err(at(&property_path))?;
        withheld.extend(units);
        let booking = police
            .add(options, &family, &mut marks)
            .map_err(at(&household_path))?;
        withheld.extend(
            hardship
                .add(options, &family, &mut marks)
                .map_err(at(&hardship_path))?,
        );
        withheld.extend(
            minliving
                .add(options, &family, &mut marks)
                .map_err(at(&minliving_path))?,
        );

        if let (Some(head), true) = (family.members.first(), family.shape.approval) {
            let dirt = family.dirt(options, Place::Approval, family.index, head);
            if !dirt.is_some_and(Dirt::rejected) {
                let status = Approval::of(options, &family).status;
                *expected.approvals.entry(status.to_owned()).or_default() += 1;
                approvals_about_cases += u64::from(family.case(options, head));
            }
        }
        let whole = family.members.len()
            == 1 + usize::from(family.shape.spouse) + usize::from(family.shape.children);
        if let (Some(role), Some(head), true) = (family.shape.role, family.members.first(), whole) {
            expected.story.insert(
                role.to_owned(),
                StoryPerson {
                    id: head.identity.number.clone(),
                    name: head.name.clone(),
                    approval: family.shape.approval.then(|| family.approval_no(options)),
                    booking,
                    dependents: family
                        .dependents()
                        .iter()
                        .map(|person| person.identity.number.clone())
                        .collect(),
                    certificates,
                    withheld,
                },
            );
        }
    }

    let mut register = |dataset: &str, file: &str, tally: Tally| {
        expected
            .registers
            .insert(dataset.to_owned(), Register::of(file, tally));
    };
    register(
        "hrss.talent.approval",
        "hrss/approvals.xlsx",
        approvals.finish(&path("hrss/approvals.xlsx"))?,
    );
    let (tally, insured) = insurance.finish().map_err(at(&insurance_path))?;
    register("hrss.insurance.status", "hrss/insurance.csv", tally);
    let (tally, owned) = property.finish().map_err(at(&property_path))?;
    register("realestate.right", "realestate/property.sql", tally);
    police.finish().map_err(at(&household_path))?;
    register(
        "police.household",
        "police/household.ndjson",
        police.households,
    );
    register(
        "police.appointment",
        "police/appointments.ndjson",
        police.appointments,
    );
    let tally = hardship.finish().map_err(at(&hardship_path))?;
    register("union.hardship", "union/hardship.ndjson", tally);
    let tally = minliving.finish().map_err(at(&minliving_path))?;
    register("civil.minliving", "civil/minliving.csv", tally);
    fs::remove_file(&scratch_path).map_err(at(&scratch_path))?;

    expected.case_subjects = police.case_subjects;
    for (dataset, count) in [
        ("hrss.talent.approval", approvals_about_cases),
        ("hrss.insurance.status", insured),
        ("realestate.right", owned),
        ("police.household", police.about_cases),
    ] {
        expected
            .about_case_subjects
            .insert(dataset.to_owned(), count);
    }
    expected.marks = marks.planted;
    let truth = path("expected.json");
    let mut out = create(&truth)?;
    serde_json::to_writer_pretty(&mut out, &expected)
        .map_err(io::Error::from)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(at(&truth))?;
    Ok(expected)
}

/// Writes a later export of the same city over the earlier one: statuses have changed, visits were booked,
/// people have moved in. Records that did not change keep their bytes.
///
/// # Errors
/// As [`write()`].
pub fn mutate(options: &Options, snapshot: u32) -> Result<Expected, CityError> {
    write(&Options {
        snapshot,
        ..options.clone()
    })
}

pub(crate) fn employers(options: &Options) -> u64 {
    (options.persons / STAFF).max(20)
}

/// Plants marks and counts them per column.
#[derive(Default)]
pub(crate) struct Marks {
    planted: BTreeMap<String, u64>,
}

impl Marks {
    pub fn text(&mut self, options: &Options, column: &str, text: &str, key: u64) -> String {
        if !options.marks {
            return text.to_owned();
        }
        *self.planted.entry(column.to_owned()).or_default() += 1;
        format!("{MARK}-{key}-{text}")
    }

    /// The same length as before, for columns of fixed length.
    pub fn fixed(&mut self, options: &Options, column: &str, text: &str) -> String {
        if !options.marks {
            return text.to_owned();
        }
        *self.planted.entry(column.to_owned()).or_default() += 1;
        format!("{MARK}{}", &text[MARK.len()..])
    }
}

impl Register {
    fn of(file: &str, tally: Tally) -> Self {
        let owned = |counts: BTreeMap<&'static str, u64>| {
            counts
                .into_iter()
                .map(|(kind, count)| (kind.to_owned(), count))
                .collect()
        };
        Self {
            file: file.to_owned(),
            rows: tally.rows,
            records: tally.records,
            safe: owned(tally.safe),
            rejected: owned(tally.rejected),
        }
    }
}

fn create(path: &Path) -> Result<BufWriter<File>, CityError> {
    File::create(path).map(BufWriter::new).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CityError {
    let path: PathBuf = path.to_owned();
    move |source| CityError::Write { path, source }
}
