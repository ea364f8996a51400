//! The files of one contract version, from `bus.contract`. Their list was committed together with
//! them, before anybody could read that the version is in force.

use std::collections::BTreeMap;

use mz_journal::{ContractFile, ContractVersion, Digest, Malformed, Record as _, topics};

use crate::error::BusError;
use crate::options::BusOptions;
use crate::reader::{Isolation, Position, Reader};
use crate::tuning::CALL_TIMEOUT;

/// Why a version's files are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ContractFault {
    #[error("bus.contract can't be read")]
    Bus(#[from] BusError),
    #[error("its list of files is not on bus.contract")]
    Missing,
    #[error("{path} is not on bus.contract")]
    FileMissing { path: String },
    #[error("a record of it can't be read")]
    Malformed(#[from] Malformed),
    #[error("{path} is not UTF-8")]
    NotText { path: String },
}

/// Path below the contract root → text, as `Contract::from_files` takes them. Nothing is checked but
/// that all are there: whoever loads them compares the digest.
pub fn contract_files(
    bus: &BusOptions,
    digest: &Digest,
) -> Result<BTreeMap<String, String>, ContractFault> {
    let mut reader = Reader::open(bus, Isolation::Committed)?;
    let partitions = reader.partitions(topics::CONTRACT)?;
    let assignment: Vec<_> = (0..i32::try_from(partitions).unwrap_or(i32::MAX))
        .map(|partition| (topics::CONTRACT, partition, Position::Beginning))
        .collect();
    reader.assign(&assignment)?;
    // The newest of each key of this version alone, by path; the list has no path.
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    reader.poll_to_end(CALL_TIMEOUT, |record| {
        let Some(path) = record.key.and_then(|key| key.strip_prefix(&digest[..])) else {
            return;
        };
        match record.value {
            Some(value) => records.insert(path.to_vec(), value.to_vec()),
            None => records.remove(path),
        };
    })?;
    let list = records.get(&[][..]).ok_or(ContractFault::Missing)?;
    let mut files = BTreeMap::new();
    for path in ContractVersion::decode(list)?.paths {
        let Some(value) = records.get(path.as_bytes()) else {
            return Err(ContractFault::FileMissing { path });
        };
        let Ok(text) = String::from_utf8(ContractFile::decode(value)?.bytes) else {
            return Err(ContractFault::NotText { path });
        };
        files.insert(path, text);
    }
    Ok(files)
}
