//! One source in one lane, from the beginning of the stretch to its end: events as they were published,
//! grants as they changed in between, and facts that a grant fetched after they were published.

use mz_bus::Record;
use mz_contract::ScopeKind;
use mz_journal::{RecordTag, SubjectTag};
use mz_policy::{Asks, Change, Decision, GrantsIndex, Now, REFETCH, decide};
use mz_seal::{Digest, Verified, Verifier, Version};
use rustc_hash::FxHashMap;

use super::difference::{Made, Tallies};
use super::history::History;
use super::{ReplayError, Run};
use crate::cases;
use crate::error::Error;
use crate::judge::{admit, expect};
use crate::people::People;
use crate::plan::{Plan, Source};
use crate::sequence::Sequence;
use crate::wire::{Envelope, open};

/// The newest state of a record of somebody whose grants still change: what a backfill would bring.
struct Kept {
    datum: Vec<u8>,
    seal: Vec<u8>,
    version: Version,
}

/// A grant came into force, and what was published before is due under its agreement.
struct Opening {
    at_ms: i64,
    agreement: String,
}

pub(super) struct Passage<'p> {
    run: &'p Run<'p>,
    history: &'p History,
    /// Position of the source in the plan in force.
    at: usize,
    lane: u16,
    grants: GrantsIndex,
    before: Asks,
    after: Asks,
    /// How many copies of a person's history are joined.
    joined: FxHashMap<SubjectTag, usize>,
    kept: FxHashMap<SubjectTag, FxHashMap<RecordTag, Kept>>,
    /// By stream of the dataset.
    sequences: Vec<Option<Sequence>>,
    /// Earlier events exist and were not read: numbering begins where it is found.
    midway: bool,
    verifier: Verifier,
    people: People,
    fault: Option<Error>,
}

impl<'p> Passage<'p> {
    pub(super) fn new(
        run: &'p Run<'p>,
        history: &'p History,
        at: usize,
        lane: u16,
        midway: bool,
    ) -> Self {
        let mut grants = GrantsIndex::new(usize::MAX);
        let dataset = run.before.dataset(&run.before.sources[at]);
        Self {
            run,
            history,
            at,
            lane,
            before: Asks::of(&run.before.contract, &mut grants),
            after: Asks::of(&run.after.contract, &mut grants),
            grants,
            joined: FxHashMap::default(),
            kept: FxHashMap::default(),
            sequences: vec![None; dataset.streams.len()],
            midway,
            verifier: Verifier::new(),
            people: People::new(run.before.contract.lanes),
            fault: None,
        }
    }

    /// Takes one record as the gateway does: whatever is wrong with it is refused under any contract.
    pub(super) fn event(&mut self, record: &Record<'_>, tallies: &mut Tallies) {
        let source = &self.run.before.sources[self.at];
        match open(record, source, &self.run.before) {
            Ok(envelope) => self.opened(&envelope, record.timestamp_ms, tallies),
            Err(_) => tallies.refused += 1,
        }
    }

    fn opened(&mut self, envelope: &Envelope<'_>, written_ms: i64, tallies: &mut Tallies) {
        let plan = &self.run.before;
        let source = &plan.sources[self.at];
        let keys = &self.run.options.keys;
        let expect = expect(plan, source, self.lane);
        let contract = &*plan.contract;
        let verified =
            self.verifier
                .verify_source(&expect, envelope.datum, envelope.seal, contract);
        let Ok(verified) = verified else {
            tallies.refused += 1;
            return;
        };
        let step = self
            .sequence(&verified)
            .step(verified.meta.epoch, verified.meta.sequence);
        let person = self.people.person(verified.subject, keys);
        let admitted = admit(plan, source, self.lane, envelope, &verified, step, &person);
        let Ok((person, _)) = admitted else {
            tallies.refused += 1;
            self.verifier.recycle(verified);
            return;
        };
        tallies.events += 1;
        // When it was published; the time in the event may be the register's.
        let at_ms = match written_ms {
            0 => verified.meta.ce_time_ms,
            written => written,
        };
        let digest = &verified.event_digest;
        self.advance(person.tag, at_ms, Some(digest), tallies);
        self.decide(&verified, person.tag, at_ms, None, tallies);
        let joined = self.joined.get(&person.tag).copied().unwrap_or_default();
        if joined < self.history.of(person.tag).len() {
            let tag = keys
                .audit
                .record_tag(verified.meta.dataset, verified.record);
            let version = verified.meta.version();
            let facts = self.kept.entry(person.tag).or_default();
            if facts.get(&tag).is_none_or(|held| held.version < version) {
                let fact = Kept {
                    datum: envelope.datum.to_vec(),
                    seal: envelope.seal.to_vec(),
                    version,
                };
                facts.insert(tag, fact);
            }
        }
        self.verifier.recycle(verified);
    }

    fn sequence(&mut self, verified: &Verified<'_>) -> &mut Sequence {
        let plan = &self.run.before;
        let streams = &plan.dataset(&plan.sources[self.at]).streams;
        // The verifier has checked that the stream is one of the dataset's.
        let stream = streams.iter().position(|name| name == verified.meta.stream);
        let midway = self.midway;
        self.sequences[stream.unwrap_or_default()].get_or_insert_with(|| match midway {
            true => Sequence {
                epoch: verified.meta.epoch,
                last: verified.meta.sequence.saturating_sub(1),
                missing: Vec::new(),
            },
            false => Sequence::default(),
        })
    }

