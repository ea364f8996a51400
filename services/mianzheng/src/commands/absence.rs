//! `ledger close`, `ledger absence`, and `verify` of what it made: what a department did not read.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, NaiveDate, NaiveTime};
use mz_console::{Client, LedgerRequest, Question};
use mz_contract::{BUS, Contract, Mode};
use mz_ledger::absence::{self, AbsenceError, Answer, Asked, Checked, CloseError, Statement};
use mz_ledger::check::Fault;
use mz_ledger::index::PageRequest;
use mz_ledger::log::Folder;
use mz_ledger::{Options, checkpoint_keys, system_clock};
use mz_seal::timestamp_text;
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::policy::Policy;
use serde_json::json;

use super::evidence::{stdin_only, write_personal};
use crate::cli::{LedgerAbsenceArgs, LedgerCloseArgs, VerifyArgs};
use crate::exit;
use crate::instance::{Instance, LedgerClose};
use crate::outcome::{Failure, Outcome, coded, say};
use crate::say_line;

/// Between two tries of a range that can't be closed yet.
const AGAIN: Duration = Duration::from_secs(60);
const STOP_POLL: Duration = Duration::from_millis(200);

fn close_failure(error: CloseError) -> Failure {
    coded(exit::FAILED, error.code(), &error)
}

pub fn close(dir: &Path, args: &LedgerCloseArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let contract = instance.contract(Mode::Signed)?;
    for options in super::ledger::shards(&instance, &contract, &args.shards)? {
        let closed = absence::close(&options, args.unbound).map_err(close_failure)?;
        for said in closed {
            let Statement {
                from, to, leaves, ..
            } = said;
            let until = timestamp_text(said.until_ms);
            say_line!(
                "{}: {}",
                said.name(),
                say(
                    &format!("条目 {from}..{to}，{leaves} 个（人员、部门），截至 {until}"),
                    &format!("entries {from}..{to}, {leaves} (person, department), up to {until}"),
                )
            );
        }
    }
    Ok(())
}

/// Closes every shard's range when a day (or an hour) of Beijing's has ended, until `stop`.
pub fn keep_closing(all: &[Options], every: LedgerClose, stop: &Arc<AtomicBool>) {
    let Some(length_ms) = (match every {
        LedgerClose::Day => Some(86_400_000),
        LedgerClose::Hour => Some(3_600_000),
        LedgerClose::Never => None,
    }) else {
        return;
    };
    let term = || (system_clock() + 8 * 3_600_000).div_euclid(length_ms);
    // What ended while nobody ran is closed with the next.
    let mut closed = term();
    let mut again: Option<Instant> = None;
    while !stop.load(Ordering::Acquire) {
        std::thread::sleep(STOP_POLL);
        let now = term();
        if now == closed || again.is_some_and(|at| Instant::now() < at) {
            continue;
        }
        let mut good = true;
        for options in all {
            if let Err(error) = absence::close(options, false) {
                good = false;
                tracing::warn!(
                    shard = options.shard,
                    code = error.code(),
                    error = mz_bus::chain(&error),
                    "the range stays open"
                );
            }
        }
        match good {
            true => (closed, again) = (now, None),
            false => again = Some(Instant::now() + AGAIN),
        }
    }
}

/// A day's first moment, UTC, or a moment with its offset.
fn moment(text: &str) -> Result<i64, Failure> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(NaiveTime::MIN).and_utc().timestamp_millis());
    }
    let moment = DateTime::parse_from_rfc3339(text);
    moment.map(|at| at.timestamp_millis()).map_err(|_| {
        let text = say(
            &format!("不是日期或时刻：{text}，应为 2026-11-01 或 2026-11-01T08:00:00+08:00"),
            &format!("no day or moment: {text}; 2026-11-01 or 2026-11-01T08:00:00+08:00"),
        );
        Failure::new(exit::USAGE, text)
    })
}

pub fn prove(dir: &Path, args: &LedgerAbsenceArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let contract = instance.contract(Mode::Draft)?;
    let (from_ms, to_ms) = (moment(&args.from)?, moment(&args.to)?);
    // A name with a typing error has read nothing, too.
    if contract.department(&args.department).is_none() && args.department != BUS {
        let name = &args.department;
        let text = say(
            &format!("--department {name}：没有这个部门"),
            &format!("--department {name}: there is no such department"),
        );
        return Err(Failure::new(exit::USAGE, text));
    }
    let (folder, url) = (args.folder.as_deref(), args.url.as_deref());
    let source = super::logs::open(&instance, folder, (url, &args.principal))?;
    let id = stdin_only(&args.id)?;
    let tls = instance.tls(&args.principal)?;
    let client = Client::new(&format!("https://{}", instance.settings.http.vault), &tls)
        .map_err(|error| coded(exit::FAILED, error.code(), &error))?;
    let request = LedgerRequest {
        operator: args.operator.clone(),
        reason: args.reason.clone(),
        question: Question::Label {
            id: id.as_str().to_owned(),
        },
        page: PageRequest::default(),
    };
    let answer = client
        .ask_ledger(&request)
        .map_err(|error| coded(exit::FAILED, error.code(), &error))?;
    let item = answer.items.first().context("no label in the answer")?;
    let asked = Asked {
        department: &args.department,
        from_ms,
        to_ms,
        label: bytes(&item["label"]).context("the label")?,
        vrf: bytes(&item["proof"]).context("the label's proof")?,
        cosigned: args.cosigned,
    };
    let proof = absence::prove(&*source, &contract.bus_id, &asked).map_err(|error| {
        let code = match &error {
            AbsenceError::Source(source) => super::logs::reason(source),
            other => other.code(),
        };
        coded(exit::FAILED, code, &error)
    })?;
    match &args.out {
        Some(out) => Ok(write_personal(out, proof.as_bytes())?),
        None => {
            crate::outcome::print(format_args!("{proof}"));
            Ok(())
        }
    }
}

