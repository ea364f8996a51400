//! The baseline: a loop that reads the same events and writes as many records of the same size in
//! the same transactions, and looks at none of them. It shares the gateway's client tuning and
//! its pace; what it leaves out is the gateway's work.

use super::BenchError;
use super::shape::Shape;
use super::world::{SOURCE, Side, World};
use mz_bus::{Polled, Position, Reader, Record, TxError, TxProducer, tuning};
use mz_gateway::Pace;
use mz_journal::{AuditWriter, DELIVERY_HEADER, topics};
use mz_seal::headers;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// As the gateway: records taken between two looks at the clock, and its wait when idle.
const RECORDS_PER_POLL: usize = 1_000;
const IDLE_WAIT: Duration = Duration::from_millis(50);

/// What is written, and how often.
pub(super) struct PassThrough<'w> {
    pub side: &'w Side,
    pub outputs: Vec<String>,
    pub lanes: u16,
    pub shape: Shape,
    /// Outputs for every n-th event.
    pub one_in: u64,
    /// Next offset of each lane.
    positions: Vec<i64>,
    seen: u64,
}

impl<'w> PassThrough<'w> {
    pub(super) fn new(world: &World, side: &'w Side, shape: Shape, one_in: u32) -> Self {
        Self {
            side,
            outputs: world.outputs(),
            lanes: world.contract.lanes,
            shape,
            one_in: u64::from(one_in),
            positions: vec![0; usize::from(world.contract.lanes)],
            seen: 0,
        }
    }

    /// Runs until `stop`; `done` counts events whose transaction is committed. One thread, one
    /// reader, one producer: a slot.
    pub(super) fn run(
        &mut self,
        done: &AtomicU64,
        ready: &AtomicBool,
        stop: &AtomicBool,
    ) -> Result<(), BenchError> {
        let pace = Pace::default();
        let mut producer =
            TxProducer::open(&self.side.gateway, "mz-gw-0", tuning::TRANSACTION_TIMEOUT)?;
        producer.init()?;
        let mut reader = Reader::open(&self.side.gateway, mz_bus::Isolation::Committed)?;
        let lanes: Vec<(&str, i32, Position)> = (0..)
            .zip(&self.positions)
            .map(|(lane, next)| {
                (
                    SOURCE,
                    lane,
                    if *next == 0 {
                        Position::Beginning
                    } else {
                        Position::Offset(*next)
                    },
                )
            })
            .collect();
        reader.assign(&lanes)?;
        ready.store(true, Ordering::Release);
        let mut scratch = Scratch::new(&self.shape);
        let mut touched = vec![false; usize::from(self.lanes)];
        let mut last_commit = Instant::now() - pace.commit_every;
        let (mut open, mut events) = (None::<Instant>, 0usize);
        loop {
            let due = open.map(|since| (since + pace.linger).max(last_commit + pace.commit_every));
            let wait = due.map_or(IDLE_WAIT, |due| {
                due.saturating_duration_since(Instant::now())
            });
            let budget = RECORDS_PER_POLL.min(pace.max_events.saturating_sub(events).max(1));
            let mut fault = None;
            reader.poll(budget, wait, |polled| {
                let Polled::Record(record) = polled else {
                    return;
                };
                if fault.is_some() {
                    return;
                }
                if open.is_none() {
                    fault = producer.begin().err();
                    open = Some(Instant::now());
                }
                fault = fault
                    .take()
                    .or_else(|| self.forward(&mut producer, &mut scratch, &record).err());
                let lane = usize::try_from(record.partition).unwrap_or_default();
                touched[lane] = true;
                self.positions[lane] = record.offset + 1;
                events += 1;
            })?;
            if let Some(fault) = fault {
                return Err(fault.into());
            }
            producer.serve();
            let stopping = stop.load(Ordering::Acquire);
            if let Some(since) = open {
                let due = (since + pace.linger).max(last_commit + pace.commit_every);
                if events >= pace.max_events || stopping || Instant::now() >= due {
                    self.finish(&mut producer, &mut scratch, &mut touched)?;
                    producer.commit()?;
                    done.fetch_add(events as u64, Ordering::Release);
                    (open, events) = (None, 0);
                    last_commit = Instant::now();
                }
            } else if stopping {
                return Ok(());
            }
        }
    }

    /// Two deliveries and their two audit records.
    fn forward(
        &mut self,
        producer: &mut TxProducer,
        scratch: &mut Scratch,
        record: &Record<'_>,
    ) -> Result<(), TxError> {
        self.seen += 1;
        if !self.seen.is_multiple_of(self.one_in) {
            return Ok(());
        }
        let source = record.headers().unwrap_or_default();
        let value = record.value.unwrap_or_default();
        let value = &value[..self.shape.output_value.min(value.len())];
        let mut pairs: Vec<(&str, &[u8])> = Vec::with_capacity(8);
        for (name, bytes) in &source {
            if *name != headers::SEAL {
                pairs.push((name, bytes.unwrap_or_default()));
            }
        }
        pairs.push((headers::SEAL, &scratch.seal));
        pairs.push((DELIVERY_HEADER, &scratch.delivery));
        let key = record.key.unwrap_or_default();
        for output in &self.outputs {
            scratch.number += 1;
            let audit_key = topics::audit_key(
                AuditWriter::Gateway,
                record.partition as u16,
                scratch.number,
            );
            producer.send(
                topics::AUDIT,
                record.partition,
                &audit_key,
                Some(&scratch.audit),
                &[],
            )?;
            producer.send(output, record.partition, key, Some(value), &pairs)?;
        }
        Ok(())
    }

    /// Summaries and state of every lane that was touched.
    fn finish(
        &self,
        producer: &mut TxProducer,
        scratch: &mut Scratch,
        touched: &mut [bool],
    ) -> Result<(), TxError> {
        for (lane, touched) in (0u16..).zip(touched) {
            if !std::mem::take(touched) {
                continue;
            }
            let partition = i32::from(lane);
            for _ in &self.outputs {
                scratch.number += 1;
                let key = topics::audit_key(AuditWriter::Gateway, lane, scratch.number);
                producer.send(topics::AUDIT, partition, &key, Some(&scratch.summary), &[])?;
            }
            let key = topics::state_key(topics::SlotKind::Gateway, lane);
            producer.send(topics::STATE, partition, &key, Some(&scratch.state), &[])?;
        }
        Ok(())
    }
}

/// Bytes to write, of the right lengths.
struct Scratch {
    seal: Vec<u8>,
    delivery: Vec<u8>,
    audit: Vec<u8>,
    summary: Vec<u8>,
    state: Vec<u8>,
    number: u64,
}

impl Scratch {
    fn new(shape: &Shape) -> Self {
        let bytes = |length: usize| (0..length).map(|at| (at % 251) as u8).collect();
        Self {
            seal: bytes(shape.output_seal),
            delivery: bytes(shape.output_delivery),
            audit: bytes(shape.audit),
            summary: bytes(shape.summary),
            state: bytes(shape.state),
            number: 0,
        }
    }
}
