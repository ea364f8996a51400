//! One event, one section of one agreement, one moment: may it be delivered?

use chrono::NaiveDate;
use mz_contract::{Agreement, EvalError, Moment, ScopeKind, Section};
use mz_journal::{GrantId, SubjectTag};
use mz_seal::Verified;

use crate::grants::{Ask, Bar, GrantsIndex, Standing};
use crate::permit::Permit;

/// The moment that decisions are made for. Read from the clock once for many events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub ms: i64,
    /// The day that rules see as `today`.
    pub moment: Moment,
    /// The same day in Beijing; `None` beyond the calendar: then no agreement is in its term.
    day: Option<NaiveDate>,
}

impl Now {
    pub fn at_ms(ms: i64) -> Self {
        let moment = Moment::at_ms(ms);
        Self {
            ms,
            moment,
            day: moment.day(),
        }
    }
}

/// Why a delivery that somebody had a grant, case or standing agreement for was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    GrantClosed,
    GrantExpired,
    GrantNotBegun,
    GrantPaused,
    /// Ended before its term: it permits nothing any more.
    AgreementTerminated,
    AgreementSuspended,
    AgreementOutOfTerm,
    /// The row filter has no value for this event: fail closed, and let it be seen.
    FilterFailed,
}

impl Rule {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub const fn code(self) -> &'static str {
        match self {
            Self::GrantClosed => "GRANT_CLOSED",
            Self::GrantExpired => "GRANT_EXPIRED",
            Self::GrantNotBegun => "GRANT_NOT_BEGUN",
            Self::GrantPaused => "GRANT_PAUSED",
            Self::AgreementTerminated => "AGREEMENT_TERMINATED",
            Self::AgreementSuspended => "AGREEMENT_SUSPENDED",
            Self::AgreementOutOfTerm => "AGREEMENT_OUT_OF_TERM",
            Self::FilterFailed => "FILTER_FAILED",
        }
    }

    /// Every code, for the test that holds them against `reasons.yaml`.
    pub const CODES: [&'static str; 8] = [
        "GRANT_CLOSED",
        "GRANT_EXPIRED",
        "GRANT_NOT_BEGUN",
        "GRANT_PAUSED",
        "AGREEMENT_TERMINATED",
        "AGREEMENT_SUSPENDED",
        "AGREEMENT_OUT_OF_TERM",
        "FILTER_FAILED",
    ];
}

impl From<Bar> for Rule {
    fn from(bar: Bar) -> Self {
        match bar {
            Bar::Closed => Self::GrantClosed,
            Bar::Expired => Self::GrantExpired,
            Bar::NotBegun => Self::GrantNotBegun,
            Bar::Paused => Self::GrantPaused,
        }
    }
}

/// A rule said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    pub rule: Rule,
    /// The grant that did not carry it, where the scope asks for one.
    pub grant: Option<GrantId>,
}

/// What becomes of one event under one section.
#[derive(Debug)]
pub enum Decision<'e, 'a> {
    Permit(Permit<'e, 'a>),
    Denied(Denial),
    OutOfScope(Outside),
}

/// Why an event is out of a section's scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outside {
    /// Nobody had asked about this person.
    Unasked,
    /// It could have been delivered, had the row filter not left it out. If an earlier version of its
    /// record was, this one supersedes it.
    Filtered,
}

/// The same, before anything is said about an event's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Permit(Option<GrantId>),
    Denied(Denial),
    OutOfScope(Outside),
}

/// Decides. `subject` is the tag of `event`'s subject: whoever calls has computed it from the
/// verified event. `ask` is the section's agreement and dataset in `grants`; without one no grant
/// counts.
///
/// Scope `case`: without a grant the event is out of scope; with grants of which none may be used
/// it is denied, whatever the filter says. Scopes `population` and `matching`: what the filter
/// leaves out is out of scope; the rest is denied when the agreement is terminated, suspended or out of term.
pub fn decide<'e, 'a>(
    agreement: &Agreement,
    section: &'e Section,
    event: &'e Verified<'a>,
    subject: SubjectTag,
    ask: Option<Ask>,
    grants: &GrantsIndex,
    now: Now,
) -> Decision<'e, 'a> {
    let standing = || {
        ask.map_or(Standing::Nothing, |ask| {
            grants.standing(subject, ask, now.ms)
        })
    };
    let filter = || match &section.filter {
        None => Ok(true),
        Some(filter) => filter.holds(event.datum, &event.spans, now.moment),
    };
    match weigh(section.scope, bar(agreement, now), standing, filter) {
        Outcome::Permit(grant) => Decision::Permit(Permit::new(section, event, grant, now)),
        Outcome::Denied(denial) => Decision::Denied(denial),
        Outcome::OutOfScope(outside) => Decision::OutOfScope(outside),
    }
}

