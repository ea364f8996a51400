//! A contract version is put in force: published file by file, then noted in every lane, where it takes
//! the way that grants take. What it gives more is sent once more, what it takes away is called back. A
//! version with a fault is refused and the old one keeps working.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use mz_bus::{Isolation, Reader};
use mz_contract::{
    AgreementState, Contract, ContractDiff, Lang, Mode, STATUS_FILE, StatusEntry, Text, diff,
    status_file,
};
use mz_journal::{
    Audit, AuditCause, AuditKind, AuditWriter, ContractFile, ContractVersion, Grant, GrantId,
    InForce, OrderCondition,
};
use mz_policy::{Now, REFETCH};

use super::{operator_of, reason_of};
use crate::barrier::Awaited;
use crate::error::ConsentError;
use crate::handle::{Caller, Handle, check_request_id, digest_of, wait_of};
use crate::life::AGREEMENT_TERMINATED;
use crate::model::{Activate, AgreementAct, AgreementActKind, InForceView};
use crate::refusal::Refusal;
use crate::shared::{InForceNow, Shared, now_ms};
use crate::store::{HistoryRow, Outgoing, Repeat, Scope, Step, StoreError, VersionRow};

/// Faults of a refused contract that are told.
const MAX_FAULTS: usize = 50;
/// When whoever is there sends the grants that a new version asks for, if nobody has yet.
const SENT_BY_MS: i64 = 60_000;
/// Reason of a withdrawal because the contract delivers less.
pub(crate) const CONTRACT_CHANGED: &str = "CONTRACT_CHANGED";

/// Who puts a version in force, and why.
struct By<'a> {
    act: &'static str,
    agreement: &'a str,
    principal: &'a str,
    operator: &'a str,
    reason: &'a str,
}

impl Handle {
    /// Puts the given files in force. What was suspended or ended stays so.
    pub async fn activate(
        &self,
        caller: &Caller,
        activate: Activate,
    ) -> Result<InForceView, Refusal> {
        self.may_rule(
            caller,
            &activate.request_id,
            &activate.operator,
            &activate.reason,
        )?;
        let digest = digest_of("activate", &activate)?;
        let mut files = activate.files.clone();
        let now = self.in_force();
        // The status is this service's: whoever writes contracts doesn't undo a suspension by accident.
        match now.files.get(STATUS_FILE) {
            Some(status) => drop(files.insert(STATUS_FILE.to_owned(), status.clone())),
            None => drop(files.remove(STATUS_FILE)),
        }
        let by = By {
            act: "activate",
            agreement: "",
            principal: &caller.name(),
            operator: &activate.operator,
            reason: &activate.reason,
        };
        self.put(&by, &activate.request_id, digest, files, activate.wait_ms)
            .await
    }

    /// Suspends, resumes or ends an agreement (Order 809 Art. 27), at once and everywhere.
    pub async fn agreement(
        &self,
        caller: &Caller,
        kind: AgreementActKind,
        act: AgreementAct,
    ) -> Result<InForceView, Refusal> {
        self.may_rule(caller, &act.request_id, &act.operator, &act.reason)?;
        let name = match kind {
            AgreementActKind::Suspend => "suspend",
            AgreementActKind::Resume => "resume",
            AgreementActKind::Terminate => "terminate",
        };
        let digest = digest_of(name, &act)?;
        let in_force = self.in_force();
        let agreement = in_force.contract.agreement(&act.agreement);
        let agreement = agreement.ok_or(Refusal::AgreementUnknown)?;
        let mut status: BTreeMap<String, StatusEntry> = in_force.contract.status.clone();
        let entry = |state| {
            Ok::<_, Refusal>(StatusEntry {
                state,
                since: Now::at_ms(now_ms())
                    .moment
                    .day()
                    .ok_or(Refusal::PeriodInvalid)?,
                reason: Text {
                    zh: act.reason.clone(),
                    en: act.reason.clone(),
                },
                by: act.operator.clone(),
            })
        };
        match kind {
            // What has ended stays ended: only a new application begins again.
            _ if agreement.ended() && kind != AgreementActKind::Terminate => {
                return Err(Refusal::AgreementClosed);
            }
            AgreementActKind::Suspend => {
                status.insert(act.agreement.clone(), entry(AgreementState::Suspended)?);
            }
            AgreementActKind::Resume => drop(status.remove(&act.agreement)),
            AgreementActKind::Terminate if agreement.ended() => {}
            AgreementActKind::Terminate => {
                status.insert(act.agreement.clone(), entry(AgreementState::Terminated)?);
            }
        }
        let mut files = (*in_force.files).clone();
        files.insert(STATUS_FILE.to_owned(), status_file(&status));
        let by = By {
            act: name,
            agreement: &act.agreement,
            principal: &caller.name(),
            operator: &act.operator,
            reason: &act.reason,
        };
        self.put(&by, &act.request_id, digest, files, act.wait_ms)
            .await
    }

