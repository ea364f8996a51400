//! Ten thousand random grants, changes of grants, expiries and events, with owners that change and an
//! agreement that is suspended meanwhile, against the sentences of the design: not one delivery that they
//! forbid, not one missing that they require.
//!
//! What the gateway knew when it decided is read from `bus.state`: the grants below the position that its
//! transaction recorded, joined by the definition; when, from the entry's own time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mz_bus::{Isolation, Polled, Position, Reader, TxProducer, tuning};
use mz_journal::{
    Audit, AuditCause, AuditKind, FactBody, FactReply, Fetch, Grant, GrantId, GrantKind,
    GrantStatus, Record as _, RecordTag, State, StoredFact, SubjectTag, topics,
};
use mz_policy::{CLOCK_SKEW_MS, REFETCH};
use mz_seal::headers;

use crate::actors::*;
use crate::facts::*;
use crate::in_force::suspended;
use crate::ownership::shut_out;
use crate::world::*;

const OPERATIONS: usize = 10_000;
const PEOPLE: usize = 150;
const LONG_MS: i64 = 3_600_000;
const DATASETS: [&str; 2] = [INSURANCE, RIGHT];
const KINDS: [&str; 3] = ["PENSION", "MEDICAL", "MATERNITY"];

/// SplitMix64: everything follows from the seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A producer for many transactions.
struct Tx(TxProducer);

impl Tx {
    fn open(world: &World, id: &str) -> Self {
        let mut producer = TxProducer::open(&world.admin, id, tuning::TRANSACTION_TIMEOUT).unwrap();
        producer.init().unwrap();
        Self(producer)
    }

    fn write(&mut self, fill: impl FnOnce(&mut TxProducer)) {
        self.0.begin().unwrap();
        fill(&mut self.0);
        self.0.commit().unwrap();
    }
}

/// A vault that follows the topics instead of reading them again for each request.
fn vault(world: &World, stop: &AtomicBool) {
    type Versions = Vec<(i64, (u32, u64), StoredFact)>;
    let mut reader = Reader::open(&world.admin, Isolation::Committed).unwrap();
    let sources = DATASETS.map(topics::source);
    let followed = sources.iter().map(String::as_str).chain([topics::FETCH]);
    let assignment: Vec<_> = followed
        .flat_map(|topic| (0..LANES).map(move |lane| (topic, i32::from(lane), Position::Beginning)))
        .collect();
    reader.assign(&assignment).unwrap();
    let mut tx = Tx::open(world, "test-vault");
    let mut next: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let mut facts: BTreeMap<(SubjectTag, String), BTreeMap<String, Versions>> = BTreeMap::new();
    let mut asked: Vec<(i32, Fetch)> = Vec::new();
    while !stop.load(Ordering::Acquire) {
        reader
            .poll(1_000, Duration::from_millis(20), |polled| match polled {
                Polled::Record(record) => {
                    next.insert(
                        (record.topic.to_owned(), record.partition),
                        record.offset + 1,
                    );
                    if record.topic == topics::FETCH {
                        let fetch = Fetch::decode(record.value.unwrap()).unwrap();
                        asked.push((record.partition, fetch));
                        return;
                    }
                    let listed = record.headers().unwrap();
                    let seal = listed.iter().find(|(name, _)| *name == headers::SEAL);
                    let seal = seal.unwrap().1.unwrap();
                    let parsed = mz_seal::SourceSeal::parse(seal).unwrap();
                    let fact = StoredFact {
                        dataset: parsed.meta.dataset.to_owned(),
                        source_offset: record.offset,
                        value: record.value.unwrap().to_vec(),
                        seal: seal.to_vec(),
                        ce_id: parsed.meta.ce_id,
                    };
                    let dataset = world.contract.dataset(parsed.meta.dataset).unwrap();
                    let datum = &record.value.unwrap()[5..];
                    let mut spans = Vec::new();
                    dataset.layout.spans(datum, &mut spans).unwrap();
                    let subject = dataset
                        .layout
                        .read_string(dataset.subject_field, datum, &spans)
                        .unwrap();
                    let of = (world.tag(subject), record.topic.to_owned());
                    let versions = facts.entry(of).or_default();
                    versions.entry(parsed.record.to_owned()).or_default().push((
                        record.offset,
                        (parsed.meta.epoch, parsed.meta.counter),
                        fact,
                    ));
                }
                Polled::Eof {
                    topic,
                    partition,
                    next_offset,
                } => {
                    next.insert((topic.to_owned(), partition), next_offset);
                }
            })
            .unwrap();
        let past = |lane: i32, fetch: &Fetch| {
            fetch.fences.iter().all(|fence| {
                next.get(&(fence.topic.clone(), lane))
                    .is_some_and(|next| *next >= fence.offset)
            })
        };
        let ready: Vec<(i32, Fetch)> = asked.extract_if(.., |(l, f)| past(*l, f)).collect();
        if ready.is_empty() {
            continue;
        }
        tx.write(|producer| {
            for (lane, fetch) in &ready {
                let mut replies = Vec::new();
                for fence in &fetch.fences {
                    let of = (fetch.subject, fence.topic.clone());
                    for versions in facts.get(&of).into_iter().flat_map(BTreeMap::values) {
                        let below = versions.iter().filter(|(at, ..)| *at < fence.offset);
                        if let Some((.., fact)) = below.max_by_key(|(_, version, _)| *version) {
                            replies.push(FactReply {
                                grant: fetch.grant,
                                attempt: fetch.attempt,
                                subject: fetch.subject,
                                body: FactBody::Fact(fact.clone()),
                            });
                        }
                    }
                }
                replies.push(Vault::done(fetch, replies.len() as u64));
                for reply in replies {
                    let value = reply.encode();
                    let key = &reply.subject.0;
                    producer
                        .send(topics::FACTS, *lane, key, Some(&value), &[])
                        .unwrap();
                }
            }
        });
    }
}

