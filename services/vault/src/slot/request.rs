//! Requests about one person: admitted (may this department ask?), kept until the store holds
//! what was published before the request, answered after their audit records are committed.

use std::borrow::Cow;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use mz_contract::{Agreement, DatasetIx, ScopeKind, ServiceItem};
use mz_journal::{
    Audit, AuditCause, AuditKind, AuditWriter, Grant, GrantId, GrantKind, GrantStatus, SubjectTag,
};
use mz_policy::{Bar, Now, Rule, Standing};
use rustc_hash::{FxHashMap, FxHashSet};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::command::{AuditorAsk, BundleAsk, Command, Recorded};
use super::error::SlotError;
use super::outbox::Outbox;
use super::{Slot, now_ms};
use crate::bundle::Bundle;
use crate::bundle::assemble::{Assembler, Question, Source, request_audit};
use crate::bundle::sign::sign;
use crate::freshness::Completeness;
use crate::limits::{CATCH_UP, MAX_FACTS_PER_SUBJECT, MAX_PENDING};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::{FactRow, StoreError, Wanted};
use crate::telemetry;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// An admitted request.
pub(super) struct Waiting {
    ask: BundleAsk,
    bundle_id: String,
    awaited: Vec<Awaited>,
    deadline: Instant,
}

/// A source that the request needs, as it was when the request came.
struct Awaited {
    dataset: DatasetIx,
    /// What was written by then, open transactions included: whatever a source's status had
    /// vouched for lies below.
    head: i64,
    /// Read before `head`.
    said: Completeness,
}

/// Answers that may leave once the turn's transaction is committed.
#[derive(Default)]
pub(super) struct Answers(Vec<Answer>);

enum Answer {
    Bundle {
        bundle: Box<Bundle>,
        received: Instant,
        reply: oneshot::Sender<Result<Bundle, Refusal>>,
    },
    Refused {
        refusal: Refusal,
        received: Instant,
        reply: oneshot::Sender<Result<Bundle, Refusal>>,
    },
    Recorded {
        recorded: Recorded,
        reply: oneshot::Sender<Result<Recorded, Refusal>>,
    },
}

impl Answers {
    /// A receiver that is gone has given up waiting: the record of the look-up stays.
    pub(super) fn deliver(self, shared: &Shared) {
        for answer in self.0 {
            match answer {
                Answer::Bundle {
                    mut bundle,
                    received,
                    reply,
                } => {
                    let signed = sign(&mut bundle, &*shared.keys.signer);
                    let result = match signed {
                        Ok(()) => Ok(*bundle),
                        Err(fault) => {
                            tracing::error!(error = %fault, "bundle not signed");
                            Err(Refusal::Unavailable)
                        }
                    };
                    telemetry::bundle("issued", received.elapsed());
                    let _ = reply.send(result);
                }
                Answer::Refused {
                    refusal,
                    received,
                    reply,
                } => {
                    telemetry::bundle("refused", received.elapsed());
                    let _ = reply.send(Err(refusal));
                }
                Answer::Recorded { recorded, reply } => {
                    let _ = reply.send(Ok(recorded));
                }
            }
        }
    }
}

/// `None` for a person with more facts than a bundle may hold.
type RowsByPerson = FxHashMap<(u16, SubjectTag), Option<Vec<FactRow>>>;
type Heads = FxHashMap<(DatasetIx, u16), (i64, Completeness)>;

