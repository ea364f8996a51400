//! From asking for a revocation to `enforced`, while events about people with consents are delivered at a
//! steady rate, a good part of them about those who are being revoked. Gateway, vault and consent service
//! are the real ones, in this process; the consent service is called without HTTP. Afterwards the topic
//! and the log are read: nothing about a person may have been committed after the answer.

use super::publish::{Stream, now_us, write_plain};
use super::report::round;
use super::revoke_check::{Bar, Verdict, held_against, take_bar};
use super::world::{AGREEMENTS, Side, World};
use super::{BenchError, Options, arrival, set_up_slots, take_down};
use mz_bus::{Isolation, PlainProducer, Reader};
use mz_consent::Caller;
use mz_consent::model::{Change, ChangeKind, EnforcementState, Evidence, Give};
use mz_contract::Contract;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Callers of the second figure.
const CALLERS: usize = 8;
/// People whose consent stays.
const OTHERS: usize = 500;
/// One event in so many is about those who are being revoked, so that many are on their way.
const ABOUT_REVOKED: u64 = 4;
/// Who are meant by that: the last so many and the next so many.
const NEAR: usize = 16;
/// Consents that are given side by side.
const GIVERS: usize = 16;
const STEP: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_millis(10);
const STUCK: Duration = Duration::from_secs(60);
/// Load before the first revocation, and after the last: so long something could still come.
const RAMP: Duration = Duration::from_secs(2);
const TAIL: Duration = Duration::from_secs(2);
/// Longest wait for one answer.
const WAIT_MS: u64 = 20_000;
const OPERATOR: &str = "bench";

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Revocations {
    /// Events a second.
    pub rate: u32,
    /// Revocations of each figure.
    pub revocations: usize,
    pub slots: u32,
}

/// Milliseconds from asking to `enforced`.
#[derive(Clone, Debug, Serialize)]
pub struct Waits {
    pub callers: usize,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
    /// Answers that were not `enforced` within 20 s; not in the figures.
    pub pending: usize,
    /// Answers that came by shutting an owner out.
    pub fenced: usize,
    pub per_s: f64,
}

/// What `bench revoke` prints.
#[derive(Clone, Debug, Serialize)]
pub struct RevokeReport {
    pub rate_per_s: u32,
    /// What was really published.
    pub published_per_s: f64,
    pub revocations: usize,
    pub slots: u32,
    pub lanes: u16,
    pub one_ms: Waits,
    pub eight_ms: Waits,
    pub verdict: Verdict,
    pub load_average: f64,
    pub cpus: usize,
    pub release: bool,
}

impl RevokeReport {
    /// Everything was enforced and nothing came afterwards.
    pub fn holds(&self) -> bool {
        let answered = self.one_ms.pending + self.eight_ms.pending == 0;
        answered && self.verdict.violations == 0 && self.verdict.events_after > 0
    }
}

impl fmt::Display for RevokeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.release {
            writeln!(f, "NOT a release build: these figures mean nothing")?;
        }
        writeln!(
            f,
            "{} events/s ({} published), {} slots, {} lanes, {} revocations a figure, load average {}",
            self.rate_per_s,
            self.published_per_s,
            self.slots,
            self.lanes,
            self.revocations,
            self.load_average
        )?;
        for waits in [&self.one_ms, &self.eight_ms] {
            writeln!(
                f,
                "{} at a time    p50 {} ms  p95 {} ms  p99 {} ms  max {} ms  {}/s  ({} pending, {} by shutting out)",
                waits.callers,
                waits.p50,
                waits.p95,
                waits.p99,
                waits.max,
                waits.per_s,
                waits.pending,
                waits.fenced
            )?;
        }
        let verdict = &self.verdict;
        write!(
            f,
            "{} deliveries about {} revoked people checked, {} events about them published after their answer, violations = {}",
            verdict.deliveries_checked, verdict.people, verdict.events_after, verdict.violations
        )
    }
}

