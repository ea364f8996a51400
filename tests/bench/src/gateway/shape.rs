//! What the gateway writes for its input, in bytes and counts: read from its own topics after a
//! warm-up, so that the pass-through writes exactly as much.

use super::BenchError;
use super::world::{Side, World};
use mz_bus::{Isolation, Position, Reader};
use mz_journal::{Audit, AuditKind, DELIVERY_HEADER, topics};
use mz_seal::headers;
use serde::Serialize;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Mean sizes in bytes, and how many of each there are.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Shape {
    pub source_value: usize,
    pub source_seal: usize,
    pub output_value: usize,
    pub output_seal: usize,
    pub output_delivery: usize,
    pub audit: usize,
    pub summary: usize,
    pub state: usize,
}

#[derive(Default)]
struct Mean(u64, u64);

impl Mean {
    fn add(&mut self, bytes: usize) {
        self.0 += bytes as u64;
        self.1 += 1;
    }

    fn get(&self) -> usize {
        usize::try_from(self.0 / self.1.max(1)).unwrap_or_default()
    }
}

impl Shape {
    pub(super) fn read(world: &World, side: &Side) -> Result<Self, BenchError> {
        let mut shape = Self::default();
        let (mut value, mut seal, mut delivery) =
            (Mean::default(), Mean::default(), Mean::default());
        let mut outputs = world.outputs();
        outputs.truncate(1);
        each(side, &outputs, |record| {
            value.add(record.value.map_or(0, <[u8]>::len));
            for (name, bytes) in record.headers().unwrap_or_default() {
                match name {
                    headers::SEAL => seal.add(bytes.map_or(0, <[u8]>::len)),
                    DELIVERY_HEADER => delivery.add(bytes.map_or(0, <[u8]>::len)),
                    _ => {}
                }
            }
        })?;
        (shape.output_value, shape.output_seal, shape.output_delivery) =
            (value.get(), seal.get(), delivery.get());
        let (mut value, mut seal) = (Mean::default(), Mean::default());
        each(side, &[super::world::SOURCE.to_owned()], |record| {
            value.add(record.value.map_or(0, <[u8]>::len));
            for (name, bytes) in record.headers().unwrap_or_default() {
                if name == headers::SEAL {
                    seal.add(bytes.map_or(0, <[u8]>::len));
                }
            }
        })?;
        (shape.source_value, shape.source_seal) = (value.get(), seal.get());
        let (mut delivered, mut summary) = (Mean::default(), Mean::default());
        each(side, &[topics::AUDIT.to_owned()], |record| {
            let bytes = record.value.unwrap_or_default();
            match Audit::read(bytes).map(|audit| audit.kind) {
                Ok(AuditKind::Delivered) => delivered.add(bytes.len()),
                Ok(AuditKind::Summary) => summary.add(bytes.len()),
                _ => {}
            }
        })?;
        (shape.audit, shape.summary) = (delivered.get(), summary.get());
        let mut last = 0;
        each(side, &[topics::STATE.to_owned()], |record| {
            last = record.value.map_or(0, <[u8]>::len);
        })?;
        shape.state = last;
        Ok(shape)
    }
}

/// All records of the first lane.
fn each(
    side: &Side,
    topics: &[String],
    each: impl FnMut(mz_bus::Record<'_>),
) -> Result<(), BenchError> {
    let mut reader = Reader::open(&side.admin, Isolation::Committed)?;
    let all: Vec<(&str, i32, Position)> = topics
        .iter()
        .map(|topic| (topic.as_str(), 0, Position::Beginning))
        .collect();
    reader.assign(&all)?;
    reader.poll_to_end(PATIENCE, each)?;
    Ok(())
}
