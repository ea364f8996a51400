//! Numbers that connectors gave to events which never came: the gateway keeps them, lane by lane, in its
//! newest record of `bus.state`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use mz_bus::{Polled, Position, Reader};
use mz_journal::{Record as _, State, topics};
use serde::{Deserialize, Serialize};

use crate::who_read::ScanError;

const POLL_RECORDS: usize = 1_024;
/// Longest wait for the next record.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The newest record is sought here first: each transaction writes one.
const TAIL_OFFSETS: i64 = 500;

/// Numbers of one stream in one lane, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    /// The department's stream.
    pub stream: String,
    pub epoch: u32,
    pub first: u64,
    pub last: u64,
}

/// What was read of the lanes so far.
#[derive(Default)]
pub struct Numbers(HashMap<u16, State>);

impl Numbers {
    /// Those of one dataset; `None`: no time was left to look.
    ///
    /// # Errors
    /// `bus.state` can't be read.
    pub fn of(
        &mut self,
        reader: &mut Reader,
        dataset: &str,
        lane: u16,
        until: Instant,
    ) -> Result<Option<Vec<Unseen>>, ScanError> {
        let state = match self.0.entry(lane) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => match newest(reader, lane, until)? {
                Some(state) => unread.insert(state),
                None => return Ok(None),
            },
        };
        let of_dataset = state.sequences.iter().filter_map(|sequence| {
            // <department>/<stream>/<dataset>
            let mut parts = sequence.stream.split('/').skip(1);
            let stream = parts.next()?;
            (parts.next() == Some(dataset)).then_some((stream, sequence))
        });
        let unseen = of_dataset.flat_map(|(stream, sequence)| {
            let ranges = sequence.missing.iter();
            ranges.map(move |&(first, last)| Unseen {
                stream: stream.to_owned(),
                epoch: sequence.epoch,
                first,
                last,
            })
        });
        Ok(Some(unseen.collect()))
    }
}

/// The gateway's newest record of a lane, an empty one where it has none.
fn newest(reader: &mut Reader, lane: u16, until: Instant) -> Result<Option<State>, ScanError> {
    let partition = i32::from(lane);
    let (low, high) = reader.watermarks(topics::STATE, partition)?;
    let key = topics::state_key(topics::SlotKind::Gateway, lane);
    let tail = low.max(high - TAIL_OFFSETS);
    for from in [tail, low] {
        let mut value: Option<Vec<u8>> = None;
        let mut ended = from >= high;
        if !ended {
            reader.assign(&[(topics::STATE, partition, Position::Offset(from))])?;
        }
        while !ended {
            if Instant::now() >= until {
                return Ok(None);
            }
            let handed = reader.poll(POLL_RECORDS, READ_TIMEOUT, |polled| match polled {
                Polled::Record(record) => {
                    if record.key == Some(&key[..]) {
                        value = record.value.map(<[u8]>::to_vec);
                    }
                    ended |= record.offset + 1 >= high;
                }
                Polled::Eof { .. } => ended = true,
            })?;
            if handed == 0 {
                return Err(ScanError::Stalled);
            }
        }
        if let Some(value) = value {
            // One that can't be read tells nothing: better unchecked than none.
            return Ok(State::decode(&value).ok());
        }
        if from == low {
            break;
        }
    }
    Ok(Some(State::default()))
}