    fn may_rule(
        &self,
        caller: &Caller,
        request_id: &str,
        operator: &str,
        reason: &str,
    ) -> Result<(), Refusal> {
        if !caller.is_security() {
            return Err(Refusal::RoleForbidden);
        }
        check_request_id(request_id)?;
        operator_of(operator)?;
        reason_of(reason)
    }

    async fn put(
        &self,
        by: &By<'_>,
        request_id: &str,
        digest: [u8; 32],
        files: BTreeMap<String, String>,
        wait_ms: Option<u64>,
    ) -> Result<InForceView, Refusal> {
        let shared = &self.shared;
        let mut step = shared.store.step().await?;
        let repeat: Repeat<InForceView> = step.repeated(by.principal, request_id, &digest).await?;
        let mut view = match repeat {
            Repeat::Done(view) => view,
            Repeat::Other => return Err(Refusal::RequestIdReused),
            Repeat::New => {
                let old = self.in_force();
                let new = parse(files.clone())?;
                let change = diff(&old.contract, &new);
                self.fits(&old, &new, &change).await?;
                let now = now_ms();
                let version = old.version + 1;
                publish(&mut step, by, version, &new, &files, now).await?;
                let withdrawals = call_back(&mut step, &change, &new, version, now).await?;
                let again = gives_more(&change);
                promise(&mut step, &again, version, now).await?;
                let mut view = InForceView {
                    version,
                    digest: hex::encode(new.digest),
                    enforcement: Vec::new(),
                    refetched: 0,
                    withdrawals,
                };
                step.remember(by.principal, request_id, &digest, &view, now)
                    .await?;
                step.commit().await?;
                shared.put_in_force(InForceNow {
                    version,
                    contract: Arc::new(new),
                    files: Arc::new(files),
                });
                shared.wake.ring();
                tracing::info!(
                    version,
                    act = by.act,
                    agreement = by.agreement,
                    "contract version put in force"
                );
                // After the version, so that every lane reads them in that order.
                view.refetched = send_again(shared, &again, version).await?;
                keep_promise(shared, &again, version).await?;
                view
            }
        };
        // From here on, as for every other change: checking a contract takes its time too.
        let (wait, started) = (wait_of(wait_ms), Instant::now());
        for lane in 0..shared.lanes {
            let rest = wait.saturating_sub(started.elapsed());
            let awaited = Awaited::Version(view.version);
            view.enforcement
                .push(self.await_change(lane, awaited, rest).await);
        }
        Ok(view)
    }

