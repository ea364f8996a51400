//! The terms of consent in an agreement, and what the basis consent rules out.

use super::agreements::Place;
use super::{days, text};
use crate::agreement::{
    BasisKind, CONSENT_MAX_DAYS, ConsentTerms, MINOR_AGES, Representation, ScopeKind,
};
use crate::fault::Faults;
use crate::raw::{RawAgreement, RawConsent};
use crate::yaml::Located;

/// Checked before the sections are built, so that each fault stands where it was written.
pub(super) fn check(raw: &RawAgreement, place: &Place<'_>, faults: &mut Faults) {
    let file = place.file;
    if raw.basis.kind.value != BasisKind::Consent {
        if let Some(consent) = &raw.consent {
            let kind = raw.basis.kind.value.as_str();
            faults.push(
                "CONSENT_UNEXPECTED",
                file,
                &consent.referenced,
                "consent",
                kind,
            );
        }
        return;
    }
    if raw.consent.is_none() {
        let at = &raw.basis.kind.referenced;
        faults.push("CONSENT_MISSING", file, at, "consent", "");
    }
    // Cases open without the person: under consent that would be a delivery nobody agreed to.
    if let Some(cases) = &raw.cases {
        faults.push("CONSENT_CASES", file, &cases.referenced, "cases", "");
    }
    for section in &raw.sections.value {
        let scope = &section.value.scope;
        if scope.value != ScopeKind::Case {
            let dataset = &section.value.dataset.value;
            faults.push(
                "CONSENT_SCOPE",
                file,
                &scope.referenced,
                dataset,
                scope.value.as_str(),
            );
        }
    }
}

pub(super) fn build(
    raw: Located<RawConsent>,
    place: &Place<'_>,
    faults: &mut Faults,
) -> Option<ConsentTerms> {
    let file = place.file;
    let raw = raw.value;
    let version = &raw.notice_version;
    if version.value == 0 {
        faults.push("CONSENT_NOTICE_VERSION", file, &version.referenced, "0", "");
    }
    let max_days = days(&raw.max, file, faults);
    if max_days.is_some_and(|days| days > CONSENT_MAX_DAYS) {
        let limit = format!("{CONSENT_MAX_DAYS}d");
        faults.push(
            "CONSENT_TOO_LONG",
            file,
            &raw.max.referenced,
            &raw.max.value,
            &limit,
        );
    }
    let withdrawal = &raw.withdrawal;
    if [&withdrawal.value.zh, &withdrawal.value.en]
        .iter()
        .any(|text| text.trim().is_empty())
    {
        let at = &withdrawal.referenced;
        faults.push("VALUE_EMPTY", file, at, "consent.withdrawal", "");
    }
    let mut representation: Vec<Representation> = Vec::new();
    for kind in &raw.representation {
        if representation.contains(&kind.value) {
            let name = kind.value.as_str();
            faults.push(
                "FIELD_DUPLICATE",
                file,
                &kind.referenced,
                name,
                "representation",
            );
        } else {
            representation.push(kind.value);
        }
    }
    let age = &raw.minor_age;
    if !MINOR_AGES.contains(&age.value) {
        let limits = format!("{}–{}", MINOR_AGES.start(), MINOR_AGES.end());
        faults.push(
            "CONSENT_MINOR_AGE",
            file,
            &age.referenced,
            &age.value.to_string(),
            &limits,
        );
    }
    representation.sort_unstable();
    Some(ConsentTerms {
        notice_version: version.value,
        max_days: max_days?,
        withdrawal: text(raw.withdrawal.value),
        representation,
        minor_age: age.value,
    })
}
