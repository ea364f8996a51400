//! The ledger beside a bare sequential write of the same bytes, its index beside a bare COPY of the same
//! rows, and how long "who read this person's data" takes as the index grows.

use super::grants::{mix, tag};
use super::publish::now_us;
use super::report::round;
use super::world::{Side, World};
use super::{BenchError, Options, set_up, take_down};
use mz_bus::{TxProducer, tuning};
use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, Chain, RecordTag, SubjectTag, topics};
use mz_keys::KeysDir;
use mz_ledger::Progress;
use mz_ledger::index::{Index, PageRequest, Period};
use mz_ledger::log::{Entry, Folder, Log};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// People about whom the entries are.
const PEOPLE: u64 = 1_000_000;
/// Entries of one commit of the log alone.
const COMMIT: usize = 8_192;
/// Questions asked at each size of the index.
const QUESTIONS: u64 = 300;
/// Entries that are indexed in one transaction.
const INDEX_BATCH: usize = 16_384;
/// Entries of one Kafka transaction that fills the topic.
const PUBLISH: u64 = 20_000;
const SCHEMA: &str = "bench_ledger";
const ORIGIN: &str = "bench/audit/0/2026";
const START_MS: i64 = 1_793_000_000_000;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct LedgerWork {
    /// Entries of each throughput round.
    pub entries: u64,
    /// Rows of the index when the last questions are asked.
    pub rows: u64,
    pub rounds: u32,
}

/// How long one question takes at one size.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Asked {
    pub rows: u64,
    pub p50_ms: f64,
    pub p95_ms: f64,
}

/// What `bench ledger` prints. Medians of the rounds; every sync is a real one.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerReport {
    pub entries: u64,
    pub bytes_per_entry: f64,
    /// Tiles and bundles on disk, synced every 8,192 entries.
    pub log_per_s: f64,
    /// The same bytes into one file, synced as often.
    pub write_per_s: f64,
    /// From `bus.audit` to signed: chains checked, tiles synced, committed to `bus.ledger`.
    pub service_per_s: f64,
    /// Entries read, hashed and listed when the whole log is closed as one range.
    pub close_per_s: f64,
    /// Rows indexed, roll-ups and progress in the same transactions.
    pub index_per_s: f64,
    /// The same rows by COPY into the same table with the same indexes.
    pub copy_per_s: f64,
    /// Of PostgreSQL.
    pub fsync: String,
    pub asked: Vec<Asked>,
    pub cpus: usize,
    pub release: bool,
}

impl fmt::Display for LedgerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.release {
            writeln!(f, "NOT a release build: these figures mean nothing")?;
        }
        writeln!(
            f,
            "{} entries of {} bytes, PostgreSQL fsync {}",
            self.entries, self.bytes_per_entry, self.fsync
        )?;
        let ratio = |ours: f64, base: f64| round(ours / base.max(1.0));
        writeln!(
            f,
            "log, entries/s               {:>10}   bare write {:>10}   ratio {}",
            self.log_per_s,
            self.write_per_s,
            ratio(self.log_per_s, self.write_per_s)
        )?;
        writeln!(f, "bus.audit to signed, /s      {:>10}", self.service_per_s)?;
        writeln!(f, "closing a range, entries/s   {:>10}", self.close_per_s)?;
        writeln!(
            f,
            "index, rows/s                {:>10}   bare COPY  {:>10}   ratio {}",
            self.index_per_s,
            self.copy_per_s,
            ratio(self.index_per_s, self.copy_per_s)
        )?;
        for asked in &self.asked {
            writeln!(
                f,
                "who read, {:>10} rows    p50 {:>7} ms   p95 {:>7} ms",
                asked.rows, asked.p50_ms, asked.p95_ms
            )?;
        }
        Ok(())
    }
}

