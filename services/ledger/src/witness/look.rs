//! Looking at a log: did it only grow, do its entries hash to what was signed, do its chains hold, is every
//! delivery in it that the department holds?

use mz_journal::AuditWriter;
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::merkle::{Frontier, leaf_hash};
use mz_tlog::note::Note;

use super::{OFFERED, Outcome, Waiting, Witness, WitnessError};
use crate::log::{CHECKPOINT, Disk as _, Entry, LogFault, Opened, Stored};
use crate::witness::held::Delivery;
use crate::witness::limits::HOLD_OFFER;
use crate::witness::proof::{Logs, prefix};
use crate::witness::source::{Reading, Source, log_name};
use crate::witness::state::Seen;
use crate::witness::walk::Walk;

impl Witness {
    /// Everything but the cosignature: what was seen is durable afterwards.
    ///
    /// # Errors
    /// As [`Witness::step`].
    pub fn look(&mut self, source: &dyn Source, log: &str) -> Result<Outcome, WitnessError> {
        let origin = self.origin(log)?;
        if let Some(refusal) = self.states.refusal(log, &origin)? {
            return Err(WitnessError::Refused(Box::new(refusal)));
        }
        let disk = Reading { source, log };
        let known = self.states.load(log)?;
        let (note, said) = self.target(&disk, known.as_ref())?;
        let (mut seen, opened) = match known {
            Some(known) => (known, Opened::default()),
            None => self.first(&disk, &origin, said.size)?,
        };
        let refuse = |this: &Self, finding| {
            let signed = note.to_string();
            this.states
                .refuse(log, &origin, finding, [&seen.note, &signed])
        };
        let sizes = format!("size {} after {}", said.size, seen.size);
        if said.size < seen.size {
            return Err(refuse(self, ("WITNESS_LOG_SHRANK", sizes)));
        }
        let closed = said.size > seen.size && seen.size > 0 && self.is_followed(log)?;
        if closed || (said.size == seen.size && said.root != seen.root) {
            return Err(refuse(self, ("WITNESS_LOG_FORKED", sizes)));
        }

        let stored = Stored::new(&disk, said.size);
        let unreadable = |source| WitnessError::Unreadable {
            log: log.to_owned(),
            source,
        };
        let mut frontier = Frontier::from_hashes(seen.size, &stored.hashes())
            .map_err(|error| unreadable(LogFault::tile(error)))?;
        let department = self.options.department.clone();
        let mut walk = Walk::new(&department, &opened, seen.chains.clone());
        let mut positions = seen.positions.clone();
        let (mut compared, mut waiting) = (0, Waiting::default());
        let mut at = seen.size;
        let mut grew = frontier.root() == seen.root;
        while grew {
            let to = said.size.min(at.saturating_add(self.options.window.max(1)));
            walk.own.clear();
            stored
                .entries(at, to, |index, entry| {
                    frontier.push(leaf_hash(entry));
                    walk.take(index, entry);
                    Ok(())
                })
                .map_err(unreadable)?;
            at = to;
            if walk.finding.is_none() {
                let lanes = self.lanes(log, &walk)?;
                let logs = Logs {
                    disk: &disk,
                    said: &said,
                    before: seen.before.as_deref(),
                };
                (waiting, compared) =
                    self.compare(&logs, &lanes, &mut walk, &mut positions, compared)?;
            }
            if at == said.size {
                grew = frontier.root() == said.root;
                break;
            }
        }
        if !grew {
            return Err(match prefix(&disk, &said, seen.size).map_err(unreadable)? {
                // The signed entries are all there, and they are not those that were seen.
                Some(prefix) if prefix != seen.root => refuse(self, ("WITNESS_LOG_FORKED", sizes)),
                _ => WitnessError::Altered { origin },
            });
        }
        if let Some(finding) = walk.finding.take() {
            return Err(refuse(self, finding));
        }
        let entries = said.size - seen.size;
        let changed = entries > 0 || positions != seen.positions;
        (seen.size, seen.root) = (said.size, said.root);
        (seen.chains, seen.positions) = (walk.chains, positions);
        if entries > 0 {
            seen.note = note.to_string();
        }
        if changed {
            self.states.save(log, &seen)?;
        }
        Ok(Outcome {
            origin,
            size: said.size,
            root: said.root,
            entries,
            compared,
            waiting,
            breaks: walk.breaks,
            broken: walk.broken,
            cosigned: false,
            ranges: Vec::new(),
        })
    }

    /// The checkpoint that is offered to all witnesses, else the newest.
    fn target(
        &self,
        disk: &Reading<'_>,
        seen: Option<&Seen>,
    ) -> Result<(Note, Checkpoint), WitnessError> {
        let read = |path| {
            disk.read(path).map_err(|error| WitnessError::Unreadable {
                log: disk.log.to_owned(),
                source: error.into(),
            })
        };
        // In this order: what is offered was the newest before.
        let offered = read(OFFERED)?;
        let newest = read(CHECKPOINT)?.ok_or_else(|| WitnessError::Checkpoint {
            log: disk.log.to_owned(),
        })?;
        let (note, _, said) = self.signed(&newest, disk.log)?;
        let seen = seen.map_or(0, |seen| seen.size);
        if let Some(Ok((offer, _, offered))) = offered.map(|bytes| self.signed(&bytes, disk.log)) {
            let fits = said.size >= seen && (seen..=said.size).contains(&offered.size);
            // Nobody offers a newer one: the ledger's side does not run.
            let last = self.published.get(disk.log);
            let stale = last
                .is_some_and(|(size, since)| *size == offered.size && since.elapsed() > HOLD_OFFER);
            let good = fits && !stale;
            if good && (offered.size < said.size || offered.root == said.root) {
                return Ok((offer, offered));
            }
        }
        Ok((note, said))
    }

