//! What was published before a grant: asked of the vault, decided like any event, delivered by the
//! gateway. One backfill per grant, several attempts; only the last attempt counts.

use mz_bus::TxProducer;
use mz_journal::{
    Fence, Fetch, Grant, GrantId, OpenBackfill, Record as _, RecordTag, SubjectTag, topics,
};
use mz_policy::{Asks, GrantsIndex, Held};
use mz_seal::Version;
use rustc_hash::FxHashMap;

use crate::lane::Lane;
use crate::outbox::Halt;
use crate::plan::Plan;

/// Open backfills of one lane at most. The state record names each of them, so this bounds it
/// (about 60 bytes each); further grants come into force as earlier ones are done.
pub(crate) const MAX_OPEN_BACKFILLS: usize = 2_048;
/// Records whose newest decided version is remembered per backfill. Beyond it the backfill is
/// asked again with later fences.
const MAX_DECIDED: usize = 4_096;

/// One grant whose earlier facts are on their way.
#[derive(Debug)]
pub(crate) struct Backfill {
    pub open: OpenBackfill,
    /// Facts of this attempt that came.
    pub received: u64,
    /// Newest version decided since the fences, by source and record.
    decided: FxHashMap<(usize, RecordTag), Version>,
    /// Must be asked again: a new owner, or too much was decided meanwhile.
    stale: bool,
}

impl Backfill {
    fn new(open: OpenBackfill, stale: bool) -> Self {
        Self {
            open,
            received: 0,
            decided: FxHashMap::default(),
            stale,
        }
    }
}

/// All of one lane.
#[derive(Debug, Default)]
pub(crate) struct Backfills {
    by_grant: FxHashMap<GrantId, Backfill>,
    by_subject: FxHashMap<SubjectTag, Vec<GrantId>>,
    stale: usize,
}

impl Backfills {
    /// A new owner asks again for each: replies to its predecessor say nothing about what it has
    /// decided itself.
    pub(crate) fn restore(open: &[OpenBackfill]) -> Self {
        let mut all = Self::default();
        for open in open {
            all.insert(Backfill::new(open.clone(), true));
        }
        all
    }

    /// As the lane's state records it, in a stable order.
    pub(crate) fn record(&self) -> Vec<OpenBackfill> {
        let mut open: Vec<_> = self.by_grant.values().map(|b| b.open.clone()).collect();
        open.sort_unstable_by_key(|open| open.grant);
        open
    }

    pub(crate) fn len(&self) -> usize {
        self.by_grant.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_grant.is_empty()
    }

    /// Some must be asked (again).
    pub(crate) fn any_stale(&self) -> bool {
        self.stale > 0
    }

    pub(crate) fn has_room(&self) -> bool {
        self.len() < MAX_OPEN_BACKFILLS
    }

    fn insert(&mut self, backfill: Backfill) {
        let grant = backfill.open.grant;
        self.stale += usize::from(backfill.stale);
        self.by_subject
            .entry(backfill.open.subject)
            .or_default()
            .push(grant);
        self.by_grant.insert(grant, backfill);
    }

    /// Notes that earlier facts of `grant` are due; asked at the next [`Self::ask`].
    pub(crate) fn open(&mut self, grant: &Grant) {
        match self.by_grant.get(&grant.id) {
            // Resumed while its backfill was still open: what came in between is due too.
            Some(_) => self.again(grant.id),
            None => {
                let open = OpenBackfill {
                    grant: grant.id,
                    subject: grant.subject,
                    attempt: 0,
                    agreement: grant.agreement.clone(),
                };
                self.insert(Backfill::new(open, true));
            }
        }
    }

    /// Asks once more: what came was not all.
    pub(crate) fn again(&mut self, grant: GrantId) {
        if let Some(backfill) = self.by_grant.get_mut(&grant)
            && !backfill.stale
        {
            backfill.stale = true;
            self.stale += 1;
        }
    }

    /// Under which agreement its facts are decided.
    pub(crate) fn agreement_of(&self, grant: GrantId) -> Option<&str> {
        let backfill = self.by_grant.get(&grant)?;
        Some(&backfill.open.agreement)
    }

    pub(crate) fn close(&mut self, grant: GrantId) -> Option<Backfill> {
        let closed = self.by_grant.remove(&grant)?;
        self.stale -= usize::from(closed.stale);
        if let Some(grants) = self.by_subject.get_mut(&closed.open.subject) {
            grants.retain(|id| *id != grant);
            if grants.is_empty() {
                self.by_subject.remove(&closed.open.subject);
            }
        }
        Some(closed)
    }

    /// The backfill that a reply belongs to; `None` for another attempt's.
    pub(crate) fn of_reply(&mut self, grant: GrantId, attempt: u32) -> Option<&mut Backfill> {
        self.by_grant
            .get_mut(&grant)
            .filter(|backfill| backfill.open.attempt == attempt && !backfill.stale)
    }

    /// An event about the person was decided: facts that are not newer must not follow it.
    pub(crate) fn decided(
        &mut self,
        subject: SubjectTag,
        source: usize,
        record: RecordTag,
        version: Version,
    ) {
        let Some(grants) = self.by_subject.get(&subject) else {
            return;
        };
        for grant in grants {
            let Some(backfill) = self.by_grant.get_mut(grant) else {
                continue;
            };
            if backfill.decided.len() >= MAX_DECIDED && !backfill.stale {
                backfill.stale = true;
                self.stale += 1;
            }
            if !backfill.stale {
                let newest = backfill.decided.entry((source, record)).or_insert(version);
                *newest = version.max(*newest);
            }
        }
    }

