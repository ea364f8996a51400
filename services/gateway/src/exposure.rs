//! What readers of uncommitted data may have seen. A consumer can read `to.*` without waiting for
//! the commit; of a transaction that aborted it then holds records that no audit entry names. So a
//! new owner compares, from the offset up to which everything is accounted for, what such a reader
//! sees with what is committed, and audits the difference as exposed before it produces anything.

use mz_bus::{Reader, Record, Stretch, read_stretches};
use mz_journal::{
    Audit, AuditCause, AuditKind, AuditWriter, DELIVERY_HEADER, DeliveryHeader, Record as _,
    RecordTag, SubjectTag,
};
use mz_seal::{ExpectDelivery, Headers, unframe};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::Engine;
use crate::error::Error;
use crate::lane::Lane;
use crate::outbox::{Halt, Writer};
use crate::telemetry;

/// Entries written for one lane and topic; more are told as one entry with their count.
const MAX_ENTRIES: usize = 10_000;

/// One record of an aborted transaction.
#[derive(Debug)]
pub(crate) struct Exposed {
    /// Position of the lane in the engine.
    at: usize,
    output: usize,
    offset: i64,
    sequence: u64,
    subject: SubjectTag,
    record: RecordTag,
    event: [u8; 32],
    version: (u32, u64),
}

/// Compares both views of every output of the slot, and moves the floors to their ends.
pub(crate) fn scan(
    raw: &mut Reader,
    committed: &mut Reader,
    engine: &mut Engine,
) -> Result<Vec<Exposed>, Error> {
    let plan = std::sync::Arc::clone(&engine.plan);
    let mut stretches = Vec::new();
    for lane in &engine.lanes {
        for (state, output) in lane.outputs.iter().zip(&plan.outputs) {
            let (low, high) = raw.watermarks(&output.topic, i32::from(lane.lane))?;
            stretches.push(Stretch {
                topic: &output.topic,
                lane: lane.lane,
                from: state.floor.max(low),
                to: high,
            });
        }
    }
    let ends: FxHashMap<(&str, i32), i64> = stretches
        .iter()
        .map(|stretch| ((stretch.topic, i32::from(stretch.lane)), stretch.to))
        .collect();
    let inside = |record: &Record<'_>| {
        ends.get(&(record.topic, record.partition))
            .is_some_and(|end| record.offset < *end)
    };
    let outputs: FxHashMap<&str, usize> = plan
        .outputs
        .iter()
        .enumerate()
        .map(|(at, output)| (output.topic.as_str(), at))
        .collect();
    let place = |record: &Record<'_>| {
        let output = outputs.get(record.topic).copied().unwrap_or_default();
        (output, record.partition, record.offset)
    };
    let mut visible: FxHashSet<(usize, i32, i64)> = FxHashSet::default();
    read_stretches(committed, &stretches, |record| {
        if inside(record) {
            visible.insert(place(record));
        }
    })?;
    let mut exposed = Vec::new();
    read_stretches(raw, &stretches, |record| {
        if inside(record)
            && !visible.contains(&place(record))
            && let Some(at) = engine.lane_at(record.partition)
        {
            exposed.push(read(engine, at, place(record), record));
        }
    })?;
    for stretch in &stretches {
        let output = outputs.get(stretch.topic).copied().unwrap_or_default();
        if let Some(at) = engine.lane_at(i32::from(stretch.lane)) {
            engine.lanes[at].outputs[output].floor = stretch.to.max(0);
        }
    }
    Ok(exposed)
}

