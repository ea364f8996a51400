//! `ledger serve | status | audit`, `prove`: the audit log that proves itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use mz_contract::{Contract, Mode, Reasons};
use mz_journal::{Audit, bitmap_fields};
use mz_keys::KeysDir;
use mz_ledger::batches::{Accepted, Batches, EQUIVOCATED, Equivocation};
use mz_ledger::check::{Report, check_after};
use mz_ledger::cosigned::{Cosigned, check_cosigned};
use mz_ledger::feed::{self, FeedError, IndexReport};
use mz_ledger::index::{self, Hidings, Index, IndexError};
use mz_ledger::limits::MAX_BATCHES_HELD;
use mz_ledger::log::{CHECKPOINT, Folder};
use mz_ledger::prove::{self, Proven};
use mz_ledger::quorum::COSIGNED;
use mz_ledger::witness::Reading;
use mz_ledger::{AuditId, LedgerError, Options, Period, Progress, checkpoint_keys};
use mz_seal::timestamp_text;
use mz_tlog::checkpoint::Checkpoint;
use serde_json::{Value, json};

use super::evidence::write_personal;
use crate::cli::{
    LedgerAuditArgs, LedgerCommand, LedgerServeArgs, LedgerViewArgs, ProveArgs, VerifyArgs,
};
use crate::exit;
use crate::instance::{Instance, LedgerPeriod};
use crate::outcome::{Failure, Outcome, coded, lang, say};
use crate::say_line;
use crate::shutdown;

