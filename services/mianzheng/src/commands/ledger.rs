//! `ledger serve | status`, `prove`: the audit log that proves itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use mz_contract::{Contract, Mode, Reasons};
use mz_journal::{Audit, bitmap_fields};
use mz_keys::KeysDir;
use mz_ledger::feed::{self, FeedError};
use mz_ledger::index::{self, Index, IndexError};
use mz_ledger::log::{CHECKPOINT, Folder};
use mz_ledger::prove::{self, Proven};
use mz_ledger::quorum::COSIGNED;
use mz_ledger::witness::Reading;
use mz_ledger::{AuditId, LedgerError, Options, Period, Progress, checkpoint_keys};
use mz_seal::timestamp_text;
use mz_tlog::checkpoint::Checkpoint;
use serde_json::{Value, json};

use super::evidence::write_personal;
use crate::cli::{LedgerCommand, LedgerServeArgs, LedgerViewArgs, ProveArgs, VerifyArgs};
use crate::exit;
use crate::instance::{Instance, LedgerPeriod};
use crate::outcome::{Failure, Outcome, coded, lang, say};
use crate::say_line;
use crate::shutdown;

pub fn run(dir: &Path, command: &LedgerCommand) -> Outcome {
    match command {
        LedgerCommand::Serve(args) => serve(dir, args),
        LedgerCommand::Status(args) => status(dir, args),
        LedgerCommand::Audit(args) => super::ledger_audit::run(dir, args),
        LedgerCommand::Reindex(args) => reindex(dir, args),
        LedgerCommand::Close(args) => super::absence::close(dir, args),
        LedgerCommand::Trim(args) => super::trim::run(dir, args),
        LedgerCommand::Absence(args) => super::absence::prove(dir, args),
        LedgerCommand::Expire { before } => expire(dir, before),
        LedgerCommand::Hold {
            from,
            to,
            reason,
            operator,
        } => hold(dir, (from, to), reason, operator),
        LedgerCommand::Release {
            hold,
            reason,
            operator,
        } => release(dir, *hold, reason, operator),
        LedgerCommand::Policy(args) => super::witness::policy(dir, args),
        LedgerCommand::Ask(question) => super::ask_ledger::run(dir, question),
        LedgerCommand::Hide(act) => super::hide::run(dir, act),
    }
}

fn failure(error: LedgerError) -> Failure {
    let code = if error.is_fenced() {
        exit::FENCED
    } else if matches!(error, LedgerError::Log { .. }) {
        exit::NOT_VERIFIED
    } else {
        exit::FAILED
    };
    coded(code, error.code(), &error)
}

/// The installation's shards, or the ones that were named.
pub fn shards(
    instance: &Instance,
    contract: &Contract,
    named: &[u16],
) -> Result<Vec<Options>, Failure> {
    let keys = KeysDir::new(instance.keys_dir());
    let settings = &instance.settings.ledger;
    let most = contract.lanes.min(mz_bus::plan::MAX_LEDGER_SHARDS);
    if settings.shards == 0 || settings.shards > most {
        let text = format!("instance.yaml: ledger.shards: 1..={most}");
        return Err(Failure::new(exit::FAULTS, text));
    }
    let shards = match named.is_empty() {
        true => (0..settings.shards).collect(),
        false => named.to_vec(),
    };
    let mut all = Vec::new();
    for shard in shards {
        if shard >= settings.shards {
            let text = format!("--shards {shard}: 0..{}", settings.shards);
            return Err(Failure::new(exit::USAGE, text));
        }
        let bus = instance.bus("bus.ledger")?;
        let mut options = Options::new(bus, contract, &keys, instance.ledger_folder())
            .map_err(|error| Failure::chain(exit::FAILED, &error))?;
        options.shard = shard;
        options.shards = settings.shards;
        options.period = match settings.period {
            LedgerPeriod::Year => Period::Year,
            LedgerPeriod::Month => Period::Month,
        };
        all.push(options);
    }
    Ok(all)
}

/// Every shard in this process, or the ones that were named.
fn serve(dir: &Path, args: &LedgerServeArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let contract = Arc::new(instance.contract(Mode::Signed)?);
    let all = shards(&instance, &contract, &args.shards)?;
    let stop = shutdown::flag().map_err(anyhow::Error::from)?;
    eprintln!(
        "{}",
        say(
            &format!(
                "账本已启动:{} 个分片,{}",
                all.len(),
                instance.ledger_folder().display()
            ),
            &format!(
                "ledger started: {} shard(s), {}",
                all.len(),
                instance.ledger_folder().display()
            ),
        )
    );
    let (folder, settings) = (instance.ledger_folder(), &instance.settings.ledger);
    let runtime = runtime()?;
    let index = open_index(&instance, &runtime)?;
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| runtime.block_on(feed::follow(&index, &folder, &stop)));
        scope.spawn(|| super::witness::collect(&instance, &contract, &stop));
        scope.spawn(|| super::absence::keep_closing(&all, settings.close, &stop));
        let threads: Vec<_> = all
            .iter()
            .map(|options| scope.spawn(|| shard(options, &stop)))
            .collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results.collect::<Vec<_>>()
    });
    for result in ended {
        match result {
            Ok(result) => result.map_err(failure)?,
            Err(_) => return Err(Failure::silent(exit::FAILED)),
        }
    }
    Ok(())
}

