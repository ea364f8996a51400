//! An installation of its own for each test, on the shared stack: contract copy with keys and signed
//! approvals, topics and access rules under a prefix, departments that publish, a vault that answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mz_bus::plan::{self, PlanOptions};
use mz_bus::{BusOptions, Isolation, Position, Reader, TlsFiles, TxProducer, tuning};
use mz_contract::{Contract, IdNumber, Mode};
use mz_gateway::{Error, Keys, Options, Pace, Stats, run_slot};
use mz_journal::{
    Audit, AuditKind, AuditWriter, Chain, DELIVERY_HEADER, DeliveryHeader, FactBody, FactReply,
    Fetch, Grant, GrantId, GrantKind, GrantStatus, Quarantine, Record as _, State, StoredFact,
    SubjectTag, topics,
};
use mz_keys::public::KeyUse;
use mz_keys::{KeysDir, PlacementKey, SubjectKey};
use mz_seal::testing::WireEvent;
use mz_seal::{Datum, Draft, Signer, encode, headers, seal_batch};
use mz_stack::testing;

pub const WAIT: Duration = Duration::from_secs(30);
pub const LANES: u16 = 2;
pub const DEPARTMENTS: [&str; 3] = ["hrss", "police", "realestate"];
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
    placement: PlacementKey,
    subject: SubjectKey,
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
        mz_keys::provision(keys_dir.root(), &root, &DEPARTMENTS).unwrap();
        prepare(&root, &keys_dir);
        for department in DEPARTMENTS {
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
            assert_eq!(entry.contract, self.contract.digest);
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
                        assert_eq!(entry.kind, AuditKind::Delivered);
                        assert_eq!(entry.output_sequence, header.sequence);
                        assert_eq!(entry.dataset, label);
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

/// One department's stream.
pub struct Stream {
    department: String,
    stream: String,
    signer: Box<dyn Signer>,
    pub epoch: u32,
    pub batch: u64,
    pub counter: u64,
    sequences: BTreeMap<(String, u16), u64>,
    ids: AtomicU64,
}

/// One event to be.
#[derive(Clone)]
pub struct Fact {
    pub dataset: &'static str,
    pub values: Vec<Datum>,
    pub withdrawn: bool,
}

impl Stream {
    pub fn new(world: &World, dataset: &str) -> Self {
        let dataset = world.contract.dataset(dataset).unwrap();
        Self {
            department: dataset.department.clone(),
            stream: dataset.streams[0].clone(),
            signer: world.signer(&dataset.department),
            epoch: 1,
            batch: 0,
            counter: 0,
            sequences: BTreeMap::new(),
            ids: AtomicU64::new(0),
        }
    }

    /// Sets the number that the stream used last.
    pub fn skip_to(&mut self, dataset: &str, lane: u16, last: u64) {
        self.sequences.insert((dataset.to_owned(), lane), last);
    }

    /// Seals facts as one batch; nothing is published.
    pub fn seal(&mut self, world: &World, facts: &[Fact]) -> Vec<WireEvent> {
        self.batch += 1;
        let mut drafts = Vec::new();
        for fact in facts {
            let dataset = world.contract.dataset(fact.dataset).unwrap();
            let value = encode(&dataset.layout, &fact.values).unwrap();
            let mut spans = Vec::new();
            dataset.layout.spans(&value, &mut spans).unwrap();
            let subject = dataset
                .layout
                .read_string(dataset.subject_field, &value, &spans)
                .unwrap()
                .to_owned();
            let record = dataset.record_of(&value, &spans).unwrap();
            let lane = IdNumber::parse(&subject).map_or(0, |id| world.placement.lane(&id, LANES));
            let last = self
                .sequences
                .entry((fact.dataset.to_owned(), lane))
                .or_default();
            *last += 1;
            self.counter += 1;
            let mut ce_id = [0; 16];
            ce_id[8..].copy_from_slice(&self.ids.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            ce_id[0] = self.epoch as u8;
            drafts.push(Draft {
                dataset: fact.dataset.to_owned(),
                lane,
                sequence: *last,
                ce_id,
                ce_time_ms: 1_795_000_000_000 + self.counter as i64,
                schema: dataset.schema_digest,
                counter: self.counter,
                withdrawn: fact.withdrawn,
                subject,
                record,
                value,
                spans,
            });
        }
        let mut seed = self.batch;
        let sealed = seal_batch(
            &world.contract.bus_id,
            &self.department,
            &self.stream,
            self.epoch,
            self.batch,
            drafts,
            &mut || {
                seed += 1000;
                let mut bytes = [7; 32];
                bytes[..8].copy_from_slice(&seed.to_be_bytes());
                bytes
            },
            &*self.signer,
        )
        .unwrap();
        sealed
            .iter()
            .map(|event| {
                let dataset = world.contract.dataset(&event.meta.dataset).unwrap();
                WireEvent::of(event, dataset.schema_id)
            })
            .collect()
    }

    /// Seals and publishes in one transaction.
    pub fn publish(&mut self, world: &World, facts: &[Fact]) {
        let events = self.seal(world, facts);
        let topics: Vec<_> = facts.iter().map(|fact| fact.dataset).collect();
        put(world, &topics, &events);
    }
}

/// Puts events on their topics as they are, good or bad.
pub fn put(world: &World, datasets: &[&str], events: &[WireEvent]) {
    let mut writer = Writer::open(world, "test-source");
    for (dataset, event) in datasets.iter().zip(events) {
        let headers: Vec<(&str, &[u8])> = event.header_pairs().collect();
        writer.send(
            &topics::source(dataset),
            event.lane,
            &[9; 32],
            Some(&event.value),
            &headers,
        );
    }
    writer.commit();
}

fn text(value: &str) -> Datum {
    Datum::Str(value.to_owned())
}

fn symbol(value: &str) -> Datum {
    Datum::Enum(value.to_owned())
}

const TODAY: i32 = 20_770;

/// Marks that no delivery may carry.
pub const SECRETS: [&str; 5] = [
    "MARK-EMPLOYER",
    "91441900MARKUSCC00",
    "MARK-SCHOOL",
    "MARK-UNIT",
    "MARK-HOUSEHOLD",
];

pub fn insurance(person: &str, kind: &str, months: i64) -> Fact {
    Fact {
        dataset: INSURANCE,
        values: vec![
            text(person),
            text("张三"),
            symbol(kind),
            symbol("INSURED"),
            Datum::Date(TODAY - 900),
            Datum::Date(TODAY - 400),
            Datum::Int(30 + months),
            Datum::Int(months),
            text("91441900MARKUSCC00"),
            text("MARK-EMPLOYER"),
            Datum::Int(0),
            text("441900"),
            Datum::Date(TODAY),
        ],
        withdrawn: false,
    }
}

pub fn approval(person: &str, number: &str, status: &str) -> Fact {
    Fact {
        dataset: APPROVAL,
        values: vec![
            text(person),
            text("张三"),
            text(number),
            symbol("EDUCATION"),
            symbol("INSTANT"),
            text("MARK-SCHOOL"),
            Datum::Null,
            text("MARK-EMPLOYER"),
            Datum::Array(vec![]),
            Datum::Date(TODAY),
            Datum::Null,
            symbol(status),
        ],
        withdrawn: false,
    }
}

pub fn right(person: &str, certificate: &str) -> Fact {
    Fact {
        dataset: RIGHT,
        values: vec![
            text(person),
            text("张三"),
            text(certificate),
            Datum::Int(1),
            text("MARK-UNIT"),
            symbol("SOLE"),
            text("100%"),
            Datum::Int(1),
            text("东莞市南城街道"),
            symbol("DWELLING_UNIT"),
            Datum::Decimal {
                unscaled: 8950,
                scale: 2,
            },
            Datum::Date(TODAY - 100),
            Datum::Bool(true),
            Datum::Bool(false),
            symbol("CURRENT"),
        ],
        withdrawn: false,
    }
}

pub fn household(person: &str, number: &str, change: &str) -> Fact {
    Fact {
        dataset: HOUSEHOLD,
        values: vec![
            text(number),
            text(person),
            text("张三"),
            Datum::Date(3_000),
            text("MARK-HOUSEHOLD"),
            symbol("HEAD"),
            text("MARK-HOUSEHOLD"),
            text("441900"),
            Datum::Null,
            symbol(change),
            Datum::Date(TODAY),
            text("A-1"),
        ],
        withdrawn: false,
    }
}

pub fn appointment(person: &str, booking: &str, dependents: &[&str]) -> Fact {
    let dependents = dependents
        .iter()
        .map(|id| {
            Datum::Record(vec![
                ("idNo".to_owned(), text(id)),
                ("name".to_owned(), text("李四")),
                ("relation".to_owned(), symbol("SPOUSE")),
            ])
        })
        .collect();
    Fact {
        dataset: APPOINTMENT,
        values: vec![
            text(booking),
            text("talent-settlement"),
            text(person),
            text("张三"),
            Datum::Null,
            Datum::Array(dependents),
            text("南城分局"),
            Datum::TimestampMillis(1_795_000_000_000),
            symbol("BOOKED"),
        ],
        withdrawn: false,
    }
}

/// Slots running in threads.
pub struct Gateway {
    pub stop: Arc<AtomicBool>,
    pub stats: Vec<Arc<Stats>>,
    threads: Vec<JoinHandle<Result<(), Error>>>,
}

impl Gateway {
    pub fn start(options: Options, slots: impl Iterator<Item = u32>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut stats, mut threads) = (Vec::new(), Vec::new());
        for slot in slots {
            let (options, flag, own) =
                (options.clone(), Arc::clone(&stop), Arc::<Stats>::default());
            stats.push(Arc::clone(&own));
            threads.push(thread::spawn(move || run_slot(&options, slot, &own, &flag)));
        }
        let gateway = Self {
            stop,
            stats,
            threads,
        };
        wait_for("the slots take over", || {
            gateway.stats.iter().all(|stats| stats.is_running()) || gateway.ended()
        });
        gateway
    }

    pub fn ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    pub fn counts(&self) -> mz_gateway::Counts {
        let mut total = mz_gateway::Counts::default();
        for stats in &self.stats {
            total += stats.counts();
        }
        total
    }

    /// Waits until that many source records were processed and committed.
    pub fn processed(&self, events: u64) {
        wait_for(&format!("{events} events, are {:?}", self.counts()), || {
            assert!(!self.ended(), "a slot ended");
            self.counts().events >= events
        });
    }

    pub fn stop(self) -> Vec<Result<(), Error>> {
        self.stop.store(true, Ordering::Release);
        self.threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    }

    /// Stops and expects that nothing went wrong.
    pub fn end(self) {
        for outcome in self.stop() {
            outcome.unwrap();
        }
    }
}

/// Answers fetches as the vault does: below the fences, newest version per record, then done.
#[derive(Default)]
pub struct Vault {
    answered: BTreeSet<(GrantId, u32)>,
}

impl Vault {
    pub fn fetches(world: &World) -> Vec<(u16, Fetch)> {
        world
            .read(topics::FETCH)
            .iter()
            .map(|seen| {
                let fetch = Fetch::decode(seen.value.as_ref().unwrap()).unwrap();
                (seen.lane, fetch)
            })
            .collect()
    }

    /// The facts that a fetch asks for.
    pub fn facts(world: &World, lane: u16, fetch: &Fetch) -> Vec<FactReply> {
        let mut newest: BTreeMap<(String, String), ((u32, u64), FactReply)> = BTreeMap::new();
        for fence in &fetch.fences {
            for seen in world.read(&fence.topic) {
                if seen.lane != lane || seen.offset >= fence.offset {
                    continue;
                }
                let Some(seal) = seen.header(headers::SEAL) else {
                    continue;
                };
                let Ok(parsed) = mz_seal::SourceSeal::parse(seal) else {
                    continue;
                };
                let value = seen.value.clone().unwrap();
                let dataset = world.contract.dataset(parsed.meta.dataset).unwrap();
                let mut spans = Vec::new();
                if dataset.layout.spans(&value[5..], &mut spans).is_err() {
                    continue;
                }
                let subject = dataset
                    .layout
                    .read_string(dataset.subject_field, &value[5..], &spans)
                    .unwrap();
                if IdNumber::parse(subject).is_err() || world.tag(subject) != fetch.subject {
                    continue;
                }
                let version = (parsed.meta.epoch, parsed.meta.counter);
                let reply = FactReply {
                    grant: fetch.grant,
                    attempt: fetch.attempt,
                    subject: fetch.subject,
                    body: FactBody::Fact(StoredFact {
                        dataset: dataset.id.clone(),
                        source_offset: seen.offset,
                        value: value.clone(),
                        seal: seal.to_vec(),
                        ce_id: parsed.meta.ce_id,
                    }),
                };
                let of = (dataset.id.clone(), parsed.record.to_owned());
                let known = newest.entry(of).or_insert((version, reply.clone()));
                if known.0 < version {
                    *known = (version, reply);
                }
            }
        }
        newest.into_values().map(|(_, reply)| reply).collect()
    }

    pub fn send(world: &World, lane: u16, replies: &[FactReply]) {
        let mut writer = Writer::open(world, "test-vault");
        for reply in replies {
            let value = reply.encode();
            writer.send(topics::FACTS, lane, &reply.subject.0, Some(&value), &[]);
        }
        writer.commit();
    }

    pub fn done(fetch: &Fetch, count: u64) -> FactReply {
        FactReply {
            grant: fetch.grant,
            attempt: fetch.attempt,
            subject: fetch.subject,
            body: FactBody::Done { count },
        }
    }

    /// Answers what was asked since the last call.
    pub fn serve(&mut self, world: &World) {
        for (lane, fetch) in Self::fetches(world) {
            if self.answered.insert((fetch.grant, fetch.attempt)) {
                let mut replies = Self::facts(world, lane, &fetch);
                let count = replies.len() as u64;
                replies.push(Self::done(&fetch, count));
                Self::send(world, lane, &replies);
            }
        }
    }
}
