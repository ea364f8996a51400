//! Cases that events open and close, as the agreement says. A case is a grant in the lane of the
//! person whose case it is; it comes into force when that lane's owner reads it from `bus.grants`.
//! A closing that this slot writes is obeyed at once: it can only let less through.

use mz_contract::IdNumber;
use mz_journal::{
    AuditKind, Grant, GrantId, GrantKind, GrantStatus, Record as _, SubjectTag, topics,
};
use mz_policy::{Asks, GrantsIndex, Held};
use mz_seal::{Digest, Verified};

use crate::error::Error;
use crate::lane::Lane;
use crate::outbox::{EventRef, Halt, Writer};
use crate::wire::Refusal;

const DAY_MS: i64 = 24 * 3600 * 1000;
/// What a register says happened longer ago than this before a case was opened does not close it: it is
/// what was so when the person came, arriving late or once more (a first load, a new epoch). Shorter than
/// that, an event closes: the case's opening is stamped when the bus read of it, which an outage delays.
pub(crate) const HISTORY_MS: i64 = 7 * DAY_MS;
/// People for whom one event may open a case: an applicant and a family, not a list.
const MAX_SUBJECTS: usize = 32;
/// Reasons in the grants themselves.
pub(crate) const OPENED: &str = "CASE_OPENED_BY_EVENT";
pub(crate) const CLOSED: &str = "CASE_CLOSED_BY_EVENT";

/// Opens and closes what the rules of the event's dataset say.
pub(crate) fn apply(
    w: &mut Writer<'_>,
    lane: &mut Lane,
    (grants, asks): (&mut GrantsIndex, &Asks),
    verified: &Verified<'_>,
    event: &EventRef<'_>,
) -> Result<(), Halt> {
    // What its register took back neither begins nor ends anything.
    if verified.meta.withdrawn {
        return Ok(());
    }
    // Closings first: an event that closes one case and opens the next leaves the next open.
    for &(agreement, rule) in &event.source.closes {
        close(w, lane, (grants, asks), verified, event, agreement, rule)?;
    }
    for &(agreement, rule) in &event.source.opens {
        open(w, lane, verified, event, agreement, rule)?;
    }
    Ok(())
}

fn open(
    w: &mut Writer<'_>,
    lane: &mut Lane,
    verified: &Verified<'_>,
    event: &EventRef<'_>,
    at: usize,
    rule: usize,
) -> Result<(), Halt> {
    let agreement = w.plan.agreement(at);
    let Some(rule) = agreement.cases.as_ref().map(|cases| &cases.opens[rule]) else {
        return Ok(());
    };
    let day = w.now.moment.day();
    if agreement.suspended() || !day.is_some_and(|day| agreement.in_term(day)) {
        return Ok(());
    }
    match rule
        .when
        .holds(verified.datum, &verified.spans, w.now.moment)
    {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(fault) => {
            let refusal = Refusal::new(fault.code(), "case rule");
            return w.note(lane, event.source, event.offset, &refusal);
        }
    }
    let mut people: Vec<(IdNumber, u16, SubjectTag)> = Vec::new();
    for path in &rule.subjects {
        let Ok(texts) = path.read(verified.datum, &verified.spans) else {
            let refusal = Refusal::new("RULE_SHAPE", "case subjects");
            return w.note(lane, event.source, event.offset, &refusal);
        };
        for text in texts {
            // One bad number must not keep the others from their case.
            let Ok(id) = IdNumber::parse(&text) else {
                let refusal = Refusal::new("CASE_SUBJECT_INVALID", "case subjects");
                w.note(lane, event.source, event.offset, &refusal)?;
                continue;
            };
            if people.iter().any(|(known, ..)| *known == id) {
                continue;
            }
            if people.len() == MAX_SUBJECTS {
                let refusal = Refusal::new("CASE_SUBJECTS_TOO_MANY", "case subjects");
                return w.note(lane, event.source, event.offset, &refusal);
            }
            let keys = w.keys;
            let home = keys.placement.lane(&id, w.plan.contract.lanes);
            people.push((id, home, keys.subject.tag(&id)));
        }
    }
    for (_, home, subject) in people {
        let trigger = &verified.event_digest;
        let id = Grant::case_id(trigger, &agreement.id, subject);
        let grant = Grant {
            id,
            kind: GrantKind::Case,
            subject,
            agreement: agreement.id.clone(),
            datasets: Vec::new(),
            status: GrantStatus::Open,
            counter: 1,
            opened_ms: w.now.ms,
            expires_ms: w.now.ms + i64::from(rule.days) * DAY_MS,
            closed_ms: None,
            cause: hex(trigger),
            reason: OPENED.to_owned(),
            subject_sealed: None,
        };
        write(w, home, &grant)?;
        w.case(lane, AuditKind::CaseOpened, at, subject, id, event)?;
        w.out.counts.cases_opened += 1;
        if home == lane.lane {
            lane.unread_cases.insert(id, grant);
        }
    }
    Ok(())
}

