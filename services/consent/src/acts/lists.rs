//! What is there: a person's grants and their history, withdrawals, versions, and whether a change
//! holds. Who asks about a person is recorded before the answer leaves.

use mz_contract::BUS;
use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, OrderId, SubjectTag};
use mz_seal::timestamp_text;

use super::{operator_of, reason_of};
use crate::barrier::Awaited;
use crate::handle::{Caller, Handle, parse_grant, parse_id, wait_of};
use crate::limits::MAX_PAGE;
use crate::model::{
    About, AskEnforcement, AskWithdrawals, Enforcement, HistoryEntry, Listed, VersionEntry,
    WithdrawalView, Withdrawals,
};
use crate::refusal::Refusal;
use crate::shared::now_ms;
use crate::store::Outgoing;

/// Withdrawals on a page when the caller says nothing.
const DEFAULT_PAGE: u32 = 100;

impl Handle {
    /// A person's grants and what was done to them. The portal and the auditor see all, a counter those
    /// of its own department.
    pub async fn list(&self, caller: &Caller, about: About) -> Result<Listed, Refusal> {
        let id = parse_id(&about.id)?;
        let (lane, subject) = self.place(&id);
        let all = caller.is_portal() || caller.is_auditor() || caller.is_security();
        if !all && !caller.is_window() {
            return Err(Refusal::RoleForbidden);
        }
        self.record_look(
            caller,
            lane,
            subject,
            about.operator.as_deref(),
            &about.reason,
            "GRANTS_LISTED",
        )
        .await?;
        let contract = self.contract();
        let now = now_ms();
        let own = |agreement: &str| {
            all || agreement.split('/').next() == Some(caller.department.as_str())
        };
        let rows = self.shared.store.grants_of(subject).await?;
        let rows: Vec<_> = rows
            .into_iter()
            .filter(|row| own(&row.grant.agreement))
            .collect();
        let history = self.shared.store.history_of(subject).await?;
        let history = history
            .into_iter()
            .filter(|entry| rows.iter().any(|row| row.grant.id == entry.grant))
            .map(|entry| HistoryEntry {
                grant: entry.grant.hex(),
                at: timestamp_text(entry.at_ms),
                action: entry.action,
                counter: entry.counter,
                principal: entry.principal,
                operator: entry.operator,
                reason: entry.reason,
            })
            .collect();
        Ok(Listed {
            grants: rows
                .iter()
                .map(|row| self.view(&contract, row, now))
                .collect(),
            history,
        })
    }

    /// Commits the record of a look at a person's grants.
    pub(super) async fn record_look(
        &self,
        caller: &Caller,
        lane: u16,
        subject: SubjectTag,
        operator: Option<&str>,
        reason: &str,
        rule: &'static str,
    ) -> Result<(), Refusal> {
        reason_of(reason)?;
        // The portal answers the person themselves; everybody else is somebody.
        let operator = match operator {
            Some(operator) => {
                operator_of(operator)?;
                operator
            }
            None if caller.is_portal() => "",
            None => return Err(Refusal::OperatorInvalid),
        };
        let cause = match (caller.is_portal(), caller.is_auditor()) {
            (true, _) => AuditCause::Subject,
            (_, true) => AuditCause::Auditor,
            _ => AuditCause::Operator,
        };
        let now = now_ms();
        let mut audit = Audit::empty(AuditWriter::Consent, lane, now, AuditKind::Lookup, cause);
        audit.subject = subject;
        audit.consumer = caller.department.clone().into();
        audit.operator = operator.to_owned().into();
        audit.reason = reason.to_owned().into();
        audit.rule = rule.into();
        let mut step = self.shared.store.step().await?;
        step.send(lane, Outgoing::Nothing, Some(&audit)).await?;
        step.commit().await?;
        self.shared.wake.ring();
        Ok(())
    }

