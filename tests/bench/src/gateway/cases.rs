//! Opens the cases before anything is measured, and plays the vault for the backfills that they
//! cause: nothing was published before, so each is answered with "done, none".

use super::BenchError;
use super::world::{AGREEMENTS, Side, World};
use mz_bus::{Isolation, Polled, Position, Reader, TxProducer, tuning};
use mz_journal::{FactBody, FactReply, Fetch, Grant, GrantKind, GrantStatus, Record as _, topics};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Grants in one transaction.
const CHUNK: usize = 5_000;

/// Writes a case for each of the two agreements for one person in `one_in`. Returns how many.
pub(super) fn open(world: &World, side: &Side, one_in: u32) -> Result<u64, BenchError> {
    let mut producer = TxProducer::open(&side.admin, "bench-cases", tuning::TRANSACTION_TIMEOUT)?;
    producer.init()?;
    let step = usize::try_from(one_in.max(1)).unwrap_or(1);
    let chosen: Vec<_> = world.people.iter().step_by(step).collect();
    for chunk in chosen.chunks(CHUNK) {
        producer.begin()?;
        for person in chunk {
            for agreement in AGREEMENTS {
                let grant = Grant {
                    id: Grant::case_id(&[0; 32], agreement, person.tag),
                    kind: GrantKind::Case,
                    subject: person.tag,
                    agreement: agreement.to_owned(),
                    datasets: Vec::new(),
                    status: GrantStatus::Open,
                    counter: 1,
                    opened_ms: 1,
                    expires_ms: i64::MAX / 4,
                    closed_ms: None,
                    cause: "request:bench".to_owned(),
                    reason: String::new(),
                    subject_sealed: None,
                };
                let key = topics::grant_key(grant.subject, grant.id);
                producer.send(
                    topics::GRANTS,
                    i32::from(person.lane),
                    &key,
                    Some(&grant.encode()),
                    &[],
                )?;
            }
        }
        producer.commit()?;
    }
    Ok((chosen.len() * AGREEMENTS.len()) as u64)
}

/// Answers every request on `bus.fetch` until `stop`; `answered` counts.
pub(super) fn vault(
    side: &Side,
    lanes: u16,
    answered: &AtomicU64,
    stop: &AtomicBool,
) -> Result<(), BenchError> {
    let mut reader = Reader::open(&side.admin, Isolation::Committed)?;
    let all: Vec<(&str, i32, Position)> = (0..i32::from(lanes))
        .map(|lane| (topics::FETCH, lane, Position::Beginning))
        .collect();
    reader.assign(&all)?;
    let mut producer = TxProducer::open(&side.admin, "bench-vault", tuning::TRANSACTION_TIMEOUT)?;
    producer.init()?;
    while !stop.load(Ordering::Acquire) {
        let mut replies = Vec::new();
        reader.poll(10_000, Duration::from_millis(50), |polled| {
            let Polled::Record(record) = polled else {
                return;
            };
            if let Some(Ok(fetch)) = record.value.map(Fetch::decode) {
                let reply = FactReply {
                    grant: fetch.grant,
                    attempt: fetch.attempt,
                    subject: fetch.subject,
                    body: FactBody::Done { count: 0 },
                };
                replies.push((record.partition, reply));
            }
        })?;
        if replies.is_empty() {
            continue;
        }
        producer.begin()?;
        for (lane, reply) in &replies {
            producer.send(
                topics::FACTS,
                *lane,
                &reply.subject.0,
                Some(&reply.encode()),
                &[],
            )?;
        }
        producer.commit()?;
        answered.fetch_add(replies.len() as u64, Ordering::Release);
    }
    Ok(())
}
