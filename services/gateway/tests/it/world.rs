//! An installation of its own for each test, on the shared stack: contract copy with keys and signed
//! approvals, topics and access rules under a prefix; and what a test may look at in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mz_bus::plan::{self, PlanOptions};
use mz_bus::{BusOptions, Isolation, Position, Reader, TlsFiles, TxProducer, tuning};
use mz_contract::{Contract, IdNumber, Mode};
use mz_gateway::{Keys, Options, Pace};
use mz_journal::{
    Audit, AuditKind, AuditWriter, Chain, ContractFile, ContractVersion, DELIVERY_HEADER,
    DeliveryHeader, Grant, GrantId, GrantKind, GrantStatus, InForce, Order, Quarantine,
    Record as _, RecordTag, State, SubjectTag, WITHDRAWAL_HEADER, topics,
};
use mz_keys::public::KeyUse;
use mz_keys::{AuditKey, KeysDir, PlacementKey, SubjectKey};
use mz_seal::{Signer, encode};
use mz_stack::testing;

use crate::actors::Gateway;
use crate::facts::Fact;

pub const WAIT: Duration = Duration::from_secs(30);
pub const LANES: u16 = 2;
pub const INSURANCE: &str = "hrss.insurance.status.v1";
pub const APPROVAL: &str = "hrss.talent.approval.v1";
pub const APPOINTMENT: &str = "police.appointment.v1";
pub const HOUSEHOLD: &str = "police.household.v1";
pub const RIGHT: &str = "realestate.right.v1";
pub const SETTLEMENT: &str = "police/talent-settlement";
pub const TO_INSURANCE: &str = "to.police.talent-settlement.hrss.insurance.status.v1";
pub const TO_APPROVAL: &str = "to.police.talent-settlement.hrss.talent.approval.v1";
pub const TO_RIGHT: &str = "to.police.talent-settlement.realestate.right.v1";
pub const TO_ANSWER: &str = "to.police.talent-settlement.answer.insured6of12.v1";
pub const TO_STATUS: &str = "to.hrss.talent-status.police.household.v1";

/// One installation.
pub struct World {
    _dir: tempfile::TempDir,
    pub contract: Arc<Contract>,
    pub keys_dir: KeysDir,
    pub keys: Arc<Keys>,
    pub admin: BusOptions,
    pub gateway: BusOptions,
    pub slots: u32,
    pub placement: PlacementKey,
    subject: SubjectKey,
    audit_key: AuditKey,
    /// Every contract that was ever in force here.
    digests: Mutex<Vec<[u8; 32]>>,
}

/// A record as a test looks at it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub lane: u16,
    pub offset: i64,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_slice())
    }

    pub fn delivery(&self) -> DeliveryHeader {
        DeliveryHeader::decode(self.header(DELIVERY_HEADER).unwrap()).unwrap()
    }

    /// Every byte of the record, for scans.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.key.clone();
        all.extend(self.value.iter().flatten());
        for (name, value) in &self.headers {
            all.extend(name.bytes());
            all.extend(value);
        }
        all
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let data = source
            .extension()
            .is_some_and(|e| e == "yaml" || e == "avsc");
        if source.is_dir() {
            copy(&source, &target);
        } else if data {
            std::fs::copy(&source, &target).unwrap();
        }
    }
}

impl World {
    pub fn new(slots: u32) -> Self {
        Self::prepared(slots, |_, _| {})
    }