/// One source event as the test made it.
struct Made {
    subject: SubjectTag,
    record: RecordTag,
    version: u64,
}

/// Everything that the random operations did.
#[derive(Default)]
struct Deeds {
    counts: BTreeMap<&'static str, usize>,
    /// By dataset and version: versions are unique in a stream.
    events: BTreeMap<(&'static str, u64), Made>,
}

struct Actor<'w> {
    world: &'w World,
    random: Random,
    people: Vec<String>,
    /// Current copies, and all that were written of them.
    grants: Vec<Vec<Grant>>,
    streams: [Stream; 2],
    to_sources: Tx,
    to_grants: Tx,
    next_id: u64,
    deeds: Deeds,
}

impl Actor<'_> {
    fn count(&mut self, what: &'static str) {
        *self.deeds.counts.entry(what).or_default() += 1;
    }

    /// One change of somebody's grants, as consent or gateway would write it.
    fn change(&mut self) -> Grant {
        let who = self.random.below(self.people.len());
        let subject = self.world.tag(&self.people[who]);
        let choice = self.random.below(100);
        let held = self.grants[who].len();
        if held == 0 || choice < 22 {
            self.next_id += 1;
            let mut id = [0; 16];
            id[..8].copy_from_slice(&self.next_id.to_be_bytes());
            let datasets = match self.random.below(4) {
                0 => vec![INSURANCE.to_owned()],
                1 => vec![RIGHT.to_owned()],
                _ => Vec::new(),
            };
            // Half of them end within seconds of being given.
            let short = self.random.below(2) == 0;
            let life = match short {
                true => CLOCK_SKEW_MS + self.random.below(8_000) as i64,
                false => LONG_MS,
            };
            let opened_ms = now_ms();
            let grant = Grant {
                id: GrantId(id),
                kind: GrantKind::Consent,
                subject,
                agreement: SETTLEMENT.to_owned(),
                datasets,
                status: GrantStatus::Open,
                counter: 1,
                opened_ms,
                expires_ms: opened_ms + life,
                closed_ms: None,
                cause: String::new(),
                reason: String::new(),
                subject_sealed: None,
            };
            self.grants[who].push(grant.clone());
            self.count(if short { "short grants" } else { "long grants" });
            return grant;
        }
        let which = self.random.below(held);
        let grant = &mut self.grants[who][which];
        if choice < 30 {
            // A copy of long ago, or the same again.
            let mut stale = grant.clone();
            stale.counter = stale.counter.saturating_sub(1).max(1);
            stale.status = GrantStatus::Open;
            self.count("stale copies");
            return stale;
        }
        grant.counter += 1;
        let what = if choice < 50 {
            grant.status = GrantStatus::Closed;
            grant.closed_ms = Some(now_ms());
            "revocations"
        } else if choice < 85 {
            match grant.status {
                GrantStatus::Open => {
                    grant.status = GrantStatus::Paused;
                    "pauses"
                }
                GrantStatus::Paused => {
                    grant.status = GrantStatus::Open;
                    "resumes"
                }
                GrantStatus::Closed => "changes of closed ones",
            }
        } else {
            grant.expires_ms = now_ms() + LONG_MS;
            "extensions"
        };
        let grant = grant.clone();
        self.count(what);
        grant
    }

    fn fact(&mut self) -> Fact {
        let who = self.random.below(self.people.len());
        let person = &self.people[who];
        if self.random.below(3) < 2 {
            let kind = KINDS[self.random.below(KINDS.len())];
            insurance(person, kind, self.random.below(13) as i64)
        } else {
            right(person, &format!("C-{}", self.random.below(2)))
        }
    }

    fn publish(&mut self, facts: Vec<Fact>) {
        for (at, dataset) in DATASETS.into_iter().enumerate() {
            let of: Vec<Fact> = facts
                .iter()
                .filter(|fact| fact.dataset == dataset)
                .cloned()
                .collect();
            if of.is_empty() {
                continue;
            }
            let mut version = self.streams[at].counter;
            for fact in &of {
                version += 1;
                let mz_seal::Datum::Str(person) = &fact.values[0] else {
                    panic!("the subject is the first field");
                };
                let made = Made {
                    subject: self.world.tag(person),
                    record: self.world.record_of(fact),
                    version,
                };
                self.deeds.events.insert((dataset, version), made);
            }
            let sealed = self.streams[at].seal(self.world, &of);
            let topic = topics::source(dataset);
            self.to_sources.write(|producer| {
                for event in &sealed {
                    let pairs: Vec<(&str, &[u8])> = event.header_pairs().collect();
                    let lane = i32::from(event.lane);
                    producer
                        .send(&topic, lane, &[9; 32], Some(&event.value), &pairs)
                        .unwrap();
                }
            });
            for _ in 0..of.len() {
                self.count("events");
            }
        }
    }

    fn write_grants(&mut self, grants: &[Grant], lane_of: &BTreeMap<SubjectTag, u16>) {
        if grants.is_empty() {
            return;
        }
        self.to_grants.write(|producer| {
            for grant in grants {
                let key = topics::grant_key(grant.subject, grant.id);
                let lane = i32::from(lane_of[&grant.subject]);
                let value = grant.encode();
                producer
                    .send(topics::GRANTS, lane, &key, Some(&value), &[])
                    .unwrap();
            }
        });
    }

    /// What consent publishes when an agreement is resumed.
    fn refetch(&mut self) -> Vec<Grant> {
        let mut again = Vec::new();
        for grant in self.grants.iter_mut().flatten() {
            if grant.status == GrantStatus::Open {
                grant.counter += 1;
                let reason = REFETCH.to_owned();
                again.push(Grant {
                    reason,
                    ..grant.clone()
                });
            }
        }
        again
    }
}

