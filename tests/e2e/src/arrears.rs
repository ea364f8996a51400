//! The insurance register as its connector publishes it: one pension record a person, with the months
//! in arrears changing all the time. What the union may hold follows from the newest.

use crate::install::Installation;
use crate::wait::good;
use mz_bus::{TxProducer, tuning};
use mz_contract::{Contract, Dataset, IdNumber, check_character};
use mz_journal::{Record as _, SourceStatus, SubjectTag, topics};
use mz_keys::public::KeyUse;
use mz_keys::{PlacementKey, RecordKey, SubjectKey, department_signer};
use mz_seal::{Datum, Draft, Signer, encode, frame, headers, seal_batch};
use std::sync::Arc;

/// Who publishes what.
const PROVIDER: &str = "hrss";
pub const DATASET: &str = "hrss.insurance.status.v1";
/// The register was read once, from its beginning.
pub const EPOCH: u32 = 1;

/// Somebody near retirement.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: IdNumber,
    pub lane: u16,
    pub tag: SubjectTag,
}

/// Made-up people with valid numbers, all of age.
pub fn people(it: &Installation, contract: &Contract, count: u64) -> Vec<Person> {
    let keys = it.keys();
    let placement = good("placement key", PlacementKey::load(&keys.placement_key()));
    let subject = good("subject key", SubjectKey::load(&keys.subject_key()));
    (0..count)
        .map(|number| {
            let (serial, day, month) = (number % 1_000, number / 1_000 % 28 + 1, 1 + number % 12);
            let mut text = format!("4419001968{month:02}{day:02}{serial:03}");
            let check = <&[u8; 17]>::try_from(text.as_bytes())
                .ok()
                .and_then(check_character);
            text.push(check.map_or('?', char::from));
            let id = good("identity number", IdNumber::parse(&text));
            Person {
                lane: placement.lane(&id, contract.lanes),
                tag: subject.tag(&id),
                id,
            }
        })
        .collect()
}

/// The newest record of one person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    pub counter: u64,
    pub months: i64,
}

/// The connector and what it has published last.
pub struct Register {
    contract: Arc<Contract>,
    people: Arc<Vec<Person>>,
    producer: TxProducer,
    signer: Box<dyn Signer>,
    records: RecordKey,
    batch: u64,
    counter: u64,
    sequences: Vec<u64>,
    pub newest: Vec<Newest>,
}

impl Register {
    pub fn open(it: &Installation, contract: &Arc<Contract>, people: &Arc<Vec<Person>>) -> Self {
        let keys = it.keys();
        let stream = stream(contract);
        let id = topics::connector_transactional_id(PROVIDER, &stream);
        let bus = it.bus(&format!("{PROVIDER}.connector"));
        let mut producer = good(
            "producer",
            TxProducer::open(&bus, &id, tuning::TRANSACTION_TIMEOUT),
        );
        good("producer", producer.init());
        Self {
            producer,
            signer: good(
                "seal key",
                department_signer(&keys, &it.contract_root(), PROVIDER, KeyUse::Seal),
            ),
            records: good("record key", RecordKey::load(&keys.record_key(PROVIDER))),
            batch: 0,
            counter: 0,
            sequences: vec![0; usize::from(contract.lanes)],
            newest: vec![Newest::default(); people.len()],
            contract: Arc::clone(contract),
            people: Arc::clone(people),
        }
    }