    /// `prepare` may change contract copy and keys before they are signed and loaded.
    pub fn prepared(slots: u32, prepare: impl FnOnce(&Path, &KeysDir)) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("contract");
        let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
        copy(&schemas, &root);
        let installation = root.join("installation.yaml");
        let text = std::fs::read_to_string(&installation).unwrap();
        std::fs::write(
            &installation,
            text.replace("lanes: 8", &format!("lanes: {LANES}")),
        )
        .unwrap();
        let keys_dir = KeysDir::new(dir.path().join("keys"));
        let departments = departments(&root);
        mz_keys::provision(keys_dir.root(), &root, &departments).unwrap();
        prepare(&root, &keys_dir);
        for department in &departments {
            mz_keys::approvals::sign_approvals(&root, department, &keys_dir).unwrap();
        }
        let contract = Contract::load(&root, Mode::Signed)
            .unwrap_or_else(|faults| panic!("the test's contract: {faults:#?}"));
        let prefix = testing::prefix();
        let admin = bus("bus.admin", &prefix);
        let plan_options = PlanOptions {
            slots,
            ..PlanOptions::default()
        };
        let wanted = plan::plan(&admin, &contract, &plan_options).unwrap();
        plan::apply(&admin, &wanted).unwrap();
        Self {
            gateway: bus("bus.gateway", &prefix),
            keys: Arc::new(Keys::load(&keys_dir, &root).unwrap()),
            placement: PlacementKey::load(&keys_dir.placement_key()).unwrap(),
            subject: SubjectKey::load(&keys_dir.subject_key()).unwrap(),
            audit_key: AuditKey::load(&keys_dir.audit_key()).unwrap(),
            digests: Mutex::new(vec![contract.digest]),
            contract: Arc::new(contract),
            keys_dir,
            admin,
            slots,
            _dir: dir,
        }
    }

    pub fn options(&self) -> Options {
        Options {
            pace: Pace {
                commit_every: Duration::from_millis(20),
                ..Pace::default()
            },
            ..Options::new(
                self.gateway.clone(),
                Arc::clone(&self.contract),
                Arc::clone(&self.keys),
                self.slots,
            )
        }
    }

    pub fn signer(&self, owner: &str) -> Box<dyn Signer> {
        mz_keys::department_signer(&self.keys_dir, &self.contract.root, owner, KeyUse::Seal)
            .unwrap()
    }

    pub fn tag(&self, person: &str) -> SubjectTag {
        self.subject.tag(&IdNumber::parse(person).unwrap())
    }

    pub fn lane(&self, person: &str) -> u16 {
        self.placement
            .lane(&IdNumber::parse(person).unwrap(), LANES)
    }

    /// The first `count` synthetic people of a lane.
    pub fn people(&self, lane: u16, count: usize) -> Vec<String> {
        (0..)
            .map(person)
            .filter(|person| self.lane(person) == lane)
            .take(count)
            .collect()
    }

    /// Everything committed in all partitions of a topic.
    pub fn read(&self, topic: &str) -> Vec<Seen> {
        self.read_as(topic, Isolation::Committed)
    }

    pub fn read_as(&self, topic: &str, isolation: Isolation) -> Vec<Seen> {
        let mut reader = Reader::open(&self.admin, isolation).unwrap();
        let partitions = reader.partitions(topic).unwrap();
        let assignment: Vec<_> = (0..partitions as i32)
            .map(|partition| (topic, partition, Position::Beginning))
            .collect();
        reader.assign(&assignment).unwrap();
        let mut seen = Vec::new();
        reader
            .poll_to_end(WAIT, |record| {
                let headers = record.headers().unwrap();
                seen.push(Seen {
                    lane: record.partition as u16,
                    offset: record.offset,
                    key: record.key.unwrap_or_default().to_vec(),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: headers
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_vec()))
                        .collect(),
                });
            })
            .unwrap();
        seen.sort_by_key(|seen| (seen.lane, seen.offset));
        seen
    }

    /// The whole audit log. Each lane's chain is checked on the way.
    pub fn audit(&self) -> Vec<Audit<'static>> {
        let mut chains: Vec<Chain> = (0..LANES)
            .map(|lane| Chain::new(AuditWriter::Gateway, lane))
            .collect();
        let mut entries = Vec::new();
        for seen in self.read(topics::AUDIT) {
            let chain = &mut chains[usize::from(seen.lane)];
            let entry = chain
                .check(&seen.key, seen.value.as_ref().unwrap())
                .unwrap();
            assert!(self.digests.lock().unwrap().contains(&entry.contract));
            entries.push(entry.into_owned());
        }
        entries
    }

    pub fn of_kind(&self, kind: AuditKind) -> Vec<Audit<'static>> {
        let mut entries = self.audit();
        entries.retain(|entry| entry.kind == kind);
        entries
    }

    pub fn quarantine(&self, department: &str) -> Vec<Quarantine> {
        self.read(&topics::quarantine(department))
            .iter()
            .map(|seen| Quarantine::decode(seen.value.as_ref().unwrap()).unwrap())
            .collect()
    }

    pub fn state(&self, lane: u16) -> State {
        let key = topics::state_key(topics::SlotKind::Gateway, lane);
        let states = self.read(topics::STATE);
        let newest = states.iter().rev().find(|seen| seen.key == key);
        State::decode(newest.unwrap().value.as_ref().unwrap()).unwrap()
    }

    pub fn grants(&self) -> Vec<Grant> {
        self.read(topics::GRANTS)
            .iter()
            .filter(|seen| seen.key != topics::IN_FORCE_KEY)
            .map(|seen| Grant::decode(seen.value.as_ref().unwrap()).unwrap())
            .collect()
    }

    /// Writes a grant as consent or vault would.
    pub fn grant(&self, person: &str, id: u8, change: impl FnOnce(&mut Grant)) {
        let mut grant = Grant {
            id: GrantId([id; 16]),
            kind: GrantKind::Case,
            subject: self.tag(person),
            agreement: SETTLEMENT.to_owned(),
            datasets: Vec::new(),
            status: GrantStatus::Open,
            counter: 1,
            opened_ms: 1,
            expires_ms: i64::MAX / 4,
            closed_ms: None,
            cause: "request:test".to_owned(),
            reason: String::new(),
            subject_sealed: None,
        };
        change(&mut grant);
        let key = topics::grant_key(grant.subject, grant.id);
        let mut writer = Writer::open(self, "test-grants");
        writer.send(
            topics::GRANTS,
            self.lane(person),
            &key,
            Some(&grant.encode()),
            &[],
        );
        writer.commit();
    }

    /// The bus's tag of a record, by the text that its record fields make.
    pub fn record(&self, dataset: &str, record: &str) -> RecordTag {
        self.audit_key.record_tag(dataset, record)
    }

    /// The tag of the record that a fact states.
    pub fn record_of(&self, fact: &Fact) -> RecordTag {
        let dataset = self.contract.dataset(fact.dataset).unwrap();
        let value = encode(&dataset.layout, &fact.values).unwrap();
        let mut spans = Vec::new();
        dataset.layout.spans(&value, &mut spans).unwrap();
        self.record(fact.dataset, &dataset.record_of(&value, &spans).unwrap())
    }

    /// A changed copy of the contract, signed again by its providers.
    pub fn changed(&self, change: impl FnOnce(&Path)) -> Contract {
        let dir = tempfile::tempdir().unwrap();
        copy(&self.contract.root, dir.path());
        change(dir.path());
        for department in departments(dir.path()) {
            mz_keys::approvals::sign_approvals(dir.path(), &department, &self.keys_dir).unwrap();
        }
        let files = Contract::files(dir.path()).unwrap();
        let contract = Contract::load(dir.path(), Mode::Signed).unwrap();
        let mut writer = Writer::open(self, "test-contract");
        let version = ContractVersion {
            version: 0,
            digest: contract.digest,
            paths: files.keys().cloned().collect(),
            at_ms: 1,
        };
        let list = Some(version.encode());
        writer.send(topics::CONTRACT, 0, &contract.digest, list.as_deref(), &[]);
        for (path, text) in files {
            let file = ContractFile {
                digest: contract.digest,
                path,
                bytes: text.into_bytes(),
            };
            let value = file.encode();
            writer.send(topics::CONTRACT, 0, &file.key(), Some(&value), &[]);
        }
        writer.commit();
        self.digests.lock().unwrap().push(contract.digest);
        contract
    }

    /// Puts a contract in force in every lane, as consent does.
    pub fn put_in_force(&self, version: u64, digest: [u8; 32]) {
        let mut writer = Writer::open(self, "test-grants");
        let in_force = InForce {
            version,
            digest,
            at_ms: 1,
        };
        for lane in 0..LANES {
            let value = in_force.encode();
            writer.send(
                topics::GRANTS,
                lane,
                &topics::IN_FORCE_KEY,
                Some(&value),
                &[],
            );
        }
        writer.commit();
    }

    /// Gives orders about one person.
    pub fn order(&self, person: &str, orders: &[Order]) {
        let mut writer = Writer::open(self, "test-orders");
        for order in orders {
            let value = order.encode();
            let lane = self.lane(person);
            writer.send(topics::ORDERS, lane, &order.subject.0, Some(&value), &[]);
        }
        writer.commit();
    }

    /// Starts every slot in threads of this process.
    pub fn start(&self) -> Gateway {
        Gateway::start(self.options(), 0..self.slots)
    }

    /// Per agreement and dataset (or answer): what the log says must agree with the topics.
    pub fn check_books(&self) {
        let audit = self.audit();
        let mut delivered: BTreeMap<(String, String), u64> = BTreeMap::new();
        let mut summed: BTreeMap<(String, String), u64> = BTreeMap::new();
        let (mut denied, mut summed_denied) = (0, 0);
        for entry in &audit {
            let of = (entry.agreement.to_string(), entry.dataset.to_string());
            match entry.kind {
                AuditKind::Delivered => *delivered.entry(of).or_default() += 1,
                AuditKind::Denied => denied += entry.counts.denied,
                AuditKind::Summary => {
                    assert!(entry.counts.balanced() && entry.counts.matched > 0);
                    assert!(entry.counts.from_offset <= entry.counts.to_offset);
                    summed_denied += entry.counts.denied;
                    let count = u64::from(entry.counts.delivered);
                    if count > 0 {
                        *summed.entry(of).or_default() += count;
                    }
                }
                _ => {}
            }
        }
        assert_eq!(delivered, summed, "deliveries audited = deliveries summed");
        assert_eq!(denied, summed_denied, "denials audited = denials summed");

        let mut numbers = BTreeSet::new();
        let mut written: BTreeMap<(String, String), u64> = BTreeMap::new();
        for agreement in &self.contract.agreements {
            for section in &agreement.sections {
                let dataset = &self.contract.datasets[section.dataset_ix];
                let answers = section.answers.iter().map(|answer| {
                    let label = format!("answer.{}.v{}", answer.name, answer.version);
                    (answer.out_topic.as_str(), label)
                });
                let own = std::iter::once((section.out_topic.as_str(), dataset.id.clone()));
                for (topic, label) in own.chain(answers) {
                    let mut last: BTreeMap<u16, u64> = BTreeMap::new();
                    for seen in self.read(topic) {
                        let header = seen.delivery();
                        assert_eq!(header.agreement, agreement.id);
                        assert_eq!(header.audit_lane, seen.lane);
                        let last = last.entry(seen.lane).or_default();
                        assert_eq!(header.sequence, *last + 1, "{topic} is gapless");
                        *last = header.sequence;
                        assert!(numbers.insert((header.audit_lane, header.audit_number)));
                        let entry = audit.iter().find(|entry| {
                            (entry.lane, entry.number) == (header.audit_lane, header.audit_number)
                        });
                        let entry = entry.expect("a delivery names its audit entry");
                        assert_eq!(entry.output_sequence, header.sequence);
                        assert_eq!(entry.dataset, label);
                        // What consent withdraws is no event that matched.
                        if seen.header(WITHDRAWAL_HEADER).is_some() {
                            assert_eq!(entry.kind, AuditKind::Withdrawn);
                            assert!(seen.value.is_none() && entry.order.is_some());
                            continue;
                        }
                        assert_eq!(entry.kind, AuditKind::Delivered);
                        let of = (agreement.id.clone(), label.clone());
                        *written.entry(of).or_default() += 1;
                    }
                }
            }
        }
        assert_eq!(delivered, written, "records in topics = deliveries audited");
    }
}

