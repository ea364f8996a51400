//! A world for the adapter: the repository's contract with the shared stack's keys, its topics
//! and access rules under a prefix of their own, a fresh database, and a hand that writes
//! deliveries as the gateway does.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "test code; each test file uses a part"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mz_adapter::{Config, Options};
use mz_bus::admin::{Acl, Operation, Resource};
use mz_bus::plan::PlanOptions;
use mz_bus::{Admin, BusOptions, Isolation, Position, Reader, TlsFiles, TxProducer};
use mz_contract::{Contract, Dataset, Mode, Section};
use mz_journal::{DeliveryHeader, Mark, OrderId, Receipt, Record, Withdrawal, topics};
use mz_keys::public::KeyUse;
use mz_keys::{KeysDir, department_signer};
use mz_seal::{
    Datum, Draft, Expect, FieldSet, Signer, Verifier, encode, frame, headers, seal_batch,
};
use mz_stack::testing;
use sqlx::{Connection as _, PgConnection};

pub const AGREEMENT: &str = "police/talent-settlement";
pub const INSURANCE: &str = "hrss.insurance.status.v1";
pub const APPROVAL: &str = "hrss.talent.approval.v1";
pub const RIGHT: &str = "realestate.right.v1";
pub const ANSWER: &str = "answer.insured6of12.v1";

pub struct World {
    pub contract: Arc<Contract>,
    pub keys: KeysDir,
    pub prefix: String,
    pub database_url: String,
    pub folder: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let stack = testing::shared();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("contract");
        copy_tree(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas"),
            &root,
        );
        let keys = stack.keys();
        let departments = departments(&root);
        mz_keys::provision(keys.root(), &root, &departments).unwrap();
        for department in &departments {
            mz_keys::sign_approvals(&root, department, &keys).unwrap();
        }
        let contract = Arc::new(Contract::load(&root, Mode::Signed).unwrap());
        let world = Self {
            contract,
            keys,
            prefix: testing::prefix(),
            database_url: stack.database(),
            folder,
        };
        let admin = world.bus("bus.admin");
        let plan = mz_bus::plan::plan(&admin, &world.contract, &PlanOptions::default()).unwrap();
        mz_bus::plan::apply(&admin, &plan).unwrap();
        world
    }

    /// Gives the adapter the right to write receipts, or takes it. Returns when the broker lists it so:
    /// it acknowledges a change of rules before it obeys it.
    pub fn receipts_right(&self, given: bool) {
        let bus = self.bus("bus.admin");
        let name = format!("{}{}", bus.prefix, topics::RECEIPTS);
        let rule = Acl::grant("police.adapter", Resource::Topic, name, Operation::Write);
        let mut admin = Admin::connect(&bus).unwrap();
        let rules = [rule];
        if given {
            admin.create_acls(&rules).unwrap();
        } else {
            admin.delete_acls(&rules).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while admin.acls().unwrap().contains(&rules[0]) != given {
            assert!(Instant::now() < deadline, "the broker keeps the old rules");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The department's receipt key.
    pub fn receipt_signer(&self) -> Arc<dyn Signer> {
        receipt_signer(&self.keys, &self.contract_root())
    }

    /// Everything in `bus.receipts`, each under a signature that verifies with the contract's key.
    pub fn receipts(&self) -> Vec<Receipt> {
        let mut reader = Reader::open(&self.bus("bus.admin"), Isolation::Committed).unwrap();
        let lanes: Vec<_> = (0..i32::from(self.contract.lanes))
            .map(|lane| (topics::RECEIPTS, lane, Position::Beginning))
            .collect();
        reader.assign(&lanes).unwrap();
        let mut all = Vec::new();
        reader
            .poll_to_end(Duration::from_secs(30), |record| {
                let receipt = Receipt::decode(record.value.unwrap()).unwrap();
                assert_eq!(record.key.unwrap(), receipt.order.as_bytes());
                assert_eq!(record.partition, i32::from(receipt.lane));
                assert_eq!(receipt.agreement, AGREEMENT);
                let key = self
                    .contract
                    .key("police", mz_contract::KeyUse::Receipt, &receipt.key_id)
                    .unwrap();
                mz_seal::verify_signature(&key.info.public, &receipt.payload(), &receipt.signature)
                    .unwrap();
                all.push(receipt);
            })
            .unwrap();
        all
    }

    pub fn bus(&self, principal: &str) -> BusOptions {
        let parts = testing::shared().bus(principal);
        BusOptions {
            bootstrap: parts.bootstrap,
            prefix: self.prefix.clone(),
            tls: Some(TlsFiles {
                ca: parts.ca,
                cert: parts.cert,
                key: parts.key,
            }),
            client_id: principal.to_owned(),
        }
    }

    pub fn contract_root(&self) -> PathBuf {
        self.folder.path().join("contract")
    }

    pub fn config(&self, more: &str) -> Config {
        Config::parse(&format!(
            "consumer: police\npurpose: talent-settlement\n{more}"
        ))
        .unwrap()
    }

    pub fn options(&self, more: &str) -> Options {
        let config = self.config(more);
        let bus = self.bus(&config.principal());
        let mut options = Options::new(
            bus,
            Arc::clone(&self.contract),
            config,
            Some(&self.database_url),
        )
        .unwrap();
        options.receipt_signer = Some(self.receipt_signer());
        options.once = true;
        options
    }

    pub fn gateway(&self) -> Gateway<'_> {
        Gateway::new(self)
    }

    /// One value of the adapter's schema; `sql` names tables without schema.
    pub fn ask<T>(&self, sql: &'static str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        self.block(async |connection| sqlx::query_scalar(sql).fetch_one(connection).await.unwrap())
    }

    pub fn rows(&self, sql: &'static str) -> Vec<sqlx::postgres::PgRow> {
        self.block(async |connection| sqlx::query(sql).fetch_all(connection).await.unwrap())
    }

    pub fn execute(&self, sql: &'static str) {
        self.block(async |connection| {
            sqlx::raw_sql(sql).execute(connection).await.unwrap();
        });
    }

    fn block<T>(&self, work: impl AsyncFnOnce(&mut PgConnection) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let options: sqlx::postgres::PgConnectOptions = self.database_url.parse().unwrap();
            let options = options.options([("search_path", "police_talent_settlement")]);
            let mut connection = PgConnection::connect_with(&options).await.unwrap();
            work(&mut connection).await
        })
    }
}

