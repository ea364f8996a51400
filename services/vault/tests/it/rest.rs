//! How facts rest in a real PostgreSQL: sealed per person, bound to their row, gone with the key.

use mz_journal::{OrderId, SubjectTag};
use mz_vault::store::{Erasure, Fact, LaneStore, StoreError, Wanted, check_master, rewrap};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::store::{fact, fresh, master, own, wanted};

fn of(person: u8, record: u8, counter: u64) -> Fact {
    Fact {
        subject: SubjectTag([person; 16]),
        value: format!("MARK-value {person}.{record}.{counter}").into_bytes(),
        seal: b"MARK-seal".to_vec(),
        ..fact(record, 1, counter)
    }
}

fn everybody() -> Wanted {
    Wanted {
        subjects: (0..10).map(|n| SubjectTag([n; 16])).collect(),
        ..wanted()
    }
}

async fn execute(url: &str, sql: &str) -> u64 {
    let mut raw = PgConnection::connect(url).await.unwrap();
    let done = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .execute(&mut raw)
        .await
        .unwrap();
    done.rows_affected()
}

async fn count(url: &str, sql: &str) -> i64 {
    let mut raw = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(&mut raw)
        .await
        .unwrap()
}

/// Everything in every table of the schema, as PostgreSQL prints it and as bytes.
async fn dump(url: &str) -> Vec<u8> {
    let mut raw = PgConnection::connect(url).await.unwrap();
    let mut all = Vec::new();
    for table in [
        "fact",
        "subject_key",
        "erased_below",
        "erasure",
        "master_key",
    ] {
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT row_to_json(t)::text FROM vault.{table} t"
        )))
        .fetch_all(&mut raw)
        .await
        .unwrap();
        all.extend(rows.concat().into_bytes());
    }
    let bodies: Vec<Vec<u8>> = sqlx::query_scalar("SELECT body FROM vault.fact")
        .fetch_all(&mut raw)
        .await
        .unwrap();
    all.extend(bodies.concat());
    all
}

fn holds(hay: &[u8], needle: &str) -> bool {
    let hex: String = needle.bytes().map(|b| format!("{b:02x}")).collect();
    [needle, &hex]
        .iter()
        .any(|n| hay.windows(n.len()).any(|w| w == n.as_bytes()))
}

fn below(end: i64) -> Vec<(u32, i64)> {
    vec![(1001, end)]
}

fn erasure(order: u8, person: u8, end: i64) -> Erasure {
    Erasure {
        order: OrderId([order; 16]),
        lane: 1,
        subject: SubjectTag([person; 16]),
        below: below(end),
    }
}

