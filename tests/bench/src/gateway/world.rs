//! The installation that is measured: a contract with one dataset and two consumers, keys, and
//! people. Made anew in a temporary folder; the cluster's own certificates are used as they are.

use super::BenchError;
use mz_bus::BusOptions;
use mz_contract::{Contract, IdNumber, Lang, Mode, allocate_schema_ids, check_character};
use mz_journal::SubjectTag;
use mz_keys::public::KeyUse;
use mz_keys::{KeysDir, PlacementKey, RecordKey, SubjectKey, department_signer};
use mz_seal::Signer;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

pub(super) const DATASET: &str = "hrss.insurance.status.v1";
pub(super) const SOURCE: &str = "src.hrss.insurance.status.v1";
/// Who publishes, and who else is in the contract.
pub(super) const PROVIDER: &str = "hrss";
const DEPARTMENTS: [&str; 3] = [PROVIDER, "police", "realestate"];
/// As in the benchmark's `installation.yaml`.
const LANES: u16 = 8;
/// Agreements, each with a delivery of every event.
pub(super) const AGREEMENTS: [&str; 2] = ["police/bench", "realestate/bench"];

/// The two agreements of the gateway's benchmark.
const CASES: [(&str, &str); 2] = [
    (
        "agreements/police/bench.yaml",
        include_str!("../../contract/police.yaml"),
    ),
    (
        "agreements/realestate/bench.yaml",
        include_str!("../../contract/realestate.yaml"),
    ),
];
/// One that rests on consent.
const CONSENT: [(&str, &str); 1] = [(
    "agreements/police/bench.yaml",
    include_str!("../../contract/consent.yaml"),
)];

const FILES: [(&str, &str); 9] = [
    // Filled in below.
    ("schema-ids.yaml", "ids: []\n"),
    (
        "installation.yaml",
        include_str!("../../contract/installation.yaml"),
    ),
    (
        "reasons.yaml",
        include_str!("../../../../schemas/reasons.yaml"),
    ),
    (
        "calendars/cn.yaml",
        include_str!("../../../../schemas/calendars/cn.yaml"),
    ),
    (
        "departments/hrss.yaml",
        include_str!("../../../../schemas/departments/hrss.yaml"),
    ),
    (
        "departments/police.yaml",
        include_str!("../../../../schemas/departments/police.yaml"),
    ),
    (
        "departments/realestate.yaml",
        include_str!("../../../../schemas/departments/realestate.yaml"),
    ),
    (
        "catalogue/hrss/insurance.status.v1.yaml",
        include_str!("../../../../schemas/catalogue/hrss/insurance.status.v1.yaml"),
    ),
    (
        "catalogue/hrss/insurance.status.v1.avsc",
        include_str!("../../../../schemas/catalogue/hrss/insurance.status.v1.avsc"),
    ),
];

/// A synthetic person: valid check character, made-up everything.
pub(super) struct Person {
    pub id: String,
    pub lane: u16,
    /// First half of the source topic's key.
    pub key: [u8; 16],
    pub tag: SubjectTag,
}

pub(super) struct World {
    pub contract: Arc<Contract>,
    pub gateway_keys: Arc<mz_gateway::Keys>,
    pub signer: Box<dyn Signer>,
    pub record_key: RecordKey,
    pub people: Vec<Person>,
    pub keys: KeysDir,
    pub contract_root: PathBuf,
    _dir: TempDir,
}

impl World {
    pub(super) fn new(count: u32) -> Result<Self, BenchError> {
        Self::with_lanes(count, LANES)
    }

    pub(super) fn with_lanes(count: u32, lanes: u16) -> Result<Self, BenchError> {
        Self::made(count, lanes, &CASES)
    }

    /// One agreement by consent instead of two by cases.
    pub(super) fn by_consent(count: u32) -> Result<Self, BenchError> {
        Self::made(count, LANES, &CONSENT)
    }