    /// The same under another contract. What was decided of a dataset that it doesn't have matters to
    /// nobody any more.
    pub(crate) fn remap(&mut self, from: &Plan, to: &Plan) {
        let moved = |at: usize| to.source_ix(&from.sources[at].topic);
        for backfill in self.by_grant.values_mut() {
            let decided = std::mem::take(&mut backfill.decided).into_iter();
            backfill.decided = decided
                .filter_map(|((source, record), version)| Some(((moved(source)?, record), version)))
                .collect();
        }
    }

    /// Writes a request for each that must be asked: everything below the lane's positions, of what the
    /// grant covers. Answers how many were written.
    pub(crate) fn ask(
        lane: &mut Lane,
        plan: &Plan,
        (grants, asks): (&GrantsIndex, &Asks),
        producer: &mut TxProducer,
    ) -> Result<u64, Halt> {
        if !lane.backfills.any_stale() {
            return Ok(0);
        }
        let mut asked = 0;
        let mut void = Vec::new();
        for backfill in lane.backfills.by_grant.values_mut() {
            if !backfill.stale {
                continue;
            }
            backfill.stale = false;
            backfill.received = 0;
            backfill.decided.clear();
            backfill.open.attempt += 1;
            let open = &backfill.open;
            let held = grants.get(open.subject, open.grant);
            let fences: Vec<Fence> = covered(plan, asks, &open.agreement, held)
                .filter_map(|source| {
                    Some(Fence {
                        topic: plan.sources[source].topic.clone(),
                        offset: lane.positions[source].filter(|offset| *offset > 0)?,
                    })
                })
                .collect();
            if fences.is_empty() {
                // Nothing was ever processed that the grant could open.
                void.push(backfill.open.grant);
                continue;
            }
            let fetch = Fetch {
                grant: backfill.open.grant,
                attempt: backfill.open.attempt,
                subject: backfill.open.subject,
                agreement: backfill.open.agreement.clone(),
                datasets: fences
                    .iter()
                    .filter_map(|fence| fence.topic.strip_prefix("src.").map(str::to_owned))
                    .collect(),
                fences,
            };
            producer.send(
                topics::FETCH,
                i32::from(lane.lane),
                &fetch.subject.0,
                Some(&fetch.encode()),
                &[],
            )?;
            asked += 1;
        }
        lane.backfills.stale = 0;
        for grant in void {
            lane.backfills.close(grant);
        }
        lane.touched = true;
        Ok(asked)
    }
}

/// Sources of the agreement's case sections that a grant covers, in force or not: what is sent is decided
/// when it comes.
fn covered(
    plan: &Plan,
    asks: &Asks,
    agreement: &str,
    held: Option<Held>,
) -> impl Iterator<Item = usize> {
    let at = plan.agreement_ix(agreement).map(|at| at as usize);
    let sources = at.map_or(&[][..], |at| &plan.agreements[at].case_sources);
    sources.iter().filter_map(move |case| {
        let section = &plan.agreement(at?).sections[case.section];
        held?.answers(asks.section(section)?).then_some(case.source)
    })
}

impl Backfill {
    /// Whether a fact is due. Counts it, and takes it as decided.
    pub(crate) fn take(&mut self, source: usize, record: RecordTag, version: Version) -> bool {
        match self.decided.get(&(source, record)) {
            Some(newest) if *newest >= version => false,
            _ => {
                self.decided.insert((source, record), version);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(grant: u8, subject: u8) -> OpenBackfill {
        OpenBackfill {
            grant: GrantId([grant; 16]),
            subject: SubjectTag([subject; 16]),
            attempt: 3,
            agreement: "police/talent-settlement".to_owned(),
        }
    }

    fn version(counter: u64) -> Version {
        Version { epoch: 1, counter }
    }

    #[test]
    fn a_fact_never_follows_what_was_decided_newer() {
        let (grant, subject) = (GrantId([1; 16]), SubjectTag([7; 16]));
        let record = RecordTag([9; 16]);
        let mut all = Backfills::default();
        all.insert(Backfill::new(open(1, 7), false));
        all.decided(subject, 0, record, version(5));
        all.decided(subject, 0, record, version(4));
        let backfill = all.of_reply(grant, 3).unwrap();
        assert!(!backfill.take(0, record, version(4)));
        assert!(!backfill.take(0, record, version(5)));
        assert!(backfill.take(0, record, version(6)));
        assert!(!backfill.take(0, record, version(6)), "twice is once");
        assert!(backfill.take(1, record, version(1)), "another dataset");
        assert!(backfill.take(
            0,
            RecordTag([8; 16]),
            Version {
                epoch: 2,
                counter: 1
            }
        ));
    }

    #[test]
    fn only_the_last_attempt_counts() {
        let mut all = Backfills::restore(&[open(1, 7), open(2, 7)]);
        assert!(all.any_stale());
        assert!(
            all.of_reply(GrantId([1; 16]), 3).is_none(),
            "must be asked again"
        );
        assert!(all.close(GrantId([1; 16])).is_some());
        assert!(all.close(GrantId([1; 16])).is_none());
        assert_eq!(all.record(), [open(2, 7)]);
        assert!(all.close(GrantId([2; 16])).is_some());
        assert!(all.is_empty() && all.by_subject.is_empty() && !all.any_stale());
    }

    #[test]
    fn too_much_decided_means_asking_again() {
        let mut all = Backfills::default();
        all.insert(Backfill::new(open(1, 7), false));
        for record in 0..=MAX_DECIDED as u32 {
            let mut tag = [0; 16];
            tag[..4].copy_from_slice(&record.to_be_bytes());
            all.decided(SubjectTag([7; 16]), 0, RecordTag(tag), version(1));
        }
        assert!(all.any_stale());
    }
}
