//! Whether anything about a person was committed after their revocation had been answered: by place, not
//! by time. The times in a record and in its audit entry are those of the decision; an owner that commits
//! late decided early. Right after the answer the end of committed data is taken: whatever turns out to
//! lie at or behind it was committed later.

use super::BenchError;
use super::world::{Side, World};
use mz_bus::{Isolation, Position, Reader};
use mz_journal::{
    Audit, AuditKind, AuditWriter, DELIVERY_HEADER, DeliveryHeader, Record as _, SubjectTag, topics,
};
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// From where on nothing about a person may lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    pub person: usize,
    topic: i64,
    audit: i64,
}

/// What topic and log say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// People whose revocation was answered `enforced`.
    pub people: usize,
    /// Values in the topic and deliveries in the log about them, before or after.
    pub deliveries_checked: u64,
    /// Source events about them that were published after the answer.
    pub events_after: u64,
    /// Of the deliveries, those committed after the answer.
    pub violations: u64,
}

/// The end of committed data in the person's lane. `committed` reads committed data only.
pub(super) fn take_bar(
    committed: &Reader,
    world: &World,
    person: usize,
) -> Result<Bar, BenchError> {
    let lane = i32::from(world.people[person].lane);
    let outputs = world.outputs();
    let topic = outputs.first().map_or("", String::as_str);
    Ok(Bar {
        person,
        topic: committed.watermarks(topic, lane)?.1,
        audit: committed.watermarks(topics::AUDIT, lane)?.1,
    })
}

/// Reads the topic and the log, and holds every delivery against the bar of its person.
pub(super) fn held_against(
    side: &Side,
    world: &World,
    bars: &[Bar],
    events_after: u64,
) -> Result<Verdict, BenchError> {
    let barred: HashMap<SubjectTag, &Bar> = bars
        .iter()
        .map(|bar| (world.people[bar.person].tag, bar))
        .collect();
    let mut verdict = Verdict {
        people: bars.len(),
        events_after,
        ..Verdict::default()
    };
    let mut entries: HashMap<(u16, u64), SubjectTag> = HashMap::new();
    each(side, world, topics::AUDIT, |record| {
        let Some(Ok(audit)) = record.value.map(Audit::read) else {
            return;
        };
        let delivered = audit.writer == AuditWriter::Gateway && audit.kind == AuditKind::Delivered;
        let Some(bar) = barred.get(&audit.subject).filter(|_| delivered) else {
            return;
        };
        verdict.deliveries_checked += 1;
        verdict.violations += u64::from(record.offset >= bar.audit);
        entries.insert((audit.lane, audit.number), audit.subject);
    })?;
    for topic in world.outputs() {
        each(side, world, &topic, |record| {
            let headers = record.headers().unwrap_or_default();
            let header = headers.iter().find(|(name, _)| *name == DELIVERY_HEADER);
            let header = header.and_then(|(_, value)| DeliveryHeader::decode((*value)?).ok());
            let Some(header) = header.filter(|_| record.value.is_some()) else {
                return;
            };
            let entry = entries.get(&(header.audit_lane, header.audit_number));
            if let Some(bar) = entry.and_then(|subject| barred.get(subject)) {
                verdict.deliveries_checked += 1;
                verdict.violations += u64::from(record.offset >= bar.topic);
            }
        })?;
    }
    Ok(verdict)
}

/// Every committed record of a lane topic.
fn each(
    side: &Side,
    world: &World,
    topic: &str,
    mut each: impl FnMut(mz_bus::Record<'_>),
) -> Result<(), BenchError> {
    let mut reader = Reader::open(&side.admin, Isolation::Committed)?;
    let lanes: Vec<_> = (0..i32::from(world.contract.lanes))
        .map(|lane| (topic, lane, Position::Beginning))
        .collect();
    reader.assign(&lanes)?;
    reader.poll_to_end(PATIENCE, &mut each)?;
    Ok(())
}