    /// What a slot could not carry out must not be put in force.
    async fn fits(
        &self,
        old: &InForceNow,
        new: &Contract,
        change: &ContractDiff,
    ) -> Result<(), Refusal> {
        if !change.refused.is_empty() {
            let lines = change.lines(&new.reasons, Lang::En);
            return Err(Refusal::ContractInvalid(
                lines.into_iter().take(change.refused.len()).collect(),
            ));
        }
        for id in &change.agreements_removed {
            if old
                .contract
                .agreement(id)
                .is_some_and(|agreement| !agreement.ended())
            {
                return Err(Refusal::AgreementDropped);
            }
        }
        // Only what has a topic can be called back.
        for reading in change.withdraw() {
            let kept = new.agreement(&reading.agreement).is_some_and(|agreement| {
                agreement
                    .sections
                    .iter()
                    .any(|section| new.datasets[section.dataset_ix].id == reading.dataset)
            });
            let store = &self.shared.store;
            if !kept && store.held_of(&reading.agreement, &reading.dataset).await? > 0 {
                return Err(Refusal::StillHeld);
            }
        }
        let (bus, lanes) = (self.shared.bus.clone(), usize::from(new.lanes));
        let topics: Vec<String> = new
            .datasets
            .iter()
            .map(mz_contract::Dataset::src_topic)
            .chain(new.sections().map(|section| section.out_topic.clone()))
            .collect();
        let there = tokio::task::spawn_blocking(move || {
            let reader = Reader::open(&bus, Isolation::Committed)?;
            for topic in &topics {
                if reader.partitions(topic)? != lanes {
                    return Ok(false);
                }
            }
            Ok::<bool, mz_bus::BusError>(true)
        });
        match there.await {
            Ok(Ok(true)) => Ok(()),
            // A topic that isn't there is answered as an error of the cluster.
            Ok(_) => Err(Refusal::TopicsMissing),
            Err(_) => Err(Refusal::Unavailable),
        }
    }
}

/// What the service was started with becomes the first version.
pub(crate) async fn first(shared: &Arc<Shared>) -> Result<(), ConsentError> {
    let given = shared.in_force();
    let mut step = shared.store.step().await?;
    if step.newest_version().await?.is_some() {
        return Ok(());
    }
    let by = By {
        act: "start",
        agreement: "",
        principal: "bus.consent",
        operator: "",
        reason: "",
    };
    publish(&mut step, &by, 1, &given.contract, &given.files, now_ms()).await?;
    step.commit().await?;
    shared.put_in_force(InForceNow {
        version: 1,
        ..given
    });
    Ok(())
}

fn parse(files: BTreeMap<String, String>) -> Result<Contract, Refusal> {
    Contract::from_files(files, Mode::Signed).map_err(|faults| {
        let built_in = mz_contract::Reasons::built_in();
        Refusal::ContractInvalid(
            faults
                .iter()
                .take(MAX_FAULTS)
                .map(|fault| built_in.render_fault(fault, Lang::En))
                .collect(),
        )
    })
}

/// The version, its files, and the note in every lane.
async fn publish(
    step: &mut Step,
    by: &By<'_>,
    version: u64,
    contract: &Contract,
    files: &BTreeMap<String, String>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let digest = contract.digest;
    let row = VersionRow {
        version,
        digest,
        act: by.act.to_owned(),
        agreement: by.agreement.to_owned(),
        principal: by.principal.to_owned(),
        operator: by.operator.to_owned(),
        reason: by.reason.to_owned(),
        at_ms: now_ms,
    };
    step.put_version(&row, files).await?;
    for (path, text) in files {
        let file = ContractFile {
            digest,
            path: path.clone(),
            bytes: text.clone().into_bytes(),
        };
        step.send(0, Outgoing::File(&file), None).await?;
    }
    let listed = ContractVersion {
        version,
        digest,
        paths: files.keys().cloned().collect(),
        at_ms: now_ms,
    };
    step.send(0, Outgoing::Version(&listed), None).await?;
    let in_force = InForce {
        version,
        digest,
        at_ms: now_ms,
    };
    let (consumer, purpose) = by.agreement.split_once('/').unwrap_or_default();
    for lane in 0..contract.lanes {
        let mut audit = Audit::empty(
            AuditWriter::Consent,
            lane,
            now_ms,
            AuditKind::ContractInForce,
            AuditCause::Operator,
        );
        audit.contract = digest;
        audit.agreement = by.agreement.to_owned().into();
        audit.consumer = consumer.to_owned().into();
        audit.purpose = purpose.to_owned().into();
        audit.rule = by.act.to_uppercase().into();
        audit.operator = by.operator.to_owned().into();
        audit.reason = by.reason.to_owned().into();
        step.send(lane, Outgoing::InForce(&in_force), Some(&audit))
            .await?;
    }
    Ok(())
}

