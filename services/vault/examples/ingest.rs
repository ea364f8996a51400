//! What encryption costs: facts stored per second, sealed and plain, in turns against the same
//! PostgreSQL. `cargo run --release -p mz-vault --features testing --example ingest -- BATCHES ROUNDS`
//!
//! Sealed twice: people who come for the first time (a key is made for each), and people whose keys the
//! slot holds.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "an example")]

use std::time::Instant;

use mz_journal::SubjectTag;
use mz_keys::{SecretKey, wrapper};
use mz_vault::store::{Database, Fact, LaneStore, SCHEMA};

const BATCH: u32 = 4_096;
/// A framed value and its seal, as an insurance record has them.
const VALUE_BYTES: usize = 260;
const SEAL_BYTES: usize = 640;

fn batch(round: u32, number: u32) -> Vec<Fact> {
    let of = |n: u32| {
        let mut subject = [0; 16];
        subject[..4].copy_from_slice(&(number * BATCH + n).to_be_bytes());
        subject[4..8].copy_from_slice(&[7; 4]);
        Fact {
            lane: u16::try_from(n % 4).unwrap(),
            subject: SubjectTag(subject),
            dataset: 1001,
            record: subject,
            stream: "insurance".to_owned(),
            epoch: 1,
            counter: u64::from(round),
            source_offset: i64::from(n),
            ce_time_ms: 1_700_000_000_000,
            withdrawn: false,
            value: vec![b'v'; VALUE_BYTES],
            seal: vec![b's'; SEAL_BYTES],
        }
    };
    (0..BATCH).map(of).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |text| text.parse().unwrap());
    let (batches, rounds) = (number(16), number(3));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vault.key");
    SecretKey::generate().unwrap().save_new(&path).unwrap();
    let uri = format!("file:{}", path.display());
    println!("{batches} batches of {BATCH} facts; facts/s");
    println!("round  plain new  plain again  sealed new  sealed again");
    for round in 0..rounds {
        let mut figures = [0.0; 4];
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for kind in order {
            let url = mz_stack::testing::shared().database();
            let database = Database::new(&url, SCHEMA).unwrap();
            database.migrate().await.unwrap();
            let wrapper = wrapper(&uri).unwrap().into();
            let lanes = [0, 1, 2, 3];
            let mut store = LaneStore::take_over(&database, wrapper, &lanes, "bench")
                .await
                .unwrap();
            if kind == 0 {
                store.store_plain();
            }
            for pass in 0..2 {
                let facts: Vec<_> = (0..batches).map(|n| batch(pass + 1, n)).collect();
                let started = Instant::now();
                for batch in facts {
                    store.store(batch, &[]).await.unwrap();
                }
                let stored = f64::from(batches * BATCH);
                figures[kind * 2 + pass as usize] = stored / started.elapsed().as_secs_f64();
            }
        }
        let [a, b, c, d] = figures;
        println!("{round:>5}  {a:>9.0}  {b:>11.0}  {c:>10.0}  {d:>12.0}");
    }
}
