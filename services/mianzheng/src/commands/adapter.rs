//! `adapter`: deliveries, in the department's own database.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use mz_adapter::{Config, Error, Options, Service, Summary};
use mz_contract::Mode;
use mz_keys::public::KeyUse;
use mz_keys::{KeysDir, department_signer};
use mz_seal::Signer;

use crate::cli::AdapterArgs;
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, coded, say};
use crate::say_line;
use crate::shutdown;

/// How long an adapter that has met a later contract waits for this installation to have it. Putting it
/// in force and copying it are two steps of one command.
const CONTRACT_WAIT: Duration = Duration::from_secs(60);
const CONTRACT_POLL: Duration = Duration::from_millis(500);

pub fn run(dir: &Path, args: &AdapterArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let stop = shutdown::flag().map_err(anyhow::Error::from)?;
    let summary = loop {
        let contract = Arc::new(instance.contract(Mode::Signed)?);
        let used = contract.digest;
        let config = Config::load(&args.config).map_err(failure)?;
        let bus = instance.bus(&config.principal())?;
        let own = instance.database_url().ok();
        let mut options = Options::new(bus, contract, config, own.as_deref()).map_err(failure)?;
        options.once = args.once;
        let consumer = options.config.consumer.clone();
        options.receipt_signer = receipt_signer(&instance, &consumer);
        let service = Service::new(options).map_err(failure)?;
        eprintln!("{}", say("接收端已启动", "adapter started"));
        match service.run(&stop) {
            Ok(summary) => break summary,
            Err(error) if error.is_outdated() && has_another(&instance, used, &stop) => {}
            Err(error) => return Err(failure(error)),
        }
    };
    if args.json {
        let text = serde_json::to_string_pretty(&summary.to_json()).context("JSON")?;
        say_line!("{text}");
    } else {
        tell(&summary);
    }
    Ok(())
}

/// Waits until the installation's copy is another contract than the one used.
fn has_another(instance: &Instance, used: [u8; 32], stop: &shutdown::Flag) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < CONTRACT_WAIT && !stop.load(Ordering::SeqCst) {
        // A copy that is only half there does not load: look again.
        if let Ok(contract) = instance.contract(Mode::Signed)
            && contract.digest != used
        {
            return true;
        }
        std::thread::sleep(CONTRACT_POLL);
    }
    false
}

/// The department's receipt key. Withdrawals are carried out without it too: their receipts wait in
/// `mz_receipts` until there is one.
fn receipt_signer(instance: &Instance, consumer: &str) -> Option<Arc<dyn Signer>> {
    let keys = KeysDir::new(instance.keys_dir());
    match department_signer(&keys, &instance.contract_root(), consumer, KeyUse::Receipt) {
        Ok(signer) => Some(Arc::from(signer)),
        Err(error) => {
            let why = format!("{:#}", anyhow::Error::from(error));
            eprintln!(
                "{}",
                say(
                    &format!(
                        "没有可用的回执密钥，撤回照常执行，回执留在 mz_receipts 中不发送：{why}"
                    ),
                    &format!(
                        "no usable receipt key: withdrawals are carried out, receipts stay in mz_receipts unsent: {why}"
                    ),
                )
            );
            None
        }
    }
}

fn tell(summary: &Summary) {
    let all = summary.totals();
    let ends = summary.endings;
    say_line!(
        "{}",
        say(
            &format!(
                "收到 {} 条:写入 {},较旧 {},撤回 {},未通过核验 {};缺号 {}",
                all.delivered, all.stored, all.superseded, all.withdrawn, all.rejected, all.missing
            ),
            &format!(
                "{} deliveries: {} stored, {} older, {} withdrawn, {} rejected; {} numbers missing",
                all.delivered, all.stored, all.superseded, all.withdrawn, all.rejected, all.missing
            ),
        )
    );
    say_line!(
        "{}",
        say(
            &format!(
                "撤回处理：删除 {}，冻结 {}，标记 {}，本无 {}；解冻删除 {}，现冻结 {}；回执已发 {}，未发 {}",
                ends.deleted,
                ends.frozen,
                ends.marked,
                ends.absent,
                summary.released,
                summary.frozen_held,
                summary.receipts_sent,
                summary.receipts_unsent
            ),
            &format!(
                "withdrawals: {} deleted, {} frozen, {} marked, {} absent; {} released, {} frozen now; \
                 receipts: {} sent, {} unsent",
                ends.deleted,
                ends.frozen,
                ends.marked,
                ends.absent,
                summary.released,
                summary.frozen_held,
                summary.receipts_sent,
                summary.receipts_unsent
            ),
        )
    );
    for (code, count) in &summary.rejects {
        say_line!("  {code}: {count}");
    }
}

fn failure(error: Error) -> Failure {
    let code = if error.is_fault() {
        exit::FAULTS
    } else if error.is_superseded() {
        exit::FENCED
    } else {
        exit::FAILED
    };
    coded(code, error.code(), &error)
}
