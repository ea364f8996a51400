//! The rounds themselves: a backlog for both sides, then one side at a time.

use super::measure::{Latencies, consume};
use super::passthrough::PassThrough;
use super::publish::{BATCH, Stream, write, write_plain};
use super::report::{Latency, Throughput};
use super::shape::Shape;
use super::world::{Side, World};
use super::{BenchError, Options, cases, cpu_seconds};
use mz_bus::{PlainProducer, TxProducer, tuning};
use mz_gateway::{Handle, Service};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often progress is looked at while a side runs.
const LOOK: Duration = Duration::from_millis(2);
/// Without any progress for this long, something is broken.
const STUCK: Duration = Duration::from_secs(60);
/// Time at the rate before latencies count.
const RAMP: Duration = Duration::from_secs(2);
/// A load generator's step.
const STEP: Duration = Duration::from_millis(5);

pub(super) struct Bench<'w> {
    options: &'w Options,
    world: &'w World,
    ours: &'w Side,
    theirs: &'w Side,
    stream: Stream<'w>,
    passthrough: PassThrough<'w>,
    writers: [TxProducer; 2],
}

impl<'w> Bench<'w> {
    pub(super) fn new(
        options: &'w Options,
        world: &'w World,
        ours: &'w Side,
        theirs: &'w Side,
    ) -> Result<Self, BenchError> {
        let writer = |side: &Side| -> Result<TxProducer, BenchError> {
            let mut producer =
                TxProducer::open(&side.admin, "bench-source", tuning::TRANSACTION_TIMEOUT)?;
            producer.init()?;
            Ok(producer)
        };
        Ok(Self {
            options,
            world,
            ours,
            theirs,
            stream: Stream::new(world)?,
            passthrough: PassThrough::new(world, theirs, Shape::default(), options.case_for_one_in),
            writers: [writer(ours)?, writer(theirs)?],
        })
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.passthrough.shape
    }