fn close(
    w: &mut Writer<'_>,
    lane: &mut Lane,
    (grants, asks): (&mut GrantsIndex, &Asks),
    verified: &Verified<'_>,
    event: &EventRef<'_>,
    at: usize,
    rule: usize,
) -> Result<(), Halt> {
    let agreement = w.plan.agreement(at);
    let Some(rule) = agreement.cases.as_ref().map(|cases| &cases.closes[rule]) else {
        return Ok(());
    };
    let subject = event.person.tag;
    let ask = asks.agreement(at);
    let mut open: Vec<(GrantId, u64, i64, i64)> = grants
        .of(subject)
        .filter(|held| ask.is_some_and(|ask| held.answers(ask)) && closable(held))
        .map(|held| (held.id, held.counter, held.opened_ms, held.expires_ms))
        .collect();
    for grant in lane.unread_of(subject, &agreement.id) {
        if !open.iter().any(|(id, ..)| *id == grant.id) {
            open.push((grant.id, grant.counter, grant.opened_ms, grant.expires_ms));
        }
    }
    let happened_ms = verified.meta.ce_time_ms.saturating_add(HISTORY_MS);
    open.retain(|(_, _, opened_ms, _)| *opened_ms <= happened_ms);
    if open.is_empty() {
        return Ok(());
    }
    match rule
        .when
        .holds(verified.datum, &verified.spans, w.now.moment)
    {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(fault) => {
            let refusal = Refusal::new(fault.code(), "case rule");
            return w.note(lane, event.source, event.offset, &refusal);
        }
    }
    for (id, counter, opened_ms, expires_ms) in open {
        let digest: &Digest = &verified.event_digest;
        let grant = Grant {
            id,
            kind: GrantKind::Case,
            subject,
            agreement: agreement.id.clone(),
            datasets: Vec::new(),
            status: GrantStatus::Closed,
            counter: counter + 1,
            opened_ms,
            expires_ms,
            closed_ms: Some(w.now.ms),
            cause: hex(digest),
            reason: CLOSED.to_owned(),
            subject_sealed: None,
        };
        write(w, lane.lane, &grant)?;
        grants.join(&grant).map_err(Error::from)?;
        lane.unread_cases.remove(&id);
        w.case(lane, AuditKind::CaseClosed, at, subject, id, event)?;
        w.out.counts.cases_closed += 1;
    }
    Ok(())
}

fn closable(held: &Held) -> bool {
    held.kind == GrantKind::Case && held.status != GrantStatus::Closed
}

fn write(w: &mut Writer<'_>, lane: u16, grant: &Grant) -> Result<(), Halt> {
    let key = topics::grant_key(grant.subject, grant.id);
    w.producer.send(
        topics::GRANTS,
        i32::from(lane),
        &key,
        Some(&grant.encode()),
        &[],
    )?;
    Ok(())
}

pub(crate) fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