/// What one committed transaction of a lane had.
struct Transaction {
    audit_number: u64,
    positions: BTreeMap<&'static str, i64>,
    grants_position: i64,
}

fn transactions(world: &World, lane: u16) -> Vec<Transaction> {
    let key = topics::state_key(topics::SlotKind::Gateway, lane);
    let states = world.read(topics::STATE);
    let of = states.iter().filter(|seen| seen.key == key);
    of.map(|seen| {
        let state = State::decode(seen.value.as_ref().unwrap()).unwrap();
        let at = |dataset| state.position(&topics::source(dataset)).unwrap_or(0);
        Transaction {
            audit_number: state.audit_number,
            positions: DATASETS.map(|dataset| (dataset, at(dataset))).into(),
            grants_position: state.grants_position,
        }
    })
    .collect()
}

/// Grants joined by their definition.
#[derive(Default)]
struct Model {
    grants: BTreeMap<(SubjectTag, GrantId), Grant>,
}

impl Model {
    fn join(&mut self, copy: Grant) {
        let key = (copy.subject, copy.id);
        let joined = match self.grants.remove(&key) {
            Some(before) => before.join(copy),
            None => copy,
        };
        self.grants.insert(key, joined);
    }

    fn covering<'m>(
        &'m self,
        subject: SubjectTag,
        dataset: &'m str,
    ) -> impl Iterator<Item = &'m Grant> {
        let all = (subject, GrantId([0; 16]))..=(subject, GrantId([255; 16]));
        self.grants
            .range(all)
            .map(|(_, grant)| grant)
            .filter(move |grant| {
                grant.datasets.is_empty() || grant.datasets.iter().any(|one| one == dataset)
            })
    }
}

/// In force, to the second and with the stated skew: begins late, ends early.
fn in_force(grant: &Grant, at_ms: i64) -> bool {
    let ahead = at_ms + CLOCK_SKEW_MS;
    let (begins, ends) = (
        (grant.opened_ms + 999) / 1000 * 1000,
        grant.expires_ms / 1000 * 1000,
    );
    grant.status == GrantStatus::Open && begins <= ahead && ahead < ends
}

