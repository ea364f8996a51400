//! Whole months go when they are old enough and nobody holds them.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::NaiveDate;
use mz_ledger::index::{Hold, IndexError, Period};

use crate::index::world::{DAY_MS, ORIGIN, START_MS, World, full, random};

/// 2019-01-01T00:00:00Z.
const OLD_MS: i64 = 1_546_300_800_000;

fn month(month: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2019, month, 1).expect("date")
}

fn hold(from: i64, to: i64) -> Hold {
    Hold {
        period: Period {
            from_ms: OLD_MS + from * DAY_MS,
            to_ms: OLD_MS + to * DAY_MS,
        },
        reason: "court order 3".to_owned(),
        by: "op-9".to_owned(),
    }
}

#[tokio::test]
async fn old_months_expire_unless_held() {
    let world = World::new().await;
    let mut entries = random(14, 400, 120);
    for entry in &mut entries {
        entry.at_ms += OLD_MS - START_MS;
    }
    entries.push(full(401));
    world.append(0, &entries).await;
    // February is held, from the last moment of January's neighbour on.
    let held = world.index.hold(&hold(31, 32)).await.expect("hold");
    let until_april = OLD_MS + 90 * DAY_MS;
    let gone = world.index.expire(until_april - 1).await.expect("expire");
    assert_eq!(gone, [month(1)]);
    let gone = world.index.expire(until_april).await.expect("expire");
    assert_eq!(gone, [month(3)]);
    assert_eq!(world.index.expire(until_april).await.expect("expire"), []);
    world
        .index
        .end_hold(held, "lifted", "op-9")
        .await
        .expect("end");
    world
        .index
        .end_hold(held, "lifted", "op-9")
        .await
        .expect("end");
    assert_eq!(
        world.index.expire(until_april).await.expect("expire"),
        [month(2)]
    );

    let left = entries
        .iter()
        .filter(|audit| audit.at_ms >= until_april)
        .count() as i64;
    assert_eq!(world.count("SELECT count(*) FROM entry").await, left);
    // Sizes and counts stay, and nothing is missing that had to go.
    assert_eq!(world.index.progress(ORIGIN).await.expect("progress"), 401);
    assert_eq!(
        world
            .count("SELECT sum(entries)::bigint FROM usage_day")
            .await,
        401
    );
    let faults = world.index.check(ORIGIN, 0, &entries).await;
    assert_eq!(faults.expect("check"), []);
    // Indexing the log again doesn't bring them back.
    world.index.forget(ORIGIN).await.expect("forget");
    world.append(0, &entries).await;
    assert_eq!(world.count("SELECT count(*) FROM entry").await, left);
    assert_eq!(
        world
            .count("SELECT sum(entries)::bigint FROM usage_day")
            .await,
        401
    );
}

#[tokio::test]
async fn nothing_younger_than_the_law_expires() {
    let world = World::new().await;
    world.append(0, &[full(1)]).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock");
    let now = i64::try_from(now.as_millis()).expect("clock");
    for before in [now, now - 3 * 365 * DAY_MS + DAY_MS, i64::MAX] {
        let refused = world.index.expire(before).await;
        assert!(matches!(refused, Err(IndexError::TooYoung { years: 3 })));
    }
    world
        .index
        .expire(now - 3 * 366 * DAY_MS)
        .await
        .expect("expire");
}

#[tokio::test]
async fn a_hold_says_what_and_why() {
    let world = World::new().await;
    let empty = world.index.hold(&hold(5, 5)).await;
    assert!(matches!(empty, Err(IndexError::Period)));
    let mut silent = hold(1, 5);
    silent.reason = String::new();
    assert!(matches!(
        world.index.hold(&silent).await,
        Err(IndexError::Empty("reason"))
    ));
}