#[tokio::test]
async fn nothing_readable_rests_in_the_database() {
    let (database, url) = fresh().await;
    let mut store = own(&database, "a").await;
    let all: Vec<Fact> = (0..5)
        .flat_map(|p| (0..3).map(move |r| of(p, r, 1)))
        .collect();
    store.store(all.clone(), &[]).await.unwrap();
    assert!(!holds(&dump(&url).await, "MARK-"));
    assert_eq!(store.facts(&everybody()).await.unwrap(), all);
    // One key for each person, whichever order facts come in; a successor reads them.
    let next: Vec<Fact> = (0..5).map(|p| of(p, 9, 1)).collect();
    store.store(next, &[]).await.unwrap();
    assert_eq!(
        count(&url, "SELECT count(*) FROM vault.subject_key").await,
        5
    );
    let mut store = own(&database, "b").await;
    assert_eq!(store.facts(&everybody()).await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_row_that_was_moved_or_altered_does_not_open() {
    let (database, url) = fresh().await;
    let mut store = own(&database, "a").await;
    let all: Vec<Fact> = (1..4)
        .flat_map(|p| (1..3).map(move |r| of(p, r, 1)))
        .collect();
    store.store(all, &[]).await.unwrap();
    let swap = |condition: &str| {
        format!(
            "UPDATE vault.fact AS held SET body = other.body FROM vault.fact AS other
              WHERE held.subject = decode(repeat('01', 16), 'hex')
                AND held.record = decode(repeat('01', 16), 'hex') AND {condition}"
        )
    };
    let record = "other.subject = held.subject AND other.record <> held.record";
    let person = "other.subject = decode(repeat('02', 16), 'hex') AND other.record = held.record";
    let edits = [
        swap(record),
        swap(person),
        "UPDATE vault.fact SET body = set_byte(body, 30, get_byte(body, 30) # 1)
          WHERE subject = decode(repeat('02', 16), 'hex')"
            .to_owned(),
        // Another person's key lent to somebody.
        "UPDATE vault.subject_key AS held SET wrapped = other.wrapped FROM vault.subject_key AS other
          WHERE held.subject = decode(repeat('03', 16), 'hex')
            AND other.subject = decode(repeat('01', 16), 'hex')"
            .to_owned(),
    ];
    for (at, edit) in edits.iter().enumerate() {
        assert!(execute(&url, edit).await > 0, "{edit}");
        let mut store = own(&database, "b").await;
        let rows = store.facts(&everybody()).await.unwrap();
        let opened = rows.iter().filter(|row| !row.value.is_empty()).count();
        // All rows are told of; what doesn't open shows nothing.
        assert_eq!((rows.len(), opened), (6, [5, 5, 3, 1][at]), "{edit}");
    }
}

#[tokio::test]
async fn another_master_key_is_refused_before_anything_is_touched() {
    let (database, url) = fresh().await;
    check_master(&database, &*master(1)).await.unwrap();
    check_master(&database, &*master(1)).await.unwrap();
    let refused = check_master(&database, &*master(2)).await.unwrap_err();
    assert_eq!(refused.code(), "VAULT_MASTER_KEY");
    let before = count(&url, "SELECT coalesce(max(token), 0) FROM vault.lane_owner").await;
    let taken = LaneStore::take_over(&database, master(2), &[1], "x").await;
    assert!(matches!(taken.err(), Some(StoreError::MasterKey { .. })));
    let after = count(&url, "SELECT coalesce(max(token), 0) FROM vault.lane_owner").await;
    assert_eq!(before, after, "a refused owner shut out the rightful one");
}

#[tokio::test]
async fn a_new_master_key_takes_over_all_keys_and_shuts_out_the_old_one() {
    let (database, url) = fresh().await;
    let mut store = own(&database, "a").await;
    let all: Vec<Fact> = (0..5).map(|p| of(p, 1, 1)).collect();
    store.store(all.clone(), &[]).await.unwrap();
    store.erase(&erasure(1, 4, 0)).await.unwrap();
    let wrong = rewrap(&database, &*master(3), &*master(2)).await;
    assert!(matches!(wrong, Err(StoreError::MasterKey { .. })));
    store.store(vec![of(0, 2, 1)], &[]).await.unwrap();
    assert_eq!(
        rewrap(&database, &*master(1), &*master(2)).await.unwrap(),
        4
    );
    let late = store.store(vec![of(6, 1, 1)], &[]).await;
    assert!(
        matches!(late, Err(StoreError::Superseded { .. })),
        "{late:?}"
    );
    let old = LaneStore::take_over(&database, master(1), &[1], "old").await;
    assert!(matches!(old.err(), Some(StoreError::MasterKey { .. })));
    let mut store = LaneStore::take_over(&database, master(2), &[1, 2], "new")
        .await
        .unwrap();
    let rows = store.facts(&everybody()).await.unwrap();
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row.value.starts_with(b"MARK-")));
    assert!(!holds(&dump(&url).await, "MARK-"));
}

#[tokio::test]
async fn what_was_stored_before_there_were_keys_opens_and_is_sealed_in_passing() {
    let (database, url) = fresh().await;
    let mut store = own(&database, "a").await;
    store.store_plain();
    let all: Vec<Fact> = (0..5)
        .flat_map(|p| (0..3).map(move |r| of(p, r, 1)))
        .collect();
    store.store(all.clone(), &[]).await.unwrap();
    assert!(holds(&dump(&url).await, "MARK-"));
    let mut store = own(&database, "b").await;
    assert_eq!(store.facts(&everybody()).await.unwrap(), all);
    // A newer version seals its row, idle turns the others.
    store.store(vec![of(0, 0, 2)], &[]).await.unwrap();
    assert_eq!(
        count(&url, "SELECT count(*) FROM vault.fact WHERE cipher = 0").await,
        14
    );
    while store.seal_plain().await.unwrap() {}
    assert_eq!(
        count(&url, "SELECT count(*) FROM vault.fact WHERE cipher = 0").await,
        0
    );
    assert!(!holds(&dump(&url).await, "MARK-"));
    assert_eq!(store.facts(&everybody()).await.unwrap()[1..], all[1..]);
}

