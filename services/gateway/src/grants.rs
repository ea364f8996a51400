//! What `bus.grants` says, and when it comes into force: consents, cases and the contract itself are read
//! as they come, and hold from the start of the next transaction, whose recorded position says so.

use std::collections::VecDeque;

use mz_bus::Record;
use mz_journal::{
    Grant, GrantRef, GrantStatus, InForce, Malformed, Record as _, SubjectTag, topics,
};
use mz_policy::{Change, REFETCH};
use rustc_hash::FxHashMap;

use crate::backfill::MAX_OPEN_BACKFILLS;
use crate::engine::Engine;
use crate::error::Error;
use crate::outbox::Halt;

/// One record of the topic.
pub(crate) enum GrantsRecord<'r> {
    Grant(GrantRef<'r>),
    Contract(InForce),
    /// A tombstone: forgotten after its time.
    Gone,
}

/// Reads a record. One that can't be read stops the slot: it may be a closing.
pub(crate) fn read<'r>(lane: u16, record: &Record<'r>) -> Result<GrantsRecord<'r>, Error> {
    let Some(value) = record.value else {
        return Ok(GrantsRecord::Gone);
    };
    let malformed = |source: Malformed| Error::StateMalformed {
        topic: topics::GRANTS,
        lane,
        offset: record.offset,
        source,
    };
    if record.key == Some(&topics::IN_FORCE_KEY[..]) {
        let in_force = InForce::decode(value).map_err(malformed)?;
        return Ok(GrantsRecord::Contract(in_force));
    }
    Ok(GrantsRecord::Grant(
        GrantRef::read(value).map_err(malformed)?,
    ))
}

impl Engine {
    /// A record was read: it waits for the start of the next transaction.
    pub(crate) fn grant(&mut self, at: usize, record: &Record<'_>) -> Result<(), Error> {
        let lane = &mut self.lanes[at];
        if record.offset < lane.grants_read {
            return Ok(());
        }
        match read(lane.lane, record)? {
            GrantsRecord::Grant(grant) => {
                let grant = grant.to_owned();
                lane.unread_cases.remove(&grant.id);
                lane.pending_grants.push_back((record.offset, grant));
                lane.fresh_grants = true;
            }
            GrantsRecord::Contract(in_force) => {
                let known = self.next.as_ref().map_or(self.version, |next| next.version);
                if in_force.version > known {
                    self.next = Some(in_force);
                }
                // Whoever put it in force waits for this lane's position to pass it.
                lane.fresh_grants = true;
            }
            GrantsRecord::Gone => {}
        }
        lane.grants_read = record.offset + 1;
        Ok(())
    }

    /// Joins what was read. Where there is no room for another backfill, what would open waits (and the
    /// recorded position with it); what restricts never does.
    pub(crate) fn enforce_grants(&mut self, at: usize) -> Result<(), Halt> {
        let lane = &mut self.lanes[at];
        lane.touched |= std::mem::take(&mut lane.fresh_grants);
        if lane.pending_grants.is_empty() {
            lane.grants_position = lane.grants_read;
            return Ok(());
        }
        lane.touched = true;
        let now_ms = self.now.ms;
        let pending = std::mem::take(&mut lane.pending_grants);
        // Where a grant of everything was in force before all of these, its own backfill has brought the
        // facts, or will; unless another of these changes something for the same person.
        let mut records: FxHashMap<SubjectTag, u32> = FxHashMap::default();
        for (_, grant) in &pending {
            *records.entry(grant.subject).or_default() += 1;
        }
        let brought: Vec<bool> = pending
            .iter()
            .map(|(_, grant)| {
                let agreement = self.plan.agreement_ix(&grant.agreement);
                let ask = agreement.and_then(|at| self.asks.agreement(at as usize));
                grant.status == GrantStatus::Open
                    && grant.reason != REFETCH
                    && records.get(&grant.subject) == Some(&1)
                    && ask.is_some_and(|ask| self.grants.has_all(grant.subject, ask, now_ms))
            })
            .collect();
        let mut waiting = VecDeque::new();
        let mut opened: Vec<Grant> = Vec::new();
        for ((offset, grant), brought) in pending.into_iter().zip(brought) {
            let room = lane.backfills.len() + opened.len() < MAX_OPEN_BACKFILLS;
            if grant.status == GrantStatus::Open && !room {
                waiting.push_back((offset, grant));
                continue;
            }
            let in_force = |grants: &mz_policy::GrantsIndex| {
                let held = grants.get(grant.subject, grant.id);
                held.is_some_and(|held| held.bar(now_ms).is_none())
            };
            let before = in_force(&self.grants);
            let change = self.grants.join(&grant).map_err(Error::from)?;
            self.out.counts.grants_read += 1;
            // Extended after it had expired: what came in between is due, as after a pause.
            let revived = !before && in_force(&self.grants);
            // One that this contract doesn't know permits nothing now, and is kept for one that does.
            let known = self.plan.agreement_ix(&grant.agreement).is_some();
            if (change == Change::Opened || revived) && known && !brought {
                opened.push(grant);
            }
        }
        lane.grants_position = waiting
            .front()
            .map_or(lane.grants_read, |(offset, _)| *offset);
        lane.pending_grants = waiting;
        for grant in opened {
            // Closed by what was read behind it: nothing is due.
            let held = self.grants.get(grant.subject, grant.id);
            if held.is_some_and(|held| held.bar(now_ms).is_none()) {
                lane.backfills.open(&grant);
            }
        }
        Ok(())
    }
}