/// Runs the ledger's benchmark. `scratch` is a folder on the disk that is measured.
pub fn ledger(
    options: &Options,
    what: LedgerWork,
    url: &str,
    scratch: &Path,
    progress: &dyn Fn(&str),
) -> Result<LedgerReport, BenchError> {
    let scratch = tempfile::tempdir_in(scratch).map_err(BenchError::Folder)?;
    let (mut logs, mut writes) = (Vec::new(), Vec::new());
    let (mut services, mut closings) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for at in 0..what.rounds {
        progress(&format!("round {}: log and bare write", at + 1));
        let entries = entries(what.entries);
        bytes = entries.iter().map(Vec::len).sum();
        let folder = scratch.path().join(format!("log-{at}"));
        let (log, write) = (
            || write_log(&entries, &folder),
            || write_bare(&entries, &scratch.path().join(format!("bare-{at}"))),
        );
        // The one that begins changes.
        let (one, other) = if at % 2 == 0 {
            let one = log()?;
            (one, write()?)
        } else {
            let other = write()?;
            (log()?, other)
        };
        logs.push(rate(what.entries, one));
        writes.push(rate(what.entries, other));
    }
    for at in 0..what.rounds {
        progress(&format!("round {}: from bus.audit to signed", at + 1));
        let (took, closed) = serve(
            options,
            what.entries,
            &scratch.path().join(format!("run-{at}")),
        )?;
        services.push(rate(what.entries, took));
        closings.push(rate(what.entries, closed));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(BenchError::Folder)?;
    let (index_per_s, copy_per_s, fsync, asked) = runtime.block_on(indexed(url, what, progress))?;
    Ok(LedgerReport {
        entries: what.entries,
        bytes_per_entry: round(bytes as f64 / what.entries.max(1) as f64),
        log_per_s: median(logs),
        write_per_s: median(writes),
        service_per_s: median(services),
        close_per_s: median(closings),
        index_per_s,
        copy_per_s,
        fsync,
        asked,
        cpus: thread::available_parallelism().map_or(0, usize::from),
        release: !cfg!(debug_assertions),
    })
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    round(all.get(all.len() / 2).copied().unwrap_or_default())
}

/// A delivery as the gateway records it.
fn delivery(number: u64) -> Audit<'static> {
    let at_ms = START_MS + (number / 50) as i64;
    let (kind, cause) = (AuditKind::Delivered, AuditCause::Stream);
    let mut audit = Audit::empty(AuditWriter::Gateway, 0, at_ms, kind, cause);
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(&tag(number ^ (1 << 61)));
    digest[16..].copy_from_slice(&tag(number ^ (1 << 62)));
    let (consumer, purpose) = match number % 3 {
        0 => ("police", "talent-settlement"),
        1 => ("union", "retirement-help"),
        _ => ("hrss", "talent-status"),
    };
    audit.agreement = format!("{consumer}/{purpose}").into();
    audit.consumer = consumer.into();
    audit.purpose = purpose.into();
    audit.dataset = "hrss.insurance.status.v1".into();
    audit.contract = [7; 32];
    audit.subject = SubjectTag(tag(mix(number) % PEOPLE));
    audit.record = RecordTag(tag(number ^ (1 << 60)));
    audit.fields = vec![0x49, 0x51].into();
    audit.event = digest;
    audit.version_epoch = 1;
    audit.version_counter = number;
    audit.source_offset = number as i64;
    audit.output_sequence = number + 1;
    audit.nonce = tag(number ^ (1 << 63));
    audit
}

fn entries(count: u64) -> Vec<Vec<u8>> {
    let mut chain = Chain::new(AuditWriter::Gateway, 0);
    let mut all = Vec::new();
    for number in 0..count {
        let (mut bytes, mut entry) = (Vec::new(), Vec::new());
        chain.append(&mut delivery(number), &mut bytes);
        Entry::Audit(&bytes).encode(&mut entry);
        all.push(entry);
    }
    all
}

fn write_log(entries: &[Vec<u8>], folder: &Path) -> Result<Duration, BenchError> {
    let started = Instant::now();
    let mut log = Log::create(Folder::new(folder), ORIGIN);
    for batch in entries.chunks(COMMIT) {
        for entry in batch {
            log.append(entry)
                .map_err(|_| BenchError::Ledger("append"))?;
        }
        log.flush().map_err(|_| BenchError::Ledger("flush"))?;
        log.tidy().map_err(|_| BenchError::Ledger("tidy"))?;
    }
    Ok(started.elapsed())
}