    /// Where a log begins that was never seen: behind the shard's log before it.
    fn first(
        &self,
        disk: &Reading<'_>,
        origin: &str,
        size: u64,
    ) -> Result<(Seen, Opened), WitnessError> {
        let before = self.neighbours(disk.log)?.0;
        let before = match before {
            Some(log) => {
                // What follows a log that was refused is not better.
                if let Some(refusal) = self.states.refusal(&log, &self.origin(&log)?)? {
                    return Err(WitnessError::Refused(Box::new(refusal)));
                }
                self.states.load(&log)?.map(|seen| (log, seen))
            }
            None => None,
        };
        let opened = before
            .as_ref()
            .map_or_else(Opened::default, |(_, seen)| Opened {
                origin: seen.origin.clone(),
                size: seen.size,
                root: seen.root,
            });
        let entry = Stored::new(disk, size).entry(0);
        let entry = entry.map_err(|source| WitnessError::Unreadable {
            log: disk.log.to_owned(),
            source,
        })?;
        // Not verified yet: it can only make the witness wait.
        if let Ok(Entry::Opened(is)) = Entry::read(&entry) {
            let unknown = before.is_none() && !is.origin.is_empty();
            if unknown || (is.origin == opened.origin && is.size > opened.size) {
                return Err(WitnessError::BeforeUnknown {
                    origin: origin.to_owned(),
                });
            }
        }
        Ok((Seen::nothing(origin, before), opened))
    }

    /// The shard's logs seen just before and just after this one.
    fn neighbours(&self, log: &str) -> Result<(Option<String>, Option<String>), WitnessError> {
        let shard = |log: &str| log_name(log).map(|(shard, _)| shard);
        let logs = self.states.logs()?;
        let same = || logs.iter().filter(|other| shard(other) == shard(log));
        let before = same().rfind(|other| other.as_str() < log);
        let after = same().find(|other| other.as_str() > log);
        Ok((before.cloned(), after.cloned()))
    }

    fn is_followed(&self, log: &str) -> Result<bool, WitnessError> {
        Ok(self.neighbours(log)?.1.is_some())
    }

    /// Lanes whose deliveries are this log's: all of them, unless other shards have some.
    fn lanes(&self, log: &str, walk: &Walk<'_>) -> Result<Vec<u16>, WitnessError> {
        let shard = |log: &str| log_name(log).map(|(shard, _)| shard);
        let logs = self.states.logs()?;
        let alone = logs.iter().all(|other| shard(other) == shard(log)) && shard(log) == Some(0);
        let lanes = 0..self.options.contract.lanes;
        let known = |lane: &u16| walk.chains.contains_key(&(*lane, AuditWriter::Gateway));
        Ok(lanes.filter(|lane| alone || known(lane)).collect())
    }

    /// Compares the deliveries that the log has reached with what it says about them.
    fn compare(
        &mut self,
        logs: &Logs<'_>,
        lanes: &[u16],
        walk: &mut Walk<'_>,
        positions: &mut std::collections::BTreeMap<String, i64>,
        mut compared: u64,
    ) -> Result<(Waiting, u64), WitnessError> {
        let Self { held, states, .. } = self;
        let (own, department) = (&walk.own, walk.department);
        let mut finding = None;
        let reached = |lane| walk.reached(lane);
        let mut each = |delivery: &Delivery<'_>| {
            compared += 1;
            let topic = &delivery.topic.topic;
            let (lane, offset) = (delivery.lane, delivery.offset);
            let Some(header) = &delivery.header else {
                let what = format!("{topic} {lane}@{offset}");
                finding = Some(("WITNESS_DELIVERY_UNNAMED", what));
                return Ok(false);
            };
            let number = header.audit_number;
            let what = || format!("gateway-{lane}-{number}, {topic} {lane}@{offset}");
            let earlier;
            let logged = match own.get(&(lane, number)) {
                Some(logged) => Some(logged),
                // It came late, or it is not there.
                None => {
                    earlier = logs.find(states, department, lane, number)?;
                    earlier.as_ref()
                }
            };
            let Some(logged) = logged else {
                finding = Some(("WITNESS_DELIVERY_OMITTED", what()));
                return Ok(false);
            };
            let same = header.audit_lane == lane
                && header.agreement == delivery.topic.agreement
                && logged.agreement == header.agreement
                && logged.dataset == delivery.topic.dataset
                && logged.sequence == header.sequence
                && logged.contract == header.contract;
            if !same {
                finding = Some(("WITNESS_DELIVERY_DIFFERS", what()));
            }
            Ok(same)
        };
        let waiting = held.read(lanes, positions, &reached, &mut each)?;
        if let Some((code, what)) = finding {
            walk.find(code, what);
        }
        Ok((waiting, compared))
    }
}