/// Holds one lane against the model. `suspended_by`: the contract under which nothing may flow.
fn check_lane(
    world: &World,
    lane: u16,
    deeds: &Deeds,
    audit: &[Audit<'_>],
    suspended_by: [u8; 32],
) -> Model {
    let transactions = transactions(world, lane);
    let grants: Vec<(i64, Grant)> = world
        .read(topics::GRANTS)
        .iter()
        .filter(|seen| seen.lane == lane && seen.key != topics::IN_FORCE_KEY)
        .map(|seen| {
            (
                seen.offset,
                Grant::decode(seen.value.as_ref().unwrap()).unwrap(),
            )
        })
        .collect();
    let decided = |entry: &&Audit<'_>| {
        entry.lane == lane
            && matches!(entry.kind, AuditKind::Delivered | AuditKind::Denied)
            && DATASETS.contains(&&*entry.dataset)
    };
    let entries: Vec<&Audit<'_>> = audit.iter().filter(decided).collect();
    // Every event that nothing was said about was out of scope: by the transaction that processed it.
    let mut told: BTreeSet<(&str, i64)> = BTreeSet::new();
    for entry in entries.iter().filter(|e| e.cause == AuditCause::Stream) {
        let once = told.insert((&*entry.dataset, entry.source_offset));
        assert!(once, "decided twice: {entry:?}");
    }
    let mut silent: Vec<(usize, &'static str, SubjectTag)> = Vec::new();
    for dataset in DATASETS {
        for seen in world.read(&topics::source(dataset)) {
            if seen.lane != lane || told.contains(&(dataset, seen.offset)) {
                continue;
            }
            let seal = mz_seal::SourceSeal::parse(seen.header(headers::SEAL).unwrap()).unwrap();
            let made = &deeds.events[&(dataset, seal.meta.counter)];
            let at = transactions.partition_point(|t| t.positions[dataset] <= seen.offset);
            assert!(at < transactions.len(), "never processed");
            silent.push((at, dataset, made.subject));
        }
    }
    silent.sort();
    let mut silent = silent.into_iter().peekable();
    let mut entries = entries.into_iter().peekable();
    let mut grants = grants.into_iter().peekable();
    let mut model = Model::default();
    for (at, transaction) in transactions.iter().enumerate() {
        while let Some((_, grant)) =
            grants.next_if(|(offset, _)| *offset < transaction.grants_position)
        {
            model.join(grant);
        }
        while let Some(entry) = entries.next_if(|e| e.number <= transaction.audit_number) {
            let mut covering = model.covering(entry.subject, &entry.dataset).peekable();
            assert!(covering.peek().is_some(), "nobody had asked: {entry:?}");
            let flows = covering.any(|grant| in_force(grant, entry.at_ms))
                && entry.contract != suspended_by;
            let delivered = entry.kind == AuditKind::Delivered;
            assert_eq!(delivered, flows, "{entry:?}");
            if delivered {
                let by = model.grants.get(&(entry.subject, entry.grant.unwrap()));
                assert!(in_force(by.unwrap(), entry.at_ms), "{entry:?}");
            }
        }
        while let Some((_, dataset, subject)) = silent.next_if(|(of, ..)| *of == at) {
            let asked = model.covering(subject, dataset).next();
            assert!(asked.is_none(), "out of scope although {asked:?}");
        }
    }
    assert!(entries.next().is_none() && silent.next().is_none());
    grants.for_each(|(_, grant)| model.join(grant));
    model
}

#[test]
fn ten_thousand_random_grants_changes_and_events() {
    let seed = match std::env::var("MZ_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => now_ms() as u64,
    };
    println!("MZ_SEED={seed}");
    let began = Instant::now();
    let world = World::new(1);
    let stopped = world.changed(suspended).digest;
    let original = world.changed(|_| {}).digest;
    let people: Vec<String> = (0..LANES)
        .flat_map(|lane| world.people(lane, PEOPLE))
        .collect();
    let lane_of: BTreeMap<SubjectTag, u16> = people
        .iter()
        .map(|person| (world.tag(person), world.lane(person)))
        .collect();
    let mut actor = Actor {
        world: &world,
        random: Random(seed),
        grants: vec![Vec::new(); people.len()],
        people,
        streams: DATASETS.map(|dataset| Stream::new(&world, dataset)),
        to_sources: Tx::open(&world, "test-source"),
        to_grants: Tx::open(&world, "test-consent"),
        next_id: 0,
        deeds: Deeds::default(),
    };
    let stop = AtomicBool::new(false);
    let mut gateway = Some(world.start());
    thread::scope(|scope| {
        scope.spawn(|| vault(&world, &stop));
        let mut done = 0;
        let mut steps = (1..=5).map(|step| step * OPERATIONS / 6).peekable();
        let mut step = 0;
        while done < OPERATIONS {
            let (mut facts, mut grants) = (Vec::new(), Vec::new());
            for _ in 0..=actor.random.below(40).min(OPERATIONS - done - 1) {
                done += 1;
                match actor.random.below(2) {
                    0 => facts.push(actor.fact()),
                    _ => grants.push(actor.change()),
                }
            }
            // Whichever is committed first: the slot may read them in any order.
            if actor.random.below(2) == 0 {
                actor.publish(facts);
                actor.write_grants(&grants, &lane_of);
            } else {
                actor.write_grants(&grants, &lane_of);
                actor.publish(facts);
            }
            if steps.next_if(|at| *at <= done).is_none() {
                continue;
            }
            step += 1;
            match step {
                1 | 5 => {
                    gateway.take().unwrap().end();
                    gateway = Some(world.start());
                }
                2 => world.put_in_force(1, stopped),
                3 => {
                    world.put_in_force(2, original);
                    let again = actor.refetch();
                    actor.write_grants(&again, &lane_of);
                }
                _ => shut_out(&world, 0, false),
            }
        }
        let written = began.elapsed();
        // Everything is read and every backfill is closed.
        let running = gateway.as_ref().unwrap();
        wait_for("everything is decided", || {
            assert!(!running.ended(), "the slot ended");
            running.stats.iter().all(|stats| stats.is_idle())
                && (0..LANES).all(|lane| world.state(lane).open_backfills.is_empty())
        });
        println!(
            "written after {written:?}, decided after {:?}",
            began.elapsed()
        );
        stop.store(true, Ordering::Release);
    });
    gateway.take().unwrap().end();

    let deeds = &actor.deeds;
    let audit = world.audit();
    let ended_ms = now_ms();
    let mut delivered: BTreeSet<(&str, RecordTag, u64)> = BTreeSet::new();
    let mut outcomes: BTreeMap<(AuditKind, AuditCause), usize> = BTreeMap::new();
    for entry in audit.iter().filter(|e| DATASETS.contains(&&*e.dataset)) {
        *outcomes.entry((entry.kind, entry.cause)).or_default() += 1;
        if entry.kind == AuditKind::Delivered {
            delivered.insert((&entry.dataset, entry.record, entry.version_counter));
        }
    }
    // What is required in the end: the newest version of each record, wherever a grant lasts.
    let mut newest: BTreeMap<(&str, RecordTag), &Made> = BTreeMap::new();
    for ((dataset, _), made) in &deeds.events {
        newest.insert((dataset, made.record), made);
    }
    let mut required = 0;
    let models: Vec<Model> = (0..LANES)
        .map(|lane| check_lane(&world, lane, deeds, &audit, stopped))
        .collect();
    for ((dataset, record), made) in newest {
        let model = &models[usize::from(lane_of[&made.subject])];
        let lasting =
            |grant: &Grant| in_force(grant, ended_ms) && grant.expires_ms > ended_ms + LONG_MS / 2;
        if model.covering(made.subject, dataset).any(lasting) {
            required += 1;
            assert!(
                delivered.contains(&(dataset, record, made.version)),
                "{dataset} {record:?} version {} of {:?} never came",
                made.version,
                made.subject
            );
        }
    }
    // And the topics hold what the log says, numbered without a gap.
    for (topic, dataset) in [(TO_INSURANCE, INSURANCE), (TO_RIGHT, RIGHT)] {
        let written = world.read(topic);
        let entries = audit
            .iter()
            .filter(|entry| entry.kind == AuditKind::Delivered && entry.dataset == dataset);
        assert_eq!(written.len(), entries.count());
        let mut last = [0; LANES as usize];
        for seen in written {
            let last = &mut last[usize::from(seen.lane)];
            *last += 1;
            assert_eq!(seen.delivery().sequence, *last);
        }
    }
    println!("operations: {:?}", deeds.counts);
    println!("outcomes: {outcomes:?}");
    println!(
        "required in the end: {required}; all in {:?}",
        began.elapsed()
    );
    assert!(required > 100, "the test must require something");
    assert!(deeds.counts["events"] > OPERATIONS / 3);
}
