//! Grants as they were at a moment: every copy that `bus.grants` still has, in the order in which each
//! came into force. The topic is compacted, so older copies may be gone; what they said is then taken
//! from the ones that are left.

use mz_journal::{Grant, GrantId, GrantRef, GrantStatus, SubjectTag};
use mz_policy::REFETCH;
use rustc_hash::FxHashMap;

/// Length of a cause that is an event's digest.
const EVENT_CAUSE: usize = 64;

/// A copy of a grant, and since when it held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub at_ms: i64,
    pub grant: Grant,
}

/// Copies as they are read, in the order of the log.
#[derive(Default)]
pub(super) struct Collected(FxHashMap<(SubjectTag, GrantId), Vec<Copy>>);

impl Collected {
    /// `written_ms`: when the record was written. Slots join it shortly after; the times in the grant may
    /// be older.
    pub(super) fn add(&mut self, written_ms: i64, grant: &GrantRef<'_>) {
        let grant = Grant {
            id: grant.id,
            kind: grant.kind,
            subject: grant.subject,
            agreement: grant.agreement.to_owned(),
            datasets: grant.datasets.iter().map(|id| (*id).to_owned()).collect(),
            status: grant.status,
            counter: grant.counter,
            opened_ms: grant.opened_ms,
            expires_ms: grant.expires_ms,
            closed_ms: grant.closed_ms,
            // The event, if it was one, was decided before it changed the grant.
            cause: match grant.cause.len() {
                EVENT_CAUSE => grant.cause.to_owned(),
                _ => String::new(),
            },
            reason: match grant.reason {
                REFETCH => REFETCH.to_owned(),
                _ => String::new(),
            },
            subject_sealed: None,
        };
        let copies = self.0.entry((grant.subject, grant.id)).or_default();
        copies.push(Copy {
            at_ms: written_ms,
            grant,
        });
    }

    pub(super) fn history(self) -> History {
        let mut by_subject: FxHashMap<SubjectTag, Vec<Copy>> = FxHashMap::default();
        for ((subject, _), copies) in self.0 {
            let all = by_subject.entry(subject).or_default();
            all.extend(opening(copies.first()));
            all.extend(copies);
        }
        for copies in by_subject.values_mut() {
            copies.sort_by_key(|copy| copy.at_ms);
        }
        History(by_subject)
    }
}

/// The opening that compaction took away: the first copy that is left is a later change. Between the two
/// it may have been paused; that can't be told any more.
fn opening(first: Option<&Copy>) -> Option<Copy> {
    let first = &first?.grant;
    (first.counter > 1).then(|| Copy {
        at_ms: first.opened_ms,
        grant: Grant {
            status: GrantStatus::Open,
            counter: 0,
            closed_ms: None,
            cause: String::new(),
            reason: String::new(),
            ..first.clone()
        },
    })
}

/// What is known of all grants of one lane.
pub(super) struct History(FxHashMap<SubjectTag, Vec<Copy>>);

impl History {
    /// The person's copies, earliest first.
    pub(super) fn of(&self, subject: SubjectTag) -> &[Copy] {
        self.0.get(&subject).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mz_journal::GrantKind;

    fn grant(status: GrantStatus, counter: u64, closed_ms: Option<i64>) -> Grant {
        Grant {
            id: GrantId([1; 16]),
            kind: GrantKind::Case,
            subject: SubjectTag([7; 16]),
            agreement: "police/talent-settlement".to_owned(),
            datasets: Vec::new(),
            status,
            counter,
            opened_ms: 1_000,
            expires_ms: 9_000,
            closed_ms,
            cause: "something".to_owned(),
            reason: "CASE_OPENED_BY_EVENT".to_owned(),
            subject_sealed: None,
        }
    }

    fn told(copies: &[(i64, Grant)]) -> Vec<(i64, GrantStatus, u64)> {
        let mut collected = Collected::default();
        for (written, grant) in copies {
            collected.add(*written, &grant.into());
        }
        let history = collected.history();
        let all = history.of(SubjectTag([7; 16])).iter();
        all.map(|copy| (copy.at_ms, copy.grant.status, copy.grant.counter))
            .collect()
    }

    #[test]
    fn whole_histories_are_taken_as_written() {
        let copies = [
            (1_050, grant(GrantStatus::Open, 1, None)),
            (2_000, grant(GrantStatus::Paused, 2, None)),
            (3_010, grant(GrantStatus::Closed, 3, Some(3_000))),
        ];
        let expected = [
            (1_050, GrantStatus::Open, 1),
            (2_000, GrantStatus::Paused, 2),
            (3_010, GrantStatus::Closed, 3),
        ];
        assert_eq!(told(&copies), expected);
    }

    #[test]
    fn what_compaction_left_tells_when_it_was_opened() {
        let copies = [(3_010, grant(GrantStatus::Closed, 3, Some(3_000)))];
        let expected = [
            (1_000, GrantStatus::Open, 0),
            (3_010, GrantStatus::Closed, 3),
        ];
        assert_eq!(told(&copies), expected);
    }

    #[test]
    fn strangers_have_none() {
        assert!(told(&[]).is_empty());
    }
}
