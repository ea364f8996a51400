//! Data life: when what was delivered must be called back. A consent that was revoked or ran out: at
//! once. A case: after the days for which the agreement lets the consumer keep what it was sent. An
//! agreement that was ended, a person who was erased: at once. Orders are given only when the change
//! behind them is enforced and everything that was delivered before it is known from the audit log, so
//! that nothing is forgotten.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use mz_bus::{Isolation, Reader};
use mz_contract::Contract;
use mz_journal::{Grant, GrantKind, GrantStatus, OrderCondition, topics};
use mz_policy::REFETCH;
use rustc_hash::FxHashMap;

use crate::acts::DAY_MS;
use crate::acts::contracts::{CONTRACT_CHANGED, send_again};
use crate::barrier::Awaited;
use crate::error::ConsentError;
use crate::holders::give;
use crate::limits::{
    KEEP_REQUESTS_MS, LIFE_POLL, MAX_DUE, MAX_ORDERS_AGAIN, MAX_ORDERS_PER_STEP, MAX_SETTLED,
    ORDER_AGAIN,
};
use crate::shared::{Shared, now_ms};
use crate::store::{DueRow, Outgoing, Scope, Step, StoreError};

pub(crate) const CONSENT_REVOKED: &str = "CONSENT_REVOKED";
pub(crate) const CASE_CLOSED: &str = "CASE_CLOSED";
pub(crate) const GRANT_EXPIRED: &str = "GRANT_EXPIRED";
pub(crate) const AGREEMENT_TERMINATED: &str = "AGREEMENT_TERMINATED";
pub(crate) const SUBJECT_ERASED: &str = "SUBJECT_ERASED";

/// Between two looks for ended grants and forgotten orders, in turns of [`LIFE_POLL`].
const SWEEP_EVERY: u32 = 10;

/// Works until `stop`.
pub(crate) fn run(shared: &Arc<Shared>, stop: &AtomicBool) -> Result<(), ConsentError> {
    let asker = Reader::open(&shared.bus, Isolation::Uncommitted)?;
    let mut known: FxHashMap<i64, Vec<(u16, i64)>> = FxHashMap::default();
    let mut turn = 0u32;
    let mut swept = Instant::now();
    while !stop.load(Ordering::Acquire) {
        if shared.is_ready() {
            if turn.is_multiple_of(SWEEP_EVERY) {
                shared.runtime.block_on(sweep(shared))?;
            }
            if swept.elapsed() >= ORDER_AGAIN {
                swept = Instant::now();
                let horizon = now_ms() - KEEP_REQUESTS_MS;
                shared
                    .runtime
                    .block_on(shared.store.forget_requests(horizon))?;
            }
            let due = shared
                .runtime
                .block_on(shared.store.due(now_ms(), MAX_DUE))?;
            known.retain(|id, _| due.iter().any(|row| row.id == *id));
            for row in &due {
                if is_known(shared, &asker, row, &mut known)? {
                    shared.runtime.block_on(order(shared, row))?;
                }
            }
        }
        turn = turn.wrapping_add(1);
        std::thread::sleep(LIFE_POLL);
    }
    Ok(())
}

/// Whether the change is enforced, and everything delivered before that is in the store.
fn is_known(
    shared: &Shared,
    asker: &Reader,
    due: &DueRow,
    known: &mut FxHashMap<i64, Vec<(u16, i64)>>,
) -> Result<bool, ConsentError> {
    let ends = match known.entry(due.id) {
        Entry::Occupied(held) => held.into_mut(),
        Entry::Vacant(free) => {
            let Some(lanes) = shared.runtime.block_on(enforced(shared, &due.scope))? else {
                return Ok(false);
            };
            let mut ends = Vec::new();
            for lane in lanes {
                let (_, high) = asker.watermarks(topics::AUDIT, i32::from(lane))?;
                ends.push((lane, high));
            }
            free.insert(ends)
        }
    };
    Ok(ends.iter().all(|(lane, end)| {
        shared.audit_reached[usize::from(*lane)].load(Ordering::Acquire) >= *end
    }))
}

/// The lanes in which the change behind `scope` is enforced; `None` while it is not in all of them.
async fn enforced(shared: &Shared, scope: &Scope) -> Result<Option<Vec<u16>>, ConsentError> {
    let holds = |lane: u16, offset: Option<i64>| {
        offset.is_some_and(|offset| {
            shared
                .barrier
                .standing(lane, Awaited::Offset(offset))
                .holds()
        })
    };
    match scope {
        Scope::Grant(id) => {
            let Some(row) = shared.store.grant(*id).await? else {
                return Ok(Some(Vec::new()));
            };
            Ok(holds(row.lane, row.offset_seen).then(|| vec![row.lane]))
        }
        Scope::Agreement { .. } => {
            let version = shared.in_force().version;
            let all = (0..shared.lanes).all(|lane| {
                shared
                    .barrier
                    .standing(lane, Awaited::Version(version))
                    .holds()
            });
            Ok(all.then(|| (0..shared.lanes).collect()))
        }
        Scope::Subject { lane, subject } => {
            let grants = shared.store.grants_of(*subject).await?;
            let all = grants.iter().all(|row| holds(row.lane, row.offset_seen));
            Ok(all.then(|| vec![*lane]))
        }
    }
}

