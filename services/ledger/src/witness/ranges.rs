//! Closed ranges: the witness makes them again from the log before it cosigns what the ledger says of them.

use mz_journal::topics;
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::note::{Note, VerifierKey};

use super::proof::prefix;
use super::source::{Reading, log_name};
use super::state::Seen;
use super::{Witness, WitnessError, cosignature_key, log_keys, witness_name};
use crate::absence::{
    AbsenceFault, After, Range, SKEW_MS, STATEMENT, Statement, agrees, filed, follows, labels,
    ranges,
};
use crate::log::Stored;
use crate::witness::Source;
use crate::witness::limits::{MAX_RANGES_AT_ONCE, PUBLISH_WITHIN};

/// A statement under the ledger's signature, that is good.
struct Good {
    note: Note,
    key: VerifierKey,
    said: Statement,
}

impl Witness {
    /// Looks at the ranges of a log that were closed since, and cosigns them. Answers their numbers.
    ///
    /// # Errors
    /// As [`Witness::step`]: a range that is not what the log says is kept as evidence, and the log is not
    /// cosigned again.
    pub fn cosign_ranges(
        &mut self,
        source: &dyn Source,
        log: &str,
    ) -> Result<Vec<u64>, WitnessError> {
        let Some(seen) = self.states.load(log)? else {
            return Ok(Vec::new());
        };
        let disk = Reading { source, log };
        let mut last = self.states.range(log)?;
        // Kept, and perhaps not published: the last time ended in between.
        if let Some(kept) = last.as_ref().filter(|kept| !kept.published) {
            let good = self.statement(log, &kept.note)?;
            self.publish_range(log, &good)?;
        }
        let next = last.as_ref().map_or(0, |kept| kept.number + 1);
        let pending = self.pending(&disk, &seen, next)?;
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        let before = match last.take() {
            Some(kept) => Some(self.statement(log, &kept.note)?.said),
            None => match self.before(&seen)? {
                // The log before this one comes first: the ledger closes it first, too.
                None if seen.before.is_some() => return Ok(Vec::new()),
                before => before,
            },
        };
        let from = pending[0].said.from;
        let ends: Vec<u64> = pending.iter().map(|good| good.said.to).collect();
        let refuse = |this: &Self, number: u64, note: &Note| {
            let finding = ("WITNESS_RANGE_DIFFERS", format!("range {number}"));
            let notes = [seen.note.as_str(), &note.to_string()];
            this.states.refuse(log, &seen.origin, finding, notes)
        };
        let known = self.states.logs()?;
        let known = known.iter().filter_map(|log| log_name(log));
        let shards = known.map(|(shard, _)| shard + 1).max().unwrap_or(1);
        let mut earlier = before;
        for good in &pending {
            // A shard that the ledger does not count would be left out of every proof.
            let counted = shards <= good.said.shards;
            if !counted || !follows(&good.said, earlier.as_ref()) {
                return Err(refuse(self, good.said.number, &good.note));
            }
            earlier = Some(good.said.clone());
        }
        let shard = log_name(log).map_or(0, |(shard, _)| shard);
        let lanes = (shard, pending[0].said.shards);
        let mut made: Vec<Range> = Vec::new();
        let stored = Stored::new(&disk, seen.size);
        let mut logs = |after: &After| {
            let name = after.origin.split_once("/audit/").map(|(_, name)| name);
            match name.filter(|name| log_name(name).is_some()) {
                Some(log) => labels(after, &Reading { source, log }),
                None => Ok(None),
            }
        };
        let head = ranges(
            &stored,
            &seen.origin,
            (from, &ends),
            lanes,
            &mut logs,
            |range| {
                made.push(range);
            },
        );
        let head = match head {
            Ok(head) => head,
            Err(AbsenceFault::Log(source)) => {
                return Err(WitnessError::Unreadable {
                    log: log.to_owned(),
                    source,
                });
            }
            Err(AbsenceFault::Earlier(origin)) => return Err(WitnessError::Altered { origin }),
            // The log says what can't be; unless these are not the entries that were signed.
            Err(_) if signed(&disk, &seen)? => {
                return Err(refuse(self, pending[0].said.number, &pending[0].note));
            }
            Err(_) => {
                let origin = seen.origin.clone();
                return Err(WitnessError::Altered { origin });
            }
        };
        if head != seen.root {
            return Err(WitnessError::Altered {
                origin: seen.origin.clone(),
            });
        }
        let mut cosigned = Vec::new();
        for (good, range) in pending.iter().zip(&made) {
            if !agrees(&good.said, range, false) {
                return Err(refuse(self, good.said.number, &good.note));
            }
            let number = good.said.number;
            self.states.save_range(log, number, &good.note, false)?;
            self.publish_range(log, good)?;
            cosigned.push(number);
        }
        Ok(cosigned)
    }

