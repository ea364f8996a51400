//! Prints the cost of verifying, redacting and projecting one event of a known batch,
//! in nanoseconds. `cargo run --release -p mz-seal --features testing --example timing`

use std::hint::black_box;
use std::time::Instant;

use mz_seal::testing::Golden;
use mz_seal::{Draft, FieldSet, SealedEvent, Verifier, encode, schema_digest, seal_batch, unframe};

const BATCH: usize = 256;
const ROUNDS: usize = 400;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let golden = Golden::make();
    let (_, datum) = unframe(&golden.events[0].event.value)?;
    let fields = golden.layout.decode_record(datum)?;
    let value = encode(&golden.layout, &fields)?;
    let mut spans = Vec::new();
    golden.layout.spans(&value, &mut spans)?;

    let draft = |index: usize| Draft {
        dataset: golden.dataset.clone(),
        lane: 3,
        sequence: 1 + index as u64,
        ce_id: [index as u8; 16],
        ce_time_ms: 1_740_787_200_000,
        schema: schema_digest(&golden.avsc),
        counter: 1 + index as u64,
        withdrawn: false,
        subject: golden.events[0].subject.clone(),
        record: golden.events[0].record.clone(),
        value: value.clone(),
        spans: spans.clone(),
    };
    let drafts: Vec<Draft> = (0..BATCH).map(draft).collect();
    let started = Instant::now();
    let mut seed = 0u8;
    let events: Vec<SealedEvent> = seal_batch(
        "dg-bus",
        "hrss",
        "insurance",
        1,
        1,
        drafts,
        &mut || {
            seed = seed.wrapping_add(1);
            [seed; 32]
        },
        &golden.signer,
    )?;
    report("seal, batch of 256", started, BATCH);

    let keys = &golden.keys;
    let expect = golden.expect(3);
    let mut verifier = Verifier::new();
    let started = Instant::now();
    for event in &events {
        let verified = verifier.verify_source(&expect, &event.value, &event.seal, keys)?;
        verifier.recycle(verified);
    }
    report(
        "verify, first sight of the batch, signature included",
        started,
        BATCH,
    );

    let started = Instant::now();
    for _ in 0..ROUNDS {
        for event in &events {
            let verified = verifier.verify_source(&expect, &event.value, &event.seal, keys)?;
            verifier.recycle(black_box(verified));
        }
    }
    report("verify, known batch", started, BATCH * ROUNDS);

    let started = Instant::now();
    for _ in 0..ROUNDS * BATCH {
        golden.layout.spans(black_box(&value), &mut spans)?;
    }
    report("walk the value", started, BATCH * ROUNDS);

    let verified = verifier.verify_source(&expect, &events[0].value, &events[0].seal, keys)?;
    let set = FieldSet::of(&golden.kept);
    let (mut out, mut projected) = (Vec::new(), Vec::new());
    let started = Instant::now();
    for _ in 0..ROUNDS * BATCH {
        out.clear();
        verified.redact(black_box(&set), true, true, &mut out);
    }
    report("redact", started, BATCH * ROUNDS);
    let started = Instant::now();
    for _ in 0..ROUNDS * BATCH {
        projected.clear();
        verified.project(black_box(&golden.kept), &mut projected);
    }
    report("project", started, BATCH * ROUNDS);

    let delivery = golden.expect_delivery(3, &golden.kept, &golden.projected_layout);
    let started = Instant::now();
    for _ in 0..ROUNDS * BATCH {
        black_box(verifier.verify_delivery(&delivery, &projected, &out, keys)?);
    }
    report("verify a delivery, known batch", started, BATCH * ROUNDS);
    println!(
        "value {} bytes, source seal {} bytes, delivery seal {} bytes, {} leaves",
        value.len(),
        events[0].seal.len(),
        out.len(),
        spans.len() + 3
    );
    Ok(())
}

fn report(what: &str, started: Instant, events: usize) {
    println!(
        "{:>8.0} ns/event  {what}",
        started.elapsed().as_nanos() as f64 / events as f64
    );
}
