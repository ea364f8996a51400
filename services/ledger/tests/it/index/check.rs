//! Every kind of tampering is named.

use mz_ledger::index::{Fault, FaultKind, Found, IndexError, Recount};

use crate::index::world::{DAY_MS, ORIGIN, START_MS, World, full, random};

fn fault(leaf: i64, kind: FaultKind) -> Fault {
    Fault {
        log: ORIGIN.to_owned(),
        leaf,
        kind,
        column: None,
        found: None,
    }
}

fn moved(leaf: i64, log: &str, to: i64) -> Fault {
    Fault {
        found: Some(Found {
            log: log.to_owned(),
            leaf: to,
        }),
        ..fault(leaf, FaultKind::Moved)
    }
}

#[tokio::test]
async fn each_column_of_each_row() {
    let world = World::new().await;
    let mut entries = random(15, 60, 60);
    entries[7] = full(8);
    world.append(0, &entries).await;
    for month in ["2023-10-01", "2024-04-01"] {
        let made = sqlx::query("SELECT ensure_month($1::text::date)")
            .bind(month)
            .execute(&world.owner);
        made.await.expect("month");
    }
    for (column, value) in [
        ("at", "at + interval '1 microsecond'"),
        ("at", "at + interval '3 months'"),
        ("at", "at - interval '3 months'"),
        ("number", "number + 1000"),
        ("version_counter", "NULL"),
        ("source_offset", "5"),
        ("output_sequence", "output_sequence - 1"),
        ("lane", "lane + 1"),
        ("agreement", "NULL"),
        ("consumer", "consumer + 1"),
        ("purpose", "0"),
        ("dataset", "dataset + 1"),
        ("rule", "NULL"),
        ("version_epoch", "1"),
        ("writer", "writer - 1"),
        ("kind", "99"),
        ("cause", "-1"),
        ("subject", "NULL"),
        ("record", "'\\x00'"),
        ("grant_id", "NULL"),
        ("event", "subject"),
        ("fields", "'\\x01'"),
        ("operator", "'op-18'"),
        ("reason", "NULL"),
        ("matched", "0"),
        ("delivered", "0"),
        ("denied", "NULL"),
        ("out_of_scope", "0"),
        ("from_offset", "4"),
        ("to_offset", "10"),
    ] {
        let tamper = format!(
            "CREATE TABLE kept AS SELECT * FROM entry WHERE leaf = 7;
             UPDATE entry SET {column} = {value} WHERE leaf = 7"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(tamper))
            .execute(&world.owner)
            .await
            .expect(column);
        let faults = world.index.check(ORIGIN, 0, &entries).await.expect("check");
        let wanted = Fault {
            column: Some(column.to_owned()),
            ..fault(7, FaultKind::Altered)
        };
        assert_eq!(faults, [wanted]);
        let restore = "DELETE FROM entry WHERE leaf = 7;
             INSERT INTO entry SELECT * FROM kept; DROP TABLE kept";
        sqlx::raw_sql(restore)
            .execute(&world.owner)
            .await
            .expect(column);
        assert_eq!(
            world.index.check(ORIGIN, 0, &entries).await.expect("check"),
            []
        );
    }
    // A word that says something else alters every row that has it.
    world
        .sql("UPDATE word SET text = 'NO_GRANT,WITHDRAWN' WHERE text = 'NO_GRANT,PAUSED'")
        .await;
    let faults = world.index.check(ORIGIN, 0, &entries).await.expect("check");
    assert!(!faults.is_empty());
    assert!(
        faults
            .iter()
            .all(|fault| fault.column.as_deref() == Some("rule"))
    );
}

#[tokio::test]
async fn missing_extra_and_moved_rows() {
    let world = World::new().await;
    let mut entries = random(16, 200, 60);
    for (number, entry) in entries.iter_mut().enumerate() {
        entry.at_ms = START_MS + number as i64 * DAY_MS / 4;
    }
    world.append(0, &entries).await;
    world
        .index
        .append("another", 0, &entries[..1])
        .await
        .expect("append");
    world
        .sql("DELETE FROM entry WHERE log = 1 AND leaf IN (0, 50)")
        .await;
    // 1 and 2 change places; 10 takes the place of the deleted 50; 20 goes past the end; 30 goes
    // to another log; 40 comes twice; one row is not the log's at all.
    world
        .sql("UPDATE entry SET leaf = 3 - leaf WHERE leaf IN (1, 2)")
        .await;
    world
        .sql("UPDATE entry SET leaf = 50 WHERE leaf = 10")
        .await;
    world
        .sql("UPDATE entry SET leaf = 777 WHERE leaf = 20")
        .await;
    world.sql("UPDATE entry SET log = 2 WHERE leaf = 30").await;
    world
        .sql("INSERT INTO entry SELECT * FROM entry WHERE leaf = 40")
        .await;
    world
        .sql(
            "INSERT INTO entry (at, leaf, number, log, lane, writer, kind, cause)
             VALUES ('2024-01-15', 900, 9999, 1, 0, 0, 0, 0), ('2024-02-15', -1, 9998, 1, 0, 0, 0, 0)",
        )
        .await;
    let found = world.index.check(ORIGIN, 0, &entries).await.expect("check");
    let extra = |leaf| fault(leaf, FaultKind::Extra);
    let wanted = [
        extra(-1),
        // The same entry is in the other log by right: it can't be told from a moved one.
        moved(0, "another", 0),
        moved(1, ORIGIN, 2),
        moved(2, ORIGIN, 1),
        moved(10, ORIGIN, 50),
        moved(20, ORIGIN, 777),
        moved(30, "another", 30),
        extra(40),
        fault(50, FaultKind::Missing),
        extra(900),
    ];
    assert_eq!(found, wanted);
    // In parts: each names what is wrong with its own leaves.
    let part = world
        .index
        .check(ORIGIN, 8, &entries[8..25])
        .await
        .expect("check");
    assert_eq!(part, [moved(10, ORIGIN, 50), moved(20, ORIGIN, 777)]);
    let part = world
        .index
        .check(ORIGIN, 51, &entries[51..60])
        .await
        .expect("check");
    assert_eq!(part, []);
    let none = world
        .index
        .check("unheard of", 0, &entries)
        .await
        .expect("check");
    assert_eq!(none, []);
}

#[tokio::test]
async fn sums_are_those_of_the_log() {
    let world = World::new().await;
    let entries = random(19, 300, 20);
    world.append(0, &entries[..130]).await;
    world.append(130, &entries[130..]).await;
    world
        .index
        .append("another", 0, &entries[..30])
        .await
        .expect("append");
    let mut recount = Recount::default();
    world
        .index
        .recount(&mut recount, &entries[..200])
        .await
        .expect("recount");
    let early = world.index.check_sums(ORIGIN, &recount).await;
    assert!(matches!(
        early,
        Err(IndexError::Recount {
            size: 300,
            counted: 200
        })
    ));
    world
        .index
        .recount(&mut recount, &entries[200..])
        .await
        .expect("recount");
    let faults = world
        .index
        .check_sums(ORIGIN, &recount)
        .await
        .expect("sums");
    assert_eq!(faults, []);
    for (tamper, stored) in [
        (
            "UPDATE usage_day SET entries = entries + 1 WHERE ctid = (SELECT min(ctid) FROM usage_day)",
            1,
        ),
        (
            "UPDATE usage_day SET denied = denied + 9 WHERE ctid = (SELECT min(ctid) FROM usage_day)",
            0,
        ),
        (
            "UPDATE usage_day SET fields[1] = 9 WHERE ctid = (SELECT min(ctid) FROM usage_day)",
            0,
        ),
    ] {
        world
            .sql("CREATE TABLE kept AS SELECT * FROM usage_day")
            .await;
        world.sql(tamper).await;
        let faults = world
            .index
            .check_sums(ORIGIN, &recount)
            .await
            .expect("sums");
        assert_eq!(faults.len(), 1, "{tamper}");
        assert_eq!(faults[0].stored - faults[0].counted, stored);
        world.sql("DELETE FROM usage_day").await;
        world.sql("INSERT INTO usage_day SELECT * FROM kept").await;
        world.sql("DROP TABLE kept").await;
    }
    world
        .sql("DELETE FROM usage_day WHERE day = '2024-01-03'")
        .await;
    let faults = world
        .index
        .check_sums(ORIGIN, &recount)
        .await
        .expect("sums");
    assert!(!faults.is_empty());
    assert!(
        faults
            .iter()
            .all(|f| f.stored == 0 && f.day.to_string() == "2024-01-03")
    );
}
