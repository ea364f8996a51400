//! Orders to erase a person: their key is destroyed and their rows are deleted in one database
//! transaction; then the audit record and the order's position are committed together. A crash between
//! the two leaves an order that is carried out again and finds nothing left to do.

use std::borrow::Cow;

use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, Order};

use super::error::SlotError;
use super::outbox::Outbox;
use super::{Slot, now_ms};
use crate::limits::MAX_ERASURES_PER_TURN;
use crate::store::Erasure;

impl Slot {
    pub(super) fn carry_out_orders(&mut self, outbox: &mut Outbox) -> Result<(), SlotError> {
        let lanes: Vec<u16> = self.lanes().collect();
        let mut left = MAX_ERASURES_PER_TURN;
        for lane in lanes {
            while left > 0 {
                let front = self.books.get(&lane).and_then(|book| book.orders.front());
                let Some((_, order)) = front.cloned() else {
                    break;
                };
                self.erase(lane, &order, outbox)?;
                if let Some(book) = self.books.get_mut(&lane) {
                    book.orders.pop_front();
                }
                left -= 1;
            }
        }
        Ok(())
    }

    fn erase(&mut self, lane: u16, order: &Order, outbox: &mut Outbox) -> Result<(), SlotError> {
        let contract = self.contract();
        let mut below = Vec::with_capacity(contract.datasets.len());
        for dataset in &contract.datasets {
            // Also what was published and not read yet, open transactions included: it is older than
            // the erasure.
            let (_, head) = self
                .heads
                .watermarks(&dataset.src_topic(), i32::from(lane))?;
            let reached = self.reached.get(&(dataset.ix, lane)).copied().unwrap_or(0);
            below.push((dataset.schema_id, head.max(reached)));
        }
        let erasure = Erasure {
            order: order.id,
            lane,
            subject: order.subject,
            below,
        };
        let first = self.shared.runtime.block_on(self.store.erase(&erasure))?;
        tracing::info!(slot = self.slot, lane, first, "a person was erased");
        let mut audit = Audit::empty(
            AuditWriter::Vault,
            lane,
            now_ms(),
            AuditKind::Erased,
            AuditCause::Operator,
        );
        audit.contract = contract.digest;
        audit.subject = order.subject;
        audit.order = Some(order.id);
        audit.rule = Cow::Owned(order.reason.clone());
        self.record(lane, &mut audit, outbox);
        Ok(())
    }
}
