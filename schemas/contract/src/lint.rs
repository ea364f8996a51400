//! What the command line calls: check a contract and say what is wrong; give new schemas their ids.

use std::fs;
use std::io;
use std::path::Path;

use crate::contract::{Contract, Mode};
use crate::fault::Fault;
use crate::load;
use crate::reasons::{Lang, Reasons};
use crate::schema_ids::{self, SCHEMA_IDS_FILE};

/// The result of one check.
#[derive(Debug)]
pub struct Lint {
    pub faults: Vec<Fault>,
    /// One text per fault, `file:line:column: CODE text`, with its remedy on a second line.
    pub lines: Vec<String>,
    /// The contract, when there is no fault.
    pub contract: Option<Contract>,
}

impl Lint {
    #[must_use]
    pub fn ok(&self) -> bool {
        self.contract.is_some()
    }
}

/// Checks the contract under `root`. Texts come from its own `reasons.yaml`, else from the build's.
#[must_use]
pub fn lint(root: &Path, mode: Mode, lang: Lang) -> Lint {
    match load::load(root, mode) {
        Ok(contract) => Lint {
            faults: Vec::new(),
            lines: Vec::new(),
            contract: Some(contract),
        },
        Err((faults, reasons)) => {
            let lines = render(&faults, &reasons, lang);
            Lint {
                faults,
                lines,
                contract: None,
            }
        }
    }
}

fn render(faults: &[Fault], reasons: &Reasons, lang: Lang) -> Vec<String> {
    let built_in = Reasons::built_in();
    faults
        .iter()
        .map(|fault| {
            let texts = if reasons.contains(fault.code) {
                reasons
            } else {
                &built_in
            };
            texts.render_fault(fault, lang)
        })
        .collect()
}

/// What `allocate_schema_ids` did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct IdsReport {
    /// Ids that were appended; empty when nothing was missing.
    pub added: Vec<u32>,
}

/// A contract that is still being written: approvals need no signature, and new schemas no id. Enough to
/// decide under, never to deliver with.
pub fn load_draft(root: &Path) -> Result<Contract, Vec<Fault>> {
    let loaded = load::load_all(root, Mode::Draft);
    let mut faults = loaded.faults.sorted();
    faults.retain(|fault| fault.code != "SCHEMA_ID_MISSING");
    loaded.contract.filter(|_| faults.is_empty()).ok_or(faults)
}

/// Appends an id for every schema of the contract that has none, and writes the file through a
/// temporary one, so that a crash leaves the old or the new. What stands in it is never changed. The
/// contract must have no other faults.
pub fn allocate_schema_ids(root: &Path, lang: Lang) -> Result<IdsReport, Vec<String>> {
    let loaded = load::load_all(root, Mode::Draft);
    let faults: Vec<Fault> = loaded
        .faults
        .sorted()
        .into_iter()
        .filter(|fault| fault.code != "SCHEMA_ID_MISSING")
        .collect();
    let Some(contract) = loaded.contract.filter(|_| faults.is_empty()) else {
        return Err(render(&faults, &loaded.reasons, lang));
    };
    let path = root.join(SCHEMA_IDS_FILE);
    let failed = |error: io::Error| vec![format!("{SCHEMA_IDS_FILE}: {error}")];
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let (text, added) = schema_ids::append_missing(&text, &contract.schema_ids, &loaded.wanted);
    if !added.is_empty() {
        let draft = root.join(".schema-ids.yaml.new");
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(failed)?;
    }
    Ok(IdsReport { added })
}
