//! The transaction loop against a real broker: what commits is seen once, what aborts is not,
//! and a producer whose id was taken commits nothing.

#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

mod common;

use common::{WAIT, topics};
use mz_bus::tuning::TRANSACTION_TIMEOUT;
use mz_bus::{
    BusError, BusOptions, Isolation, Polled, Position, Reader, TxError, TxProducer, read_to_end,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn producer(bus: &BusOptions, id: &str) -> TxProducer {
    let mut producer = TxProducer::open(bus, id, TRANSACTION_TIMEOUT).unwrap();
    producer.init().unwrap();
    producer
}

fn values(bus: &BusOptions, topic: &str) -> Vec<String> {
    let mut values = Vec::new();
    read_to_end(bus, topic, 0, Position::Beginning, |record| {
        values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
    })
    .unwrap();
    values
}

#[test]
fn committed_readers_see_commits_and_not_aborts() {
    let bus = topics(&[("out", 2)]);
    let mut producer = producer(&bus, "mz-gw-0");
    let mut reader = Reader::open(&bus, Isolation::Uncommitted).unwrap();
    reader.assign(&[("out", 0, Position::Beginning)]).unwrap();
    let mut seen = Vec::new();
    for (value, commit) in [("one", true), ("two", false), ("three", true)] {
        producer.begin().unwrap();
        producer
            .send(
                "out",
                0,
                b"key",
                Some(value.as_bytes()),
                &[("ce_id", b"1"), ("mz-seal", b"\0\xff")],
            )
            .unwrap();
        // Whoever reads uncommitted data sees it now, aborted later or not: this is what
        // `exposed` is about.
        let before = seen.len();
        while seen.len() == before {
            producer.serve();
            reader
                .poll(1, Duration::from_millis(20), |polled| {
                    let Polled::Record(record) = polled else {
                        return;
                    };
                    let headers = record.headers().unwrap();
                    assert_eq!(
                        headers,
                        [
                            ("ce_id", Some(&b"1"[..])),
                            ("mz-seal", Some(&b"\0\xff"[..]))
                        ]
                    );
                    assert_eq!(
                        (record.topic, record.partition, record.key),
                        ("out", 0, Some(&b"key"[..]))
                    );
                    seen.push(record.offset);
                })
                .unwrap();
        }
        if commit {
            producer.commit().unwrap();
        } else {
            producer.abort().unwrap();
        }
    }
    assert_eq!(values(&bus, "out"), ["one", "three"]);
    // Control records take offsets: never compare one with a watermark.
    assert_eq!(seen, [0, 2, 4]);
    assert_eq!(reader.watermarks("out", 0).unwrap(), (0, 6));
}

/// Consume, produce, keep the position in the same transaction; abort now and then and start over
/// from the committed position; a new owner goes on where the old one committed.
#[test]
fn every_input_gives_one_output_through_aborts_and_new_owners() {
    const INPUTS: usize = 600;
    let bus = topics(&[("in", 1), ("out", 1), ("state", 1)]);
    let mut source = producer(&bus, "source");
    source.begin().unwrap();
    for number in 0..INPUTS {
        source
            .send("in", 0, b"", Some(number.to_string().as_bytes()), &[])
            .unwrap();
    }
    source.commit().unwrap();

    let mut round = 0;
    loop {
        let mut owner = producer(&bus, "mz-gw-1");
        let mut position = 0;
        read_to_end(&bus, "state", 0, Position::Beginning, |record| {
            position = i64::from_be_bytes(record.value.unwrap().try_into().unwrap());
        })
        .unwrap();
        let mut reader = Reader::open(&bus, Isolation::Committed).unwrap();
        reader
            .assign(&[("in", 0, Position::Offset(position))])
            .unwrap();
        let mut at_end = false;
        for _ in 0..3 {
            round += 1;
            owner.begin().unwrap();
            let mut next = None;
            let mut failed = None;
            reader
                .poll(50, WAIT, |polled| match polled {
                    Polled::Record(record) => {
                        failed = failed
                            .take()
                            .or(owner.send("out", 0, b"", record.value, &[]).err());
                        next = Some(record.offset + 1);
                    }
                    Polled::Eof { .. } => at_end = true,
                })
                .unwrap();
            assert!(failed.is_none());
            if let Some(next) = next {
                owner
                    .send("state", 0, b"gw|0", Some(&next.to_be_bytes()), &[])
                    .unwrap();
            }
            if round % 4 == 0 {
                owner.abort().unwrap();
                at_end = false;
                break;
            }
            owner.commit().unwrap();
            if at_end {
                break;
            }
        }
        if at_end {
            break;
        }
    }
    let expected: Vec<String> = (0..INPUTS).map(|number| number.to_string()).collect();
    assert_eq!(values(&bus, "out"), expected);
}

/// The frozen owner wakes in the middle of its transaction, after another took the slot.
#[test]
fn a_zombie_commits_nothing() {
    let bus = topics(&[("out", 1)]);
    let mut zombie = producer(&bus, "mz-gw-2");
    zombie.begin().unwrap();
    zombie.send("out", 0, b"", Some(b"zombie"), &[]).unwrap();
    zombie.serve();

    let mut owner = producer(&bus, "mz-gw-2");
    let fault = zombie.commit().unwrap_err();
    assert!(matches!(fault, TxError::Fenced { .. }), "{fault:?}");
    assert_eq!(fault.code(), "BUS_FENCED");
    // It stays fenced, whatever it tries.
    assert!(matches!(zombie.begin(), Err(TxError::Fenced { .. })));
    let sent = zombie.send("out", 0, b"", Some(b"zombie"), &[]);
    assert!(matches!(sent, Err(TxError::Fenced { .. })), "{sent:?}");

    owner.begin().unwrap();
    owner.send("out", 0, b"", Some(b"owner"), &[]).unwrap();
    owner.commit().unwrap();
    assert_eq!(values(&bus, "out"), ["owner"]);
}

#[test]
fn an_idle_zombie_is_told_at_its_next_commit() {
    let bus = topics(&[("out", 1)]);
    let mut zombie = producer(&bus, "mz-gw-3");
    let _owner = producer(&bus, "mz-gw-3");
    let told = zombie
        .begin()
        .and_then(|()| zombie.send("out", 0, b"", Some(b"zombie"), &[]))
        .and_then(|()| zombie.commit());
    assert!(matches!(told, Err(TxError::Fenced { .. })), "{told:?}");
    assert!(values(&bus, "out").is_empty());
}

/// rust-rdkafka's own flush sleeps in steps of 100 ms; ten small transactions would take a second.
#[test]
fn a_commit_does_not_wait_in_steps() {
    let bus = topics(&[("out", 1)]);
    let mut producer = producer(&bus, "mz-gw-4");
    let mut times: Vec<Duration> = (0..20)
        .map(|number: u32| {
            let start = Instant::now();
            producer.begin().unwrap();
            producer
                .send("out", 0, b"", Some(&number.to_be_bytes()), &[])
                .unwrap();
            producer.commit().unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    assert!(
        times[10] < Duration::from_millis(90),
        "median {:?}",
        times[10]
    );
}

/// Many topics with the same partition number: each end is told under its own name.
#[test]
fn ends_of_partitions_carry_their_topic() {
    let bus = topics(&[("a", 2), ("b", 2), ("c", 2)]);
    let mut producer = producer(&bus, "mz-gw-5");
    producer.begin().unwrap();
    for (topic, partition, count) in [("a", 0, 3), ("b", 0, 1), ("b", 1, 2)] {
        for _ in 0..count {
            producer
                .send(topic, partition, b"", Some(b"x"), &[])
                .unwrap();
        }
    }
    producer.commit().unwrap();
    let mut reader = Reader::open(&bus, Isolation::Committed).unwrap();
    let all: Vec<(&str, i32, Position)> = ["a", "b", "c"]
        .iter()
        .flat_map(|topic| {
            [
                (*topic, 0, Position::Beginning),
                (*topic, 1, Position::Beginning),
            ]
        })
        .collect();
    reader.assign(&all).unwrap();
    let (mut counts, mut ends) = (BTreeMap::new(), BTreeMap::new());
    while ends.len() < 6 {
        let handed = reader
            .poll(2, WAIT, |polled| match polled {
                Polled::Record(record) => {
                    *counts
                        .entry((record.topic.to_owned(), record.partition))
                        .or_insert(0) += 1;
                }
                Polled::Eof {
                    topic,
                    partition,
                    next_offset,
                } => {
                    ends.insert((topic.to_owned(), partition), next_offset);
                }
            })
            .unwrap();
        assert!(handed > 0, "only {ends:?}");
    }
    let of = |topic: &str, partition| (topic.to_owned(), partition);
    assert_eq!(
        counts,
        BTreeMap::from([(of("a", 0), 3), (of("b", 0), 1), (of("b", 1), 2)])
    );
    // The position lies behind the commit marker.
    assert_eq!(
        (ends[&of("a", 0)], ends[&of("b", 0)], ends[&of("c", 1)]),
        (4, 2, 0)
    );

    // Assigned anew, from elsewhere: nothing of the old assignment comes.
    reader
        .assign(&[("a", 0, Position::Offset(2)), ("b", 1, Position::End)])
        .unwrap();
    let mut offsets = Vec::new();
    reader
        .poll_to_end(WAIT, |record| {
            offsets.push((record.topic.to_owned(), record.offset))
        })
        .unwrap();
    assert_eq!(offsets, [("a".to_owned(), 2)]);
}

#[test]
fn a_topic_that_is_written_without_a_pause_has_an_end() {
    let bus = topics(&[("busy", 1)]);
    let mut producer = producer(&bus, "mz-gw-7");
    let written = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                producer.begin().unwrap();
                producer.send("busy", 0, b"", Some(b"x"), &[]).unwrap();
                producer.commit().unwrap();
                written.fetch_add(1, Ordering::AcqRel);
            }
        });
        let read = scope.spawn(|| {
            while written.load(Ordering::Acquire) < 200 {
                std::thread::yield_now();
            }
            let (before, mut count) = (written.load(Ordering::Acquire), 0);
            read_to_end(&bus, "busy", 0, Position::Beginning, |_| count += 1).unwrap();
            assert!(count >= before, "{count} {before}");
        });
        let deadline = Instant::now() + WAIT;
        while !read.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let ended = read.is_finished();
        stop.store(true, Ordering::Release);
        assert!(ended, "read for as long as was written");
    });
}

