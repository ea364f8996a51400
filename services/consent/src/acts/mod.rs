//! What the service does when asked: one file per act. Each is one [`Step`](crate::store::Step): the
//! change, its history, its audit record, what goes to Kafka, and the answer to the request.

mod cases;
mod change;
pub(crate) mod contracts;
mod erase;
mod give;
mod lists;
mod views;
mod why;

use mz_contract::words::{MAX_REASON_BYTES, WordsFault, check_operator, check_text};
use mz_contract::{Agreement, Contract, parse_date};
use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, Grant};

use crate::limits::MAX_NOTE_BYTES;
use crate::record::ConsentRecord;
use crate::refusal::Refusal;
use crate::store::{HistoryRow, Outgoing, Step, StoreError};

/// Beijing time runs this far ahead of UTC.
const BEIJING_MS: i64 = 8 * 3600 * 1000;
pub(crate) const DAY_MS: i64 = 24 * 3600 * 1000;

/// The moment at which a day has passed in Beijing.
fn end_of_day(day: &str) -> Result<i64, Refusal> {
    let day = parse_date(day).ok_or(Refusal::PeriodInvalid)?;
    let next = day.succ_opt().ok_or(Refusal::PeriodInvalid)?;
    let midnight = next.and_hms_opt(0, 0, 0).ok_or(Refusal::PeriodInvalid)?;
    Ok(midnight.and_utc().timestamp_millis() - BEIJING_MS)
}

fn operator_of(operator: &str) -> Result<(), Refusal> {
    check_operator(operator).map_err(|_| Refusal::OperatorInvalid)
}

fn reason_of(reason: &str) -> Result<(), Refusal> {
    check_text(reason, MAX_REASON_BYTES).map_err(|_| Refusal::ReasonInvalid)
}

fn note_of(text: &str) -> Result<(), WordsFault> {
    check_text(text, MAX_NOTE_BYTES)
}

/// An agreement under which something may be given or opened now.
fn usable<'c>(contract: &'c Contract, id: &str, now_ms: i64) -> Result<&'c Agreement, Refusal> {
    let agreement = contract.agreement(id).ok_or(Refusal::AgreementUnknown)?;
    let day = mz_policy::Now::at_ms(now_ms).moment.day();
    let in_term = day.is_some_and(|day| agreement.in_term(day));
    if agreement.suspended() || agreement.ended() || !in_term {
        return Err(Refusal::AgreementClosed);
    }
    Ok(agreement)
}

/// What was done to a grant, for its history and for the log.
struct Deed<'a> {
    /// As [`crate::model`] lists them.
    action: &'a str,
    kind: AuditKind,
    cause: AuditCause,
    rule: &'a str,
    principal: &'a str,
    operator: &'a str,
    reason: &'a str,
    /// JSON.
    evidence: Option<String>,
    at_ms: i64,
}

impl Deed<'_> {
    /// Records the grant as it is now, with its history, and sends it with its audit record.
    async fn record(
        self,
        step: &mut Step,
        lane: u16,
        grant: &Grant,
        record: Option<&ConsentRecord>,
    ) -> Result<(), StoreError> {
        step.put_grant(lane, grant, record).await?;
        let audit = self.audit(lane, grant);
        step.note(&HistoryRow {
            grant: grant.id,
            at_ms: self.at_ms,
            action: self.action.to_owned(),
            counter: grant.counter,
            principal: self.principal.to_owned(),
            operator: self.operator.to_owned(),
            reason: self.reason.to_owned(),
            evidence: self.evidence,
        })
        .await?;
        step.send(lane, Outgoing::Grant(grant), Some(&audit))
            .await?;
        Ok(())
    }

    fn audit(&self, lane: u16, grant: &Grant) -> Audit<'static> {
        let mut audit = Audit::empty(
            AuditWriter::Consent,
            lane,
            self.at_ms,
            self.kind,
            self.cause,
        );
        let (consumer, purpose) = grant.agreement.split_once('/').unwrap_or_default();
        audit.agreement = grant.agreement.clone().into();
        audit.consumer = consumer.to_owned().into();
        audit.purpose = purpose.to_owned().into();
        audit.subject = grant.subject;
        audit.grant = Some(grant.id);
        audit.rule = self.rule.to_owned().into();
        audit.operator = self.operator.to_owned().into();
        audit.reason = self.reason.to_owned().into();
        audit
    }
}
