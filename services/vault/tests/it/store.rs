//! The store against a real PostgreSQL: which version wins, and who may write.

use std::sync::Arc;
use std::time::Duration;

use mz_journal::SubjectTag;
use mz_keys::{KeyWrapper, SecretKey};
use mz_stack::testing;
use mz_vault::store::{Database, Fact, LaneStore, SCHEMA, StoreError, Wanted};
use sqlx::{Connection as _, PgConnection};

pub fn fact(record: u8, epoch: u32, counter: u64) -> Fact {
    Fact {
        lane: 1,
        subject: SubjectTag([7; 16]),
        dataset: 1001,
        record: [record; 16],
        stream: "insurance".to_owned(),
        epoch,
        counter,
        source_offset: i64::try_from(counter).unwrap() * 10,
        ce_time_ms: 1_700_000_000_000,
        withdrawn: false,
        value: format!("value {epoch}.{counter}").into_bytes(),
        seal: b"seal".to_vec(),
    }
}

pub fn wanted() -> Wanted {
    Wanted {
        lane: 1,
        subjects: vec![SubjectTag([7; 16])],
        datasets: vec![1001],
    }
}

pub async fn fresh() -> (Database, String) {
    let url = testing::shared().database();
    let database = Database::new(&url, SCHEMA).unwrap();
    assert!(!database.is_current().await.unwrap());
    database.migrate().await.unwrap();
    assert!(database.is_current().await.unwrap());
    (database, url)
}

/// A master key: the same one for every `name`.
pub fn master(name: u8) -> Arc<dyn KeyWrapper> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vault.key");
    SecretKey::from_bytes([name; 32]).save_new(&path).unwrap();
    let uri = format!("file:{}", path.display());
    mz_keys::wrapper(&uri).unwrap().into()
}

pub async fn own(database: &Database, name: &str) -> LaneStore {
    LaneStore::take_over(database, master(1), &[1, 2], name)
        .await
        .unwrap()
}

/// Record → (epoch, counter), as stored.
async fn versions(store: &mut LaneStore) -> Vec<(u8, u32, u64)> {
    let rows = store.facts(&wanted()).await.unwrap();
    rows.iter()
        .map(|row| (row.record[0], row.epoch, row.counter))
        .collect()
}

#[tokio::test]
async fn the_newest_version_wins_in_whatever_order_they_come() {
    let (database, _) = fresh().await;
    let mut store = own(&database, "a").await;
    let all = [(1, 1), (1, 2), (1, 9), (2, 1), (2, 2)];
    // Every order of arrival, one batch each, then all in one batch.
    for (at, order) in permutations(&all).into_iter().enumerate() {
        let record = u8::try_from(at).unwrap();
        for (epoch, counter) in &order {
            store
                .store(vec![fact(record, *epoch, *counter)], &[])
                .await
                .unwrap();
        }
        let in_one = order
            .iter()
            .map(|(e, c)| fact(record + 120, *e, *c))
            .collect();
        store.store(in_one, &[]).await.unwrap();
    }
    let held = versions(&mut store).await;
    assert_eq!(held.len(), 240);
    assert!(
        held.iter()
            .all(|(_, epoch, counter)| (*epoch, *counter) == (2, 2))
    );
    let rows = store.facts(&wanted()).await.unwrap();
    assert!(
        rows.iter()
            .all(|row| row.value == b"value 2.2" && row.source_offset == 20)
    );
}

#[tokio::test]
async fn a_record_stays_with_the_stream_that_brought_it() {
    let (database, _) = fresh().await;
    let mut store = own(&database, "a").await;
    store.store(vec![fact(1, 1, 1)], &[]).await.unwrap();
    let foreign = Fact {
        stream: "other".to_owned(),
        ..fact(1, 9, 9)
    };
    store.store(vec![foreign], &[]).await.unwrap();
    assert_eq!(versions(&mut store).await, [(1, 1, 1)]);
}

#[tokio::test]
async fn positions_move_with_the_facts_and_never_back() {
    let (database, _) = fresh().await;
    let mut store = own(&database, "a").await;
    let at = |next| [(1, "src.x".to_owned(), next)];
    store.store(vec![fact(1, 1, 1)], &at(11)).await.unwrap();
    store.store(Vec::new(), &at(20)).await.unwrap();
    store.store(Vec::new(), &at(15)).await.unwrap();
    let positions = store.positions(&[1, 2]).await.unwrap();
    assert_eq!(positions.get(&(1, "src.x".to_owned())), Some(&20));
    assert_eq!(positions.len(), 1);
}

#[tokio::test]
async fn an_owner_that_was_replaced_writes_nothing() {
    let (database, _) = fresh().await;
    let mut old = own(&database, "old").await;
    old.store(vec![fact(1, 1, 1)], &[(1, "src.x".to_owned(), 5)])
        .await
        .unwrap();
    // One common lane is enough: a slot is taken as a whole.
    let mut new = LaneStore::take_over(&database, master(1), &[2], "new")
        .await
        .unwrap();
    let late = old
        .store(vec![fact(1, 1, 2)], &[(1, "src.x".to_owned(), 6)])
        .await;
    assert!(
        matches!(late, Err(StoreError::Superseded { lane: 2 })),
        "{late:?}"
    );
    let late = old.store(Vec::new(), &[(1, "src.x".to_owned(), 7)]).await;
    assert!(
        matches!(late, Err(StoreError::Superseded { lane: 2 })),
        "{late:?}"
    );
    assert_eq!(versions(&mut new).await, [(1, 1, 1)]);
    let positions = new.positions(&[1]).await.unwrap();
    assert_eq!(positions.get(&(1, "src.x".to_owned())), Some(&5));
    new.store(
        vec![Fact {
            lane: 2,
            ..fact(3, 1, 1)
        }],
        &[],
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_take_over_waits_for_the_write_that_is_under_way() {
    let (database, url) = fresh().await;
    let _old = own(&database, "old").await;
    // The old owner's transaction, stopped (SIGSTOP) between its check and its commit.
    let mut frozen = PgConnection::connect(&url).await.unwrap();
    let mut tx = frozen.begin().await.unwrap();
    sqlx::query("SET LOCAL search_path TO vault")
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query("SELECT token FROM lane_owner FOR SHARE")
        .execute(&mut *tx)
        .await
        .unwrap();
    let other = database.clone();
    let taking = tokio::spawn(async move { own(&other, "new").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        !taking.is_finished(),
        "took over while the predecessor could still commit"
    );
    tx.commit().await.unwrap();
    taking.await.unwrap();
}

#[test]
fn a_schema_name_is_a_plain_identifier() {
    for bad in ["", "Vault", "a b", "x;drop", "x\"", "1x", &"x".repeat(64)] {
        let refused = Database::new("postgres://localhost/x", bad);
        assert!(matches!(refused, Err(StoreError::SchemaName)), "{bad}");
    }
    let refused = Database::new("mysql://u:secret@localhost/x", "vault").unwrap_err();
    assert!(!format!("{refused:?} {refused}").contains("secret"));
    let database = Database::new("postgres://u:secret@localhost/x", "vault").unwrap();
    assert!(!format!("{database:?}").contains("secret"));
}

fn permutations(all: &[(u32, u64)]) -> Vec<Vec<(u32, u64)>> {
    if all.is_empty() {
        return vec![Vec::new()];
    }
    let mut found = Vec::new();
    for at in 0..all.len() {
        let mut rest = all.to_vec();
        let first = rest.remove(at);
        for mut tail in permutations(&rest) {
            tail.insert(0, first);
            found.push(tail);
        }
    }
    found
}
