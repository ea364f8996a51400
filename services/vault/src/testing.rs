//! A whole installation for tests, on the shared stack: signed contract, topics and ACLs under a
//! prefix of its own, a database of its own, and departments that publish sealed events. Only
//! with the feature `testing`.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test's installation that can't be made must fail loudly"
)]

mod events;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use mz_bus::plan::{self, PlanOptions};
use mz_bus::{BusOptions, Isolation, Position, Reader, TlsFiles, TxProducer, tuning};
use mz_contract::{Contract, Dataset, IdNumber, Mode};
use mz_journal::topics::{self, SlotKind};
use mz_journal::{
    Audit, ContractFile, ContractVersion, Grant, InForce, Order, Record as _, SourceStatus, State,
};
use mz_keys::public::KeyUse;
use mz_keys::{KeysDir, PlacementKey, RecordKey, department_signer};
use mz_seal::testing::WireEvent;
use mz_seal::{Datum, Draft, SealedEvent, Signer, encode, headers, seal_batch};
use mz_stack::testing;
use tempfile::TempDir;
use uuid::Uuid;

pub use events::{Event, approval, household, insurance, person, right, text};

use crate::{Handle, Options, Ownership, Service, VaultKeys, store};

/// Lanes of a test's installation: enough to have several, few enough to be made quickly.
pub const LANES: u16 = 4;
pub const SLOTS: u32 = 2;
/// Longest that a test waits for something to come true.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One test's installation.
pub struct TestBus {
    pub contract: Arc<Contract>,
    pub database_url: String,
    prefix: String,
    dir: TempDir,
}

impl TestBus {
    /// The committed contract.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same, with changes to the copy before it is signed.
    pub fn with(change: impl FnOnce(&Path)) -> Self {
        Self::keyed(change, |_, _| {})
    }

    /// The same; `rekey` may rotate and revoke keys before the approvals are signed.
    pub fn keyed(change: impl FnOnce(&Path), rekey: impl FnOnce(&Path, &KeysDir)) -> Self {
        let stack = testing::shared();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("contract");
        copy(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas"),
            &root,
            true,
        );
        copy(stack.keys().root(), &dir.path().join("keys"), false);
        let installation = root.join("installation.yaml");
        let text = fs::read_to_string(&installation).unwrap();
        fs::write(
            &installation,
            text.replace("lanes: 8", &format!("lanes: {LANES}")),
        )
        .unwrap();
        change(&root);
        let keys = KeysDir::new(dir.path().join("keys"));
        let departments = departments(&root);
        mz_keys::provision(keys.root(), &root, &departments).expect("keys");
        rekey(&root, &keys);
        for department in &departments {
            mz_keys::sign_approvals(&root, department, &keys).expect("approvals");
        }
        let contract = match Contract::load(&root, Mode::Signed) {
            Ok(contract) => Arc::new(contract),
            Err(faults) => panic!("{faults:?}"),
        };
        let this = Self {
            contract,
            database_url: stack.database(),
            prefix: testing::prefix(),
            dir,
        };
        let options = PlanOptions {
            slots: SLOTS,
            ..PlanOptions::default()
        };
        let admin = this.bus("bus.admin");
        plan::run(
            &admin,
            &this.contract,
            &options,
            plan::Mode::Apply,
            &mut std::io::sink(),
        )
        .expect("plan");
        this
    }

    pub fn keys(&self) -> KeysDir {
        KeysDir::new(self.dir.path().join("keys"))
    }

    pub fn contract_root(&self) -> PathBuf {
        self.dir.path().join("contract")
    }

    pub fn tls(&self, principal: &str) -> TlsFiles {
        TlsFiles::of(self.keys().root(), principal)
    }

    /// As a principal, with the rights that the plan gives it.
    pub fn bus(&self, principal: &str) -> BusOptions {
        BusOptions {
            bootstrap: testing::shared().bootstrap().to_owned(),
            prefix: self.prefix.clone(),
            tls: Some(self.tls(principal)),
            client_id: principal.to_owned(),
        }
    }