#[test]
fn a_lost_position_is_an_error_and_not_a_jump() {
    let bus = topics(&[("in", 1)]);
    let mut reader = Reader::open(&bus, Isolation::Committed).unwrap();
    reader.assign(&[("in", 0, Position::Offset(500))]).unwrap();
    let fault = reader.poll(1, WAIT, |_| {}).unwrap_err();
    assert!(
        matches!(fault, BusError::OffsetLost { partition: 0, .. }),
        "{fault:?}"
    );
}

#[test]
fn a_missing_topic_is_an_error() {
    let bus = topics(&[]);
    let mut reader = Reader::open(&bus, Isolation::Committed).unwrap();
    reader
        .assign(&[("nowhere", 0, Position::Beginning)])
        .unwrap();
    let fault = reader.poll(1, WAIT, |_| {}).unwrap_err();
    assert!(
        matches!(&fault, BusError::TopicMissing { topic } if topic == "nowhere"),
        "{fault:?}"
    );
}

#[test]
fn waiting_for_nothing_ends_in_time() {
    let bus = topics(&[("in", 1)]);
    let mut reader = Reader::open(&bus, Isolation::Committed).unwrap();
    reader.assign(&[("in", 0, Position::Beginning)]).unwrap();
    reader.poll_to_end(WAIT, |_| {}).unwrap();
    let start = Instant::now();
    assert_eq!(
        reader.poll(10, Duration::from_millis(200), |_| {}).unwrap(),
        0
    );
    assert!(
        (150..1500).contains(&start.elapsed().as_millis()),
        "{:?}",
        start.elapsed()
    );
}

