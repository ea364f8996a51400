//! A contract version that was put in force: its files from `bus.contract`, checked as a gateway checks
//! the contract that it starts with. What can't be loaded or does not fit stops the slot: a slot never
//! goes on under a contract that is no longer in force, and never skips one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mz_bus::{Isolation, Position, Reader};
use mz_contract::{BUS, Contract, Mode};
use mz_journal::{ContractFile, ContractVersion, InForce, Malformed, Record as _, topics};
use mz_seal::{Digest, KeySource as _, KeyStatus};

use crate::error::Error;
use crate::options::{Keys, Options};

/// Reading to the end waits for open transactions of whoever publishes contracts.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a version that is in force can't be decided under.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("its list of files is not on bus.contract")]
    Missing,
    #[error("{path} is not on bus.contract")]
    FileMissing { path: String },
    #[error("a record of it can't be read")]
    Malformed(#[source] Malformed),
    #[error("{path} is not UTF-8")]
    NotText { path: String },
    /// The first of its faults; lint tells all of them.
    #[error("it has {count} faults")]
    Faults {
        count: usize,
        #[source]
        first: Box<mz_contract::Fault>,
    },
    #[error("its files have another digest")]
    Digest,
    #[error("it is the contract of another bus")]
    Bus,
    #[error("it has {found} lanes, this installation has {expected}")]
    Lanes { found: u16, expected: u16 },
    #[error("{0}")]
    NotReady(&'static str),
}

impl From<Malformed> for Unfit {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault)
    }
}

/// What a contract must have before a gateway may decide under it.
pub(crate) fn ready(contract: &Contract, keys: &Keys) -> Result<(), &'static str> {
    let key = contract.seal_key(BUS, keys.signer.key_id());
    match key.map(|key| &key.status) {
        Some(KeyStatus::Active) => {}
        Some(_) => return Err("the bus's seal key is revoked"),
        None => return Err("the bus's seal key is not in it"),
    }
    let unsigned = |section: &mz_contract::Section| section.approval.signed_by.is_none();
    if contract.sections().any(unsigned) {
        return Err("a section lacks its provider's signature: run `mianzheng contract sign`");
    }
    Ok(())
}

/// Loads the version that is in force.
pub(crate) fn load(options: &Options, in_force: &InForce) -> Result<Arc<Contract>, Error> {
    let unfit = |why| Error::ContractUnfit {
        version: in_force.version,
        why,
    };
    let files = read(options, &in_force.digest)?.map_err(unfit)?;
    let contract = Contract::from_files(files, Mode::Signed).map_err(|faults| {
        let count = faults.len();
        unfit(match faults.into_iter().next() {
            Some(first) => Unfit::Faults {
                count,
                first: Box::new(first),
            },
            None => Unfit::Missing,
        })
    })?;
    fits(&contract, options, &in_force.digest).map_err(unfit)?;
    Ok(Arc::new(contract))
}

fn fits(contract: &Contract, options: &Options, digest: &Digest) -> Result<(), Unfit> {
    if contract.digest != *digest {
        return Err(Unfit::Digest);
    }
    if contract.bus_id != options.contract.bus_id {
        return Err(Unfit::Bus);
    }
    let (found, expected) = (contract.lanes, options.contract.lanes);
    if found != expected {
        return Err(Unfit::Lanes { found, expected });
    }
    ready(contract, &options.keys).map_err(Unfit::NotReady)
}

/// The files of one version. Its list was committed with them, before anybody could read that it is in
/// force.
fn read(
    options: &Options,
    digest: &Digest,
) -> Result<Result<BTreeMap<String, String>, Unfit>, Error> {
    let mut reader = Reader::open(&options.bus, Isolation::Committed)?;
    let partitions = reader.partitions(topics::CONTRACT)?;
    let assignment: Vec<_> = (0..i32::try_from(partitions).unwrap_or(i32::MAX))
        .map(|partition| (topics::CONTRACT, partition, Position::Beginning))
        .collect();
    reader.assign(&assignment)?;
    // The newest of each key, of this version alone: path to value, the list under no path.
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    reader.poll_to_end(PATIENCE, |record| {
        let Some(path) = record.key.and_then(|key| key.strip_prefix(&digest[..])) else {
            return;
        };
        match record.value {
            Some(value) => records.insert(path.to_vec(), value.to_vec()),
            None => records.remove(path),
        };
    })?;
    Ok(files(&records))
}

fn files(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<BTreeMap<String, String>, Unfit> {
    let list = records.get(&[][..]).ok_or(Unfit::Missing)?;
    let version = ContractVersion::decode(list)?;
    let mut files = BTreeMap::new();
    for path in version.paths {
        let Some(value) = records.get(path.as_bytes()) else {
            return Err(Unfit::FileMissing { path });
        };
        let file = ContractFile::decode(value)?;
        let Ok(text) = String::from_utf8(file.bytes) else {
            return Err(Unfit::NotText { path });
        };
        files.insert(path, text);
    }
    Ok(files)
}
