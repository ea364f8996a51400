//! `witness`, `ledger policy`: a department's check of the ledger, and what becomes of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use mz_contract::{Contract, KeyUse, Mode, PublicKey, Reasons};
use mz_keys::KeysDir;
use mz_ledger::quorum::Quorum;
use mz_ledger::witness::{
    Keeping, Outcome as Seen, Witness, WitnessError, WitnessOptions, witness_name,
};
use mz_seal::KeyStatus;
use mz_tlog::note::{KeyKind, VerifierKey};
use mz_tlog::policy::Policy;
use mz_tlog::proof::Proof;

use crate::cli::{LedgerPolicyArgs, LedgerViewArgs, WitnessArgs};
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, coded, lang, say};
use crate::say_line;
use crate::shutdown;

/// Between two looks at the logs.
const ROUND: Duration = Duration::from_secs(1);
/// The same while they can't be reached.
const AGAIN: Duration = Duration::from_secs(10);
/// It is said at most this often that a log is late.
const ALARM_EVERY: Duration = Duration::from_secs(60);
const STOP_POLL: Duration = Duration::from_millis(100);
/// The policy whose quorum `ledger serve` collects, in the ledger's folder.
pub const POLICY: &str = "tlog-policy";

fn failure(error: WitnessError) -> Failure {
    let code = match error.is_refusal() {
        true => exit::NOT_VERIFIED,
        false => exit::FAILED,
    };
    coded(code, error.code(), &error)
}

pub fn run(dir: &Path, args: &WitnessArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let contract = Arc::new(instance.contract(Mode::Draft)?);
    let keys = KeysDir::new(instance.keys_dir());
    let department = &args.department;
    let bus = instance.bus(&format!("{department}.adapter"))?;
    let options = WitnessOptions::new(bus, contract, department);
    let state = args
        .state
        .clone()
        .unwrap_or_else(|| instance.dir.join("witness").join(department));
    let mut witness = Witness::open(options, &keys, &state).map_err(failure)?;
    let principal = format!("{department}.adapter");
    let (folder, url) = (args.folder.as_deref(), args.url.as_deref());
    let mut source = super::logs::open(&instance, folder, (url, &principal))?;
    if let Some(keep) = &args.keep {
        source = Box::new(Keeping::new(source, keep));
    }
    let stop = shutdown::flag().map_err(anyhow::Error::from)?;
    let mut late: BTreeMap<String, Late> = BTreeMap::new();
    loop {
        let (mut refused, mut left) = (None, ROUND);
        let round = match witness.round(&*source) {
            Ok(round) => round,
            // Whoever is away is not refused: it is said, and asked again.
            Err(error) if url.is_some() && !args.once => {
                left = AGAIN;
                tracing::warn!(
                    code = super::logs::reason(&error),
                    error = mz_bus::chain(&error),
                    "the logs can't be reached: nothing is witnessed"
                );
                Vec::new()
            }
            Err(error) => return Err(super::logs::unlisted(&error)),
        };
        let mut logs = round.into_iter().peekable();
        while let Some((log, result)) = logs.next() {
            let newest = logs
                .peek()
                .is_none_or(|(next, _)| shard(next) != shard(&log));
            match result {
                Ok(seen) => {
                    told(&seen);
                    if newest && seen.waiting.is_late(mz_ledger::system_clock()) {
                        late.entry(log).or_default().said(&seen);
                    }
                }
                Err(error) if args.once || error.is_refusal() => refused = Some(failure(error)),
                Err(error) => tracing::warn!(
                    log,
                    code = error.code(),
                    error = mz_bus::chain(&error),
                    "looks again"
                ),
            }
        }
        if let Some(failure) = refused {
            return Err(failure);
        }
        if args.once {
            return Ok(());
        }
        while !left.is_zero() {
            if stop.load(Ordering::Acquire) {
                return Ok(());
            }
            std::thread::sleep(STOP_POLL);
            left = left.saturating_sub(STOP_POLL);
        }
    }
}

fn shard(log: &str) -> Option<&str> {
    log.split_once('/').map(|(shard, _)| shard)
}

/// When it was said last that a log does not reach what the department holds.
#[derive(Default)]
struct Late(Option<Instant>);

impl Late {
    fn said(&mut self, seen: &Seen) {
        if self.0.is_some_and(|at| at.elapsed() < ALARM_EVERY) {
            return;
        }
        self.0 = Some(Instant::now());
        tracing::warn!(
            log = seen.origin,
            lanes = seen.waiting.lanes,
            "deliveries are not in the log: it is an old one, or the ledger stands still"
        );
    }
}

fn told(seen: &Seen) {
    for (index, broken) in &seen.breaks {
        let text = Reasons::built_in().text(&broken.code, lang()).to_owned();
        say_line!("{} {index}: {}: {text}", seen.origin, broken.code);
    }
    if seen.cosigned {
        say_line!(
            "{}",
            say(
                &format!(
                    "{}:{} 条已联署,核对了 {} 条交付",
                    seen.origin, seen.size, seen.compared
                ),
                &format!(
                    "{}: cosigned at {} entries, {} deliveries compared",
                    seen.origin, seen.size, seen.compared
                ),
            )
        );
    }
}

