//! A department's witness: it cosigns a log that only ever grew, whose chains hold, and in which every
//! delivery that the department holds is recorded as it was delivered.

mod cosign;
mod error;
mod held;
mod keeping;
pub mod limits;
mod look;
mod proof;
mod published;
mod ranges;
mod source;
mod state;
mod walk;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mz_bus::{BusOptions, PlainProducer};
use mz_contract::{Contract, KeyUse};
use mz_journal::{AuditWriter, topics};
use mz_keys::{KeysDir, department_signer};
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::merkle::Hash;
use mz_tlog::note::{Note, VerifierKey};

use crate::log::Break;
use crate::options::system_clock;
use crate::sign::{checkpoint_keys, verifier_key};
use cosign::Cosigner;
use held::Held;
use limits::{PUBLISH_WITHIN, WINDOW_ENTRIES};
use state::{Seen, States};

pub(crate) use state::replace_as;

pub use crate::log::LogFolder;
pub use cosign::{COMPLETE, Complete, cosignature_key, statement_key, witness_name};
pub use error::{CODES, REFUSALS, Refusal, WitnessError};
pub use held::Waiting;
pub use keeping::Keeping;
pub(crate) use published::{Arrived, Said, What, published};
pub(crate) use source::log_name;
pub use source::{Reading, Source};

/// The checkpoint that is offered to witnesses, so that they cosign the same one.
pub const OFFERED: &str = "checkpoint.offered";

/// What a witness is started with.
pub struct WitnessOptions {
    /// As `<department>.adapter`.
    pub bus: BusOptions,
    pub contract: Arc<Contract>,
    pub department: String,
    /// New entries compared at once, at least 1.
    pub window: u64,
    /// Now, in milliseconds since 1970.
    pub clock: fn() -> i64,
}

impl WitnessOptions {
    pub fn new(bus: BusOptions, contract: Arc<Contract>, department: &str) -> Self {
        Self {
            bus,
            contract,
            department: department.to_owned(),
            window: WINDOW_ENTRIES,
            clock: system_clock,
        }
    }
}

/// What a step found, all of it good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
    /// Entries that were new.
    pub entries: u64,
    /// Deliveries that were compared.
    pub compared: u64,
    pub waiting: Waiting,
    /// Breaks among the new entries that the ledger itself reported, by index.
    pub breaks: Vec<(u64, Break)>,
    /// All of them, listed or not.
    pub broken: u64,
    /// A cosignature was published; it was published before when false.
    pub cosigned: bool,
    /// Closed ranges that were cosigned, by number.
    pub ranges: Vec<u64>,
}

/// One department's witness. One process for each state folder.
pub struct Witness {
    options: WitnessOptions,
    states: States,
    held: Held,
    cosigner: Cosigner,
    producer: PlainProducer,
    /// Size last cosigned by this process and when, by log.
    published: BTreeMap<String, (u64, Instant)>,
}

impl Witness {
    /// # Errors
    /// The state folder is another's or can't be used; the department's witness key can't be opened, is not
    /// listed in the contract or was revoked; the bus can't be used.
    pub fn open(
        options: WitnessOptions,
        keys: &KeysDir,
        state_folder: &Path,
    ) -> Result<Self, WitnessError> {
        let (contract, department) = (&options.contract, &options.department);
        let signer = department_signer(
            keys,
            &contract.root,
            department,
            mz_keys::public::KeyUse::Witness,
        )
        .map_err(|error| WitnessError::OwnKey(Some(error)))?;
        let listed = contract.key(department, KeyUse::Witness, signer.key_id());
        let public = listed.ok_or(WitnessError::OwnKey(None))?.info.public;
        let name = witness_name(&contract.bus_id, department);
        Ok(Self {
            states: States::open(state_folder)?,
            held: Held::open(&options.bus, contract, department)?,
            cosigner: Cosigner::new(&name, signer, &public)?,
            producer: PlainProducer::open(&options.bus)?,
            published: BTreeMap::new(),
            options,
        })
    }

    /// A step for every log of a source, older ones first. One log's fault is not another's. A shard's last
    /// log that was seen before and is not there any more has no checkpoint.
    ///
    /// # Errors
    /// The source can't be listed.
    pub fn round(
        &mut self,
        source: &dyn Source,
    ) -> std::io::Result<Vec<(String, Result<Outcome, WitnessError>)>> {
        let logs = source.logs()?;
        let gone = self.gone(&logs).into_iter().map(|log| {
            let error = WitnessError::Checkpoint { log: log.clone() };
            (log, Err(error))
        });
        let gone: Vec<_> = gone.collect();
        Ok(logs
            .into_iter()
            .map(|log| {
                let result = self.step(source, &log).and_then(|mut outcome| {
                    outcome.ranges = self.cosign_ranges(source, &log)?;
                    Ok(outcome)
                });
                if let Err(error) = &result {
                    for bad in error.bad_copies(&log) {
                        let _ = source.forget(bad);
                    }
                }
                (log, result)
            })
            .chain(gone)
            .collect())
    }

