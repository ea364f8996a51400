//! A consumer's operator opens a case for an application: for the applicant and for those whose facts
//! the case needs too.

use mz_journal::{AuditCause, AuditKind, Grant, GrantKind, GrantStatus};
use sha2::{Digest as _, Sha256};

use super::{DAY_MS, Deed, note_of, operator_of, reason_of, usable};
use crate::handle::{
    Caller, Handle, check_request_id, digest_of, parse_grant, parse_id, pending, wait_of,
};
use crate::limits::MAX_SUBJECTS;
use crate::model::{OpenCase, Opened};
use crate::refusal::Refusal;
use crate::shared::now_ms;
use crate::store::{GrantRow, Repeat};

const CASE_OPENED: &str = "CASE_OPENED_BY_OPERATOR";

impl Handle {
    /// Opens a case, bounded in time, and waits until it is in force in the lanes of all its people.
    pub async fn open_case(&self, caller: &Caller, open: OpenCase) -> Result<Opened, Refusal> {
        check_request_id(&open.request_id)?;
        operator_of(&open.operator)?;
        reason_of(&open.reason)?;
        note_of(&open.application).map_err(|_| Refusal::ReasonInvalid)?;
        if open.subjects.is_empty() || open.subjects.len() > MAX_SUBJECTS {
            return Err(Refusal::SubjectsTooMany);
        }
        let in_force = self.in_force();
        let contract = &*in_force.contract;
        let now = now_ms();
        let digest = digest_of("open_case", &open)?;
        let principal = caller.name();
        let mut people = Vec::new();
        for subject in &open.subjects {
            let placed = self.place(&parse_id(subject)?);
            if !people.contains(&placed) {
                people.push(placed);
            }
        }

        let mut step = self.shared.store.step().await?;
        let mut opened: Opened = match step.repeated(&principal, &open.request_id, &digest).await? {
            Repeat::Done(opened) => opened,
            Repeat::Other => return Err(Refusal::RequestIdReused),
            Repeat::New => {
                let agreement = usable(contract, &open.agreement, now)?;
                if !caller.is_window_of(&agreement.consumer) {
                    return Err(Refusal::RoleForbidden);
                }
                // Where the basis is consent, only the person opens.
                if agreement.consent.is_some() {
                    return Err(Refusal::NotByCase);
                }
                let cases = agreement.cases.as_ref();
                let most = cases.and_then(|cases| cases.on_request_days);
                let most = most.ok_or(Refusal::NotByCase)?;
                let days = open.days.unwrap_or(most);
                if days == 0 || days > most {
                    return Err(Refusal::PeriodInvalid);
                }
                let trigger = trigger(&principal, &open.request_id);
                let mut opened = Opened {
                    grants: Vec::new(),
                    enforcement: Vec::new(),
                };
                for (lane, subject) in &people {
                    let grant = Grant {
                        id: Grant::case_id(&trigger, &agreement.id, *subject),
                        kind: GrantKind::Case,
                        subject: *subject,
                        agreement: agreement.id.clone(),
                        datasets: Vec::new(),
                        status: GrantStatus::Open,
                        counter: 1,
                        opened_ms: now,
                        expires_ms: now.saturating_add(i64::from(days) * DAY_MS),
                        closed_ms: None,
                        cause: format!("act:{}", open.request_id),
                        reason: CASE_OPENED.to_owned(),
                        subject_sealed: None,
                    };
                    let deed = Deed {
                        action: "opened",
                        kind: AuditKind::CaseOpened,
                        cause: AuditCause::Operator,
                        rule: CASE_OPENED,
                        principal: &principal,
                        operator: &open.operator,
                        reason: &open.reason,
                        evidence: serde_json::to_string(&open.application).ok(),
                        at_ms: now,
                    };
                    deed.record(&mut step, *lane, &grant, None).await?;
                    let row = GrantRow {
                        lane: *lane,
                        grant,
                        record: None,
                        offset_seen: None,
                    };
                    opened.grants.push(self.view(contract, &row, now));
                    opened.enforcement.push(pending(*lane));
                }
                step.remember(&principal, &open.request_id, &digest, &opened, now)
                    .await?;
                opened
            }
        };
        // One commit for all; then each is waited for, all against the same clock.
        let wait = wait_of(open.wait_ms);
        let started = std::time::Instant::now();
        let mut step = Some(step);
        for at in 0..opened.grants.len() {
            let id = parse_grant(&opened.grants[at].id)?;
            let lane = opened.enforcement[at].lane;
            let rest = wait.saturating_sub(started.elapsed());
            opened.enforcement[at] = match step.take() {
                Some(step) => self.commit_and_wait(step, lane, id, 1, rest).await?,
                None => self.await_grant(lane, id, 1, rest).await?,
            };
        }
        Ok(opened)
    }
}

/// What opens the case, as an event's digest would be.
fn trigger(principal: &str, request_id: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"act:");
    hash.update((principal.len() as u64).to_be_bytes());
    hash.update(principal);
    hash.update(request_id);
    hash.finalize().into()
}