    fn made(count: u32, lanes: u16, agreements: &[(&str, &str)]) -> Result<Self, BenchError> {
        let dir = tempfile::tempdir().map_err(BenchError::Folder)?;
        let root = dir.path().join("contract");
        for (name, text) in FILES.iter().chain(agreements) {
            let text = text.replace(
                &format!("\nlanes: {LANES}\n"),
                &format!("\nlanes: {lanes}\n"),
            );
            write(&root.join(name), &text)?;
        }
        let keys = KeysDir::new(dir.path().join("keys"));
        mz_keys::provision(keys.root(), &root, &DEPARTMENTS)?;
        allocate_schema_ids(&root, Lang::En)
            .map_err(|lines| BenchError::Contract(lines.join("; ")))?;
        mz_keys::sign_approvals(&root, PROVIDER, &keys)?;
        let contract = Contract::load(&root, Mode::Signed).map_err(|faults| {
            let codes: Vec<&str> = faults.iter().map(|fault| fault.code).collect();
            BenchError::Contract(codes.join(", "))
        })?;
        let signer = department_signer(&keys, &root, PROVIDER, KeyUse::Seal)?;
        let people = people(&keys, contract.lanes, count)?;
        Ok(Self {
            gateway_keys: Arc::new(mz_gateway::Keys::load(&keys, &root)?),
            contract: Arc::new(contract),
            signer,
            record_key: RecordKey::load(&keys.record_key(PROVIDER))?,
            people,
            keys,
            contract_root: root,
            _dir: dir,
        })
    }

    /// The topics that deliveries go to.
    pub(super) fn outputs(&self) -> Vec<String> {
        let sections = self.contract.sections();
        sections.map(|section| section.out_topic.clone()).collect()
    }
}

fn people(keys: &KeysDir, lanes: u16, count: u32) -> Result<Vec<Person>, BenchError> {
    let placement = PlacementKey::load(&keys.placement_key())?;
    let subject = SubjectKey::load(&keys.subject_key())?;
    let record = RecordKey::load(&keys.record_key(PROVIDER))?;
    (0..count)
        .map(|number| {
            let text = id_text(number);
            let id = IdNumber::parse(&text).map_err(|_| BenchError::Person)?;
            Ok(Person {
                lane: placement.lane(&id, lanes),
                key: record.subject_tag(&id),
                tag: subject.tag(&id),
                id: text,
            })
        })
        .collect()
}

/// Region, a birth date and a serial from the number, and the check character that belongs to them.
fn id_text(number: u32) -> String {
    let (serial, day, month, year) = (
        number % 1000,
        number / 1000 % 28 + 1,
        number / 28_000 % 12 + 1,
        1950 + number / 336_000 % 60,
    );
    let mut text = format!("441900{year}{month:02}{day:02}{serial:03}");
    let check = <&[u8; 17]>::try_from(text.as_bytes())
        .ok()
        .and_then(check_character);
    text.push(check.map_or('?', char::from));
    text
}

fn write(path: &Path, text: &str) -> Result<(), BenchError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(BenchError::Folder)?;
    }
    std::fs::write(path, text).map_err(BenchError::Folder)
}

/// One prefix of the cluster, for one of the two that are compared.
pub(super) struct Side {
    pub admin: BusOptions,
    pub gateway: BusOptions,
}

impl Side {
    pub(super) fn new(admin: &BusOptions, keys: &Path, prefix: String) -> Self {
        let admin = BusOptions {
            prefix,
            ..admin.clone()
        };
        Self {
            gateway: admin.as_principal(keys, "bus.gateway"),
            admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_is_valid_and_people_are_distinct() {
        let world = World::new(2_000).unwrap();
        assert_eq!(world.outputs().len(), 2);
        let mut ids: Vec<&str> = world
            .people
            .iter()
            .map(|person| person.id.as_str())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 2_000);
        let lanes = usize::from(world.contract.lanes);
        let mut each = vec![0; lanes];
        for person in &world.people {
            each[usize::from(person.lane)] += 1;
        }
        assert!(
            each.iter().all(|count| *count > 2_000 / lanes / 2),
            "{each:?}"
        );
    }
}