    pub fn database(&self) -> store::Database {
        store::Database::new(&self.database_url, store::SCHEMA).unwrap()
    }

    pub fn vault_keys(&self) -> VaultKeys {
        VaultKeys::load(&self.keys(), &self.contract_root()).unwrap()
    }

    /// A vault that owns every slot.
    pub fn vault_options(&self) -> Options {
        let keys = Arc::new(self.vault_keys());
        let contract = Arc::clone(&self.contract);
        let options = Options::new(
            self.bus("bus.vault"),
            contract,
            keys,
            self.database(),
            SLOTS,
        );
        Options {
            ownership: Ownership::Fixed((0..SLOTS).collect()),
            ..options
        }
    }

    /// Starts a vault and waits until it answers for everybody.
    pub fn start_vault(&self) -> (Service, Handle) {
        let service = Service::start(self.vault_options()).unwrap();
        let handle = service.handle();
        ready(&handle);
        (service, handle)
    }

    pub fn lane(&self, id: &IdNumber) -> u16 {
        PlacementKey::load(&self.keys().placement_key())
            .unwrap()
            .lane(id, self.contract.lanes)
    }

    /// A department's connector on one of its streams.
    pub fn connector(&self, department: &str, stream: &str) -> Connector {
        Connector::open(self, department, stream)
    }

    /// Everything in the audit log of all lanes.
    pub fn audits(&self) -> Vec<Audit<'static>> {
        let mut all = Vec::new();
        self.read(topics::AUDIT, |record| {
            all.push(Audit::read(record.value.unwrap()).unwrap().into_owned());
        });
        all
    }

    /// Everything in `bus.grants`, lane by lane, as it was written.
    pub fn grants(&self) -> Vec<Grant> {
        let mut all = Vec::new();
        self.read(topics::GRANTS, |record| {
            if record.key != Some(topics::IN_FORCE_KEY.as_slice()) {
                all.push(Grant::decode(record.value.unwrap()).unwrap());
            }
        });
        all
    }

    /// Where a lane ends, open transactions included.
    pub fn head(&self, topic: &str, lane: u16) -> i64 {
        let reader = Reader::open(&self.bus("bus.admin"), Isolation::Uncommitted).unwrap();
        reader.watermarks(topic, i32::from(lane)).unwrap().1
    }

    /// All committed records of a lane topic.
    pub fn read(&self, topic: &str, mut each: impl FnMut(mz_bus::Record<'_>)) {
        let mut reader = Reader::open(&self.bus("bus.admin"), Isolation::Committed).unwrap();
        let lanes: Vec<_> = (0..i32::from(LANES))
            .map(|lane| (topic, lane, Position::Beginning))
            .collect();
        reader.assign(&lanes).unwrap();
        reader.poll_to_end(PATIENCE, &mut each).unwrap();
    }
}

impl Default for TestBus {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes to the bus's own topics as a gateway does.
pub struct Gateway {
    producer: TxProducer,
}

impl Gateway {
    pub fn open(bus: &TestBus) -> Self {
        let id = SlotKind::Gateway.transactional_id(0);
        let options = bus.bus("bus.gateway");
        let mut producer = TxProducer::open(&options, &id, tuning::TRANSACTION_TIMEOUT).unwrap();
        producer.init().unwrap();
        Self { producer }
    }

    /// One record in a transaction of its own.
    pub fn send(&mut self, topic: &str, lane: u16, key: &[u8], value: &[u8]) {
        self.begin_with(topic, lane, key, value);
        self.commit();
    }

    /// One record, its transaction left open.
    pub fn begin_with(&mut self, topic: &str, lane: u16, key: &[u8], value: &[u8]) {
        self.producer.begin().unwrap();
        self.producer
            .send(topic, i32::from(lane), key, Some(value), &[])
            .unwrap();
    }

    pub fn commit(&mut self) {
        self.producer.commit().unwrap();
    }

