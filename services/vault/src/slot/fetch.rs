//! Backfill (the vault's half): once the store is past every fence of a request, the
//! facts below the fences go out with their original bytes, then `done`, in one transaction with
//! the request's own position. Requests of a lane are answered in the lane's order.

use mz_contract::DatasetIx;
use mz_journal::{FactBody, FactReply, Fetch, StoredFact};
use mz_seal::SourceSeal;

use super::Slot;
use super::error::SlotError;
use super::outbox::Outbox;
use crate::limits::MAX_FETCHES_PER_TURN;
use crate::store::{FactRow, Wanted};

/// A fence on a source that the contract knows.
struct Bound {
    dataset: DatasetIx,
    schema_id: u32,
    fence: i64,
}

impl Slot {
    pub(super) fn answer_fetches(&mut self, outbox: &mut Outbox) -> Result<(), SlotError> {
        let lanes: Vec<u16> = self.lanes().collect();
        let mut left = MAX_FETCHES_PER_TURN;
        for lane in lanes {
            while left > 0 {
                let Some(fetch) = self.next_fetch(lane) else {
                    break;
                };
                self.answer_fetch(lane, &fetch, outbox)?;
                if let Some(book) = self.books.get_mut(&lane) {
                    book.fetches.pop_front();
                }
                left -= 1;
            }
        }
        Ok(())
    }

    /// The lane's oldest request, when the store is past all its fences.
    fn next_fetch(&self, lane: u16) -> Option<Fetch> {
        let (_, fetch) = self.books.get(&lane)?.fetches.front()?;
        let past = self.bounds(fetch).iter().all(|bound| {
            self.reached
                .get(&(bound.dataset, lane))
                .copied()
                .unwrap_or(0)
                >= bound.fence
        });
        past.then(|| fetch.clone())
    }

    /// Fences of the datasets asked for; a source without a fence is one nothing was read from.
    fn bounds(&self, fetch: &Fetch) -> Vec<Bound> {
        let contract = self.contract();
        contract
            .datasets
            .iter()
            .filter(|dataset| fetch.datasets.contains(&dataset.id))
            .map(|dataset| {
                let topic = dataset.src_topic();
                let fence = fetch.fences.iter().find(|fence| fence.topic == topic);
                Bound {
                    dataset: dataset.ix,
                    schema_id: dataset.schema_id,
                    fence: fence.map_or(0, |fence| fence.offset),
                }
            })
            .collect()
    }

    fn answer_fetch(
        &mut self,
        lane: u16,
        fetch: &Fetch,
        outbox: &mut Outbox,
    ) -> Result<(), SlotError> {
        let bounds = self.bounds(fetch);
        let wanted = Wanted {
            lane,
            subjects: vec![fetch.subject],
            datasets: bounds.iter().map(|bound| bound.schema_id).collect(),
        };
        let rows = self.shared.runtime.block_on(self.store.facts(&wanted))?;
        let mut count = 0;
        for row in rows {
            let below = bounds
                .iter()
                .any(|bound| bound.schema_id == row.dataset && row.source_offset < bound.fence);
            // At or above the fence the gateway reads it itself, after the grant.
            if !below {
                continue;
            }
            let Some(fact) = self.stored_fact(row) else {
                continue;
            };
            outbox.reply(lane, &reply(fetch, FactBody::Fact(fact)));
            count += 1;
        }
        outbox.reply(lane, &reply(fetch, FactBody::Done { count }));
        Ok(())
    }

    fn stored_fact(&self, row: FactRow) -> Option<StoredFact> {
        let contract = self.contract();
        let dataset = contract
            .datasets
            .iter()
            .find(|d| d.schema_id == row.dataset)?;
        let ce_id = match SourceSeal::parse(&row.seal) {
            Ok(seal) => seal.meta.ce_id,
            Err(fault) => {
                // The gateway would refuse it too; a damaged row must not hold up the others.
                let (lane, offset) = (row.lane, row.source_offset);
                tracing::error!(dataset = dataset.id, lane, offset, error = %fault, "stored seal damaged");
                return None;
            }
        };
        Some(StoredFact {
            dataset: dataset.id.clone(),
            source_offset: row.source_offset,
            value: row.value,
            seal: row.seal,
            ce_id,
        })
    }
}

fn reply(fetch: &Fetch, body: FactBody) -> FactReply {
    FactReply {
        grant: fetch.grant,
        attempt: fetch.attempt,
        subject: fetch.subject,
        body,
    }
}
