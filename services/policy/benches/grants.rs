//! What one decision costs with many grants in the index: people in random order, so that neither the
//! table nor their entries are in a cache; with few, for what a decision costs apart from waiting for
//! memory. `cargo bench -p mz-policy`; about 1.4 GB of memory.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that can't be set up must say so"
)]

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mz_contract::{Contract, Mode, ScopeKind};
use mz_journal::{GrantId, GrantKind, GrantRef, GrantStatus, SubjectTag};
use mz_policy::{Asks, Decision, GrantsIndex, Now, decide};
use mz_seal::Verifier;
use mz_seal::testing::Golden;

const AGREEMENT: &str = "police/talent-settlement";
const DATASET: &str = "hrss.insurance.status.v1";
/// Within the agreement's term.
const NOW_MS: i64 = 1_795_000_000_000;
const COUNTS: [u64; 3] = [1_000, 1_000_000, 20_000_000];

/// SplitMix64: spreads numbers as the HMAC behind a tag does.
fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn tag(number: u64) -> [u8; 16] {
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&mix(number).to_le_bytes());
    tag[8..].copy_from_slice(&mix(!number).to_le_bytes());
    tag
}

fn index(count: u64) -> GrantsIndex {
    let mut index = GrantsIndex::new(usize::try_from(count).unwrap());
    for number in 0..count {
        let grant = GrantRef {
            id: GrantId(tag(number ^ (1 << 60))),
            kind: GrantKind::Case,
            subject: SubjectTag(tag(number)),
            agreement: AGREEMENT,
            datasets: Vec::new(),
            status: GrantStatus::Open,
            counter: 1,
            opened_ms: NOW_MS - 1_000_000,
            expires_ms: NOW_MS + 1_000_000_000,
            closed_ms: None,
            cause: "",
            reason: "",
            subject_sealed: None,
        };
        index.join(grant).unwrap();
    }
    index
}

fn decisions(criterion: &mut Criterion) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let contract = Contract::load(&root, Mode::Draft).unwrap();
    let agreement = contract.agreement(AGREEMENT).unwrap();
    let section = agreement
        .sections
        .iter()
        .find(|section| contract.datasets[section.dataset_ix].id == DATASET)
        .unwrap();
    assert!(section.scope == ScopeKind::Case);
    let golden = Golden::make();
    let source = &golden.events[0].event;
    let (_, datum) = mz_seal::unframe(&source.value).unwrap();
    let mut verifier = Verifier::new();
    let expect = golden.expect(source.lane);
    let seal = source.header(mz_seal::headers::SEAL).unwrap();
    let event = verifier
        .verify_source(&expect, datum, seal, &golden.keys)
        .unwrap();
    let now = Now::at_ms(NOW_MS);
    for count in COUNTS {
        let mut grants = index(count);
        let asks = Asks::of(&contract, &mut grants);
        let ask = asks.section(section);
        let sections: Vec<_> = contract
            .sections()
            .filter(|one| one.dataset_ix == section.dataset_ix)
            .map(|one| {
                (
                    &contract.agreements[one.agreement_ix],
                    one,
                    asks.section(one),
                )
            })
            .collect();
        let bytes = grants.bytes() as f64 / grants.len() as f64;
        eprintln!("{count} grants: {bytes:.1} bytes each");
        let mut next = 0u64;
        // Made outside of what is timed.
        let mut person = || {
            next += 1;
            SubjectTag(tag(mix(next) % count))
        };
        let mut stranger = u64::MAX;
        let mut group = criterion.benchmark_group(format!("decide/{count}"));
        group.bench_function("with a case", |bencher| {
            bencher.iter_batched(
                &mut person,
                |subject| {
                    let made = decide(agreement, section, &event, subject, ask, &grants, now);
                    assert!(matches!(made, Decision::Permit(_)));
                    black_box(made);
                },
                BatchSize::LargeInput,
            );
        });
        // As the gateway does: one event, every section that reads its dataset. The first decision fetches
        // the person's grants.
        group.throughput(Throughput::Elements(sections.len() as u64));
        group.bench_function("with a case, every section", |bencher| {
            bencher.iter_batched(
                &mut person,
                |subject| {
                    for (agreement, section, ask) in &sections {
                        let made = decide(agreement, section, &event, subject, *ask, &grants, now);
                        black_box(&made);
                    }
                },
                BatchSize::LargeInput,
            );
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function("without", |bencher| {
            bencher.iter_batched(
                || {
                    stranger -= 1;
                    SubjectTag(tag(stranger))
                },
                |subject| {
                    let made = decide(agreement, section, &event, subject, ask, &grants, now);
                    assert!(matches!(made, Decision::OutOfScope(_)));
                    black_box(made);
                },
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = decisions
}
criterion_main!(benches);
