//! What one database transaction will write: the newest version of each record, positions,
//! counts, refusals and oddities.

use std::collections::HashMap;

use mz_journal::OrderId;
use mz_seal::Version;

use crate::check::{Key, MarkSeen, Outcome, Received, Row};
use crate::limits::COMPACTION_LAG;

/// What becomes of one record of a table: rows and the register's own withdrawals. The newest
/// version wins, in any order.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    /// Newer than `ended`.
    pub row: Option<Box<Row>>,
    /// Stays although a newer row is there: an older version must not come back either when a
    /// withdrawal by the bus removes that row.
    pub ended: Option<Ended>,
}

impl Fate {
    /// A version that was there first stays: the same version says the same.
    fn take_row(&mut self, row: Row) {
        let newest = self
            .row
            .as_ref()
            .map(|row| row.version)
            .max(self.ended.as_ref().map(|ended| ended.version));
        if newest.is_none_or(|newest| row.version > newest) {
            self.row = Some(Box::new(row));
        }
    }

    fn take_end(&mut self, ended: Ended) {
        if self
            .row
            .as_ref()
            .is_some_and(|row| ended.version >= row.version)
        {
            self.row = None;
        }
        if self
            .ended
            .as_ref()
            .is_none_or(|held| ended.version > held.version)
        {
            self.ended = Some(ended);
        }
    }
}

/// A withdrawal: what must not be used any more, and where that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The bus's order. Without it the register itself took the record back.
    pub order: Option<OrderId>,
    pub version: Version,
    pub reason: String,
    pub lane: i32,
    pub offset: i64,
    pub sequence: i64,
}

/// One pass over a table: its fates, then the withdrawals by the bus that came after them.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub fates: HashMap<Key, Fate>,
    pub orders: HashMap<Key, Ended>,
}

/// A table in a batch. A withdrawal by the bus takes effect by its place in the lane: what follows
/// it for the same record is in a later round. There is one round as long as nothing follows.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub rounds: Vec<Round>,
    /// The round for what comes next of a record; 0 for those that are not here.
    next: HashMap<Key, usize>,
}

impl Table {
    fn round(&mut self, key: &Key) -> &mut Round {
        let at = self.next.get(key).copied().unwrap_or(0);
        while self.rounds.len() <= at {
            self.rounds.push(Round::default());
        }
        &mut self.rounds[at]
    }

    fn fate(&mut self, key: Key) -> &mut Fate {
        self.round(&key).fates.entry(key).or_default()
    }

    fn order(&mut self, key: Key, ended: Ended) {
        self.round(&key).orders.insert(key, ended);
        *self.next.entry(key).or_default() += 1;
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
    /// By their register. Those by the bus are counted when they are carried out.
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
    /// Per target.
    pub tables: Vec<Table>,
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
            tables: (0..targets).map(|_| Table::default()).collect(),
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
        let table = &mut self.tables[place.target];
        let event_ms = match received.outcome {
            Outcome::Rejected(code) => {
                step.counts.rejected += 1;
                self.rejects.push(Reject {
                    target: place.target,
                    lane: place.lane,
                    offset: place.offset,
                    code,
                });
                return;
            }
            Outcome::Row(row) => {
                let event_ms = row.event_ms;
                table.fate(row.key).take_row(row);
                event_ms
            }
            Outcome::Withdrawal(withdrawal) => {
                let ended = Ended {
                    order: withdrawal.order,
                    version: withdrawal.version,
                    reason: withdrawal.reason,
                    lane: place.lane,
                    offset: place.offset,
                    sequence: received.sequence.unwrap_or_default() as i64,
                };
                if ended.order.is_some() {
                    table.order(withdrawal.key, ended);
                } else {
                    step.counts.withdrawn += 1;
                    table.fate(withdrawal.key).take_end(ended);
                }
                withdrawal.event_ms
            }
        };
        self.times.push(Times {
            delivered_ms: place.timestamp_ms,
            event_ms,
        });
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
    use crate::check::Withdrawal;

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

    fn withdrawal(counter: u64, order: Option<OrderId>) -> Outcome {
        Outcome::Withdrawal(Withdrawal {
            key: [1; 32],
            order,
            version: Version { epoch: 1, counter },
            event_ms: 0,
            reason: "X".into(),
        })
    }

    /// Counters of the row and of the register's withdrawal.
    fn fate(round: &Round) -> (Option<u64>, Option<u64>) {
        round.fates.get(&[1; 32]).map_or((None, None), |fate| {
            (
                fate.row.as_ref().map(|row| row.version.counter),
                fate.ended.as_ref().map(|ended| ended.version.counter),
            )
        })
    }

    #[test]
    fn the_newest_version_of_a_batch_wins_in_any_order() {
        let mut batch = Batch::new(1);
        feed(&mut batch, 0, 1, 100_000_000, row(5));
        feed(&mut batch, 1, 2, 100_000_000, withdrawal(7, None));
        feed(&mut batch, 2, 3, 100_000_000, row(6));
        assert_eq!(fate(&batch.tables[0].rounds[0]), (None, Some(7)));
        feed(&mut batch, 3, 4, 100_000_000, row(8));
        feed(&mut batch, 4, 5, 100_000_000, withdrawal(6, None));
        assert_eq!(fate(&batch.tables[0].rounds[0]), (Some(8), Some(7)));
        assert_eq!(batch.tables[0].rounds.len(), 1);
        let step = &batch.steps[&(0, 0)];
        assert_eq!((step.now.next_offset, step.now.last_sequence), (5, 5));
        assert_eq!((step.counts.delivered, step.counts.withdrawn), (5, 2));
        assert!(batch.sequences.is_empty());
    }

    #[test]
    fn what_follows_a_withdrawal_by_the_bus_comes_after_it() {
        let order = |n| Some(OrderId([n; 16]));
        let mut batch = Batch::new(1);
        for (at, outcome) in [
            row(5),
            withdrawal(5, order(1)),
            row(5),
            row(4),
            withdrawal(9, order(2)),
            withdrawal(9, order(3)),
            row(3),
        ]
        .into_iter()
        .enumerate()
        {
            feed(&mut batch, at as i64, at as u64 + 1, 100_000_000, outcome);
        }
        let rounds = &batch.tables[0].rounds;
        let seen: Vec<_> = rounds
            .iter()
            .map(|round| {
                (
                    fate(round).0,
                    round.orders.get(&[1; 32]).and_then(|o| o.order),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (Some(5), order(1)),
                (Some(5), order(2)),
                (None, order(3)),
                (Some(3), None),
            ]
        );
        assert_eq!(batch.steps[&(0, 0)].counts.withdrawn, 0);
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