    /// Each shard's last log that was seen, if it is not among these.
    fn gone(&self, logs: &[String]) -> Vec<String> {
        let mut last = BTreeMap::new();
        for log in self.states.logs().unwrap_or_default() {
            if let Some((shard, _)) = log_name(&log) {
                last.insert(shard, log);
            }
        }
        last.into_values()
            .filter(|log| !logs.contains(log))
            .collect()
    }

    /// Looks at a log (`<shard>/<period>`) and cosigns what it has become.
    ///
    /// # Errors
    /// [`WitnessError::Refused`]: the log is not cosigned again before an operator has resolved it. All
    /// others may pass.
    pub fn step(&mut self, source: &dyn Source, log: &str) -> Result<Outcome, WitnessError> {
        let mut outcome = self.look(source, log)?;
        if self.published.get(log).map(|last| last.0) != Some(outcome.size) {
            self.publish(log)?;
            outcome.cosigned = true;
        }
        Ok(outcome)
    }

    /// Publishes the cosignature and the statement of what was seen last: it is durable.
    fn publish(&mut self, log: &str) -> Result<(), WitnessError> {
        let malformed = || WitnessError::Checkpoint {
            log: log.to_owned(),
        };
        let seen = self.states.load(log)?.ok_or_else(malformed)?;
        let (note, key, _) = self.signed(seen.note.as_bytes(), log)?;
        let at = u64::try_from((self.options.clock)() / 1_000).unwrap_or(0);
        let cosigned = self.cosigner.cosign(&note, &key, at)?;
        let stated = self.cosigner.state(&self.complete(&seen))?;
        let name = witness_name(&self.options.contract.bus_id, &self.options.department);
        for (key, value) in [
            (cosignature_key(&seen.origin, &name), cosigned),
            (statement_key(&seen.origin, &name), stated),
        ] {
            let (key, value) = (key.as_bytes(), Some(value.as_bytes()));
            self.producer
                .send(topics::COSIGNATURES, 0, key, value, &[])?;
        }
        self.producer.flush(PUBLISH_WITHIN)?;
        let last = (seen.size, Instant::now());
        self.published.insert(log.to_owned(), last);
        Ok(())
    }

    fn complete(&self, seen: &Seen) -> Complete {
        let gateway = |chain: &&mz_journal::Chain| chain.writer() == AuditWriter::Gateway;
        let lanes = seen.chains.values().filter(gateway);
        Complete {
            origin: seen.origin.clone(),
            size: seen.size,
            root: seen.root,
            department: self.options.department.clone(),
            lanes: lanes.map(|chain| (chain.lane(), chain.number())).collect(),
        }
    }

    /// A checkpoint of this log under one of the bus's published keys.
    fn signed(
        &self,
        bytes: &[u8],
        log: &str,
    ) -> Result<(Note, VerifierKey, Checkpoint), WitnessError> {
        let malformed = || WitnessError::Checkpoint {
            log: log.to_owned(),
        };
        let origin = self.origin(log)?;
        let note = Note::parse(bytes).map_err(|_| malformed())?;
        let said = Checkpoint::parse(note.text()).map_err(|_| malformed())?;
        if said.origin != origin || said.size == 0 {
            return Err(malformed());
        }
        let key = log_keys(&self.options.contract, &origin).find(|key| note.verify(key).is_ok());
        match key {
            Some(key) => Ok((note, key, said)),
            None => Err(WitnessError::Key { origin }),
        }
    }

    fn origin(&self, log: &str) -> Result<String, WitnessError> {
        if log_name(log).is_none() {
            return Err(WitnessError::Checkpoint {
                log: log.to_owned(),
            });
        }
        Ok(format!("{}/audit/{log}", self.options.contract.bus_id))
    }
}

/// The keys under which a log's checkpoints count.
pub(crate) fn log_keys(contract: &Contract, origin: &str) -> impl Iterator<Item = VerifierKey> {
    checkpoint_keys(contract).filter_map(move |public| verifier_key(origin, public).ok())
}
