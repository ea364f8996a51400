//! The department's side: seals batches of insurance records as a connector does and publishes the
//! same bytes to whoever is measured. Order as in a register's export: five insurances a person.

use super::BenchError;
use super::world::{DATASET, PROVIDER, SOURCE, World};
use mz_bus::{PlainProducer, TxProducer};
use mz_contract::Dataset;
use mz_journal::topics;
use mz_seal::{Datum, Draft, SealedEvent, encode, frame, headers, seal_batch};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use std::time::{SystemTime, UNIX_EPOCH};

const TYPES: [&str; 5] = [
    "PENSION",
    "UNEMPLOYMENT",
    "MEDICAL",
    "WORK_INJURY",
    "MATERNITY",
];
/// Events under one signature when a backlog is written: a middling connector transaction.
pub(super) const BATCH: usize = 1_000;

/// One event as it goes to Kafka.
pub(super) struct Published {
    lane: i32,
    key: [u8; 32],
    value: Vec<u8>,
    headers: Vec<(&'static str, Vec<u8>)>,
}

impl Published {
    pub(super) fn lane(&self) -> u16 {
        u16::try_from(self.lane).unwrap_or_default()
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.value
    }

    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_slice())
    }
}

/// The stream `hrss/insurance`.
pub(super) struct Stream<'w> {
    world: &'w World,
    dataset: &'w Dataset,
    sequences: Vec<u64>,
    batch: u64,
    counter: u64,
    rng: StdRng,
    made: u64,
}

impl<'w> Stream<'w> {
    pub(super) fn new(world: &'w World) -> Result<Self, BenchError> {
        let missing = || BenchError::Contract("the dataset is not in the contract".to_owned());
        Ok(Self {
            world,
            dataset: world.contract.dataset(DATASET).ok_or_else(missing)?,
            sequences: vec![0; usize::from(world.contract.lanes)],
            batch: 0,
            counter: 0,
            rng: StdRng::seed_from_u64(20_260_101),
            made: 0,
        })
    }

    /// Seals the next `count` events as one batch. Each `ce_id` says when.
    pub(super) fn batch(&mut self, count: usize) -> Result<Vec<Published>, BenchError> {
        let people = self.world.people.len() as u64;
        let places: Vec<(usize, usize)> = (self.made..)
            .take(count)
            .map(|number| {
                let kind = usize::try_from(number % 5).unwrap_or_default();
                let person = usize::try_from(number / 5 % people).unwrap_or_default();
                (person, kind)
            })
            .collect();
        self.batch_about(&places)
    }

    /// The same about these people and insurances.
    pub(super) fn batch_about(
        &mut self,
        places: &[(usize, usize)],
    ) -> Result<Vec<Published>, BenchError> {
        let count = places.len();
        let (mut drafts, mut keys) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (person, kind) in places {
            let (draft, key) = self.draft(*person, *kind)?;
            drafts.push(draft);
            keys.push(key);
        }
        self.batch += 1;
        let rng = &mut self.rng;
        let mut seeds = || {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            seed
        };
        let sealed = seal_batch(
            &self.world.contract.bus_id,
            PROVIDER,
            &self.dataset.streams[0],
            1,
            self.batch,
            drafts,
            &mut seeds,
            &*self.world.signer,
        )?;
        let schema_id = self.dataset.schema_id;
        Ok(sealed
            .into_iter()
            .zip(keys)
            .map(|(event, key)| published(event, key, schema_id))
            .collect())
    }