/// A large backlog through small polls: order holds, nothing is lost or repeated.
#[test]
fn order_holds_within_a_partition() {
    const EACH: usize = 5_000;
    let bus = topics(&[("in", 4)]);
    let mut producer = producer(&bus, "mz-gw-6");
    producer.begin().unwrap();
    for number in 0..EACH {
        for partition in 0..4 {
            producer
                .send("in", partition, b"", Some(&number.to_be_bytes()), &[])
                .unwrap();
        }
    }
    producer.commit().unwrap();
    let mut reader = Reader::open(&bus, Isolation::Committed).unwrap();
    let all: Vec<_> = (0..4)
        .map(|partition| ("in", partition, Position::Beginning))
        .collect();
    reader.assign(&all).unwrap();
    let mut next = [0usize; 4];
    let mut ends = 0;
    while ends < 4 {
        let handed = reader
            .poll(300, WAIT, |polled| match polled {
                Polled::Record(record) => {
                    let number = usize::from_be_bytes(record.value.unwrap().try_into().unwrap());
                    let lane = usize::try_from(record.partition).unwrap();
                    assert_eq!(number, next[lane]);
                    next[lane] += 1;
                }
                Polled::Eof { .. } => ends += 1,
            })
            .unwrap();
        assert!((1..=300).contains(&handed));
    }
    assert_eq!(next, [EACH; 4]);
}
