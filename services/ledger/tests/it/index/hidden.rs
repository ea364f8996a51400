//! What a person is shown, and what is kept from them for a time.

use mz_journal::AuditKind;
use mz_ledger::index::{Hide, IndexError, Period, Usage};
use mz_seal::timestamp_text;

use crate::all_pages;
use crate::index::world::{ALWAYS, DAY_MS, START_MS, World, random, subject};

fn hide(consumer: &str, until_ms: i64) -> Hide {
    Hide {
        subject: subject(1),
        consumer: consumer.to_owned(),
        until_ms,
        requested_by: "op-1".to_owned(),
        approved_by: "op-2".to_owned(),
        reason: "criminal procedure, case 7".to_owned(),
    }
}

#[tokio::test]
async fn hidden_entries_are_left_out_until_the_time_has_passed() {
    let world = World::new().await;
    let entries = random(13, 500, 40);
    world.append(0, &entries).await;
    let (until, period) = (START_MS + 90 * DAY_MS, ALWAYS);
    world
        .index
        .hide(&hide("police", until))
        .await
        .expect("hide");
    world
        .index
        .hide(&hide("of nobody yet", until))
        .await
        .expect("hide");
    let wanted = |person: u8, hidden: bool, period: Period| -> Vec<Usage> {
        let uses = [AuditKind::Delivered, AuditKind::Lookup, AuditKind::Exposed];
        let mut shown: Vec<_> = entries
            .iter()
            .filter(|audit| audit.subject == subject(person) && uses.contains(&audit.kind))
            .filter(|audit| !hidden || audit.consumer != "police")
            .filter(|audit| (period.from_ms..period.to_ms).contains(&audit.at_ms))
            .collect();
        shown.sort_by_key(|audit| audit.at_ms);
        let shown = shown.into_iter().map(|audit| Usage {
            logtime: timestamp_text(audit.at_ms),
            action: audit.kind.name().to_owned(),
            receiver: audit.consumer.to_string(),
            reason: match &*audit.reason {
                "" => audit.purpose.to_string(),
                reason => reason.to_owned(),
            },
        });
        shown.collect()
    };
    let few = Period {
        from_ms: START_MS + 3 * DAY_MS,
        to_ms: START_MS + 33 * DAY_MS,
    };
    for (person, now, hidden, period) in [
        (1, until - 1, true, period),
        (1, until - 1, true, few),
        (1, until, false, period),
        (2, until - 1, false, period),
    ] {
        let found = all_pages!(9, |page| world.index.find_usage(
            &subject(person),
            period,
            now,
            &page
        ));
        assert_eq!(found, wanted(person, hidden, period));
    }
    // An auditor sees everything all the time.
    let found = all_pages!(50, |page| world.index.who_read(
        &subject(1),
        period,
        Some("police"),
        &page
    ));
    assert!(found.len() > 9);
}

#[tokio::test]
async fn hiding_takes_two_people_and_a_ground() {
    let world = World::new().await;
    let mut alone = hide("police", START_MS);
    alone.approved_by = " OP-1".to_owned();
    assert!(matches!(
        world.index.hide(&alone).await,
        Err(IndexError::OnePerson)
    ));
    let mut groundless = hide("police", START_MS);
    groundless.reason = " ".to_owned();
    assert!(matches!(
        world.index.hide(&groundless).await,
        Err(IndexError::Empty("reason"))
    ));
    world
        .index
        .hide(&hide("police", START_MS))
        .await
        .expect("hide");
    // The table itself refuses, whoever asks.
    let error = sqlx::query(
        "INSERT INTO hidden (subject, consumer, until, requested_by, approved_by, reason)
         SELECT subject, consumer, until, 'op-1', 'Op-1 ', reason FROM hidden",
    )
    .execute(&world.owner)
    .await
    .expect_err("one person");
    let constraint = error
        .as_database_error()
        .and_then(|error| error.constraint());
    assert_eq!(constraint, Some("hidden_two_people"));
}
