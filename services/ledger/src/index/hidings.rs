//! The acts of hiding that the logs hold, and how far the logs reach: what the tables are held against.

use std::collections::BTreeMap;

use mz_journal::{Audit, AuditKind, AuditWriter, SubjectTag};

use super::{HIDE_APPROVED, HIDE_REQUESTED, clean};
use crate::find::AuditId;

/// One act, as its audit record says it.
#[derive(Clone, Debug)]
pub(super) struct Hiding {
    pub id: AuditId,
    pub at_ms: i64,
    pub subject: SubjectTag,
    /// The requester's department; the approver's.
    pub consumer: String,
    pub operator: String,
    pub reason: String,
    /// `None` in records of before the acts said it.
    pub terms: Option<[u8; 32]>,
    pub until_ms: Option<i64>,
}

/// How far a shard's logs reach.
#[derive(Clone, Debug, Default)]
struct Reach {
    /// The shard's first log is not there: what was before this time is not known.
    since_ms: Option<i64>,
    /// The first log follows one that is not there, and had no record yet.
    cut: bool,
    newest_ms: Option<i64>,
}

/// All acts of hiding in a ledger's logs.
#[derive(Clone, Debug)]
pub struct Hidings {
    /// Of the ledger.
    shards: u16,
    reach: BTreeMap<u16, Reach>,
    lanes: BTreeMap<u16, i64>,
    pub(super) requests: Vec<Hiding>,
    pub(super) approvals: Vec<Hiding>,
}

impl Hidings {
    /// `shards`: how many the ledger has.
    pub const fn new(shards: u16) -> Self {
        Self {
            shards,
            reach: BTreeMap::new(),
            lanes: BTreeMap::new(),
            requests: Vec::new(),
            approvals: Vec::new(),
        }
    }

    /// The next log of a shard; `follows`: its first entry names a log before it.
    pub fn open(&mut self, origin: &str, follows: bool) {
        let shard = origin
            .rsplit('/')
            .nth(1)
            .and_then(|shard| shard.parse().ok());
        if let Some(shard) = shard {
            let cut = Reach {
                cut: follows,
                ..Reach::default()
            };
            self.reach.entry(shard).or_insert(cut);
        }
    }

    /// The next record of the log that was opened last.
    pub fn take(&mut self, audit: &Audit<'_>) {
        let at_ms = audit.at_ms;
        let newest = self.lanes.entry(audit.lane).or_insert(at_ms);
        *newest = at_ms.max(*newest);
        if let Some(reach) = self.reach.get_mut(&(audit.lane % self.shards.max(1))) {
            if std::mem::take(&mut reach.cut) {
                reach.since_ms = Some(at_ms);
            }
            reach.newest_ms = reach.newest_ms.max(Some(at_ms));
        }
        if audit.kind != AuditKind::Hiding || audit.writer != AuditWriter::Vault {
            return;
        }
        let list = match &*audit.rule {
            HIDE_REQUESTED => &mut self.requests,
            HIDE_APPROVED => &mut self.approvals,
            _ => return,
        };
        let said = audit.event != [0; 32];
        list.push(Hiding {
            id: AuditId {
                writer: audit.writer,
                lane: audit.lane,
                number: audit.number,
            },
            at_ms,
            subject: audit.subject,
            consumer: audit.consumer.to_string(),
            operator: clean::text(&audit.operator).into_owned(),
            reason: clean::text(&audit.reason).into_owned(),
            terms: said.then_some(audit.event),
            until_ms: said.then_some(audit.version_counter.cast_signed()),
        });
    }

    /// Whether the logs are there that would hold the record of a row of this lane and time.
    pub(super) fn covers(&self, lane: u16, at_ms: i64, until_ms: i64) -> bool {
        let reach = self.reach.get(&(lane % self.shards.max(1)));
        match reach {
            None => false,
            Some(Reach { cut: true, .. }) => false,
            // Nothing is hidden longer than that: it was requested later, whatever it says.
            Some(Reach {
                since_ms: Some(since),
                ..
            }) => at_ms >= *since || until_ms > since.saturating_add(super::LONGEST_HIDE_MS),
            Some(_) => true,
        }
    }

    /// Whether the log has gone on for so long after this time that a record of it would be there: its lane
    /// by `settled_ms`, or its shard by `caught_up_ms`.
    pub(super) fn passed(
        &self,
        lane: u16,
        at_ms: i64,
        (settled_ms, caught_up_ms): (i64, i64),
    ) -> bool {
        let shard = self.reach.get(&(lane % self.shards.max(1)));
        let behind = |newest: Option<i64>, by: i64| {
            newest.is_some_and(|newest| at_ms.saturating_add(by) < newest)
        };
        behind(self.lanes.get(&lane).copied(), settled_ms)
            || behind(shard.and_then(|shard| shard.newest_ms), caught_up_ms)
    }
}