    pub fn grant(&mut self, lane: u16, grant: &Grant) {
        let key = topics::grant_key(grant.subject, grant.id);
        self.send(topics::GRANTS, lane, &key, &grant.encode());
    }
}

/// Writes to the bus's own topics as the consent service does.
pub struct Consent {
    bus: BusOptions,
    producer: TxProducer,
}

impl Consent {
    pub fn open(bus: &TestBus) -> Self {
        let bus = bus.bus("bus.consent");
        let id = SlotKind::Consent.transactional_id(0);
        let mut producer = TxProducer::open(&bus, &id, tuning::TRANSACTION_TIMEOUT).unwrap();
        producer.init().unwrap();
        Self { bus, producer }
    }

    pub fn grant(&mut self, lane: u16, grant: &Grant) {
        let key = topics::grant_key(grant.subject, grant.id);
        self.send(&[(topics::GRANTS, lane, key.to_vec(), grant.encode())]);
    }

    pub fn order(&mut self, lane: u16, order: &Order) {
        let key = order.subject.0.to_vec();
        self.send(&[(topics::ORDERS, lane, key, order.encode())]);
    }

    /// Publishes the files of a version; `digest` is theirs unless the test lies.
    pub fn publish_version(
        &mut self,
        version: u64,
        digest: [u8; 32],
        files: &BTreeMap<String, String>,
    ) {
        let list = ContractVersion {
            version,
            digest,
            paths: files.keys().cloned().collect(),
            at_ms: 1,
        };
        let mut records = vec![(topics::CONTRACT, 0, digest.to_vec(), list.encode())];
        for (path, text) in files {
            let file = ContractFile {
                digest,
                path: path.clone(),
                bytes: text.clone().into_bytes(),
            };
            records.push((topics::CONTRACT, 0, file.key(), file.encode()));
        }
        self.send(&records);
    }

    /// Puts a version in force in `lanes`.
    pub fn in_force(
        &mut self,
        version: u64,
        digest: [u8; 32],
        lanes: impl IntoIterator<Item = u16>,
    ) {
        let note = InForce {
            version,
            digest,
            at_ms: 1,
        };
        let record = |lane| {
            let key = topics::IN_FORCE_KEY.to_vec();
            (topics::GRANTS, lane, key, note.encode())
        };
        let records: Vec<_> = lanes.into_iter().map(record).collect();
        self.send(&records);
    }

    /// Shuts the owner of a vault slot out and leaves the note.
    pub fn fence(&self, slot: u32) {
        let id = SlotKind::Vault.transactional_id(slot);
        let mut producer = TxProducer::open(&self.bus, &id, tuning::TRANSACTION_TIMEOUT).unwrap();
        producer.init().unwrap();
        producer.begin().unwrap();
        for lane in mz_bus::lanes_of(slot, SLOTS, LANES) {
            let note = State {
                lane,
                ..State::default()
            };
            let key = topics::fence_key(SlotKind::Vault, lane);
            producer
                .send(
                    topics::STATE,
                    i32::from(lane),
                    &key,
                    Some(&note.encode()),
                    &[],
                )
                .unwrap();
        }
        producer.commit().unwrap();
    }