    /// Whether the last change of a grant holds by now.
    pub async fn enforcement(
        &self,
        caller: &Caller,
        ask: AskEnforcement,
    ) -> Result<Enforcement, Refusal> {
        let id = parse_grant(&ask.grant)?;
        let row = self.shared.store.grant(id).await?;
        let row = row.ok_or(Refusal::GrantUnknown)?;
        let consumer = row.grant.agreement.split('/').next().unwrap_or_default();
        let fits = caller.department == BUS || caller.department == consumer;
        if !fits {
            return Err(Refusal::RoleForbidden);
        }
        let wait = wait_of(ask.wait_ms);
        match row.offset_seen {
            Some(offset) => {
                let awaited = Awaited::Offset(offset);
                Ok(self.await_change(row.lane, awaited, wait).await)
            }
            None => {
                let counter = row.grant.counter;
                self.await_grant(row.lane, id, counter, wait).await
            }
        }
    }

    /// Orders and what became of them, newest first.
    pub async fn withdrawals(
        &self,
        caller: &Caller,
        ask: AskWithdrawals,
    ) -> Result<Withdrawals, Refusal> {
        let all = caller.is_auditor() || caller.is_security();
        if !all && !caller.is_adapter() && !caller.is_window() {
            return Err(Refusal::RoleForbidden);
        }
        let consumer = (!all).then_some(caller.department.as_str());
        let limit = ask.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
        let before = ask.cursor.as_deref().map(parse_cursor).transpose()?;
        let agreement = ask.agreement.as_deref();
        let store = &self.shared.store;
        let rows = store
            .orders(agreement, consumer, ask.open_only, before, i64::from(limit))
            .await?;
        let (open, oldest) = store.open_orders(agreement, consumer).await?;
        let now = now_ms();
        let full = rows.len() == limit as usize;
        let cursor = rows.last().filter(|_| full);
        let cursor = cursor.map(|row| format!("{}-{}", row.order.at_ms, row.order.id.hex()));
        let age = |at_ms: i64| u64::try_from((now - at_ms).max(0) / 1000).unwrap_or(0);
        Ok(Withdrawals {
            withdrawals: rows
                .iter()
                .map(|row| WithdrawalView {
                    order: row.order.id.hex(),
                    agreement: row.order.agreement.clone(),
                    dataset: row.order.dataset.clone(),
                    reason: row.order.reason.clone(),
                    ordered_at: timestamp_text(row.order.at_ms),
                    executed_at: row.executed_ms.map(timestamp_text),
                    sequence: row.sequence.and_then(|number| u64::try_from(number).ok()),
                    declined: row.declined.clone(),
                    receipt_at: row.receipt_ms.map(timestamp_text),
                    action: row.action.clone(),
                    age_s: (row.receipt_ms.is_none() && row.declined.is_none())
                        .then(|| age(row.order.at_ms)),
                })
                .collect(),
            cursor,
            open,
            oldest_s: oldest.map_or(0, age),
        })
    }

    /// Every contract version that was in force, newest first.
    pub async fn versions(&self, caller: &Caller) -> Result<Vec<VersionEntry>, Refusal> {
        if !caller.is_security() && !caller.is_auditor() {
            return Err(Refusal::RoleForbidden);
        }
        let rows = self.shared.store.versions().await?;
        Ok(rows
            .into_iter()
            .map(|row| VersionEntry {
                version: row.version,
                digest: hex::encode(row.digest),
                act: row.act,
                agreement: row.agreement,
                principal: row.principal,
                operator: row.operator,
                reason: row.reason,
                at: timestamp_text(row.at_ms),
            })
            .collect())
    }
}

fn parse_cursor(text: &str) -> Result<(i64, OrderId), Refusal> {
    text.split_once('-')
        .and_then(|(at_ms, id)| Some((at_ms.parse().ok()?, OrderId::from_hex(id)?)))
        .ok_or(Refusal::CursorInvalid)
}