/// Collects the witnesses' cosignatures when there is a policy. Logging never waits for it.
pub fn collect(instance: &Instance, contract: &Arc<Contract>, stop: &AtomicBool) {
    let path = instance.ledger_folder().join(POLICY);
    let mut quorum: Option<Quorum> = None;
    let mut of = Vec::new();
    while !stop.load(Ordering::Acquire) {
        // A policy may come, or change, while the ledger runs.
        let text = std::fs::read(&path).unwrap_or_default();
        if text != of {
            quorum = opened(instance, contract, &text);
            of = text;
        }
        let Some(collecting) = &mut quorum else {
            std::thread::sleep(STOP_POLL);
            continue;
        };
        match collecting.poll(ROUND) {
            Ok(done) => {
                for fault in done.faults {
                    tracing::warn!(
                        code = fault.code,
                        key = fault.key,
                        "a cosignature does not count"
                    );
                }
                for (origin, size) in done.met {
                    tracing::info!(origin, size, "cosigned");
                }
            }
            Err(error) => {
                tracing::warn!(
                    code = error.code(),
                    error = mz_bus::chain(&error),
                    "cosignatures wait"
                );
                std::thread::sleep(ROUND);
                quorum = opened(instance, contract, &of);
            }
        }
    }
}

fn opened(instance: &Instance, contract: &Arc<Contract>, text: &[u8]) -> Option<Quorum> {
    if text.is_empty() {
        return None;
    }
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(error) => {
            tracing::warn!(%error, "the witnesses' policy can't be used");
            return None;
        }
    };
    let bus = instance.bus("bus.ledger").ok()?;
    match Quorum::open(&bus, Arc::clone(contract), instance.ledger_folder(), policy) {
        Ok(quorum) => Some(quorum),
        Err(error) => {
            tracing::warn!(code = error.code(), "cosignatures can't be read");
            None
        }
    }
}

/// Names of the witnesses under which a proof meets a policy.
pub fn meets(proof: &str, path: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read(path).with_context(|| format!("{}: cannot read", path.display()))?;
    let policy = Policy::parse(&text)
        .map_err(|error| Failure::new(exit::FAULTS, format!("{}: {error}", path.display())))?;
    let unmet = |error: &dyn std::fmt::Display| {
        let text = say("不满足见证策略", "the policy is not met");
        Failure::new(exit::NOT_VERIFIED, format!("{text}: {error}"))
    };
    let proof = Proof::parse(proof).map_err(|error| unmet(&error))?;
    let entry = proof.extra.clone().unwrap_or_default();
    let accepted = proof
        .verify(&entry, &policy)
        .map_err(|error| unmet(&error))?;
    Ok(accepted
        .witnesses
        .into_iter()
        .map(|(name, _)| name)
        .collect())
}

/// Every log of the folder under every active checkpoint key, and the departments' active witnesses.
pub fn policy(dir: &Path, args: &LedgerPolicyArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let contract = instance.contract(Mode::Draft)?;
    let view = LedgerViewArgs {
        folder: args.folder.clone(),
        json: false,
    };
    let mut lines = Vec::new();
    for path in super::ledger::logs(&view, &instance)? {
        let mut parts = path.components().rev();
        let mut name = || {
            parts
                .next()
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
        };
        let (Some(period), Some(shard)) = (name(), name()) else {
            continue;
        };
        let origin = format!("{}/audit/{shard}/{period}", contract.bus_id);
        for public in mz_ledger::checkpoint_keys(&contract) {
            let key = mz_ledger::verifier_key(&origin, public)
                .map_err(|error| Failure::chain(exit::FAILED, &error))?;
            lines.push(format!("log {key}"));
        }
    }
    let mut names = Vec::new();
    for department in &contract.departments {
        let id = &department.id;
        if !args.witnesses.is_empty() && !args.witnesses.contains(id) {
            continue;
        }
        let active =
            |key: &&PublicKey| key.usage == KeyUse::Witness && key.info.status == KeyStatus::Active;
        for key in department.keys.iter().filter(active) {
            let name = witness_name(&contract.bus_id, id);
            let key = VerifierKey::new(&name, KeyKind::Cosignature, &key.info.public)
                .map_err(|error| Failure::chain(exit::FAILED, &error))?;
            lines.push(format!("witness {id} {key}"));
            names.push(id.clone());
        }
    }
    lines.push(format!(
        "group witnesses {} {}",
        args.quorum,
        names.join(" ")
    ));
    lines.push("quorum witnesses".to_owned());
    let text = lines.join("\n") + "\n";
    Policy::parse(&text).map_err(|error| Failure::new(exit::USAGE, error.to_string()))?;
    crate::outcome::print(format_args!("{text}"));
    Ok(())
}
