//! Who read what, against a walk through the entries.

use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, GrantId, bitmap_fields};
use mz_ledger::index::{Entry, IndexError, PageRequest, Period};
use mz_seal::timestamp_text;

use crate::all_pages;
use crate::index::world::{
    ALWAYS, CONSUMERS, DAY_MS, ORIGIN, START_MS, World, full, random, subject,
};

/// What the index should say of an entry.
fn expected(log: &str, leaf: usize, audit: &Audit<'_>) -> Entry {
    Entry {
        log: log.to_owned(),
        leaf: leaf as i64,
        audit_id: format!("{}-{}-{}", audit.writer.name(), audit.lane, audit.number),
        at: timestamp_text(audit.at_ms),
        kind: audit.kind.name().to_owned(),
        cause: audit.cause.name().to_owned(),
        consumer: audit.consumer.to_string(),
        agreement: audit.agreement.to_string(),
        purpose: audit.purpose.to_string(),
        dataset: audit.dataset.to_string(),
        fields: bitmap_fields(&audit.fields),
        rules: audit
            .rule
            .split([',', ' '])
            .filter(|code| !code.is_empty())
            .map(str::to_owned)
            .collect(),
        operator: audit.operator.to_string(),
        reason: audit.reason.to_string(),
        grant: audit.grant.map(|grant| grant.hex()),
        denied: audit.counts.denied,
        version: (audit.version_counter > 0)
            .then_some((audit.version_epoch, audit.version_counter)),
    }
}

#[tokio::test]
async fn who_read_says_what_the_log_says() {
    let world = World::new().await;
    let mut entries = random(6, 900, 100);
    // Several at the same moment: the order stays.
    for entry in &mut entries[100..140] {
        entry.at_ms = START_MS + DAY_MS;
    }
    world.append(0, &entries).await;
    let other = random(7, 100, 100);
    world
        .index
        .append("another", 0, &other)
        .await
        .expect("append");
    for person in [0, 1, 2, 9] {
        for consumer in [None, Some(CONSUMERS[1]), Some(CONSUMERS[2]), Some("nobody")] {
            for (from, to) in [(0, 100), (10, 60), (31, 32), (5, 5)] {
                let period = Period {
                    from_ms: START_MS + from * DAY_MS,
                    to_ms: START_MS + to * DAY_MS,
                };
                let mut wanted: Vec<_> = [(1, ORIGIN, &entries), (2, "another", &other)]
                    .into_iter()
                    .flat_map(|(log, origin, entries)| {
                        entries
                            .iter()
                            .enumerate()
                            .map(move |(leaf, audit)| (log, origin, leaf, audit))
                    })
                    .filter(|(_, _, _, audit)| {
                        audit.subject == subject(person)
                            && person != 0
                            && (period.from_ms..period.to_ms).contains(&audit.at_ms)
                            && consumer.is_none_or(|consumer| audit.consumer == consumer)
                    })
                    .collect();
                wanted.sort_by_key(|(log, _, leaf, audit)| (audit.at_ms, *log, *leaf));
                let wanted: Vec<_> = wanted
                    .iter()
                    .map(|(_, origin, leaf, audit)| expected(origin, *leaf, audit))
                    .collect();
                for limit in [3, 1_000] {
                    let found = all_pages!(limit, |page| world.index.who_read(
                        &subject(person),
                        period,
                        consumer,
                        &page
                    ));
                    assert_eq!(found, wanted);
                }
            }
        }
    }
}

#[tokio::test]
async fn an_entry_with_everything_is_shown_with_everything() {
    let world = World::new().await;
    world.append(0, &[full(u64::MAX)]).await;
    let page = PageRequest::default();
    let found = world
        .index
        .who_read(&subject(200), ALWAYS, None, &page)
        .await
        .expect("page");
    assert_eq!(found.items, [expected(ORIGIN, 0, &full(u64::MAX))]);
    let text = serde_json::to_string(&found).expect("json");
    assert!(text.contains(&GrantId([202; 16]).hex()));
}

#[tokio::test]
async fn a_cursor_is_of_its_query_alone() {
    let world = World::new().await;
    let mut entry = Audit::empty(
        AuditWriter::Gateway,
        0,
        START_MS,
        AuditKind::Delivered,
        AuditCause::Stream,
    );
    entry.subject = subject(1);
    world.append(0, &vec![entry; 3]).await;
    let first = crate::index::world::first(1);
    let page = world
        .index
        .who_read(&subject(1), ALWAYS, None, &first)
        .await
        .expect("page");
    for cursor in [
        page.cursor.expect("cursor"),
        "?".to_owned(),
        "a".repeat(9_999),
    ] {
        let page = PageRequest {
            cursor: Some(cursor),
            limit: None,
        };
        let found = world.index.find_usage(&subject(1), ALWAYS, 0, &page).await;
        assert!(matches!(found, Err(IndexError::Cursor)));
    }
}
