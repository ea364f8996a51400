//! Builds the contract from its files. Each module reads one kind of file; all faults are collected,
//! so that one run of lint shows everything.

mod agreements;
mod approvals;
mod avsc;
mod calendars;
mod cases;
mod compat;
mod consent;
mod datasets;
mod departments;
mod fields;
mod items;
mod limits;
mod status;

use std::collections::BTreeMap;
use std::path::Path;

use serde_saphyr::Location;

use crate::contract::{BUS, Contract, MAX_LANES, Mode, SectionRef};
use crate::fault::{Fault, Faults};
use crate::raw::{RawInstallation, RawText};
use crate::reasons::{REASONS_FILE, Reasons, Text};
use crate::schema_ids::{self, SCHEMA_IDS_FILE, Wanted};
use crate::tree::Tree;
use crate::value::parse_date;
use crate::yaml::{self, Located};

pub(crate) const INSTALLATION_FILE: &str = "installation.yaml";

/// What loading gave, faults or not.
pub(crate) struct Loaded {
    /// `None` when not even the installation could be read.
    pub(crate) contract: Option<Contract>,
    pub(crate) reasons: Reasons,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) faults: Faults,
}

pub(crate) fn load(root: &Path, mode: Mode) -> Result<Contract, (Vec<Fault>, Reasons)> {
    whole(load_all(root, mode))
}

/// From files in memory, as [`read_files`] gave them somewhere else.
pub(crate) fn from_files(
    files: BTreeMap<String, String>,
    mode: Mode,
) -> Result<Contract, (Vec<Fault>, Reasons)> {
    let mut faults = Faults::default();
    let tree = Tree::from_files(files, &mut faults);
    whole(load_tree(Path::new(""), &tree, mode, faults))
}

/// Exactly the files that the digest covers.
pub(crate) fn read_files(root: &Path) -> Result<BTreeMap<String, String>, Vec<Fault>> {
    let mut faults = Faults::default();
    let tree = Tree::read(root, &mut faults);
    if faults.0.is_empty() {
        Ok(tree.into_files())
    } else {
        Err(faults.sorted())
    }
}

fn whole(loaded: Loaded) -> Result<Contract, (Vec<Fault>, Reasons)> {
    match loaded.contract {
        Some(contract) if loaded.faults.0.is_empty() => Ok(contract),
        _ => Err((loaded.faults.sorted(), loaded.reasons)),
    }
}

pub(crate) fn load_all(root: &Path, mode: Mode) -> Loaded {
    let mut faults = Faults::default();
    let tree = Tree::read(root, &mut faults);
    load_tree(root, &tree, mode, faults)
}

fn load_tree(root: &Path, tree: &Tree, mode: Mode, mut faults: Faults) -> Loaded {
    let reasons = read_reasons(tree, &mut faults);

    let mut departments = departments::load(tree, &mut faults);
    let (bus_keys, vrf_keys) = departments::load_keys(tree, &mut departments, &mut faults);
    let mut datasets = datasets::load(tree, &departments, &mut faults);
    compat::check(&datasets, tree, &mut faults);
    let ids = schema_ids::parse(
        tree.get(SCHEMA_IDS_FILE).unwrap_or_default(),
        &datasets,
        &|dataset| agreements::is_written(tree, dataset),
        &mut faults,
    );
    let mut wanted = Vec::new();
    for dataset in &mut datasets {
        let key = schema_ids::SchemaKey::Source {
            dataset: dataset.id.clone(),
        };
        dataset.schema_id = ids.id_of(&key, &dataset.schema_digest).unwrap_or_default();
        wanted.push(Wanted {
            key,
            digest: dataset.schema_digest,
        });
    }
    let mut agreements = agreements::load(
        &agreements::World {
            tree,
            departments: &departments,
            datasets: &datasets,
            ids: &ids,
        },
        &mut wanted,
        &mut faults,
    );
    schema_ids::check_wanted(&ids, &wanted, &mut faults);
    let status = status::load(tree, &mut agreements, &mut faults);

    let Some(installation) = read_installation(tree, &mut faults) else {
        return Loaded {
            contract: None,
            reasons,
            wanted,
            faults,
        };
    };
    approvals::load(
        &approvals::World {
            tree,
            bus_id: &installation.bus.id.value,
            departments: &departments,
            datasets: &datasets,
            mode,
        },
        &mut agreements,
        &mut faults,
    );
    let agreements: Vec<_> = agreements
        .into_iter()
        .map(|written| written.agreement)
        .collect();
    let items = items::load(tree, &agreements, &datasets, &reasons, &mut faults);
    let mut calendars = calendars::load(tree, &mut faults);
    let calendar = calendars
        .iter()
        .position(|calendar| calendar.id == installation.calendar.value);
    let Some(calendar) = calendar.map(|index| calendars.swap_remove(index)) else {
        let name = &installation.calendar;
        faults.push(
            "CALENDAR_UNKNOWN",
            INSTALLATION_FILE,
            &name.referenced,
            &name.value,
            "",
        );
        return Loaded {
            contract: None,
            reasons,
            wanted,
            faults,
        };
    };

    let mut sections_by_dataset = vec![Vec::new(); datasets.len()];
    for (agreement_index, agreement) in agreements.iter().enumerate() {
        for (section_index, section) in agreement.sections.iter().enumerate() {
            sections_by_dataset[section.dataset_ix].push(SectionRef {
                agreement: agreement_index,
                section: section_index,
            });
        }
    }
    let contract = Contract {
        root: root.to_owned(),
        digest: tree.digest(),
        bus_id: installation.bus.id.value,
        bus_name: text(installation.bus.name),
        lanes: installation.lanes.value,
        region: installation.jurisdiction.region.value,
        region_name: text(installation.jurisdiction.name),
        calendar,
        departments,
        datasets,
        agreements,
        status,
        items,
        reasons: reasons.clone(),
        schema_ids: ids,
        bus_keys,
        vrf_keys,
        sections_by_dataset,
    };
    Loaded {
        contract: Some(contract),
        reasons,
        wanted,
        faults,
    }
}