fn write_bare(entries: &[Vec<u8>], path: &Path) -> Result<Duration, BenchError> {
    let started = Instant::now();
    let mut file = File::create(path).map_err(BenchError::Folder)?;
    for batch in entries.chunks(COMMIT) {
        file.write_all(&batch.concat())
            .map_err(BenchError::Folder)?;
        file.sync_data().map_err(BenchError::Folder)?;
    }
    Ok(started.elapsed())
}

/// A shard from an empty log to the last of `count` records that lie in `bus.audit`; then one range of all.
fn serve(options: &Options, count: u64, folder: &Path) -> Result<(Duration, Duration), BenchError> {
    let world = World::new(1)?;
    let prefix = format!("bench{}l.", now_us());
    let side = Side::new(&options.admin, &options.keys, prefix);
    set_up(&world, [&side])?;
    let served = publish(&side, world.contract.lanes, count)
        .and_then(|()| log_all(&world, &side, &world.keys, count, folder));
    take_down(&side)?;
    served
}

fn publish(side: &Side, lanes: u16, count: u64) -> Result<(), BenchError> {
    let id = topics::SlotKind::Gateway.transactional_id(0);
    let mut producer = TxProducer::open(&side.admin, &id, tuning::TRANSACTION_TIMEOUT)?;
    producer.init()?;
    let mut chains: Vec<Chain> = (0..lanes)
        .map(|lane| Chain::new(AuditWriter::Gateway, lane))
        .collect();
    let mut bytes = Vec::new();
    let mut next = 0;
    while next < count {
        producer.begin()?;
        for number in next..count.min(next + PUBLISH) {
            // Below the number of lanes.
            let lane = (number % u64::from(lanes)) as u16;
            let chain = &mut chains[usize::from(lane)];
            bytes.clear();
            chain.append(&mut delivery(number), &mut bytes);
            let key = topics::audit_key(AuditWriter::Gateway, lane, chain.number());
            producer.send(topics::AUDIT, i32::from(lane), &key, Some(&bytes), &[])?;
        }
        producer.commit()?;
        next += PUBLISH;
    }
    Ok(())
}

fn log_all(
    world: &World,
    side: &Side,
    keys: &KeysDir,
    count: u64,
    folder: &Path,
) -> Result<(Duration, Duration), BenchError> {
    let bus = side.admin.clone();
    let options = mz_ledger::Options::new(bus, &world.contract, keys, folder.to_path_buf())?;
    let (done, stop) = (Arc::new(Progress::default()), AtomicBool::new(false));
    let took = thread::scope(|scope| {
        let started = Instant::now();
        let run = scope.spawn(|| mz_ledger::run(&options, &done, &stop));
        // The first entry is the log's own.
        while done.committed() < count + 1 && !run.is_finished() {
            thread::sleep(Duration::from_millis(2));
        }
        let took = started.elapsed();
        stop.store(true, Ordering::Release);
        match run.join() {
            Ok(Ok(())) => Ok(took),
            Ok(Err(_)) => Err(BenchError::Ledger("run")),
            Err(_) => Err(BenchError::Panicked),
        }
    })?;
    let started = Instant::now();
    // Nobody is labelled here: people are counted as unbound.
    mz_ledger::absence::close(&options, true).map_err(|_| BenchError::Ledger("close"))?;
    Ok((took, started.elapsed()))
}

type Indexed = (f64, f64, String, Vec<Asked>);