impl Slot {
    /// Takes what was asked since the last turn.
    pub(super) fn admit(
        &mut self,
        commands: &Receiver<Command>,
        outbox: &mut Outbox,
        answers: &mut Answers,
    ) -> Result<(), SlotError> {
        let mut heads = Heads::default();
        while self.waiting.len() < MAX_PENDING {
            match commands.try_recv() {
                Ok(Command::Bundle(ask)) => self.admit_bundle(*ask, &mut heads, outbox, answers)?,
                Ok(Command::Auditor(ask)) => self.admit_auditor(*ask, outbox, answers),
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn admit_bundle(
        &mut self,
        ask: BundleAsk,
        heads: &mut Heads,
        outbox: &mut Outbox,
        answers: &mut Answers,
    ) -> Result<(), SlotError> {
        let shared = std::sync::Arc::clone(&self.shared);
        let (Some(item), true) = (
            shared.contract.items.get(ask.item),
            self.books.contains_key(&ask.lane),
        ) else {
            let _ = ask.reply.send(Err(Refusal::LaneElsewhere));
            return Ok(());
        };
        let bundle_id = Uuid::now_v7().to_string();
        let now = Now::at_ms(now_ms());
        if let Err(refusal) = self.admissible(item, &ask, now) {
            self.refuse(item, ask, refusal, now.ms, outbox, answers);
            return Ok(());
        }
        if let Some(days) = self.must_open(item, ask.subject, now) {
            self.open_case(item, &ask, &bundle_id, days, now.ms, outbox)?;
        }
        let mut awaited: Vec<Awaited> = Vec::new();
        for need in &item.facts {
            let dataset = need.dataset_ix;
            if awaited.iter().any(|source| source.dataset == dataset) {
                continue;
            }
            let (head, said) = self.head(dataset, ask.lane, heads)?;
            awaited.push(Awaited {
                dataset,
                head,
                said,
            });
        }
        self.waiting.push(Waiting {
            deadline: ask.received + CATCH_UP,
            ask,
            bundle_id,
            awaited,
        });
        Ok(())
    }

    /// How far a source was written, and what it had said of itself before.
    fn head(
        &mut self,
        dataset: DatasetIx,
        lane: u16,
        heads: &mut Heads,
    ) -> Result<(i64, Completeness), SlotError> {
        if let Some(known) = heads.get(&(dataset, lane)) {
            return Ok(*known);
        }
        let source = &self.shared.contract.datasets[dataset];
        let said = self.shared.freshness.of(source);
        let (_, head) = self
            .heads
            .watermarks(&source.src_topic(), i32::from(lane))?;
        heads.insert((dataset, lane), (head, said));
        Ok((head, said))
    }

    /// Whether the department may ask this about this person at all.
    fn admissible(&self, item: &ServiceItem, ask: &BundleAsk, now: Now) -> Result<(), Refusal> {
        if ask.caller != item.consumer {
            return Err(Refusal::ConsumerForeign);
        }
        let agreement = &self.shared.contract.agreements[item.agreement_ix];
        if agreement.suspended() {
            return Err(Refusal::Denied(Rule::AgreementSuspended));
        }
        if !now.moment.day().is_some_and(|day| agreement.in_term(day)) {
            return Err(Refusal::Denied(Rule::AgreementOutOfTerm));
        }
        if let Some(case) = ask.case {
            let held = self.grants.get(ask.subject, case);
            if held.is_none_or(|held| held.agreement as usize != item.agreement_ix) {
                return Err(Refusal::CaseUnknown);
            }
        }
        match self.standing(item, ask.subject, now) {
            Standing::InForce(_) => Ok(()),
            // What ran out by itself may be asked for anew; what somebody ended may not.
            Standing::Nothing | Standing::Barred(_, Bar::Expired) if opens(agreement) => Ok(()),
            Standing::Barred(_, bar) => Err(Refusal::Denied(bar.into())),
            Standing::Nothing => {
                let section = |need: &mz_contract::FactNeed| &agreement.sections[need.section];
                let by_case = |need| section(need).scope == ScopeKind::Case;
                if item.facts.iter().all(by_case) {
                    Err(Refusal::CaseNone)
                } else {
                    Ok(())
                }
            }
        }
    }

    fn standing(&self, item: &ServiceItem, subject: SubjectTag, now: Now) -> Standing {
        // A contract has far fewer agreements than u32::MAX.
        self.grants
            .standing(subject, item.agreement_ix as u32, now.ms)
    }

    /// The days of the case that this request opens; `None` when one is open, or none is needed.
    fn must_open(&self, item: &ServiceItem, subject: SubjectTag, now: Now) -> Option<u32> {
        let agreement = &self.shared.contract.agreements[item.agreement_ix];
        let by_case = item
            .facts
            .iter()
            .any(|need| agreement.sections[need.section].scope == ScopeKind::Case);
        match self.standing(item, subject, now) {
            Standing::InForce(_) => None,
            _ if !by_case => None,
            _ => agreement
                .cases
                .as_ref()
                .and_then(|cases| cases.on_request_days),
        }
    }

    /// Opens a case. It counts here at once: the answer leaves only after it is committed.
    fn open_case(
        &mut self,
        item: &ServiceItem,
        ask: &BundleAsk,
        bundle_id: &str,
        days: u32,
        now_ms: i64,
        outbox: &mut Outbox,
    ) -> Result<(), SlotError> {
        let agreement = &self.shared.contract.agreements[item.agreement_ix];
        let cause = format!("request:{bundle_id}");
        let trigger = Sha256::digest(cause.as_bytes()).into();
        let grant = Grant {
            id: Grant::case_id(&trigger, &agreement.id, ask.subject),
            kind: GrantKind::Case,
            subject: ask.subject,
            agreement: agreement.id.clone(),
            status: GrantStatus::Open,
            counter: 1,
            opened_ms: now_ms,
            expires_ms: now_ms.saturating_add(i64::from(days) * DAY_MS),
            closed_ms: None,
            cause,
            reason: CASE_OPENED.to_owned(),
            subject_sealed: None,
        };
        self.shared.join(&mut self.grants, ask.lane, &grant)?;
        outbox.grant(ask.lane, &grant);
        let mut audit = audit_of(
            ask,
            now_ms,
            AuditKind::CaseOpened,
            Some(grant.id),
            &self.shared,
        );
        name_agreement(&mut audit, agreement, &agreement.consumer);
        audit.rule = Cow::Borrowed(CASE_OPENED);
        self.record(ask.lane, &mut audit, outbox);
        Ok(())
    }

    fn refuse(
        &mut self,
        item: &ServiceItem,
        ask: BundleAsk,
        refusal: Refusal,
        now_ms: i64,
        outbox: &mut Outbox,
        answers: &mut Answers,
    ) {
        let agreement = &self.shared.contract.agreements[item.agreement_ix];
        let grant = self
            .grants
            .of(ask.subject)
            .find(|held| held.agreement as usize == item.agreement_ix);
        let grant = grant.map(|held| held.id);
        let mut audit = audit_of(&ask, now_ms, AuditKind::Denied, grant, &self.shared);
        // Who asked, not who would have been allowed to.
        name_agreement(&mut audit, agreement, &ask.caller);
        audit.rule = Cow::Borrowed(refusal.code());
        audit.counts.denied = 1;
        self.record(ask.lane, &mut audit, outbox);
        answers.0.push(Answer::Refused {
            refusal,
            received: ask.received,
            reply: ask.reply,
        });
    }

    fn admit_auditor(&mut self, ask: AuditorAsk, outbox: &mut Outbox, answers: &mut Answers) {
        if !self.books.contains_key(&ask.lane) {
            let _ = ask.reply.send(Err(Refusal::LaneElsewhere));
            return;
        }
        let mut audit = Audit::empty(
            AuditWriter::Vault,
            ask.lane,
            now_ms(),
            AuditKind::Lookup,
            AuditCause::Auditor,
        );
        audit.contract = self.shared.contract.digest;
        audit.subject = ask.subject;
        audit.consumer = Cow::Owned(ask.caller);
        audit.operator = Cow::Owned(ask.operator);
        audit.reason = Cow::Owned(ask.reason);
        audit.rule = Cow::Borrowed("WHO_READ");
        let number = self.record(ask.lane, &mut audit, outbox);
        let recorded = Recorded {
            lane: ask.lane,
            number,
            audit_id: audit_id(ask.lane, number),
        };
        answers.0.push(Answer::Recorded {
            recorded,
            reply: ask.reply,
        });
    }

    /// Queues an audit record; returns its number.
    fn record(&mut self, lane: u16, audit: &mut Audit<'_>, outbox: &mut Outbox) -> u64 {
        match self.books.get_mut(&lane) {
            Some(book) => outbox.audit(book, &self.shared.keys.audit, audit),
            // Callers have looked: a lane without a book is never admitted.
            None => 0,
        }
    }

    /// Whether some request could be answered without waiting any longer.
    pub(super) fn any_ready(&self) -> bool {
        let now = Instant::now();
        self.waiting
            .iter()
            .any(|waiting| self.is_ready(waiting, now))
    }

    fn is_ready(&self, waiting: &Waiting, now: Instant) -> bool {
        now >= waiting.deadline
            || waiting
                .awaited
                .iter()
                .all(|source| self.holds(source, waiting.ask.lane))
    }

    /// Whether everything that was published before the request is in the store.
    fn holds(&self, source: &Awaited, lane: u16) -> bool {
        self.reached
            .get(&(source.dataset, lane))
            .copied()
            .unwrap_or(0)
            >= source.head
    }

    /// Answers the requests whose sources are in the store, or whose time is up.
    pub(super) fn answer_ready(
        &mut self,
        outbox: &mut Outbox,
        answers: &mut Answers,
    ) -> Result<(), SlotError> {
        let now = Instant::now();
        let all = std::mem::take(&mut self.waiting);
        let (ready, waiting) = all
            .into_iter()
            .partition(|w: &Waiting| self.is_ready(w, now));
        self.waiting = waiting;
        let ready: Vec<Waiting> = ready;
        if ready.is_empty() {
            return Ok(());
        }
        let rows = self.rows_of(&ready)?;
        for waiting in ready {
            let found = rows.get(&(waiting.ask.lane, waiting.ask.subject));
            self.answer(waiting, found, outbox, answers);
        }
        Ok(())
    }

    fn answer(
        &mut self,
        waiting: Waiting,
        rows: Option<&Option<Vec<FactRow>>>,
        outbox: &mut Outbox,
        answers: &mut Answers,
    ) {
        let Waiting {
            ask,
            bundle_id,
            awaited,
            ..
        } = waiting;
        let shared = std::sync::Arc::clone(&self.shared);
        let item = &shared.contract.items[ask.item];
        let now = Now::at_ms(now_ms());
        // Up to two seconds have passed: what has been revoked since is revoked.
        if let Err(refusal) = self.admissible(item, &ask, now) {
            self.refuse(item, ask, refusal, now.ms, outbox, answers);
            return;
        }
        let rows = match rows {
            Some(Some(rows)) => rows.as_slice(),
            None => &[],
            Some(None) => {
                tracing::error!(
                    lane = ask.lane,
                    "more facts about one person than a bundle may hold"
                );
                let _ = ask.reply.send(Err(Refusal::Unavailable));
                return;
            }
        };
        let grant = match self.standing(item, ask.subject, now) {
            Standing::InForce(grant) => Some(grant),
            _ => None,
        };
        let sources = awaited
            .iter()
            .map(|s| (s.dataset, self.source(s, ask.lane)))
            .collect();
        let question = Question {
            bundle_id,
            now_ms: now.ms,
            lane: ask.lane,
            subject: ask.subject,
            grant,
            operator: &ask.operator,
            reason: &ask.reason,
            sources,
        };
        let mut assembler = Assembler {
            contract: &shared.contract,
            keys: &shared.keys,
            ingest: &mut self.ingest,
            grants: &self.grants,
        };
        let mut draft = assembler.assemble(item, &question, rows);
        let mut first = None;
        for audit in &mut draft.audits {
            let number = self.record(ask.lane, audit, outbox);
            first.get_or_insert(number);
        }
        draft.bundle.audit_id = audit_id(ask.lane, first.unwrap_or(0));
        // One record per need at least, and few facts a need: far below u32::MAX.
        draft.bundle.audit_count = draft.audits.len() as u32;
        answers.0.push(Answer::Bundle {
            bundle: Box::new(draft.bundle),
            received: ask.received,
            reply: ask.reply,
        });
    }

    /// What can be said about a source now. Where the store is not there yet, only what was
    /// vouched for when it last was.
    fn source(&mut self, source: &Awaited, lane: u16) -> Source {
        let caught_up = self.holds(source, lane);
        let place = (source.dataset, lane);
        if caught_up {
            self.confirmed.insert(place, source.said);
        }
        let completeness = self.confirmed.get(&place).copied().unwrap_or_default();
        Source {
            completeness,
            caught_up,
        }
    }

    /// The stored facts of everyone in `ready`; `None` for a person with too many.
    fn rows_of(&mut self, ready: &[Waiting]) -> Result<RowsByPerson, SlotError> {
        let contract = std::sync::Arc::clone(&self.shared.contract);
        let mut people: FxHashMap<u16, (FxHashSet<SubjectTag>, FxHashSet<u32>)> =
            FxHashMap::default();
        for waiting in ready {
            let (subjects, datasets) = people.entry(waiting.ask.lane).or_default();
            subjects.insert(waiting.ask.subject);
            datasets.extend(
                waiting
                    .awaited
                    .iter()
                    .map(|s| contract.datasets[s.dataset].schema_id),
            );
        }
        let mut rows = FxHashMap::default();
        for (lane, (subjects, datasets)) in people {
            let datasets: Vec<u32> = datasets.into_iter().collect();
            let wanted = Wanted {
                lane,
                subjects: subjects.iter().copied().collect(),
                datasets,
            };
            match self.shared.runtime.block_on(self.store.facts(&wanted)) {
                Ok(found) => {
                    for row in found {
                        let held = rows
                            .entry((lane, row.subject))
                            .or_insert_with(|| Some(Vec::new()));
                        if let Some(held) = held {
                            held.push(row);
                        }
                    }
                }
                // One person must not make the others wait.
                Err(StoreError::TooMany) => {
                    for subject in subjects {
                        let one = Wanted {
                            subjects: vec![subject],
                            ..wanted.clone()
                        };
                        let found = match self.shared.runtime.block_on(self.store.facts(&one)) {
                            Ok(found) => Some(found),
                            Err(StoreError::TooMany) => None,
                            Err(error) => return Err(error.into()),
                        };
                        rows.insert((lane, subject), found);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        for held in rows.values_mut() {
            if held
                .as_ref()
                .is_some_and(|rows| rows.len() > MAX_FACTS_PER_SUBJECT)
            {
                *held = None;
            }
        }
        Ok(rows)
    }
}

const CASE_OPENED: &str = "CASE_OPENED_ON_REQUEST";

/// Whether the agreement lets a request open a case.
fn opens(agreement: &Agreement) -> bool {
    agreement
        .cases
        .as_ref()
        .is_some_and(|cases| cases.on_request_days.is_some())
}

fn audit_of(
    ask: &BundleAsk,
    now_ms: i64,
    kind: AuditKind,
    grant: Option<GrantId>,
    shared: &Shared,
) -> Audit<'static> {
    let question = Question {
        bundle_id: String::new(),
        now_ms,
        lane: ask.lane,
        subject: ask.subject,
        grant,
        operator: &ask.operator,
        reason: &ask.reason,
        sources: FxHashMap::default(),
    };
    request_audit(&shared.contract, &question, kind)
}

fn name_agreement(audit: &mut Audit<'_>, agreement: &Agreement, consumer: &str) {
    audit.agreement = Cow::Owned(agreement.id.clone());
    audit.consumer = Cow::Owned(consumer.to_owned());
    audit.purpose = Cow::Owned(agreement.purpose.clone());
}

/// How people name an audit record of the vault.
pub fn audit_id(lane: u16, number: u64) -> String {
    format!("{}-{lane}-{number}", AuditWriter::Vault.name())
}
