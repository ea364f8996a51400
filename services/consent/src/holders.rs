//! Follows `bus.audit` and `bus.receipts`: who holds which version of which record, what must be called
//! back because a newer version replaced it, and what came of the orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mz_bus::{Isolation, Polled, Position, Reader, Record};
use mz_contract::KeyUse;
use mz_journal::{
    Audit, AuditKind, AuditWriter, Order, OrderAction, OrderCondition, OrderId, Receipt,
    Record as _, RecordTag, SubjectTag, topics,
};
use mz_seal::{KeyStatus, verify_signature};
use rustc_hash::FxHashMap;

use crate::error::ConsentError;
use crate::limits::{FOLLOW_POLL, MAX_BATCH_RECORDS};
use crate::shared::{Shared, now_ms};
use crate::store::{Delivered, OrderTarget, Outgoing, Step};

/// Reason of a withdrawal whose record has left the agreement's rows.
pub(crate) const SUPERSEDED: &str = "SUPERSEDED";
/// Reason of a withdrawal whose record was replaced when the grant was no longer in force.
pub(crate) const CORRECTED: &str = "CORRECTED";
/// As the gateway writes it when a register took a record back.
const WITHDRAWN_BY_SOURCE: &str = "WITHDRAWN_BY_SOURCE";

type Key = (u16, SubjectTag, String, String, RecordTag);

enum Hold {
    Held(Delivered),
    Gone(OrderTarget),
}

/// A version that replaces what somebody may hold.
struct Newer {
    lane: u16,
    /// The agreement whose rows it left; `None`: every agreement whose grant is over.
    agreement: Option<String>,
    dataset: String,
    subject: SubjectTag,
    record: RecordTag,
    epoch: u32,
    counter: u64,
    event: [u8; 32],
}

enum Outcome {
    Executed {
        order: OrderId,
        topic: String,
        at_ms: i64,
        /// Of the section's own topic.
        sequence: Option<u64>,
    },
    Declined {
        order: OrderId,
        at_ms: i64,
        why: String,
    },
    Destroyed {
        order: OrderId,
        at_ms: i64,
        audit_id: String,
    },
}

#[derive(Default)]
struct Batch {
    holds: FxHashMap<Key, Hold>,
    newer: Vec<Newer>,
    outcomes: Vec<Outcome>,
    receipts: Vec<Receipt>,
    reached: FxHashMap<(&'static str, u16), i64>,
    records: usize,
}

/// Follows until `stop`, or until something fails: then it starts over.
pub(crate) fn follow(shared: &Arc<Shared>, stop: &AtomicBool) -> Result<(), ConsentError> {
    let mut reader = Reader::open(&shared.bus, Isolation::Committed)?;
    let positions = shared.runtime.block_on(shared.store.positions())?;
    let mut assignment = Vec::new();
    for lane in 0..shared.lanes {
        for topic in [topics::AUDIT, topics::RECEIPTS] {
            let (low, _) = reader.watermarks(topic, i32::from(lane))?;
            let known = positions.get(&(topic.to_owned(), lane)).copied();
            let from = match (topic, known) {
                // Who holds what is known from the first record on, or not at all: a hole would be forgotten
                // holders, and records that are never called back.
                (topics::AUDIT, None) if low > 0 => {
                    return Err(ConsentError::AuditGap { lane, low });
                }
                (topics::AUDIT, Some(next)) if next < low => {
                    return Err(ConsentError::AuditGap { lane, low });
                }
                (_, known) => known.unwrap_or(low).max(low),
            };
            if topic == topics::AUDIT {
                shared.audit_reached[usize::from(lane)].store(from, Ordering::Release);
            }
            assignment.push((topic, i32::from(lane), Position::Offset(from)));
        }
    }
    reader.assign(&assignment)?;
    while !stop.load(Ordering::Acquire) {
        let mut batch = Batch::default();
        reader.poll(MAX_BATCH_RECORDS, FOLLOW_POLL, |polled| match polled {
            Polled::Record(record) => batch.take(shared, &record),
            Polled::Eof {
                topic,
                partition,
                next_offset,
            } => {
                if let Ok(lane) = u16::try_from(partition) {
                    batch.reached.insert((known(topic), lane), next_offset);
                }
            }
        })?;
        if batch.reached.is_empty() {
            continue;
        }
        let sends = shared.runtime.block_on(keep(shared, &batch))?;
        for ((topic, lane), next) in &batch.reached {
            if *topic == topics::AUDIT {
                shared.audit_reached[usize::from(*lane)].fetch_max(*next, Ordering::AcqRel);
            }
        }
        if sends {
            shared.wake.ring();
        }
    }
    Ok(())
}

fn known(topic: &str) -> &'static str {
    if topic == topics::RECEIPTS {
        topics::RECEIPTS
    } else {
        topics::AUDIT
    }
}