    fn send(&mut self, records: &[(&str, u16, Vec<u8>, Vec<u8>)]) {
        self.producer.begin().unwrap();
        for (topic, lane, key, value) in records {
            self.producer
                .send(topic, i32::from(*lane), key, Some(value), &[])
                .unwrap();
        }
        self.producer.commit().unwrap();
    }
}

/// Waits until every slot is open.
pub fn ready(handle: &Handle) {
    eventually("the vault is ready", || {
        let state = handle.readiness();
        state.is_ready() && state.slots_open == state.slots as usize
    });
}

/// Waits for a condition.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Damages value and seal of an event, by its place in the transaction.
pub type Alter<'a> = &'a mut dyn FnMut(usize, &mut Vec<u8>, &mut Vec<u8>);

/// Publishes one stream as its department's connector.
pub struct Connector {
    contract: Arc<Contract>,
    department: String,
    stream: String,
    producer: TxProducer,
    signer: Box<dyn Signer>,
    placement: PlacementKey,
    record_key: RecordKey,
    pub epoch: u32,
    batch: u64,
    counter: u64,
    sequences: HashMap<(String, u16), u64>,
}

impl Connector {
    fn open(bus: &TestBus, department: &str, stream: &str) -> Self {
        let principal = format!("{department}.connector");
        let id = topics::connector_transactional_id(department, stream);
        let options = bus.bus(&principal);
        let mut producer = TxProducer::open(&options, &id, tuning::TRANSACTION_TIMEOUT).unwrap();
        producer.init().unwrap();
        let (keys, root) = (bus.keys(), bus.contract_root());
        Self {
            contract: Arc::clone(&bus.contract),
            department: department.to_owned(),
            stream: stream.to_owned(),
            producer,
            signer: department_signer(&keys, &root, department, KeyUse::Seal).unwrap(),
            placement: PlacementKey::load(&keys.placement_key()).unwrap(),
            record_key: RecordKey::load(&keys.record_key(department)).unwrap(),
            epoch: 1,
            batch: 0,
            counter: 0,
            sequences: HashMap::new(),
        }
    }

    /// Seals and publishes in one transaction, complete as of now.
    pub fn publish(&mut self, events: Vec<Event>) {
        self.publish_altered(events, |_, _, _| {});
    }

    /// The same; `alter` may damage value and seal of each event by its place.
    pub fn publish_altered(
        &mut self,
        events: Vec<Event>,
        mut alter: impl FnMut(usize, &mut Vec<u8>, &mut Vec<u8>),
    ) {
        self.begin(events, &mut alter);
        self.send_status(Utc::now().timestamp_millis(), 0);
        self.producer.commit().unwrap();
    }

    /// Writes events and leaves the transaction open.
    pub fn begin(&mut self, events: Vec<Event>, alter: Alter<'_>) {
        self.producer.begin().unwrap();
        if events.is_empty() {
            return;
        }
        let sealed = self.seal(events);
        for (at, event) in sealed.into_iter().enumerate() {
            let dataset = self.contract.dataset(&event.meta.dataset).unwrap();
            let mut value = mz_seal::frame(dataset.schema_id, &event.value);
            let mut seal = event.seal;
            alter(at, &mut value, &mut seal);
            let ce = headers::cloud_event(&event.meta);
            let mut all: Vec<(&str, &[u8])> = ce
                .iter()
                .map(|(name, text)| (*name, text.as_bytes()))
                .collect();
            all.push((headers::SEAL, &seal));
            let key = self.key(dataset, &event.value);
            let lane = i32::from(event.meta.lane);
            self.producer
                .send(&dataset.src_topic(), lane, &key, Some(&value), &all)
                .unwrap();
        }
    }

    /// Seals events and keeps them, as they would lie in Kafka.
    pub fn wire(&mut self, events: Vec<Event>) -> Vec<WireEvent> {
        let contract = Arc::clone(&self.contract);
        let schema_id =
            |event: &SealedEvent| contract.dataset(&event.meta.dataset).unwrap().schema_id;
        self.seal(events)
            .iter()
            .map(|event| WireEvent::of(event, schema_id(event)))
            .collect()
    }

    /// Publishes events as they are, good or not.
    pub fn put(&mut self, dataset: &str, events: &[WireEvent]) {
        self.producer.begin().unwrap();
        for event in events {
            let all: Vec<(&str, &[u8])> = event.header_pairs().collect();
            let (topic, lane) = (topics::source(dataset), i32::from(event.lane));
            self.producer
                .send(&topic, lane, &[9; 32], Some(&event.value), &all)
                .unwrap();
        }
        self.producer.commit().unwrap();
    }

    fn seal(&mut self, events: Vec<Event>) -> Vec<SealedEvent> {
        self.batch += 1;
        let drafts: Vec<Draft> = events.into_iter().map(|event| self.draft(event)).collect();
        let mut seeds = || mz_keys::secret::random::<32>().unwrap();
        seal_batch(
            &self.contract.bus_id,
            &self.department,
            &self.stream,
            self.epoch,
            self.batch,
            drafts,
            &mut seeds,
            &*self.signer,
        )
        .unwrap()
    }

