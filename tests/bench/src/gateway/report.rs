//! Figure, baseline, ratio: as a table for people, as one JSON object for programs.

use super::measure::median;
use super::shape::Shape;
use serde::Serialize;
use std::fmt;

/// One measured round of one side.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Throughput {
    pub events_per_s: f64,
    /// CPU of our process, microseconds an event.
    pub cpu_us: f64,
    /// CPU of the broker, microseconds an event; 0 when unknown.
    pub broker_us: f64,
}

/// One measured round of one side, milliseconds from making an event to receiving its delivery.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub samples: usize,
}

/// Every round of one side.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rounds {
    pub throughput: Vec<Throughput>,
    pub latency: Vec<Latency>,
}

/// What was run.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    pub events_per_round: u64,
    pub rounds: u32,
    pub people: u32,
    pub case_for_one_in: u32,
    pub lanes: u16,
    pub slots: u32,
    pub commit_every_ms: u64,
    pub latency_rate_per_s: u32,
    pub latency_seconds: u64,
    pub cpus: usize,
    pub release: bool,
    pub bytes: Shape,
    /// Median CPU microseconds an event, our process and the broker: [pass-through, gateway].
    pub cpu_us_per_event: [f64; 2],
    pub broker_us_per_event: [f64; 2],
    /// Median milliseconds: [pass-through, gateway].
    pub p50_ms: [f64; 2],
    pub p95_ms: [f64; 2],
    /// All rounds, so that nobody has to believe a median.
    pub passthrough_rounds: Rounds,
    pub gateway_rounds: Rounds,
}

/// Our figure beside its baseline.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pair {
    pub passthrough: f64,
    pub gateway: f64,
    pub ratio: f64,
}

impl Pair {
    pub(super) fn new(passthrough: f64, gateway: f64) -> Self {
        let ratio = if passthrough > 0.0 {
            gateway / passthrough
        } else {
            0.0
        };
        Self {
            passthrough: round(passthrough),
            gateway: round(gateway),
            ratio: (ratio * 1_000.0).round() / 1_000.0,
        }
    }
}

/// The object that `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub events_per_s: Pair,
    pub p99_ms: Pair,
    pub config: Config,
}

pub(super) fn round(figure: f64) -> f64 {
    if figure >= 1_000.0 {
        figure.round()
    } else {
        (figure * 100.0).round() / 100.0
    }
}

/// Median of one figure over all rounds.
pub(super) fn of<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let figures: Vec<f64> = rounds.iter().map(figure).collect();
    median(&figures)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        writeln!(
            f,
            "{} people, a case for 1 in {}; {} rounds of {} events each, alternating; medians",
            config.people, config.case_for_one_in, config.rounds, config.events_per_round
        )?;
        if !config.release {
            writeln!(f, "NOT a release build: these figures mean nothing")?;
        }
        writeln!(
            f,
            "{:34} {:>14} {:>12} {:>8}",
            "", "pass-through", "gateway", "ratio"
        )?;
        let mut row = |name: &str, passthrough: f64, gateway: f64| {
            let pair = Pair::new(passthrough, gateway);
            writeln!(
                f,
                "{name:34} {:>14} {:>12} {:>8.2}",
                pair.passthrough, pair.gateway, pair.ratio
            )
        };
        row(
            "events/s",
            self.events_per_s.passthrough,
            self.events_per_s.gateway,
        )?;
        let [ours, theirs] = [config.cpu_us_per_event, config.broker_us_per_event];
        row("CPU µs/event, this process", ours[0], ours[1])?;
        row("CPU µs/event, broker", theirs[0], theirs[1])?;
        let at = format!("p50 ms at {}/s", config.latency_rate_per_s);
        row(&at, config.p50_ms[0], config.p50_ms[1])?;
        row("p95 ms", config.p95_ms[0], config.p95_ms[1])?;
        row("p99 ms", self.p99_ms.passthrough, self.p99_ms.gateway)
    }
}