impl Batch {
    fn take(&mut self, shared: &Shared, record: &Record<'_>) {
        let Ok(lane) = u16::try_from(record.partition) else {
            return;
        };
        self.records += 1;
        self.reached
            .insert((known(record.topic), lane), record.offset + 1);
        let Some(value) = record.value else { return };
        if record.topic == topics::RECEIPTS {
            self.receipt(shared, lane, record, value);
            return;
        }
        match Audit::read(value) {
            Ok(audit) => self.audit(&audit),
            // The ledger's matter: nothing can be derived from what can't be read.
            Err(fault) => {
                tracing::error!(lane, offset = record.offset, error = %fault, "audit record unreadable");
            }
        }
    }

    fn audit(&mut self, audit: &Audit<'_>) {
        match (audit.writer, audit.kind) {
            (AuditWriter::Gateway, AuditKind::Delivered) => {
                // Answers go with their dataset.
                if audit.dataset.starts_with("answer.") {
                    return;
                }
                if audit.reason == WITHDRAWN_BY_SOURCE {
                    self.gone(audit);
                    return;
                }
                let delivered = Delivered {
                    lane: audit.lane,
                    agreement: audit.agreement.to_string(),
                    dataset: audit.dataset.to_string(),
                    subject: audit.subject,
                    record: audit.record,
                    epoch: audit.version_epoch,
                    counter: audit.version_counter,
                    grant: audit.grant,
                    at_ms: audit.at_ms,
                };
                self.holds.insert(key(audit), Hold::Held(delivered));
            }
            (AuditWriter::Gateway, AuditKind::Withdrawn) => {
                let answer = audit.dataset.starts_with("answer.");
                if !answer {
                    self.gone(audit);
                }
                if let Some(order) = audit.order {
                    let (consumer, purpose) = (&audit.consumer, &audit.purpose);
                    self.outcomes.push(Outcome::Executed {
                        order,
                        topic: format!("to.{consumer}.{purpose}.{}", audit.dataset),
                        at_ms: audit.at_ms,
                        sequence: (!answer).then_some(audit.output_sequence),
                    });
                }
            }
            (AuditWriter::Gateway, AuditKind::OrderDeclined) => {
                if let Some(order) = audit.order {
                    self.outcomes.push(Outcome::Declined {
                        order,
                        at_ms: audit.at_ms,
                        why: audit.rule.to_string(),
                    });
                }
            }
            (AuditWriter::Gateway, AuditKind::Superseded) => {
                self.newer
                    .push(newer(audit, Some(audit.agreement.to_string())));
            }
            // One entry for all denials of an event: whoever holds an older version of this record
            // under a grant that is over will not get this one.
            (AuditWriter::Gateway, AuditKind::Denied) if audit.version_counter > 0 => {
                self.newer.push(newer(audit, None));
            }
            (AuditWriter::Vault, AuditKind::Erased) => {
                if let Some(order) = audit.order {
                    self.outcomes.push(Outcome::Destroyed {
                        order,
                        at_ms: audit.at_ms,
                        audit_id: format!("vault-{}-{}", audit.lane, audit.number),
                    });
                }
            }
            _ => {}
        }
    }

    fn gone(&mut self, audit: &Audit<'_>) {
        let gone = OrderTarget {
            lane: audit.lane,
            agreement: audit.agreement.to_string(),
            dataset: audit.dataset.to_string(),
            subject: audit.subject,
            record: audit.record,
            epoch: audit.version_epoch,
            counter: audit.version_counter,
        };
        let key = key(audit);
        if let Some(Hold::Held(held)) = self.holds.get(&key)
            && (held.epoch, held.counter) > (gone.epoch, gone.counter)
        {
            return;
        }
        self.holds.insert(key, Hold::Gone(gone));
    }

    /// Only the department that was to withdraw can sign for it.
    fn receipt(&mut self, shared: &Shared, lane: u16, record: &Record<'_>, value: &[u8]) {
        let refused = |why: &str| {
            tracing::warn!(lane, offset = record.offset, why, "receipt refused");
            metrics::counter!("mz_consent_receipts_refused_total").increment(1);
        };
        let Ok(receipt) = Receipt::decode(value) else {
            return refused("unreadable");
        };
        let contract = shared.in_force().contract;
        let Some((consumer, _)) = receipt.agreement.split_once('/') else {
            return refused("agreement");
        };
        let key = contract.key(consumer, KeyUse::Receipt, &receipt.key_id);
        let Some(key) = key.filter(|key| key.info.status == KeyStatus::Active) else {
            return refused("key");
        };
        if verify_signature(&key.info.public, &receipt.payload(), &receipt.signature).is_err() {
            return refused("signature");
        }
        self.receipts.push(receipt);
    }
}

fn key(audit: &Audit<'_>) -> Key {
    (
        audit.lane,
        audit.subject,
        audit.agreement.to_string(),
        audit.dataset.to_string(),
        audit.record,
    )
}

