//! A bus of one's own on the shared stack: a contract with two lanes, its topics and rights, and
//! what lies on its source topics, verified.

use mz_bus::plan::{self, PlanOptions};
use mz_bus::{BusOptions, Isolation, Position, Reader, TlsFiles, read_to_end};
use mz_contract::{Contract, Lang, Mode};
use mz_journal::{Quarantine, Record as _, SourceStatus, topics};
use mz_keys::KeysDir;
use mz_seal::{Datum, Expect, Headers, Verifier};
use mz_sources::connect::{self, ConnectError, Outcome};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub const LANES: u16 = 2;

/// One installation.
pub struct Bus {
    pub folder: tempfile::TempDir,
    pub contract: Arc<Contract>,
    pub options: BusOptions,
    pub keys: KeysDir,
}

/// One event as it lies on a source topic; its seal was verified.
#[derive(Clone, Debug)]
pub struct Lying {
    pub lane: u16,
    pub sequence: u64,
    pub epoch: u32,
    pub counter: u64,
    pub batch: u64,
    pub withdrawn: bool,
    pub subject: String,
    pub record: String,
    pub fields: BTreeMap<String, Datum>,
}

impl Lying {
    pub fn text(&self, field: &str) -> String {
        self.fields[field].to_text()
    }
}

impl Bus {
    pub fn new() -> Self {
        let stack = mz_stack::testing::shared();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("contract");
        copy(&crate::support::repository().join("schemas"), &root);
        let installation = root.join("installation.yaml");
        let text = std::fs::read_to_string(&installation).unwrap();
        std::fs::write(
            &installation,
            text.replace("lanes: 8", &format!("lanes: {LANES}")),
        )
        .unwrap();
        let keys = stack.keys();
        let departments: Vec<String> = Contract::load(&root, Mode::Draft)
            .unwrap()
            .departments
            .into_iter()
            .map(|department| department.id)
            .collect();
        mz_keys::provision(keys.root(), &root, &departments).unwrap();
        let contract = Contract::load(&root, Mode::Draft).unwrap_or_else(|faults| {
            panic!(
                "{}",
                faults
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n")
            )
        });
        assert_eq!(contract.lanes, LANES);
        let options = BusOptions {
            bootstrap: stack.bootstrap().to_owned(),
            prefix: mz_stack::testing::prefix(),
            tls: Some(TlsFiles::of(keys.root(), "bus.admin")),
            client_id: "bus.admin".to_owned(),
        };
        let bus = Self {
            folder,
            contract: Arc::new(contract),
            options,
            keys,
        };
        bus.apply();
        bus
    }

    /// Makes what is missing of topics and rights.
    pub fn apply(&self) {
        let options = PlanOptions {
            slots: 1,
            ..PlanOptions::default()
        };
        let plan = plan::plan(&self.options, &self.contract, &options).unwrap();
        plan::apply(&self.options, &plan).unwrap();
    }

    /// How many topics of the plan are not there.
    pub fn missing_topics(&self) -> usize {
        let options = PlanOptions {
            slots: 1,
            ..PlanOptions::default()
        };
        let plan = plan::plan(&self.options, &self.contract, &options).unwrap();
        plan.changes
            .iter()
            .filter(|change| matches!(change, plan::Change::CreateTopic { .. }))
            .count()
    }

    pub fn as_principal(&self, principal: &str) -> BusOptions {
        self.options.as_principal(self.keys.root(), principal)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // As departments should: under another name, then renamed.
        let fresh = path.with_extension("fresh");
        std::fs::write(&fresh, bytes).unwrap();
        std::fs::rename(&fresh, &path).unwrap();
        path
    }

    /// A configuration for a mapping text and a file.
    pub fn config(&self, mapping: &str, file: &str) -> PathBuf {
        self.write("mapping.yaml", mapping);
        let text = format!("mapping: mapping.yaml\ndata: {{file: {file}}}\npoll: 200ms\n");
        self.write("connect.yaml", text)
    }

    pub fn connect_options(&self, config: &Path) -> connect::Options {
        connect::Options {
            config: config.to_owned(),
            once: true,
            plan: false,
            new_epoch: false,
            lang: Lang::En,
            contract: Arc::clone(&self.contract),
            bus: self.options.clone(),
            keys: self.keys.clone(),
            xlsx: crate::support::xlsx(),
        }
    }

