//! The index of grants against the plain definition: keep every copy, join by `Grant::join`, look.

use std::collections::BTreeMap;

use mz_journal::{Grant, GrantId, GrantKind, GrantStatus, SubjectTag};
use mz_policy::{Bar, CLOCK_SKEW_MS, Change, GrantsFull, GrantsIndex, KEEP_EXPIRED_MS, Standing};
use proptest::prelude::*;

const NOW: i64 = 1_000_000_000;

fn name(agreement: u32) -> String {
    format!("police/purpose-{agreement}")
}

fn grant(
    subject: u8,
    id: u8,
    agreement: u32,
    status: GrantStatus,
    counter: u64,
    times: (i64, i64, Option<i64>),
) -> Grant {
    Grant {
        id: GrantId([id; 16]),
        kind: GrantKind::Case,
        subject: SubjectTag([subject; 16]),
        agreement: name(agreement),
        datasets: Vec::new(),
        status,
        counter,
        opened_ms: times.0,
        expires_ms: times.1,
        closed_ms: times.2,
        cause: String::new(),
        reason: String::new(),
        subject_sealed: None,
    }
}

prop_compose! {
    /// Few subjects, ids and values, so that copies meet. An id belongs to one person and agreement,
    /// as a case id does by its derivation.
    fn any_grant()(
        id in 0u8..6,
        status in prop::sample::select(vec![GrantStatus::Open, GrantStatus::Paused, GrantStatus::Closed]),
        counter in 0u64..3,
        opened in prop::sample::select(vec![NOW - 10, NOW + CLOCK_SKEW_MS, NOW + CLOCK_SKEW_MS + 1000]),
        expires in prop::sample::select(vec![NOW + CLOCK_SKEW_MS, NOW + CLOCK_SKEW_MS + 1000, NOW + 99_999]),
        closed in prop::option::of(NOW - 5..NOW + 5),
    ) -> Grant {
        let closed = closed.filter(|_| status == GrantStatus::Closed);
        grant(id % 3, id, u32::from(id / 3), status, counter, (opened, expires, closed))
    }
}

/// Which copies matter, without any index.
#[derive(Default)]
struct Model(BTreeMap<(SubjectTag, GrantId), Grant>);

impl Model {
    fn join(&mut self, copy: Grant) -> Change {
        let key = (copy.subject, copy.id);
        let before = self.0.remove(&key);
        let was = before.as_ref().map(|grant| grant.status);
        let joined = match before {
            Some(before) => before.join(copy),
            None => copy,
        };
        let is = joined.status;
        self.0.insert(key, joined);
        match (was, is) {
            (Some(GrantStatus::Open), GrantStatus::Open) => Change::Kept,
            (Some(GrantStatus::Open), _) => Change::Ended,
            (_, GrantStatus::Open) => Change::Opened,
            _ => Change::Kept,
        }
    }

    fn standing(&self, subject: SubjectTag, agreement: u32) -> Option<bool> {
        let name = name(agreement);
        let mut found = None;
        for grant in self.0.values() {
            if grant.subject == subject && grant.agreement == name {
                let open = grant.in_force(NOW + CLOCK_SKEW_MS);
                found = Some(found.unwrap_or(false) || open);
            }
        }
        found
    }
}

proptest! {
    #[test]
    fn the_index_says_what_the_definition_says(copies in prop::collection::vec(any_grant(), 0..60)) {
        let mut index = GrantsIndex::new(100);
        let mut model = Model::default();
        for copy in copies {
            let change = index.join(&copy).unwrap();
            prop_assert_eq!(change, model.join(copy));
        }
        prop_assert_eq!(index.len(), model.0.len());
        for (subject, agreement) in (0u8..3).flat_map(|s| (0u32..2).map(move |a| (s, a))) {
            let subject = SubjectTag([subject; 16]);
            let ask = index.ask_any(&name(agreement)).unwrap();
            let standing = match index.standing(subject, ask, NOW) {
                Standing::Nothing => None,
                Standing::InForce(_) => Some(true),
                Standing::Barred(..) => Some(false),
            };
            prop_assert_eq!(standing, model.standing(subject, agreement));
        }
        for ((subject, id), grant) in &model.0 {
            let held = index.get(*subject, *id).unwrap();
            prop_assert_eq!(held.status, grant.status);
            prop_assert_eq!((held.kind, held.counter), (grant.kind, grant.counter));
            // What is closed has no times that matter.
            if grant.status == GrantStatus::Closed {
                continue;
            }
            // Whole seconds, never in force for longer than the grant says.
            prop_assert!((0..1000).contains(&(held.opened_ms - grant.opened_ms)));
            prop_assert!((0..1000).contains(&(grant.expires_ms - held.expires_ms)));
        }
    }

    #[test]
    fn the_order_of_copies_does_not_matter(
        copies in prop::collection::vec(any_grant(), 0..20).prop_flat_map(|copies| {
            (Just(copies.clone()), Just(copies).prop_shuffle())
        })
    ) {
        let fill = |copies: &[Grant]| {
            let mut index = GrantsIndex::new(100);
            for copy in copies {
                index.join(copy).unwrap();
            }
            index
        };
        let (one, other) = (fill(&copies.0), fill(&copies.1));
        for id in 0u8..6 {
            let key = (SubjectTag([id % 3; 16]), GrantId([id; 16]));
            // Agreements are numbered as they are met: not by that.
            let said = |index: &GrantsIndex| {
                let held = index.get(key.0, key.1)?;
                Some((held.status, held.counter, held.opened_ms, held.expires_ms))
            };
            prop_assert_eq!(said(&one), said(&other));
        }
    }
}