    /// Every case open and its backfill answered.
    pub(super) fn open_cases(&mut self) -> Result<(), BenchError> {
        let count = cases::open(self.world, self.ours, self.options.case_for_one_in)?;
        let (answered, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let lanes = self.world.contract.lanes;
        thread::scope(|scope| {
            let vault = scope.spawn(|| cases::vault(self.ours, lanes, &answered, &stop));
            let result = self.gateway(|handle| {
                // A grant that comes before anything was processed in its lane needs no backfill.
                let progress = || handle.counts().grants_read;
                wait("the backfill of the cases", &progress, || {
                    progress() >= count && handle.is_idle()
                })
            });
            stop.store(true, Ordering::Release);
            vault.join().map_err(|_| BenchError::Panicked)??;
            result
        })
    }

    /// Both sides once, untimed; the gateway's output tells the pass-through what to write.
    pub(super) fn warm_up(&mut self) -> Result<(), BenchError> {
        self.backlog(self.options.warm_up)?;
        self.gateway_throughput(self.options.warm_up)?;
        self.passthrough.shape = Shape::read(self.world, self.ours)?;
        self.passthrough_throughput(self.options.warm_up)?;
        Ok(())
    }

    /// Publishes the same events to both sides.
    pub(super) fn backlog(&mut self, events: u64) -> Result<(), BenchError> {
        let mut left = events;
        while left > 0 {
            let count = left.min(BATCH as u64);
            let batch = self.stream.batch(usize::try_from(count).unwrap_or(BATCH))?;
            for writer in &mut self.writers {
                write(writer, &batch)?;
            }
            left -= count;
        }
        Ok(())
    }

    pub(super) fn gateway_throughput(&mut self, events: u64) -> Result<Throughput, BenchError> {
        let measured = self.gateway(|handle| {
            let measured = timed(events, self.options.broker, || handle.counts().events)?;
            let counts = handle.counts();
            let expected = if self.options.case_for_one_in == 1 {
                counts.events * 2
            } else {
                counts.delivered
            };
            expect("deliveries", expected, counts.delivered)?;
            expect("quarantined events", 0, counts.quarantined)?;
            expect("missing numbers", 0, counts.gaps)?;
            Ok(measured)
        })?;
        Ok(measured)
    }

    pub(super) fn passthrough_throughput(&mut self, events: u64) -> Result<Throughput, BenchError> {
        let broker = self.options.broker;
        running(&mut self.passthrough, |done| {
            timed(events, broker, || done.load(Ordering::Acquire))
        })
    }

    pub(super) fn gateway_latency(&mut self) -> Result<Latency, BenchError> {
        // The loop needs the stream while the gateway runs.
        let mut stream = std::mem::replace(&mut self.stream, Stream::new(self.world)?);
        let result = self.gateway(|handle| {
            // What the other side was given at the rate waits here.
            caught_up(handle)?;
            self.latency(self.ours, Some(self.theirs), &mut stream)
        });
        self.stream = stream;
        result
    }

    pub(super) fn passthrough_latency(&mut self) -> Result<Latency, BenchError> {
        let mut stream = std::mem::replace(&mut self.stream, Stream::new(self.world)?);
        let mut passthrough = std::mem::replace(
            &mut self.passthrough,
            PassThrough::new(self.world, self.theirs, Shape::default(), 1),
        );
        let result = running(&mut passthrough, |_| {
            self.latency(self.theirs, Some(self.ours), &mut stream)
        });
        (self.stream, self.passthrough) = (stream, passthrough);
        result
    }

    /// Publishes at the rate while the gateway runs; whoever reads its deliveries does the timing.
    pub(super) fn publish_through_gateway(
        &mut self,
        ready: &AtomicBool,
        counting: &AtomicBool,
    ) -> Result<(), BenchError> {
        let mut stream = std::mem::replace(&mut self.stream, Stream::new(self.world)?);
        let mut sent = Vec::new();
        let result = self.gateway(|handle| {
            self.publish_at_rate(self.ours, &mut stream, ready, counting, &mut sent)?;
            caught_up(handle)?;
            // The reader of the deliveries has its own way to go.
            thread::sleep(RAMP / 4);
            Ok(())
        });
        self.stream = stream;
        result
    }

    /// Publishes at the rate and takes the ages of what `side` delivers. The other side gets the
    /// same events afterwards: its sequence must not show a gap.
    fn latency(
        &self,
        side: &Side,
        other: Option<&Side>,
        stream: &mut Stream<'_>,
    ) -> Result<Latency, BenchError> {
        let (ready, counting, stop) = (
            AtomicBool::new(false),
            AtomicBool::new(false),
            AtomicBool::new(false),
        );
        let outputs = self.world.outputs();
        let lanes = self.world.contract.lanes;
        let mut sent = Vec::new();
        let mut latencies = thread::scope(|scope| -> Result<Latencies, BenchError> {
            let consumer =
                scope.spawn(|| consume(&side.admin, &outputs, lanes, &ready, &counting, &stop));
            let published = self.publish_at_rate(side, stream, &ready, &counting, &mut sent);
            stop.store(true, Ordering::Release);
            let latencies = consumer.join().map_err(|_| BenchError::Panicked)?;
            published?;
            latencies
        })?;
        if let Some(other) = other {
            let mut producer = PlainProducer::open(&other.admin)?;
            for batch in &sent {
                write_plain(&mut producer, batch)?;
            }
            producer.flush(STUCK)?;
        }
        Ok(Latency {
            p50: latencies.percentile(0.50),
            p95: latencies.percentile(0.95),
            p99: latencies.percentile(0.99),
            samples: latencies.len(),
        })
    }

    fn publish_at_rate(
        &self,
        side: &Side,
        stream: &mut Stream<'_>,
        ready: &AtomicBool,
        counting: &AtomicBool,
        sent: &mut Vec<Vec<super::publish::Published>>,
    ) -> Result<(), BenchError> {
        let mut producer = PlainProducer::open(&side.admin)?;
        let waiting = Instant::now();
        while !ready.load(Ordering::Acquire) {
            if waiting.elapsed() > STUCK {
                return Err(BenchError::Stuck("the consumer"));
            }
            thread::sleep(LOOK);
        }
        let start = Instant::now();
        let total = RAMP + self.options.latency;
        let mut published = 0u64;
        while start.elapsed() < total {
            if start.elapsed() > RAMP {
                counting.store(true, Ordering::Release);
            }
            let due = (start.elapsed().as_secs_f64() * f64::from(self.options.rate)) as u64;
            let count = usize::try_from(due - published).unwrap_or_default();
            if count > 0 {
                let batch = stream.batch(count)?;
                write_plain(&mut producer, &batch)?;
                sent.push(batch);
                published += count as u64;
            }
            producer.serve();
            thread::sleep(STEP);
        }
        producer.flush(STUCK)?;
        Ok(())
    }

    /// Runs the real gateway, one slot, while `job` does its work.
    fn gateway<T>(
        &self,
        job: impl FnOnce(&Handle) -> Result<T, BenchError>,
    ) -> Result<T, BenchError> {
        let options = mz_gateway::Options::new(
            self.ours.gateway.clone(),
            Arc::clone(&self.world.contract),
            Arc::clone(&self.world.gateway_keys),
            1,
        );
        let service = Service::new(options)?;
        let handle = service.handle();
        thread::scope(|scope| {
            let running = scope.spawn(move || service.run());
            let result =
                until_running(&handle, || running.is_finished()).and_then(|()| job(&handle));
            handle.stop();
            let ended = running.join().map_err(|_| BenchError::Panicked)?;
            // The gateway's own error says more than a job that waited in vain.
            ended?;
            result
        })
    }
}

/// The gateway has read everything and committed what came of it.
fn caught_up(handle: &Handle) -> Result<(), BenchError> {
    wait("the gateway", &|| handle.counts().events, || {
        handle.is_idle()
    })
}

fn until_running(handle: &Handle, ended: impl Fn() -> bool) -> Result<(), BenchError> {
    let start = Instant::now();
    while handle.running().is_empty() {
        if ended() || start.elapsed() > STUCK {
            return Err(BenchError::Stuck("the gateway's take-over"));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Runs the pass-through while `job` does its work.
fn running<T>(
    passthrough: &mut PassThrough<'_>,
    job: impl FnOnce(&AtomicU64) -> Result<T, BenchError>,
) -> Result<T, BenchError> {
    let (done, ready, stop) = (
        AtomicU64::new(0),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    thread::scope(|scope| {
        let running = scope.spawn(|| passthrough.run(&done, &ready, &stop));
        let start = Instant::now();
        while !ready.load(Ordering::Acquire) && !running.is_finished() && start.elapsed() < STUCK {
            thread::sleep(LOOK);
        }
        let result = job(&done);
        stop.store(true, Ordering::Release);
        running.join().map_err(|_| BenchError::Panicked)??;
        result
    })
}

/// Times the last nine tenths of `events`.
fn timed(
    events: u64,
    broker: Option<u32>,
    done: impl Fn() -> u64,
) -> Result<Throughput, BenchError> {
    let first = events / 10;
    wait("the first tenth", &done, || done() >= first)?;
    let (from, start, cpu, broker_cpu) = (
        done(),
        Instant::now(),
        cpu_seconds(None),
        cpu_seconds(broker),
    );
    wait("the backlog", &done, || done() >= events)?;
    let seconds = start.elapsed().as_secs_f64();
    let count = (done() - from) as f64;
    let per_event = |before: Option<f64>, after: Option<f64>| match (before, after) {
        (Some(before), Some(after)) => (after - before) * 1e6 / count,
        _ => 0.0,
    };
    Ok(Throughput {
        events_per_s: count / seconds,
        cpu_us: per_event(cpu, cpu_seconds(None)),
        broker_us: if broker.is_some() {
            per_event(broker_cpu, cpu_seconds(broker))
        } else {
            0.0
        },
    })
}

fn wait(
    what: &'static str,
    progress: &impl Fn() -> u64,
    done: impl Fn() -> bool,
) -> Result<(), BenchError> {
    let (mut last, mut since) = (progress(), Instant::now());
    while !done() {
        thread::sleep(LOOK);
        let now = progress();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > STUCK {
            return Err(BenchError::Stuck(what));
        }
    }
    Ok(())
}

fn expect(what: &'static str, expected: u64, found: u64) -> Result<(), BenchError> {
    if expected == found {
        Ok(())
    } else {
        Err(BenchError::Counts {
            what,
            expected,
            found,
        })
    }
}
