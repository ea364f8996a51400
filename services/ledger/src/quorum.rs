//! The ledger's side of its witnesses: collects cosignatures from `bus.cosignatures`, verifies every one
//! against the keys of the contract and against the log itself, and writes `checkpoint.cosigned` beside a
//! log's `checkpoint` when its policy's quorum is met. The log never waits for it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mz_bus::{BusError, BusOptions, Isolation, Polled, Position, Reader};
use mz_contract::Contract;
use mz_journal::topics;
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::merkle::{self, Hash};
use mz_tlog::note::Note;
use mz_tlog::policy::Policy;

use crate::absence::{self, Statement, filed};
use crate::log::{CHECKPOINT, Disk as _, Folder, LogFault, Stored};
use crate::witness::limits::{
    KEPT_COSIGNATURES, MAX_FAULTS, MAX_KEY_BYTES, MAX_POLL_RECORDS, OFFER_EVERY,
};
use crate::witness::{
    Arrived, Complete, OFFERED, Said, What, log_keys, log_name, published, replace_as,
};

/// The newest checkpoint with a quorum of cosignatures.
pub const COSIGNED: &str = "checkpoint.cosigned";

/// A record of `bus.cosignatures` that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumFault {
    pub code: &'static str,
    /// As the record's key names it, shortened.
    pub key: String,
    pub offset: i64,
    /// The log's own signature under another history: the signed note is evidence.
    pub evidence: Option<String>,
}

/// What one poll did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Polling {
    /// Cosignatures and statements that are new and good.
    pub taken: u64,
    pub faults: Vec<QuorumFault>,
    /// Faults, listed or not.
    pub faulty: u64,
    /// Logs whose cosigned checkpoint is new, with its size.
    pub met: Vec<(String, u64)>,
}

#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
    #[error("bus")]
    Bus(#[from] BusError),
    #[error("{origin}")]
    Log { origin: String, source: LogFault },
}

impl QuorumError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bus(error) => error.code(),
            Self::Log { source, .. } => source.code(),
        }
    }
}