pub fn receipt_signer(keys: &KeysDir, contract_root: &Path) -> Arc<dyn Signer> {
    department_signer(keys, contract_root, "police", KeyUse::Receipt)
        .unwrap()
        .into()
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            copy_tree(&path, &to.join(name));
        } else if path
            .extension()
            .is_some_and(|end| end == "yaml" || end == "avsc")
        {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

pub fn encoded(record: &impl Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode_into(&mut bytes);
    bytes
}

pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
}

/// One record before it is delivered.
#[derive(Clone)]
pub struct Fact {
    pub dataset: &'static str,
    pub person: u32,
    pub record: u32,
    pub counter: u64,
    pub epoch: u32,
    pub withdrawn: bool,
    /// A number that shows in the table.
    pub number: i64,
    /// Text that shows in the table.
    pub text: String,
}

impl Fact {
    pub fn insurance(person: u32, counter: u64) -> Self {
        Self {
            dataset: INSURANCE,
            person,
            record: 0,
            counter,
            epoch: 1,
            withdrawn: false,
            number: counter as i64,
            text: String::new(),
        }
    }

    pub fn of(dataset: &'static str, person: u32, counter: u64, text: &str) -> Self {
        Self {
            dataset,
            text: text.to_owned(),
            ..Self::insurance(person, counter)
        }
    }

    pub fn withdrawn(self) -> Self {
        Self {
            withdrawn: true,
            ..self
        }
    }

    pub fn key(&self) -> [u8; 32] {
        let mut key = [0xab; 32];
        key[..4].copy_from_slice(&self.person.to_be_bytes());
        key[16..20].copy_from_slice(&self.record.to_be_bytes());
        key
    }

    pub fn id_no(&self) -> String {
        format!("44190019800101{:04}", self.person)
    }

    pub fn lane(&self, lanes: u16) -> u16 {
        (self.person % u32::from(lanes)) as u16
    }

