//! Stands in for what the consent service does not export yet. Goes away with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mz_bus::BusOptions;
use mz_consent::model::*;
use mz_consent::{Caller, Refusal};
use mz_contract::Contract;
use mz_keys::{KeyError, KeysDir};

#[derive(Debug, thiserror::Error)]
#[error("not there")]
pub struct ConsentError;

impl ConsentError {
    pub fn code(&self) -> &'static str {
        "CONSENT_UNAVAILABLE"
    }
    pub fn is_fenced(&self) -> bool {
        false
    }
}

pub struct ConsentKeys;

impl ConsentKeys {
    pub fn load(_: &KeysDir, _: &Path) -> Result<Self, KeyError> {
        Ok(Self)
    }
}

pub mod store {
    pub const SCHEMA: &str = "consent";
    #[derive(Clone, Debug)]
    pub struct Database;
    impl Database {
        pub fn new(_: &str, _: &str) -> Result<Self, super::ConsentError> {
            Ok(Self)
        }
        pub async fn migrate(&self) -> Result<(), super::ConsentError> {
            Ok(())
        }
        pub async fn is_current(&self) -> Result<bool, super::ConsentError> {
            Ok(true)
        }
    }
}

pub struct Options {
    pub contract: Arc<Contract>,
    pub instance: String,
}

impl Options {
    pub fn new(
        _: BusOptions,
        contract: Arc<Contract>,
        _: BTreeMap<String, String>,
        _: Arc<ConsentKeys>,
        _: store::Database,
        _: u32,
    ) -> Self {
        Self {
            contract,
            instance: String::new(),
        }
    }
}

pub struct Service(Handle);

impl Service {
    pub fn start(options: Options) -> Result<Self, ConsentError> {
        Ok(Self(Handle(options.contract)))
    }
    pub fn handle(&self) -> Handle {
        self.0.clone()
    }
    pub fn has_failed(&self) -> bool {
        false
    }
    pub fn stop(self) -> Result<(), ConsentError> {
        Ok(())
    }
}

#[derive(Clone)]
pub struct Handle(Arc<Contract>);

type To<A> = Result<A, Refusal>;
const NO: Refusal = Refusal::Unavailable;

impl Handle {
    pub fn contract(&self) -> Arc<Contract> {
        Arc::clone(&self.0)
    }
    pub fn is_ready(&self) -> bool {
        false
    }
    pub async fn give(&self, _: &Caller, _: Give) -> To<Given> {
        Err(NO)
    }
    pub async fn change(&self, _: &Caller, _: ChangeKind, _: Change) -> To<Changed> {
        Err(NO)
    }
    pub async fn open_case(&self, _: &Caller, _: OpenCase) -> To<Opened> {
        Err(NO)
    }
    pub async fn list(&self, _: &Caller, _: About) -> To<Listed> {
        Err(NO)
    }
    pub async fn enforcement(&self, _: &Caller, _: AskEnforcement) -> To<Enforcement> {
        Err(NO)
    }
    pub async fn why(&self, _: &Caller, _: Why) -> To<Because> {
        Err(NO)
    }
    pub async fn agreement(
        &self,
        _: &Caller,
        _: AgreementActKind,
        _: AgreementAct,
    ) -> To<InForceView> {
        Err(NO)
    }
    pub async fn activate(&self, _: &Caller, _: Activate) -> To<InForceView> {
        Err(NO)
    }
    pub async fn versions(&self, _: &Caller) -> To<Vec<VersionEntry>> {
        Err(NO)
    }
    pub async fn withdrawals(&self, _: &Caller, _: AskWithdrawals) -> To<Withdrawals> {
        Err(NO)
    }
    pub async fn erase(&self, _: &Caller, _: Erase) -> To<Erased> {
        Err(NO)
    }
}