/// A shard that can't go on ends the others: somebody must look.
fn shard(options: &Options, stop: &Arc<AtomicBool>) -> Result<(), LedgerError> {
    let result = mz_ledger::run(options, &Arc::new(Progress::default()), stop);
    stop.store(true, std::sync::atomic::Ordering::Release);
    result
}

/// The logs of an installation, oldest first.
pub fn logs(args: &LedgerViewArgs, instance: &Instance) -> Result<Vec<PathBuf>, Failure> {
    let root = args
        .folder
        .clone()
        .unwrap_or_else(|| instance.ledger_folder());
    let all = feed::logs(&root).with_context(|| format!("{}: cannot read", root.display()))?;
    if all.is_empty() {
        return Err(no_log(&root.display().to_string()));
    }
    Ok(all)
}

fn no_log(place: &str) -> Failure {
    let text = say("此处没有账本", "no log is here");
    Failure::new(exit::FAILED, format!("{place}: {text}"))
}

pub fn open_index(
    instance: &Instance,
    runtime: &tokio::runtime::Runtime,
) -> Result<Index, Failure> {
    let _entered = runtime.enter();
    Index::open(&instance.database_url()?, index::SCHEMA)
        .map_err(|error| Failure::chain(exit::FAILED, &error))
}

pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    built.context("threads could not be started")
}

fn index_failure(error: IndexError) -> Failure {
    coded(exit::FAILED, "LEDGER_INDEX", &error)
}

/// The first moment of a day, UTC.
fn start_of(text: &str) -> Result<i64, Failure> {
    let day = super::ask_ledger::day(text)?;
    Ok(day
        .and_time(chrono::NaiveTime::MIN)
        .and_utc()
        .timestamp_millis())
}

fn expire(dir: &Path, before: &str) -> Outcome {
    let instance = Instance::open(dir)?;
    let (runtime, before_ms) = (runtime()?, start_of(before)?);
    let index = open_index(&instance, &runtime)?;
    let gone = runtime
        .block_on(index.expire(before_ms))
        .map_err(index_failure)?;
    for month in &gone {
        say_line!("{}", month.format("%Y-%m"));
    }
    let count = gone.len();
    say_line!(
        "{}",
        say(
            &format!("删除了 {count} 个月"),
            &format!("{count} month(s) dropped")
        )
    );
    Ok(())
}

fn hold(dir: &Path, (from, to): (&str, &str), reason: &str, operator: &str) -> Outcome {
    let instance = Instance::open(dir)?;
    let runtime = runtime()?;
    let index = open_index(&instance, &runtime)?;
    let hold = index::Hold {
        period: index::Period {
            from_ms: start_of(from)?,
            to_ms: start_of(to)?,
        },
        reason: reason.to_owned(),
        by: operator.to_owned(),
    };
    let number = runtime.block_on(index.hold(&hold)).map_err(index_failure)?;
    say_line!("{number}");
    Ok(())
}

fn release(dir: &Path, hold: i64, reason: &str, operator: &str) -> Outcome {
    let instance = Instance::open(dir)?;
    let runtime = runtime()?;
    let index = open_index(&instance, &runtime)?;
    let ended = runtime.block_on(index.end_hold(hold, reason, operator));
    ended.map_err(index_failure)
}

pub fn feed_failure(error: FeedError) -> Failure {
    coded(exit::FAILED, error.code(), &error)
}

fn reindex(dir: &Path, args: &LedgerViewArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let runtime = runtime()?;
    let index = open_index(&instance, &runtime)?;
    for path in logs(args, &instance)? {
        let indexed = runtime
            .block_on(feed::reindex(&index, &path))
            .map_err(feed_failure)?;
        say_line!(
            "{}: {}",
            path.display(),
            say(
                &format!("{indexed} 条已索引"),
                &format!("{indexed} entries indexed")
            )
        );
    }
    Ok(())
}

/// What the log's checkpoint says, if a key of the ledger signed it.
pub fn signed(folder: &Folder, contract: &Contract) -> Result<Checkpoint, &'static str> {
    let (note, said) = prove::newest(folder).map_err(|error| error.code())?;
    let known = mz_ledger::is_signed(&note, &said.origin, checkpoint_keys(contract));
    if known {
        Ok(said)
    } else {
        Err("LEDGER_KEY_UNKNOWN")
    }
}