    pub fn connect(&self, config: &Path) -> Result<Outcome, ConnectError> {
        connect::run(self.connect_options(config), &AtomicBool::new(false))
    }

    /// Every committed event of a dataset, each verified as the gateway verifies it.
    pub fn events(&self, dataset: &str) -> Vec<Lying> {
        let dataset = self.contract.dataset(dataset).unwrap();
        let mut reader = Reader::open(&self.options, Isolation::Committed).unwrap();
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| (dataset.src_topic(), i32::from(lane), Position::Beginning))
            .collect();
        reader.assign(&lanes).unwrap();
        let mut verifier = Verifier::new();
        let mut found = Vec::new();
        reader
            .poll_to_end(Duration::from_secs(20), |record| {
                let headers = record.headers().unwrap();
                let headers =
                    Headers::collect(headers.iter().map(|(name, value)| (*name, value.unwrap())))
                        .unwrap();
                let (id, datum) = mz_seal::unframe(record.value.unwrap()).unwrap();
                assert_eq!(id, dataset.schema_id);
                let expect = Expect {
                    bus: &self.contract.bus_id,
                    dataset: &dataset.id,
                    department: &dataset.department,
                    streams: &dataset.streams,
                    lane: u16::try_from(record.partition).unwrap(),
                    layout: &dataset.layout,
                    schema_digest: &dataset.schema_digest,
                    subject_field: dataset.subject_field,
                };
                let verified = verifier
                    .verify_source(
                        &expect,
                        datum,
                        headers.seal().unwrap(),
                        self.contract.as_ref(),
                    )
                    .unwrap();
                headers.check(&verified.meta).unwrap();
                assert_eq!(
                    dataset.record_of(datum, &verified.spans).unwrap(),
                    verified.record
                );
                let fields = dataset
                    .fields
                    .iter()
                    .zip(&verified.spans)
                    .enumerate()
                    .map(|(index, (field, span))| {
                        let bytes = &datum[span.start as usize..span.end as usize];
                        (
                            field.name.clone(),
                            dataset.layout.decode(index, bytes).unwrap(),
                        )
                    })
                    .collect();
                found.push(Lying {
                    lane: verified.meta.lane,
                    sequence: verified.meta.sequence,
                    epoch: verified.meta.epoch,
                    counter: verified.meta.counter,
                    batch: verified.batch.number,
                    withdrawn: verified.meta.withdrawn,
                    subject: verified.subject.to_owned(),
                    record: verified.record.to_owned(),
                    fields,
                });
            })
            .unwrap();
        found
    }

    /// Sequences of each lane are gapless from 1, versions rise along each lane.
    pub fn assert_gapless(&self, dataset: &str) {
        let events = self.events(dataset);
        let mut next: BTreeMap<(u32, u16), (u64, u64)> = BTreeMap::new();
        for event in &events {
            let (sequence, counter) = next.entry((event.epoch, event.lane)).or_default();
            assert_eq!(
                event.sequence,
                *sequence + 1,
                "lane {} of epoch {}",
                event.lane,
                event.epoch
            );
            assert!(event.counter > *counter);
            (*sequence, *counter) = (event.sequence, event.counter);
        }
    }

    /// Records of a topic of one partition, with their bytes.
    pub fn raw(&self, topic: &str) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut all = Vec::new();
        read_to_end(&self.options, topic, 0, Position::Beginning, |record| {
            all.push((
                record.key.unwrap_or_default().to_vec(),
                record.value.map(<[u8]>::to_vec),
            ));
        })
        .unwrap();
        all
    }

    pub fn quarantine(&self, department: &str) -> Vec<Quarantine> {
        self.raw(&topics::quarantine(department))
            .iter()
            .map(|(_, value)| Quarantine::decode(value.as_ref().unwrap()).unwrap())
            .collect()
    }

    pub fn status(&self, department: &str, stream: &str) -> SourceStatus {
        let all = self.raw(&topics::status(department, stream));
        SourceStatus::decode(all.last().unwrap().1.as_ref().unwrap()).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            if !matches!(name.as_str(), "seal" | "contract") {
                copy(&entry.path(), &target);
            }
        } else if name.ends_with(".yaml") || name.ends_with(".avsc") {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