pub fn run(dir: &Path, command: &LedgerCommand) -> Outcome {
    match command {
        LedgerCommand::Serve(args) => serve(dir, args),
        LedgerCommand::Status(args) => status(dir, args),
        LedgerCommand::Audit(args) => audit(dir, args),
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

fn open_index(instance: &Instance, runtime: &tokio::runtime::Runtime) -> Result<Index, Failure> {
    let _entered = runtime.enter();
    Index::open(&instance.database_url()?, index::SCHEMA)
        .map_err(|error| Failure::chain(exit::FAILED, &error))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
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

fn feed_failure(error: FeedError) -> Failure {
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
fn signed(folder: &Folder, contract: &Contract) -> Result<Checkpoint, &'static str> {
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

fn audit(dir: &Path, audit: &LedgerAuditArgs) -> Outcome {
    let args = &audit.view;
    let instance = Instance::open(dir)?;
    let runtime = runtime()?;
    let index = audit
        .index
        .then(|| open_index(&instance, &runtime))
        .transpose()?;
    let contract = instance.contract(Mode::Draft)?;
    let reasons = Reasons::built_in();
    let (mut all, mut faults) = (Vec::new(), 0);
    let mut before: Option<Checkpoint> = None;
    let mut closed = super::absence::Auditing::new(&contract);
    let (mut batches, mut equivocated) = (Batches::new(MAX_BATCHES_HELD), 0);
    let mut hidings = Hidings::new(instance.settings.ledger.shards);
    for path in logs(args, &instance)? {
        let disk = Folder::new(&path);
        let (head, report) = match signed(&disk, &contract) {
            Ok(head) => {
                let report = check_after(&disk, head.size, &head.root, &mut batches);
                (Some(head), report)
            }
            Err(code) => (None, unsigned(code, &path)),
        };
        let mut report = follows(report, before.as_ref(), head.as_ref());
        let mut cosigned: Option<Cosigned> = None;
        if let Some(head) = head.as_ref().filter(|_| report.good()) {
            report.faults.extend(closed.check(&path, head));
            let found = check_cosigned(&disk, &head.origin, head.size, &contract);
            report.faults.extend(found.0);
            cosigned = found.1;
        }
        faults += report.faults.len();
        equivocated += report.equivocations.len();
        let rows = match &index {
            Some(index) if head.is_some() => {
                let found = runtime.block_on(feed::check_index(index, &path, &mut hidings));
                Some(found.map_err(feed_failure)?)
            }
            _ => None,
        };
        faults += rows
            .as_ref()
            .map_or(0, |rows| rows.faults.len() + rows.sums.len());
        if args.json {
            let mut value = as_json(&path, head.as_ref(), &report, rows.as_ref(), &contract);
            value["cosigned"] =
                json!(cosigned.map(
                    |cosigned| json!({"size": cosigned.size, "witnesses": cosigned.witnesses})
                ));
            all.push(value);
        } else {
            print_report(&path, head.as_ref(), &report, &reasons);
            cosigned.iter().for_each(print_cosigned);
            for found in &report.equivocations {
                print_equivocation(found, &contract, &reasons);
            }
            rows.iter().for_each(print_rows);
        }
        before = head;
    }
    if let Some(index) = &index {
        let hides = runtime.block_on(feed::check_hides(index, &hidings));
        let hides = hides.map_err(feed_failure)?;
        faults += hides.faults.len();
        match args.json {
            true => all.push(json!({ "hides": hides })),
            false => super::hide::print_checked(&hides, &reasons),
        }
    }
    if args.json {
        say_line!("{}", Value::from(all));
    }
    if batches.forgotten() > 0 && !args.json {
        say_line!(
            "{}",
            say(
                &format!("批次号的比对未涵盖较早的 {} 个批次", batches.forgotten()),
                &format!(
                    "batch numbers were not compared with {} older batches",
                    batches.forgotten()
                ),
            )
        );
    }
    match (faults, equivocated) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::silent(exit::EVIDENCE)),
        _ => Err(Failure::silent(exit::NOT_VERIFIED)),
    }
}

fn print_cosigned(cosigned: &Cosigned) {
    let (size, by) = (cosigned.size, cosigned.witnesses.join(", "));
    say_line!(
        "  {}",
        say(
            &format!("已联署至 {size} 条：{by}"),
            &format!("cosigned at {size} entries: {by}"),
        )
    );
}

fn equivocation_json(found: &Equivocation, contract: &Contract) -> Value {
    let batch = |batch: &Accepted| {
        json!({
            "audit_id": batch.id.to_string(), "events": batch.count,
            "root": mz_ledger::check::root_text(&batch.root), "key_id": batch.key_id,
        })
    };
    json!({
        "code": EQUIVOCATED, "stream": found.first.stream, "epoch": found.first.epoch,
        "batch": found.first.number, "first": batch(&found.first), "second": batch(&found.second),
        "signed_by_department": found.is_proven(contract),
    })
}

fn print_equivocation(found: &Equivocation, contract: &Contract, reasons: &Reasons) {
    let (first, second) = (&found.first, &found.second);
    let signed = if found.is_proven(contract) {
        say("两者均有该部门签名", "both signed by the department")
    } else {
        say(
            "合同中的密钥不能证实两者的签名",
            "the contract's keys don't confirm both signatures",
        )
    };
    say_line!(
        "  {EQUIVOCATED}: {} {}/{}: {} ≠ {}; {signed}",
        first.stream,
        first.epoch,
        first.number,
        first.id,
        second.id,
    );
    say_line!("    {}", reasons.text(EQUIVOCATED, lang()));
}

fn unsigned(code: &'static str, path: &Path) -> Report {
    let place = path.join(CHECKPOINT).display().to_string();
    Report {
        faults: vec![mz_ledger::check::Fault { code, place }],
        ..Report::default()
    }
}

/// A log names the one it follows: that must be the one before it, as it was closed.
fn follows(mut report: Report, before: Option<&Checkpoint>, head: Option<&Checkpoint>) -> Report {
    let (Some(opened), Some(head)) = (&report.opened, head) else {
        return report;
    };
    let shard = |origin: &str| origin.rsplit_once('/').map(|(shard, _)| shard.to_owned());
    let before = before.filter(|before| shard(&before.origin) == shard(&head.origin));
    let good = match before {
        Some(before) => {
            (&*opened.origin, opened.size, opened.root)
                == (&*before.origin, before.size, before.root)
        }
        // Kept elsewhere, or the shard's first.
        None => true,
    };
    if !good {
        report.faults.push(mz_ledger::check::Fault {
            code: "LEDGER_PREFIX_DIFFERS",
            place: format!("{} → {}", opened.origin, head.origin),
        });
    }
    report
}

fn as_json(
    path: &Path,
    head: Option<&Checkpoint>,
    report: &Report,
    rows: Option<&IndexReport>,
    contract: &Contract,
) -> Value {
    let breaks = report.breaks.iter().map(|(index, broken)| {
        json!({
            "entry": index, "code": broken.code, "writer": broken.writer, "lane": broken.lane,
            "last": broken.last, "found": broken.found, "offset": broken.offset,
        })
    });
    let faults = report.faults.iter();
    json!({
        "folder": path,
        "origin": head.map(|head| &head.origin),
        "size": report.size,
        "root": mz_ledger::check::root_text(&report.root),
        "records": report.records,
        "breaks": breaks.collect::<Vec<_>>(),
        "faults": faults.map(|fault| json!({"code": fault.code, "place": fault.place})).collect::<Vec<_>>(),
        "more_faults": report.more,
        "equivocations": report.equivocations.iter()
            .map(|found| equivocation_json(found, contract)).collect::<Vec<_>>(),
        "more_equivocations": report.more_equivocations,
        "index": rows.map(|rows| {
            json!({"indexed": rows.indexed, "faults": rows.faults, "sums": rows.sums})
        }),
    })
}

fn print_rows(rows: &IndexReport) {
    let good = rows.faults.is_empty() && rows.sums.is_empty();
    say_line!(
        "  {} {}: {}",
        say("索引", "index"),
        rows.indexed,
        if good {
            say("与账本一致", "as the log says")
        } else {
            say("与账本不一致", "not as the log says")
        }
    );
    for fault in &rows.faults {
        let column = fault.column.as_deref().unwrap_or_default();
        say_line!(
            "  {} {}: {:?} {column}",
            say("条目", "entry"),
            fault.leaf,
            fault.kind
        );
    }
    for sum in &rows.sums {
        let (day, agreement, dataset) = (sum.day, &sum.agreement, &sum.dataset);
        say_line!(
            "  {day} {agreement} {dataset} {}: {} ≠ {}",
            sum.kind,
            sum.stored,
            sum.counted
        );
    }
}

fn print_report(path: &Path, head: Option<&Checkpoint>, report: &Report, reasons: &Reasons) {
    let name = head.map_or_else(|| path.display().to_string(), |head| head.origin.clone());
    let verdict = if report.good() {
        say("完整", "whole")
    } else {
        say("有问题", "not whole")
    };
    say_line!(
        "{name}: {verdict}; {}",
        say(
            &format!("{} 条目,其中 {} 条审计记录", report.size, report.records),
            &format!(
                "{} entries, {} of them audit records",
                report.size, report.records
            ),
        )
    );
    for (index, broken) in &report.breaks {
        say_line!(
            "  {} {index}: {} ({} {}@{}: {} → {}) {}",
            say("条目", "entry"),
            broken.code,
            broken.writer,
            broken.lane,
            broken.offset,
            broken.last,
            broken.found,
            reasons.text(&broken.code, lang())
        );
    }
    for fault in &report.faults {
        let text = reasons.text(fault.code, lang());
        say_line!("  {}: {}: {text}", fault.place, fault.code);
    }
    if report.more > 0 {
        say_line!("  + {}", report.more);
    }
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
