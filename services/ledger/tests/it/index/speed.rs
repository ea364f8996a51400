//! How fast entries come in and a person's are found. Run alone, in release:
//! `cargo test --release -p mz-ledger --test it speed -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mz_journal::{Audit, AuditKind, SubjectTag};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::index::world::{ALWAYS, ORIGIN, World, first, random};

const ENTRIES: u64 = 1_000_000;
const BATCH: usize = 8_192;
const PEOPLE: u64 = 100_000;
const QUERIES: usize = 500;

fn entries() -> Vec<Audit<'static>> {
    let mut entries = random(20, ENTRIES, 20);
    let mut rng = StdRng::seed_from_u64(21);
    for audit in &mut entries {
        if audit.kind != AuditKind::Summary {
            audit.subject = person(rng.random_range(0..PEOPLE));
            audit.event = rng.random();
            audit.record.0 = rng.random();
            audit.version_counter = audit.number;
        }
    }
    entries
}

fn person(number: u64) -> SubjectTag {
    // Spread over the index like a keyed tag.
    let mut rng = StdRng::seed_from_u64(number);
    SubjectTag(rng.random())
}

fn rate(took: Duration) -> f64 {
    ENTRIES as f64 / took.as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute and prints figures"]
async fn a_million_entries() {
    let world = World::new().await;
    let entries = entries();
    let started = Instant::now();
    for (number, batch) in entries.chunks(BATCH).enumerate() {
        world.append((number * BATCH) as u64, batch).await;
    }
    println!(
        "append: {:.0} rows/s, {BATCH} a batch",
        rate(started.elapsed())
    );
    let world = Arc::new(world);
    let started = Instant::now();
    let mut tasks = Vec::new();
    for shard in 0..4 {
        let world = Arc::clone(&world);
        let entries = entries[shard * 250_000..(shard + 1) * 250_000].to_vec();
        tasks.push(tokio::spawn(async move {
            for (number, batch) in entries.chunks(BATCH).enumerate() {
                let leaf = (number * BATCH) as u64;
                let origin = format!("shard-{shard}");
                world
                    .index
                    .append(&origin, leaf, batch)
                    .await
                    .expect("append");
            }
        }));
    }
    for task in tasks {
        task.await.expect("task");
    }
    println!("append to 4 logs: {:.0} rows/s", rate(started.elapsed()));
    world.sql("VACUUM ANALYZE entry").await;

    let mut rng = StdRng::seed_from_u64(22);
    let mut times: Vec<Duration> = Vec::new();
    let mut rows = 0;
    for _ in 0..QUERIES {
        let subject = person(rng.random_range(0..PEOPLE));
        let started = Instant::now();
        let page = world
            .index
            .who_read(&subject, ALWAYS, None, &first(100))
            .await;
        times.push(started.elapsed());
        rows += page.expect("page").items.len();
    }
    times.sort();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1_000.0;
    let each = rows / QUERIES;
    println!(
        "who_read: p50 {:.2} ms, p95 {:.2} ms, {each} rows each",
        at(50),
        at(95)
    );
    let started = Instant::now();
    let faults = world
        .index
        .check(ORIGIN, 500_000, &entries[500_000..508_192])
        .await;
    assert_eq!(faults.expect("check"), []);
    println!("check of {BATCH}: {:?}", started.elapsed());
    let started = Instant::now();
    let faults = world
        .index
        .check("shard-2", 100_000, &entries[600_000..608_192])
        .await;
    assert_eq!(faults.expect("check"), []);
    println!("check of {BATCH} of one of 4 logs: {:?}", started.elapsed());

    // The same rows once more, as bytes that PostgreSQL itself wrote, in one COPY.
    let mut connection = world.owner.acquire().await.expect("connection");
    let bytes = copied_out(&mut connection).await;
    let size = world.count("SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'entry'::regclass").await;
    let heap = world.count("SELECT sum(pg_relation_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'entry'::regclass").await;
    let count = 2 * ENTRIES as i64;
    println!(
        "size: {} bytes a row, {} with indexes",
        heap / count,
        size / count
    );
    world.sql("TRUNCATE entry").await;
    println!(
        "bare COPY: {:.0} rows/s",
        rate(copied_in(&mut connection, &bytes).await)
    );
    world.sql("TRUNCATE entry").await;
    world.sql("DROP INDEX entry_subject").await;
    world.sql("DROP INDEX entry_place").await;
    println!(
        "bare COPY without an index: {:.0} rows/s",
        rate(copied_in(&mut connection, &bytes).await)
    );
}

/// By way of a file of the server: the rows of one table by a client's COPY need more of a client
/// than we have here.
async fn copied_out(connection: &mut sqlx::PgConnection) -> Vec<u8> {
    let path = "current_setting('data_directory') || '/rows.copy'";
    let write = |rows: &str| {
        let copy = format!("COPY ({rows}) TO %L (FORMAT binary)").replace('\'', "''");
        sqlx::AssertSqlSafe(format!(
            "DO $$ BEGIN EXECUTE format('{copy}', {path}); END $$"
        ))
    };
    let out = sqlx::raw_sql(write("SELECT * FROM entry WHERE log = 1 ORDER BY leaf"));
    out.execute(&mut *connection).await.expect("copy");
    let read = sqlx::AssertSqlSafe(format!("SELECT pg_read_binary_file({path})"));
    let bytes = sqlx::query_scalar(read)
        .fetch_one(&mut *connection)
        .await
        .expect("file");
    sqlx::raw_sql(write("SELECT 1"))
        .execute(connection)
        .await
        .expect("copy");
    bytes
}

async fn copied_in(connection: &mut sqlx::PgConnection, bytes: &[u8]) -> Duration {
    let started = Instant::now();
    let mut copy = connection
        .copy_in_raw("COPY entry FROM STDIN (FORMAT binary)")
        .await
        .expect("copy");
    for part in bytes.chunks(1 << 20) {
        copy.send(part).await.expect("copy");
    }
    copy.finish().await.expect("copy");
    started.elapsed()
}
