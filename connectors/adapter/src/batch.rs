//! What one database transaction will write: the newest version of each record, positions,
//! counts, refusals and oddities.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use mz_seal::Version;

use crate::check::{Key, MarkSeen, Outcome, Received, Row};
use crate::limits::COMPACTION_LAG;

/// What becomes of one record of a table.
#[derive(Debug)]
pub(crate) enum Fate {
    Row(Box<Row>),
    Withdrawn { version: Version, reason: String },
}

impl Fate {
    fn version(&self) -> Version {
        match self {
            Self::Row(row) => row.version,
            Self::Withdrawn { version, .. } => *version,
        }
    }
}

/// How far a topic and lane is read; in the database and, ahead of it, in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// -1 before the first record.
    pub next_offset: i64,
    pub last_sequence: u64,
}

/// What one transaction adds to a topic and lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub delivered: i64,
    pub withdrawn: i64,
    pub rejected: i64,
}

/// One topic and lane in a batch.
#[derive(Debug)]
pub(crate) struct LaneStep {
    pub target: usize,
    pub lane: i32,
    pub was: Position,
    pub now: Position,
    pub mark: Option<(u64, i64)>,
    pub counts: Counts,
}

/// What is odd about a delivery sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SequenceFault {
    /// Numbers that did not come.
    Gap,
    /// The same, but old enough that the topic may have dropped superseded records.
    Compacted,
    /// A number again.
    Repeat,
    /// The bus's signature over the number does not verify.
    MarkInvalid,
}

impl SequenceFault {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Compacted => "compacted",
            Self::Repeat => "repeat",
            Self::MarkInvalid => "mark_invalid",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SequenceRow {
    pub target: usize,
    pub lane: i32,
    pub offset: i64,
    pub kind: SequenceFault,
    pub first: u64,
    pub last: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reject {
    pub target: usize,
    pub lane: i32,
    pub offset: i64,
    pub code: &'static str,
}

/// When a record was written to the topic and when its register had changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub delivered_ms: i64,
    pub event_ms: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Per target, per record.
    pub tables: Vec<HashMap<Key, Fate>>,
    pub steps: HashMap<(usize, i32), LaneStep>,
    pub rejects: Vec<Reject>,
    pub sequences: Vec<SequenceRow>,
    pub times: Vec<Times>,
    pub records: usize,
    pub bytes: usize,
}

/// Where a record stood.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub target: usize,
    pub lane: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
}

