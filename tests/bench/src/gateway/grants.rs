//! How long a new owner reads before it may decide, what a grant costs in memory and a decision in
//! time: many grants on `bus.grants`, loaded by one thread a slot through the takeover's own code.

use super::measure::cpu_seconds;
use super::publish::{Stream, now_us};
use super::report::round;
use super::world::{AGREEMENTS, DATASET, PROVIDER, Side, World};
use super::{BenchError, Options, set_up, take_down};
use mz_bus::PlainProducer;
use mz_journal::{Grant, GrantId, GrantKind, GrantStatus, Record as _, SubjectTag, topics};
use mz_policy::{Asks, Decision, GrantsIndex, Now, decide};
use mz_seal::{Expect, Verifier, headers, unframe};
use serde::Serialize;
use std::fmt;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

/// Slots that load side by side, a thread each.
const SLOTS: u32 = 2;
/// Producers that publish what is loaded.
const PUBLISHERS: u64 = 2;
/// Decisions timed in each slot.
const DECISIONS: usize = 5_000_000;
/// How long a case lives.
const CASE_MS: i64 = 180 * 24 * 3600 * 1000;
/// Longest wait for the last records of a publisher.
const PATIENCE: Duration = Duration::from_secs(120);

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct Grants {
    pub grants: u64,
    pub lanes: u16,
}

/// What `bench grants` prints.
#[derive(Clone, Debug, Serialize)]
pub struct GrantsReport {
    pub grants: u64,
    pub lanes: u16,
    pub slots: u32,
    pub publish_seconds: f64,
    /// From the first request to the last grant in memory, all slots side by side.
    pub load_seconds: f64,
    pub grants_per_s: f64,
    /// CPU of this process while loading, microseconds a grant.
    pub cpu_us_per_grant: f64,
    /// CPU of the broker while loading, microseconds a grant; 0 when unknown.
    pub broker_us_per_grant: f64,
    /// What the index counts.
    pub bytes_per_grant: f64,
    /// By how much the process grew while loading; the client's own buffers are in it.
    pub resident_bytes_per_grant: f64,
    /// CPU of a decision about a person with a case, people in random order; what waiting for memory costs
    /// is in it, what other processes take is not.
    pub decision_ns: f64,
    pub cpus: usize,
    pub release: bool,
}

impl fmt::Display for GrantsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.release {
            writeln!(f, "NOT a release build: these figures mean nothing")?;
        }
        writeln!(
            f,
            "{} grants in {} lanes, {} slots side by side (published in {} s)",
            self.grants, self.lanes, self.slots, self.publish_seconds
        )?;
        let rows = [
            ("load, s", self.load_seconds),
            ("grants/s", self.grants_per_s),
            ("CPU µs/grant, this process", self.cpu_us_per_grant),
            ("CPU µs/grant, broker", self.broker_us_per_grant),
            ("bytes/grant, index", self.bytes_per_grant),
            ("bytes/grant, process", self.resident_bytes_per_grant),
            ("CPU ns/decision", self.decision_ns),
        ];
        for (name, figure) in rows {
            writeln!(f, "{name:34} {figure:>14}")?;
        }
        Ok(())
    }
}

/// Sets up, publishes, loads, decides, takes down.
pub fn grants(
    options: &Options,
    what: Grants,
    progress: &dyn Fn(&str),
) -> Result<GrantsReport, BenchError> {
    progress("contract, keys, topics");
    let world = World::with_lanes(1, what.lanes)?;
    let side = Side::new(
        &options.admin,
        &options.keys,
        format!("bench{}i.", now_us()),
    );
    let result =
        set_up(&world, [&side]).and_then(|()| measure(options, &world, &side, what, progress));
    progress("taking down");
    take_down(&side)?;
    result
}

fn measure(
    options: &Options,
    world: &World,
    side: &Side,
    what: Grants,
    progress: &dyn Fn(&str),
) -> Result<GrantsReport, BenchError> {
    progress("publishing the grants");
    let started = Instant::now();
    let opened_ms = now_us() / 1_000;
    publish(side, what, opened_ms)?;
    let publish_seconds = started.elapsed().as_secs_f64();

    progress("loading");
    let now = Now::at_ms(now_us() / 1_000 + 1_000);
    let mut gateway = mz_gateway::Options::new(
        side.gateway.clone(),
        world.contract.clone(),
        world.gateway_keys.clone(),
        SLOTS,
    );
    gateway.grant_limit = usize::MAX;
    let before = Usage::now(options.broker);
    let started = Instant::now();
    let mut loaded = side_by_side(|slot| Ok(mz_gateway::load_grants(&gateway, slot)?))?;
    let load_seconds = started.elapsed().as_secs_f64();
    let used = Usage::now(options.broker).since(&before);
    let found: usize = loaded.iter().map(GrantsIndex::len).sum();
    if found as u64 != what.grants {
        return Err(BenchError::Counts {
            what: "grants",
            expected: what.grants,
            found: found as u64,
        });
    }
    let bytes: usize = loaded.iter().map(GrantsIndex::bytes).sum();

    progress("deciding");
    let mut nanoseconds = 0.0;
    for (slot, index) in (0..).zip(&mut loaded) {
        nanoseconds += decisions(world, index, slot, what, now)?;
    }
    let each = |total: f64| round(total / what.grants.max(1) as f64);
    Ok(GrantsReport {
        grants: what.grants,
        lanes: what.lanes,
        slots: SLOTS,
        publish_seconds: round(publish_seconds),
        load_seconds: round(load_seconds),
        grants_per_s: round(what.grants as f64 / load_seconds),
        cpu_us_per_grant: each(used.cpu * 1e6),
        broker_us_per_grant: each(used.broker * 1e6),
        bytes_per_grant: each(bytes as f64),
        resident_bytes_per_grant: each(used.resident),
        decision_ns: round(nanoseconds / f64::from(SLOTS)),
        cpus: thread::available_parallelism().map_or(0, usize::from),
        release: !cfg!(debug_assertions),
    })
}

