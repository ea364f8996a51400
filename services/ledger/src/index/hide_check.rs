//! Hides held against the audit records of their two acts: whoever can write to the database can insert,
//! alter and delete a row, but nobody can make the record that a genuine request or approval leaves.

use std::collections::HashSet;

use serde::Serialize;

use super::hide_fit::{
    Request, altered_approval, altered_request, approves, approves_alike, is_alike, is_exact,
    same_act, same_person,
};
use super::hide_rows::{Asked, InForce, Said};
use super::hidings::{Hiding, Hidings};
use super::{HIDE_CAUGHT_UP_MS, HIDE_SETTLED_MS, Index, IndexError};

const REQUESTS: &str = "hide_request";
const IN_FORCE: &str = "hidden";

/// A row without its record, a record without its row, or one that says something else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HideFault {
    pub code: &'static str,
    pub table: &'static str,
    /// `id` in the table; `None` of a record whose row is gone.
    pub row: Option<i64>,
    /// The act's record in the log, where there is one.
    pub audit_id: Option<String>,
    /// The column that was altered.
    pub column: Option<&'static str>,
}

/// What differs between the hides and the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HideReport {
    /// Rows of both tables.
    pub rows: usize,
    pub faults: Vec<HideFault>,
    /// Rows and records so young that the other side may still come.
    pub waiting: usize,
    /// Rows of a time or shard whose logs are not among these.
    pub unchecked: usize,
}

/// Acts that no row was matched with yet.
struct Acts<'a> {
    all: &'a [Hiding],
    taken: Vec<bool>,
}

impl<'a> Acts<'a> {
    fn new(all: &'a [Hiding]) -> Self {
        Self {
            all,
            taken: vec![false; all.len()],
        }
    }

    /// Takes the act for which `like` is greatest, if it is for any.
    fn take<K: Ord>(&mut self, like: impl Fn(&Hiding) -> Option<K>) -> Option<&'a Hiding> {
        let free = self
            .all
            .iter()
            .enumerate()
            .filter(|(at, _)| !self.taken[*at]);
        let liked = free.filter_map(|(at, act)| Some((like(act)?, at)));
        let (_, at) = liked.max_by(|a, b| a.0.cmp(&b.0))?;
        self.taken[at] = true;
        self.all.get(at)
    }

    /// Acts without a row, unless the same act was tried again and has one.
    fn orphans(&self) -> impl Iterator<Item = &'a Hiding> + '_ {
        let kept: HashSet<_> = self
            .all
            .iter()
            .zip(&self.taken)
            .filter(|(_, taken)| **taken)
            .map(|(act, _)| same_act(act))
            .collect();
        let free = self
            .all
            .iter()
            .zip(&self.taken)
            .filter(|(_, taken)| !**taken);
        free.map(|(act, _)| act)
            .filter(move |act| !kept.contains(&same_act(act)))
    }
}

/// Compares all rows with all acts; `now_ms`: when the rows were read.
pub(super) fn compare(
    asked: &[Asked],
    in_force: &[InForce],
    hidings: &Hidings,
    now_ms: i64,
) -> HideReport {
    let mut check = Check {
        hidings,
        now_ms,
        report: HideReport {
            rows: asked.len() + in_force.len(),
            ..HideReport::default()
        },
    };
    let requested = check.requests(asked);
    check.approvals(asked, &requested, in_force);
    check.report.faults.sort();
    check.report
}

struct Check<'a> {
    hidings: &'a Hidings,
    now_ms: i64,
    report: HideReport,
}

impl<'a> Check<'a> {
    fn fault(
        &mut self,
        code: &'static str,
        (table, row): (&'static str, Option<i64>),
        act: Option<&Hiding>,
        column: Option<&'static str>,
    ) {
        self.report.faults.push(HideFault {
            code,
            table,
            row,
            audit_id: act.map(|act| act.id.to_string()),
            column,
        });
    }

    /// A row without its record: a fault, unless the log has not come so far or is not there.
    fn without(&mut self, code: &'static str, place: (&'static str, i64), lane: u16, said: &Said) {
        let (at, until) = (said.at.timestamp_millis(), said.until.timestamp_millis());
        let future = at > self.now_ms.saturating_add(HIDE_SETTLED_MS);
        if !future && !self.hidings.covers(lane, at, until) {
            self.report.unchecked += 1;
        } else if !future
            && !self
                .hidings
                .passed(lane, at, (HIDE_SETTLED_MS, HIDE_CAUGHT_UP_MS))
        {
            self.report.waiting += 1;
        } else {
            self.fault(code, (place.0, Some(place.1)), None, None);
        }
    }

