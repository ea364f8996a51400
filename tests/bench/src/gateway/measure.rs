//! Clocks: CPU time of a process from /proc, latencies of what a consumer receives.

use super::BenchError;
use super::publish::{now_us, stamped_us};
use mz_bus::{BusOptions, Isolation, Polled, Position, Reader};
use mz_seal::headers;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Linux counts CPU time in hundredths of a second, on every machine that matters here.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds that a process has used so far, user and system. `None`: no such process.
pub(super) fn cpu_seconds(process: Option<u32>) -> Option<f64> {
    let name = process.map_or_else(|| "self".to_owned(), |id| id.to_string());
    let stat = std::fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
    // The command, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// Latencies in microseconds.
#[derive(Default)]
pub(super) struct Latencies(Vec<i64>);

impl Latencies {
    /// Milliseconds below which `share` of all lie; 0 when there are none.
    pub(super) fn percentile(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        let at = (share * last as f64).round() as usize;
        self.0.get(at).map_or(0.0, |us| *us as f64 / 1_000.0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Nothing came for this long: what was on its way has arrived.
const QUIET: Duration = Duration::from_millis(500);
/// Longest wait for what is on its way at the end.
const TAIL: Duration = Duration::from_secs(20);

/// A consumer of committed data on all `topics`, from where they end now. It is `ready` once an
/// older backlog has passed. Then it collects the age of every record about an event that was made
/// after `counting` was set, until `stop` and until nothing more comes: the slowest count too.
pub(super) fn consume(
    bus: &BusOptions,
    topics: &[String],
    lanes: u16,
    ready: &AtomicBool,
    counting: &AtomicBool,
    stop: &AtomicBool,
) -> Result<Latencies, BenchError> {
    let mut reader = Reader::open(bus, Isolation::Committed)?;
    let mut all = Vec::new();
    for topic in topics {
        for lane in 0..i32::from(lanes) {
            let (_, high) = reader.watermarks(topic, lane)?;
            all.push((topic.as_str(), lane, Position::Offset(high)));
        }
    }
    reader.assign(&all)?;
    let mut latencies = Latencies::default();
    let mut last = Instant::now();
    let (mut since, mut ended) = (None, None::<Instant>);
    loop {
        if counting.load(Ordering::Acquire) && since.is_none() {
            since = Some(now_us());
        }
        reader.poll(10_000, Duration::from_millis(20), |polled| {
            let Polled::Record(record) = polled else {
                return;
            };
            last = Instant::now();
            let Some(since) = since else {
                return;
            };
            let pairs = record.headers().unwrap_or_default();
            let made = pairs
                .iter()
                .find(|(name, _)| *name == headers::CE_ID)
                .and_then(|(_, id)| stamped_us((*id)?));
            if let Some(made) = made.filter(|made| *made >= since) {
                latencies.0.push(now_us() - made);
            }
        })?;
        let quiet = last.elapsed() > QUIET;
        if quiet {
            ready.store(true, Ordering::Release);
        }
        if stop.load(Ordering::Acquire) {
            let ended = *ended.get_or_insert_with(Instant::now);
            if (quiet && ended.elapsed() > QUIET) || ended.elapsed() > TAIL {
                return Ok(latencies);
            }
        }
    }
}

/// The middle of an odd number of figures, the mean of the middle two of an even number.
pub(super) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
        let mut latencies = Latencies((1..=1000).map(|ms| ms * 1_000).collect());
        assert!((latencies.percentile(0.99) - 990.0).abs() < 1.1);
        assert!(Latencies::default().percentile(0.5) < f64::EPSILON);
    }

    #[test]
    fn cpu_time_runs() {
        let before = cpu_seconds(None).unwrap();
        let mut sum = 0u64;
        while cpu_seconds(None).unwrap() - before < 0.02 {
            sum = (0..100_000).fold(sum, |sum, next| sum.wrapping_mul(31).wrapping_add(next));
        }
        assert!(sum != 1);
    }
}