/// Runs one thread a slot; answers in the slots' order.
fn side_by_side<T: Send>(
    run: impl Fn(u32) -> Result<T, BenchError> + Sync,
) -> Result<Vec<T>, BenchError> {
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..SLOTS)
            .map(|slot| scope.spawn(move || run(slot)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| BenchError::Panicked)?)
            .collect()
    })
}

/// What processes have used so far: seconds, and bytes of memory.
struct Usage {
    cpu: f64,
    broker: f64,
    resident: f64,
}

impl Usage {
    fn now(broker: Option<u32>) -> Self {
        Self {
            cpu: cpu_seconds(None).unwrap_or_default(),
            broker: broker
                .and_then(|id| cpu_seconds(Some(id)))
                .unwrap_or_default(),
            resident: resident_bytes().unwrap_or_default(),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            cpu: self.cpu - before.cpu,
            broker: self.broker - before.broker,
            resident: self.resident - before.resident,
        }
    }
}

/// Memory of this process that is in use, as Linux counts it.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

/// Spreads numbers as the HMAC behind a tag does (SplitMix64).
pub(super) fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub(super) fn tag(number: u64) -> [u8; 16] {
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&mix(number).to_le_bytes());
    tag[8..].copy_from_slice(&mix(!number).to_le_bytes());
    tag
}

/// The lane of one made-up person.
fn lane(number: u64, lanes: u16) -> u16 {
    // Below `lanes`, which is a u16.
    (number % u64::from(lanes)) as u16
}

/// One case a person, as an event opens it.
fn case(number: u64, opened_ms: i64) -> Grant {
    Grant {
        id: GrantId(tag(number ^ (1 << 60))),
        kind: GrantKind::Case,
        subject: SubjectTag(tag(number)),
        agreement: AGREEMENTS[0].to_owned(),
        datasets: Vec::new(),
        status: GrantStatus::Open,
        counter: 1,
        opened_ms,
        expires_ms: opened_ms + CASE_MS,
        closed_ms: None,
        cause: "5a".repeat(32),
        reason: "CASE_OPENED_BY_EVENT".to_owned(),
        subject_sealed: None,
    }
}

fn publish(side: &Side, what: Grants, opened_ms: i64) -> Result<(), BenchError> {
    let part = |first: u64| {
        let mut producer = PlainProducer::open(&side.admin)?;
        let mut value = Vec::new();
        for number in (0..what.grants).filter(|number| number % PUBLISHERS == first) {
            let grant = case(number, opened_ms);
            value.clear();
            grant.encode_into(&mut value);
            let key = topics::grant_key(grant.subject, grant.id);
            let lane = i32::from(lane(number, what.lanes));
            producer.send(topics::GRANTS, lane, &key, Some(&value), &[])?;
        }
        producer.flush(PATIENCE)?;
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..PUBLISHERS)
            .map(|first| scope.spawn(move || part(first)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| BenchError::Panicked)?)
    })
}

/// CPU nanoseconds of a decision about people of one slot, in random order; the event is the same.
fn decisions(
    world: &World,
    index: &mut GrantsIndex,
    slot: u32,
    what: Grants,
    now: Now,
) -> Result<f64, BenchError> {
    let contract = &*world.contract;
    let missing = || BenchError::Contract("the section is not in the contract".to_owned());
    let asks = Asks::of(contract, index);
    let agreement = contract.agreement(AGREEMENTS[0]).ok_or_else(missing)?;
    let section = agreement.sections.first().ok_or_else(missing)?;
    let ask = asks.section(section);
    let dataset = contract.dataset(DATASET).ok_or_else(missing)?;
    let published = Stream::new(world)?.batch(1)?;
    let event = published.first().ok_or_else(missing)?;
    let (_, datum) = unframe(event.value())?;
    let seal = event.header(headers::SEAL).ok_or_else(missing)?;
    let expect = Expect {
        bus: &contract.bus_id,
        dataset: DATASET,
        department: PROVIDER,
        streams: &dataset.streams,
        lane: event.lane(),
        layout: &dataset.layout,
        schema_digest: &dataset.schema_digest,
        subject_field: dataset.subject_field,
    };
    let mut verifier = Verifier::new();
    let verified = verifier.verify_source(&expect, datum, seal, contract)?;
    // Made before the clock starts; the order is random, so that nothing is in a cache.
    let people: Vec<SubjectTag> = (0..)
        .map(|number| mix(number) % what.grants)
        .filter(|number| u32::from(lane(*number, what.lanes)) % SLOTS == slot)
        .take(DECISIONS)
        .map(|number| SubjectTag(tag(number)))
        .collect();
    let mut permitted = 0;
    // Nothing else runs in this process meanwhile.
    let started = cpu_seconds(None).unwrap_or_default();
    for subject in &people {
        let made = decide(agreement, section, &verified, *subject, ask, index, now);
        permitted += usize::from(matches!(black_box(&made), Decision::Permit(_)));
    }
    let spent = cpu_seconds(None).unwrap_or_default() - started;
    if permitted != DECISIONS {
        return Err(BenchError::Counts {
            what: "permits",
            expected: DECISIONS as u64,
            found: permitted as u64,
        });
    }
    Ok(spent * 1e9 / DECISIONS as f64)
}
