//! What the tests of this crate share: the repository's contract, a register read without a bus.

use mz_contract::{Contract, Mode};
use mz_sdk::{Chunk, Event, Item, PassEnd, Reject, Source, SourceError};
use mz_sources::mapping::{self, Mapping};
use mz_sources::read::xlsx::XlsxCommand;
use mz_sources::register::{Place, Register};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The repository's own contract, unsigned.
pub fn contract() -> &'static Contract {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(
        || match Contract::load(&repository().join("schemas"), Mode::Draft) {
            Ok(contract) => contract,
            Err(faults) => panic!(
                "{}",
                faults
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n")
            ),
        },
    )
}

pub fn xlsx() -> XlsxCommand {
    XlsxCommand {
        program: env!("CARGO_BIN_EXE_mz-xlsx-child").into(),
        args: Vec::new(),
    }
}

pub fn shipped(name: &str) -> Mapping {
    let path = repository().join("connectors/mappings").join(name);
    match mapping::load(&path, contract()) {
        Ok(mapping) => mapping,
        Err(faults) => panic!(
            "{}",
            faults
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        ),
    }
}

pub fn parse(text: &str) -> Mapping {
    match mapping::parse(text, Path::new("test.yaml"), contract()) {
        Ok(mapping) => mapping,
        Err(faults) => panic!(
            "{}",
            faults
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        ),
    }
}

/// Everything one pass yields.
#[derive(Debug, Default)]
pub struct All {
    pub events: Vec<Event>,
    pub rejects: Vec<Reject>,
    pub skipped: usize,
    pub end: Option<Result<PassEnd, SourceError>>,
}

impl All {
    pub fn codes(&self) -> Vec<(u64, &'static str)> {
        self.rejects
            .iter()
            .map(|reject| (reject.row, reject.code))
            .collect()
    }

    /// The code that ended the pass.
    pub fn refused(&self) -> &'static str {
        match &self.end {
            Some(Err(error)) => error.code,
            _ => "",
        }
    }

    pub fn complete(&self) -> bool {
        matches!(&self.end, Some(Ok(end)) if end.complete)
    }
}

pub fn register(mapping: Mapping, file: &Path) -> Register {
    let joins = mapping
        .joins
        .iter()
        .map(|_| Place::File(file.to_owned()))
        .collect();
    Register::new(
        Arc::new(mapping),
        Place::File(file.to_owned()),
        joins,
        xlsx(),
    )
}

pub fn read(source: &mut dyn Source) -> All {
    let mut all = All::default();
    all.end = Some(pass(source, &mut all));
    all
}

fn pass(source: &mut dyn Source, all: &mut All) -> Result<PassEnd, SourceError> {
    source.begin(None)?;
    let mut chunk = Chunk::default();
    loop {
        let more = source.read(&mut chunk);
        for item in chunk.drain() {
            match item {
                Item::Event(event) => all.events.push(event),
                Item::Reject(reject) => all.rejects.push(reject),
                Item::Skipped => all.skipped += 1,
                Item::Reached(_) => {}
            }
        }
        if !more? {
            break;
        }
    }
    source.end()
}