/// Sets up, gives, revokes under load, checks, takes down. `database_url`: where two schemas of the
/// benchmark's own may stand.
pub fn revocations(
    options: &Options,
    what: Revocations,
    database_url: &str,
    progress: &dyn Fn(&str),
) -> Result<RevokeReport, BenchError> {
    progress("contract, keys, people");
    let people = what.revocations * 2 + OTHERS;
    let world = World::by_consent(u32::try_from(people).unwrap_or(u32::MAX))?;
    let run = now_us();
    let side = Side::new(&options.admin, &options.keys, format!("bench{run}r."));
    let schemas = [format!("bench_{run}_v"), format!("bench_{run}_c")];
    let bench = Bench {
        options,
        what,
        world: &world,
        side: &side,
        revoked: (0..people).map(|_| AtomicBool::new(false)).collect(),
        at: AtomicUsize::new(0),
    };
    let result = set_up_slots(&world, [&side], what.slots)
        .and_then(|()| bench.run(database_url, &schemas, progress));
    progress("taking down");
    take_down(&side)?;
    for schema in &schemas {
        arrival::drop_schema(database_url, schema)?;
    }
    result
}

struct Bench<'b> {
    options: &'b Options,
    what: Revocations,
    world: &'b World,
    side: &'b Side,
    /// Whose revocation was answered.
    revoked: Vec<AtomicBool>,
    /// The person who is revoked next.
    at: AtomicUsize,
}

/// What the publisher did.
#[derive(Default)]
struct Published {
    events: u64,
    seconds: f64,
    /// Events about people whose revocation had been answered when they were published.
    after: u64,
}

