//! The shipped mappings read a synthetic city, dirt included, and reject exactly what is dirty.

use crate::support::{All, read, register, shipped};
use mz_city::{Expected, Options};
use mz_seal::Datum;
use std::collections::BTreeMap;
use std::path::Path;

const FILES: [(&str, &str, &str); 6] = [
    ("hardship", "union-hardship.yaml", "union/hardship.ndjson"),
    ("minliving", "civil-minliving.yaml", "civil/minliving.csv"),
    ("approvals", "hrss-talent.yaml", "hrss/approvals.xlsx"),
    ("insurance", "hrss-insurance.yaml", "hrss/insurance.csv"),
    (
        "household",
        "police-household.yaml",
        "police/household.ndjson",
    ),
    (
        "appointments",
        "police-appointment.yaml",
        "police/appointments.ndjson",
    ),
];

fn city(dirty: u32) -> (tempfile::TempDir, Expected) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path(), 1_500, 7);
    options.dirty_per_mille = dirty;
    let expected = mz_city::write(&options).unwrap();
    (folder, expected)
}

fn all(folder: &Path, mapping: &str, file: &str) -> All {
    read(&mut register(shipped(mapping), &folder.join(file)))
}

fn text<'e>(event: &'e mz_sdk::Event, mapping: &str, field: &str) -> &'e str {
    let dataset = crate::support::contract().dataset(&event.dataset).unwrap();
    let _ = mapping;
    match &event.fields[dataset.field_index(field).unwrap()] {
        Datum::Str(text) | Datum::Enum(text) => text,
        _ => "",
    }
}

#[test]
fn a_clean_city_flows_whole() {
    let (folder, _) = city(0);
    for (name, mapping, file) in FILES {
        let all = all(folder.path(), mapping, file);
        assert!(all.rejects.is_empty(), "{name}: {:?}", all.rejects.first());
        assert!(all.complete() && !all.events.is_empty(), "{name}");
        for event in &all.events {
            let dataset = crate::support::contract().dataset(&event.dataset).unwrap();
            mz_seal::encode(&dataset.layout, &event.fields).unwrap();
        }
    }
}

#[test]
fn dirt_is_rejected_by_kind_and_the_rest_flows() {
    let (folder, expected) = city(200);
    for (name, mapping, file) in FILES {
        let all = all(folder.path(), mapping, file);
        let register = expected
            .registers
            .iter()
            .find(|(_, register)| register.file == file)
            .unwrap()
            .1;
        let mut by_kind: BTreeMap<&str, u64> = BTreeMap::new();
        for reject in &all.rejects {
            let kind = match reject.code {
                "ID_CHECK" => "checksum",
                "ID_OLD_FORM" => "fifteen",
                "ID_EMPTY" => "missing_id",
                "DATE_IMPOSSIBLE" => "date",
                other => other,
            };
            *by_kind.entry(kind).or_default() += 1;
        }
        for (kind, count) in &register.rejected {
            assert_eq!(
                by_kind.get(kind.as_str()),
                Some(count),
                "{name} {kind}: {by_kind:?}"
            );
        }
        assert_eq!(
            by_kind.values().sum::<u64>(),
            register.rejected.values().sum::<u64>(),
            "{name}: {by_kind:?}"
        );
        assert_eq!(
            all.events.len() as u64 + all.rejects.len() as u64,
            register.rows,
            "{name}"
        );
        assert!(
            register.safe.values().sum::<u64>() > 0,
            "{name}: nothing safe was dirty"
        );
    }
}

#[test]
fn dependents_come_from_the_second_sheet() {
    let (folder, expected) = city(0);
    let all = all(folder.path(), "hrss-talent.yaml", "hrss/approvals.xlsx");
    let story = expected
        .story
        .values()
        .find(|person| !person.dependents.is_empty())
        .unwrap();
    let event = all
        .events
        .iter()
        .find(|event| text(event, "", "approvalId") == story.approval.as_deref().unwrap())
        .unwrap();
    let dataset = crate::support::contract()
        .dataset("hrss.talent.approval.v1")
        .unwrap();
    let Datum::Array(dependents) = &event.fields[dataset.field_index("dependents").unwrap()] else {
        panic!()
    };
    let ids: Vec<&str> = dependents
        .iter()
        .map(|dependent| match dependent {
            Datum::Record(fields) => match &fields[0].1 {
                Datum::Str(id) => id.as_str(),
                _ => panic!(),
            },
            _ => panic!(),
        })
        .collect();
    assert_eq!(ids, story.dependents);
    assert_eq!(text(event, "", "idNo"), story.id);
}
