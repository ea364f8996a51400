//! What the writer may do, and what no table may hold.

use mz_ledger::index::{Actor, Hide, Hold, Index, IndexError, PageRequest, Period, SCHEMA};
use sqlx::Executor as _;

use crate::index::world::{ALWAYS, ORIGIN, START_MS, World, full, random, subject};

#[tokio::test]
async fn the_writer_can_neither_change_nor_remove() {
    let world = World::new().await;
    world.append(0, &random(5, 50, 2)).await;
    let mut tx = world.owner.begin().await.expect("transaction");
    tx.execute("SET LOCAL ROLE ledger_writer")
        .await
        .expect("role");
    for refused in [
        "UPDATE entry SET consumer = NULL",
        "DELETE FROM entry",
        "TRUNCATE entry",
        "DROP TABLE entry",
        "UPDATE entry_202401 SET consumer = NULL",
        "DELETE FROM entry_202401",
        "TRUNCATE entry_202401",
        "DROP TABLE entry_202401",
        "INSERT INTO entry_202401 SELECT * FROM entry",
        "ALTER TABLE entry DETACH PARTITION entry_202401",
        "UPDATE progress SET size = 1",
        "DELETE FROM progress",
        "TRUNCATE progress",
        "UPDATE usage_day SET entries = 0",
        "DELETE FROM usage_day",
        "UPDATE word SET text = 'tax'",
        "DELETE FROM word",
        "UPDATE log SET origin = 'x'",
        "DELETE FROM hidden",
        "UPDATE hidden SET until = now()",
        "DELETE FROM hide_request",
        "UPDATE hide_request SET requested_by = 'x'",
        "INSERT INTO hide_request (subject, lane, consumer, until, requested_by, requested_as, reason, at)
         VALUES ('', 1, 1, now(), 'a', 'b', 'c', now())",
        "UPDATE legal_hold SET to_at = now()",
        "INSERT INTO legal_hold_end (hold, reason, ended_by) VALUES (1, 'x', 'y')",
        "INSERT INTO expired (month) VALUES ('2024-01-01')",
        "CREATE TABLE mine ()",
    ] {
        tx.execute("SAVEPOINT before").await.expect("savepoint");
        let error = tx.execute(refused).await.expect_err(refused);
        let code = error.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("42501"), "{refused}: {error}");
        tx.execute("ROLLBACK TO before").await.expect("rollback");
    }
    tx.execute("INSERT INTO entry SELECT * FROM entry")
        .await
        .expect("insert");
}

/// Everything that people type is searched for digits as long as an identity number's.
#[tokio::test]
async fn no_table_holds_an_identity_number() {
    const ID: &str = "11010519491231002X";
    let world = World::new().await;
    let mut entry = full(1);
    entry.reason = format!("asked about {ID}").into();
    entry.operator = ID.into();
    entry.rule = "110105194912310028".into();
    world.append(0, &[entry.clone()]).await;
    let faults = world.index.check(ORIGIN, 0, &[entry]).await;
    assert_eq!(faults.expect("check"), []);
    let now = mz_ledger::system_clock();
    let actor = |operator: &str, principal: &str| Actor {
        operator: operator.to_owned(),
        principal: principal.to_owned(),
    };
    let hide = Hide {
        subject: subject(1),
        lane: 1,
        consumer: "police".to_owned(),
        until_ms: now + 1_000_000,
        by: actor(&format!("a{ID}"), "police.window"),
        reason: ID.to_owned(),
    };
    let number = world.index.request_hide(&hide, now).await.expect("hide");
    let approver = actor(&format!("b.{ID}"), "bus.security");
    let approved = world.index.approve_hide(number, &approver, now).await;
    approved.expect("approval");
    let period = Period {
        from_ms: START_MS,
        to_ms: START_MS + 1,
    };
    let hold = Hold {
        period,
        reason: ID.to_owned(),
        by: ID.to_owned(),
    };
    world.index.hold(&hold).await.expect("hold");
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'ledger'")
            .fetch_all(&world.owner)
            .await
            .expect("tables");
    assert!(tables.len() > 9);
    for table in tables.iter().filter(|table| *table != "_sqlx_migrations") {
        // Bytes and numbers aren't typed by anybody: texts are.
        let sql = format!(
            "SELECT count(*) FROM {table} AS t, jsonb_each_text(to_jsonb(t)) AS c
             WHERE jsonb_typeof(to_jsonb(t) -> c.key) = 'string' AND c.value NOT LIKE '\\\\x%'
               AND c.value ~ '[0-9]{{15}}'"
        );
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&world.owner)
            .await
            .expect("search");
        assert_eq!(found, 0, "{table}");
    }
}

/// A login that is a member of the role and nothing else does all of the daily work.
#[tokio::test]
async fn a_writers_login_appends_and_asks_and_no_more() {
    const LOGIN: &str = "ledger_test_login";
    let world = World::new().await;
    world
        .sql(
            "DO $$ BEGIN
                 IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ledger_test_login') THEN
                     CREATE ROLE ledger_test_login LOGIN PASSWORD 'test' IN ROLE ledger_writer;
                 END IF;
             END $$",
        )
        .await;
    let (_, server) = world.url.split_once('@').expect("URL");
    let url = format!("postgres://{LOGIN}:test@{server}");
    let index = Index::open(&url, SCHEMA).expect("index");
    assert!(index.is_current().await.expect("migrations"));
    let entries = random(6, 80, 100);
    index.append(ORIGIN, 0, &entries).await.expect("append");
    assert_eq!(index.check(ORIGIN, 0, &entries).await.expect("check"), []);
    let page = PageRequest::default();
    let found = index
        .who_read(&subject(1), ALWAYS, None, &page)
        .await
        .expect("page");
    assert!(!found.items.is_empty());
    index
        .find_usage(&subject(1), ALWAYS, 0, &page)
        .await
        .expect("page");
    let period = Period {
        from_ms: 0,
        to_ms: 1,
    };
    let hold = Hold {
        period,
        reason: "case".to_owned(),
        by: "op".to_owned(),
    };
    let hold = index.hold(&hold).await.expect("hold");
    for (what, refused) in [
        ("forget", index.forget(ORIGIN).await.err()),
        ("end_hold", index.end_hold(hold, "no", "op").await.err()),
        (
            "fold",
            index.fold_days(chrono::NaiveDate::default()).await.err(),
        ),
        ("thin", index.thin_progress().await.err()),
        ("expire", {
            world
                .index
                .append("old", 0, &[old()])
                .await
                .expect("append");
            index.expire(1_600_000_000_000).await.err()
        }),
        (
            "migrate",
            Index::open(&url, "other")
                .expect("index")
                .migrate()
                .await
                .err(),
        ),
    ] {
        assert!(refused.is_some(), "{what}");
        assert!(
            !matches!(refused, Some(IndexError::TooYoung { .. })),
            "{what}"
        );
    }
}

fn old() -> mz_journal::Audit<'static> {
    let mut entry = full(1);
    entry.at_ms = 1_546_300_800_000;
    entry
}
