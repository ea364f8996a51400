//! What a person is shown, and what is kept from them for a time.

use mz_journal::AuditKind;
use mz_ledger::index::{Actor, Hide, IndexError, MAX_HIDE_DAYS, OpenHide, Period, Usage};
use mz_seal::timestamp_text;

use crate::all_pages;
use crate::index::world::{ALWAYS, DAY_MS, ORIGIN, START_MS, World, random, subject};

fn now() -> i64 {
    mz_ledger::system_clock()
}

fn actor(operator: &str, principal: &str) -> Actor {
    Actor {
        operator: operator.to_owned(),
        principal: principal.to_owned(),
    }
}

fn requester() -> Actor {
    actor("op-1", "police.window")
}

fn approver() -> Actor {
    actor("op-2", "bus.security")
}

fn hide(consumer: &str, until_ms: i64) -> Hide {
    Hide {
        subject: subject(1),
        lane: 3,
        consumer: consumer.to_owned(),
        until_ms,
        by: requester(),
        reason: "criminal procedure, case 7".to_owned(),
    }
}

#[tokio::test]
async fn hidden_entries_are_left_out_until_the_time_has_passed() {
    let world = World::new().await;
    let entries = random(13, 500, 40);
    world.append(0, &entries).await;
    let (until, period) = (now() + 90 * DAY_MS, ALWAYS);
    let mut waiting = Vec::new();
    for consumer in ["police", "of nobody yet"] {
        let asked = hide(consumer, until);
        let number = world.index.request_hide(&asked, now()).await;
        waiting.push(number.expect("request"));
    }
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
    // A request hides nothing.
    let before = all_pages!(50, |page| world.index.find_usage(
        &subject(1),
        period,
        now(),
        &page
    ));
    assert_eq!(before, wanted(1, false, period));
    for number in waiting {
        let approved = world.index.approve_hide(number, &approver(), now()).await;
        approved.expect("approval");
    }
    // Made again from the log, the index hides what it hid.
    world.index.forget(ORIGIN).await.expect("forget");
    world.append(0, &entries).await;
    let few = Period {
        from_ms: START_MS + 3 * DAY_MS,
        to_ms: START_MS + 33 * DAY_MS,
    };
    for (person, now, hidden, period) in [
        (1, now(), true, period),
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
    let until = now() + DAY_MS;
    let mut groundless = hide("police", until);
    groundless.reason = " ".to_owned();
    assert!(matches!(
        world.index.request_hide(&groundless, now()).await,
        Err(IndexError::Empty("reason"))
    ));
    for end in [0, i64::from(MAX_HIDE_DAYS) * DAY_MS + 60_000] {
        let refused = world
            .index
            .request_hide(&hide("police", now() + end), now())
            .await;
        assert!(matches!(refused, Err(IndexError::HideTerm { days: 180 })));
    }
    let number = world
        .index
        .request_hide(&hide("police", until), now())
        .await;
    let number = number.expect("request");
    for alone in [
        requester(),
        actor(" OP-1", "bus.security"),
        actor("op-2", "police.window"),
    ] {
        let refused = world.index.approve_hide(number, &alone, now()).await;
        assert!(matches!(refused, Err(IndexError::OnePerson)), "{alone:?}");
    }
    for (wrong, at) in [(number + 1, now()), (number, until)] {
        let refused = world.index.approve_hide(wrong, &approver(), at).await;
        assert!(matches!(refused, Err(IndexError::NoHide)));
    }
    let state = |items: Vec<OpenHide>| -> Vec<(String, String)> {
        let told = items.into_iter().map(|item| (item.state, item.approved_by));
        told.collect()
    };
    let index = &world.index;
    let listed = all_pages!(1, |page| index.open_hides(None, now(), &page));
    assert_eq!(state(listed), [("requested".to_owned(), String::new())]);
    let approved = world.index.approve_hide(number, &approver(), now()).await;
    approved.expect("approval");
    let again = world.index.approve_hide(number, &approver(), now()).await;
    assert!(matches!(again, Err(IndexError::NoHide)), "approved once");
    let listed = all_pages!(1, |page| index.open_hides(Some("police"), now(), &page));
    assert_eq!(state(listed), [("in_force".to_owned(), "op-2".to_owned())]);
    for (consumer, at) in [(Some("union"), now()), (None, until)] {
        let listed = all_pages!(1, |page| index.open_hides(consumer, at, &page));
        assert_eq!(listed, []);
    }
}

/// The tables themselves refuse, whoever writes.
#[tokio::test]
async fn no_row_hides_without_a_request_and_another_person() {
    let world = World::new().await;
    let asked = hide("police", now() + DAY_MS);
    world
        .index
        .request_hide(&asked, now())
        .await
        .expect("request");
    let columns = "request, subject, consumer, until, requested_by, requested_as, reason,
        approved_by, approved_as";
    for (constraint, values) in [
        (
            "hidden_two_people",
            "id, subject, consumer, until, requested_by, requested_as, reason, 'Op-1 ', 'bus.security'",
        ),
        (
            "hidden_two_principals",
            "id, subject, consumer, until, requested_by, requested_as, reason, 'op-2', requested_as",
        ),
        (
            "hidden_as_requested",
            "id, subject, consumer, until + interval '1 hour', requested_by, requested_as, reason,
                'op-2', 'bus.security'",
        ),
        (
            "hidden_as_requested",
            "id + 1, subject, consumer, until, requested_by, requested_as, reason, 'op-2',
                'bus.security'",
        ),
    ] {
        let sql = format!("INSERT INTO hidden ({columns}) SELECT {values} FROM hide_request");
        let refused = sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&world.owner)
            .await;
        let error = refused.expect_err(constraint);
        let found = error.as_database_error().and_then(|e| e.constraint());
        assert_eq!(found, Some(constraint));
    }
    let long = sqlx::query("INSERT INTO hide_request
             (subject, lane, consumer, until, requested_by, requested_as, reason)
         SELECT subject, lane, consumer, now() + interval '181 days', 'op-1', 'x.y', 'z' FROM hide_request");
    let error = long.execute(&world.owner).await.expect_err("too long");
    let found = error.as_database_error().and_then(|e| e.constraint());
    assert_eq!(found, Some("hide_request_term"));
}
