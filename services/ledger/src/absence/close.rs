//! Closing a shard's ranges: once the log has taken what `bus.audit` held at a moment, what was read until
//! then is listed, signed and laid beside the log.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use mz_bus::{Isolation, Reader, Stretch, read_stretches};
use mz_journal::{LedgerState, topics};
use mz_tlog::note::{self, Note};

use super::check::labels;
use super::error::CloseError;
use super::range::{Range, ranges};
use super::statement::{After, Statement};
use super::{LEAVES, STATEMENT, filed, path};
use crate::commit;
use crate::error::LedgerError;
use crate::feed;
use crate::limits::{CLOSE_WITHIN, MAX_CLOSE_TAIL, POLL};
use crate::log::{Disk as _, Folder, LogFault, Stored};
use crate::options::Options;
use crate::prove::newest;
use crate::sign::verifier_key;

/// Closes what was logged since the last range, of every log of the shard. `forced`: also with people who
/// have no label; nothing can be proven about them in that range.
///
/// # Errors
/// The log is behind, people have no label yet (the vault tells them soon), somebody else closes.
pub fn close(options: &Options, forced: bool) -> Result<Vec<Statement>, CloseError> {
    // Before the bus is asked how far it is: what is committed until now is below that.
    let until_ms = (options.clock)();
    let state = caught_up(options)?;
    close_at(options, &state.origin, state.size, until_ms, forced)
}

/// The same at a commit that the caller knows to hold all that was committed to `bus.audit` before `until_ms`.
///
/// # Errors
/// As [`close`].
pub fn close_at(
    options: &Options,
    origin: &str,
    size: u64,
    until_ms: i64,
    forced: bool,
) -> Result<Vec<Statement>, CloseError> {
    let newest_log = origin;
    let folder = options.folder.join(options.shard.to_string());
    let _lock = lock(&folder)?;
    let mut closed = Vec::new();
    let mut before: Option<Statement> = None;
    let all = feed::logs(&options.folder)?;
    let mine = all.iter().filter(|log| log.starts_with(&folder));
    for log in mine {
        let period = log.file_name().and_then(|name| name.to_str());
        let origin = options.origin(period.unwrap_or_default());
        if origin.as_str() > newest_log {
            break;
        }
        let disk = Folder::new(log);
        let filed = filed::all(&disk, &origin, STATEMENT).map_err(|source| CloseError::Log {
            origin: origin.clone(),
            source,
        })?;
        let last = filed.into_iter().next_back().map(|(_, said)| said);
        let (to, until) = match origin == newest_log {
            true => (size, Some(until_ms)),
            // What was committed after it was closed stands in the next one: it vouches for no time.
            false => {
                let size = newest(&disk).map_err(|_| malformed(&origin))?.1.size;
                (size, None)
            }
        };
        if until.is_none() && last.as_ref().is_some_and(|last| last.to == to) {
            before = last;
            continue;
        }
        let made = one(options, &disk, &origin, to, until, (&last, &before), forced)?;
        before = Some(made.clone());
        closed.push(made);
    }
    Ok(closed)
}

fn malformed(origin: &str) -> CloseError {
    CloseError::Ledger(LedgerError::Checkpoint {
        origin: origin.to_owned(),
    })
}

