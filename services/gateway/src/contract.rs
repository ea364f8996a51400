//! What a gateway asks of a contract: of the one that it starts with, and of each that is put in force.

use std::sync::Arc;

use mz_bus::{Unfit, contract_in_force};
use mz_contract::{BUS, Contract};
use mz_journal::InForce;
use mz_seal::{KeySource as _, KeyStatus};

use crate::error::Error;
use crate::options::{Keys, Options};

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
    contract_in_force(&options.bus, &in_force.digest, &options.contract)?
        .and_then(|contract| {
            ready(&contract, &options.keys).map_err(Unfit::NotReady)?;
            Ok(Arc::new(contract))
        })
        .map_err(|why| Error::ContractUnfit {
            version: in_force.version,
            why,
        })
}