/// What the record itself says. Where subject or record are withheld, the entry names none: the consumer
/// could not tell either.
fn read(
    engine: &mut Engine,
    at: usize,
    (output, _, offset): (usize, i32, i64),
    record: &Record<'_>,
) -> Exposed {
    let mut exposed = Exposed {
        at,
        output,
        offset,
        sequence: 0,
        subject: SubjectTag::default(),
        record: RecordTag::default(),
        event: [0; 32],
        version: (0, 0),
    };
    let Ok(listed) = record.headers() else {
        return exposed;
    };
    let delivery = listed
        .iter()
        .find(|(name, _)| *name == DELIVERY_HEADER)
        .and_then(|(_, value)| DeliveryHeader::decode((*value)?).ok());
    exposed.sequence = delivery.map_or(0, |header| header.sequence);
    let given = listed
        .iter()
        .map(|(name, value)| (*name, value.unwrap_or_default()));
    let plan = std::sync::Arc::clone(&engine.plan);
    let to = &plan.outputs[output];
    let section = plan
        .agreement(to.agreement)
        .sections
        .iter()
        .find(|section| section.out_topic == to.topic);
    let (Ok(headers), Some(section), Some(value)) =
        (Headers::collect(given), section, record.value)
    else {
        return exposed;
    };
    let dataset = &plan.contract.datasets[section.dataset_ix];
    let expect = ExpectDelivery {
        bus: &plan.contract.bus_id,
        dataset: &dataset.id,
        department: &dataset.department,
        streams: &dataset.streams,
        lane: None,
        source_layout: &dataset.layout,
        source_schema_digest: &dataset.schema_digest,
        kept: &section.fields,
        projected_layout: &section.projected_layout,
    };
    let (Ok((_, datum)), Ok(seal)) = (unframe(value), headers.seal()) else {
        return exposed;
    };
    let verified = engine
        .verifier
        .verify_delivery(&expect, datum, seal, &*plan.contract);
    if let Ok(verified) = verified {
        exposed.event = verified.event_digest;
        exposed.version = (verified.meta.epoch, verified.meta.counter);
        exposed.record = verified
            .record
            .map(|record| engine.keys.audit.record_tag(&dataset.id, record))
            .unwrap_or_default();
        exposed.subject = verified
            .subject
            .and_then(|subject| engine.people.person(subject, &engine.keys))
            .map(|person| person.tag)
            .unwrap_or_default();
    }
    exposed
}

/// Audits what was exposed. The first thing that a new owner writes.
pub(crate) fn report(
    w: &mut Writer<'_>,
    lanes: &mut [Lane],
    exposed: &[Exposed],
) -> Result<(), Halt> {
    for part in exposed.chunk_by(|a, b| (a.at, a.output) == (b.at, b.output)) {
        for (index, one) in part.iter().enumerate().take(MAX_ENTRIES) {
            let lane = &mut lanes[one.at];
            let to = &w.plan.outputs[one.output];
            let agreement = w.plan.agreement(to.agreement);
            let mut entry = Audit::empty(
                AuditWriter::Gateway,
                lane.lane,
                w.now.ms,
                AuditKind::Exposed,
                AuditCause::Stream,
            );
            entry.agreement = agreement.id.as_str().into();
            entry.consumer = agreement.consumer.as_str().into();
            entry.purpose = agreement.purpose.as_str().into();
            entry.dataset = to.label.as_str().into();
            entry.subject = one.subject;
            entry.record = one.record;
            entry.event = one.event;
            entry.version_epoch = one.version.0;
            entry.version_counter = one.version.1;
            entry.output_sequence = one.sequence;
            entry.reason = "TRANSACTION_ABORTED".into();
            (entry.counts.from_offset, entry.counts.to_offset) = (one.offset, one.offset);
            if index + 1 == MAX_ENTRIES
                && let Some(last) = part.last()
            {
                entry.counts.to_offset = last.offset;
            }
            w.audit(lane, &mut entry)?;
            w.out.counts.exposed += 1;
        }
    }
    if !exposed.is_empty() {
        tracing::warn!(
            records = exposed.len(),
            "an aborted transaction had shown deliveries to readers of uncommitted data"
        );
        telemetry::exposed(exposed.len() as u64);
    }
    Ok(())
}
