//! A grant is revoked, paused, resumed, extended or closed. What restricts is open to whoever speaks
//! for the person; what widens needs the person's act again.

use mz_contract::{Contract, IdNumber};
use mz_journal::{AuditCause, AuditKind, Grant, GrantKind, GrantStatus};
use mz_keys::evidence::{Act, ChangeAct, ChangeAction, change_act, verify};

use super::give::moment;
use super::{DAY_MS, Deed, end_of_day, note_of, operator_of, reason_of, usable};
use crate::handle::{
    Caller, Handle, check_request_id, digest_of, parse_grant, parse_id, pending, wait_of,
};
use crate::life::{CASE_CLOSED, CONSENT_REVOKED, settle};
use crate::model::{Change, ChangeKind, Changed, Evidence};
use crate::refusal::Refusal;
use crate::shared::now_ms;
use crate::store::{GrantRow, Repeat};

impl Handle {
    /// Changes a grant and waits until the change holds, at most as long as asked: `enforced` means
    /// that nothing is delivered any more that it forbids.
    pub async fn change(
        &self,
        caller: &Caller,
        kind: ChangeKind,
        change: Change,
    ) -> Result<Changed, Refusal> {
        check_request_id(&change.request_id)?;
        reason_of(&change.reason)?;
        let id = parse_grant(&change.grant)?;
        let person = change.id.as_deref().map(parse_id).transpose()?;
        let in_force = self.in_force();
        let contract = &*in_force.contract;
        let now = now_ms();
        let digest = digest_of(action(kind), &change)?;
        let principal = caller.name();

        let mut step = self.shared.store.step().await?;
        let (mut changed, lane): (Changed, u16) = match step
            .repeated(&principal, &change.request_id, &digest)
            .await?
        {
            Repeat::Done(changed) => {
                let row = step.grant(id).await?.ok_or(Refusal::GrantUnknown)?;
                let act = match kind {
                    ChangeKind::Resume => Some(ChangeAction::Resume),
                    ChangeKind::Extend => Some(ChangeAction::Extend),
                    ChangeKind::Revoke | ChangeKind::Pause | ChangeKind::Close => None,
                };
                if let Some(act) = act {
                    self.person_acts(contract, act, &change, &row, person.as_ref())?;
                }
                (changed, row.lane)
            }
            Repeat::Other => return Err(Refusal::RequestIdReused),
            Repeat::New => {
                let row = step.grant(id).await?.ok_or(Refusal::GrantUnknown)?;
                self.may_change(caller, kind, &change, &row, person.as_ref())?;
                let next = self.next_state(contract, kind, &change, &row, person.as_ref(), now)?;
                let deed = Deed {
                    action: done(kind),
                    kind: audit_kind(kind),
                    cause: match caller.is_portal() {
                        true => AuditCause::Subject,
                        false => AuditCause::Operator,
                    },
                    rule: rule(kind),
                    principal: &principal,
                    operator: change.operator.as_deref().unwrap_or_default(),
                    reason: &change.reason,
                    evidence: change
                        .evidence
                        .as_ref()
                        .and_then(|evidence| serde_json::to_string(evidence).ok()),
                    at_ms: now,
                };
                deed.record(&mut step, row.lane, &next, None).await?;
                if next.status == GrantStatus::Closed {
                    settle(&mut step, contract, &next, now).await?;
                }
                let changed = Changed {
                    grant: self.view(
                        contract,
                        &GrantRow {
                            grant: next,
                            ..row.clone()
                        },
                        now,
                    ),
                    enforcement: pending(row.lane),
                };
                step.remember(&principal, &change.request_id, &digest, &changed, now)
                    .await?;
                (changed, row.lane)
            }
        };
        let (counter, wait) = (changed.grant.counter, wait_of(change.wait_ms));
        changed.enforcement = self.commit_and_wait(step, lane, id, counter, wait).await?;
        Ok(changed)
    }

    fn may_change(
        &self,
        caller: &Caller,
        kind: ChangeKind,
        change: &Change,
        row: &GrantRow,
        person: Option<&IdNumber>,
    ) -> Result<(), Refusal> {
        let consumer = row.grant.agreement.split('/').next().unwrap_or_default();
        let consent = row.grant.kind == GrantKind::Consent;
        // The number that the caller names must be the grant's: an id alone opens nothing.
        let named = person.map(|person| self.place(person).1 == row.grant.subject);
        if named == Some(false) {
            return Err(Refusal::GrantUnknown);
        }
        let fits = if caller.is_portal() {
            consent && named == Some(true)
        } else if caller.is_window() {
            let restricts = matches!(kind, ChangeKind::Revoke | ChangeKind::Pause);
            let own = caller.is_window_of(consumer);
            // Whoever gave consent may take it back at any counter (PIPL Art. 15).
            (own || (consent && restricts && named == Some(true))) && change.operator.is_some()
        } else {
            // The security administrator may stop a flow, never widen one.
            caller.is_security()
                && matches!(
                    kind,
                    ChangeKind::Revoke | ChangeKind::Pause | ChangeKind::Close
                )
                && change.operator.is_some()
        };
        if !fits {
            return Err(Refusal::RoleForbidden);
        }
        if let Some(operator) = &change.operator {
            operator_of(operator)?;
        }
        match (kind, row.grant.kind) {
            (ChangeKind::Revoke, GrantKind::Case) | (ChangeKind::Close, GrantKind::Consent) => {
                Err(Refusal::GrantKind)
            }
            _ => Ok(()),
        }
    }

