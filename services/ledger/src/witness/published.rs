//! What stands in `bus.cosignatures`, as far as it can be verified without the log. Every department with an
//! agreement may write there: nothing is believed.

use mz_bus::Record;
use mz_contract::{Contract, KeyUse};
use mz_seal::KeyStatus;
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::merkle::Hash;
use mz_tlog::note::{KeyKind, Note, VerifierKey};

use crate::absence::Statement;
use crate::witness::limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::witness::{COMPLETE, Complete, log_keys, witness_name};

const MALFORMED: &str = "WITNESS_COSIGNATURE_MALFORMED";
const UNKNOWN: &str = "WITNESS_KEY_UNKNOWN";
const FOREIGN: &str = "WITNESS_ORIGIN_FOREIGN";

/// A record, taken out of the client's memory.
pub(crate) struct Arrived {
    pub key: String,
    pub offset: i64,
    note: Option<Note>,
}

impl Arrived {
    pub fn of(record: &Record<'_>) -> Self {
        let key = record.key.unwrap_or_default();
        let short = key.len() <= MAX_KEY_BYTES;
        let value = record.value.filter(|value| value.len() <= MAX_VALUE_BYTES);
        Self {
            key: String::from_utf8_lossy(&key[..key.len().min(MAX_KEY_BYTES)]).into_owned(),
            offset: record.offset,
            note: value
                .filter(|_| short)
                .and_then(|value| Note::parse(value).ok()),
        }
    }
}

/// What a witness said, under its own published key.
pub(crate) struct Said {
    pub origin: String,
    pub witness: String,
    pub size: u64,
    pub root: Hash,
    pub what: What,
}

pub(crate) enum What {
    /// Under the log's own signature, too. `line` is the witness's.
    Cosigned {
        note: Note,
        line: String,
    },
    Complete(Complete),
}

/// Verifies a record; answers a code when it does not count.
pub(crate) fn published(contract: &Contract, record: &Arrived) -> Result<Said, &'static str> {
    let note = record.note.as_ref().ok_or(MALFORMED)?;
    let mut parts = record.key.splitn(3, '|');
    let (Some(origin), Some(name), rest) = (parts.next(), parts.next(), parts.next()) else {
        return Err(MALFORMED);
    };
    let kind = match rest {
        None => KeyKind::Cosignature,
        Some(COMPLETE) => KeyKind::Ed25519,
        Some(_) => return Err(MALFORMED),
    };
    let departments = contract.departments.iter();
    let department = departments
        .map(|department| department.id.as_str())
        .find(|id| witness_name(&contract.bus_id, id) == name)
        .ok_or(UNKNOWN)?;
    let key = witness_keys(contract, department, name, kind)
        .find(|key| note.verify(key).is_ok())
        .ok_or(UNKNOWN)?;
    let (said, size, root, what) = match kind {
        KeyKind::Ed25519 => {
            let said = Complete::parse(note.text()).ok_or(MALFORMED)?;
            if said.department != department {
                return Err(FOREIGN);
            }
            let (size, root) = (said.size, said.root);
            (said.origin.clone(), size, root, What::Complete(said))
        }
        KeyKind::Cosignature => {
            let said = Checkpoint::parse(note.text()).map_err(|_| MALFORMED)?;
            // Only with the log's own signature it says anything about the log.
            let log = Statement::split(&said.origin).map_or(&*said.origin, |(log, _)| log);
            if !log_keys(contract, log).any(|key| note.verify(&key).is_ok()) {
                return Err(UNKNOWN);
            }
            let line = note.lines_by(&key).collect();
            let note = note.clone();
            (
                said.origin,
                said.size,
                said.root,
                What::Cosigned { note, line },
            )
        }
    };
    if said != origin {
        return Err(FOREIGN);
    }
    Ok(Said {
        origin: said,
        witness: name.to_owned(),
        size,
        root,
        what,
    })
}

fn witness_keys<'c>(
    contract: &'c Contract,
    department: &str,
    name: &'c str,
    kind: KeyKind,
) -> impl Iterator<Item = VerifierKey> + use<'c> {
    contract
        .keys_of(department)
        .iter()
        .filter(|key| key.usage == KeyUse::Witness && key.info.status == KeyStatus::Active)
        .filter_map(move |key| VerifierKey::new(name, kind, &key.info.public).ok())
}
