//! Orders from consent, which knows from the audit log who holds what: withdrawals. The slot, which alone
//! writes `to.*`, looks whether the order still holds, and carries it out in the lane's own order: what is
//! delivered behind a withdrawal is good again.

use mz_bus::{Record, TxProducer};
use mz_contract::ScopeKind;
use mz_journal::{
    AuditCause, AuditKind, DELIVERY_HEADER, Order, OrderAction, OrderCondition, Record as _,
    SIGNATURE_BYTES, WITHDRAWAL_HEADER, Withdrawal, topics,
};
use mz_policy::{Asks, GrantsIndex, Now, Standing};
use mz_seal::{Version, headers, timestamp_text, uuid_text};

use crate::answers::{Body, PendingAnswer};
use crate::engine::Engine;
use crate::error::Error;
use crate::lane::Lane;
use crate::outbox::{Halt, REASON_HEADER, Writer};
use crate::plan::{Plan, Reading};

/// `ce_source` of a withdrawal that was ordered.
const WITHDRAWALS: &str = "/bus/withdrawals";
/// Why an order was not carried out, or not even read. `NEWER_DELIVERED` also where the record was called
/// back meanwhile for another reason: there is nothing left of what it speaks of.
pub(crate) const STILL_IN_FORCE: &str = "STILL_IN_FORCE";
pub(crate) const NEWER_DELIVERED: &str = "NEWER_DELIVERED";
pub(crate) const AGREEMENT_UNKNOWN: &str = "AGREEMENT_UNKNOWN";
pub(crate) const ORDER_MALFORMED: &str = "ORDER_MALFORMED";

impl Engine {
    /// A record of `bus.orders`. Only consent can write there: one that can't be read is told and left,
    /// so that it doesn't hold up the lane.
    pub(crate) fn order(
        &mut self,
        producer: &mut TxProducer,
        at: usize,
        record: &Record<'_>,
    ) -> Result<(), Halt> {
        let Some(value) = record.value else {
            return Ok(());
        };
        let order = match Order::decode(value) {
            Ok(order) => order,
            Err(_) => return self.unreadable(producer, at, record.offset),
        };
        let plan = std::sync::Arc::clone(&self.plan);
        let reading = plan.reading(&order.agreement, &order.dataset);
        let version = version(&order);
        match (order.action, reading) {
            // The vault's.
            (OrderAction::Erase, _) => Ok(()),
            (OrderAction::Dismiss, None) => Ok(()),
            (OrderAction::Dismiss, Some(reading)) => {
                let reports = &mut self.lanes[at].superseded;
                reports.answered(reading.output, order.record, version);
                Ok(())
            }
            (OrderAction::Withdraw, None) => self.decline(producer, at, &order, AGREEMENT_UNKNOWN),
            (OrderAction::Withdraw, Some(reading)) => {
                let index = (&self.grants, &self.asks);
                let reports = &mut self.lanes[at].superseded;
                let void = match order.condition {
                    OrderCondition::Always => None,
                    OrderCondition::Superseded => {
                        let answered = reports.answered(reading.output, order.record, version);
                        (!answered).then_some(NEWER_DELIVERED)
                    }
                    OrderCondition::NotInForce => {
                        in_force(&plan, reading, &order, index, self.now).then_some(STILL_IN_FORCE)
                    }
                };
                match void {
                    Some(code) => self.decline(producer, at, &order, code),
                    None => {
                        let (mut w, lane) = self.writer(producer, at);
                        w.withdraw(lane, &plan, reading, &order)
                    }
                }
            }
        }
    }

    fn decline(
        &mut self,
        producer: &mut TxProducer,
        at: usize,
        order: &Order,
        code: &'static str,
    ) -> Result<(), Halt> {
        let (mut w, lane) = self.writer(producer, at);
        let mut entry = w.entry(lane, AuditKind::OrderDeclined, AuditCause::Rule);
        about(&mut entry, order);
        entry.agreement = order.agreement.as_str().into();
        let parts = order.agreement.split_once('/').unwrap_or_default();
        (entry.consumer, entry.purpose) = (parts.0.into(), parts.1.into());
        entry.dataset = order.dataset.as_str().into();
        entry.rule = code.into();
        entry.reason = order.reason.as_str().into();
        w.audit(lane, &mut entry)?;
        w.out.counts.declined += 1;
        *w.out.declined.entry(code).or_default() += 1;
        Ok(())
    }

    fn unreadable(
        &mut self,
        producer: &mut TxProducer,
        at: usize,
        offset: i64,
    ) -> Result<(), Halt> {
        let (mut w, lane) = self.writer(producer, at);
        tracing::error!(lane = lane.lane, offset, "an order can't be read");
        let mut entry = w.entry(lane, AuditKind::Quarantined, AuditCause::Rule);
        entry.dataset = topics::ORDERS.into();
        entry.rule = ORDER_MALFORMED.into();
        entry.reason = ORDER_MALFORMED.into();
        entry.source_offset = offset;
        w.audit(lane, &mut entry)?;
        w.out.counts.quarantined += 1;
        *w.out.refused.entry(ORDER_MALFORMED).or_default() += 1;
        Ok(())
    }
}

fn version(order: &Order) -> Version {
    Version {
        epoch: order.epoch,
        counter: order.counter,
    }
}

