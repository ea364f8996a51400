//! One record: is it what it claims to be, is it new, who may have it. Source events as they come,
//! and facts that the vault sends back, go through the same checks and the same decision.

use mz_bus::Record;
use mz_bus::TxProducer;
use mz_journal::{AuditCause, FactBody, FactReply, Record as _, StoredFact, topics};
use mz_policy::{Asks, Decision, Denial, GrantsIndex, Now, Outside, decide};
use mz_seal::{Expect, Headers, MetaRef, Verified, unframe, uuid_text};

use crate::cases;
use crate::engine::Engine;
use crate::error::Error;
use crate::lane::Lane;
use crate::outbox::{EventRef, Halt, Writer};
use crate::people::{People, Person};
use crate::plan::{Plan, Reading, Source};
use crate::sequence::{Sequence, Step};
use crate::telemetry;
use crate::wire::{Envelope, Refusal, check_schema, open};

impl Engine {
    /// A record of a source topic. Whatever is wrong with it ends in quarantine; what is right is
    /// decided for every agreement that reads the dataset.
    pub(crate) fn source_event(
        &mut self,
        producer: &mut TxProducer,
        at: usize,
        source_at: usize,
        record: &Record<'_>,
    ) -> Result<(), Halt> {
        let Self {
            plan,
            keys,
            lanes,
            grants,
            asks,
            verifier,
            people,
            out,
            now,
            ..
        } = self;
        let plan: &Plan = plan;
        let source = &plan.sources[source_at];
        let lane = &mut lanes[at];
        let mut w = Writer {
            producer,
            plan,
            keys,
            out,
            now: *now,
        };
        let offset = record.offset;
        let cause = AuditCause::Stream;

        let envelope = match open(record, source, plan) {
            Ok(envelope) => envelope,
            Err(refusal) => return w.quarantine(lane, source, offset, &refusal, cause, None),
        };
        let expect = expect(plan, source, lane.lane);
        let contract = &*plan.contract;
        let verified =
            match verifier.verify_source(&expect, envelope.datum, envelope.seal, contract) {
                Ok(verified) => verified,
                Err(fault) => {
                    let refusal = Refusal::seal(fault, plan, source);
                    return w.quarantine(lane, source, offset, &refusal, cause, None);
                }
            };
        w.batch_accepted(lane, verifier, source, offset, cause, &verified)?;
        // From here on the department has spoken: its numbering moves whatever comes next.
        let step = number(plan, source, lane, &verified.meta);
        if let Step::Gap { missing, .. } = step {
            w.out.counts.gaps += missing.1 - missing.0 + 1;
        }
        let person = people.person(verified.subject, w.keys);
        let admitted = admit(plan, source, lane.lane, &envelope, &verified, step, &person);
        let (person, headers) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let proven = (&verified.meta, &verified.event_digest, person.as_ref());
                w.quarantine(lane, source, offset, &refusal, cause, Some(proven))?;
                verifier.recycle(verified);
                return Ok(());
            }
        };
        let event = EventRef {
            source,
            person: &person,
            record: w
                .keys
                .audit
                .record_tag(verified.meta.dataset, verified.record),
            offset,
            cause,
            meta: &verified.meta,
            digest: &verified.event_digest,
            id: headers.id.unwrap_or_default(),
            ce_source: headers.source.unwrap_or_default(),
            time: headers.time.unwrap_or_default(),
        };
        if !lane.backfills.is_empty() {
            let version = verified.meta.version();
            lane.backfills
                .decided(person.tag, source_at, event.record, version);
        }
        judge(
            &mut w,
            lane,
            (grants, asks),
            people,
            &verified,
            &event,
            |_| true,
        )?;
        if !(source.opens.is_empty() && source.closes.is_empty()) {
            cases::apply(&mut w, lane, (grants, asks), &verified, &event)?;
        }
        verifier.recycle(verified);
        Ok(())
    }

    /// A record of `bus.facts`: a fact of an open backfill, or its end.
    pub(crate) fn fact(
        &mut self,
        producer: &mut TxProducer,
        at: usize,
        record: &Record<'_>,
    ) -> Result<(), Halt> {
        let lane = &mut self.lanes[at];
        let Some(value) = record.value else {
            return Ok(());
        };
        let reply = FactReply::decode(value).map_err(|source| Error::StateMalformed {
            topic: topics::FACTS,
            lane: lane.lane,
            offset: record.offset,
            source,
        })?;
        let Some(backfill) = lane.backfills.of_reply(reply.grant, reply.attempt) else {
            return Ok(());
        };
        match &reply.body {
            FactBody::Fact(fact) => {
                backfill.received += 1;
                self.stored_fact(producer, at, &reply, fact)
            }
            FactBody::Done { count } if *count == backfill.received => {
                lane.backfills.close(reply.grant);
                Ok(())
            }
            FactBody::Done { count } => {
                tracing::warn!(
                    lane = lane.lane,
                    attempt = reply.attempt,
                    expected = count,
                    received = backfill.received,
                    "a backfill is incomplete: asking again"
                );
                lane.backfills.again(reply.grant);
                Ok(())
            }
        }
    }

    fn stored_fact(
        &mut self,
        producer: &mut TxProducer,
        at: usize,
        reply: &FactReply,
        fact: &StoredFact,
    ) -> Result<(), Halt> {
        let Self {
            plan,
            keys,
            lanes,
            grants,
            asks,
            verifier,
            people,
            out,
            now,
            ..
        } = self;
        let plan: &Plan = plan;
        let lane = &mut lanes[at];
        let Some(source_at) = plan.source_ix(&topics::source(&fact.dataset)) else {
            return Ok(());
        };
        let source = &plan.sources[source_at];
        let mut w = Writer {
            producer,
            plan,
            keys,
            out,
            now: *now,
        };
        let offset = fact.source_offset;
        let cause = AuditCause::Backfill;
        let refuse = |w: &mut Writer<'_>, lane: &mut Lane, refusal: &Refusal| {
            w.quarantine(lane, source, offset, refusal, cause, None)
        };
        // The vault is not believed: its database may have been changed.
        let opened = unframe(&fact.value)
            .map_err(|fault| Refusal::seal(fault, plan, source))
            .and_then(|(id, datum)| check_schema(id, source, &plan.contract).map(|()| datum));
        let datum = match opened {
            Ok(datum) => datum,
            Err(refusal) => return refuse(&mut w, lane, &refusal),
        };
        let expect = expect(plan, source, lane.lane);
        let contract = &*plan.contract;
        let verified = match verifier.verify_source(&expect, datum, &fact.seal, contract) {
            Ok(verified) => verified,
            Err(fault) => return refuse(&mut w, lane, &Refusal::seal(fault, plan, source)),
        };
        w.batch_accepted(lane, verifier, source, offset, cause, &verified)?;
        let person = people.person(verified.subject, w.keys);
        let person = match belongs(plan, source, lane.lane, &verified, &person) {
            Ok(person) if person.tag == reply.subject => person,
            Ok(_) => return refuse(&mut w, lane, &Refusal::new("FACT_FOREIGN", "subject")),
            Err(refusal) => return refuse(&mut w, lane, &refusal),
        };
        let tag = w
            .keys
            .audit
            .record_tag(verified.meta.dataset, verified.record);
        let due = lane
            .backfills
            .of_reply(reply.grant, reply.attempt)
            .is_some_and(|backfill| backfill.take(source_at, tag, verified.meta.version()));
        if due {
            let (id, time) = (
                uuid_text(&verified.meta.ce_id),
                verified.meta.ce_time_text(),
            );
            let ce_source = verified.meta.ce_source();
            let event = EventRef {
                source,
                person: &person,
                record: tag,
                offset,
                cause,
                meta: &verified.meta,
                digest: &verified.event_digest,
                id: &id,
                ce_source: ce_source.as_bytes(),
                time: time.as_bytes(),
            };
            let agreement = lane.backfills.agreement_of(reply.grant);
            let agreement = agreement.and_then(|id| plan.agreement_ix(id));
            judge(
                &mut w,
                lane,
                (grants, asks),
                people,
                &verified,
                &event,
                |reading| {
                    // An agreement's index fits a u32.
                    agreement == Some(reading.agreement as u32)
                        && plan.agreements[reading.agreement]
                            .case_sources
                            .iter()
                            .any(|case| case.source == source_at)
                },
            )?;
        }
        verifier.recycle(verified);
        Ok(())
    }
}