fn bytes<const N: usize>(value: &serde_json::Value) -> Option<[u8; N]> {
    use base64::Engine as _;
    let text = value.as_str()?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    bytes.try_into().ok()
}

/// `verify` of a proof of absence.
pub fn verify(text: &str, contract: &Contract, args: &VerifyArgs) -> Outcome {
    let id = stdin_only(args.id.as_deref().unwrap_or_default())?;
    let labels: Vec<[u8; 32]> = contract.vrf_keys.iter().map(|key| key.public).collect();
    let policy = match &args.policy {
        Some(path) => {
            let text = std::fs::read(path).with_context(|| path.display().to_string())?;
            let policy = Policy::parse(&text).map_err(|error| {
                Failure::new(exit::FAULTS, format!("{}: {error}", path.display()))
            })?;
            Some(policy)
        }
        None => None,
    };
    let keys: Vec<[u8; 32]> = checkpoint_keys(contract).copied().collect();
    let proven = absence::verify(text, &id, &labels, &keys, policy.as_ref())
        .map_err(|error| coded(exit::NOT_VERIFIED, error.code(), &error))?;
    let (from, to) = (timestamp_text(proven.from_ms), timestamp_text(proven.to_ms));
    let read = match &proven.answer {
        Answer::Nothing => Vec::new(),
        Answer::Read(leaves) => leaves.clone(),
    };
    let times: Vec<_> = read
        .iter()
        .map(|leaf| {
            json!({
                "count": leaf.count,
                "first": timestamp_text(leaf.first_ms),
                "last": timestamp_text(leaf.last_ms),
            })
        })
        .collect();
    if args.json {
        let value = json!({
            "department": proven.department,
            "from": from,
            "to": to,
            "nothing": read.is_empty(),
            "read": times,
            "ranges": proven.ranges,
            "logs": proven.logs,
            "witnesses": proven.witnesses,
        });
        say_line!("{value}");
        return Ok(());
    }
    let department = &proven.department;
    match read.is_empty() {
        true => say_line!(
            "{}",
            say(
                &format!("成立：{department} 在 {from} 至 {to} 之间没有查阅过此人的任何数据"),
                &format!("proven: {department} read nothing about this person from {from} to {to}"),
            )
        ),
        false => say_line!(
            "{}",
            say(
                &format!("成立：{department} 在 {from} 至 {to} 前后查阅过此人的数据"),
                &format!("proven: {department} read this person's data around {from} to {to}"),
            )
        ),
    }
    for leaf in &read {
        let (first, last) = (timestamp_text(leaf.first_ms), timestamp_text(leaf.last_ms));
        say_line!("  {} × {first} … {last}", leaf.count);
    }
    say_line!(
        "  {:<10} {} ({})",
        say("区间", "ranges"),
        proven.ranges,
        proven.logs.join(", ")
    );
    for name in &proven.witnesses {
        say_line!("  {:<10} {name}", say("联署", "cosigned"));
    }
    Ok(())
}

/// Holds closed ranges against their logs, one log after the other.
pub struct Auditing {
    bus_id: String,
    keys: Vec<[u8; 32]>,
    before: Option<Statement>,
}

impl Auditing {
    pub fn new(contract: &Contract) -> Self {
        Self {
            bus_id: contract.bus_id.clone(),
            keys: checkpoint_keys(contract).copied().collect(),
            before: None,
        }
    }

    pub fn check(&mut self, path: &Path, head: &Checkpoint) -> Vec<Fault> {
        let shard = |origin: &str| origin.rsplit_once('/').map(|(shard, _)| shard.to_owned());
        let before = self
            .before
            .take()
            .filter(|before| shard(&before.origin) == shard(&head.origin));
        let log = Checked {
            origin: &head.origin,
            size: head.size,
            root: head.root,
            keys: &self.keys,
            before: before.as_ref(),
        };
        let prefix = format!("{}/audit/", self.bus_id);
        let root = path.parent().and_then(Path::parent);
        let mut earlier = |origin: &str| {
            let name = origin.strip_prefix(&prefix)?;
            Some(Folder::new(root?.join(name)))
        };
        let (faults, last) = absence::check(&Folder::new(path), &log, &mut earlier);
        self.before = last;
        faults
    }
}