    /// Publishes what the register now says of some people, in one transaction.
    pub fn publish(&mut self, changes: &[(usize, i64)]) {
        let contract = Arc::clone(&self.contract);
        let Some(dataset) = contract.dataset(DATASET) else {
            panic!("no {DATASET} in the contract");
        };
        self.batch += 1;
        let drafts: Vec<Draft> = changes
            .iter()
            .map(|(person, months)| self.draft(dataset, *person, *months))
            .collect();
        let mut seeds = || good("random bytes", mz_keys::secret::random::<32>());
        let sealed = good(
            "sealing",
            seal_batch(
                &contract.bus_id,
                PROVIDER,
                &dataset.streams[0],
                EPOCH,
                self.batch,
                drafts,
                &mut seeds,
                &*self.signer,
            ),
        );
        good("transaction", self.producer.begin());
        for (event, (person, _)) in sealed.iter().zip(changes) {
            let value = frame(dataset.schema_id, &event.value);
            let ce = headers::cloud_event(&event.meta);
            let mut all: Vec<(&str, &[u8])> = ce
                .iter()
                .map(|(name, text)| (*name, text.as_bytes()))
                .collect();
            all.push((headers::SEAL, &event.seal));
            let id = &self.people[*person].id;
            // As the dataset names its records: person and insurance.
            let record = format!("{}|PENSION", id.as_str());
            let key = topics::source_key(
                self.records.subject_tag(id),
                self.records.record_tag(DATASET, &record),
            );
            let lane = i32::from(event.meta.lane);
            good(
                "publishing",
                self.producer
                    .send(&dataset.src_topic(), lane, &key, Some(&value), &all),
            );
        }
        self.status();
        good("transaction", self.producer.commit());
    }

    /// How complete the stream is, with the events that make it so.
    fn status(&mut self) {
        let now = chrono::Utc::now().timestamp_millis();
        let stream = stream(&self.contract);
        let status = SourceStatus {
            stream: stream.clone(),
            epoch: EPOCH,
            last_batch: self.batch,
            complete_to_ms: now,
            rejected: 0,
            at_ms: now,
        };
        let topic = topics::status(PROVIDER, &stream);
        good(
            "status",
            self.producer
                .send(&topic, 0, stream.as_bytes(), Some(&status.encode()), &[]),
        );
    }

    fn draft(&mut self, dataset: &Dataset, at: usize, months: i64) -> Draft {
        let person = &self.people[at];
        self.counter += 1;
        self.newest[at] = Newest {
            counter: self.counter,
            months,
        };
        let sequence = &mut self.sequences[usize::from(person.lane)];
        *sequence += 1;
        let text = |text: &str| Datum::Str(text.to_owned());
        let fields = [
            text(person.id.as_str()),
            text("测试人员"),
            Datum::Enum("PENSION".to_owned()),
            Datum::Enum("INSURED".to_owned()),
            Datum::Date(14_000),
            Datum::Date(18_000),
            Datum::Int(180),
            Datum::Int(12 - months.min(12)),
            text("91350100M000100Y43"),
            text("东莞市某某电子科技有限公司"),
            Datum::Int(months),
            text("441900"),
            Datum::Date(20_500),
        ];
        let value = good("encoding", encode(&dataset.layout, &fields));
        let mut spans = Vec::new();
        good("encoding", dataset.layout.spans(&value, &mut spans));
        Draft {
            dataset: dataset.id.clone(),
            lane: person.lane,
            sequence: *sequence,
            ce_id: event_id(self.counter),
            ce_time_ms: chrono::Utc::now().timestamp_millis(),
            schema: dataset.schema_digest,
            counter: self.counter,
            withdrawn: false,
            subject: person.id.as_str().to_owned(),
            record: good("record", dataset.record_of(&value, &spans)),
            spans,
            value,
        }
    }
}

fn stream(contract: &Contract) -> String {
    contract
        .dataset(DATASET)
        .map(|dataset| dataset.streams[0].clone())
        .unwrap_or_default()
}

/// A UUIDv7 of now that no other event of this register has.
fn event_id(counter: u64) -> [u8; 16] {
    let mut id = [0; 16];
    let now = chrono::Utc::now().timestamp_millis();
    id[..6].copy_from_slice(&now.to_be_bytes()[2..]);
    id[6] = 0x70;
    id[8..].copy_from_slice(&counter.to_be_bytes());
    id[8] = 0x80;
    id
}