impl Bench<'_> {
    fn run(
        &self,
        database_url: &str,
        [vault_schema, consent_schema]: &[String; 2],
        progress: &dyn Fn(&str),
    ) -> Result<RevokeReport, BenchError> {
        progress("gateway, vault, consent service");
        let runtime = Runtime::new().map_err(BenchError::Folder)?;
        let (world, slots) = (self.world, self.what.slots);
        let principal = |name: &str| self.side.admin.as_principal(&self.options.keys, name);
        let vault = mz_vault::Service::start(mz_vault::Options::new(
            principal("bus.vault"),
            Arc::clone(&world.contract),
            Arc::new(mz_vault::VaultKeys::load(
                &world.keys,
                &world.contract_root,
            )?),
            mz_vault::store::Database::new(database_url, vault_schema)?,
            slots,
        ))?;
        let gateway = mz_gateway::Service::new(mz_gateway::Options::new(
            self.side.gateway.clone(),
            Arc::clone(&world.contract),
            Arc::clone(&world.gateway_keys),
            slots,
        ))?;
        let keys = mz_consent::ConsentKeys::load(&world.keys, &world.contract_root)?;
        let files = Contract::files(&world.contract_root)
            .map_err(|fault| BenchError::Contract(format!("{fault:?}")))?;
        let consent = mz_consent::Options::new(
            principal("bus.consent"),
            Arc::clone(&world.contract),
            files,
            Arc::new(keys),
            mz_consent::store::Database::new(database_url, consent_schema)?,
            slots,
        );
        let handle = gateway.handle();
        let measured = thread::scope(|scope| {
            let running = scope.spawn(|| gateway.run());
            let measured = mz_consent::Service::start(consent)
                .map_err(BenchError::from)
                .and_then(|consent| {
                    let all = usize::try_from(slots).unwrap_or(usize::MAX);
                    wait("the services", || {
                        let vault = vault.handle().readiness();
                        handle.running().len() == all
                            && vault.slots_open == all
                            && consent.handle().is_ready()
                    })?;
                    let report = self.measure(&runtime, &consent.handle(), &handle, progress);
                    consent.stop()?;
                    report
                });
            handle.stop();
            running.join().map_err(|_| BenchError::Panicked)??;
            measured
        });
        vault.stop()?;
        measured
    }

    fn measure(
        &self,
        runtime: &Runtime,
        consent: &mz_consent::Handle,
        gateway: &mz_gateway::Handle,
        progress: &dyn Fn(&str),
    ) -> Result<RevokeReport, BenchError> {
        progress("consents");
        let grants = self.give(runtime, consent)?;
        let count = grants.len() as u64;
        wait("the gateway to read the consents", || {
            gateway.counts().grants_read >= count && gateway.is_idle()
        })?;
        progress("events at the rate");
        let stop = AtomicBool::new(false);
        let (published, waits) = thread::scope(|scope| {
            let publisher = scope.spawn(|| self.publish(&stop));
            thread::sleep(RAMP);
            let revoked = [1, CALLERS].into_iter().map(|callers| {
                progress(&format!("revocations, {callers} at a time"));
                self.revoke(runtime, consent, &grants, callers)
            });
            let waits: Result<Vec<(Waits, Vec<Bar>)>, BenchError> = revoked.collect();
            thread::sleep(TAIL);
            stop.store(true, Ordering::Release);
            let published = publisher.join().map_err(|_| BenchError::Panicked)??;
            Ok::<_, BenchError>((published, waits?))
        })?;
        wait("the gateway to come to the end", || gateway.is_idle())?;
        progress("topic and log");
        let bars: Vec<Bar> = waits.iter().flat_map(|(_, bars)| bars.clone()).collect();
        let verdict = held_against(self.side, self.world, &bars, published.after)?;
        let mut figures = waits.into_iter().map(|(waits, _)| waits);
        let missing = || BenchError::Stuck("the revocations");
        Ok(RevokeReport {
            rate_per_s: self.what.rate,
            published_per_s: round(published.events as f64 / published.seconds),
            revocations: self.what.revocations,
            slots: self.what.slots,
            lanes: self.world.contract.lanes,
            one_ms: figures.next().ok_or_else(missing)?,
            eight_ms: figures.next().ok_or_else(missing)?,
            verdict,
            load_average: load_average(),
            cpus: thread::available_parallelism().map_or(0, usize::from),
            release: !cfg!(debug_assertions),
        })
    }

    /// A consent for everybody, before anything is published. Answers the grants' ids.
    fn give(
        &self,
        runtime: &Runtime,
        consent: &mz_consent::Handle,
    ) -> Result<Vec<String>, BenchError> {
        let given: Result<Vec<Vec<(usize, String)>>, BenchError> = side_by_side(GIVERS, |giver| {
            let mut all = Vec::new();
            for at in (0..self.world.people.len()).skip(giver).step_by(GIVERS) {
                let give = give(at, &self.world.people[at].id);
                let given = runtime.block_on(consent.give(&window(), give))?;
                all.push((at, given.consent.record_id));
            }
            Ok(all)
        });
        let mut given: Vec<(usize, String)> = given?.into_iter().flatten().collect();
        given.sort_unstable();
        Ok(given.into_iter().map(|(_, grant)| grant).collect())
    }

    /// Revokes the next so many people, `callers` at a time.
    fn revoke(
        &self,
        runtime: &Runtime,
        consent: &mz_consent::Handle,
        grants: &[String],
        callers: usize,
    ) -> Result<(Waits, Vec<Bar>), BenchError> {
        let first = self.at.load(Ordering::Acquire);
        let end = first + self.what.revocations;
        let started = Instant::now();
        let parts = side_by_side(callers, |_| {
            let committed = Reader::open(&self.side.admin, Isolation::Committed)?;
            let (mut times, mut bars, mut pending, mut fenced) = (Vec::new(), Vec::new(), 0, 0);
            loop {
                let at = self.at.fetch_add(1, Ordering::AcqRel);
                if at >= end {
                    return Ok((times, bars, pending, fenced));
                }
                let asked = Instant::now();
                let change = revoke(at, &grants[at]);
                let changed =
                    runtime.block_on(consent.change(&window(), ChangeKind::Revoke, change))?;
                let took = asked.elapsed();
                if changed.enforcement.state != EnforcementState::Enforced {
                    pending += 1;
                    continue;
                }
                self.revoked[at].store(true, Ordering::Release);
                fenced += usize::from(!changed.enforcement.fenced.is_empty());
                times.push(took);
                bars.push(take_bar(&committed, self.world, at)?);
            }
        })?;
        // Each caller took one too many.
        self.at.store(end, Ordering::Release);
        let seconds = started.elapsed().as_secs_f64();
        let (mut times, mut all, mut pending, mut fenced) = (Vec::new(), Vec::new(), 0, 0);
        for (some, bars, late, shut) in parts {
            times.extend(some);
            all.extend(bars);
            pending += late;
            fenced += shut;
        }
        times.sort_unstable();
        let at = |share: f64| {
            let last = times.len().saturating_sub(1) as f64;
            let time = times.get((share * last).round() as usize);
            round(time.copied().unwrap_or_default().as_secs_f64() * 1e3)
        };
        let waits = Waits {
            callers,
            p50: at(0.50),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
            pending,
            fenced,
            per_s: round(times.len() as f64 / seconds),
        };
        Ok((waits, all))
    }

    /// Publishes at the rate until `stop`, about random people; a good part about those who are just
    /// being revoked or were a moment ago.
    fn publish(&self, stop: &AtomicBool) -> Result<Published, BenchError> {
        let mut producer = PlainProducer::open(&self.side.admin)?;
        let mut stream = Stream::new(self.world)?;
        let mut rng = StdRng::seed_from_u64(20_260_102);
        let people = self.world.people.len();
        let mut told = Published::default();
        let started = Instant::now();
        while !stop.load(Ordering::Acquire) {
            let due = (started.elapsed().as_secs_f64() * f64::from(self.what.rate)) as u64;
            let now = self.at.load(Ordering::Acquire);
            let places: Vec<(usize, usize)> = (told.events..due)
                .map(|_| {
                    let random = usize::try_from(rng.next_u64() >> 1).unwrap_or_default();
                    let person = match rng.next_u64() % ABOUT_REVOKED {
                        0 => (now + random % (2 * NEAR)).saturating_sub(NEAR) % people,
                        _ => random % people,
                    };
                    told.after += u64::from(self.revoked[person].load(Ordering::Acquire));
                    (person, random % 5)
                })
                .collect();
            if !places.is_empty() {
                write_plain(&mut producer, &stream.batch_about(&places)?)?;
            }
            told.events = due;
            thread::sleep(STEP);
        }
        producer.flush(STUCK)?;
        told.seconds = started.elapsed().as_secs_f64();
        Ok(told)
    }
}