    fn fields(&self) -> Vec<Datum> {
        let id = Datum::Str(self.id_no());
        let name = Datum::Str("张三".into());
        match self.dataset {
            INSURANCE => vec![
                id,
                name,
                Datum::Enum("PENSION".into()),
                Datum::Enum("INSURED".into()),
                Datum::Date(16_801),
                Datum::Null,
                Datum::Int(self.number),
                Datum::Int(7),
                Datum::Null,
                Datum::Str("WITHHELD-EMPLOYER".into()),
                Datum::Int(0),
                Datum::Str("441900".into()),
                Datum::Date(20_485),
            ],
            APPROVAL => vec![
                id,
                name,
                Datum::Str(self.text.clone()),
                Datum::Enum("TITLE".into()),
                Datum::Enum("INSTANT".into()),
                Datum::Str("WITHHELD-SCHOOL".into()),
                Datum::Null,
                Datum::Null,
                Datum::Array(vec![Datum::Record(vec![
                    ("idNo".into(), Datum::Str("440524188001010014".into())),
                    ("name".into(), Datum::Str("李四".into())),
                    ("relation".into(), Datum::Enum("SPOUSE".into())),
                ])]),
                Datum::Date(20_400),
                Datum::Date(20_765),
                Datum::Enum("APPROVED".into()),
            ],
            RIGHT => vec![
                id,
                name,
                Datum::Str(self.text.clone()),
                Datum::Int(1),
                Datum::Str("WITHHELD-UNIT".into()),
                Datum::Enum("SOLE".into()),
                Datum::Null,
                Datum::Int(1),
                Datum::Str("东莞市某路1号".into()),
                Datum::Enum("DWELLING_UNIT".into()),
                Datum::Decimal {
                    unscaled: 8950,
                    scale: 2,
                },
                Datum::Date(16_000),
                Datum::Bool(true),
                Datum::Bool(false),
                Datum::Enum("CURRENT".into()),
            ],
            other => panic!("no facts of {other}"),
        }
    }
}

/// A record on its way into a delivery topic.
#[derive(Clone)]
pub struct Outgoing {
    pub topic: String,
    pub lane: u16,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub delivery: DeliveryHeader,
}

/// Writes deliveries as the gateway does: verified, projected, redacted, numbered.
pub struct Gateway<'w> {
    pub world: &'w World,
    pub producer: TxProducer,
    sequences: HashMap<(String, u16), u64>,
    batches: u64,
    streams: HashMap<(String, u16), u64>,
    bus_signer: Box<dyn Signer>,
    signers: HashMap<String, Box<dyn Signer>>,
}

impl<'w> Gateway<'w> {
    fn new(world: &'w World) -> Self {
        let root = world.contract_root();
        let signer =
            |owner: &str| department_signer(&world.keys, &root, owner, KeyUse::Seal).unwrap();
        let mut producer = TxProducer::open(
            &world.bus("bus.admin"),
            "test-gateway",
            Duration::from_secs(10),
        )
        .unwrap();
        producer.init().unwrap();
        Self {
            producer,
            sequences: HashMap::new(),
            batches: 0,
            streams: HashMap::new(),
            bus_signer: signer("bus"),
            signers: ["hrss", "realestate"]
                .map(|owner| (owner.to_owned(), signer(owner)))
                .into(),
            world,
        }
    }

