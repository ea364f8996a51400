//! What a dry run answers: counts of events, names of fields, and roughly how many people. Nothing that
//! names one.

use std::collections::BTreeMap;
use std::fmt;

use mz_contract::{Agreement, Contract, parse_date};
use serde::{Serialize, Serializer};

use super::Run;
use super::difference::{Outcome, RowPlan, Tallies, Tally};
use crate::cases::hex;

/// Fewer people than this are not told apart.
const FEW: u64 = 5;

/// A number of people, rounded: 0, `<5`, then down to a multiple of 5, so that two runs don't tell about
/// one person either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct People(u64);

impl People {
    fn about(count: u64) -> Self {
        match count {
            0 => Self(0),
            1..FEW => Self(1),
            _ => Self(count - count % FEW),
        }
    }
}

impl fmt::Display for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1..FEW => write!(f, "<{FEW}"),
            count => write!(f, "{count}"),
        }
    }
}

impl Serialize for People {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            1..FEW => serializer.collect_str(self),
            count => serializer.serialize_u64(count),
        }
    }
}

const HOUR_MS: i64 = 3_600_000;

/// Since when: a day (`2026-11-01`, from its beginning in Beijing) or a length of time up to now (`7d`,
/// `12h`). Milliseconds since 1970; `None` for anything else.
pub fn since(text: &str, now_ms: i64) -> Option<i64> {
    let back = |count: &str, unit: i64| {
        let digits = count.bytes().all(|byte| byte.is_ascii_digit());
        let count: i64 = count.parse().ok().filter(|_| digits)?;
        now_ms.checked_sub(count.checked_mul(unit)?)
    };
    if let Some(days) = text.strip_suffix('d') {
        return back(days, 24 * HOUR_MS);
    }
    if let Some(hours) = text.strip_suffix('h') {
        return back(hours, HOUR_MS);
    }
    let days = parse_date(text)?.signed_duration_since(parse_date("1970-01-01")?);
    // Days begin in Beijing, eight hours earlier.
    Some((days.num_hours() - 8) * HOUR_MS)
}

/// Something that the run can't show, with its code in `reasons.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    pub code: &'static str,
    /// The agreement or dataset that it is about.
    pub about: String,
}

impl Note {
    /// Every code, for the test that holds them against `reasons.yaml`.
    pub const CODES: [&'static str; 2] = ["DRY_RUN_CASE_RULES", "DRY_RUN_DATASET_NEW"];
}

/// One agreement and one dataset or derived answer.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub agreement: String,
    /// Dataset id, or `answer.<name>.v<N>`.
    pub dataset: String,
    /// `<before>-><after>`, each one of `delivered`, `denied`, `out_of_scope`, `absent`; to a number of
    /// events.
    pub transitions: BTreeMap<String, u64>,
    /// Events whose outcome differs.
    pub differs: u64,
    /// Delivered under both, with other fields or another answer.
    pub content_differs: u64,
    /// Fields that every delivery would have besides.
    pub fields_added: Vec<String>,
    /// Fields that no delivery would have any more.
    pub fields_withheld: Vec<String>,
    /// Rules that would newly deny, to a number of events.
    pub denied_by: BTreeMap<&'static str, u64>,
    /// For how many people anything differs.
    pub people: People,
}

impl Row {
    fn new(plan: &RowPlan, tally: &Tally) -> Self {
        let transitions = tally.transitions.iter();
        let differs = transitions
            .clone()
            .filter(|((before, after), _)| before != after)
            .map(|(_, count)| count)
            .sum();
        Self {
            agreement: plan.agreement.clone(),
            dataset: plan.label.clone(),
            transitions: transitions
                .map(|((before, after), count)| (transition(*before, *after), *count))
                .collect(),
            differs,
            content_differs: tally.changed,
            fields_added: plan.added.clone(),
            fields_withheld: plan.withheld.clone(),
            denied_by: tally.denied_by.clone(),
            people: People::about(tally.people),
        }
    }

    /// Nothing would change, for anybody.
    pub fn is_same(&self) -> bool {
        self.differs == 0
            && self.content_differs == 0
            && self.fields_added.is_empty()
            && self.fields_withheld.is_empty()
    }

    /// Events with this transition; outcomes as in [`Self::transitions`].
    pub fn count(&self, before: &str, after: &str) -> u64 {
        let key = format!("{before}->{after}");
        self.transitions.get(&key).copied().unwrap_or_default()
    }

    /// Events with this outcome under the changed contract.
    pub fn after(&self, outcome: &str) -> u64 {
        let of = |(name, count): (&String, &u64)| {
            let (_, after) = name.split_once("->")?;
            (after == outcome).then_some(*count)
        };
        self.transitions.iter().filter_map(of).sum()
    }
}

