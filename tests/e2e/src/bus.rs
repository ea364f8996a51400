//! Whole topics in memory, as readers of committed or of uncommitted data see them.

use mz_bus::{BusError, BusOptions, Isolation, Position, Reader};
use mz_journal::{DELIVERY_HEADER, DeliveryHeader, Record as _};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// One record, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Vec<u8>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Owned {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_slice())
    }

    /// The delivery header, on `to.*`.
    pub fn delivery(&self) -> Option<DeliveryHeader> {
        DeliveryHeader::decode(self.header(DELIVERY_HEADER)?).ok()
    }

    /// Every byte of the record: key, value, header names and values.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.key.clone();
        all.extend_from_slice(self.value.as_deref().unwrap_or_default());
        for (name, value) in &self.headers {
            all.extend_from_slice(name.as_bytes());
            all.extend_from_slice(value);
        }
        all
    }
}

/// Reads `partitions` partitions of a topic from the beginning to the end that is there now.
pub fn read_topic(
    bus: &BusOptions,
    topic: &str,
    partitions: u16,
    isolation: Isolation,
) -> Result<Vec<Owned>, BusError> {
    let mut records = Vec::new();
    each_record(bus, topic, partitions, isolation, |record| {
        records.push(record);
    })?;
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// The same, one at a time: for topics that are too big to hold. Order holds within a partition.
pub fn each_record(
    bus: &BusOptions,
    topic: &str,
    partitions: u16,
    isolation: Isolation,
    mut each: impl FnMut(Owned),
) -> Result<(), BusError> {
    let mut reader = Reader::open(bus, isolation)?;
    let assignment: Vec<(&str, i32, Position)> = (0..i32::from(partitions))
        .map(|partition| (topic, partition, Position::Beginning))
        .collect();
    reader.assign(&assignment)?;
    reader.poll_to_end(PATIENCE, |record| {
        each(Owned {
            topic: record.topic.to_owned(),
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.unwrap_or_default().to_vec(),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers()
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_vec()))
                .collect(),
        });
    })
}

/// Whether the text stands anywhere in the bytes.
pub fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|part| part == needle.as_bytes())
}

/// Records that readers of committed data see in a topic, by count.
pub fn count(bus: &BusOptions, topic: &str, partitions: u16) -> Result<u64, BusError> {
    let mut count = 0;
    each_record(bus, topic, partitions, Isolation::Committed, |_| count += 1)?;
    Ok(count)
}
