//! What the adapter did since it started: counters and latencies, as JSON. What it did since
//! ever stands in `mz_positions`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::batch::SequenceFault;
use crate::endings::Endings;

/// Sub-buckets per power of two: percentiles are right within 3 %.
const FINE: usize = 32;
/// Buckets up to 2^40 ms.
const BUCKETS: usize = FINE * 37;

/// Milliseconds, counted in buckets.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
            max: 0,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, millis: u64) {
        self.buckets[bucket(millis)] += 1;
        self.count += 1;
        self.max = self.max.max(millis);
    }

    /// Upper bound of the bucket in which this share of all values lies.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(index).min(self.max);
            }
        }
        self.max
    }

    pub fn quantiles(&self) -> Quantiles {
        Quantiles {
            count: self.count,
            p50: self.quantile(0.5),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            max: self.max,
        }
    }
}

fn bucket(millis: u64) -> usize {
    let millis = millis.min((1 << 40) - 1);
    if millis < FINE as u64 {
        return millis as usize;
    }
    let power = millis.ilog2() as usize;
    let shift = power - 5;
    FINE * (shift + 1) + ((millis >> shift) as usize - FINE)
}

fn upper(index: usize) -> u64 {
    if index < FINE {
        return index as u64;
    }
    let shift = index / FINE - 1;
    (((index % FINE + FINE + 1) as u64) << shift) - 1
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: u64,
    pub p95: u64,
    pub p99: u64,
    pub max: u64,
}

/// One topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TopicCounts {
    /// Records read and committed: stored + superseded + withdrawn + rejected.
    pub delivered: u64,
    pub stored: u64,
    /// Older than, or the same as, what the table held.
    pub superseded: u64,
    pub withdrawn: u64,
    pub rejected: u64,
    /// Delivery numbers that did not come.
    pub missing: u64,
    pub gaps: u64,
    pub compacted: u64,
    pub repeats: u64,
    pub marks: u64,
    pub marks_invalid: u64,
}

impl TopicCounts {
    fn add(&mut self, other: &Self) {
        let Self {
            delivered,
            stored,
            superseded,
            withdrawn,
            rejected,
            missing,
            gaps,
            compacted,
            repeats,
            marks,
            marks_invalid,
        } = other;
        self.delivered += delivered;
        self.stored += stored;
        self.superseded += superseded;
        self.withdrawn += withdrawn;
        self.rejected += rejected;
        self.missing += missing;
        self.gaps += gaps;
        self.compacted += compacted;
        self.repeats += repeats;
        self.marks += marks;
        self.marks_invalid += marks_invalid;
    }

    pub(crate) fn odd(&mut self, kind: SequenceFault, numbers: u64) {
        match kind {
            SequenceFault::Gap => {
                self.gaps += 1;
                self.missing += numbers;
            }
            SequenceFault::Compacted => self.compacted += numbers,
            SequenceFault::Repeat => self.repeats += 1,
            SequenceFault::MarkInvalid => self.marks_invalid += 1,
        }
    }
}

/// Counters and latencies since the start.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    pub topics: BTreeMap<String, TopicCounts>,
    /// Reason code → records.
    pub rejects: BTreeMap<&'static str, u64>,
    /// What withdrawals did, by registers and by the bus.
    pub endings: Endings,
    /// Frozen records that were deleted because their hold ended or their time had come.
    pub released: u64,
    /// Frozen records that are kept now.
    pub frozen_held: u64,
    /// Receipts that the bus acknowledged.
    pub receipts_sent: u64,
    /// Receipts in the database that it did not acknowledge yet.
    pub receipts_unsent: u64,
    pub transactions: u64,
    /// Times that the database was lost and found again.
    pub reconnects: u64,
    /// From the delivery's write to the topic to the commit of its row.
    pub delivery_to_table: Histogram,
    /// From `ce_time` to the commit of the row: the whole way when the source stamps as it publishes.
    pub event_to_table: Histogram,
}

impl Summary {
    pub fn totals(&self) -> TopicCounts {
        let mut all = TopicCounts::default();
        self.topics.values().for_each(|topic| all.add(topic));
        all
    }

    /// One object; latencies in milliseconds.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "totals": self.totals(),
            "topics": self.topics,
            "rejects": self.rejects,
            "withdrawals": {
                "deleted": self.endings.deleted,
                "frozen": self.endings.frozen,
                "marked": self.endings.marked,
                "absent": self.endings.absent,
                "released": self.released,
                "frozen_held": self.frozen_held,
            },
            "receipts": {"sent": self.receipts_sent, "unsent": self.receipts_unsent},
            "transactions": self.transactions,
            "reconnects": self.reconnects,
            "latency_ms": {
                "delivery_to_table": self.delivery_to_table.quantiles(),
                "event_to_table": self.event_to_table.quantiles(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_falls_into_them() {
        for millis in (0..5000).chain([1 << 20, (1 << 40) - 1, u64::MAX]) {
            let at = bucket(millis);
            assert!(upper(at) >= millis.min((1 << 40) - 1), "{millis}");
            assert!(
                at == 0 || upper(at - 1) < millis.min((1 << 40) - 1) + 1,
                "{millis}"
            );
        }
    }

    #[test]
    fn quantiles_are_right_within_a_bucket() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|millis| histogram.record(millis));
        let quantiles = histogram.quantiles();
        assert!((500..=520).contains(&quantiles.p50), "{quantiles:?}");
        assert!((990..=1000).contains(&quantiles.p99), "{quantiles:?}");
        assert_eq!((quantiles.count, quantiles.max), (1000, 1000));
        assert_eq!(Histogram::default().quantiles().p99, 0);
    }
}
