//! Which audit record fits a row of the hides' tables, and what differs.

use super::hide_rows::{Asked, InForce, Said};
use super::hidings::Hiding;

/// A row in which more columns differ from a record is no alteration of that request: it is another.
const MOST_ALTERED: usize = 2;

/// What makes two records tell of one act.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum Act<'a> {
    Terms([u8; 32]),
    /// Subject, department, operator and reason: all that an older record says.
    Words(&'a [u8], &'a str, &'a str, &'a str),
}

pub(super) fn same_act(act: &Hiding) -> Act<'_> {
    match act.terms {
        Some(terms) => Act::Terms(terms),
        None => Act::Words(&act.subject.0, &act.consumer, &act.operator, &act.reason),
    }
}

/// How well an act fits a row: what is the same, then how near in time.
pub(super) type Fit = (usize, std::cmp::Reverse<u64>);

pub(super) fn fit(alike: usize, act: &Hiding, said: &Said) -> Fit {
    let apart = said.at.timestamp_millis().abs_diff(act.at_ms);
    (alike, std::cmp::Reverse(apart))
}

/// Whether this is a certificate of the department.
pub(super) fn is_of(principal: &str, department: &str) -> bool {
    let role = principal.strip_prefix(department);
    role.is_some_and(|role| role.starts_with('.'))
}

pub(super) fn same_person(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

/// Columns that say something else than the record of the request.
pub(super) fn altered(said: &Said, request: &Hiding) -> Vec<&'static str> {
    let until = request.until_ms.unwrap_or(said.until.timestamp_millis());
    let columns = [
        ("subject", said.subject != request.subject.0),
        ("consumer", said.consumer != request.consumer),
        (
            "until",
            said.until.timestamp_millis() != until || !said.whole_ms(),
        ),
        ("requested_by", said.requested_by != request.operator),
        ("reason", said.reason != request.reason),
    ];
    let mut names: Vec<_> = columns
        .into_iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| name)
        .collect();
    // The record has the certificate in its digest alone, an older one has its department.
    let other = match request.terms {
        Some(terms) => names.is_empty() && said.digest(request.id.lane) != terms,
        None => !is_of(&said.requested_as, &said.consumer),
    };
    if other {
        names.push("requested_as");
    }
    names
}

pub(super) fn altered_request(row: &Asked, request: &Hiding) -> Vec<&'static str> {
    let mut names = altered(&row.said, request);
    if row.lane() != request.id.lane {
        names.push("lane");
    }
    names
}

pub(super) fn is_exact(row: &Asked, act: &Hiding) -> Option<Fit> {
    let same = altered_request(row, act).is_empty();
    same.then(|| fit(0, act, &row.said))
}

pub(super) fn is_alike(row: &Asked, act: &Hiding) -> Option<Fit> {
    let other = altered_request(row, act).len();
    let alike = MOST_ALTERED.checked_sub(other)?;
    Some(fit(alike, act, &row.said))
}

/// The request that a row of `hidden` names, and that request's record.
pub(super) type Request<'r> = Option<(&'r Asked, Option<&'r Hiding>)>;

/// Columns of `hidden` that say something else than the records of the two acts, or than the request.
pub(super) fn altered_approval(
    row: &InForce,
    (asked, record): (&Asked, Option<&Hiding>),
    act: &Hiding,
) -> Vec<&'static str> {
    let mut names = record
        .map(|record| altered(&row.said, record))
        .unwrap_or_default();
    // What an older record does not say is at least as it was requested.
    if row.said.until != asked.said.until && !names.contains(&"until") {
        names.push("until");
    }
    if row.approved_by != act.operator {
        names.push("approved_by");
    }
    if !is_of(&row.approved_as, &act.consumer) {
        names.push("approved_as");
    }
    names
}

pub(super) fn approves(row: &InForce, request: Request<'_>, act: &Hiding) -> Option<Fit> {
    let same = act.operator == row.approved_by
        && act.subject.0[..] == row.said.subject
        && is_of(&row.approved_as, &act.consumer);
    let about = same
        && match act.terms {
            Some(terms) => terms == row.said.digest(act.id.lane),
            None => is_older(row, request, act),
        };
    about.then(|| fit(0, act, &row.said))
}

pub(super) fn approves_alike(row: &InForce, request: Request<'_>, act: &Hiding) -> Option<Fit> {
    let of_request = request.and_then(|(_, record)| record?.terms);
    let about = match act.terms {
        Some(terms) => of_request == Some(terms) || terms == row.said.digest(act.id.lane),
        None => is_older(row, request, act),
    };
    let by = usize::from(act.operator == row.approved_by);
    about.then(|| fit(by, act, &row.said))
}

/// An approval of before records said what they approve can only be one of a request of then.
pub(super) fn is_older(row: &InForce, request: Request<'_>, act: &Hiding) -> bool {
    request.is_some_and(|(asked, record)| {
        let request_too =
            record.is_some_and(|record| record.terms.is_none() && record.at_ms <= act.at_ms);
        request_too && row.said.subject == act.subject.0 && asked.lane() == act.id.lane
    })
}