    fn draft(&mut self, at: usize, kind: usize) -> Result<(Draft, [u8; 32]), BenchError> {
        let people = self.world.people.len() as u64;
        let pass = i64::try_from(self.made / 5 / people).unwrap_or_default();
        let person = &self.world.people[at];
        self.made += 1;
        self.counter += 1;
        let sequence = &mut self.sequences[usize::from(person.lane)];
        *sequence += 1;
        let text = |text: &str| Datum::Str(text.to_owned());
        let fields = [
            Datum::Str(person.id.clone()),
            text("测试人员"),
            Datum::Enum(TYPES[kind].to_owned()),
            Datum::Enum("INSURED".to_owned()),
            Datum::Date(14_000),
            Datum::Date(18_000),
            Datum::Int(100 + pass),
            Datum::Int(12),
            text("91350100M000100Y43"),
            text("东莞市某某电子科技有限公司"),
            Datum::Int(0),
            text("441900"),
            Datum::Date(20_500),
        ];
        let layout = &self.dataset.layout;
        let value = encode(layout, &fields)?;
        let mut spans = Vec::new();
        layout.spans(&value, &mut spans)?;
        let record = format!("{}|{}", person.id, TYPES[kind]);
        let tag = self.world.record_key.record_tag(DATASET, &record);
        let draft = Draft {
            dataset: DATASET.to_owned(),
            lane: person.lane,
            sequence: *sequence,
            ce_id: stamp(),
            ce_time_ms: now_us() / 1_000,
            schema: self.dataset.schema_digest,
            counter: self.counter,
            withdrawn: false,
            subject: person.id.clone(),
            record,
            value,
            spans,
        };
        Ok((draft, topics::source_key(person.key, tag)))
    }
}

fn published(event: SealedEvent, key: [u8; 32], schema_id: u32) -> Published {
    let mut pairs: Vec<(&'static str, Vec<u8>)> = headers::cloud_event(&event.meta)
        .into_iter()
        .map(|(name, value)| (name, value.into_bytes()))
        .collect();
    pairs.push((headers::SEAL, event.seal));
    Published {
        lane: i32::from(event.meta.lane),
        key,
        value: frame(schema_id, &event.value),
        headers: pairs,
    }
}

/// Writes a batch in one transaction.
pub(super) fn write(producer: &mut TxProducer, batch: &[Published]) -> Result<(), BenchError> {
    producer.begin()?;
    for event in batch {
        let pairs: Vec<(&str, &[u8])> = event
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_slice()))
            .collect();
        producer.send(SOURCE, event.lane, &event.key, Some(&event.value), &pairs)?;
        producer.serve();
    }
    producer.commit()?;
    Ok(())
}

/// Writes a batch at once: publishing is over when the broker has it.
pub(super) fn write_plain(
    producer: &mut PlainProducer,
    batch: &[Published],
) -> Result<(), BenchError> {
    for event in batch {
        let pairs: Vec<(&str, &[u8])> = event
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_slice()))
            .collect();
        producer.send(SOURCE, event.lane, &event.key, Some(&event.value), &pairs)?;
    }
    producer.serve();
    Ok(())
}

pub(super) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}

/// A UUIDv7 of this microsecond: milliseconds, then the rest of them as `rand_a`.
fn stamp() -> [u8; 16] {
    let us = now_us();
    let (ms, rest) = ((us / 1_000).to_be_bytes(), (us % 1_000) as u16);
    let mut id = [0; 16];
    id[..6].copy_from_slice(&ms[2..]);
    id[6..8].copy_from_slice(&(0x7000 | rest).to_be_bytes());
    id[8] = 0x80;
    id
}

/// The microsecond in a `ce_id` header made by [`stamp`].
pub(super) fn stamped_us(ce_id: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(ce_id).ok()?;
    let ms = i64::from_str_radix(text.get(0..8)?, 16).ok()? << 16
        | i64::from_str_radix(text.get(9..13)?, 16).ok()?;
    let rest = i64::from_str_radix(text.get(15..18)?, 16).ok()?;
    Some(ms * 1_000 + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back() {
        let (before, id) = (now_us(), stamp());
        let text = mz_seal::uuid_text(&id);
        let stamped = stamped_us(text.as_ref()).unwrap();
        assert!((before..=now_us()).contains(&stamped), "{before} {stamped}");
    }
}