    fn section(&self, dataset: &Dataset) -> &'w Section {
        let world: &'w World = self.world;
        let agreement = world.contract.agreement(AGREEMENT).unwrap();
        agreement
            .sections
            .iter()
            .find(|section| section.dataset_ix == dataset.ix)
            .unwrap()
    }

    /// Next delivery number of a topic and lane.
    pub fn number(&mut self, topic: &str, lane: u16) -> u64 {
        let last = self.sequences.entry((topic.to_owned(), lane)).or_default();
        *last += 1;
        *last
    }

    /// Leaves numbers out.
    pub fn skip(&mut self, topic: &str, lane: u16, count: u64) {
        *self.sequences.entry((topic.to_owned(), lane)).or_default() += count;
    }

    pub fn topic(&self, dataset: &str) -> String {
        self.section(self.world.contract.dataset(dataset).unwrap())
            .out_topic
            .clone()
    }

    /// Seals facts of one dataset as one batch and makes deliveries of them.
    pub fn deliveries(&mut self, facts: &[Fact]) -> Vec<Outgoing> {
        let contract = Arc::clone(&self.world.contract);
        let dataset = contract.dataset(facts[0].dataset).unwrap();
        let stream = dataset.streams[0].clone();
        self.batches += 1;
        let drafts = facts
            .iter()
            .map(|fact| {
                let value = encode(&dataset.layout, &fact.fields()).unwrap();
                let mut spans = Vec::new();
                dataset.layout.spans(&value, &mut spans).unwrap();
                let lane = fact.lane(contract.lanes);
                let sequence = self.streams.entry((dataset.id.clone(), lane)).or_default();
                *sequence += 1;
                let mut ce_id = [7; 16];
                ce_id[..4].copy_from_slice(&fact.person.to_be_bytes());
                Draft {
                    dataset: dataset.id.clone(),
                    lane,
                    sequence: *sequence,
                    ce_id,
                    ce_time_ms: now_ms(),
                    schema: dataset.schema_digest,
                    counter: fact.counter,
                    withdrawn: fact.withdrawn,
                    subject: fact.id_no(),
                    record: dataset.record_of(&value, &spans).unwrap(),
                    value,
                    spans,
                }
            })
            .collect();
        let signer = &self.signers[&dataset.department];
        let sealed = seal_batch(
            &contract.bus_id,
            &dataset.department,
            &stream,
            facts[0].epoch,
            self.batches,
            drafts,
            &mut rand::random,
            &**signer,
        )
        .unwrap();
        let section = self.section(dataset);
        let mut verifier = Verifier::new();
        facts
            .iter()
            .zip(sealed)
            .map(|(fact, event)| {
                let lane = fact.lane(contract.lanes);
                let expect = Expect {
                    bus: &contract.bus_id,
                    dataset: &dataset.id,
                    department: &dataset.department,
                    streams: &dataset.streams,
                    lane,
                    layout: &dataset.layout,
                    schema_digest: &dataset.schema_digest,
                    subject_field: dataset.subject_field,
                };
                let verified = verifier
                    .verify_source(&expect, &event.value, &event.seal, &*contract)
                    .unwrap();
                let mut headers: Vec<(String, Vec<u8>)> = headers::cloud_event(&verified.meta)
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.into_bytes()))
                    .collect();
                let mut seal = Vec::new();
                let value = if fact.withdrawn {
                    verified.redact(&FieldSet::default(), false, false, &mut seal);
                    headers.push(("mz-reason".into(), b"WITHDRAWN_BY_SOURCE".to_vec()));
                    None
                } else {
                    verified.redact(
                        &section.field_set,
                        section.disclose_subject,
                        section.disclose_record,
                        &mut seal,
                    );
                    let mut value = frame(section.schema_id, &[]);
                    verified.project(&section.fields, &mut value);
                    Some(value)
                };
                headers.push(("mz-seal".into(), seal));
                self.outgoing(&section.out_topic, lane, fact.key(), value, headers)
            })
            .collect()
    }

    fn outgoing(
        &mut self,
        topic: &str,
        lane: u16,
        key: [u8; 32],
        value: Option<Vec<u8>>,
        headers: Vec<(String, Vec<u8>)>,
    ) -> Outgoing {
        let sequence = self.number(topic, lane);
        Outgoing {
            topic: topic.to_owned(),
            lane,
            key: key.to_vec(),
            value,
            headers,
            delivery: DeliveryHeader {
                agreement: AGREEMENT.into(),
                contract: self.world.contract.digest,
                audit_lane: lane,
                audit_number: 1000 + sequence,
                sequence,
                mark: None,
            },
        }
    }

    /// An answer about a fact, sealed by the bus.
    pub fn answer(&mut self, fact: &Fact, value: bool) -> Outgoing {
        let contract = Arc::clone(&self.world.contract);
        let dataset = contract.dataset(INSURANCE).unwrap();
        let answer = &self.section(dataset).answers[0];
        let lane = fact.lane(contract.lanes);
        let datum = encode(
            &answer.layout,
            &[
                Datum::Bool(value),
                Datum::TimestampMillis(1_740_787_200_123),
                Datum::Str(INSURANCE.into()),
                Datum::Bytes(vec![9; 32]),
            ],
        )
        .unwrap();
        let mut spans = Vec::new();
        answer.layout.spans(&datum, &mut spans).unwrap();
        self.batches += 1;
        let draft = Draft {
            dataset: format!("police.talent-settlement.{ANSWER}"),
            lane,
            sequence: fact.counter,
            ce_id: [3; 16],
            ce_time_ms: now_ms(),
            schema: mz_seal::schema_digest(answer.avsc.as_bytes()),
            counter: fact.counter,
            withdrawn: false,
            subject: INSURANCE.into(),
            record: fact
                .key()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            value: datum,
            spans,
        };
        let sealed = seal_batch(
            &contract.bus_id,
            "bus",
            &format!("answers.{lane}"),
            1,
            self.batches,
            vec![draft],
            &mut rand::random,
            &*self.bus_signer,
        )
        .unwrap();
        let event = &sealed[0];
        let mut headers: Vec<(String, Vec<u8>)> = headers::cloud_event(&event.meta)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into_bytes()))
            .collect();
        headers.push(("mz-seal".into(), event.seal.clone()));
        let value = frame(answer.schema_id, &event.value);
        let topic = answer.out_topic.clone();
        self.outgoing(&topic, lane, fact.key(), Some(value), headers)
    }

    /// A withdrawal by the bus: what it orders for this fact's key, up to the fact's version.
    pub fn withdrawal(&mut self, fact: &Fact, order: u64) -> Outgoing {
        let topic = self.topic(fact.dataset);
        self.withdrawal_on(&topic, fact, order)
    }

    pub fn withdrawal_on(&mut self, topic: &str, fact: &Fact, order: u64) -> Outgoing {
        let lane = fact.lane(self.world.contract.lanes);
        let mut id = [0x0d; 16];
        id[8..].copy_from_slice(&order.to_be_bytes());
        let mut word = Withdrawal {
            order: OrderId(id),
            reason: "CONSENT_REVOKED".into(),
            epoch: fact.epoch,
            counter: fact.counter,
            at_ms: now_ms(),
            key_id: self.bus_signer.key_id().to_owned(),
            signature: [0; 64],
        };
        word.signature = self
            .bus_signer
            .sign(&word.payload(topic, lane, &fact.key()))
            .unwrap();
        let headers = vec![
            ("ce_source".into(), b"/bus/withdrawals".to_vec()),
            ("mz-reason".into(), word.reason.clone().into_bytes()),
            (mz_journal::WITHDRAWAL_HEADER.into(), encoded(&word)),
        ];
        self.outgoing(topic, lane, fact.key(), None, headers)
    }

    /// Withdraws what these facts delivered.
    pub fn withdraw(&mut self, facts: &[Fact], first_order: u64) {
        let records: Vec<_> = facts
            .iter()
            .zip(first_order..)
            .map(|(fact, order)| self.withdrawal(fact, order))
            .collect();
        self.send(&records);
    }

    /// Puts the bus's signature on a delivery.
    pub fn mark(&self, out: &mut Outgoing) {
        let at_ms = now_ms();
        let payload =
            DeliveryHeader::mark_payload(&out.topic, out.lane, out.delivery.sequence, at_ms);
        let signature = self.bus_signer.sign(&payload).unwrap();
        out.delivery.mark = Some(Mark {
            at_ms,
            signature,
            key_id: self.bus_signer.key_id().to_owned(),
        });
    }

    /// Writes records in one transaction.
    pub fn send(&mut self, records: &[Outgoing]) {
        self.producer.begin().unwrap();
        for out in records {
            let mut delivery = Vec::new();
            out.delivery.encode_into(&mut delivery);
            let mut listed: Vec<(&str, &[u8])> = out
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_slice()))
                .collect();
            listed.push(("mz-delivery", &delivery));
            self.producer
                .send(
                    &out.topic,
                    i32::from(out.lane),
                    &out.key,
                    out.value.as_deref(),
                    &listed,
                )
                .unwrap();
        }
        self.producer.commit().unwrap();
    }

    /// Writes records of a transaction that aborts: no committed reader may see them.
    pub fn send_aborted(&mut self, records: &[Outgoing]) {
        self.producer.begin().unwrap();
        for out in records {
            let mut delivery = Vec::new();
            out.delivery.encode_into(&mut delivery);
            self.producer
                .send(
                    &out.topic,
                    i32::from(out.lane),
                    &out.key,
                    out.value.as_deref(),
                    &[("mz-delivery", &delivery)],
                )
                .unwrap();
        }
        // An abort drops what was not sent yet: wait until the brokers have the records.
        for out in records {
            let mut reader =
                Reader::open(&self.world.bus("bus.admin"), Isolation::Uncommitted).unwrap();
            reader
                .assign(&[(&out.topic, i32::from(out.lane), Position::Beginning)])
                .unwrap();
            let mut seen = false;
            while !seen {
                self.producer.serve();
                reader
                    .poll(1, Duration::from_millis(20), |polled| {
                        seen |= matches!(polled, mz_bus::Polled::Record(_))
                    })
                    .unwrap();
            }
        }
        self.producer.abort().unwrap();
    }

    /// Seals, delivers and sends.
    pub fn deliver(&mut self, facts: &[Fact]) {
        let records = self.deliveries(facts);
        self.send(&records);
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
