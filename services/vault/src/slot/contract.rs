//! A contract version that was put in force, while the slot runs.

use std::sync::Arc;

use mz_bus::{Unfit, contract_in_force};
use mz_contract::{BUS, Contract};
use mz_journal::InForce as Note;
use mz_policy::Asks;
use mz_seal::{KeySource as _, KeyStatus};

use super::Slot;
use super::error::SlotError;
use super::ingest::Ingest;
use super::outbox::Outbox;
use super::takeover::{assignment, check_partitions};
use crate::shared::{InForce, Shared};

/// The version that the note names: the one at hand where it is the same, from the bus otherwise.
pub(super) fn load(shared: &Shared, note: &Note) -> Result<InForce, SlotError> {
    let (version, held) = (note.version, shared.in_force());
    // Another slot of this process has switched before, or it is the one on disk.
    if held.contract.digest == note.digest {
        let contract = held.contract;
        return Ok(InForce { version, contract });
    }
    let contract = contract_in_force(&shared.bus, &note.digest, &held.contract)?
        .and_then(|contract| match seals(shared, &contract) {
            true => Ok(Arc::new(contract)),
            false => Err(Unfit::NotReady(
                "the bus's seal key is not an active one of it",
            )),
        })
        .map_err(|source| SlotError::Contract { version, source })?;
    Ok(InForce { version, contract })
}

/// Whether others can verify what this vault signs.
fn seals(shared: &Shared, contract: &Contract) -> bool {
    let key = contract.seal_key(BUS, shared.keys.signer.key_id());
    key.is_some_and(|key| key.status == KeyStatus::Active)
}

impl Slot {
    pub(super) fn contract(&self) -> Arc<Contract> {
        Arc::clone(&self.in_force.contract)
    }

    /// Goes over to the newest version that was read, for all lanes at once and before anything is
    /// decided in this turn. Only now may the grants positions move past its note.
    pub(super) fn switch(&mut self, outbox: &mut Outbox) -> Result<(), SlotError> {
        let notes = self.books.values_mut().filter_map(|book| book.note.take());
        let Some(note) = notes.max_by_key(|note| note.version) else {
            return Ok(());
        };
        if note.version > self.in_force.version {
            let new = load(&self.shared, &note)?;
            self.adopt(new)?;
            tracing::info!(
                slot = self.slot,
                version = note.version,
                "contract in force"
            );
        }
        for book in self.books.values_mut().filter(|book| book.hold.is_some()) {
            book.hold = None;
            outbox.touch(book.lane);
        }
        Ok(())
    }

    fn adopt(&mut self, new: InForce) -> Result<(), SlotError> {
        let contract = Arc::clone(&new.contract);
        check_partitions(&contract, &self.heads)?;
        let old = std::mem::replace(&mut self.in_force, new);
        self.shared.put_in_force(&self.in_force);
        // Datasets are counted anew by each contract.
        let renumbered = |(dataset, lane): (usize, u16)| {
            let id = &old.contract.datasets.get(dataset)?.id;
            Some((contract.dataset(id)?.ix, lane))
        };
        let reached = std::mem::take(&mut self.reached);
        let confirmed = std::mem::take(&mut self.confirmed);
        self.confirmed = confirmed
            .into_iter()
            .filter_map(|(place, said)| Some((renumbered(place)?, said)))
            .collect();
        let lanes: Vec<u16> = self.lanes().collect();
        let positions = self.store.positions(&lanes);
        let mut positions = self.shared.runtime.block_on(positions)?;
        for (place, next) in reached {
            let Some((dataset, lane)) = renumbered(place) else {
                continue;
            };
            let topic = contract.datasets[dataset].src_topic();
            let held = positions.entry((lane, topic)).or_insert(next);
            *held = next.max(*held);
        }
        let assignment = assignment(&contract, &self.books, &positions, &mut self.reached);
        self.reader.assign(&assignment)?;
        self.ingest = Ingest::new(Arc::clone(&contract), Arc::clone(&self.shared.keys));
        self.asks = Asks::of(&contract, &mut self.grants);
        // Whoever waits is judged anew, under what is in force when the answer leaves.
        let waiting = std::mem::take(&mut self.waiting);
        self.again.extend(waiting.into_iter().map(|w| w.ask));
        Ok(())
    }
}