/// Whether the consumer may still be sent the record's dataset about this person. Outside the agreement's
/// term, or once it was terminated, nothing may. A section about cases rests on a grant: a suspended agreement leaves what was delivered
/// where it is, and so does not end it. Any other section rests on the agreement itself.
fn in_force(
    plan: &Plan,
    reading: &Reading,
    order: &Order,
    (grants, asks): (&GrantsIndex, &Asks),
    now: Now,
) -> bool {
    let agreement = plan.agreement(reading.agreement);
    let section = &agreement.sections[reading.section];
    let day = now.moment.day();
    if agreement.ended() || !day.is_some_and(|day| agreement.in_term(day)) {
        return false;
    }
    match section.scope {
        ScopeKind::Case => asks.section(section).is_some_and(|ask| {
            let standing = grants.standing(order.subject, ask, now.ms);
            matches!(standing, Standing::InForce(_))
        }),
        ScopeKind::Population | ScopeKind::Matching => !agreement.suspended(),
    }
}

fn about(entry: &mut mz_journal::Audit<'_>, order: &Order) {
    entry.subject = order.subject;
    entry.record = order.record;
    entry.order = Some(order.id);
    entry.version_epoch = order.epoch;
    entry.version_counter = order.counter;
}

impl Writer<'_> {
    /// Takes the record back from the section's topic and from those of its answers.
    fn withdraw(
        &mut self,
        lane: &mut Lane,
        plan: &Plan,
        reading: &Reading,
        order: &Order,
    ) -> Result<(), Halt> {
        let agreement_key = &plan.agreements[reading.agreement].key;
        let key = topics::delivery_key(
            agreement_key.pseudonym(order.subject),
            agreement_key.record_tag(order.record),
        );
        let recall = self.recall(lane, reading.output, &key, order)?;
        let listed = recall.headers(&self.out.delivery);
        lane.superseded.withdrawn(reading.output, order.record);
        let topic = &plan.outputs[reading.output].topic;
        self.producer
            .send(topic, i32::from(lane.lane), &key, None, &listed)?;
        for answer in &reading.answers {
            let recall = self.recall(lane, answer.output, &key, order)?;
            // Behind the answers of this transaction, which are sealed at its end.
            self.out.answers.push(PendingAnswer {
                lane: lane.lane,
                output: answer.output,
                sequence: lane.outputs[answer.output].last_seq,
                body: Body::Recall(recall),
                key,
                delivery: self.out.delivery.clone(),
                event: [0; 32],
                version: version(order),
                ce_time_ms: self.now.ms,
                dataset: String::new(),
            });
        }
        self.out.counts.withdrawn += 1;
        Ok(())
    }

    /// Numbers, audits and signs one withdrawal; its `mz-delivery` header is left in the buffer.
    fn recall(
        &mut self,
        lane: &mut Lane,
        output: usize,
        key: &[u8; 32],
        order: &Order,
    ) -> Result<Recall, Halt> {
        let plan = self.plan;
        let to = &plan.outputs[output];
        let agreement = plan.agreement(to.agreement);
        lane.outputs[output].last_seq += 1;
        let sequence = lane.outputs[output].last_seq;
        let mut entry = self.entry(lane, AuditKind::Withdrawn, AuditCause::Rule);
        about(&mut entry, order);
        entry.agreement = agreement.id.as_str().into();
        entry.consumer = agreement.consumer.as_str().into();
        entry.purpose = agreement.purpose.as_str().into();
        entry.dataset = to.label.as_str().into();
        entry.output_sequence = sequence;
        entry.rule = order.reason.as_str().into();
        entry.reason = order.reason.as_str().into();
        self.audit(lane, &mut entry)?;
        self.stamp(lane, output, sequence)?;

        let signer = &self.keys.signer;
        let mut withdrawal = Withdrawal {
            order: order.id,
            reason: order.reason.clone(),
            epoch: order.epoch,
            counter: order.counter,
            at_ms: self.now.ms,
            key_id: signer.key_id().to_owned(),
            signature: [0; SIGNATURE_BYTES],
        };
        let payload = withdrawal.payload(&to.topic, lane.lane, key);
        withdrawal.signature = signer
            .sign(&payload)
            .map_err(|source| Error::Seal(source.into()))?;
        Ok(Recall {
            id: uuid_text(&withdrawal_id(order, self.now.ms)),
            kind: match &to.answer {
                Some((sealed_as, _)) => sealed_as.clone(),
                None => to.label.clone(),
            },
            time: timestamp_text(self.now.ms),
            reason: order.reason.clone(),
            withdrawal: withdrawal.encode(),
        })
    }
}

/// What a withdrawal says, besides its delivery header.
pub(crate) struct Recall {
    id: [u8; 36],
    /// What the topic's events are called.
    kind: String,
    time: String,
    reason: String,
    withdrawal: Vec<u8>,
}

impl Recall {
    pub(crate) fn headers<'h>(&'h self, delivery: &'h [u8]) -> [(&'h str, &'h [u8]); 8] {
        [
            (headers::CE_SPECVERSION, headers::SPECVERSION.as_bytes()),
            (headers::CE_ID, &self.id),
            (headers::CE_SOURCE, WITHDRAWALS.as_bytes()),
            (headers::CE_TYPE, self.kind.as_bytes()),
            (headers::CE_TIME, self.time.as_bytes()),
            (DELIVERY_HEADER, delivery),
            (REASON_HEADER, self.reason.as_bytes()),
            (WITHDRAWAL_HEADER, &self.withdrawal),
        ]
    }
}

/// A UUIDv7 of the withdrawal's time that depends on the order.
fn withdrawal_id(order: &Order, time_ms: i64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&time_ms.to_be_bytes()[2..]);
    id[6..].copy_from_slice(&order.id.0[..10]);
    id[6] = id[6] & 0x0f | 0x70;
    id[8] = id[8] & 0x3f | 0x80;
    id
}
