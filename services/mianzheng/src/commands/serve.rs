//! `gateway`, `vault`, `console`, `consent serve`: the services of the bureau.

use std::path::Path;
use std::sync::Arc;

use mz_contract::{Contract, Mode};
use mz_keys::KeysDir;
use mz_vault::store::{Database, SCHEMA};

use crate::cli::{ConsentServeArgs, ConsoleArgs, GatewayArgs, ServeArgs};
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, coded, say};
use crate::shutdown;

/// What every service starts from: only a contract whose approvals are signed.
struct Start {
    instance: Instance,
    contract: Arc<Contract>,
    keys: KeysDir,
}

impl Start {
    fn new(dir: &Path) -> Result<Self, Failure> {
        let instance = Instance::open(dir)?;
        let contract = Arc::new(instance.contract(Mode::Signed)?);
        let keys = KeysDir::new(instance.keys_dir());
        Ok(Self {
            instance,
            contract,
            keys,
        })
    }

    fn announce(&self, zh: &str, en: &str) {
        eprintln!(
            "{}",
            say(
                &format!(
                    "{zh}:{} 个泳道,{} 个槽位",
                    self.contract.lanes, self.instance.settings.slots
                ),
                &format!(
                    "{en}: {} lanes, {} slots",
                    self.contract.lanes, self.instance.settings.slots
                ),
            )
        );
    }
}

fn key_failure(error: mz_keys::KeyError) -> Failure {
    Failure::chain(exit::FAILED, &error)
}

pub fn gateway(dir: &Path, args: &GatewayArgs) -> Outcome {
    let start = Start::new(dir)?;
    let keys = mz_gateway::Keys::load(&start.keys, &start.instance.contract_root())
        .map_err(key_failure)?;
    let mut options = mz_gateway::Options::new(
        start.instance.bus("bus.gateway")?,
        Arc::clone(&start.contract),
        Arc::new(keys),
        start.instance.settings.slots,
    );
    options.ownership = if args.slots.is_empty() {
        mz_gateway::Ownership::Group {
            instance: args.instance.clone(),
        }
    } else {
        mz_gateway::Ownership::Fixed(args.slots.clone())
    };
    options.pace.commit_every = std::time::Duration::from_millis(args.commit_ms);
    let service = mz_gateway::Service::new(options).map_err(gateway_failure)?;
    let stop = shutdown::flag().map_err(anyhow::Error::from)?;
    let handle = service.handle();
    std::thread::spawn(move || {
        shutdown::wait(&stop);
        handle.stop();
    });
    start.announce("网关已启动", "gateway started");
    service.run().map_err(gateway_failure)
}

fn gateway_failure(error: mz_gateway::Error) -> Failure {
    let code = if matches!(error, mz_gateway::Error::Fenced { .. }) {
        exit::FENCED
    } else {
        exit::FAILED
    };
    coded(code, error.code(), &error)
}

pub fn vault(dir: &Path, args: &ServeArgs) -> Outcome {
    let start = Start::new(dir)?;
    let keys = mz_vault::VaultKeys::load(&start.keys, &start.instance.contract_root())
        .map_err(key_failure)?;
    let database = Database::new(&start.instance.database_url()?, SCHEMA)
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    let mut vault = mz_vault::Options::new(
        start.instance.bus("bus.vault")?,
        Arc::clone(&start.contract),
        Arc::new(keys),
        database,
        start.instance.settings.slots,
    );
    vault.ownership = if args.slots.is_empty() {
        mz_vault::Ownership::Group {
            instance: args.instance.clone(),
        }
    } else {
        mz_vault::Ownership::Fixed(args.slots.clone())
    };
    let options = mz_console::VaultOptions {
        listen: args.listen.unwrap_or(start.instance.settings.http.vault),
        tls: start.instance.tls("bus.vault")?,
        vault,
        index_url: start.instance.database_url()?,
    };
    let stop = shutdown::flag().map_err(anyhow::Error::from)?;
    start.announce("证照库已启动", "vault started");
    mz_console::run_vault(options, &stop).map_err(console_failure)
}

pub fn console(dir: &Path, args: &ConsoleArgs) -> Outcome {
    let start = Start::new(dir)?;
    let options = mz_console::Options {
        listen: args.listen.unwrap_or(start.instance.settings.http.console),
        tls: start.instance.tls("bus.console")?,
        contract: Arc::clone(&start.contract),
        ledger: start.instance.ledger_folder(),
    };
    let stop = shutdown::flag().map_err(anyhow::Error::from)?;
    start.announce("模式服务已启动", "schema endpoint started");
    mz_console::run(options, &stop).map_err(console_failure)
}

pub fn consent(dir: &Path, args: &ConsentServeArgs) -> Outcome {
    let mut start = Start::new(dir)?;
    let listen = match args.listen {
        Some(listen) => listen,
        None => start.instance.choose_consent_address()?,
    };
    let root = start.instance.contract_root();
    let keys = mz_consent::ConsentKeys::load(&start.keys, &root).map_err(key_failure)?;
    let database = mz_consent::store::Database::new(
        &start.instance.database_url()?,
        mz_consent::store::SCHEMA,
    )
    .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    // Read again rather than kept from loading: these are the bytes that are put in force.
    let files = Contract::files(&root)?;
    let mut consent = mz_consent::Options::new(
        start.instance.bus("bus.consent")?,
        Arc::clone(&start.contract),
        files,
        Arc::new(keys),
        database,
        start.instance.settings.slots,
    );
    if let Some(name) = &args.instance {
        consent.instance.clone_from(name);
    }
    let options = mz_console::ConsentOptions {
        listen,
        tls: start.instance.tls("bus.consent")?,
        consent,
    };
    let stop = shutdown::flag().map_err(anyhow::Error::from)?;
    start.announce("授权服务已启动", "consent service started");
    mz_console::run_consent(options, &stop).map_err(console_failure)
}

fn console_failure(error: mz_console::ConsoleError) -> Failure {
    let code = if error.is_fenced() {
        exit::FENCED
    } else {
        exit::FAILED
    };
    coded(code, error.code(), &error)
}
