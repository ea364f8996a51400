//! Departments that publish: streams, sealed batches, and one example of each dataset.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use mz_contract::IdNumber;
use mz_journal::topics;
use mz_seal::testing::WireEvent;
use mz_seal::{Datum, Draft, Signer, encode, seal_batch};

use crate::world::*;

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
    /// When the register says it happened; now if not said.
    pub at_ms: Option<i64>,
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
                ce_time_ms: fact.at_ms.unwrap_or_else(now_ms),
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
        at_ms: None,
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
        at_ms: None,
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
        at_ms: None,
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
        at_ms: None,
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
        at_ms: None,
    }
}

/// What a clock says, in milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}
