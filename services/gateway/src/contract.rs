//! A contract version that was put in force: its files from `bus.contract`, checked as a gateway checks
//! the contract that it starts with. What can't be loaded or does not fit stops the slot: a slot never
//! goes on under a contract that is no longer in force, and never skips one.

use std::sync::Arc;

use mz_bus::{ContractFault, contract_files};
use mz_contract::{BUS, Contract, Mode};
use mz_journal::InForce;
use mz_seal::{Digest, KeySource as _, KeyStatus};

use crate::error::Error;
use crate::options::{Keys, Options};

/// Why a version that is in force can't be decided under.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("its files are not to be had")]
    Files(#[source] ContractFault),
    #[error("it has {count} faults")]
    Faults {
        count: usize,
        /// The first; lint tells all of them.
        #[source]
        first: Option<Box<mz_contract::Fault>>,
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
    let files = match contract_files(&options.bus, &in_force.digest) {
        Ok(files) => files,
        // The cluster may be back in a moment: nothing is wrong with the version.
        Err(ContractFault::Bus(error)) => return Err(error.into()),
        Err(fault) => return Err(unfit(Unfit::Files(fault))),
    };
    let contract = Contract::from_files(files, Mode::Signed).map_err(|faults| {
        unfit(Unfit::Faults {
            count: faults.len(),
            first: faults.into_iter().next().map(Box::new),
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