#[test]
fn a_bar_names_what_could_most_easily_change() {
    let mut index = GrantsIndex::new(10);
    let subject = SubjectTag([1; 16]);
    let [ask, other] = [0, 1].map(|at| index.ask_any(&name(at)).unwrap());
    let standing = |index: &GrantsIndex| index.standing(subject, ask, NOW);
    assert_eq!(standing(&index), Standing::Nothing);
    let later = NOW + 99_999;
    for (id, status, times, bar) in [
        (
            1,
            GrantStatus::Closed,
            (NOW - 9, later, Some(NOW - 1)),
            Bar::Closed,
        ),
        (2, GrantStatus::Open, (NOW - 9, NOW - 1, None), Bar::Expired),
        (
            3,
            GrantStatus::Open,
            (later, later + 1, None),
            Bar::NotBegun,
        ),
        (4, GrantStatus::Paused, (NOW - 9, later, None), Bar::Paused),
    ] {
        index.join(&grant(1, id, 0, status, 0, times)).unwrap();
        assert_eq!(standing(&index), Standing::Barred(GrantId([id; 16]), bar));
    }
    let open = grant(1, 5, 0, GrantStatus::Open, 0, (NOW - 9, later, None));
    index.join(&open).unwrap();
    assert_eq!(standing(&index), Standing::InForce(GrantId([5; 16])));
    assert_eq!(index.standing(subject, other, NOW), Standing::Nothing);
}

#[test]
fn a_grant_of_some_datasets_covers_those_alone() {
    let mut index = GrantsIndex::new(10);
    let subject = SubjectTag([1; 16]);
    let dataset = |at: usize| format!("hrss.dataset-{at}.v1");
    let times = (NOW - 9, NOW + 99_999, None);
    let mut some = grant(1, 1, 0, GrantStatus::Open, 0, times);
    some.datasets = (0..20).step_by(2).map(dataset).collect();
    assert_eq!(index.join(&some), Ok(Change::Opened));
    for at in 0..20 {
        let ask = index.ask(&name(0), &dataset(at)).unwrap();
        let covered = index.standing(subject, ask, NOW) != Standing::Nothing;
        assert_eq!(covered, at % 2 == 0, "{at}");
    }
    let any = index.ask_any(&name(0)).unwrap();
    assert_eq!(
        index.standing(subject, any, NOW),
        Standing::InForce(some.id)
    );
    assert!(!index.has_all(subject, any, NOW));
    // More of it: what was published earlier is due.
    some.counter = 1;
    some.datasets = (0..20).map(dataset).collect();
    assert_eq!(index.join(&some), Ok(Change::Opened));
    // Beyond what a grant can single out, only a grant of everything covers.
    let last = index.ask(&name(0), &dataset(19)).unwrap();
    assert_eq!(index.standing(subject, last, NOW), Standing::Nothing);
    some.counter = 2;
    some.datasets.clear();
    index.join(&some).unwrap();
    assert_eq!(
        index.standing(subject, last, NOW),
        Standing::InForce(some.id)
    );
    assert!(index.has_all(subject, any, NOW));
    // The same again changes nothing, unless its owner wants the facts once more.
    some.counter = 3;
    assert_eq!(index.join(&some), Ok(Change::Kept));
    some.counter = 4;
    some.reason = mz_policy::REFETCH.to_owned();
    assert_eq!(index.join(&some), Ok(Change::Opened));
}

#[test]
fn a_full_index_refuses_rather_than_forgets() {
    let mut index = GrantsIndex::new(1);
    let one = grant(1, 1, 0, GrantStatus::Open, 0, (NOW, NOW + 1, None));
    index.join(&one).unwrap();
    let two = grant(2, 2, 0, GrantStatus::Open, 0, (NOW, NOW + 1, None));
    assert_eq!(index.join(&two), Err(GrantsFull { limit: 1 }));
    let change = index.join(&Grant { counter: 1, ..one }).unwrap();
    assert_eq!(change, Change::Kept, "a known grant may still change");
}

#[test]
fn only_what_expired_long_ago_is_forgotten() {
    let mut index = GrantsIndex::new(10);
    for (id, expires) in [
        (1, NOW),
        (2, NOW + 1000),
        (3, NOW),
        (4, NOW + KEEP_EXPIRED_MS),
    ] {
        let copy = grant(id % 2, id, 0, GrantStatus::Closed, 0, (0, expires, Some(0)));
        index.join(&copy).unwrap();
    }
    assert_eq!(index.forget_expired(NOW + KEEP_EXPIRED_MS), 2);
    assert_eq!(index.len(), 2);
    assert!(index.get(SubjectTag([0; 16]), GrantId([2; 16])).is_some());
    assert!(index.get(SubjectTag([0; 16]), GrantId([4; 16])).is_some());
    assert!(index.get(SubjectTag([1; 16]), GrantId([3; 16])).is_none());
}
