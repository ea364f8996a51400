//! May this department ask this about this person? What is refused is recorded; what is admitted
//! waits for the sources; the first request about a person may open their case.

use std::borrow::Cow;
use std::sync::mpsc::Receiver;

use mz_contract::{Agreement, BasisKind, Contract, DatasetIx, FactNeed, ScopeKind, ServiceItem};
use mz_journal::{
    Audit, AuditCause, AuditKind, AuditWriter, Grant, GrantId, GrantKind, GrantStatus, SubjectTag,
};
use mz_policy::{Bar, Now, Rule, Standing};
use rustc_hash::FxHashMap;
use sha2::{Digest as _, Sha256};

use super::answers::{Answer, Answers, Awaited, Waiting, audit_id};
use super::command::{Act, AuditorAsk, BundleAsk, Command, Recorded};
use super::error::SlotError;
use super::outbox::Outbox;
use super::{Slot, now_ms};
use crate::bundle::assemble::{Question, request_audit};
use crate::freshness::Completeness;
use crate::limits::{CATCH_UP, MAX_PENDING};
use crate::refusal::Refusal;

const DAY_MS: i64 = 24 * 3600 * 1000;
const CASE_OPENED: &str = "CASE_OPENED_ON_REQUEST";

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
        while let Some(ask) = self.again.pop_front() {
            self.admit_bundle(ask, &mut heads, outbox, answers)?;
        }
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
        mut ask: BundleAsk,
        heads: &mut Heads,
        outbox: &mut Outbox,
        answers: &mut Answers,
    ) -> Result<(), SlotError> {
        let contract = self.contract();
        let Some(item) = contract.item(&ask.item) else {
            // The contract changed on the way.
            let _ = ask.reply.send(Err(Refusal::ItemUnknown));
            return Ok(());
        };
        if !self.books.contains_key(&ask.lane) {
            let _ = ask.reply.send(Err(Refusal::LaneElsewhere));
            return Ok(());
        }
        let now = Now::at_ms(now_ms());
        if let Err(refusal) = self.admissible(item, &ask, now) {
            self.refuse(item, ask, refusal, now.ms, outbox, answers);
            return Ok(());
        }
        self.labels.note(ask.lane, ask.subject, ask.person.take());
        if let Some(days) = self.must_open(item, ask.subject, now) {
            self.open_case(item, &ask, days, now.ms, outbox)?;
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
        let source = &self.in_force.contract.datasets[dataset];
        let said = self.shared.freshness.of(source);
        let (_, head) = self
            .heads
            .watermarks(&source.src_topic(), i32::from(lane))?;
        heads.insert((dataset, lane), (head, said));
        Ok((head, said))
    }

    /// Whether the department may ask this about this person at all.
    pub(super) fn admissible(
        &self,
        item: &ServiceItem,
        ask: &BundleAsk,
        now: Now,
    ) -> Result<(), Refusal> {
        if ask.caller != item.consumer {
            return Err(Refusal::ConsumerForeign);
        }
        let agreement = &self.in_force.contract.agreements[item.agreement_ix];
        if agreement.ended() {
            return Err(Refusal::Denied(Rule::AgreementTerminated));
        }
        if agreement.suspended() {
            return Err(Refusal::Denied(Rule::AgreementSuspended));
        }
        if !now.moment.day().is_some_and(|day| agreement.in_term(day)) {
            return Err(Refusal::Denied(Rule::AgreementOutOfTerm));
        }
        if let Some(case) = ask.case {
            let held = self.grants.get(ask.subject, case);
            let ours = self.asks.agreement(item.agreement_ix);
            if !held.is_some_and(|held| ours.is_some_and(|ask| held.answers(ask))) {
                return Err(Refusal::CaseUnknown);
            }
        }
        match self.standing(item, ask.subject, now) {
            Standing::InForce(_) => Ok(()),
            // What ran out by itself may be asked for anew; what somebody ended may not.
            Standing::Nothing | Standing::Barred(_, Bar::Expired) if opens(agreement) => Ok(()),
            Standing::Barred(_, bar) => Err(Refusal::Denied(bar.into())),
            Standing::Nothing => {
                let section = |need: &FactNeed| &agreement.sections[need.section];
                let by_case = |need| section(need).scope == ScopeKind::Case;
                match (item.facts.iter().all(by_case), agreement.basis.kind) {
                    (false, _) => Ok(()),
                    // What only the person can give, no request of a department opens.
                    (true, BasisKind::Consent) => Err(Refusal::ConsentNone),
                    (true, _) => Err(Refusal::CaseNone),
                }
            }
        }
    }

    /// What the person's grants say to the needs that ask for one. A grant that covers one of them is
    /// in force; which of them it covers is decided need by need.
    pub(super) fn standing(&self, item: &ServiceItem, subject: SubjectTag, now: Now) -> Standing {
        let agreement = &self.in_force.contract.agreements[item.agreement_ix];
        let sections = item
            .facts
            .iter()
            .map(|need| &agreement.sections[need.section]);
        let asks = sections
            .filter(|section| section.scope == ScopeKind::Case)
            .filter_map(|section| self.asks.section(section));
        asks.map(|ask| self.grants.standing(subject, ask, now.ms))
            .fold(Standing::Nothing, better)
    }

    /// The days of the case that this request opens; `None` when one is open, or none is needed.
    fn must_open(&self, item: &ServiceItem, subject: SubjectTag, now: Now) -> Option<u32> {
        let agreement = &self.in_force.contract.agreements[item.agreement_ix];
        let by_case = item
            .facts
            .iter()
            .any(|need| agreement.sections[need.section].scope == ScopeKind::Case);
        match self.standing(item, subject, now) {
            Standing::InForce(_) => None,
            _ if !by_case || !opens(agreement) => None,
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
        days: u32,
        now_ms: i64,
        outbox: &mut Outbox,
    ) -> Result<(), SlotError> {
        let contract = self.contract();
        let agreement = &contract.agreements[item.agreement_ix];
        let cause = format!("request:{}", ask.bundle_id);
        let trigger = Sha256::digest(cause.as_bytes()).into();
        let grant = Grant {
            id: Grant::case_id(&trigger, &agreement.id, ask.subject),
            kind: GrantKind::Case,
            subject: ask.subject,
            agreement: agreement.id.clone(),
            datasets: Vec::new(),
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
            &contract,
        );
        name_agreement(&mut audit, agreement, &agreement.consumer);
        audit.rule = Cow::Borrowed(CASE_OPENED);
        self.record(ask.lane, &mut audit, outbox);
        Ok(())
    }

    pub(super) fn refuse(
        &mut self,
        item: &ServiceItem,
        ask: BundleAsk,
        refusal: Refusal,
        now_ms: i64,
        outbox: &mut Outbox,
        answers: &mut Answers,
    ) {
        let contract = self.contract();
        let agreement = &contract.agreements[item.agreement_ix];
        let ours = self.asks.agreement(item.agreement_ix);
        let grant = self
            .grants
            .of(ask.subject)
            .find(|held| ours.is_some_and(|ask| held.answers(ask)));
        let grant = grant.map(|held| held.id);
        let mut audit = audit_of(&ask, now_ms, AuditKind::Denied, grant, &contract);
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

    fn admit_auditor(&mut self, mut ask: AuditorAsk, outbox: &mut Outbox, answers: &mut Answers) {
        if !self.books.contains_key(&ask.lane) {
            let _ = ask.reply.send(Err(Refusal::LaneElsewhere));
            return;
        }
        self.labels.note(ask.lane, ask.subject, ask.person.take());
        let (kind, cause, rule) = match ask.act {
            Act::Question => (AuditKind::Lookup, AuditCause::Auditor, "WHO_READ"),
            Act::Hiding(hiding) => (AuditKind::Hiding, AuditCause::Operator, hiding.rule),
        };
        let mut audit = Audit::empty(AuditWriter::Vault, ask.lane, now_ms(), kind, cause);
        audit.contract = self.in_force.contract.digest;
        audit.subject = ask.subject;
        audit.consumer = Cow::Owned(ask.caller);
        audit.operator = Cow::Owned(ask.operator);
        audit.reason = Cow::Owned(ask.reason);
        audit.rule = Cow::Borrowed(rule);
        if let Act::Hiding(hiding) = ask.act {
            audit.event = hiding.terms;
            audit.version_counter = hiding.until_ms;
        }
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
    pub(super) fn record(&mut self, lane: u16, audit: &mut Audit<'_>, outbox: &mut Outbox) -> u64 {
        match self.books.get_mut(&lane) {
            Some(book) => outbox.audit(book, &self.shared.keys.audit, audit),
            // Callers have looked: a lane without a book is never admitted.
            None => 0,
        }
    }
}

/// Whether the agreement lets a request open a case. Never where the basis is consent, whatever the
/// agreement says of cases.
fn opens(agreement: &Agreement) -> bool {
    let by_request = agreement
        .cases
        .as_ref()
        .is_some_and(|cases| cases.on_request_days.is_some());
    by_request && agreement.basis.kind != BasisKind::Consent
}

/// What counts of two grants' say: one in force, or else the bar that could most easily change.
fn better(a: Standing, b: Standing) -> Standing {
    match (a, b) {
        (Standing::InForce(_), _) | (_, Standing::Nothing) => a,
        (_, Standing::InForce(_)) | (Standing::Nothing, _) => b,
        (Standing::Barred(_, one), Standing::Barred(_, other)) => match one >= other {
            true => a,
            false => b,
        },
    }
}

fn audit_of(
    ask: &BundleAsk,
    now_ms: i64,
    kind: AuditKind,
    grant: Option<GrantId>,
    contract: &Contract,
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
    request_audit(contract, &question, kind)
}

fn name_agreement(audit: &mut Audit<'_>, agreement: &Agreement, consumer: &str) {
    audit.agreement = Cow::Owned(agreement.id.clone());
    audit.consumer = Cow::Owned(consumer.to_owned());
    audit.purpose = Cow::Owned(agreement.purpose.clone());
}
