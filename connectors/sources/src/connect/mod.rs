//! `mianzheng connect CONFIG`: reads a register, maps it, publishes it.

pub mod config;
mod progress;
mod text;

use crate::mapping::{self, Mapping};
use crate::read::xlsx::XlsxCommand;
use crate::register::Register;
use config::Config;
use mz_bus::BusOptions;
use mz_contract::{Contract, Fault, Lang, Reasons};
use mz_keys::public::KeyUse;
use mz_keys::sign::department_signer;
use mz_keys::{KeyError, KeysDir, PlacementKey, RecordKey};
use mz_sdk::limits::DEFAULT_WITHDRAW_LIMIT_PERCENT;
use mz_sdk::{Connector, ConnectorError, Report, Schedule};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use text::summary;

/// What `connect` is started with.
pub struct Options {
    /// The connector's configuration file.
    pub config: PathBuf,
    /// One pass, then end.
    pub once: bool,
    /// Publish nothing, say what would be published.
    pub plan: bool,
    /// The checkpoint was lost: begin a new epoch.
    pub new_epoch: bool,
    pub lang: Lang,
    pub contract: Arc<Contract>,
    /// The cluster, as any principal: the connector takes its department's own certificate.
    pub bus: BusOptions,
    pub keys: KeysDir,
    /// The program that reads workbooks.
    pub xlsx: XlsxCommand,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    pub report: Report,
    /// For a person, in their language.
    pub summary: String,
}

impl Outcome {
    /// 0, or 7 when some input was rejected (the good rows were published).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.report.rejects() > 0 { 7 } else { 0 }
    }
}

/// Why `connect` did not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration or mapping has faults; each with file, line and field.
    #[error("{} faults in the configuration or mapping", .0.len())]
    Faults(Vec<Fault>),
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("{path}: can't make the folder for rejected rows")]
    Rejects {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl ConnectError {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Faults(_) => "MAP_FAULTS",
            Self::Connector(error) => error.code(),
            Self::Keys(_) => "CONNECTOR_KEYS",
            Self::Rejects { .. } => "REJECTS_FILE",
        }
    }

    /// 3 for faults of configuration or mapping, 6 when another instance took over, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Faults(_) => 3,
            Self::Connector(ConnectorError::Fenced { .. }) => 6,
            _ => 1,
        }
    }

    /// For a person: every fault on a line of its own, or the reason and its remedy.
    #[must_use]
    pub fn text(&self, reasons: &Reasons, lang: Lang) -> String {
        match self {
            Self::Faults(faults) => faults
                .iter()
                .map(|fault| reasons.render_fault(fault, lang))
                .collect::<Vec<_>>()
                .join("\n"),
            other => {
                let (field, detail) = match other {
                    Self::Connector(ConnectorError::Source(error)) => ("", error.detail.clone()),
                    Self::Connector(ConnectorError::CheckpointLost { stream, epoch }) => {
                        (stream.as_str(), epoch.to_string())
                    }
                    _ => ("", other.to_string()),
                };
                let code = other.code();
                let mut text = format!(
                    "{code} {}",
                    reasons.render(code, lang, &[("field", field), ("detail", &detail)])
                );
                if let Some(fix) = reasons.fix(code, lang) {
                    text.push_str("\n    → ");
                    text.push_str(fix);
                }
                text
            }
        }
    }
}

/// Checks a configuration and its mapping against the contract; touches neither bus nor data.
pub fn check(
    path: &std::path::Path,
    contract: &Contract,
) -> Result<(Config, Mapping), ConnectError> {
    let config = config::load(path).map_err(ConnectError::Faults)?;
    let mapping = mapping::load(&config.mapping, contract).map_err(ConnectError::Faults)?;
    Ok((config, mapping))
}

/// Runs the connector until it has read everything (`once`, `plan`) or `shutdown` is set.
pub fn run(options: Options, shutdown: &AtomicBool) -> Result<Outcome, ConnectError> {
    let (config, mapping) = check(&options.config, &options.contract)?;
    let (main, joins) = config.places(&mapping).map_err(ConnectError::Faults)?;
    let mapping = Arc::new(mapping);
    let (department, stream) = (mapping.department.clone(), mapping.stream.clone());
    private_folder(&config.rejects)?;
    let suffix = if options.plan {
        "plan.rejects.ndjson"
    } else {
        "rejects.ndjson"
    };
    let rejects = config
        .rejects
        .join(format!("{department}.{stream}.{suffix}"));

    let reasons = options.contract.reasons.clone();
    let principal = format!("{department}.connector");
    let sdk = mz_sdk::Options {
        bus: options.bus.as_principal(options.keys.root(), &principal),
        signer: department_signer(
            &options.keys,
            &options.contract.root,
            &department,
            KeyUse::Seal,
        )?,
        placement: PlacementKey::load(&options.keys.placement_key())?,
        record: RecordKey::load(&options.keys.record_key(&department))?,
        contract: options.contract,
        department,
        stream: stream.clone(),
        datasets: mapping.datasets(),
        withdraw_disappeared: mapping.disappeared == mapping::raw::Disappeared::Withdraw,
        withdraw_limit_percent: mapping
            .withdraw_limit_percent
            .unwrap_or(DEFAULT_WITHDRAW_LIMIT_PERCENT),
        rejects: Some(rejects.clone()),
        new_epoch: options.new_epoch,
    };
    let mut register = Register::new(mapping, main, joins, options.xlsx);
    let mut connector = if options.plan {
        Connector::plan(sdk)?
    } else {
        Connector::start(sdk)?
    };
    let once = options.once || options.plan;
    let mut shown = progress::Shown::new(&stream, options.lang, reasons.clone(), !once);
    let schedule = Schedule {
        once,
        poll: config.poll,
        retry: crate::limits::RETRY_PAUSE,
    };
    let report = connector.run(&mut register, schedule, shutdown, &mut shown)?;
    let summary = summary(&report, options.plan, &rejects, &reasons, options.lang);
    Ok(Outcome { report, summary })
}

fn private_folder(path: &std::path::Path) -> Result<(), ConnectError> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| ConnectError::Rejects {
            path: path.to_owned(),
            source,
        })
}
