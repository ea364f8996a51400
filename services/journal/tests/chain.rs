//! The chain notices whatever is done to a lane's log.

#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, Chain, ChainBreak, topics};

const LANE: u16 = 3;

/// Keys and bytes of `count` chained records.
fn log(count: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut chain = Chain::new(AuditWriter::Gateway, LANE);
    (1..=count)
        .map(|number| {
            let mut audit = entry(i64::try_from(number).unwrap());
            let mut bytes = Vec::new();
            chain.append(&mut audit, &mut bytes);
            (
                topics::audit_key(AuditWriter::Gateway, LANE, number).to_vec(),
                bytes,
            )
        })
        .collect()
}

fn entry(at_ms: i64) -> Audit<'static> {
    Audit::empty(
        AuditWriter::Gateway,
        LANE,
        at_ms,
        AuditKind::Delivered,
        AuditCause::Stream,
    )
}

fn walk(log: &[(Vec<u8>, Vec<u8>)]) -> Result<u64, ChainBreak> {
    let mut chain = Chain::new(AuditWriter::Gateway, LANE);
    for (key, bytes) in log {
        chain.check(key, bytes)?;
    }
    Ok(chain.number())
}

#[test]
fn an_untouched_log_holds_and_can_be_resumed() {
    let log = log(20);
    assert_eq!(walk(&log), Ok(20));
    let mut first = Chain::new(AuditWriter::Gateway, LANE);
    for (key, bytes) in &log[..10] {
        first.check(key, bytes).unwrap();
    }
    let mut second = Chain::resume(AuditWriter::Gateway, LANE, first.number(), *first.digest());
    for (key, bytes) in &log[10..] {
        second.check(key, bytes).unwrap();
    }
    assert_eq!(second.number(), 20);
}

#[test]
fn a_missing_record_shows() {
    let mut log = log(5);
    log.remove(2);
    assert_eq!(
        walk(&log),
        Err(ChainBreak::Gap {
            lane: LANE,
            expected_before: 2,
            found: 4
        })
    );
}

#[test]
fn a_repeated_record_shows() {
    let mut log = log(5);
    log.insert(3, log[2].clone());
    assert_eq!(
        walk(&log),
        Err(ChainBreak::Repeat {
            lane: LANE,
            last: 3,
            found: 3
        })
    );
}

#[test]
fn swapped_records_show() {
    let mut log = log(5);
    log.swap(1, 2);
    assert_eq!(
        walk(&log),
        Err(ChainBreak::Gap {
            lane: LANE,
            expected_before: 1,
            found: 3
        })
    );
}

/// The operator drops a record and writes the rest anew with numbers that fit, but the next
/// writer's chain starts from what was really there.
#[test]
fn a_renumbered_log_breaks_at_the_next_honest_record() {
    let honest = log(6);
    let mut forged = Chain::new(AuditWriter::Gateway, LANE);
    let mut rewritten = Vec::new();
    for at_ms in [1, 2, 4, 5, 5] {
        let mut bytes = Vec::new();
        forged.append(&mut entry(at_ms), &mut bytes);
        rewritten.push((
            topics::audit_key(AuditWriter::Gateway, LANE, forged.number()).to_vec(),
            bytes,
        ));
    }
    rewritten.push(honest[5].clone());
    assert_eq!(
        walk(&rewritten),
        Err(ChainBreak::Link {
            lane: LANE,
            number: 6
        })
    );
}

#[test]
fn every_flipped_bit_shows() {
    let log = log(3);
    for at in 0..log[1].1.len() {
        for bit in 0..8 {
            let mut bent = log.clone();
            bent[1].1[at] ^= 1 << bit;
            assert!(walk(&bent).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn records_of_another_lane_writer_or_key_show() {
    let mut foreign = log(2);
    foreign[1].0[1] ^= 1;
    assert_eq!(
        walk(&foreign),
        Err(ChainBreak::Key {
            lane: LANE,
            number: 2
        })
    );

    let mut other = Chain::new(AuditWriter::Gateway, LANE + 1);
    let mut bytes = Vec::new();
    other.append(&mut entry(1), &mut bytes);
    let key = topics::audit_key(AuditWriter::Gateway, LANE + 1, 1).to_vec();
    assert_eq!(
        walk(&[(key, bytes)]),
        Err(ChainBreak::Lane {
            lane: LANE,
            found: LANE + 1
        })
    );

    let mut vault = Chain::new(AuditWriter::Vault, LANE);
    let mut bytes = Vec::new();
    vault.append(&mut entry(1), &mut bytes);
    let key = topics::audit_key(AuditWriter::Vault, LANE, 1).to_vec();
    assert_eq!(
        walk(&[(key, bytes)]),
        Err(ChainBreak::Writer {
            lane: LANE,
            number: 1
        })
    );
}

#[test]
fn numbers_start_at_one_from_zero() {
    let log = log(1);
    let audit = Audit::read(&log[0].1).unwrap();
    assert_eq!((audit.number, audit.prev), (1, [0; 32]));
}