    /// Statements from `next` on, as far as this witness has seen the log.
    fn pending(
        &self,
        disk: &Reading<'_>,
        seen: &Seen,
        next: u64,
    ) -> Result<Vec<Good>, WitnessError> {
        let mut pending = Vec::new();
        let now = (self.options.clock)();
        while pending.len() < MAX_RANGES_AT_ONCE {
            let number = next + pending.len() as u64;
            let found = filed::read(disk, &seen.origin, number, STATEMENT);
            let found = found.map_err(|_| WitnessError::Range {
                log: disk.log.to_owned(),
                number,
            })?;
            let Some((note, said)) = found else {
                return Ok(pending);
            };
            // Not seen so far yet, or a time that has not come: later.
            if said.to > seen.size || said.until_ms > now.saturating_add(SKEW_MS) {
                return Ok(pending);
            }
            pending.push(self.statement(disk.log, &note.to_string())?);
        }
        Ok(pending)
    }

    fn statement(&self, log: &str, text: &str) -> Result<Good, WitnessError> {
        let origin = self.origin(log)?;
        let malformed = || WitnessError::Range {
            log: log.to_owned(),
            number: 0,
        };
        let note = Note::parse(text).map_err(|_| malformed())?;
        let said = Statement::parse(note.text()).ok_or_else(malformed)?;
        let key = log_keys(&self.options.contract, &origin).find(|key| note.verify(key).is_ok());
        match key {
            Some(key) => Ok(Good { note, key, said }),
            None => Err(WitnessError::Key { origin }),
        }
    }

    /// The last range of the log before.
    fn before(&self, seen: &Seen) -> Result<Option<Statement>, WitnessError> {
        let Some(before) = &seen.before else {
            return Ok(None);
        };
        match self.states.range(before)? {
            Some(kept) => Ok(Some(self.statement(before, &kept.note)?.said)),
            None => Ok(None),
        }
    }

    fn publish_range(&mut self, log: &str, good: &Good) -> Result<(), WitnessError> {
        let at = u64::try_from((self.options.clock)() / 1_000).unwrap_or(0);
        let cosigned = self.cosigner.cosign(&good.note, &good.key, at)?;
        let name = witness_name(&self.options.contract.bus_id, &self.options.department);
        let key = cosignature_key(&good.said.name(), &name);
        let (key, value) = (key.as_bytes(), Some(cosigned.as_bytes()));
        self.producer
            .send(topics::COSIGNATURES, 0, key, value, &[])?;
        self.producer.flush(PUBLISH_WITHIN)?;
        let number = good.said.number;
        self.states.save_range(log, number, &good.note, true)
    }
}

/// Whether the entries that lie there are those that were seen under the log's signature.
fn signed(disk: &Reading<'_>, seen: &Seen) -> Result<bool, WitnessError> {
    let said = Checkpoint {
        origin: seen.origin.clone(),
        size: seen.size,
        root: seen.root,
        extensions: Vec::new(),
    };
    match prefix(disk, &said, seen.size) {
        Ok(root) => Ok(root.is_some()),
        Err(source) => Err(WitnessError::Unreadable {
            log: disk.log.to_owned(),
            source,
        }),
    }
}