    fn next_state(
        &self,
        contract: &Contract,
        kind: ChangeKind,
        change: &Change,
        row: &GrantRow,
        person: Option<&IdNumber>,
        now_ms: i64,
    ) -> Result<Grant, Refusal> {
        let held = &row.grant;
        if held.status == GrantStatus::Closed {
            return Err(Refusal::GrantClosed);
        }
        let mut next = Grant {
            counter: held.counter + 1,
            reason: rule(kind).to_owned(),
            ..held.clone()
        };
        match kind {
            ChangeKind::Revoke | ChangeKind::Close => {
                next.status = GrantStatus::Closed;
                next.closed_ms = Some(now_ms);
            }
            ChangeKind::Pause => next.status = GrantStatus::Paused,
            ChangeKind::Resume => {
                usable(contract, &held.agreement, now_ms)?;
                self.person_acts(contract, ChangeAction::Resume, change, row, person)?;
                next.status = GrantStatus::Open;
            }
            ChangeKind::Extend => {
                let agreement = usable(contract, &held.agreement, now_ms)?;
                self.person_acts(contract, ChangeAction::Extend, change, row, person)?;
                let until = change
                    .valid_until
                    .as_deref()
                    .ok_or(Refusal::PeriodInvalid)?;
                let expires_ms = end_of_day(until)?;
                let most = match (&agreement.consent, &agreement.cases, held.kind) {
                    (Some(terms), _, GrantKind::Consent) => terms.max_days,
                    (_, Some(cases), GrantKind::Case) => cases.on_request_days.unwrap_or(0),
                    _ => 0,
                };
                let longest = now_ms.saturating_add((i64::from(most) + 1) * DAY_MS);
                let last = mz_contract::parse_date(until).ok_or(Refusal::PeriodInvalid)?;
                let fits = expires_ms > held.expires_ms
                    && expires_ms <= longest
                    && last <= agreement.valid_until;
                if !fits {
                    return Err(Refusal::PeriodInvalid);
                }
                next.expires_ms = expires_ms;
            }
        }
        Ok(next)
    }

    /// A consent is resumed or extended by the person's own act; a case by its consumer's operator.
    fn person_acts(
        &self,
        contract: &Contract,
        action: ChangeAction,
        change: &Change,
        row: &GrantRow,
        person: Option<&IdNumber>,
    ) -> Result<(), Refusal> {
        if row.grant.kind == GrantKind::Case {
            return Ok(());
        }
        match &change.evidence {
            Some(Evidence::Counter {
                operator,
                at,
                document,
            }) => {
                operator_of(operator)?;
                note_of(document).map_err(|_| Refusal::EvidenceInvalid)?;
                moment(at).map(drop)
            }
            Some(Evidence::App {
                session,
                at,
                key_id,
                signature,
            }) => {
                note_of(session).map_err(|_| Refusal::EvidenceInvalid)?;
                moment(at)?;
                let person = person.ok_or(Refusal::EvidenceInvalid)?;
                let act = change_act(&ChangeAct {
                    action,
                    grant: &row.grant.id.hex(),
                    valid_until: change.valid_until.as_deref(),
                    by: Act {
                        request_id: &change.request_id,
                        at,
                        session,
                        person,
                    },
                })
                .map_err(|_| Refusal::EvidenceInvalid)?;
                match verify(contract, key_id, &act, signature) {
                    true => Ok(()),
                    false => Err(Refusal::EvidenceInvalid),
                }
            }
            None => Err(Refusal::EvidenceInvalid),
        }
    }
}

const fn action(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Revoke => "revoke",
        ChangeKind::Pause => "pause",
        ChangeKind::Resume => "resume",
        ChangeKind::Extend => "extend",
        ChangeKind::Close => "close",
    }
}

const fn done(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Revoke => "revoked",
        ChangeKind::Pause => "paused",
        ChangeKind::Resume => "resumed",
        ChangeKind::Extend => "extended",
        ChangeKind::Close => "closed",
    }
}

const fn rule(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Revoke => CONSENT_REVOKED,
        ChangeKind::Pause => "GRANT_PAUSED",
        ChangeKind::Resume => "GRANT_RESUMED",
        ChangeKind::Extend => "GRANT_EXTENDED",
        ChangeKind::Close => CASE_CLOSED,
    }
}

const fn audit_kind(kind: ChangeKind) -> AuditKind {
    match kind {
        ChangeKind::Revoke => AuditKind::ConsentRevoked,
        ChangeKind::Close => AuditKind::CaseClosed,
        ChangeKind::Pause | ChangeKind::Resume | ChangeKind::Extend => AuditKind::GrantChanged,
    }
}