fn lock(folder: &Path) -> Result<File, CloseError> {
    let file = File::create(folder.join("closing.lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(CloseError::Locked(folder.display().to_string()))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// The shard's commit that holds everything that was committed to `bus.audit` before now, its checkpoint
/// signed.
fn caught_up(options: &Options) -> Result<LedgerState, CloseError> {
    let heads = Reader::open(&options.bus, Isolation::Committed)?;
    let mut wanted = Vec::new();
    for lane in options.lanes() {
        let (_, high) = heads.watermarks(topics::AUDIT, i32::from(lane))?;
        wanted.push((lane, high));
    }
    let started = Instant::now();
    loop {
        if let Some(state) = commit::read(options)? {
            let there = holds(options, &state, &wanted)?;
            let disk = Folder::new(options.folder_of(&state.origin));
            let signed = newest(&disk).is_ok_and(|(_, said)| said.size >= state.size);
            if there && signed {
                return Ok(state);
            }
        }
        if started.elapsed() >= CLOSE_WITHIN {
            return Err(CloseError::Behind(CLOSE_WITHIN.as_secs()));
        }
        std::thread::sleep(POLL.max(Duration::from_millis(50)));
    }
}

/// Whether a commit holds every record below these offsets. The ends of transactions take offsets, too: where
/// it stands a little below, what lies between is read.
fn holds(
    options: &Options,
    state: &LedgerState,
    wanted: &[(u16, i64)],
) -> Result<bool, CloseError> {
    let mut between = Vec::new();
    for (lane, high) in wanted {
        let Some(at) = state.position(*lane) else {
            return Ok(false);
        };
        if high - at > MAX_CLOSE_TAIL {
            return Ok(false);
        }
        if at < *high {
            between.push(Stretch {
                topic: topics::AUDIT,
                lane: *lane,
                from: at,
                to: *high,
            });
        }
    }
    let mut records = 0;
    let mut reader = Reader::open(&options.bus, Isolation::Committed)?;
    read_stretches(&mut reader, &between, |_| records += 1)?;
    Ok(records == 0)
}

/// Closes entries from the last range's end to `to`.
fn one(
    options: &Options,
    disk: &Folder,
    origin: &str,
    to: u64,
    until: Option<i64>,
    (last, before): (&Option<Statement>, &Option<Statement>),
    forced: bool,
) -> Result<Statement, CloseError> {
    let failed = |source| CloseError::Log {
        origin: origin.to_owned(),
        source,
    };
    let from = last.as_ref().map_or(0, |last| last.to);
    let (_, said) = newest(disk).map_err(|_| malformed(origin))?;
    let stored = Stored::new(disk, said.size);
    let shard = (options.shard, options.shards);
    let mut logs = |after: &After| labels(after, &Folder::new(options.folder_of(&after.origin)));
    let mut read: Option<Range> = None;
    let head = ranges(&stored, origin, (from, &[to]), shard, &mut logs, |range| {
        read = Some(range)
    });
    let same = head.map_err(failed)? == said.root;
    let Some(read) = read.filter(|_| same) else {
        let size = said.size;
        return Err(failed(LogFault::Root { size }.into()));
    };
    if read.unbound > 0 && !forced {
        return Err(CloseError::Unbound {
            origin: origin.to_owned(),
            count: read.unbound,
        });
    }
    let since_ms = match (last, before, &read.after) {
        (Some(last), _, _) => last.until_ms,
        (None, Some(before), Some(_)) => before.until_ms,
        // The shard's first log: before it there was nothing.
        (None, _, None) => 0,
        // The log before it is gone: nothing is known of the time before its own first record.
        (None, None, Some(_)) => read.began_ms.unwrap_or(0),
    };
    let statement = Statement {
        origin: origin.to_owned(),
        number: last.as_ref().map_or(0, |last| last.number + 1),
        leaves: read.leaves.len() as u64,
        head: read.tree.root(),
        from,
        to,
        root: read.root,
        after: read.after,
        since_ms,
        until_ms: until.unwrap_or(since_ms).max(since_ms),
        shards: options.shards,
        unbound: read.unbound,
        key: read.key,
    };
    write(options, disk.root(), &statement, &read.leaves)?;
    Ok(statement)
}

/// Leaves first: a statement that is there can be proven under.
fn write(
    options: &Options,
    log: &Path,
    statement: &Statement,
    leaves: &[super::Leaf],
) -> Result<(), CloseError> {
    let mut disk = Folder::new(log);
    let mut bytes = Vec::with_capacity(leaves.len() * super::Leaf::BYTES);
    for leaf in leaves {
        bytes.extend_from_slice(&leaf.encode());
    }
    let file = |name| path(statement.number, name);
    disk.replace(&file(LEAVES), &bytes)?;
    let note = sign(options, statement)?;
    disk.replace(&file(STATEMENT), note.to_string().as_bytes())?;
    Ok(())
}

fn sign(options: &Options, statement: &Statement) -> Result<Note, CloseError> {
    let text = statement
        .encode()
        .ok_or_else(|| malformed(&statement.origin))?;
    let key = verifier_key(&statement.origin, &options.public)
        .map_err(|_| malformed(&statement.origin))?;
    let signature = options
        .signer
        .sign(text.as_bytes())
        .map_err(LedgerError::Sign)?;
    let line = note::sign_line(&key, &text, |_| signature)?;
    Ok(Note::assemble(&text, &[line])?)
}