pub fn bus(principal: &str, prefix: &str) -> BusOptions {
    let parts = testing::shared().bus(principal);
    BusOptions {
        bootstrap: parts.bootstrap,
        prefix: prefix.to_owned(),
        tls: Some(TlsFiles {
            ca: parts.ca,
            cert: parts.cert,
            key: parts.key,
        }),
        client_id: principal.to_owned(),
    }
}

/// A synthetic person: real region code, made-up serial, valid check character.
pub fn person(number: usize) -> String {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let digits = format!("441900{:04}0101{:03}", 1950 + number / 1000, number % 1000);
    let sum: u32 = digits
        .bytes()
        .zip(WEIGHTS)
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    let check = char::from(b"10X98765432"[(sum % 11) as usize]);
    format!("{digits}{check}")
}

/// Waits for a condition, with a reason if it never comes.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !holds() {
        assert!(Instant::now() < deadline, "never came: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// One transactional producer of a test.
pub struct Writer(TxProducer);

impl Writer {
    pub fn open(world: &World, id: &str) -> Self {
        let mut producer = TxProducer::open(&world.admin, id, tuning::TRANSACTION_TIMEOUT).unwrap();
        producer.init().unwrap();
        producer.begin().unwrap();
        Self(producer)
    }

    pub fn send(
        &mut self,
        topic: &str,
        lane: u16,
        key: &[u8],
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) {
        self.0
            .send(topic, i32::from(lane), key, value, headers)
            .unwrap();
    }

    pub fn commit(mut self) {
        self.0.commit().unwrap();
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
