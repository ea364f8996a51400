//! `adapter`: deliveries, in the department's own database.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use mz_adapter::{Config, Error, Options, Service, Summary};
use mz_contract::Mode;

use crate::cli::AdapterArgs;
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, coded, say};
use crate::say_line;
use crate::shutdown;

pub fn run(dir: &Path, args: &AdapterArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let contract = Arc::new(instance.contract(Mode::Signed)?);
    let config = Config::load(&args.config).map_err(failure)?;
    let bus = instance.bus(&config.principal())?;
    let own = instance.database_url().ok();
    let mut options = Options::new(bus, contract, config, own.as_deref()).map_err(failure)?;
    options.once = args.once;
    let service = Service::new(options).map_err(failure)?;
    let stop = shutdown::flag().map_err(anyhow::Error::from)?;
    eprintln!("{}", say("接收端已启动", "adapter started"));
    let summary = service.run(&stop).map_err(failure)?;
    if args.json {
        let text = serde_json::to_string_pretty(&summary.to_json()).context("JSON")?;
        say_line!("{text}");
    } else {
        tell(&summary);
    }
    Ok(())
}

fn tell(summary: &Summary) {
    let all = summary.totals();
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