fn newer(audit: &Audit<'_>, agreement: Option<String>) -> Newer {
    Newer {
        lane: audit.lane,
        agreement,
        dataset: audit.dataset.to_string(),
        subject: audit.subject,
        record: audit.record,
        epoch: audit.version_epoch,
        counter: audit.version_counter,
        event: audit.event,
    }
}

/// Stores what a batch means; whether there is something to send.
async fn keep(shared: &Shared, batch: &Batch) -> Result<bool, ConsentError> {
    let mut step = shared.store.step().await?;
    let held: Vec<Delivered> = batch
        .holds
        .values()
        .filter_map(|hold| match hold {
            Hold::Held(delivered) => Some(delivered.clone()),
            Hold::Gone(_) => None,
        })
        .collect();
    step.delivered(&held).await?;
    for hold in batch.holds.values() {
        if let Hold::Gone(gone) = hold {
            step.gone(gone).await?;
        }
    }
    let mut sends = false;
    for newer in &batch.newer {
        sends |= call_back(&mut step, newer).await?;
    }
    for outcome in &batch.outcomes {
        match outcome {
            Outcome::Executed {
                order,
                topic,
                at_ms,
                sequence,
            } => step.executed(*order, topic, *at_ms, *sequence).await?,
            Outcome::Declined { order, at_ms, why } => step.declined(*order, *at_ms, why).await?,
            Outcome::Destroyed {
                order,
                at_ms,
                audit_id,
            } => {
                step.destroyed(*order, audit_id, *at_ms).await?;
            }
        }
    }
    for receipt in &batch.receipts {
        if !step.receipt(receipt).await? {
            tracing::warn!(lane = receipt.lane, "receipt of an unknown order");
        }
    }
    let reached: Vec<(&str, u16, i64)> = batch
        .reached
        .iter()
        .map(|((topic, lane), next)| (*topic, *lane, *next))
        .collect();
    step.reached(&reached).await?;
    step.commit().await?;
    metrics::counter!("mz_consent_audit_followed_total").increment(batch.records as u64);
    Ok(sends)
}

/// Calls back what is older than `newer`. A slot that reported its record as superseded gets an answer
/// in any case.
async fn call_back(step: &mut Step, newer: &Newer) -> Result<bool, ConsentError> {
    let holders = step
        .held(newer.lane, newer.subject, &newer.dataset, newer.record)
        .await?;
    let older = holders.into_iter().filter(|(held, _)| {
        (held.epoch, held.counter) < (newer.epoch, newer.counter)
            && newer
                .agreement
                .as_ref()
                .is_none_or(|agreement| *agreement == held.agreement)
    });
    let mut sends = false;
    for (held, grant) in older {
        let (reason, condition) = match (&newer.agreement, grant) {
            (Some(_), _) => (SUPERSEDED, OrderCondition::Superseded),
            // Its grant may have ended for another reason that called the record back already.
            (None, Some(_)) if step.is_ordered(&held).await? => continue,
            (None, Some(_)) => (CORRECTED, OrderCondition::NotInForce),
            // Delivered without a grant: what is denied now is the agreement as a whole.
            (None, None) => continue,
        };
        let version = match condition {
            // The version that replaced it: the slot has it in its list.
            OrderCondition::Superseded => (newer.epoch, newer.counter),
            _ => (held.epoch, held.counter),
        };
        give(step, &held, version, reason, condition, &newer.event).await?;
        sends = true;
    }
    if let Some(agreement) = &newer.agreement
        && !sends
    {
        let version = (newer.epoch, newer.counter);
        let dataset = &newer.dataset;
        let order = Order {
            id: Order::derive_id(
                agreement,
                dataset,
                newer.record,
                version,
                "DISMISS",
                &newer.event,
            ),
            action: OrderAction::Dismiss,
            condition: OrderCondition::Superseded,
            reason: SUPERSEDED.to_owned(),
            agreement: agreement.clone(),
            dataset: dataset.clone(),
            subject: newer.subject,
            record: newer.record,
            epoch: newer.epoch,
            counter: newer.counter,
            at_ms: now_ms(),
        };
        step.send(newer.lane, Outgoing::Order(&order), None).await?;
        sends = true;
    }
    Ok(sends)
}

/// Orders one record back; nothing when that was ordered before.
pub(crate) async fn give(
    step: &mut Step,
    held: &OrderTarget,
    version: (u32, u64),
    reason: &str,
    condition: OrderCondition,
    occasion: &[u8],
) -> Result<bool, ConsentError> {
    let order = Order {
        id: Order::derive_id(
            &held.agreement,
            &held.dataset,
            held.record,
            version,
            reason,
            occasion,
        ),
        action: OrderAction::Withdraw,
        condition,
        reason: reason.to_owned(),
        agreement: held.agreement.clone(),
        dataset: held.dataset.clone(),
        subject: held.subject,
        record: held.record,
        epoch: version.0,
        counter: version.1,
        at_ms: now_ms(),
    };
    let new = step.put_order(held.lane, &order).await?;
    if new {
        step.send(held.lane, Outgoing::Order(&order), None).await?;
    }
    Ok(new)
}