    pub fn commit(&mut self) {
        self.producer.commit().unwrap();
    }

    /// Says how complete the stream is, and nothing else.
    pub fn status(&mut self, complete_to_ms: i64, rejected: u64) {
        self.producer.begin().unwrap();
        self.send_status(complete_to_ms, rejected);
        self.producer.commit().unwrap();
    }

    /// Complete as of now.
    pub fn heartbeat(&mut self) {
        self.status(Utc::now().timestamp_millis(), 0);
    }

    fn send_status(&mut self, complete_to_ms: i64, rejected: u64) {
        let status = SourceStatus {
            stream: self.stream.clone(),
            epoch: self.epoch,
            last_batch: self.batch,
            complete_to_ms,
            rejected,
            at_ms: Utc::now().timestamp_millis(),
        };
        let topic = topics::status(&self.department, &self.stream);
        let key = self.stream.clone();
        self.producer
            .send(&topic, 0, key.as_bytes(), Some(&status.encode()), &[])
            .unwrap();
    }

    fn draft(&mut self, event: Event) -> Draft {
        let dataset = self.contract.dataset(event.dataset).unwrap();
        let fields: Vec<Datum> = event
            .fields
            .into_iter()
            .zip(dataset.layout.fields())
            .map(|((name, datum), field)| {
                assert_eq!(name, field.name, "fields in the schema's order");
                datum
            })
            .collect();
        let value = encode(&dataset.layout, &fields).unwrap();
        let mut spans = Vec::new();
        dataset.layout.spans(&value, &mut spans).unwrap();
        let subject = dataset
            .layout
            .read_string(dataset.subject_field, &value, &spans)
            .unwrap();
        let id = IdNumber::parse(subject).unwrap();
        let lane = self.placement.lane(&id, self.contract.lanes);
        let sequence = self
            .sequences
            .entry((dataset.id.clone(), lane))
            .or_insert(0);
        *sequence += 1;
        self.counter += 1;
        Draft {
            dataset: dataset.id.clone(),
            lane,
            sequence: *sequence,
            ce_id: *Uuid::now_v7().as_bytes(),
            ce_time_ms: Utc::now().timestamp_millis(),
            schema: dataset.schema_digest,
            counter: event.counter.unwrap_or(self.counter),
            withdrawn: event.withdrawn,
            subject: subject.to_owned(),
            record: dataset.record_of(&value, &spans).unwrap(),
            spans,
            value,
        }
    }

    fn key(&self, dataset: &Dataset, datum: &[u8]) -> Vec<u8> {
        let mut spans = Vec::new();
        dataset.layout.spans(datum, &mut spans).unwrap();
        let subject = dataset
            .layout
            .read_string(dataset.subject_field, datum, &spans)
            .unwrap();
        let id = IdNumber::parse(subject).unwrap();
        let record = dataset.record_of(datum, &spans).unwrap();
        let subject = self.record_key.subject_tag(&id);
        topics::source_key(subject, self.record_key.record_tag(&dataset.id, &record)).to_vec()
    }
}

fn copy(from: &Path, to: &Path, contract_only: bool) {
    fs::create_dir_all(to).unwrap();
    if !contract_only {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    }
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        let code = contract_only && (name == "contract" || name == "seal");
        if path.is_dir() {
            if !code {
                copy(&path, &to.join(&name), contract_only);
            }
        } else if !contract_only || path.extension().is_some_and(|e| e == "yaml" || e == "avsc") {
            fs::copy(&path, to.join(&name)).unwrap();
        }
    }
}

/// All of the contract: keys and signatures for each.
fn departments(root: &Path) -> Vec<String> {
    let contract = Contract::load(root, Mode::Draft).unwrap_or_else(|faults| panic!("{faults:#?}"));
    contract
        .departments
        .into_iter()
        .map(|department| department.id)
        .collect()
}
