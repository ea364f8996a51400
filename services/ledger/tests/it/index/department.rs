//! Counts against a walk through the entries.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days as Plus, NaiveDate};
use mz_journal::{AUDIT_WRITERS, Audit, AuditCause, AuditKind, bitmap_fields, field_bitmap};
use mz_ledger::index::{
    Above, Agreed, Days, DeniedBy, GroupBy, MAX_ABOVE_DAYS, OffsetRange, Period, Promised, Rate,
    Stretch, Unused, Used,
};

use crate::all_pages;
use crate::index::world::{ALWAYS, DATASETS, DAY_MS, KINDS, START_MS, World, first, full, random};

fn day(at_ms: i64) -> NaiveDate {
    DateTime::from_timestamp_millis(at_ms)
        .expect("time")
        .date_naive()
}

fn days(from: u64, to: u64) -> Days {
    let start = day(START_MS);
    Days {
        from: start + Plus::new(from),
        to: start + Plus::new(to),
    }
}

async fn filled(seed: u64) -> (World, Vec<Audit<'static>>) {
    let world = World::new().await;
    let entries = random(seed, 1_000, 50);
    for start in (0..1_000).step_by(125) {
        world
            .append(start as u64, &entries[start..start + 125])
            .await;
    }
    (world, entries)
}

fn within(days: Days) -> impl Fn(&&Audit<'static>) -> bool {
    move |audit| (days.from..days.to).contains(&day(audit.at_ms))
}

#[tokio::test]
async fn a_departments_use_by_each_group() {
    let (world, entries) = filled(8).await;
    for consumer in ["police", "union", "nobody"] {
        for days in [days(0, 50), days(7, 9), days(9, 9)] {
            for by in [
                GroupBy::Purpose,
                GroupBy::Dataset,
                GroupBy::Field,
                GroupBy::Day,
            ] {
                let mut wanted: BTreeMap<(String, Option<u16>, usize), (u64, u64)> =
                    BTreeMap::new();
                for audit in entries
                    .iter()
                    .filter(within(days))
                    .filter(|a| a.consumer == consumer)
                {
                    let kind = audit.kind as usize;
                    let denied = u64::from(audit.counts.denied);
                    let mut add = |key: String, field, denied| {
                        let sums = wanted.entry((key, field, kind)).or_default();
                        *sums = (sums.0 + 1, sums.1 + denied);
                    };
                    match by {
                        GroupBy::Purpose => add(audit.purpose.to_string(), None, denied),
                        GroupBy::Dataset => add(audit.dataset.to_string(), None, denied),
                        GroupBy::Day => add(day(audit.at_ms).to_string(), None, denied),
                        GroupBy::Field => {
                            for field in bitmap_fields(&audit.fields) {
                                add(audit.dataset.to_string(), Some(field), 0);
                            }
                        }
                    }
                }
                let kind = |number: usize| KINDS.iter().find(|kind| **kind as usize == number);
                let wanted: Vec<Used> = wanted
                    .into_iter()
                    .map(|((key, field, number), (entries, denied))| Used {
                        key,
                        field,
                        kind: kind(number).expect("kind").name().to_owned(),
                        entries,
                        denied,
                    })
                    .collect();
                let found = all_pages!(4, |page| world.index.department(consumer, days, by, &page));
                assert_eq!(found, wanted, "{by:?}");
            }
        }
    }
}