fn read_reasons(tree: &Tree, faults: &mut Faults) -> Reasons {
    let reasons = match tree.get(REASONS_FILE) {
        Some(text) => Reasons::parse(text, faults),
        None => {
            faults.push("FILE_MISSING", REASONS_FILE, &Location::UNKNOWN, "", "");
            Reasons::default()
        }
    };
    if reasons.codes().next().is_none() {
        // A file that can't be read is one fault, not one for every code that is used.
        return Reasons::built_in();
    }
    for code in crate::codes::ALL {
        if !reasons.contains(code) {
            faults.push("REASON_UNKNOWN", REASONS_FILE, &Location::UNKNOWN, code, "");
        }
    }
    reasons
}

fn read_installation(tree: &Tree, faults: &mut Faults) -> Option<RawInstallation> {
    let Some(text) = tree.get(INSTALLATION_FILE) else {
        faults.push(
            "FILE_MISSING",
            INSTALLATION_FILE,
            &Location::UNKNOWN,
            "",
            "",
        );
        return None;
    };
    let raw: RawInstallation = yaml::parse(INSTALLATION_FILE, text, faults)?;
    let id = &raw.bus.id;
    if !is_name(&id.value) {
        faults.push(
            "NAME_INVALID",
            INSTALLATION_FILE,
            &id.referenced,
            &id.value,
            "",
        );
    }
    if !(1..=MAX_LANES).contains(&raw.lanes.value) {
        let limit = MAX_LANES.to_string();
        faults.push(
            "LANES_INVALID",
            INSTALLATION_FILE,
            &raw.lanes.referenced,
            &raw.lanes.value.to_string(),
            &limit,
        );
    }
    let region = &raw.jurisdiction.region;
    if region.value.len() != 6 || !region.value.bytes().all(|b| b.is_ascii_digit()) {
        faults.push(
            "REGION_INVALID",
            INSTALLATION_FILE,
            &region.referenced,
            &region.value,
            "",
        );
    }
    Some(raw)
}

fn text(raw: RawText) -> Text {
    Text {
        zh: raw.zh,
        en: raw.en,
    }
}

/// Longest name of a department, dataset part, purpose, stream or item, in bytes: several of them make
/// a topic name, which Kafka limits to 249.
const MAX_NAME_BYTES: usize = 40;

/// `talent-settlement`: lower-case ASCII letters, digits and single hyphens, a letter first.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && !name.contains("--")
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// `insured6of12`, `approvalId`: an identifier of rules and of Avro.
fn is_identifier(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Days of `30d`.
fn days(written: &Located<String>, file: &str, faults: &mut Faults) -> Option<u32> {
    let days = written
        .value
        .strip_suffix('d')
        .and_then(|n| n.parse().ok())
        .filter(|&n| (1..=36_500).contains(&n));
    if days.is_none() {
        faults.push(
            "DURATION_INVALID",
            file,
            &written.referenced,
            &written.value,
            "30d",
        );
    }
    days
}

/// Seconds of `15m`, `36h` or `40d`.
fn seconds(written: &Located<String>, file: &str, faults: &mut Faults) -> Option<u64> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    const TEN_YEARS_S: u64 = 3650 * 86_400;
    let seconds = UNITS
        .iter()
        .find_map(|(unit, factor)| {
            written
                .value
                .strip_suffix(*unit)?
                .parse::<u64>()
                .ok()?
                .checked_mul(*factor)
        })
        .filter(|s| (1..=TEN_YEARS_S).contains(s));
    if seconds.is_none() {
        faults.push(
            "DURATION_INVALID",
            file,
            &written.referenced,
            &written.value,
            "15m, 36h, 40d",
        );
    }
    seconds
}

fn date(written: &Located<String>, file: &str, faults: &mut Faults) -> Option<chrono::NaiveDate> {
    let date = parse_date(&written.value);
    if date.is_none() {
        faults.push(
            "DATE_INVALID",
            file,
            &written.referenced,
            &written.value,
            "",
        );
    }
    date
}

/// A department may not take a name that the bus uses in topics and principals.
fn is_reserved(department: &str) -> bool {
    matches!(
        department,
        BUS | "src" | "to" | "state" | "status" | "quarantine" | "answer"
    )
}
