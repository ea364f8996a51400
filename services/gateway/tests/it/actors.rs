//! Who runs in a test besides the departments: the gateway's slots in threads, and a vault.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use mz_contract::IdNumber;
use mz_gateway::{Error, Options, Stats, run_slot};
use mz_journal::{FactBody, FactReply, Fetch, Record as _, StoredFact, topics};
use mz_seal::headers;

use crate::world::*;

/// Slots running in threads.
pub struct Gateway {
    pub stop: Arc<AtomicBool>,
    pub stats: Vec<Arc<Stats>>,
    threads: Vec<JoinHandle<Result<(), Error>>>,
}

impl Gateway {
    pub fn start(options: Options, slots: impl Iterator<Item = u32>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut stats, mut threads) = (Vec::new(), Vec::new());
        for slot in slots {
            let (options, flag, own) =
                (options.clone(), Arc::clone(&stop), Arc::<Stats>::default());
            stats.push(Arc::clone(&own));
            threads.push(thread::spawn(move || run_slot(&options, slot, &own, &flag)));
        }
        let gateway = Self {
            stop,
            stats,
            threads,
        };
        wait_for("the slots take over", || {
            gateway.stats.iter().all(|stats| stats.is_running()) || gateway.ended()
        });
        gateway
    }

    pub fn ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    pub fn counts(&self) -> mz_gateway::Counts {
        let mut total = mz_gateway::Counts::default();
        for stats in &self.stats {
            total += stats.counts();
        }
        total
    }

    /// Waits until that many source records were processed and committed.
    pub fn processed(&self, events: u64) {
        wait_for(&format!("{events} events, are {:?}", self.counts()), || {
            assert!(!self.ended(), "a slot ended");
            self.counts().events >= events
        });
    }

    pub fn stop(self) -> Vec<Result<(), Error>> {
        self.stop.store(true, Ordering::Release);
        self.threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    }

    /// Stops and expects that nothing went wrong.
    pub fn end(self) {
        for outcome in self.stop() {
            outcome.unwrap();
        }
    }
}

/// Answers fetches as the vault does: below the fences, newest version per record, then done.
#[derive(Default)]
pub struct Vault {
    /// Requests answered, by lane and place: a grant that opens again asks again from attempt 1.
    answered: BTreeSet<(u16, usize)>,
}

impl Vault {
    pub fn fetches(world: &World) -> Vec<(u16, Fetch)> {
        world
            .read(topics::FETCH)
            .iter()
            .map(|seen| {
                let fetch = Fetch::decode(seen.value.as_ref().unwrap()).unwrap();
                (seen.lane, fetch)
            })
            .collect()
    }

    /// The facts that a fetch asks for.
    pub fn facts(world: &World, lane: u16, fetch: &Fetch) -> Vec<FactReply> {
        let mut newest: BTreeMap<(String, String), ((u32, u64), FactReply)> = BTreeMap::new();
        for fence in &fetch.fences {
            for seen in world.read(&fence.topic) {
                if seen.lane != lane || seen.offset >= fence.offset {
                    continue;
                }
                let Some(seal) = seen.header(headers::SEAL) else {
                    continue;
                };
                let Ok(parsed) = mz_seal::SourceSeal::parse(seal) else {
                    continue;
                };
                let value = seen.value.clone().unwrap();
                let dataset = world.contract.dataset(parsed.meta.dataset).unwrap();
                let mut spans = Vec::new();
                if dataset.layout.spans(&value[5..], &mut spans).is_err() {
                    continue;
                }
                let subject = dataset
                    .layout
                    .read_string(dataset.subject_field, &value[5..], &spans)
                    .unwrap();
                if IdNumber::parse(subject).is_err() || world.tag(subject) != fetch.subject {
                    continue;
                }
                let version = (parsed.meta.epoch, parsed.meta.counter);
                let reply = FactReply {
                    grant: fetch.grant,
                    attempt: fetch.attempt,
                    subject: fetch.subject,
                    body: FactBody::Fact(StoredFact {
                        dataset: dataset.id.clone(),
                        source_offset: seen.offset,
                        value: value.clone(),
                        seal: seal.to_vec(),
                        ce_id: parsed.meta.ce_id,
                    }),
                };
                let of = (dataset.id.clone(), parsed.record.to_owned());
                let known = newest.entry(of).or_insert((version, reply.clone()));
                if known.0 < version {
                    *known = (version, reply);
                }
            }
        }
        newest.into_values().map(|(_, reply)| reply).collect()
    }

    pub fn send(world: &World, lane: u16, replies: &[FactReply]) {
        let mut writer = Writer::open(world, "test-vault");
        for reply in replies {
            let value = reply.encode();
            writer.send(topics::FACTS, lane, &reply.subject.0, Some(&value), &[]);
        }
        writer.commit();
    }

    pub fn done(fetch: &Fetch, count: u64) -> FactReply {
        FactReply {
            grant: fetch.grant,
            attempt: fetch.attempt,
            subject: fetch.subject,
            body: FactBody::Done { count },
        }
    }

    /// Answers what was asked since the last call.
    pub fn serve(&mut self, world: &World) {
        let mut place = BTreeMap::new();
        for (lane, fetch) in Self::fetches(world) {
            let at = place.entry(lane).or_insert(0);
            *at += 1;
            if self.answered.insert((lane, *at)) {
                let mut replies = Self::facts(world, lane, &fetch);
                let count = replies.len() as u64;
                replies.push(Self::done(&fetch, count));
                Self::send(world, lane, &replies);
            }
        }
    }
}