impl Batch {
    pub fn new(targets: usize) -> Self {
        Self {
            tables: (0..targets).map(|_| HashMap::new()).collect(),
            ..Self::default()
        }
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds one record. `position` is where its lane stood before this batch.
    pub fn add(&mut self, place: Place, received: Received, position: Position, now_ms: i64) {
        self.records += 1;
        let step = self
            .steps
            .entry((place.target, place.lane))
            .or_insert_with(|| LaneStep {
                target: place.target,
                lane: place.lane,
                was: position,
                now: position,
                mark: None,
                counts: Counts::default(),
            });
        step.now.next_offset = place.offset + 1;
        step.counts.delivered += 1;
        let mut odd = |kind, first, last| {
            let Place {
                target,
                lane,
                offset,
                ..
            } = place;
            self.sequences.push(SequenceRow {
                target,
                lane,
                offset,
                kind,
                first,
                last,
            });
        };
        if let Some(sequence) = received.sequence {
            let expected = step.now.last_sequence + 1;
            if sequence > expected {
                let old =
                    now_ms.saturating_sub(place.timestamp_ms) > COMPACTION_LAG.as_millis() as i64;
                let kind = if old {
                    SequenceFault::Compacted
                } else {
                    SequenceFault::Gap
                };
                odd(kind, expected, sequence - 1);
            } else if sequence < expected {
                odd(SequenceFault::Repeat, sequence, sequence);
            }
            step.now.last_sequence = step.now.last_sequence.max(sequence);
            match received.mark {
                MarkSeen::None => {}
                MarkSeen::Valid { at_ms } => step.mark = Some((sequence, at_ms)),
                MarkSeen::Invalid => odd(SequenceFault::MarkInvalid, sequence, sequence),
            }
        }
        let (key, fate, event_ms) = match received.outcome {
            Outcome::Rejected(code) => {
                step.counts.rejected += 1;
                let Place {
                    target,
                    lane,
                    offset,
                    ..
                } = place;
                self.rejects.push(Reject {
                    target,
                    lane,
                    offset,
                    code,
                });
                return;
            }
            Outcome::Row(row) => {
                let (key, event_ms) = (row.key, row.event_ms);
                (key, Fate::Row(Box::new(row)), event_ms)
            }
            Outcome::Withdrawal {
                key,
                version,
                event_ms,
                reason,
            } => {
                step.counts.withdrawn += 1;
                (key, Fate::Withdrawn { version, reason }, event_ms)
            }
        };
        self.times.push(Times {
            delivered_ms: place.timestamp_ms,
            event_ms,
        });
        match self.tables[place.target].entry(key) {
            Entry::Vacant(free) => {
                free.insert(fate);
            }
            // A version that was there first stays: the same version says the same.
            Entry::Occupied(mut held) if fate.version() > held.get().version() => {
                held.insert(fate);
            }
            Entry::Occupied(_) => {}
        }
    }

    /// Everything in the lane is read up to `next_offset`, records or not.
    pub fn caught_up(&mut self, target: usize, lane: i32, next_offset: i64, position: Position) {
        let step = self
            .steps
            .entry((target, lane))
            .or_insert_with(|| LaneStep {
                target,
                lane,
                was: position,
                now: position,
                mark: None,
                counts: Counts::default(),
            });
        step.now.next_offset = step.now.next_offset.max(next_offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(counter: u64) -> Outcome {
        Outcome::Row(Row {
            key: [1; 32],
            version: Version { epoch: 1, counter },
            event_ms: 0,
            lane: 0,
            offset: 0,
            sequence: 0,
            audit_number: 0,
            proof: None,
            cells: Vec::new(),
        })
    }

    fn feed(batch: &mut Batch, offset: i64, sequence: u64, timestamp_ms: i64, outcome: Outcome) {
        let place = Place {
            target: 0,
            lane: 0,
            offset,
            timestamp_ms,
        };
        let received = Received {
            sequence: Some(sequence),
            mark: MarkSeen::None,
            outcome,
        };
        let start = Position {
            next_offset: 0,
            last_sequence: 0,
        };
        batch.add(place, received, start, 100_000_000);
    }

    #[test]
    fn the_newest_version_of_a_batch_wins_in_any_order() {
        let withdrawal = |counter| Outcome::Withdrawal {
            key: [1; 32],
            version: Version { epoch: 1, counter },
            event_ms: 0,
            reason: "X".into(),
        };
        let mut batch = Batch::new(1);
        feed(&mut batch, 0, 1, 100_000_000, row(5));
        feed(&mut batch, 1, 2, 100_000_000, withdrawal(7));
        feed(&mut batch, 2, 3, 100_000_000, row(6));
        assert!(
            matches!(batch.tables[0][&[1; 32]], Fate::Withdrawn { version, .. } if version.counter == 7)
        );
        feed(&mut batch, 3, 4, 100_000_000, row(8));
        assert!(matches!(&batch.tables[0][&[1; 32]], Fate::Row(row) if row.version.counter == 8));
        let step = &batch.steps[&(0, 0)];
        assert_eq!((step.now.next_offset, step.now.last_sequence), (4, 4));
        assert_eq!((step.counts.delivered, step.counts.withdrawn), (4, 1));
        assert!(batch.sequences.is_empty());
    }

    #[test]
    fn gaps_and_repeats_are_told_apart_from_compaction() {
        let mut batch = Batch::new(1);
        feed(&mut batch, 0, 3, 1, row(1));
        feed(&mut batch, 1, 9, 100_000_000, row(2));
        feed(&mut batch, 2, 5, 100_000_000, row(3));
        let seen: Vec<_> = batch
            .sequences
            .iter()
            .map(|row| (row.kind, row.first, row.last))
            .collect();
        assert_eq!(
            seen,
            [
                (SequenceFault::Compacted, 1, 2),
                (SequenceFault::Gap, 4, 8),
                (SequenceFault::Repeat, 5, 5),
            ]
        );
        assert_eq!(batch.steps[&(0, 0)].now.last_sequence, 9);
    }
}
