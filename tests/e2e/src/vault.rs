//! The vault's table against the source topics: exactly the newest version of each record.

use crate::audit::Log;
use crate::check::Check;
use crate::database;
use crate::events::Events;
use mz_contract::{Contract, Scope};
use mz_journal::{AuditKind, Grant, GrantId, GrantStatus, SubjectTag};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Place and version of one fact: dataset's schema id, lane, offset, epoch, counter.
type Place = (u32, u16, i64, u32, u64);

/// Dataset's schema id, subject, record, epoch, counter, as the table has them.
type FactRow = (i32, Vec<u8>, Vec<u8>, i64, i64);

/// Agreement, dataset, subject, record, version of one delivery.
type Delivered<'e> = (&'e str, &'e str, SubjectTag, [u8; 16], (u32, u64));

/// The vault holds for every record its newest version, from the very offset where it was
/// published, and nothing else.
pub fn newest(url: &str, contract: &Contract, events: &BTreeMap<String, Events>) -> Check {
    let mut check = Check::new("vault = newest");
    let mut expected: HashSet<Place> = HashSet::new();
    for (dataset, events) in events {
        let Some(dataset) = contract.dataset(dataset) else {
            continue;
        };
        for event in events.newest().values() {
            expected.insert((
                dataset.schema_id,
                event.lane,
                event.offset,
                event.version.epoch,
                event.version.counter,
            ));
        }
    }
    let rows = facts(url);
    let held: HashSet<Place> = rows.iter().copied().collect();
    check.equal("facts", rows.len(), expected.len());
    check.equal("facts, each once", held.len(), rows.len());
    for place in expected.difference(&held).take(3) {
        check.fault(format!("missing: {place:?}"));
    }
    for place in held.difference(&expected).take(3) {
        check.fault(format!("not the newest: {place:?}"));
    }
    check.figure = format!("{} facts", rows.len());
    check
}

fn facts(url: &str) -> Vec<Place> {
    database::with(url, async |connection| {
        let rows: Vec<(i32, i32, i64, i64, i64)> =
            sqlx::query_as("SELECT dataset, lane, source_offset, epoch, counter FROM vault.fact")
                .fetch_all(connection)
                .await?;
        Ok(rows
            .into_iter()
            .map(|(dataset, lane, offset, epoch, counter)| {
                (
                    u32::try_from(dataset).unwrap_or(0),
                    u16::try_from(lane).unwrap_or(u16::MAX),
                    offset,
                    u32::try_from(epoch).unwrap_or(0),
                    u64::try_from(counter).unwrap_or(0),
                )
            })
            .collect())
    })
}

/// Nobody with an open case or consent was forgotten: whatever the vault holds about that person was delivered,
/// in the version that it holds, under every agreement whose case is open and that reads the dataset
/// without a filter. This is what backfill promises.
pub fn delivered_about_cases(
    url: &str,
    contract: &Contract,
    log: &Log,
    grants: &HashMap<GrantId, Grant>,
) -> Check {
    let mut check = Check::new("cases are complete");
    let delivered: HashSet<Delivered<'_>> = log
        .of(AuditKind::Delivered)
        .map(|entry| {
            (
                &*entry.agreement,
                &*entry.dataset,
                entry.subject,
                entry.record,
                entry.version,
            )
        })
        .collect();
    let now = chrono::Utc::now().timestamp_millis();
    let mut open: HashMap<SubjectTag, Vec<&Grant>> = HashMap::new();
    for grant in grants.values() {
        if grant.status == GrantStatus::Open && grant.expires_ms > now {
            open.entry(grant.subject).or_default().push(grant);
        }
    }
    let rows: Vec<FactRow> = database::with(url, async |connection| {
        sqlx::query_as(
            "SELECT dataset, subject, record, epoch, counter FROM vault.fact WHERE NOT withdrawn",
        )
        .fetch_all(connection)
        .await
    });
    let mut checked = 0_u64;
    for (schema, subject, record, epoch, counter) in rows {
        let (Ok(subject), Ok(record)) = (subject.try_into(), <[u8; 16]>::try_from(record)) else {
            check.fault("a tag of another length");
            continue;
        };
        let subject = SubjectTag(subject);
        let version = (
            u32::try_from(epoch).unwrap_or(0),
            u64::try_from(counter).unwrap_or(0),
        );
        for grant in open.get(&subject).into_iter().flatten() {
            let agreement = &*grant.agreement;
            let section = contract.agreement(agreement).and_then(|agreement| {
                agreement.sections.iter().find(|section| {
                    let dataset = &contract.datasets[section.dataset_ix];
                    i64::from(dataset.schema_id) == i64::from(schema)
                        && section.scope == Scope::Case
                        && section.filter.is_none()
                })
            });
            let Some(section) = section else { continue };
            let dataset = &*contract.datasets[section.dataset_ix].id;
            let covered =
                grant.datasets.is_empty() || grant.datasets.iter().any(|one| one == dataset);
            if !covered {
                continue;
            }
            checked += 1;
            if !delivered.contains(&(agreement, dataset, subject, record, version)) {
                check.fault(format!(
                    "{agreement}: {dataset} {version:?} about {subject:?}"
                ));
            }
        }
    }
    check.figure = format!("{checked} facts about {} people", open.len());
    check
}