#[tokio::test]
async fn who_is_erased_leaves_nothing_that_opens() {
    let (database, url) = fresh().await;
    let mut store = own(&database, "a").await;
    store
        .store(vec![of(1, 1, 1), of(1, 2, 2), of(2, 1, 1)], &[])
        .await
        .unwrap();
    // A row and the person's key as somebody kept them.
    execute(&url, "CREATE TABLE kept AS SELECT * FROM vault.fact").await;
    assert!(store.erase(&erasure(1, 1, 25)).await.unwrap());
    let rows = store.facts(&everybody()).await.unwrap();
    assert_eq!(rows, [of(2, 1, 1)]);
    execute(
        &url,
        "INSERT INTO vault.fact SELECT * FROM kept ON CONFLICT DO NOTHING",
    )
    .await;
    for mut store in [store, own(&database, "b").await] {
        let rows = store.facts(&everybody()).await.unwrap();
        let opened = rows.iter().filter(|row| !row.value.is_empty()).count();
        assert_eq!((rows.len(), opened), (3, 1));
    }
    let wrapped = "SELECT sum(octet_length(wrapped))::bigint FROM vault.subject_key
                    WHERE destroyed_at IS NOT NULL";
    assert_eq!(count(&url, wrapped).await, 0);
}

#[tokio::test]
async fn erased_facts_never_come_back_and_new_ones_have_a_new_key() {
    let (database, url) = fresh().await;
    let mut store = own(&database, "a").await;
    // Offsets are ten times the version.
    store
        .store(vec![of(1, 1, 1), of(1, 2, 2)], &[])
        .await
        .unwrap();
    assert!(store.erase(&erasure(1, 1, 25)).await.unwrap());
    let keys = "SELECT count(*) FROM vault.subject_key WHERE octet_length(wrapped) > 0";
    for again in 0..2 {
        // The same offsets read again, in a batch with others' facts; also one not read before.
        let replay = vec![of(1, 1, 1), of(1, 2, 2), of(2, 1, again + 1)];
        store.store(replay, &[]).await.unwrap();
        assert_eq!(
            store.facts(&everybody()).await.unwrap(),
            [of(2, 1, again + 1)]
        );
        assert_eq!(count(&url, keys).await, 1, "a key for nothing");
        store = own(&database, "b").await;
    }
    // Published after: new, whatever the version.
    let later = Fact {
        source_offset: 25,
        ..of(1, 1, 1)
    };
    store
        .store(vec![later.clone(), of(1, 2, 2)], &[])
        .await
        .unwrap();
    assert_eq!(store.facts(&everybody()).await.unwrap()[0], later);
    // The order comes again: it has been carried out.
    assert!(!store.erase(&erasure(1, 1, 40)).await.unwrap());
    assert_eq!(store.facts(&everybody()).await.unwrap().len(), 2);
    // Cached keys know what was erased, too.
    store
        .store(vec![of(1, 1, 2), of(1, 2, 2)], &[])
        .await
        .unwrap();
    assert_eq!(store.facts(&everybody()).await.unwrap()[0], later);
    // Another order does erase it again; a lower end doesn't reopen what was closed.
    assert!(store.erase(&erasure(2, 1, 10)).await.unwrap());
    store.store(vec![of(1, 1, 2)], &[]).await.unwrap();
    assert_eq!(store.facts(&everybody()).await.unwrap().len(), 1);
    let ends = "SELECT max(next_offset) FROM vault.erased_below";
    assert_eq!(count(&url, ends).await, 25);
}

#[tokio::test]
async fn an_erasure_is_whole_or_not_at_all() {
    let (database, url) = fresh().await;
    let mut store = own(&database, "a").await;
    store.store(vec![of(1, 1, 1)], &[]).await.unwrap();
    // The last statement of the transaction fails, as a database that goes away would make it.
    execute(
        &url,
        "CREATE FUNCTION vault.gone() RETURNS trigger LANGUAGE plpgsql
           AS $$ BEGIN RAISE EXCEPTION 'gone'; END $$",
    )
    .await;
    execute(
        &url,
        "CREATE TRIGGER gone BEFORE INSERT ON vault.erased_below
           FOR EACH ROW EXECUTE FUNCTION vault.gone()",
    )
    .await;
    assert!(store.erase(&erasure(1, 1, 25)).await.is_err());
    let mut store = own(&database, "b").await;
    assert_eq!(store.facts(&everybody()).await.unwrap(), [of(1, 1, 1)]);
    execute(&url, "DROP TRIGGER gone ON vault.erased_below").await;
    assert!(store.erase(&erasure(1, 1, 25)).await.unwrap());
    // An owner that was replaced erases nothing.
    let mut newer = own(&database, "c").await;
    newer.store(vec![of(2, 1, 1)], &[]).await.unwrap();
    let late = store.erase(&erasure(2, 2, 25)).await;
    assert!(
        matches!(late, Err(StoreError::Superseded { .. })),
        "{late:?}"
    );
    assert_eq!(newer.facts(&everybody()).await.unwrap().len(), 1);
}
