//! How complete each source is, from `status.<department>.<stream>`: what lets the vault say
//! "none" instead of "nobody knows".

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use mz_bus::{BusError, BusOptions, Isolation, Polled, Position, Reader};
use mz_contract::{Contract, Dataset};
use mz_journal::{Record as _, SourceStatus, topics};

/// Longest wait for a status record before looking at `stop` again.
const POLL: Duration = Duration::from_millis(100);
const MAX_RECORDS: usize = 1_024;

/// What a source says of itself at one moment. Cheap to copy into each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completeness {
    /// Everything that the register knew by then is published; 0 when it never said.
    pub complete_to_ms: i64,
    /// Rows of the register that its connector could not read in its last pass.
    pub rejected: u64,
}

impl Completeness {
    /// Whether the source has fallen behind by more than its contract allows.
    pub fn is_stale(self, stale_after_s: u64, now_ms: i64) -> bool {
        let allowed = i64::try_from(stale_after_s)
            .unwrap_or(i64::MAX)
            .saturating_mul(1000);
        self.complete_to_ms <= 0 || now_ms.saturating_sub(self.complete_to_ms) > allowed
    }
}

/// The latest status of every stream of the contract.
#[derive(Clone, Default)]
pub struct Freshness {
    streams: Arc<RwLock<BTreeMap<(String, String), Completeness>>>,
    loaded: Arc<AtomicBool>,
}

impl Freshness {
    /// How complete a dataset is: as complete as the least complete of its streams.
    pub fn of(&self, dataset: &Dataset) -> Completeness {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let statuses = dataset.streams.iter().map(|stream| {
            let key = (dataset.department.clone(), stream.clone());
            streams.get(&key).copied().unwrap_or_default()
        });
        let least = |a: Completeness, b: Completeness| Completeness {
            complete_to_ms: a.complete_to_ms.min(b.complete_to_ms),
            rejected: a.rejected.saturating_add(b.rejected),
        };
        statuses.reduce(least).unwrap_or_default()
    }

    /// Whether every status topic has been read to its end once.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Follows the status topics of one contract until `done`. Returns on errors that need a new reader.
    pub fn follow(
        &self,
        bus: &BusOptions,
        contract: &Contract,
        done: impl Fn() -> bool,
    ) -> Result<(), BusError> {
        let mut sources = BTreeMap::new();
        for dataset in &contract.datasets {
            for stream in &dataset.streams {
                let topic = topics::status(&dataset.department, stream);
                sources.insert(topic, (dataset.department.clone(), stream.clone()));
            }
        }
        let mut reader = Reader::open(bus, Isolation::Committed)?;
        let assignment: Vec<_> = sources
            .keys()
            .map(|topic| (topic.as_str(), 0, Position::Beginning))
            .collect();
        if assignment.is_empty() {
            self.loaded.store(true, Ordering::Release);
            while !done() {
                std::thread::sleep(POLL);
            }
            return Ok(());
        }
        reader.assign(&assignment)?;
        let mut unread: Vec<&str> = sources.keys().map(String::as_str).collect();
        while !done() {
            reader.poll(MAX_RECORDS, POLL, |polled| match polled {
                Polled::Record(record) => {
                    if let (Some(source), Some(value)) = (sources.get(record.topic), record.value) {
                        self.note(source, value);
                    }
                }
                Polled::Eof { topic, .. } => unread.retain(|t| *t != topic),
            })?;
            if unread.is_empty() {
                self.loaded.store(true, Ordering::Release);
            }
        }
        Ok(())
    }

    fn note(&self, source: &(String, String), value: &[u8]) {
        let status = match SourceStatus::decode(value) {
            Ok(status) if status.stream == source.1 => status,
            Ok(_) => {
                tracing::warn!(
                    department = source.0,
                    stream = source.1,
                    "status of another stream"
                );
                return;
            }
            Err(fault) => {
                tracing::warn!(department = source.0, stream = source.1, error = %fault, "status unreadable");
                return;
            }
        };
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        // The last word counts, also when it takes back an earlier one: a connector that starts
        // over after losing its checkpoint is not complete any more.
        streams.insert(
            source.clone(),
            Completeness {
                complete_to_ms: status.complete_to_ms,
                rejected: status.rejected,
            },
        );
    }
}