fn status(dir: &Path, args: &LedgerViewArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let contract = instance.contract(Mode::Draft)?;
    let mut all = Vec::new();
    for path in logs(args, &instance)? {
        let head = signed(&Folder::new(&path), &contract).map_err(|code| {
            let text = Reasons::built_in().text(code, lang()).to_owned();
            Failure::new(
                exit::NOT_VERIFIED,
                format!("{}: {code}: {text}", path.display()),
            )
        })?;
        all.push(json!({
            "origin": head.origin,
            "size": head.size,
            "root": mz_ledger::check::root_text(&head.root),
            "folder": path,
        }));
    }
    if args.json {
        say_line!("{}", Value::from(all));
        return Ok(());
    }
    for log in all {
        let text = |name: &str| log[name].as_str().unwrap_or_default().to_owned();
        say_line!("{}  {}  {}", text("origin"), log["size"], text("root"));
    }
    Ok(())
}

pub fn prove(dir: &Path, args: &ProveArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let id: AuditId = args
        .audit_id
        .parse()
        .map_err(|error: mz_ledger::BadAuditId| Failure::chain(exit::USAGE, &error))?;
    let (folder, url) = (args.folder.as_deref(), args.url.as_deref());
    let principal = args.principal.as_deref().unwrap_or_default();
    let source = super::logs::open(&instance, folder, (url, principal))?;
    let logs = source
        .logs()
        .map_err(|error| super::logs::unlisted(&error))?;
    // Newest first: most questions are about what has just happened.
    let mut last = None;
    for log in logs.iter().rev() {
        let note = if args.cosigned { COSIGNED } else { CHECKPOINT };
        let disk = Reading {
            source: &*source,
            log,
        };
        match prove::prove_under(&disk, id, note) {
            Ok(proof) => {
                // What came over the network is not handed on unverified.
                if url.is_some() {
                    holds(&proof, &instance.contract(Mode::Draft)?)?;
                }
                return match &args.out {
                    Some(out) => Ok(write_personal(out, proof.as_bytes())?),
                    None => {
                        crate::outcome::print(format_args!("{proof}"));
                        Ok(())
                    }
                };
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(coded(exit::FAILED, error.code(), &error)),
        None => Err(no_log(&args.url.clone().unwrap_or_default())),
    }
}

/// What a proof proves under the ledger's published keys.
fn holds(proof: &str, contract: &Contract) -> Result<Proven, Failure> {
    prove::verify(proof, checkpoint_keys(contract))
        .map_err(|error| coded(exit::NOT_VERIFIED, error.code(), &error))
}

/// `verify` of a `.tlog-proof`.
pub fn verify_proof(text: &str, contract: &Contract, args: &VerifyArgs) -> Outcome {
    let proven = holds(text, contract)?;
    let witnesses = match &args.policy {
        Some(path) => super::witness::meets(text, path)?,
        None => Vec::new(),
    };
    if args.json {
        let mut value = proven_json(&proven, contract);
        value["witnesses"] = json!(witnesses);
        say_line!("{value}");
    } else {
        print_proven(&proven, contract);
        for name in witnesses {
            say_line!("  {:<10} {name}", say("联署", "cosigned"));
        }
    }
    Ok(())
}

fn field_names(audit: &Audit<'_>, contract: &Contract) -> Vec<String> {
    let dataset = contract.dataset(&audit.dataset);
    let name =
        |at: u16| match dataset.and_then(|dataset| dataset.layout.fields().get(usize::from(at))) {
            Some(field) => field.name.clone(),
            None => format!("#{at}"),
        };
    bitmap_fields(&audit.fields).into_iter().map(name).collect()
}

fn proven_json(proven: &Proven, contract: &Contract) -> Value {
    let audit = &proven.audit;
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    json!({
        "log": proven.origin,
        "entry": proven.index,
        "size": proven.size,
        "audit_id": format!("{}-{}-{}", audit.writer.name(), audit.lane, audit.number),
        "at": timestamp_text(audit.at_ms),
        "kind": audit.kind.name(),
        "cause": audit.cause.name(),
        "agreement": audit.agreement,
        "dataset": audit.dataset,
        "fields": field_names(audit, contract),
        "rule": audit.rule,
        "contract": hex(&audit.contract),
        "event": hex(&audit.event),
        "lane": audit.lane,
        "sequence": audit.output_sequence,
    })
}

fn print_proven(proven: &Proven, contract: &Contract) {
    let value = proven_json(proven, contract);
    say_line!(
        "{}",
        say(
            &format!(
                "成立:{} 的第 {} 条,共 {} 条",
                proven.origin, proven.index, proven.size
            ),
            &format!(
                "proven: entry {} of {} in {}",
                proven.index, proven.size, proven.origin
            ),
        )
    );
    for name in [
        "audit_id",
        "at",
        "kind",
        "cause",
        "agreement",
        "dataset",
        "fields",
        "rule",
        "contract",
        "event",
        "sequence",
    ] {
        let text = match &value[name] {
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                let items = items.iter().filter_map(Value::as_str);
                items.collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        };
        if !text.is_empty() {
            say_line!("  {name:<10} {text}");
        }
    }
}