/// What consumers hold and may no longer hold, due at once; answers how many readings that concerns.
async fn call_back(
    step: &mut Step,
    change: &ContractDiff,
    new: &Contract,
    version: u64,
    now_ms: i64,
) -> Result<u64, StoreError> {
    let mut count = 0;
    for reading in change.withdraw() {
        let ended = new
            .agreement(&reading.agreement)
            .is_none_or(mz_contract::Agreement::ended);
        let scope = Scope::Agreement {
            id: reading.agreement.clone(),
            dataset: reading.dataset.clone(),
        };
        let (reason, condition) = match ended {
            true => (AGREEMENT_TERMINATED, OrderCondition::Always),
            false => (CONTRACT_CHANGED, OrderCondition::Always),
        };
        step.put_due(now_ms, &scope, reason, condition, &version.to_be_bytes())
            .await?;
        count += 1;
    }
    Ok(count)
}

/// Agreements that give more now: their grants in force are sent once more, and the slots fetch the facts
/// again. Not where something is called back first: what is sent now would be called back with it, so
/// that waits for the end of the withdrawal ([`crate::life`]).
fn gives_more(change: &ContractDiff) -> Vec<&str> {
    let called_back = |agreement: &str| change.withdraw().any(|it| it.agreement == agreement);
    let mut agreements: Vec<&str> = change
        .refetch()
        .map(|reading| reading.agreement.as_str())
        .filter(|agreement| !called_back(agreement))
        .collect();
    agreements.dedup();
    agreements
}

/// Recorded with the version: should this service end before it has sent the grants, the next one does,
/// a while later.
async fn promise(
    step: &mut Step,
    agreements: &[&str],
    version: u64,
    now_ms: i64,
) -> Result<(), StoreError> {
    for agreement in agreements {
        let scope = Scope::Agreement {
            id: (*agreement).to_owned(),
            dataset: String::new(),
        };
        let (due_ms, occasion) = (now_ms + SENT_BY_MS, version.to_be_bytes());
        step.put_due(due_ms, &scope, REFETCH, OrderCondition::Always, &occasion)
            .await?;
    }
    Ok(())
}

async fn keep_promise(
    shared: &Shared,
    agreements: &[&str],
    version: u64,
) -> Result<(), StoreError> {
    if agreements.is_empty() {
        return Ok(());
    }
    let mut step = shared.store.step().await?;
    step.due_met(REFETCH, &version.to_be_bytes()).await?;
    step.commit().await
}

/// Sends the grants in force under these agreements once more; answers how many.
pub(crate) async fn send_again(
    shared: &Shared,
    agreements: &[&str],
    version: u64,
) -> Result<u64, StoreError> {
    let mut count = 0;
    for agreement in agreements {
        let mut after = GrantId::default();
        loop {
            let now = now_ms();
            let mut step = shared.store.step().await?;
            let rows = step.open_grants(agreement, after, now).await?;
            let Some(last) = rows.last() else { break };
            after = last.grant.id;
            for row in &rows {
                let again = Grant {
                    counter: row.grant.counter + 1,
                    reason: REFETCH.to_owned(),
                    ..row.grant.clone()
                };
                step.put_grant(row.lane, &again, None).await?;
                step.note(&HistoryRow {
                    grant: again.id,
                    at_ms: now,
                    action: "refetched".to_owned(),
                    counter: again.counter,
                    principal: "bus".to_owned(),
                    operator: String::new(),
                    reason: format!("contract version {version}"),
                    evidence: None,
                })
                .await?;
                step.send(row.lane, Outgoing::Grant(&again), None).await?;
                count += 1;
            }
            step.commit().await?;
            shared.wake.ring();
        }
    }
    Ok(count)
}
