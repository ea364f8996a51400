//! When a change holds everywhere. A change at `bus.grants[lane]@r` is enforced when, for the gateway
//! and for the vault alike, either the lane's committed state shows a grants position beyond r that
//! was recorded at the start of its transaction (so whatever was decided before is closed), or the
//! owner was shut out after r had been committed (so that it can commit nothing, and whoever comes next
//! reads r before it decides). Pure bookkeeping: reads nothing, waits for nobody.

use std::sync::{Mutex, PoisonError};

use mz_journal::GrantId;
use mz_journal::topics::SlotKind;
use rustc_hash::FxHashMap;
use tokio::sync::watch;

/// The kinds of slots that decide.
pub(crate) const DECIDING: [SlotKind; 2] = [SlotKind::Gateway, SlotKind::Vault];

/// What is waited for in one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// This state of a grant, or a later one.
    Grant { id: GrantId, counter: u64 },
    /// This contract version, or a later one.
    Version(u64),
    /// A place that is known.
    Offset(i64),
}

#[derive(Clone, Debug)]
struct Lane {
    /// Per deciding kind: newest committed grants position.
    shown: [i64; 2],
    /// Per deciding kind: changes below this offset were committed when the owner was shut out.
    fenced: [i64; 2],
    /// Where the newest contract version was put in force.
    version: Option<(u64, i64)>,
    /// Grants that somebody waits for: counter wanted, and where it was read.
    watched: FxHashMap<GrantId, Watched>,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    counter: u64,
    offset: Option<i64>,
    waiting: u32,
}

pub(crate) struct Barrier {
    lanes: Mutex<Vec<Lane>>,
    slots: u32,
    changed: watch::Sender<u64>,
}

/// How a change stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Where it lies; `None` while it was not read back.
    pub offset: Option<i64>,
    /// Slots that have not shown it.
    pub missing: Vec<(SlotKind, u32)>,
    /// Slots for which it holds because the owner was shut out.
    pub fenced: Vec<(SlotKind, u32)>,
}

impl Standing {
    pub fn holds(&self) -> bool {
        self.offset.is_some() && self.missing.is_empty()
    }
}

fn index(kind: SlotKind) -> Option<usize> {
    DECIDING.into_iter().position(|known| known == kind)
}

impl Barrier {
    pub fn new(lanes: u16, slots: u32) -> Self {
        let lane = Lane {
            shown: [-1; 2],
            fenced: [-1; 2],
            version: None,
            watched: FxHashMap::default(),
        };
        Self {
            lanes: Mutex::new(vec![lane; usize::from(lanes)]),
            slots: slots.max(1),
            changed: watch::Sender::new(0),
        }
    }

    /// Rises whenever something was shown.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn with<T>(&self, lane: u16, act: impl FnOnce(&mut Lane) -> T) -> Option<T> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.get_mut(usize::from(lane)).map(act)
    }

    fn tell(&self) {
        self.changed
            .send_modify(|turn| *turn = turn.wrapping_add(1));
    }

    /// A slot's committed state said how far it had read the lane's grants when it began.
    pub fn shown(&self, kind: SlotKind, lane: u16, grants_position: i64) {
        let Some(at) = index(kind) else { return };
        let moved = self.with(lane, |lane| {
            let moved = grants_position > lane.shown[at];
            lane.shown[at] = lane.shown[at].max(grants_position);
            moved
        });
        if moved == Some(true) {
            self.tell();
        }
    }

    /// Rises whenever an owner of this slot has shown a later position in some lane.
    pub fn progress(&self, (kind, slot): (SlotKind, u32)) -> i64 {
        let Some(at) = index(kind) else { return 0 };
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let of_slot = (0_u32..).zip(lanes.iter());
        of_slot
            .filter(|(lane, _)| lane % self.slots == slot)
            .map(|(_, lane)| lane.shown[at])
            .sum()
    }

    /// The owner was shut out; changes below `offset` had been committed before.
    pub fn fenced(&self, kind: SlotKind, lane: u16, offset: i64) {
        let Some(at) = index(kind) else { return };
        self.with(lane, |lane| lane.fenced[at] = lane.fenced[at].max(offset));
        self.tell();
    }

    /// A grant was read back from the lane.
    pub fn read_grant(&self, lane: u16, offset: i64, id: GrantId, counter: u64) {
        let found = self.with(lane, |lane| match lane.watched.get_mut(&id) {
            Some(watched) if watched.offset.is_none() && counter >= watched.counter => {
                watched.offset = Some(offset);
                true
            }
            _ => false,
        });
        if found == Some(true) {
            self.tell();
        }
    }

    /// A contract version was read back from the lane.
    pub fn read_version(&self, lane: u16, offset: i64, version: u64) {
        self.with(lane, |lane| {
            if lane.version.is_none_or(|(known, _)| known < version) {
                lane.version = Some((version, offset));
            }
        });
        self.tell();
    }

    /// Somebody will wait for this state of a grant: remember where it is read. Call before it can be.
    pub fn watch(&self, lane: u16, id: GrantId, counter: u64) {
        self.with(lane, |lane| {
            let watched = lane.watched.entry(id).or_insert(Watched {
                counter,
                offset: None,
                waiting: 0,
            });
            if counter > watched.counter {
                watched.counter = counter;
                watched.offset = None;
            }
            watched.waiting += 1;
        });
    }

    /// The wait is over.
    pub fn unwatch(&self, lane: u16, id: GrantId) {
        self.with(lane, |lane| {
            if let Some(watched) = lane.watched.get_mut(&id) {
                watched.waiting -= 1;
                if watched.waiting == 0 {
                    lane.watched.remove(&id);
                }
            }
        });
    }

    /// How what is awaited stands now.
    pub fn standing(&self, lane: u16, awaited: Awaited) -> Standing {
        let slot = u32::from(lane) % self.slots;
        let found = self.with(lane, |lane| {
            let offset = match awaited {
                Awaited::Grant { id, counter } => lane
                    .watched
                    .get(&id)
                    .filter(|watched| watched.counter >= counter)
                    .and_then(|watched| watched.offset),
                Awaited::Version(wanted) => lane
                    .version
                    .filter(|(version, _)| *version >= wanted)
                    .map(|(_, offset)| offset),
                Awaited::Offset(offset) => Some(offset),
            };
            let (mut missing, mut fenced) = (Vec::new(), Vec::new());
            if let Some(offset) = offset {
                for (at, kind) in DECIDING.into_iter().enumerate() {
                    if lane.shown[at] > offset {
                        continue;
                    }
                    if lane.fenced[at] > offset {
                        fenced.push((kind, slot));
                    } else {
                        missing.push((kind, slot));
                    }
                }
            }
            Standing {
                offset,
                missing,
                fenced,
            }
        });
        found.unwrap_or(Standing {
            offset: None,
            missing: Vec::new(),
            fenced: Vec::new(),
        })
    }
}

