//! One slot, one thread: take over, then read, decide, commit until told to stop. What can be waited
//! out is waited out here; an aborted transaction means forgetting everything and taking over again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mz_bus::{BusError, Reader, TxError, TxProducer, tuning};
use mz_journal::topics::SlotKind;
use mz_policy::Now;

use crate::engine::Engine;
use crate::error::Error;
use crate::exposure;
use crate::fence::{self, Seen};
use crate::options::Options;
use crate::outbox::{Halt, Writer};
use crate::plan::Plan;
use crate::stats::Stats;
use crate::takeover::{self, TakenOver};
use crate::telemetry;

/// How long an idle slot waits for records before it looks at its orders again.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// Records taken between two looks at the clock.
const RECORDS_PER_POLL: usize = 1_000;
/// Waits between attempts when the cluster does not answer.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Between two searches for grants that may be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// Between two refreshes of an output's accounted-for offset.
const FLOOR_EVERY: Duration = Duration::from_millis(250);

/// Runs one slot until `stop` is set. Returns early only when going on would be wrong.
///
/// # Errors
/// [`Error::Fenced`]: another owner has the slot, nothing of this one commits any more. Others: the
/// contract, the topics or the slot's state are not what they must be.
pub fn run_slot(
    options: &Options,
    slot: u32,
    stats: &Stats,
    stop: &AtomicBool,
) -> Result<(), Error> {
    if slot >= options.slots {
        return Err(Error::SlotUnknown {
            slot,
            slots: options.slots,
        });
    }
    let plan = Arc::new(Plan::new(Arc::clone(&options.contract), &options.keys));
    let mut runner = Runner {
        options,
        slot,
        plan,
        stats,
        stop,
        producer: None,
        checked: false,
        seen: Seen::default(),
    };
    let outcome = runner.run();
    stats.set_running(false);
    stats.set_idle(false);
    if let Err(Error::Fenced { .. }) = &outcome {
        tracing::error!(slot, "another owner has taken over this slot");
        telemetry::fenced(slot);
    }
    outcome
}

struct Runner<'r> {
    options: &'r Options,
    slot: u32,
    plan: Arc<Plan>,
    stats: &'r Stats,
    stop: &'r AtomicBool,
    producer: Option<TxProducer>,
    checked: bool,
    /// What of `bus.state` this owner had seen when it took the slot.
    seen: Seen,
}

/// What to do after a failure.
enum Next {
    /// Take over again, with the same producer if it is still there.
    Again,
    GiveUp(Error),
}

