//! From the log to the index: everything that is signed, in order, a batch a transaction. The log never
//! waits for it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mz_journal::Audit;

use crate::index::{Fault, HideReport, Hidings, Index, IndexError, Recount, SumFault};
use crate::limits::{FOLD_EVERY, INDEX_BATCH, INDEX_POLL, RETRY_MAX, RETRY_MIN};
use crate::log::{CHECKPOINT, Disk as _, Entry, Folder, LogFault, Stored};
use crate::options::system_clock;
use crate::prove::{ProveError, newest};

#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("the log")]
    Log(#[from] LogFault),
    #[error("the log's checkpoint")]
    Checkpoint(#[from] ProveError),
    #[error("the index")]
    Index(#[from] IndexError),
}

impl FeedError {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Log(fault) => fault.code(),
            Self::Checkpoint(error) => error.code(),
            Self::Index(_) => "LEDGER_INDEX",
        }
    }
}

/// The logs below a ledger's folder, by shard, then as they followed each other:
/// `<folder>/<shard>/<period>`.
pub fn logs(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for shard in folders(folder)? {
        for log in folders(&shard)? {
            if log.join("tile").is_dir() || log.join(CHECKPOINT).is_file() {
                all.push(log);
            }
        }
    }
    Ok(all)
}

fn folders(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

/// Entries `from..to` of a log, as the index takes them.
fn batch(
    stored: &Stored<'_, Folder>,
    from: u64,
    to: u64,
) -> Result<Vec<Option<Audit<'static>>>, LogFault> {
    let mut all = Vec::new();
    stored.entries(from, to, |_, entry| {
        let audit = match Entry::read(entry) {
            Ok(Entry::Audit(bytes)) => Audit::read(bytes).ok().map(Audit::into_owned),
            _ => None,
        };
        all.push(audit);
        Ok(())
    })?;
    Ok(all)
}

/// Indexes what a log's checkpoint vouches for and the index does not have yet; answers how many entries.
pub async fn feed(index: &Index, log: &Path) -> Result<u64, FeedError> {
    let disk = Folder::new(log);
    let (_, said) = newest(&disk)?;
    let stored = Stored::new(&disk, said.size);
    let mut at = index.progress(&said.origin).await?;
    let before = at;
    while at < said.size {
        let to = said.size.min(at + INDEX_BATCH);
        let entries = batch(&stored, at, to)?;
        at = index.append(&said.origin, at, &entries).await?.size;
    }
    Ok(at.saturating_sub(before))
}

/// Makes the index of a log again, from the log alone. The schema's owner only.
pub async fn reindex(index: &Index, log: &Path) -> Result<u64, FeedError> {
    let (_, said) = newest(&Folder::new(log))?;
    index.forget(&said.origin).await?;
    feed(index, log).await
}

/// Keeps the index at the logs' checkpoints until `stop`.
pub async fn follow(index: &Index, folder: &Path, stop: &AtomicBool) {
    let mut pause = RETRY_MIN;
    let mut folded: Option<Instant> = None;
    while !stop.load(Ordering::Acquire) {
        match step(index, folder).await {
            Ok(indexed) => {
                pause = RETRY_MIN;
                metrics::counter!("mz_ledger_indexed_total").increment(indexed);
                if folded.is_none_or(|last| last.elapsed() >= FOLD_EVERY) {
                    folded = Some(Instant::now());
                    fold(index).await;
                }
                rest(INDEX_POLL, stop).await;
            }
            Err(error) => {
                tracing::warn!(
                    code = error.code(),
                    error = mz_bus::chain(&error),
                    "the index waits"
                );
                rest(pause, stop).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Each batch adds a few rows of sums and one of progress: most of them can go. A login that may not do
/// that leaves it to the owner.
async fn fold(index: &Index) {
    let tomorrow = chrono::Utc::now()
        .date_naive()
        .succ_opt()
        .unwrap_or_default();
    let folded = match index.fold_days(tomorrow).await {
        Ok(sums) => index.thin_progress().await.map(|sizes| (sums, sizes)),
        Err(error) => Err(error),
    };
    match folded {
        Ok((sums, sizes)) => tracing::debug!(sums, sizes, "folded"),
        Err(error) => tracing::debug!(error = mz_bus::chain(&error), "not folded"),
    }
}

async fn step(index: &Index, folder: &Path) -> Result<u64, FeedError> {
    let mut indexed = 0;
    for log in logs(folder).map_err(LogFault::from)? {
        // A new log has no checkpoint for a moment.
        if Folder::new(&log)
            .read(CHECKPOINT)
            .map_err(LogFault::from)?
            .is_some()
        {
            indexed += feed(index, &log).await?;
        }
    }
    Ok(indexed)
}

async fn rest(time: Duration, stop: &AtomicBool) {
    let mut left = time;
    while !left.is_zero() && !stop.load(Ordering::Acquire) {
        let part = left.min(INDEX_POLL);
        tokio::time::sleep(part).await;
        left -= part;
    }
}

/// What differs between the index and a log.
#[derive(Debug, Default)]
pub struct IndexReport {
    pub faults: Vec<Fault>,
    pub sums: Vec<SumFault>,
    /// Leaves that are indexed.
    pub indexed: u64,
}

/// Holds the index against a log, row by row and day by day, and gathers the acts of hiding in it.
pub async fn check_index(
    index: &Index,
    log: &Path,
    hidings: &mut Hidings,
) -> Result<IndexReport, FeedError> {
    let disk = Folder::new(log);
    let (_, said) = newest(&disk)?;
    let indexed = index.progress(&said.origin).await?.min(said.size);
    let stored = Stored::new(&disk, said.size);
    hidings.open(&said.origin, follows(&stored)?);
    let mut report = IndexReport {
        indexed,
        ..IndexReport::default()
    };
    let mut recount = Recount::default();
    let mut at = 0;
    while at < indexed {
        let to = indexed.min(at + INDEX_BATCH);
        let entries = batch(&stored, at, to)?;
        let faults = index.check(&said.origin, at, &entries).await?;
        report.faults.extend(faults);
        index.recount(&mut recount, &entries).await?;
        entries
            .iter()
            .flatten()
            .for_each(|audit| hidings.take(audit));
        at = to;
    }
    // What the index does not have yet is in the log.
    while at < said.size {
        let to = said.size.min(at + INDEX_BATCH);
        let entries = batch(&stored, at, to)?;
        entries
            .iter()
            .flatten()
            .for_each(|audit| hidings.take(audit));
        at = to;
    }
    // The sums of a log that goes on meanwhile are not those of what was read.
    if index.progress(&said.origin).await? == indexed {
        report.sums = index.check_sums(&said.origin, &recount).await?;
    }
    Ok(report)
}

/// Holds the hides against the acts that [`check_index`] found in all logs.
pub async fn check_hides(index: &Index, hidings: &Hidings) -> Result<HideReport, FeedError> {
    Ok(index.check_hides(hidings, system_clock()).await?)
}

/// Whether a log follows another.
fn follows(stored: &Stored<'_, Folder>) -> Result<bool, LogFault> {
    if stored.size() == 0 {
        return Ok(false);
    }
    let first = stored.entry(0)?;
    Ok(matches!(Entry::read(&first), Ok(Entry::Opened(opened)) if !opened.origin.is_empty()))
}