/// Turns what is due into orders, part by part.
async fn order(shared: &Shared, due: &DueRow) -> Result<(), ConsentError> {
    if let (Scope::Agreement { id, .. }, REFETCH) = (&due.scope, &*due.reason) {
        return refetch(shared, due, id).await;
    }
    loop {
        let mut step = shared.store.step().await?;
        let datasets = match &due.scope {
            Scope::Grant(id) => match step.grant(*id).await? {
                // Opened again meanwhile: nothing is to be called back.
                Some(row)
                    if row.grant.status == GrantStatus::Open && row.grant.expires_ms > now_ms() =>
                {
                    step.due_done(due.id).await?;
                    step.commit().await?;
                    return Ok(());
                }
                Some(row) => row.grant.datasets,
                None => Vec::new(),
            },
            _ => Vec::new(),
        };
        let targets = step.targets(due, &datasets).await?;
        let whole = targets.len() < usize::try_from(MAX_ORDERS_PER_STEP).unwrap_or(usize::MAX);
        for held in &targets {
            let version = (held.epoch, held.counter);
            give(
                &mut step,
                held,
                version,
                &due.reason,
                due.condition,
                &due.occasion,
            )
            .await?;
        }
        // A contract that lets a consumer have the same facts in another form: those follow when the
        // old ones are gone, in whatever order a slot reads orders and grants.
        let again = match &due.scope {
            Scope::Agreement { id, dataset } if whole && due.reason == CONTRACT_CHANGED => {
                Some((id, step.is_called_back(id, dataset).await?))
            }
            _ => None,
        };
        if whole && again.is_none() {
            step.due_done(due.id).await?;
        }
        step.commit().await?;
        shared.wake.ring();
        if let Some((agreement, true)) = again {
            refetch(shared, due, agreement).await?;
        }
        if whole {
            return Ok(());
        }
    }
}

/// Sends an agreement's grants once more; whoever is interrupted begins again.
async fn refetch(shared: &Shared, due: &DueRow, agreement: &str) -> Result<(), ConsentError> {
    let version = shared.in_force().version;
    send_again(shared, &[agreement], version).await?;
    let mut step = shared.store.step().await?;
    step.due_done(due.id).await?;
    step.commit().await?;
    Ok(())
}

/// Grants that ended without this service: their data life is worked out now. Orders that nobody
/// answered are given again.
async fn sweep(shared: &Shared) -> Result<(), ConsentError> {
    let now = now_ms();
    let contract = shared.in_force().contract;
    let mut step = shared.store.step().await?;
    for row in step.unsettled(now, MAX_SETTLED).await? {
        settle(&mut step, &contract, &row.grant, now).await?;
    }
    let before = now - i64::try_from(ORDER_AGAIN.as_millis()).unwrap_or(i64::MAX);
    let again = step.orders_again(before, now, MAX_ORDERS_AGAIN).await?;
    for row in &again {
        tracing::warn!(lane = row.lane, "an order was not answered: given again");
        step.send(row.lane, Outgoing::Order(&row.order), None)
            .await?;
    }
    step.commit().await?;
    if !again.is_empty() {
        shared.wake.ring();
    }
    Ok(())
}

/// A grant has ended: what was delivered under it is due at once for a consent, after the agreed days for
/// a case.
pub(crate) async fn settle(
    step: &mut Step,
    contract: &Contract,
    grant: &Grant,
    now_ms: i64,
) -> Result<(), StoreError> {
    let closed = grant.status == GrantStatus::Closed;
    let (end, reason) = match (closed, grant.kind) {
        (true, GrantKind::Consent) => (grant.closed_ms.unwrap_or(now_ms), CONSENT_REVOKED),
        (true, GrantKind::Case) => (grant.closed_ms.unwrap_or(now_ms), CASE_CLOSED),
        (false, _) => (grant.expires_ms, GRANT_EXPIRED),
    };
    // An agreement that is gone lets nobody keep anything.
    let days = match grant.kind {
        GrantKind::Consent => 0,
        GrantKind::Case => contract
            .agreement(&grant.agreement)
            .map_or(0, |agreement| agreement.retention_days),
    };
    let due_ms = end.saturating_add(i64::from(days) * DAY_MS);
    let scope = Scope::Grant(grant.id);
    let occasion = occasion(grant.id, grant.counter);
    let condition = OrderCondition::NotInForce;
    step.put_due(due_ms, &scope, reason, condition, &occasion)
        .await?;
    step.settle(grant.id).await
}

/// Tells the orders of one end of a grant from those of a later one.
fn occasion(grant: mz_journal::GrantId, counter: u64) -> Vec<u8> {
    let mut occasion = grant.0.to_vec();
    occasion.extend_from_slice(&counter.to_be_bytes());
    occasion
}
