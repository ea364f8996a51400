//! The source topics against the registers of the synthetic city: every record published, none
//! twice, the numbering of every stream without a gap.

use crate::check::Check;
use crate::events::Events;
use mz_city::Expected;
use mz_contract::{Contract, Dataset};
use mz_seal::{Datum, unframe};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

/// Reads `expected.json` of a city.
pub fn expected(city: &Path) -> Expected {
    let path = city.join("expected.json");
    let read = std::fs::read(&path)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    match read {
        Ok(expected) => expected,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// What the connectors published is what the registers hold, once each: no record missing, none too
/// many, no version that says what the one before it said, and every stream's numbering whole.
pub fn published(expected: &Expected, events: &BTreeMap<String, Events>) -> Check {
    let mut check = Check::new("topics = registers");
    let mut total = 0;
    for (dataset, events) in events {
        total += events.good.len();
        for refused in events.refused.iter().take(2) {
            check.fault(format!("{dataset}: {refused:?}"));
        }
        let name = dataset
            .rsplit_once(".v")
            .map_or(&**dataset, |(name, _)| name);
        let Some(register) = expected.registers.get(name) else {
            check.fault(format!("{dataset}: no such register"));
            continue;
        };
        let newest = events.newest();
        let standing = newest.values().filter(|event| !event.withdrawn).count();
        check.equal(
            &format!("{dataset}: records"),
            standing as u64,
            register.records,
        );
        repeats(&mut check, dataset, events);
        numbered(&mut check, dataset, events);
    }
    check.figure = format!("{total} events");
    check
}

/// Versions of one record rise and differ: an unchanged row published nothing, no version twice.
fn repeats(check: &mut Check, dataset: &str, events: &Events) {
    let mut last: HashMap<&[u8], &crate::events::Event> = HashMap::new();
    for event in &events.good {
        if let Some(before) = last.insert(&event.key, event) {
            if event.version <= before.version {
                check.fault(format!(
                    "{dataset} lane {} at {}: a version again",
                    event.lane, event.offset
                ));
            }
            if (&event.value, event.withdrawn) == (&before.value, before.withdrawn) {
                check.fault(format!(
                    "{dataset} lane {} at {}: nothing had changed",
                    event.lane, event.offset
                ));
            }
        }
    }
}

/// Per stream and lane, in the order of the topic: 1, 2, 3 …
fn numbered(check: &mut Check, dataset: &str, events: &Events) {
    let mut last: HashMap<(&str, u32, u16), u64> = HashMap::new();
    for event in &events.good {
        let last = last
            .entry((&*event.stream, event.version.epoch, event.lane))
            .or_insert(0);
        if event.sequence != *last + 1 {
            check.fault(format!(
                "{dataset} lane {}: sequence {} after {last}",
                event.lane, event.sequence
            ));
        }
        *last = event.sequence;
    }
}

/// The newest events say what the register files say, read here without any of the connectors' code:
/// insurance (GB18030 CSV: person, insurance, state, months) and household (NDJSON: change, person,
/// region). Cities without dirty rows only.
pub fn contents(city: &Path, contract: &Contract, events: &BTreeMap<String, Events>) -> Check {
    let mut check = Check::new("contents = registers");
    let mut rows = 0;
    for (id, truth, fields) in [
        (
            "hrss.insurance.status.v1",
            insurance(city),
            ["idNo", "type", "status", "monthsTotal"].as_slice(),
        ),
        (
            "police.household.v1",
            household(city),
            ["changeId", "idNo", "region"].as_slice(),
        ),
    ] {
        let (Some(dataset), Some(events)) = (contract.dataset(id), events.get(id)) else {
            check.fault(format!("{id}: not read"));
            continue;
        };
        let told: HashSet<Vec<String>> = events
            .newest()
            .values()
            .filter(|event| !event.withdrawn)
            .filter_map(|event| values(dataset, &event.value, fields))
            .collect();
        rows += truth.len();
        let missing = truth.difference(&told).count();
        let strange = told.difference(&truth).count();
        if missing + strange > 0 {
            check.fault(format!(
                "{id}: {missing} rows not published so, {strange} events in no row"
            ));
        }
    }
    check.figure = format!("{rows} rows");
    check
}

fn insurance(city: &Path) -> HashSet<Vec<String>> {
    let bytes = std::fs::read(city.join("hrss/insurance.csv")).unwrap_or_default();
    let (text, ..) = encoding_rs::GB18030.decode(&bytes);
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| header.iter().position(|head| *head == name);
    let (Some(id), Some(kind), Some(status), Some(months)) = (
        column("证件号码"),
        column("险种"),
        column("参保状态"),
        column("累计缴费月数"),
    ) else {
        return HashSet::new();
    };
    let kinds = [
        ("110", "PENSION"),
        ("210", "UNEMPLOYMENT"),
        ("310", "MEDICAL"),
        ("410", "WORK_INJURY"),
        ("510", "MATERNITY"),
    ];
    let states = [("1", "INSURED"), ("2", "SUSPENDED"), ("3", "TERMINATED")];
    let named = |names: &[(&str, &str)], code: &str| {
        names
            .iter()
            .find(|(known, _)| *known == code)
            .map_or(code.to_owned(), |(_, name)| (*name).to_owned())
    };
    lines
        .map(|line| {
            // The city puts quotes around no field of this file.
            let cells: Vec<&str> = line.split(',').collect();
            let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
            vec![
                cell(id).to_owned(),
                named(&kinds, cell(kind)),
                named(&states, cell(status)),
                cell(months).to_owned(),
            ]
        })
        .collect()
}

fn household(city: &Path) -> HashSet<Vec<String>> {
    let text = std::fs::read_to_string(city.join("police/household.ndjson")).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .map(|row| {
            ["ywlsh", "gmsfhm", "xzqh"]
                .map(|key| row[key].as_str().unwrap_or_default().to_owned())
                .to_vec()
        })
        .collect()
}

fn values(dataset: &Dataset, value: &[u8], fields: &[&str]) -> Option<Vec<String>> {
    let (_, datum) = unframe(value).ok()?;
    let all = dataset.layout.decode_record(datum).ok()?;
    fields
        .iter()
        .map(|name| match all.get(dataset.field_index(name)?)? {
            Datum::Str(text) | Datum::Enum(text) => Some(text.clone()),
            Datum::Int(number) => Some(number.to_string()),
            _ => None,
        })
        .collect()
}