pub(crate) fn expect<'e>(plan: &'e Plan, source: &'e Source, lane: u16) -> Expect<'e> {
    let dataset = plan.dataset(source);
    Expect {
        bus: &plan.contract.bus_id,
        dataset: &dataset.id,
        department: &dataset.department,
        streams: &dataset.streams,
        lane,
        layout: &dataset.layout,
        schema_digest: &dataset.schema_digest,
        subject_field: dataset.subject_field,
    }
}

/// Moves the stream's sequence in this lane, and says so when numbers are missing.
fn number(plan: &Plan, source: &Source, lane: &mut Lane, meta: &MetaRef<'_>) -> Step {
    let streams = &plan.dataset(source).streams;
    // The verifier has checked that the stream is one of the dataset's.
    let stream = streams.iter().position(|stream| stream == meta.stream);
    let at = source.first_stream + stream.unwrap_or_default();
    let sequence: &mut Sequence = &mut lane.sequences[at];
    let step = sequence.step(meta.epoch, meta.sequence);
    lane.touched = true;
    let missing = match step {
        Step::Gap { missing, .. } => Some(missing),
        Step::NewEpoch { missing } => {
            tracing::warn!(
                stream = plan.streams[at],
                lane = lane.lane,
                epoch = meta.epoch,
                "a stream starts a new epoch"
            );
            missing
        }
        _ => None,
    };
    if let Some((from, to)) = missing {
        tracing::warn!(
            stream = plan.streams[at],
            lane = lane.lane,
            from,
            to,
            "numbers of a stream are missing"
        );
        telemetry::missing(&plan.streams[at], lane.lane, to - from + 1);
    }
    if let Step::Gap {
        forgotten: Some((from, to)),
        ..
    } = step
    {
        tracing::error!(
            stream = plan.streams[at],
            lane = lane.lane,
            from,
            to,
            "too many missing ranges: the oldest is given up"
        );
        telemetry::forgotten(&plan.streams[at], lane.lane);
    }
    step
}