/// Why the agreement as a whole may not be used now.
fn bar(agreement: &Agreement, now: Now) -> Option<Rule> {
    // First: an ended agreement is suspended too.
    if agreement.ended() {
        Some(Rule::AgreementTerminated)
    } else if agreement.suspended() {
        Some(Rule::AgreementSuspended)
    } else if now.day.is_some_and(|day| agreement.in_term(day)) {
        None
    } else {
        Some(Rule::AgreementOutOfTerm)
    }
}

/// The rule itself, free of contract and bytes. Asks for the filter only when it matters: reading
/// the event's fields is the dearest part.
pub(crate) fn weigh(
    scope: ScopeKind,
    bar: Option<Rule>,
    standing: impl FnOnce() -> Standing,
    filter: impl FnOnce() -> Result<bool, EvalError>,
) -> Outcome {
    let grant = match scope {
        ScopeKind::Population | ScopeKind::Matching => None,
        ScopeKind::Case => match standing() {
            Standing::Nothing => return Outcome::OutOfScope(Outside::Unasked),
            Standing::Barred(id, reason) => {
                return Outcome::Denied(Denial {
                    rule: bar.unwrap_or(reason.into()),
                    grant: Some(id),
                });
            }
            Standing::InForce(id) => Some(id),
        },
    };
    let denied = |rule| Outcome::Denied(Denial { rule, grant });
    match (grant, bar) {
        (Some(_), Some(rule)) => denied(rule),
        (_, bar) => match (filter(), bar) {
            (Err(_), _) => denied(Rule::FilterFailed),
            (Ok(false), _) => Outcome::OutOfScope(Outside::Filtered),
            (Ok(true), Some(rule)) => denied(rule),
            (Ok(true), None) => Outcome::Permit(grant),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn standings() -> impl Strategy<Value = Standing> {
        let id = GrantId([7; 16]);
        prop::sample::select(vec![
            Standing::Nothing,
            Standing::InForce(id),
            Standing::Barred(id, Bar::Closed),
            Standing::Barred(id, Bar::Expired),
            Standing::Barred(id, Bar::NotBegun),
            Standing::Barred(id, Bar::Paused),
        ])
    }

    proptest! {
        /// Against the sentences of the design, each as its own condition.
        #[test]
        fn the_rule_is_what_the_design_says(
            scope in prop::sample::select(vec![ScopeKind::Population, ScopeKind::Matching, ScopeKind::Case]),
            bar in prop::sample::select(vec![None, Some(Rule::AgreementTerminated), Some(Rule::AgreementSuspended), Some(Rule::AgreementOutOfTerm)]),
            standing in standings(),
            filter in prop::sample::select(vec![Ok(true), Ok(false), Err(EvalError::Null)]),
        ) {
            let outcome = weigh(scope, bar, || standing, || filter);
            let case = scope == ScopeKind::Case;
            let permitted = matches!(outcome, Outcome::Permit(_));
            let out = matches!(outcome, Outcome::OutOfScope(_));

            // Delivered: only in term, not suspended or terminated, filter true, and with an open grant for a case.
            let open = matches!(standing, Standing::InForce(_));
            prop_assert_eq!(permitted, bar.is_none() && filter == Ok(true) && (!case || open));
            // Out of scope: nobody asked, or the filter excluded what could have flowed.
            let unasked = case && standing == Standing::Nothing;
            let excluded = filter == Ok(false) && (!case || (open && bar.is_none()));
            prop_assert_eq!(out, unasked || excluded);
            // Which of the two it was is told; a filter that excluded is never taken for nobody asking.
            prop_assert_eq!(outcome == Outcome::OutOfScope(Outside::Unasked), unasked);
            prop_assert_eq!(outcome == Outcome::OutOfScope(Outside::Filtered), excluded);
            // A grant in force is named by what it carried.
            if permitted {
                prop_assert_eq!(outcome, Outcome::Permit(case.then_some(GrantId([7; 16]))));
            }
        }
    }

    #[test]
    fn the_filter_is_not_asked_when_nobody_asked() {
        let outcome = weigh(
            ScopeKind::Case,
            None,
            || Standing::Nothing,
            || panic!("the filter was evaluated"),
        );
        assert_eq!(outcome, Outcome::OutOfScope(Outside::Unasked));
    }
}