async fn indexed(
    url: &str,
    what: LedgerWork,
    progress: &dyn Fn(&str),
) -> Result<Indexed, BenchError> {
    let mut owner = PgConnection::connect(url).await?;
    let drop = format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE");
    sqlx::raw_sql(AssertSqlSafe(drop.clone()))
        .execute(&mut owner)
        .await?;
    let failed = |_| BenchError::Ledger("index");
    let index = Index::open(url, SCHEMA).map_err(failed)?;
    index.migrate().await.map_err(failed)?;
    let path = format!("SET search_path = {SCHEMA}");
    sqlx::raw_sql(AssertSqlSafe(path))
        .execute(&mut owner)
        .await?;
    let fsync: String = sqlx::query_scalar("SHOW fsync")
        .fetch_one(&mut owner)
        .await?;

    let (mut ours, mut bare, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    let mut size = 0;
    // Both tables grow alike: what a row costs depends on how much is there.
    let make = "CREATE TABLE bare (LIKE entry INCLUDING ALL) PARTITION BY RANGE (at);
        CREATE TABLE bare_all PARTITION OF bare FOR VALUES FROM (MINVALUE) TO (MAXVALUE)";
    sqlx::raw_sql(make).execute(&mut owner).await?;
    for at in 0..what.rounds {
        progress(&format!("round {}: index and bare COPY", at + 1));
        let took = append(&index, &mut size, what.entries).await?;
        ours.push(rate(what.entries, took));
        bare.push(rate(
            what.entries,
            copy(&mut owner, size - what.entries, size).await?,
        ));
    }
    sqlx::raw_sql("DROP TABLE bare").execute(&mut owner).await?;
    asked.push(ask(&index, size).await?);
    while size < what.rows {
        progress(&format!("{size} rows of {}", what.rows));
        let more = (what.rows - size).min(2_000_000);
        append(&index, &mut size, more).await?;
        asked.push(ask(&index, size).await?);
    }
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(&mut owner)
        .await?;
    Ok((median(ours), median(bare), fsync, asked))
}

async fn append(index: &Index, size: &mut u64, count: u64) -> Result<Duration, BenchError> {
    let mut took = Duration::ZERO;
    let end = *size + count;
    while *size < end {
        let to = end.min(*size + INDEX_BATCH as u64);
        let entries: Vec<Audit<'static>> = (*size..to)
            .map(|number| {
                let mut audit = delivery(number);
                audit.number = number + 1;
                audit
            })
            .collect();
        let started = Instant::now();
        let appended = index.append(ORIGIN, *size, &entries).await;
        took += started.elapsed();
        *size = appended.map_err(|_| BenchError::Ledger("index"))?.size;
    }
    Ok(took)
}

/// The rows of some leaves once more, as bytes that PostgreSQL itself wrote, into a table beside the
/// index's own with the same columns, partitions and indexes. In as many transactions.
async fn copy(owner: &mut PgConnection, from: u64, to: u64) -> Result<Duration, BenchError> {
    let mut took = Duration::ZERO;
    let mut at = from;
    while at < to {
        let end = to.min(at + INDEX_BATCH as u64);
        let path = "current_setting('data_directory') || '/bench.copy'";
        let rows = format!("SELECT * FROM entry WHERE leaf >= {at} AND leaf < {end} ORDER BY leaf");
        let out = format!(
            "DO $$ BEGIN EXECUTE format('COPY ({rows}) TO %L (FORMAT binary)', {path}); END $$"
        );
        sqlx::raw_sql(AssertSqlSafe(out))
            .execute(&mut *owner)
            .await?;
        let read = format!("SELECT pg_read_binary_file({path})");
        let bytes: Vec<u8> = sqlx::query_scalar(AssertSqlSafe(read))
            .fetch_one(&mut *owner)
            .await?;
        let started = Instant::now();
        let mut copy = owner
            .copy_in_raw("COPY bare FROM STDIN (FORMAT binary)")
            .await?;
        for part in bytes.chunks(1 << 20) {
            copy.send(part).await?;
        }
        copy.finish().await?;
        took += started.elapsed();
        at = end;
    }
    Ok(took)
}

async fn ask(index: &Index, rows: u64) -> Result<Asked, BenchError> {
    let always = Period {
        from_ms: START_MS - 1,
        to_ms: START_MS + 366 * 24 * 3_600_000,
    };
    let mut times = Vec::new();
    for question in 0..QUESTIONS {
        let person = SubjectTag(tag(mix(question ^ rows) % PEOPLE));
        let started = Instant::now();
        let page = PageRequest::default();
        let answered = index.who_read(&person, always, None, &page).await;
        answered.map_err(|_| BenchError::Ledger("question"))?;
        times.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: usize| round(times[times.len() * share / 100]);
    Ok(Asked {
        rows,
        p50_ms: at(50),
        p95_ms: at(95),
    })
}
