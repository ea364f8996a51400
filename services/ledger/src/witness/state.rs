//! What a witness remembers, on its own disk: one small file for each log, replaced as a whole and durable
//! before anything is cosigned; beside it what was found against a log.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mz_journal::{AUDIT_WRITERS, AuditWriter, Chain};
use mz_tlog::merkle::{Hash, empty_root};
use mz_tlog::note::Note;
use serde::{Deserialize, Serialize};

use crate::log::hex;
use crate::witness::error::{REFUSALS, Refusal, WitnessError};
use crate::witness::limits::MAX_STATE_BYTES;
use crate::witness::source::log_name;

/// The writers' chains, in a fixed order.
pub(super) type Chains = BTreeMap<(u16, AuditWriter), Chain>;

/// How far a log was seen and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
    /// The signed checkpoint of this size.
    pub note: String,
    /// Of the gateway's: up to which audit number deliveries were compared.
    pub chains: Chains,
    /// Next offset by `<topic>|<lane>`.
    pub positions: BTreeMap<String, i64>,
    /// The log before: `<shard>/<period>`.
    pub before: Option<String>,
}

impl Seen {
    /// Nothing seen of a log that follows `before`.
    pub fn nothing(origin: &str, before: Option<(String, Self)>) -> Self {
        let (before, chains, positions) = match before {
            Some((log, seen)) => (Some(log), seen.chains, seen.positions),
            None => Default::default(),
        };
        Self {
            origin: origin.to_owned(),
            size: 0,
            root: empty_root(),
            note: String::new(),
            chains,
            positions,
            before,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    origin: String,
    size: u64,
    root: String,
    note: String,
    /// Writer, lane, number, digest.
    chains: Vec<(String, u16, u64, String)>,
    positions: BTreeMap<String, i64>,
    before: Option<String>,
}

/// The last closed range that was found good.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptRange {
    version: u32,
    pub number: u64,
    /// The ledger's signed statement.
    pub note: String,
    pub published: bool,
}

/// The witness's own folder. One process: the lock goes with it.
#[derive(Debug)]
pub(super) struct States {
    folder: PathBuf,
    _lock: File,
}

impl States {
    pub fn open(folder: &Path) -> Result<Self, WitnessError> {
        fs::create_dir_all(folder).map_err(|error| fault(folder, &error))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(|error| fault(&path, &error))?;
        lock.try_lock()
            .map_err(|_| fault(&path, &"another witness uses this folder"))?;
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    fn path(&self, log: &str, ending: &str) -> PathBuf {
        self.folder
            .join(format!("{}.{ending}", log.replace('/', "_")))
    }

    pub fn load(&self, log: &str) -> Result<Option<Seen>, WitnessError> {
        let path = self.path(log, "seen");
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let written: Written =
            serde_json::from_slice(&bytes).map_err(|error| fault(&path, &error))?;
        seen(written)
            .map(Some)
            .ok_or_else(|| fault(&path, &"malformed"))
    }

    pub fn save(&self, log: &str, seen: &Seen) -> Result<(), WitnessError> {
        let path = self.path(log, "seen");
        let chains = seen.chains.values().map(|chain| {
            let name = chain.writer().name().to_owned();
            (name, chain.lane(), chain.number(), hex(chain.digest()))
        });
        let written = Written {
            version: 1,
            origin: seen.origin.clone(),
            size: seen.size,
            root: hex(&seen.root),
            note: seen.note.clone(),
            chains: chains.collect(),
            positions: seen.positions.clone(),
            before: seen.before.clone(),
        };
        let bytes = serde_json::to_vec(&written).map_err(|error| fault(&path, &error))?;
        replace(&path, &bytes).map_err(|error| fault(&path, &error))
    }

    /// The last range of a log that was found good.
    pub fn range(&self, log: &str) -> Result<Option<KeptRange>, WitnessError> {
        let path = self.path(log, "range");
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let kept: KeptRange =
            serde_json::from_slice(&bytes).map_err(|error| fault(&path, &error))?;
        match kept.version {
            1 => Ok(Some(kept)),
            _ => Err(fault(&path, &"malformed")),
        }
    }

    /// Durable before the cosignature is published, so that no other range of this number is cosigned.
    pub fn save_range(
        &self,
        log: &str,
        number: u64,
        note: &Note,
        published: bool,
    ) -> Result<(), WitnessError> {
        let path = self.path(log, "range");
        let kept = KeptRange {
            version: 1,
            number,
            note: note.to_string(),
            published,
        };
        let bytes = serde_json::to_vec(&kept).map_err(|error| fault(&path, &error))?;
        replace(&path, &bytes).map_err(|error| fault(&path, &error))
    }

    /// Logs seen, each shard's older ones first.
    pub fn logs(&self) -> Result<Vec<String>, WitnessError> {
        let failed = |error: io::Error| fault(&self.folder, &error);
        let mut logs = Vec::new();
        for file in fs::read_dir(&self.folder).map_err(failed)? {
            let name = file.map_err(failed)?.file_name();
            let log = name.to_str().and_then(|name| name.strip_suffix(".seen"));
            let log = log.map(|log| log.replace('_', "/"));
            logs.extend(log.filter(|log| log_name(log).is_some()));
        }
        logs.sort();
        Ok(logs)
    }

    /// What was found against a log and is not resolved: an operator resolves it by moving the file away.
    pub fn refusal(&self, log: &str, origin: &str) -> Result<Option<Refusal>, WitnessError> {
        let evidence = self.path(log, "refused");
        let Some(bytes) = read(&evidence)? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        let code = lines.next().unwrap_or_default();
        let code = REFUSALS.into_iter().find(|known| *known == code);
        Ok(Some(Refusal {
            // A file that can't be read refuses too.
            code: code.unwrap_or("WITNESS_STATE"),
            origin: origin.to_owned(),
            what: lines.next().unwrap_or_default().to_owned(),
            evidence,
        }))
    }

    /// Keeps both signed checkpoints. The first evidence against a log stays.
    pub fn refuse(
        &self,
        log: &str,
        origin: &str,
        (code, what): (&'static str, String),
        notes: [&str; 2],
    ) -> WitnessError {
        let evidence = self.path(log, "refused");
        let text = format!("{code}\n{what}\n\n{}\n{}", notes[0], notes[1]);
        if let Err(error) = replace(&evidence, text.as_bytes()) {
            return fault(&evidence, &error);
        }
        WitnessError::Refused(Box::new(Refusal {
            code,
            origin: origin.to_owned(),
            what,
            evidence,
        }))
    }
}

fn seen(written: Written) -> Option<Seen> {
    let mut chains = Chains::new();
    for (writer, lane, number, digest) in written.chains {
        let writer = AUDIT_WRITERS
            .into_iter()
            .find(|known| known.name() == writer)?;
        let chain = Chain::resume(writer, lane, number, unhex(&digest)?);
        chains.insert((lane, writer), chain);
    }
    (written.version == 1).then_some(Seen {
        origin: written.origin,
        size: written.size,
        root: unhex(&written.root)?,
        note: written.note,
        chains,
        positions: written.positions,
        before: written.before,
    })
}

fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(hash)
}

fn fault(path: &Path, reason: &dyn std::fmt::Display) -> WitnessError {
    WitnessError::State {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, WitnessError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(path, &error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_STATE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| fault(path, &error))?;
    if bytes.len() as u64 > MAX_STATE_BYTES {
        return Err(fault(path, &"too long"));
    }
    Ok(Some(bytes))
}

/// Readable by the witness alone.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_as(path, bytes, 0o600)
}

/// Whole or not at all; durable when it returns. The fresh file's name is this file's own: others beside it
/// are replaced by other processes.
pub(crate) fn replace_as(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
