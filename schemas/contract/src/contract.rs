//! The contract, loaded and compiled: one immutable value that every service holds as `Arc<Contract>`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mz_seal::Layout;

use crate::agreement::{Agreement, Section};
use crate::calendar::Calendar;
use crate::dataset::{Dataset, DatasetIx};
use crate::department::Department;
use crate::fault::Fault;
use crate::item::ServiceItem;
use crate::keys::{PublicKey, VrfKey};
use crate::load;
use crate::reasons::{Reasons, Text};
use crate::schema_ids::{SchemaEntry, SchemaIds};
use crate::status::StatusEntry;

/// The name under which the bus itself publishes keys and seals; no department may take it.
pub const BUS: &str = "bus";

/// Most lanes an installation can have.
pub const MAX_LANES: u16 = 1024;

/// Whether approvals must be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// While a contract is written: unsigned approvals and missing keys are accepted.
    Draft,
    /// What services start with: every section approved by its provider's signature.
    Signed,
}

/// Where a section stands: agreement and section within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionRef {
    pub agreement: usize,
    pub section: usize,
}

/// Everything that was agreed, compiled.
#[derive(Debug)]
pub struct Contract {
    pub root: PathBuf,
    /// SHA-256 over (path, length, bytes) of every contract file in path order; see `tree::Tree::digest`.
    pub digest: [u8; 32],
    pub bus_id: String,
    pub bus_name: Text,
    /// Partitions of every lane topic.
    pub lanes: u16,
    /// GB/T 2260 code of the place whose rules and calendar apply.
    pub region: String,
    pub region_name: Text,
    pub calendar: Calendar,
    pub departments: Vec<Department>,
    pub datasets: Vec<Dataset>,
    pub agreements: Vec<Agreement>,
    /// `agreement-status.yaml` as it stands, by agreement id: what the next version is made from.
    pub status: BTreeMap<String, StatusEntry>,
    pub items: Vec<ServiceItem>,
    pub reasons: Reasons,
    pub schema_ids: SchemaIds,
    pub bus_keys: Vec<PublicKey>,
    /// The bus's keys that label people in the ledger.
    pub vrf_keys: Vec<VrfKey>,
    pub(crate) sections_by_dataset: Vec<Vec<SectionRef>>,
}

impl Contract {
    /// Loads and checks the contract under `root`. All faults are reported, in reading order.
    pub fn load(root: &Path, mode: Mode) -> Result<Self, Vec<Fault>> {
        load::load(root, mode).map_err(|(faults, _)| faults)
    }

    /// The files under `root` that the digest covers: path below the root → text. What
    /// [`Self::from_files`] takes.
    pub fn files(root: &Path) -> Result<BTreeMap<String, String>, Vec<Fault>> {
        load::read_files(root)
    }

    /// Loads and checks a contract from its files. `root` is empty then.
    pub fn from_files(files: BTreeMap<String, String>, mode: Mode) -> Result<Self, Vec<Fault>> {
        load::from_files(files, mode).map_err(|(faults, _)| faults)
    }

    #[must_use]
    pub fn department(&self, id: &str) -> Option<&Department> {
        self.departments
            .iter()
            .find(|department| department.id == id)
    }

    /// By id with version: `hrss.insurance.status.v1`.
    #[must_use]
    pub fn dataset(&self, id: &str) -> Option<&Dataset> {
        self.datasets.iter().find(|dataset| dataset.id == id)
    }

    /// The dataset of a source topic `src.…`.
    #[must_use]
    pub fn dataset_of_topic(&self, topic: &str) -> Option<&Dataset> {
        self.dataset(topic.strip_prefix("src.")?)
    }

    /// By `consumer/purpose`.
    #[must_use]
    pub fn agreement(&self, id: &str) -> Option<&Agreement> {
        self.agreements.iter().find(|agreement| agreement.id == id)
    }

    #[must_use]
    pub fn item(&self, id: &str) -> Option<&ServiceItem> {
        self.items.iter().find(|item| item.id == id)
    }

    /// Who reads a dataset.
    #[must_use]
    pub fn sections_of(&self, dataset: DatasetIx) -> &[SectionRef] {
        self.sections_by_dataset
            .get(dataset)
            .map_or(&[], Vec::as_slice)
    }

    /// # Panics
    /// When the reference is of another contract.
    #[must_use]
    pub fn section(&self, at: SectionRef) -> &Section {
        &self.agreements[at.agreement].sections[at.section]
    }

    /// Every section of every agreement, by rising `ix`.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.agreements
            .iter()
            .flat_map(|agreement| &agreement.sections)
    }

    /// A schema that records may carry the id of: current ones, and those that older records were
    /// written with.
    #[must_use]
    pub fn schema_by_id(&self, id: u32) -> Option<&SchemaEntry> {
        self.schema_ids.get(id)
    }

    /// The compiled layout of a schema id, for reading what was delivered.
    #[must_use]
    pub fn layout_by_id(&self, id: u32) -> Option<&Layout> {
        self.schema_ids.get(id).map(|entry| &*entry.layout)
    }
}