fn transition(before: Outcome, after: Outcome) -> String {
    format!("{}->{}", before.name(), after.name())
}

/// How a changed contract would have decided.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Milliseconds since 1970.
    pub since_ms: i64,
    /// Digests of the contract in force and of the changed one, hexadecimal.
    pub in_force: String,
    pub changed: String,
    /// Events that were decided once more.
    pub events: u64,
    /// Facts decided again because a grant opened after them.
    pub backfilled: u64,
    /// Events that no contract lets through: quarantined.
    pub refused: u64,
    /// By agreement, then dataset; also those where nothing changes.
    pub rows: Vec<Row>,
    pub notes: Vec<Note>,
}

impl Report {
    pub(super) fn new(run: &Run<'_>, tallies: &Tallies, wanted: &dyn Fn(&str) -> bool) -> Self {
        let (old, new) = (&*run.before.contract, &*run.after.contract);
        let plans = run.pairings.iter().flat_map(|pairing| &pairing.rows);
        let mut rows: Vec<Row> = plans
            .zip(tallies.rows.iter().flatten())
            .map(|(plan, tally)| Row::new(plan, tally))
            .collect();
        rows.sort_by(|a, b| (&a.agreement, &a.dataset).cmp(&(&b.agreement, &b.dataset)));
        Self {
            since_ms: run.since_ms,
            in_force: hex(&old.digest),
            changed: hex(&new.digest),
            events: tallies.events,
            backfilled: tallies.backfilled,
            refused: tallies.refused,
            rows,
            notes: notes(old, new, wanted),
        }
    }

    /// One row, by agreement and dataset (or answer).
    pub fn row(&self, agreement: &str, dataset: &str) -> Option<&Row> {
        let of = |row: &&Row| row.agreement == agreement && row.dataset == dataset;
        self.rows.iter().find(of)
    }
}

/// What the counts leave out.
fn notes(old: &Contract, new: &Contract, wanted: &dyn Fn(&str) -> bool) -> Vec<Note> {
    let mut notes = Vec::new();
    for agreement in new.agreements.iter().filter(|one| wanted(&one.id)) {
        let before = old.agreement(&agreement.id);
        let rules = before.map_or_else(Vec::new, |before| case_rules(old, before));
        if rules != case_rules(new, agreement) {
            notes.push(Note {
                code: "DRY_RUN_CASE_RULES",
                about: agreement.id.clone(),
            });
        }
    }
    for dataset in &new.datasets {
        let mut sections = new.sections().filter(|one| one.dataset_ix == dataset.ix);
        let read = sections.any(|one| wanted(&new.agreements[one.agreement_ix].id));
        if read && old.dataset(&dataset.id).is_none() {
            notes.push(Note {
                code: "DRY_RUN_DATASET_NEW",
                about: dataset.id.clone(),
            });
        }
    }
    notes
}

/// When cases open and close, comparable over contracts.
fn case_rules(contract: &Contract, agreement: &Agreement) -> Vec<String> {
    let Some(cases) = &agreement.cases else {
        return Vec::new();
    };
    let dataset = |at: usize| &contract.datasets[at].id;
    let opens = cases.opens.iter().map(|rule| {
        let subjects: Vec<&str> = rule.subjects.iter().map(|path| &*path.source).collect();
        let (of, when) = (dataset(rule.dataset), rule.when.source());
        format!("opens {of} {when} {subjects:?} {}", rule.days)
    });
    let closes = cases.closes.iter().map(|rule| {
        let (of, when) = (dataset(rule.dataset), rule.when.source());
        format!("closes {of} {when}")
    });
    let request = format!("on request {:?}", cases.on_request_days);
    opens.chain(closes).chain([request]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_days_or_lengths() {
        let now = 1_800_000_000_000;
        assert_eq!(since("7d", now), Some(now - 7 * 24 * HOUR_MS));
        assert_eq!(since("12h", now), Some(now - 12 * HOUR_MS));
        // 2026-10-31T16:00:00Z.
        assert_eq!(since("2026-11-01", now), Some(1_793_462_400_000));
        for bad in [
            "",
            "d",
            "-1d",
            "+7d",
            "7",
            "2026-13-01",
            "99999999999999999999d",
        ] {
            assert_eq!(since(bad, now), None, "{bad}");
        }
    }

    #[test]
    fn few_people_are_not_counted() {
        let told = |count| People::about(count).to_string();
        assert_eq!(told(0), "0");
        for few in 1..5 {
            assert_eq!(told(few), "<5");
        }
        assert_eq!([told(5), told(9), told(1_234)], ["5", "5", "1230"]);
        let json = |count| serde_json::to_string(&People::about(count)).unwrap();
        assert_eq!([json(0), json(3), json(12)], ["0", "\"<5\"", "10"]);
    }
}