/// `gw-1`.
pub(crate) fn slot_name((kind, slot): (SlotKind, u32)) -> String {
    format!("{}-{slot}", kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: GrantId = GrantId([7; 16]);

    #[test]
    fn a_change_holds_when_both_kinds_have_shown_a_later_position() {
        let barrier = Barrier::new(4, 2);
        let awaited = Awaited::Grant { id: ID, counter: 2 };
        barrier.watch(3, ID, 2);
        assert_eq!(barrier.standing(3, awaited).offset, None);
        barrier.read_grant(3, 10, ID, 1);
        assert_eq!(
            barrier.standing(3, awaited).offset,
            None,
            "an older state of it"
        );
        barrier.read_grant(3, 12, ID, 2);
        let standing = barrier.standing(3, awaited);
        assert_eq!(standing.offset, Some(12));
        assert_eq!(
            standing.missing,
            [(SlotKind::Gateway, 1), (SlotKind::Vault, 1)]
        );
        // Read up to the change, not past it.
        barrier.shown(SlotKind::Gateway, 3, 12);
        barrier.shown(SlotKind::Vault, 3, 13);
        assert_eq!(
            barrier.standing(3, awaited).missing,
            [(SlotKind::Gateway, 1)]
        );
        barrier.shown(SlotKind::Gateway, 3, 13);
        assert!(barrier.standing(3, awaited).holds());
        // A state that was read late never takes anything back.
        barrier.shown(SlotKind::Gateway, 3, 5);
        assert!(barrier.standing(3, awaited).holds());
        // Another lane says nothing about this one.
        assert!(!barrier.standing(1, Awaited::Offset(12)).holds());
    }

    #[test]
    fn an_owner_that_was_shut_out_counts_for_what_was_committed_before() {
        let barrier = Barrier::new(1, 1);
        barrier.shown(SlotKind::Vault, 0, 100);
        barrier.fenced(SlotKind::Gateway, 0, 50);
        assert!(barrier.standing(0, Awaited::Offset(49)).holds());
        assert!(!barrier.standing(0, Awaited::Offset(50)).holds());
        assert_eq!(
            barrier.standing(0, Awaited::Offset(49)).fenced,
            [(SlotKind::Gateway, 0)]
        );
    }

    #[test]
    fn progress_is_of_one_slot_and_kind() {
        let barrier = Barrier::new(4, 2);
        let slot = (SlotKind::Gateway, 1);
        let before = barrier.progress(slot);
        barrier.shown(SlotKind::Gateway, 0, 9);
        barrier.shown(SlotKind::Vault, 1, 9);
        barrier.fenced(SlotKind::Gateway, 1, 9);
        assert_eq!(barrier.progress(slot), before);
        barrier.shown(SlotKind::Gateway, 3, 2);
        assert!(barrier.progress(slot) > before);
    }

    #[test]
    fn two_who_wait_for_one_grant_do_not_disturb_each_other() {
        let barrier = Barrier::new(1, 1);
        barrier.watch(0, ID, 2);
        barrier.read_grant(0, 5, ID, 2);
        barrier.watch(0, ID, 3);
        assert_eq!(
            barrier
                .standing(0, Awaited::Grant { id: ID, counter: 2 })
                .offset,
            None,
            "the later state decides for both"
        );
        barrier.read_grant(0, 9, ID, 3);
        assert_eq!(
            barrier
                .standing(0, Awaited::Grant { id: ID, counter: 2 })
                .offset,
            Some(9)
        );
        barrier.unwatch(0, ID);
        assert_eq!(
            barrier
                .standing(0, Awaited::Grant { id: ID, counter: 3 })
                .offset,
            Some(9)
        );
        barrier.unwatch(0, ID);
        assert_eq!(
            barrier
                .standing(0, Awaited::Grant { id: ID, counter: 3 })
                .offset,
            None
        );
    }

    #[test]
    fn a_version_holds_lane_by_lane() {
        let barrier = Barrier::new(2, 1);
        barrier.read_version(0, 7, 3);
        barrier.read_version(0, 6, 2);
        assert_eq!(barrier.standing(0, Awaited::Version(3)).offset, Some(7));
        assert_eq!(barrier.standing(0, Awaited::Version(4)).offset, None);
        assert_eq!(barrier.standing(1, Awaited::Version(3)).offset, None);
    }
}
