//! The gapless numbering of one stream in one lane: what is new, what came late, what was here
//! before. Called only with numbers whose signature verified, so that a forger can't move it.

use mz_journal::StreamSequence;

/// Most ranges of missing numbers remembered per stream and lane. Beyond it the oldest range is
/// given up: an event of it that still comes is then refused as a replay.
pub const MAX_MISSING_RANGES: usize = 64;

/// How one event stands in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The number that was due.
    Next,
    /// Numbers before it never came.
    Gap {
        missing: (u64, u64),
        /// A range that had to be given up to remember this one.
        forgotten: Option<(u64, u64)>,
    },
    /// Fills a number that was missing.
    Late,
    /// The connector lost its checkpoint and starts again; numbers of the new epoch may be missing.
    NewEpoch { missing: Option<(u64, u64)> },
    /// Was here before (or was given up).
    Replayed,
    /// Of an epoch that ended.
    OldEpoch,
    /// Numbers start at 1.
    Zero,
}

impl Step {
    /// The reason for which the event is refused, if it is.
    pub const fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Replayed => Some("REPLAYED"),
            Self::OldEpoch => Some("EPOCH_ENDED"),
            Self::Zero => Some("SEQUENCE_ZERO"),
            Self::Next | Self::Gap { .. } | Self::Late | Self::NewEpoch { .. } => None,
        }
    }
}

/// What has been seen of one stream in one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    pub epoch: u32,
    /// Highest number seen in this epoch.
    pub last: u64,
    /// Ranges below `last` that never came: ascending, disjoint, both ends included.
    pub missing: Vec<(u64, u64)>,
}

impl Sequence {
    /// As the lane's state recorded it.
    pub fn restore(state: &StreamSequence) -> Self {
        Self {
            epoch: state.epoch,
            last: state.last,
            missing: state.missing.clone(),
        }
    }

    /// As the lane's state records it.
    pub fn record(&self, stream: &str) -> StreamSequence {
        StreamSequence {
            stream: stream.to_owned(),
            epoch: self.epoch,
            last: self.last,
            missing: self.missing.clone(),
        }
    }

    /// Takes one verified number.
    pub fn step(&mut self, epoch: u32, sequence: u64) -> Step {
        if sequence == 0 {
            return Step::Zero;
        }
        if epoch < self.epoch {
            return Step::OldEpoch;
        }
        if epoch > self.epoch {
            let first_ever = self.epoch == 0 && self.last == 0;
            self.epoch = epoch;
            self.last = 0;
            self.missing.clear();
            if !first_ever {
                let missing = (sequence > 1).then(|| (1, sequence - 1));
                self.missing.extend(missing);
                self.last = sequence;
                return Step::NewEpoch { missing };
            }
        }
        if sequence <= self.last {
            return self.fill(sequence);
        }
        let due = self.last + 1;
        self.last = sequence;
        if sequence == due {
            return Step::Next;
        }
        let forgotten = (self.missing.len() >= MAX_MISSING_RANGES).then(|| self.missing.remove(0));
        let missing = (due, sequence - 1);
        self.missing.push(missing);
        Step::Gap { missing, forgotten }
    }

    /// A number below the highest: late if it was missing, otherwise a repeat.
    fn fill(&mut self, sequence: u64) -> Step {
        let at = self.missing.partition_point(|range| range.1 < sequence);
        let Some(&(first, last)) = self.missing.get(at) else {
            return Step::Replayed;
        };
        if sequence < first {
            return Step::Replayed;
        }
        match (sequence == first, sequence == last) {
            (true, true) => {
                self.missing.remove(at);
            }
            (true, false) => self.missing[at].0 += 1,
            (false, true) => self.missing[at].1 -= 1,
            (false, false) => {
                self.missing[at].1 = sequence - 1;
                self.missing.insert(at + 1, (sequence + 1, last));
                if self.missing.len() > MAX_MISSING_RANGES {
                    self.missing.remove(0);
                }
            }
        }
        Step::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_first_event_starts_the_numbering_in_any_epoch() {
        for epoch in [0, 1, 7] {
            let mut sequence = Sequence::default();
            assert_eq!(sequence.step(epoch, 1), Step::Next);
            assert_eq!(sequence.step(epoch, 1), Step::Replayed);
        }
        let mut sequence = Sequence::default();
        assert_eq!(
            sequence.step(1, 4),
            Step::Gap {
                missing: (1, 3),
                forgotten: None
            }
        );
        assert_eq!(sequence.step(1, 0), Step::Zero);
    }

    #[test]
    fn a_new_epoch_forgets_the_old_one() {
        let mut sequence = Sequence::default();
        sequence.step(1, 5);
        assert_eq!(
            sequence.step(2, 3),
            Step::NewEpoch {
                missing: Some((1, 2))
            }
        );
        assert_eq!(sequence.step(1, 6), Step::OldEpoch);
        assert_eq!(sequence.step(2, 2), Step::Late);
        assert_eq!(sequence.step(3, 1), Step::NewEpoch { missing: None });
        assert_eq!(sequence.step(3, 2), Step::Next);
    }

    #[test]
    fn a_huge_number_costs_one_range() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.step(0, 1), Step::Next);
        sequence.step(0, u64::MAX);
        assert_eq!(sequence.missing, [(2, u64::MAX - 1)]);
        assert_eq!(sequence.step(0, u64::MAX), Step::Replayed);
        assert_eq!(sequence.step(0, 1 << 40), Step::Late);
    }

    proptest! {
        /// Against a set of all numbers ever seen: each is accepted exactly once, in any order.
        #[test]
        fn each_number_is_accepted_once(numbers in prop::collection::vec(1u64..120, 1..200)) {
            let mut sequence = Sequence::default();
            let mut seen = BTreeSet::new();
            for number in numbers {
                let accepted = sequence.step(1, number).refusal().is_none();
                prop_assert_eq!(accepted, seen.insert(number));
                let top = *seen.last().unwrap();
                let missing: Vec<u64> = (1..top).filter(|n| !seen.contains(n)).collect();
                let ranges: Vec<u64> =
                    sequence.missing.iter().flat_map(|(from, to)| *from..=*to).collect();
                prop_assert_eq!(missing, ranges);
                prop_assert!(sequence.missing.windows(2).all(|w| w[0].1 + 1 < w[1].0));
            }
        }

        /// However wild the numbers, no number is accepted twice and memory stays bounded.
        #[test]
        fn memory_is_bounded(numbers in prop::collection::vec(1u64..1_000_000, 1..400)) {
            let mut sequence = Sequence::default();
            let mut seen = BTreeSet::new();
            for number in numbers {
                if sequence.step(1, number).refusal().is_none() {
                    prop_assert!(seen.insert(number));
                }
                prop_assert!(sequence.missing.len() <= MAX_MISSING_RANGES);
            }
        }
    }
}
