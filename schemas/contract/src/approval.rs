//! What a provider approves, as bytes to sign: nobody but the provider opens its data.
//!
//! The digest of a section covers everything that decides what is delivered to whom, why and until
//! when. It leaves out titles, suspension and termination (stopping needs nobody's approval), and of the
//! terms of consent the notice's version and the way to withdraw: they are between consumer and person.

use sha2::{Digest, Sha256};

use crate::agreement::{Agreement, Section};
use crate::dataset::Dataset;

/// First line of the signed payload: no other signature of the system starts so.
pub const APPROVAL_CONTEXT: &str = "mianzheng/approval/v1\n";

/// SHA-256 over pairs (name, value), each written as u32 BE length and bytes, in the order below.
#[must_use]
pub fn section_digest(
    bus_id: &str,
    agreement: &Agreement,
    section: &Section,
    datasets: &[Dataset],
) -> [u8; 32] {
    let dataset = &datasets[section.dataset_ix];
    let mut hash = Pairs(Sha256::new());
    hash.pair("form", "section/1");
    hash.pair("bus", bus_id);
    hash.pair("agreement", &agreement.id);
    hash.pair("basis", agreement.basis.kind.as_str());
    for law in &agreement.basis.law {
        hash.pair("law", &law.title.zh);
        hash.pair("article", &law.article);
    }
    hash.pair("duty", &agreement.basis.duty.zh);
    hash.pair("application", &agreement.application.number);
    hash.pair("applied-on", &agreement.application.applied_on.to_string());
    hash.pair("applied-until", &agreement.application.until.to_string());
    hash.pair("use-basis", &agreement.application.basis.zh);
    hash.pair("use-scene", &agreement.application.scene.zh);
    hash.pair("use-scope", &agreement.application.scope.zh);
    hash.pair("valid-from", &agreement.valid_from.to_string());
    hash.pair("valid-until", &agreement.valid_until.to_string());
    hash.pair("retention-days", &agreement.retention_days.to_string());
    hash.pair("dataset", &dataset.id);
    hash.pair("schema", &hex::encode(dataset.schema_digest));
    hash.pair("scope", section.scope.as_str());
    hash.pair(
        "filter",
        section.filter.as_ref().map_or("", |rule| rule.source()),
    );
    for &field in &section.fields {
        hash.pair("field", &dataset.fields[usize::from(field)].name);
    }
    for answer in &section.answers {
        hash.pair("answer", &answer.name);
        hash.pair("answer-version", &answer.version.to_string());
        hash.pair("answer-rule", answer.expr.source());
    }
    // A number that was agreed is a limit like the others; without one nothing is said, as before there were any.
    if let Some(per_day) = section.per_day {
        hash.pair("per-day", &per_day.to_string());
    }
    // Who may consent, and for how long, decides about whom.
    if let Some(consent) = &agreement.consent {
        hash.pair("consent-max-days", &consent.max_days.to_string());
        hash.pair("consent-minor-age", &consent.minor_age.to_string());
        for representation in &consent.representation {
            hash.pair("consent-by", representation.as_str());
        }
    }
    // Cases decide about whom: for every section, because scope is part of the same promise.
    if let Some(cases) = &agreement.cases {
        hash.pair(
            "case-on-request",
            &cases
                .on_request_days
                .map_or_else(String::new, |days| days.to_string()),
        );
        for open in &cases.opens {
            hash.pair("case-opens", &datasets[open.dataset].id);
            hash.pair("when", open.when.source());
            for subject in &open.subjects {
                hash.pair("subject", &subject.source);
            }
            hash.pair("days", &open.days.to_string());
        }
        for close in &cases.closes {
            hash.pair("case-closes", &datasets[close.dataset].id);
            hash.pair("when", close.when.source());
        }
    }
    hash.pair("approver", &section.approval.approver);
    hash.pair("approved-on", &section.approval.date.to_string());
    hash.pair("document", &section.approval.document);
    hash.0.finalize().into()
}

struct Pairs(Sha256);

impl Pairs {
    fn pair(&mut self, name: &str, value: &str) {
        for part in [name, value] {
            self.0
                .update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            self.0.update(part);
        }
    }
}

/// What the approval key signs: text, one value a line, so that it can be read before it is signed.
#[must_use]
pub fn approval_payload(
    bus_id: &str,
    agreement: &str,
    provider: &str,
    dataset: &str,
    key_id: &str,
    digest: &[u8; 32],
) -> Vec<u8> {
    // None of the names can hold a line break: lint allows letters, digits, '-', '.' and '/' only, and
    // the digest is last.
    let digest = hex::encode(digest);
    format!("{APPROVAL_CONTEXT}{bus_id}\n{agreement}\n{provider}\n{dataset}\n{key_id}\n{digest}\n")
        .into_bytes()
}
