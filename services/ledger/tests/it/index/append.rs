//! Entries in: every column, repeats, gaps, writers at the same time.

use std::sync::Arc;

use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter};
use mz_ledger::index::{Appended, Index, IndexError, MAX_BATCH, SCHEMA};

use crate::index::world::{ORIGIN, START_MS, World, full, random};

#[tokio::test]
async fn every_column_comes_back() {
    let world = World::new().await;
    let empty = Audit::empty(
        AuditWriter::Gateway,
        0,
        START_MS,
        AuditKind::Delivered,
        AuditCause::Stream,
    );
    let mut entries = vec![full(1), empty];
    entries.extend(random(1, 300, 70));
    world.append(0, &entries).await;
    // Nothing differs: `check` compares each column, and its own test shows that it would notice.
    let faults = world.index.check(ORIGIN, 0, &entries).await;
    assert_eq!(faults.expect("check"), []);
    let row: (i64, i64, i64, i32, Vec<u8>, String, i64, i64) = sqlx::query_as(
        "SELECT number, version_counter, output_sequence, version_epoch, fields, text, matched,
                (extract(epoch FROM at) * 1000)::bigint
         FROM entry JOIN word ON word.id = rule WHERE leaf = 0",
    )
    .fetch_one(&world.owner)
    .await
    .expect("row");
    let fields = entries[0].fields.to_vec();
    let rule = "NO_GRANT,PAUSED".to_owned();
    assert_eq!(
        row,
        (1, -2, -3, -1, fields, rule, 4_294_967_295, START_MS + 7)
    );
    let nulls = world
        .count(
            "SELECT num_nulls(version_counter, source_offset, output_sequence, agreement, consumer,
                 purpose, dataset, rule, version_epoch, subject, record, grant_id, event, fields,
                 operator, reason, matched, delivered, denied, out_of_scope, from_offset, to_offset)
                 ::bigint FROM entry WHERE leaf = 1",
        )
        .await;
    assert_eq!(nulls, 22);
}

#[tokio::test]
async fn repeats_are_skipped_and_gaps_refused() {
    let world = World::new().await;
    let entries = random(2, 100, 3);
    assert_eq!(world.index.progress(ORIGIN).await.expect("progress"), 0);
    world.append(0, &entries[..40]).await;
    let again = world.index.append(ORIGIN, 0, &entries[..40]).await;
    assert_eq!(again.expect("repeat"), Appended { size: 40, new: 0 });
    let overlap = world.index.append(ORIGIN, 30, &entries[30..60]).await;
    assert_eq!(overlap.expect("overlap"), Appended { size: 60, new: 20 });
    let gap = world.index.append(ORIGIN, 61, &entries[61..]).await;
    assert!(matches!(
        gap,
        Err(IndexError::Gap {
            size: 60,
            first_leaf: 61
        })
    ));
    // Nothing of a batch stays when one entry can't.
    let mut bad = entries[60..].to_vec();
    bad[30].at_ms = i64::MAX;
    let unfit = world.index.append(ORIGIN, 60, &bad).await;
    assert!(matches!(
        unfit,
        Err(IndexError::Unfit {
            leaf: 90,
            column: "at"
        })
    ));
    let many = vec![full(1); MAX_BATCH + 1];
    let batch = world.index.append(ORIGIN, 60, &many).await;
    assert!(matches!(batch, Err(IndexError::Batch { .. })));
    assert_eq!(world.index.progress(ORIGIN).await.expect("progress"), 60);
    world.append(60, &entries[60..]).await;
    assert_eq!(world.count("SELECT count(*) FROM entry").await, 100);
    assert_eq!(
        world
            .count("SELECT sum(entries)::bigint FROM usage_day")
            .await,
        100
    );
    // A second process knows where the first was.
    let other = Index::open(&world.url, SCHEMA).expect("index");
    assert_eq!(other.progress(ORIGIN).await.expect("progress"), 100);
}

#[tokio::test]
async fn a_log_is_indexed_again_from_its_first_leaf() {
    let world = World::new().await;
    let entries = random(3, 200, 40);
    world.append(0, &entries).await;
    let other = world.index.append("another", 0, &entries[..50]).await;
    other.expect("append");
    world.index.forget(ORIGIN).await.expect("forget");
    assert_eq!(world.index.progress(ORIGIN).await.expect("progress"), 0);
    assert_eq!(world.count("SELECT count(*) FROM entry").await, 50);
    assert_eq!(
        world
            .count("SELECT sum(entries)::bigint FROM usage_day")
            .await,
        50
    );
    world.append(0, &entries).await;
    let faults = world.index.check(ORIGIN, 0, &entries).await;
    assert_eq!(faults.expect("check"), []);
}

/// Several processes with the same batches and several logs, months new to all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_the_same_time_lose_and_repeat_nothing() {
    let world = World::new().await;
    let entries = Arc::new(random(4, 600, 200));
    let mut tasks = Vec::new();
    for task in 0..6u64 {
        let index = Index::open(&world.url, SCHEMA).expect("index");
        let entries = Arc::clone(&entries);
        tasks.push(tokio::spawn(async move {
            let origin = format!("log-{}", task % 2);
            for start in (0..600).step_by(50) {
                let batch = &entries[start..start + 50];
                index.append(&origin, start as u64, batch).await?;
            }
            Ok::<_, IndexError>(())
        }));
    }
    for task in tasks {
        task.await.expect("task").expect("append");
    }
    for origin in ["log-0", "log-1"] {
        assert_eq!(world.index.progress(origin).await.expect("progress"), 600);
        let faults = world.index.check(origin, 0, &entries).await;
        assert_eq!(faults.expect("check"), []);
    }
    assert_eq!(world.count("SELECT count(*) FROM entry").await, 1_200);
    assert_eq!(
        world
            .count("SELECT sum(entries)::bigint FROM usage_day")
            .await,
        1_200
    );
    assert_eq!(world.count("SELECT count(*) FROM progress").await, 24);
}

/// A database that was told of a clock that was wrong by ages keeps the entry.
#[tokio::test]
async fn strange_times_are_kept() {
    let world = World::new().await;
    let mut entries = vec![full(1), full(2), full(3)];
    entries[0].at_ms = 0;
    entries[1].at_ms = -62_135_596_800_000;
    entries[2].at_ms = 253_402_300_799_999;
    world.append(0, &entries).await;
    let faults = world.index.check(ORIGIN, 0, &entries).await;
    assert_eq!(faults.expect("check"), []);
}