/// The checks after the signature: new in its stream, headers agree, subject and record are those of
/// the value, and the person belongs in this lane.
pub(crate) fn admit<'a>(
    plan: &Plan,
    source: &Source,
    lane: u16,
    envelope: &Envelope<'a>,
    verified: &Verified<'_>,
    step: Step,
    person: &Option<Person>,
) -> Result<(Person, Headers<'a>), Refusal> {
    if let Some(code) = step.refusal() {
        return Err(Refusal::new(code, "mz-seal"));
    }
    envelope
        .headers
        .check(&verified.meta)
        .map_err(|fault| Refusal::seal(fault, plan, source))?;
    let person = belongs(plan, source, lane, verified, person)?;
    Ok((person, envelope.headers))
}

/// Subject, lane and record are what the value says.
pub(crate) fn belongs(
    plan: &Plan,
    source: &Source,
    lane: u16,
    verified: &Verified<'_>,
    person: &Option<Person>,
) -> Result<Person, Refusal> {
    let dataset = plan.dataset(source);
    let person = person.ok_or_else(|| Refusal {
        code: "SUBJECT_INVALID",
        place: dataset.fields[dataset.subject_field].name.clone().into(),
    })?;
    if person.lane != lane {
        return Err(Refusal::new("LANE_WRONG", "partition"));
    }
    match dataset.record_of(verified.datum, &verified.spans) {
        Ok(record) if record == verified.record => Ok(person),
        _ => Err(Refusal::new("RECORD_CONTRADICTS", "mz-seal")),
    }
}

/// Decides an event for every reading that `concerned` names, delivers and counts.
fn judge(
    w: &mut Writer<'_>,
    lane: &mut Lane,
    (grants, asks): (&GrantsIndex, &Asks),
    people: &mut People,
    verified: &Verified<'_>,
    event: &EventRef<'_>,
    concerned: impl Fn(&Reading) -> bool,
) -> Result<(), Halt> {
    let plan = w.plan;
    let now: Now = w.now;
    let mut denials = Denials::default();
    for reading in event
        .source
        .readings
        .iter()
        .filter(|reading| concerned(reading))
    {
        let agreement = plan.agreement(reading.agreement);
        let section = &agreement.sections[reading.section];
        let subject = event.person.tag;
        let ask = asks.section(section);
        match decide(agreement, section, verified, subject, ask, grants, now) {
            Decision::OutOfScope(outside) => {
                w.tally(lane, reading.output, event).out_of_scope += 1;
                for answer in &reading.answers {
                    w.tally(lane, answer.output, event).out_of_scope += 1;
                }
                if outside == Outside::Filtered {
                    w.superseded(lane, reading, event)?;
                }
            }
            Decision::Denied(denial) => {
                w.tally(lane, reading.output, event).denied += 1;
                denials.add(reading, denial, denial.rule.code());
                for answer in &reading.answers {
                    w.tally(lane, answer.output, event).denied += 1;
                    denials.add(reading, denial, denial.rule.code());
                }
            }
            Decision::Permit(permit) => {
                // An agreement's index fits a u32.
                let agreement_ix = reading.agreement as u32;
                let key = &plan.agreements[reading.agreement].key;
                let pseudonym = people.pseudonym(event.person, agreement_ix, key);
                let tag = key.record_tag(event.record);
                w.deliver(lane, &permit, reading, event, pseudonym, tag)?;
                for answer in &reading.answers {
                    let key = topics::delivery_key(pseudonym, tag);
                    if let Some(code) = w.answer(lane, &permit, answer, event, key)? {
                        w.tally(lane, answer.output, event).denied += 1;
                        let denial = Denial {
                            rule: mz_policy::Rule::FilterFailed,
                            grant: permit.grant(),
                        };
                        denials.add(reading, denial, code);
                    }
                }
            }
        }
    }
    if let Some(first) = denials.first {
        w.denied(lane, first, &denials.rules, denials.count, event)?;
    }
    Ok(())
}

/// All denials of one event, for its one audit entry.
#[derive(Default)]
struct Denials<'p> {
    first: Option<(&'p Reading, Denial)>,
    /// Codes, each once, separated by commas.
    rules: String,
    count: u32,
}

impl<'p> Denials<'p> {
    fn add(&mut self, reading: &'p Reading, denial: Denial, code: &str) {
        self.first.get_or_insert((reading, denial));
        self.count += 1;
        if !self.rules.split(',').any(|known| known == code) {
            if !self.rules.is_empty() {
                self.rules.push(',');
            }
            self.rules.push_str(code);
        }
    }
}
