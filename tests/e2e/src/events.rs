//! Every committed source event, opened and verified again by the tests themselves.

use crate::bus::{Owned, each_record};
use mz_bus::{BusOptions, Isolation};
use mz_contract::{Contract, Dataset};
use mz_seal::{Expect, Verifier, Version, headers, unframe};
use std::collections::HashMap;

/// What one source event says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub lane: u16,
    pub offset: i64,
    /// The department's tags of person and record.
    pub key: Vec<u8>,
    pub stream: String,
    pub sequence: u64,
    pub version: Version,
    pub withdrawn: bool,
    pub subject: String,
    pub record: String,
    /// Framed Avro record, as on the topic.
    pub value: Vec<u8>,
}

/// Why a record of a source topic is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub lane: i32,
    pub offset: i64,
    pub code: &'static str,
}

/// The events of one dataset, and what is not one.
#[derive(Clone, Debug, Default)]
pub struct Events {
    pub good: Vec<Event>,
    pub refused: Vec<Refused>,
}

impl Events {
    /// Reads and verifies a dataset's source topic.
    pub fn read(
        bus: &BusOptions,
        contract: &Contract,
        dataset: &Dataset,
    ) -> Result<Self, mz_bus::BusError> {
        let mut events = Self::default();
        let mut verifier = Verifier::new();
        each_record(
            bus,
            &dataset.src_topic(),
            contract.lanes,
            Isolation::Committed,
            |record| match open(&mut verifier, contract, dataset, &record) {
                Ok(event) => events.good.push(event),
                Err(code) => events.refused.push(Refused {
                    lane: record.partition,
                    offset: record.offset,
                    code,
                }),
            },
        )?;
        events.good.sort_by_key(|event| (event.lane, event.offset));
        Ok(events)
    }

    /// The newest version of each record, by the record's key.
    pub fn newest(&self) -> HashMap<&[u8], &Event> {
        let mut newest: HashMap<&[u8], &Event> = HashMap::new();
        for event in &self.good {
            let held = newest.entry(&event.key).or_insert(event);
            if event.version > held.version {
                *held = event;
            }
        }
        newest
    }
}

fn open(
    verifier: &mut Verifier,
    contract: &Contract,
    dataset: &Dataset,
    record: &Owned,
) -> Result<Event, &'static str> {
    let lane = u16::try_from(record.partition).map_err(|_| "LANE_WRONG")?;
    let value = record.value.as_deref().ok_or("NO_VALUE")?;
    let (schema, datum) = unframe(value).map_err(|fault| fault.code())?;
    if schema != dataset.schema_id {
        return Err("SCHEMA_UNKNOWN");
    }
    let seal = record.header(headers::SEAL).ok_or("NO_SEAL")?;
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
        .verify_source(&expect, datum, seal, contract)
        .map_err(|fault| fault.code())?;
    let event = Event {
        lane,
        offset: record.offset,
        key: record.key.clone(),
        stream: verified.meta.stream.to_owned(),
        sequence: verified.meta.sequence,
        version: verified.meta.version(),
        withdrawn: verified.meta.withdrawn,
        subject: verified.subject.to_owned(),
        record: verified.record.to_owned(),
        value: value.to_vec(),
    };
    verifier.recycle(verified);
    Ok(event)
}
