//! A contract version that was put in force: its files from `bus.contract`, checked as the contract is that
//! a service starts with. Their list was committed together with them, before anybody could read that the
//! version is in force. Whoever can't use it stops: nobody goes on under a contract that is no longer in
//! force, and nobody skips one.

use std::collections::BTreeMap;

use mz_contract::{Contract, Fault, Mode};
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

/// Why a version can't be decided under.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("its files are not to be had")]
    Files(#[source] ContractFault),
    #[error("it has {count} faults")]
    Faults {
        count: usize,
        /// The first; lint tells all of them.
        #[source]
        first: Option<Box<Fault>>,
    },
    #[error("its files have another digest")]
    Digest,
    #[error("it is the contract of another bus")]
    Bus,
    #[error("it has {found} lanes, this installation has {expected}")]
    Lanes { found: u16, expected: u16 },
    /// For a reason of the service's own.
    #[error("{0}")]
    NotReady(&'static str),
}

/// Loads the version with this digest; it must fit where `like` is installed.
///
/// # Errors
/// The outer one is the cluster's, which may be back in a moment: nothing is wrong with the version.
pub fn contract_in_force(
    bus: &BusOptions,
    digest: &Digest,
    like: &Contract,
) -> Result<Result<Contract, Unfit>, BusError> {
    let files = match contract_files(bus, digest) {
        Ok(files) => files,
        Err(ContractFault::Bus(error)) => return Err(error),
        Err(fault) => return Ok(Err(Unfit::Files(fault))),
    };
    let parsed = Contract::from_files(files, Mode::Signed).map_err(|faults| Unfit::Faults {
        count: faults.len(),
        first: faults.into_iter().next().map(Box::new),
    });
    Ok(parsed.and_then(|contract| fits(&contract, digest, like).map(|()| contract)))
}

fn fits(contract: &Contract, digest: &Digest, like: &Contract) -> Result<(), Unfit> {
    if contract.digest != *digest {
        return Err(Unfit::Digest);
    }
    if contract.bus_id != like.bus_id {
        return Err(Unfit::Bus);
    }
    let (found, expected) = (contract.lanes, like.lanes);
    if found != expected {
        return Err(Unfit::Lanes { found, expected });
    }
    Ok(())
}

/// Path below the contract root → text, as `Contract::from_files` takes them. Nothing is checked but
/// that all are there.
fn contract_files(
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