    /// Records without a row: an act that failed after it was recorded can be repeated and then has one.
    fn orphans(&mut self, table: &'static str, acts: &Acts<'_>) {
        for act in acts.orphans() {
            match act.at_ms.saturating_add(HIDE_SETTLED_MS) > self.now_ms {
                true => self.report.waiting += 1,
                false => self.fault("LEDGER_HIDE_VANISHED", (table, None), Some(act), None),
            }
        }
    }

    /// Answers the record of each request.
    fn requests(&mut self, asked: &[Asked]) -> Vec<Option<&'a Hiding>> {
        let mut acts = Acts::new(&self.hidings.requests);
        let mut found: Vec<Option<&Hiding>> = vec![None; asked.len()];
        // Whatever is as it must be has its record before what only seems to be.
        for fits in [is_exact, is_alike] {
            for (row, found) in asked.iter().zip(&mut found) {
                *found = found.take().or_else(|| acts.take(|act| fits(row, act)));
            }
        }
        for (row, act) in asked.iter().zip(&found) {
            let Some(act) = act else {
                let place = (REQUESTS, row.id);
                self.without("LEDGER_HIDE_UNREQUESTED", place, row.lane(), &row.said);
                continue;
            };
            for column in altered_request(row, act) {
                let place = (REQUESTS, Some(row.id));
                self.fault("LEDGER_HIDE_ALTERED", place, Some(act), Some(column));
            }
        }
        self.orphans(REQUESTS, &acts);
        found
    }

    fn approvals(
        &mut self,
        asked: &[Asked],
        requested: &[Option<&'a Hiding>],
        in_force: &[InForce],
    ) {
        let mut acts = Acts::new(&self.hidings.approvals);
        let requests: Vec<_> = in_force
            .iter()
            .map(|row| {
                let at = asked.iter().position(|asked| asked.id == row.request)?;
                Some((asked.get(at)?, requested.get(at).copied().flatten()))
            })
            .collect();
        let mut found: Vec<Option<&Hiding>> = vec![None; in_force.len()];
        for fits in [approves, approves_alike] {
            for ((row, request), found) in in_force.iter().zip(&requests).zip(&mut found) {
                let free = || acts.take(|act| fits(row, *request, act));
                *found = found.take().or_else(free);
            }
        }
        for ((row, request), act) in in_force.iter().zip(&requests).zip(&found) {
            self.approval(row, *request, *act);
        }
        self.orphans(IN_FORCE, &acts);
    }

    fn approval(&mut self, row: &InForce, request: Request<'_>, act: Option<&Hiding>) {
        let place = (IN_FORCE, Some(row.id));
        let Some((asked, record)) = request else {
            return self.fault("LEDGER_HIDE_UNREQUESTED", place, act, None);
        };
        match act {
            None => {
                let place = (IN_FORCE, row.id);
                self.without("LEDGER_HIDE_UNAPPROVED", place, asked.lane(), &row.said);
            }
            Some(act) => {
                for column in altered_approval(row, (asked, record), act) {
                    self.fault("LEDGER_HIDE_ALTERED", place, Some(act), Some(column));
                }
            }
        }
        let alone = same_person(&row.approved_by, &row.said.requested_by)
            || row.approved_as == row.said.requested_as
            || act
                .zip(record)
                .is_some_and(|(act, record)| same_person(&act.operator, &record.operator));
        if alone {
            self.fault("LEDGER_HIDE_SELF_APPROVED", place, act, None);
        }
    }
}

impl Index {
    /// Holds the hides against the acts in the logs. Read the logs first.
    ///
    /// # Errors
    /// The database.
    pub async fn check_hides(
        &self,
        hidings: &Hidings,
        now_ms: i64,
    ) -> Result<HideReport, IndexError> {
        let (asked, in_force) = self.hide_rows().await?;
        Ok(compare(&asked, &in_force, hidings, now_ms))
    }
}