/// The counter of the consumer.
fn window() -> Caller {
    Caller {
        department: "police".to_owned(),
        role: "window".to_owned(),
    }
}

fn give(at: usize, id: &str) -> Give {
    let now = chrono::Utc::now();
    let last = now.date_naive() + chrono::Days::new(100);
    Give {
        request_id: format!("give-{at}"),
        id: id.to_owned(),
        agreement: AGREEMENTS[0].to_owned(),
        datasets: Vec::new(),
        separate: Vec::new(),
        valid_until: last.format("%Y-%m-%d").to_string(),
        notice_version: 1,
        evidence: Evidence::Counter {
            operator: OPERATOR.to_owned(),
            at: now.to_rfc3339(),
            document: OPERATOR.to_owned(),
        },
        representation: None,
        // Not waited for one by one.
        wait_ms: Some(0),
    }
}

fn revoke(at: usize, grant: &str) -> Change {
    Change {
        request_id: format!("revoke-{at}"),
        grant: grant.to_owned(),
        id: None,
        reason: OPERATOR.to_owned(),
        operator: Some(OPERATOR.to_owned()),
        valid_until: None,
        evidence: None,
        wait_ms: Some(WAIT_MS),
    }
}

/// Runs `work` in so many threads; answers in their order.
fn side_by_side<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, BenchError> + Sync,
) -> Result<Vec<T>, BenchError> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| BenchError::Panicked)?)
            .collect()
    })
}

fn wait(what: &'static str, done: impl Fn() -> bool) -> Result<(), BenchError> {
    let started = Instant::now();
    while !done() {
        if started.elapsed() > STUCK {
            return Err(BenchError::Stuck(what));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Of the last minute, as Linux says it.
fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_ascii_whitespace().next();
    first.and_then(|text| text.parse().ok()).unwrap_or_default()
}