/// Code, and the note if it is evidence.
type Fault = (&'static str, Option<String>);

struct Cosignature {
    size: u64,
    root: Hash,
    note: Note,
    line: String,
}

/// One log's cosignatures.
#[derive(Default)]
struct Collected {
    /// By witness name, newest first.
    by: BTreeMap<String, Vec<Cosignature>>,
    /// The newest statement of each witness.
    complete: BTreeMap<String, Complete>,
    /// Size of the cosigned checkpoint on disk.
    met: u64,
    offered: Option<(u64, Instant)>,
}

/// Collects cosignatures for the logs of one folder. One thread owns it.
pub struct Quorum {
    contract: Arc<Contract>,
    folder: PathBuf,
    policy: Policy,
    reader: Reader,
    logs: BTreeMap<String, Collected>,
    /// Lines by witness, of each log's closed ranges.
    ranges: BTreeMap<(String, u64), BTreeMap<String, String>>,
}

impl Quorum {
    /// `folder` is the ledger's: `<folder>/<shard>/<period>`.
    ///
    /// # Errors
    /// The topic can't be read.
    pub fn open(
        bus: &BusOptions,
        contract: Arc<Contract>,
        folder: PathBuf,
        policy: Policy,
    ) -> Result<Self, QuorumError> {
        let mut reader = Reader::open(bus, Isolation::Committed)?;
        reader.assign(&[(topics::COSIGNATURES, 0, Position::Beginning)])?;
        Ok(Self {
            contract,
            folder,
            policy,
            reader,
            logs: BTreeMap::new(),
            ranges: BTreeMap::new(),
        })
    }

    /// Takes what has come within `wait`, writes what has become a quorum, and offers the newest checkpoint
    /// to the witnesses when the last one is cosigned or old. What is strange is reported and never counts.
    ///
    /// # Errors
    /// The bus or the log's own files.
    pub fn poll(&mut self, wait: Duration) -> Result<Polling, QuorumError> {
        let mut done = Polling::default();
        let mut come = Vec::new();
        self.reader.poll(MAX_POLL_RECORDS, wait, |polled| {
            if let Polled::Record(record) = polled {
                come.push(Arrived::of(&record));
            }
        })?;
        for record in come {
            let (key, offset) = (record.key.clone(), record.offset);
            match self.take(record)? {
                Ok(()) => done.taken += 1,
                Err((code, evidence)) => {
                    done.faulty += 1;
                    if done.faults.len() < MAX_FAULTS {
                        done.faults.push(QuorumFault {
                            code,
                            key: key.chars().take(MAX_KEY_BYTES).collect(),
                            offset,
                            evidence,
                        });
                    }
                }
            }
        }
        let origins: Vec<String> = self.own_logs();
        for origin in origins {
            self.settle(&origin, &mut done)?;
        }
        Ok(done)
    }

    /// Newest statement of each witness about a log: up to where it found its deliveries complete.
    pub fn statements(&self, origin: &str) -> impl Iterator<Item = &Complete> {
        let log = self.logs.get(origin);
        log.into_iter().flat_map(|log| log.complete.values())
    }

    /// Origins of the logs that lie in the folder.
    fn own_logs(&self) -> Vec<String> {
        use crate::witness::{LogFolder, Source as _};
        let logs = LogFolder::new(&self.folder).logs().unwrap_or_default();
        let bus = &self.contract.bus_id;
        logs.iter()
            .map(|log| format!("{bus}/audit/{log}"))
            .collect()
    }

    /// The folder of a log of this bus.
    fn disk(&self, origin: &str) -> Option<Folder> {
        let log = origin.strip_prefix(&format!("{}/audit/", self.contract.bus_id))?;
        log_name(log)?;
        Some(Folder::new(self.folder.join(log)))
    }

    fn take(&mut self, record: Arrived) -> Result<Result<(), Fault>, QuorumError> {
        let said = match published(&self.contract, &record) {
            Ok(said) => said,
            Err(code) => return Ok(Err((code, None))),
        };
        if let Some((log, number)) = Statement::split(&said.origin) {
            let log = log.to_owned();
            return self.take_range(&log, number, said);
        }
        let Some(disk) = self.disk(&said.origin) else {
            return Ok(Err(("WITNESS_ORIGIN_FOREIGN", None)));
        };
        let same = self.same(&disk, &said.origin, (said.size, said.root))?;
        let log = self.logs.entry(said.origin).or_default();
        let (note, line) = match said.what {
            What::Complete(complete) => {
                if same != Some(true) {
                    return Ok(Err(("WITNESS_STATEMENT_DIFFERS", None)));
                }
                log.complete.insert(said.witness, complete);
                return Ok(Ok(()));
            }
            What::Cosigned { note, line } => (note, line),
        };
        match same {
            Some(true) => {}
            Some(false) => return Ok(Err(("WITNESS_LOG_FORKED", Some(note.to_string())))),
            None => return Ok(Err(("WITNESS_LOG_SHRANK", Some(note.to_string())))),
        }
        let kept = log.by.entry(said.witness).or_default();
        kept.retain(|known| known.size != said.size);
        kept.push(Cosignature {
            size: said.size,
            root: said.root,
            note,
            line,
        });
        kept.sort_by_key(|known| std::cmp::Reverse(known.size));
        kept.truncate(KEPT_COSIGNATURES);
        Ok(Ok(()))
    }

    /// A cosignature of a closed range: of the statement that lies there, or of another.
    fn take_range(
        &mut self,
        origin: &str,
        number: u64,
        said: Said,
    ) -> Result<Result<(), Fault>, QuorumError> {
        let (What::Cosigned { note, line }, Some(mut disk)) = (said.what, self.disk(origin)) else {
            return Ok(Err(("WITNESS_ORIGIN_FOREIGN", None)));
        };
        let there = filed::read(&disk, origin, number, absence::STATEMENT);
        let there = there.ok().flatten();
        let Some((ours, _)) = there.filter(|(ours, _)| ours.text() == note.text()) else {
            return Ok(Err(("WITNESS_STATEMENT_DIFFERS", Some(note.to_string()))));
        };
        let lines = match self.ranges.entry((origin.to_owned(), number)) {
            Entry::Occupied(known) => known.into_mut(),
            // The topic is read from its beginning at each start: what was cosigned stays so.
            Entry::Vacant(place) => place.insert(kept(&disk, &ours, origin, number)),
        };
        if lines.get(&said.witness) == Some(&line) {
            return Ok(Ok(()));
        }
        lines.insert(said.witness, line);
        let all = ours.lines().chain(lines.values().cloned());
        let Ok(cosigned) = Note::assemble(ours.text(), all) else {
            return Ok(Err(("WITNESS_COSIGNATURE_MALFORMED", None)));
        };
        if self.policy.check_as(&cosigned, origin).is_ok() {
            let path = absence::path(number, absence::COSIGNED);
            let put = disk.replace(&path, cosigned.to_string().as_bytes());
            put.map_err(|error| QuorumError::Log {
                origin: origin.to_owned(),
                source: error.into(),
            })?;
        }
        Ok(Ok(()))
    }

    /// Whether the log had this root at this size; `None` when it never was that large.
    fn same(
        &self,
        disk: &Folder,
        origin: &str,
        (size, root): (u64, Hash),
    ) -> Result<Option<bool>, QuorumError> {
        let Some((_, newest)) = newest(&self.contract, disk, origin, CHECKPOINT) else {
            return Ok(None);
        };
        if size > newest.size {
            return Ok(None);
        }
        let is = merkle::root(size, &Stored::new(disk, newest.size).hashes());
        let is = is.map_err(|error| QuorumError::Log {
            origin: origin.to_owned(),
            source: LogFault::tile(error),
        })?;
        Ok(Some(is == root))
    }

    /// Writes the best checkpoint that has become a quorum, and offers the next.
    fn settle(&mut self, origin: &str, done: &mut Polling) -> Result<(), QuorumError> {
        let Some(disk) = self.disk(origin) else {
            return Ok(());
        };
        let fresh = !self.logs.contains_key(origin);
        let log = self.logs.entry(origin.to_owned()).or_default();
        if fresh {
            let known = newest(&self.contract, &disk, origin, COSIGNED);
            log.met = known.map_or(0, |(_, said)| said.size);
        }
        let failed = |error: std::io::Error| QuorumError::Log {
            origin: origin.to_owned(),
            source: error.into(),
        };
        let sizes: std::collections::BTreeSet<u64> = log
            .by
            .values()
            .flatten()
            .map(|known| known.size)
            .filter(|size| *size > log.met)
            .collect();
        for size in sizes.into_iter().rev() {
            let Some(note) = assemble(log, size, &self.contract, origin) else {
                continue;
            };
            if self.policy.check(&note).is_ok() {
                put(&disk, COSIGNED, &note).map_err(failed)?;
                log.met = size;
                done.met.push((origin.to_owned(), size));
                break;
            }
        }
        let due = log
            .offered
            .is_none_or(|(size, since)| size <= log.met || since.elapsed() >= OFFER_EVERY);
        if !due {
            return Ok(());
        }
        if let Some((note, said)) = newest(&self.contract, &disk, origin, CHECKPOINT)
            && log.offered.is_none_or(|(size, _)| size < said.size)
        {
            put(&disk, OFFERED, &note).map_err(failed)?;
            log.offered = Some((said.size, Instant::now()));
        }
        Ok(())
    }
}

/// Cosignatures by witness that lie beside a range already.
fn kept(disk: &Folder, ours: &Note, origin: &str, number: u64) -> BTreeMap<String, String> {
    let there = filed::read(disk, origin, number, absence::COSIGNED);
    let Some((note, _)) = there.ok().flatten() else {
        return BTreeMap::new();
    };
    if note.text() != ours.text() {
        return BTreeMap::new();
    }
    let own: Vec<String> = ours.lines().collect();
    // "— <name> <signature>"
    let named = |line: String| Some((line.split(' ').nth(1)?.to_owned(), line));
    note.lines()
        .filter(|line| !own.contains(line))
        .filter_map(named)
        .collect()
}

/// All cosignatures of one size below one checkpoint.
fn assemble(log: &Collected, size: u64, contract: &Contract, origin: &str) -> Option<Note> {
    let all = || log.by.values().flatten().filter(|known| known.size == size);
    let first = all().next()?;
    let mut lines = Vec::new();
    for key in log_keys(contract, origin) {
        lines.extend(first.note.lines_by(&key));
    }
    let same =
        |known: &&Cosignature| known.root == first.root && known.note.text() == first.note.text();
    lines.extend(all().filter(same).map(|known| known.line.clone()));
    Note::assemble(first.note.text(), lines).ok()
}

/// Beside the log's checkpoint, which the ledger itself replaces meanwhile.
fn put(disk: &Folder, file: &str, note: &Note) -> std::io::Result<()> {
    replace_as(&disk.root().join(file), note.to_string().as_bytes(), 0o644)
}

fn newest(
    contract: &Contract,
    disk: &Folder,
    origin: &str,
    file: &str,
) -> Option<(Note, Checkpoint)> {
    let note = Note::parse(disk.read(file).ok()??).ok()?;
    let said = Checkpoint::parse(note.text()).ok()?;
    let good = log_keys(contract, origin).any(|key| note.verify(&key).is_ok());
    (good && said.origin == origin).then_some((note, said))
}