impl Runner<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let mut backoff = BACKOFF.0;
        while !self.stopping() {
            let started = Instant::now();
            let halt = match self.own() {
                Ok(()) => return Ok(()),
                Err(halt) => halt,
            };
            self.stats.set_running(false);
            self.stats.set_idle(false);
            match self.recover(halt) {
                Next::GiveUp(fenced @ Error::Fenced { .. }) => {
                    if !self.may_return() {
                        return Err(fenced);
                    }
                    tracing::warn!(
                        slot = self.slot,
                        "consent had shut this owner out: taking the slot again"
                    );
                    telemetry::returned(self.slot);
                    self.producer = None;
                    self.rest(BACKOFF.0);
                }
                Next::GiveUp(error) => return Err(error),
                Next::Again => {
                    telemetry::aborted(self.slot);
                    if started.elapsed() > BACKOFF.1 {
                        backoff = BACKOFF.0;
                    }
                    self.rest(backoff);
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
        Ok(())
    }

    /// Whether it was consent that fenced this owner, and nobody owns the slot now. Without an answer from
    /// the cluster it stays as it is: fenced.
    fn may_return(&self) -> bool {
        let returns = fence::may_return(&self.options.bus, &self.seen, || self.stopping());
        returns.unwrap_or_else(|error| {
            tracing::warn!(
                slot = self.slot,
                error = mz_bus::chain(&error),
                "no word on the fence"
            );
            false
        })
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn rest(&self, wait: Duration) {
        let until = Instant::now() + wait;
        while !self.stopping() && Instant::now() < until {
            thread::sleep(IDLE_WAIT.min(wait));
        }
    }

    /// Ends the open transaction and sorts the failure.
    fn recover(&mut self, halt: Halt) -> Next {
        let fenced = Error::Fenced { slot: self.slot };
        match &halt {
            Halt::Tx(error) => tracing::warn!(
                slot = self.slot,
                error = mz_bus::chain(error),
                "the transaction failed"
            ),
            Halt::Error(error) => {
                tracing::warn!(
                    slot = self.slot,
                    error = mz_bus::chain(error),
                    "the slot stopped"
                );
            }
        }
        let keep = match &halt {
            Halt::Tx(TxError::Fenced { .. }) => return Next::GiveUp(fenced),
            Halt::Tx(TxError::Fatal(_)) => false,
            // What was sent must end, or it would hold up every reader until it times out.
            _ => match self.producer.as_mut().map(TxProducer::abort) {
                Some(Err(TxError::Fenced { .. })) => return Next::GiveUp(fenced),
                Some(Ok(())) => true,
                _ => false,
            },
        };
        if !keep {
            self.producer = None;
        }
        match halt {
            Halt::Tx(_) => Next::Again,
            // Gone while it was wanted: taking over finds out what is left, and says so.
            Halt::Error(Error::Bus(BusError::OffsetLost { .. })) => Next::Again,
            Halt::Error(Error::Bus(error)) if error.is_transient() => Next::Again,
            Halt::Error(error) => Next::GiveUp(error),
        }
    }

    /// Takes the slot and runs it.
    fn own(&mut self) -> Result<(), Halt> {
        if !self.checked {
            takeover::check_topics(&self.options.bus, &self.plan)?;
            self.checked = true;
        }
        let mut producer = match self.producer.take() {
            Some(producer) => producer,
            None => {
                let id = SlotKind::Gateway.transactional_id(self.slot);
                let timeout = tuning::TRANSACTION_TIMEOUT;
                let mut producer =
                    TxProducer::open(&self.options.bus, &id, timeout).map_err(Error::from)?;
                producer.init()?;
                producer
            }
        };
        let outcome = self.decide(&mut producer);
        self.producer = Some(producer);
        outcome
    }

    fn decide(&mut self, producer: &mut TxProducer) -> Result<(), Halt> {
        let TakenOver {
            reader,
            asker,
            mut engine,
            exposed,
            seen,
        } = takeover::read(self.options, &self.plan, self.slot, now())?;
        self.plan = Arc::clone(&engine.plan);
        self.seen = seen;
        telemetry::taken_over(self.slot);
        telemetry::in_force(self.slot, engine.version);
        tracing::info!(
            slot = self.slot,
            lanes = engine.lanes.len(),
            grants = engine.grants.len(),
            "slot taken over"
        );
        if !exposed.is_empty() {
            producer.begin()?;
            engine.open_since = Some(Instant::now());
            let Engine {
                plan,
                keys,
                lanes,
                out,
                now,
                ..
            } = &mut engine;
            let mut w = Writer {
                producer,
                plan,
                keys,
                out,
                now: *now,
            };
            exposure::report(&mut w, lanes, &exposed)?;
            self.commit(producer, &mut engine)?;
        }
        self.stats.set_running(true);
        self.work(producer, reader, &asker, engine)
    }

    fn work(
        &mut self,
        producer: &mut TxProducer,
        mut reader: Reader,
        asker: &Reader,
        mut engine: Engine,
    ) -> Result<(), Halt> {
        let pace = self.options.pace;
        let mut last_commit = Instant::now() - pace.commit_every;
        let mut floors = Floors::default();
        let mut forgotten = Instant::now();
        loop {
            engine.now = now();
            if engine.must_switch() {
                self.switch(&mut reader, asker, &mut engine)?;
            }
            if engine.open_since.is_none() && engine.wants_transaction() {
                engine.begin(producer)?;
            }
            let due = engine
                .open_since
                .map(|since| (since + pace.linger).max(last_commit + pace.commit_every));
            let wait = due.map_or(IDLE_WAIT, |due| {
                due.saturating_duration_since(Instant::now()).min(IDLE_WAIT)
            });
            let left = pace
                .max_events
                .saturating_sub(engine.out.counts.events as usize);
            let budget = RECORDS_PER_POLL.min(left.max(1));
            let handed = reader
                .poll(budget, wait, |polled| engine.take(producer, polled))
                .map_err(Error::from)?;
            if let Some(halt) = engine.halt.take() {
                return Err(halt);
            }
            producer.serve();
            let stopping = self.stopping();
            if let Some(since) = engine.open_since {
                let due = (since + pace.linger).max(last_commit + pace.commit_every);
                let full = engine.out.counts.events as usize >= pace.max_events;
                // Another contract waits for the next transaction.
                let last = engine.next.is_some();
                if full || stopping || last || Instant::now() >= due {
                    self.commit(producer, &mut engine)?;
                    last_commit = Instant::now();
                }
            } else {
                floors.refresh(asker, &mut engine).map_err(Halt::Error)?;
                if forgotten.elapsed() >= FORGET_EVERY {
                    engine.grants.forget_expired(engine.now.ms);
                    forgotten = Instant::now();
                }
            }
            if handed == 0 || engine.open_since.is_none() {
                let idle = engine.open_since.is_none()
                    && !engine.must_switch()
                    && !engine.wants_transaction()
                    && engine.at_end();
                self.stats.set_idle(idle);
            }
            if stopping && engine.open_since.is_none() {
                return Ok(());
            }
        }
    }

    /// Decides under the contract in force from here on.
    fn switch(
        &mut self,
        reader: &mut Reader,
        asker: &Reader,
        engine: &mut Engine,
    ) -> Result<(), Halt> {
        let Some(in_force) = engine.next.clone() else {
            return Ok(());
        };
        takeover::switch(self.options, reader, asker, engine, &in_force)?;
        self.plan = Arc::clone(&engine.plan);
        telemetry::in_force(self.slot, engine.version);
        tracing::info!(
            slot = self.slot,
            version = engine.version,
            "another contract is in force"
        );
        Ok(())
    }

    fn commit(&self, producer: &mut TxProducer, engine: &mut Engine) -> Result<(), Halt> {
        engine.finish(producer)?;
        let started = Instant::now();
        producer.commit()?;
        engine.out.counts.transactions = 1;
        self.stats.add(&engine.out.counts);
        telemetry::committed(self.slot, &engine.out, started.elapsed().as_secs_f64());
        let waiting = engine.lanes.iter().map(|lane| lane.backfills.len()).sum();
        let reported = engine.lanes.iter().map(|lane| lane.superseded.len()).sum();
        telemetry::holding(self.slot, engine.grants.len(), waiting, reported);
        engine.committed();
        Ok(())
    }
}

/// Moves the accounted-for offsets of outputs forward, one at a time, between transactions: then
/// everything below the end of an output is either committed or was audited as exposed.
#[derive(Default)]
struct Floors {
    next: usize,
    last: Option<Instant>,
}

impl Floors {
    fn refresh(&mut self, asker: &Reader, engine: &mut Engine) -> Result<(), Error> {
        if self.last.is_some_and(|last| last.elapsed() < FLOOR_EVERY) {
            return Ok(());
        }
        let outputs = engine.plan.outputs.len();
        let count = outputs * engine.lanes.len();
        for _ in 0..count {
            let at = self.next % count;
            self.next = at + 1;
            let (lane, output) = (&mut engine.lanes[at / outputs], at % outputs);
            let state = &mut lane.outputs[output];
            if state.last_seq == state.floor_seq {
                continue;
            }
            let topic = &engine.plan.outputs[output].topic;
            let (_, high) = asker.watermarks(topic, i32::from(lane.lane))?;
            state.floor = high.max(state.floor);
            state.floor_seq = state.last_seq;
            self.last = Some(Instant::now());
            break;
        }
        Ok(())
    }
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Now::at_ms(since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }))
}