#[tokio::test]
async fn folded_days_say_the_same() {
    let (world, _) = filled(17).await;
    // Every day anew, so that there is something to fold.
    world
        .index
        .append("another", 0, &random(18, 500, 50))
        .await
        .expect("append");
    world.sql("UPDATE usage_day SET log = 1").await;
    let (days, until) = (days(0, 50), days(0, 40).to);
    let mut answers = Vec::new();
    for round in 0..3 {
        if round > 0 {
            let origin = crate::index::world::ORIGIN;
            let size = world.index.progress(origin).await.expect("progress");
            world.index.thin_progress().await.expect("thin");
            let kept = world.index.progress(origin).await.expect("progress");
            assert_eq!(kept, size, "the newest size stays");
            let less = world.index.fold_days(until).await.expect("fold");
            assert_eq!(less > 0, round == 1);
        }
        let mut all = Vec::new();
        for by in [GroupBy::Field, GroupBy::Dataset, GroupBy::Day] {
            let found = all_pages!(100, |page| world.index.department("tax", days, by, &page));
            all.push(found);
        }
        let denied = all_pages!(100, |page| world.index.denials(days, &page));
        answers.push((all, denied));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[tokio::test]
async fn denials_by_rule() {
    let (world, entries) = filled(9).await;
    for days in [days(0, 50), days(20, 22)] {
        let mut wanted: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let denied = |audit: &&Audit<'_>| audit.kind == AuditKind::Denied;
        for audit in entries.iter().filter(within(days)).filter(denied) {
            for rule in audit.rule.split([',', ' ']) {
                let sums = wanted.entry(rule.to_owned()).or_default();
                *sums = (sums.0 + 1, sums.1 + u64::from(audit.counts.denied));
            }
        }
        let wanted: Vec<DeniedBy> = wanted
            .into_iter()
            .map(|(rule, (entries, denied))| DeniedBy {
                rule,
                entries,
                denied,
            })
            .collect();
        assert!(wanted.len() > 2);
        let found = all_pages!(2, |page| world.index.denials(days, &page));
        assert_eq!(found, wanted);
    }
}

#[tokio::test]
async fn entries_a_day() {
    let (world, entries) = filled(10).await;
    let (agreement, dataset) = ("union/audit", DATASETS[1]);
    let mut wanted: BTreeMap<NaiveDate, (u64, u64)> = BTreeMap::new();
    let of = |audit: &&Audit<'_>| audit.agreement == agreement && audit.dataset == dataset;
    for audit in entries.iter().filter(within(days(3, 44))).filter(of) {
        let sums = wanted.entry(day(audit.at_ms)).or_default();
        sums.0 += 1;
        sums.1 += u64::from(audit.kind == AuditKind::Delivered);
    }
    let wanted: Vec<Rate> = wanted
        .into_iter()
        .map(|(day, (entries, delivered))| Rate {
            day,
            entries,
            delivered,
        })
        .collect();
    let found = all_pages!(5, |page| world.index.rate(
        agreement,
        dataset,
        days(3, 44),
        &page
    ));
    assert_eq!(found, wanted);
    let none = world
        .index
        .rate("no/such", dataset, days(0, 50), &first(5))
        .await;
    assert_eq!(none.expect("rate").items, []);
}

#[tokio::test]
async fn agreed_fields_that_were_never_delivered() {
    let (world, entries) = filled(11).await;
    let few = days(0, 6);
    let sections = [
        ("union/audit", DATASETS[0]),
        ("police/settlement", DATASETS[2]),
        ("tax/audit", "no.such.v1"),
        ("union/audit", DATASETS[0]),
    ];
    let agreed = sections.map(|(agreement, dataset)| Agreed {
        agreement: agreement.to_owned(),
        dataset: dataset.to_owned(),
        fields: field_bitmap(&[0, 1, 2, 3, 4, 5, 6, 20]),
    });
    let wanted: Vec<Unused> = sections
        .into_iter()
        .map(|(agreement, dataset)| {
            let delivered: BTreeSet<u16> = entries
                .iter()
                .filter(within(few))
                .filter(|a| a.agreement == agreement && a.dataset == dataset)
                .filter(|a| a.kind == AuditKind::Delivered)
                .flat_map(|a| bitmap_fields(&a.fields))
                .collect();
            let agreed = [0, 1, 2, 3, 4, 5, 6, 20].into_iter();
            Unused {
                agreement: agreement.to_owned(),
                dataset: dataset.to_owned(),
                fields: agreed.filter(|field| !delivered.contains(field)).collect(),
            }
        })
        .collect();
    let found = world.index.unused_fields(&agreed, few).await;
    assert_eq!(found.expect("unused"), wanted);
}

#[tokio::test]
async fn covered_offsets() {
    let (world, entries) = filled(12).await;
    let mut largest = full(2_000);
    largest.lane = 1;
    largest.dataset = DATASETS[0].into();
    largest.at_ms = START_MS + 30 * DAY_MS;
    world.append(1_000, &[largest.clone()]).await;
    let all: Vec<_> = entries.iter().chain([&largest]).collect();
    for (lane, dataset) in [(1, DATASETS[0]), (2, DATASETS[1]), (60, DATASETS[0])] {
        for (from, to) in [(0, 50), (20, 31)] {
            let period = Period {
                from_ms: START_MS + from * DAY_MS,
                to_ms: START_MS + to * DAY_MS,
            };
            let mut offsets = BTreeSet::new();
            for audit in &all {
                let inside = (period.from_ms..period.to_ms).contains(&audit.at_ms);
                if inside && audit.lane == lane && audit.dataset == dataset {
                    offsets.extend(Some(audit.source_offset).filter(|offset| *offset >= 0));
                    if audit.counts.from_offset >= 0 {
                        offsets.extend(audit.counts.from_offset..=audit.counts.to_offset);
                    }
                }
            }
            let mut wanted: Vec<OffsetRange> = Vec::new();
            for offset in offsets {
                match wanted.last_mut() {
                    Some(range) if range.last == offset - 1 => range.last = offset,
                    _ => wanted.push(OffsetRange {
                        first: offset,
                        last: offset,
                    }),
                }
            }
            let found = all_pages!(7, |page| world.index.covered(dataset, lane, period, &page));
            assert_eq!(found, wanted);
        }
    }
}

#[tokio::test]
async fn days_above_the_agreed_frequency() {
    let (world, entries) = filled(19).await;
    let asked = days(3, 44);
    let promised = |agreement: &str, dataset: &str, per_day| Promised {
        agreed: Agreed {
            agreement: agreement.to_owned(),
            dataset: dataset.to_owned(),
            fields: field_bitmap(&[0, 1, 30]),
        },
        per_day,
    };
    let question = [
        promised("union/audit", DATASETS[1], Some(1)),
        promised("police/settlement", DATASETS[2], None),
        promised("police/settlement", DATASETS[0], Some(1_000)),
        promised("tax/audit", "no.such.v1", Some(1)),
    ];
    let found = all_pages!(1, |page| world.index.over_reach(&question, asked, &page));
    let places: Vec<_> = found
        .iter()
        .map(|one| (one.agreement.as_str(), one.dataset.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            ("police/settlement", DATASETS[0]),
            ("police/settlement", DATASETS[2]),
            ("tax/audit", "no.such.v1"),
            ("union/audit", DATASETS[1]),
        ]
    );
    for one in &found {
        let mut uses: BTreeMap<NaiveDate, u64> = BTreeMap::new();
        let mut delivered: BTreeSet<u16> = BTreeSet::new();
        for audit in entries.iter().filter(within(asked)) {
            let of = audit.agreement == one.agreement && audit.dataset == one.dataset;
            if of && matches!(audit.kind, AuditKind::Delivered | AuditKind::Lookup) {
                *uses.entry(day(audit.at_ms)).or_default() += 1;
            }
            if of && audit.kind == AuditKind::Delivered {
                delivered.extend(bitmap_fields(&audit.fields));
            }
        }
        let most = one.per_day.map_or(u64::MAX, u64::from);
        let mut above: Vec<Above> = uses
            .iter()
            .filter(|(_, uses)| **uses > most)
            .map(|(day, uses)| Above {
                day: *day,
                uses: *uses,
            })
            .collect();
        above.sort_by_key(|one| (std::cmp::Reverse(one.uses), one.day));
        assert_eq!(one.days_above, above.len() as u64);
        above.truncate(MAX_ABOVE_DAYS);
        assert_eq!(one.above, above);
        assert_eq!(one.most, uses.values().copied().max().unwrap_or_default());
        let unused = [0, 1, 30].into_iter();
        let unused: Vec<u16> = unused.filter(|field| !delivered.contains(field)).collect();
        assert_eq!(one.unused, unused);
    }
    assert!(found[3].days_above > 0 && found[0].days_above == 0);
    assert!(found[1].most > 0 && found[1].above.is_empty());
}

/// Summaries and refusals of the stream account for offsets; what a backfill spans does not.
#[tokio::test]
async fn what_lies_between_accounted_offsets() {
    let world = World::new().await;
    let mut number = 0;
    let mut entry = |kind, cause, lane, dataset: &'static str, from, to| {
        number += 1;
        let mut audit = Audit::empty(AUDIT_WRITERS[0], lane, START_MS, kind, cause);
        audit.number = number;
        audit.dataset = dataset.into();
        if kind == AuditKind::Summary {
            (audit.counts.from_offset, audit.counts.to_offset) = (from, to);
        } else {
            audit.source_offset = from;
        }
        audit
    };
    let (summary, refused) = (AuditKind::Summary, AuditKind::Quarantined);
    let (stream, backfill) = (AuditCause::Stream, AuditCause::Backfill);
    let entries = [
        entry(summary, stream, 1, DATASETS[0], 0, 10),
        // Two agreements read the dataset; the other's range ends elsewhere.
        entry(summary, stream, 1, DATASETS[0], 2, 12),
        entry(summary, stream, 1, DATASETS[0], 14, 20),
        entry(refused, stream, 1, DATASETS[0], 21, 0),
        entry(summary, stream, 1, DATASETS[0], 40, 41),
        entry(summary, backfill, 1, DATASETS[0], 0, 90),
        entry(AuditKind::Delivered, stream, 1, DATASETS[0], 30, 0),
        entry(summary, stream, 2, DATASETS[0], 5, 6),
        entry(summary, stream, 2, DATASETS[0], 7, 7),
        entry(refused, stream, 0, DATASETS[2], 3, 0),
        entry(summary, stream, 0, DATASETS[1], 3, 4),
    ];
    world.append(0, &entries).await;
    let asked = [DATASETS[0].to_owned(), DATASETS[2].to_owned()];
    let range = |(first, last)| OffsetRange { first, last };
    let stretch = |dataset: &str, lane, accounted, quarantined, between: &[(i64, i64)]| Stretch {
        dataset: dataset.to_owned(),
        lane,
        accounted: range(accounted),
        quarantined,
        between: between.iter().copied().map(range).collect(),
        more: 0,
    };
    let found = all_pages!(1, |page| world.index.stretches(&asked, ALWAYS, &page));
    assert_eq!(
        found,
        [
            stretch(DATASETS[0], 1, (0, 41), 1, &[(13, 13), (22, 39)]),
            stretch(DATASETS[0], 2, (5, 7), 0, &[]),
            stretch(DATASETS[2], 0, (3, 3), 1, &[]),
        ]
    );
}