    /// Grants are all known to the end: what they still fetch is decided.
    pub(super) fn finish(mut self, tallies: &mut Tallies) -> Result<(), ReplayError> {
        let waiting: Vec<SubjectTag> = self.kept.keys().copied().collect();
        for subject in waiting {
            self.advance(subject, i64::MAX, None, tallies);
        }
        match self.fault {
            None => Ok(()),
            Some(fault) => Err(fault.into()),
        }
    }

    /// Brings a person's grants up to `to_ms`; facts that were published before a grant opened are
    /// decided at its opening. What `event` itself changed comes after it, whatever the clocks say.
    fn advance(
        &mut self,
        subject: SubjectTag,
        to_ms: i64,
        event: Option<&Digest>,
        tallies: &mut Tallies,
    ) {
        let history = self.history;
        let copies = history.of(subject);
        if copies.is_empty() {
            return;
        }
        loop {
            let joined = self.joined.entry(subject).or_default();
            let Some(copy) = copies.get(*joined).filter(|copy| copy.at_ms <= to_ms) else {
                break;
            };
            if event.is_some_and(|digest| copy.grant.cause == cases::hex(digest)) {
                break;
            }
            *joined += 1;
            let (grant, at_ms) = (&copy.grant, copy.at_ms);
            // As a slot does when it reads the copy: a grant of everything that was in force already
            // has brought the facts.
            let ask = self.grants.ask_any(&grant.agreement);
            let brought = ask.is_some_and(|ask| self.grants.has_all(subject, ask, at_ms));
            match self.grants.join(grant) {
                Ok(Change::Opened) if !brought || grant.reason == REFETCH => {
                    let held = self.grants.get(subject, grant.id);
                    if held.is_some_and(|held| held.bar(at_ms).is_none()) {
                        let agreement = grant.agreement.clone();
                        self.fetch(subject, &Opening { at_ms, agreement }, tallies);
                    }
                }
                Ok(_) => {}
                Err(full) => {
                    self.fault.get_or_insert(full.into());
                }
            }
        }
    }

    fn fetch(&mut self, subject: SubjectTag, opening: &Opening, tallies: &mut Tallies) {
        let Some(facts) = self.kept.remove(&subject) else {
            return;
        };
        let plan = &self.run.before;
        let expect = expect(plan, &plan.sources[self.at], self.lane);
        for fact in facts.values() {
            let contract = &*plan.contract;
            let verified = self
                .verifier
                .verify_source(&expect, &fact.datum, &fact.seal, contract);
            // It verified when it was read.
            let Ok(verified) = verified else { continue };
            self.decide(&verified, subject, opening.at_ms, Some(opening), tallies);
            self.verifier.recycle(verified);
        }
        self.kept.insert(subject, facts);
    }

    /// Decides under both contracts and books the difference. `opening`: only what its agreement reads of
    /// people with cases.
    fn decide(
        &self,
        verified: &Verified<'_>,
        subject: SubjectTag,
        at_ms: i64,
        opening: Option<&Opening>,
        tallies: &mut Tallies,
    ) {
        let pairing = &self.run.pairings[self.at];
        let now = Now::at_ms(at_ms);
        let side = |plan: &Plan, asks: &Asks, source: Option<usize>| {
            let source = source.map(|at| &plan.sources[at]);
            source.map_or_else(Vec::new, |source| {
                self.side(plan, asks, source, verified, subject, opening, now)
            })
        };
        let before = side(&self.run.before, &self.before, Some(self.at));
        let after = side(&self.run.after, &self.after, pairing.after);
        if opening.is_some() {
            let asked = before.iter().chain(&after).any(Option::is_some);
            tallies.backfilled += u64::from(asked);
        }
        tallies.book(self.at, pairing, subject, &before, &after);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one decision: contract, event, person, moment"
    )]
    fn side(
        &self,
        plan: &Plan,
        asks: &Asks,
        source: &Source,
        verified: &Verified<'_>,
        subject: SubjectTag,
        opening: Option<&Opening>,
        now: Now,
    ) -> Vec<Option<Made>> {
        let readings = source.readings.iter().map(|reading| {
            let agreement = plan.agreement(reading.agreement);
            let section = &agreement.sections[reading.section];
            let asked = opening.is_none_or(|opening| {
                section.scope == ScopeKind::Case && agreement.id == opening.agreement
            });
            if !asked {
                return None;
            }
            let ask = asks.section(section);
            let decision = decide(
                agreement,
                section,
                verified,
                subject,
                ask,
                &self.grants,
                now,
            );
            Some(match decision {
                Decision::Denied(denial) => Made::Denied(denial.rule.code()),
                Decision::Permit(permit) if permit.withdraws() => Made::Permit {
                    withdrawn: true,
                    answers: Vec::new(),
                },
                Decision::Permit(permit) => Made::Permit {
                    withdrawn: false,
                    answers: section
                        .answers
                        .iter()
                        .map(|answer| permit.answer(answer).map_err(|fault| fault.code()))
                        .collect(),
                },
                Decision::OutOfScope { .. } => Made::OutOfScope,
            })
        });
        readings.collect()
    }
}
