//! How long an evidence bundle takes when many windows ask at once: a vault on the test stack,
//! asked over mutual TLS. Prints one line; compare only on the same machine.
//!
//! `cargo run -p mz-console --example bundle_latency -- [CALLERS] [SECONDS] [PERSONS]`

#![expect(
    clippy::unwrap_used,
    reason = "a measurement that can't be made must fail loudly"
)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mz_console::{Client, VaultOptions};
use mz_vault::bundle::{BundleRequest, FactState, SubjectQuery};
use mz_vault::testing::{TestBus, approval, household, insurance, person, ready, right};

const KINDS: [&str; 5] = [
    "PENSION",
    "UNEMPLOYMENT",
    "MEDICAL",
    "WORK_INJURY",
    "MATERNITY",
];

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|arg| arg.parse::<u32>().unwrap());
    let (callers, seconds, persons) = (
        args.next().unwrap_or(50),
        args.next().unwrap_or(10),
        args.next().unwrap_or(2_000),
    );
    let bus = TestBus::new();
    let everybody: Vec<_> = (0..persons).map(person).collect();
    for part in everybody.chunks(500) {
        let insured = part
            .iter()
            .flat_map(|id| KINDS.map(|kind| insurance(id, kind, 24)));
        bus.connector("hrss", "insurance")
            .publish(insured.collect());
        let approved = part.iter().map(|id| approval(id, "A"));
        bus.connector("hrss", "talent").publish(approved.collect());
        let owned = part.iter().map(|id| right(id, "R"));
        bus.connector("realestate", "right")
            .publish(owned.collect());
        let registered = part.iter().map(|id| household(id, "H"));
        bus.connector("police", "household")
            .publish(registered.collect());
    }
    let options = VaultOptions {
        index_url: bus.database_url.clone(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: bus.tls("bus.vault"),
        vault: bus.vault_options(),
    };
    let (vault, running) = mz_console::start_vault(options).unwrap();
    ready(&vault.handle());
    let base = format!("https://localhost:{}", running.address().port());
    let ask = |client: &Client, n: u32| {
        let request = BundleRequest {
            item: "talent-settlement".to_owned(),
            subject: SubjectQuery::Id(person(n % persons).as_str().to_owned()),
            operator: "bench".to_owned(),
            reason: "bench".to_owned(),
        };
        let (bundle, bytes) = client.bundle(&request).unwrap();
        assert!(
            bundle
                .facts
                .iter()
                .all(|fact| fact.state == FactState::Present)
        );
        bytes.len()
    };
    let client = Client::new(&base, &bus.tls("police.window")).unwrap();
    let mut size = 0;
    // Not before everything that was published is stored: until then requests rightly wait.
    for n in (0..persons)
        .rev()
        .take(4 * usize::from(mz_vault::testing::LANES))
    {
        let mut started = Instant::now();
        size = ask(&client, n);
        while started.elapsed() > Duration::from_millis(300) {
            started = Instant::now();
            ask(&client, n);
        }
    }
    let (next, until) = (
        AtomicU32::new(0),
        Instant::now() + Duration::from_secs(seconds.into()),
    );
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..callers)
            .map(|_| {
                scope.spawn(|| {
                    let client = Client::new(&base, &bus.tls("police.window")).unwrap();
                    let mut times = Vec::new();
                    while Instant::now() < until {
                        let started = Instant::now();
                        ask(&client, next.fetch_add(1, Ordering::Relaxed));
                        times.push(started.elapsed());
                    }
                    times
                })
            })
            .collect();
        asking
            .into_iter()
            .flat_map(|asking| asking.join().unwrap())
            .collect()
    });
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_millis();
    println!(
        "{callers} callers, {persons} persons, 8 facts a bundle of {size} bytes: {} bundles in {seconds} s ({}/s), p50 {} ms, p95 {} ms, p99 {} ms",
        times.len(),
        times.len() / seconds as usize,
        at(50),
        at(95),
        at(99),
    );
    running.stop();
    vault.stop().unwrap();
}
