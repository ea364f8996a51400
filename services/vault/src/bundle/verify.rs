//! Checks an evidence bundle offline: with the contract's public keys, and nothing else.
//!
//! Every check runs, also after one has failed: whoever holds an altered bundle learns what was
//! altered, not only that something was.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_contract::{Contract, Dataset, KeyUse, Lang, Moment, Reasons, Section};
use mz_seal::{ExpectDelivery, KeySource, VerifiedDelivery, Verifier, verify_signature};
use serde_json::{Map, Value as Json, json};

use super::assemble::{SUPERSEDED, outcome_entry};
use super::fields;
use super::model::{Bundle, FORMAT, FactEntry, FactState, RecordEntry};
use super::sign::{digest_hex, hex, signed_bytes};
use crate::limits::MAX_BUNDLE_BYTES;
use mz_journal::canonical::parse_strict;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Where in the bundle: `signature`, `facts[2].seal`.
    pub place: String,
    /// A code of `schemas/reasons.yaml`.
    pub code: &'static str,
    pub result: CheckResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    Holds,
    /// The bundle is not what was issued.
    Fails,
    /// True, and worth knowing; no reason to distrust the bundle.
    Note,
}

/// Everything that was looked at, and the bundle as far as it could be read.
#[derive(Clone, Debug)]
pub struct Report {
    pub checks: Vec<Check>,
    pub bundle: Option<Bundle>,
}

impl Report {
    /// Nothing failed, and the bus's signature is among what held.
    pub fn is_valid(&self) -> bool {
        let signed = self.checks.iter().any(|c| c.code == SIGNATURE_VALID);
        signed && self.failures().next().is_none()
    }

    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(|check| check.result == CheckResult::Fails)
    }

    /// The verdict for people: one line each, what failed first, without a value of the bundle's.
    pub fn render(&self, reasons: &Reasons, lang: Lang) -> String {
        let verdict = if self.is_valid() {
            "VERIFY_VALID"
        } else {
            "VERIFY_INVALID"
        };
        let mut text = format!("{}\n", reasons.text(verdict, lang));
        for wanted in [CheckResult::Fails, CheckResult::Holds, CheckResult::Note] {
            for check in self.checks.iter().filter(|check| check.result == wanted) {
                let mark = match wanted {
                    CheckResult::Fails => "✗",
                    CheckResult::Holds => "✓",
                    CheckResult::Note => "·",
                };
                let says = reasons.text(check.code, lang);
                text.push_str(&format!(
                    "  {mark} {}: {says} ({})\n",
                    check.place, check.code
                ));
            }
        }
        text
    }
}

const SIGNATURE_VALID: &str = "VERIFY_SIGNATURE_VALID";

/// Checks a bundle as it was received.
pub fn verify(bytes: &[u8], contract: &Contract) -> Report {
    let mut checks = Checks(Vec::new());
    let bundle = read(bytes, contract, &mut checks);
    Report {
        checks: checks.0,
        bundle,
    }
}

struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, place: impl Into<String>, code: &'static str, result: CheckResult) {
        self.0.push(Check {
            place: place.into(),
            code,
            result,
        });
    }

    fn fail(&mut self, place: impl Into<String>, code: &'static str) {
        self.add(place, code, CheckResult::Fails);
    }

    fn must(&mut self, holds: bool, place: impl Into<String>, code: &'static str) {
        if !holds {
            self.fail(place, code);
        }
    }
}

fn read(bytes: &[u8], contract: &Contract, checks: &mut Checks) -> Option<Bundle> {
    if bytes.len() > MAX_BUNDLE_BYTES {
        checks.fail("bundle", "VERIFY_TOO_LARGE");
        return None;
    }
    let Ok(json) = parse_strict(bytes) else {
        checks.fail("bundle", "VERIFY_NOT_JSON");
        return None;
    };
    let Ok(bundle) = serde_json::from_value::<Bundle>(json.clone()) else {
        checks.fail("bundle", "VERIFY_SHAPE");
        return None;
    };
    if bundle.format != FORMAT {
        checks.fail("format", "VERIFY_FORMAT_UNKNOWN");
        return Some(bundle);
    }
    checks.must(bundle.bus == contract.bus_id, "bus", "VERIFY_BUS_FOREIGN");
    signature(&bundle, json, contract, checks);
    let same_contract = bundle.contract == hex(&contract.digest);
    if !same_contract {
        checks.add("contract", "VERIFY_CONTRACT_OTHER", CheckResult::Note);
    }
    let rows = facts(&bundle, contract, same_contract, checks);
    outcome(&bundle, contract, same_contract, &rows, checks);
    // Whether a key was revoked after this copy of the contract was made, only the bus knows.
    checks.add("keys", "VERIFY_KEY_STATUS_UNKNOWN", CheckResult::Note);
    Some(bundle)
}

fn signature(bundle: &Bundle, json: Json, contract: &Contract, checks: &mut Checks) {
    let Some(entry) = &bundle.signature else {
        checks.fail("signature", "VERIFY_SIGNATURE_MISSING");
        return;
    };
    let Ok(signed) = signed_bytes(json) else {
        checks.fail("bundle", "VERIFY_NOT_JSON");
        return;
    };
    checks.must(
        entry.digest == digest_hex(&signed),
        "signature.digest",
        "VERIFY_DIGEST_DIFFERS",
    );
    let key = contract.bus_keys.iter().find(|key| {
        key.id == entry.key_id && key.usage == KeyUse::Seal && key.info.suite.name() == entry.suite
    });
    let Some(key) = key else {
        checks.fail("signature.key_id", "KEY_UNKNOWN");
        return;
    };
    let value = BASE64
        .decode(&entry.value)
        .ok()
        .and_then(|v| <[u8; 64]>::try_from(v).ok());
    let verified = value.is_some_and(|v| verify_signature(&key.info.public, &signed, &v).is_ok());
    if verified {
        checks.add("signature", SIGNATURE_VALID, CheckResult::Holds);
    } else {
        checks.fail("signature", "VERIFY_SIGNATURE_INVALID");
    }
    if !matches!(key.info.status, mz_seal::KeyStatus::Active) {
        checks.fail("signature.key_id", "KEY_REVOKED");
    }
}

/// Checks every fact; returns what the rules may know, by need.
fn facts(
    bundle: &Bundle,
    contract: &Contract,
    same_contract: bool,
    checks: &mut Checks,
) -> Map<String, Json> {
    let mut known: Map<String, Json> = Map::new();
    let mut verifier = Verifier::new();
    let mut person: Option<String> = None;
    for (at, fact) in bundle.facts.iter().enumerate() {
        let place = format!("facts[{at}]");
        let need = known
            .entry(fact.need.clone())
            .or_insert_with(|| json!({"state": fact.state, "rows": []}));
        if need["state"] != json!(fact.state) {
            checks.fail(format!("{place}.state"), "VERIFY_STATE_CONTRADICTS");
        }
        let Some(dataset) = contract.dataset(&fact.dataset) else {
            checks.fail(format!("{place}.dataset"), "VERIFY_DATASET_UNKNOWN");
            continue;
        };
        checks.must(
            fact.department == dataset.department,
            format!("{place}.department"),
            "VERIFY_DEPARTMENT_DIFFERS",
        );
        let superseded = fact.state == FactState::None
            && fact.reason.as_ref().is_some_and(|r| r.code == SUPERSEDED);
        if fact.as_of.is_some() != superseded {
            checks.fail(format!("{place}.as_of"), "VERIFY_STATE_CONTRADICTS");
        }
        match (&fact.record, fact.state) {
            (Some(record), FactState::Present) => {
                let section = contract.agreement(&bundle.agreement).and_then(|agreement| {
                    agreement
                        .sections
                        .iter()
                        .find(|section| section.dataset_ix == dataset.ix)
                });
                let Some(section) = section else {
                    checks.fail(format!("{place}.dataset"), "VERIFY_NOT_AGREED");
                    continue;
                };
                let of = Delivered {
                    contract,
                    dataset,
                    section,
                    record,
                    same_contract,
                    place: &place,
                };
                if let Some(row) = of.check(&mut verifier, &mut person, checks)
                    && let Some(rows) = need["rows"].as_array_mut()
                {
                    rows.push(row);
                }
            }
            (None, FactState::Present) => checks.fail(place, "VERIFY_RECORD_MISSING"),
            (Some(_), _) => checks.fail(format!("{place}.state"), "VERIFY_STATE_CONTRADICTS"),
            (None, _) => absent(fact, &place, checks),
        }
    }
    known
}

/// Nobody but the bus attests that there is nothing; say so.
fn absent(fact: &FactEntry, place: &str, checks: &mut Checks) {
    if fact.state == FactState::None && fact.complete_to.is_none() {
        checks.fail(format!("{place}.complete_to"), "VERIFY_STATE_CONTRADICTS");
    } else {
        checks.add(place, "VERIFY_BUS_ONLY", CheckResult::Note);
    }
}

/// One present fact, as its department sealed it.
struct Delivered<'a> {
    contract: &'a Contract,
    dataset: &'a Dataset,
    section: &'a Section,
    record: &'a RecordEntry,
    same_contract: bool,
    place: &'a str,
}

impl Delivered<'_> {
    fn check(
        &self,
        verifier: &mut Verifier,
        person: &mut Option<String>,
        checks: &mut Checks,
    ) -> Option<Json> {
        let (record, place) = (self.record, self.place);
        let (Ok(datum), Ok(seal)) = (BASE64.decode(&record.datum), BASE64.decode(&record.seal))
        else {
            checks.fail(format!("{place}.record"), "VERIFY_NOT_BASE64");
            return None;
        };
        let expect = ExpectDelivery {
            bus: &self.contract.bus_id,
            dataset: &self.dataset.id,
            department: &self.dataset.department,
            streams: &self.dataset.streams,
            lane: None,
            source_layout: &self.dataset.layout,
            source_schema_digest: &self.dataset.schema_digest,
            kept: &self.section.fields,
            projected_layout: &self.section.projected_layout,
        };
        let keys: &dyn KeySource = self.contract;
        match verifier.verify_delivery(&expect, &datum, &seal, keys) {
            Ok(delivery) => {
                checks.add(
                    format!("{place}.seal"),
                    "VERIFY_SEAL_VALID",
                    CheckResult::Holds,
                );
                self.meta(&delivery, checks);
                if let Some(subject) = delivery.subject {
                    let same = person.get_or_insert_with(|| subject.to_owned()) == subject;
                    checks.must(same, format!("{place}.seal"), "VERIFY_PERSON_DIFFERS");
                }
            }
            Err(fault) => checks.fail(format!("{place}.seal"), fault.code()),
        }
        self.fields(&datum, checks)
    }

    /// What the bundle says of the event is what the department sealed.
    fn meta(&self, delivery: &VerifiedDelivery<'_>, checks: &mut Checks) {
        let (record, place) = (self.record, self.place);
        let meta = &delivery.meta;
        let sealed = [
            ("as_of", record.as_of == meta.ce_time_text()),
            ("stream", record.stream == meta.stream),
            ("version_epoch", record.version_epoch == meta.epoch),
            ("version_counter", record.version_counter == meta.counter),
            ("event", record.event == hex(&delivery.event_digest)),
            ("state", !meta.withdrawn),
        ];
        for (name, holds) in sealed {
            checks.must(holds, format!("{place}.{name}"), "VERIFY_META_DIFFERS");
        }
        let schema = record.schema_id == self.section.schema_id;
        checks.must(schema, format!("{place}.schema_id"), "VERIFY_META_DIFFERS");
    }

    /// What people read is what the sealed bytes say.
    fn fields(&self, datum: &[u8], checks: &mut Checks) -> Option<Json> {
        let (record, place) = (self.record, self.place);
        let Ok(decoded) = fields::decode(&self.section.projected_layout, datum) else {
            checks.fail(format!("{place}.datum"), "DATUM_MALFORMED");
            return None;
        };
        let same = record.fields == decoded.shown;
        checks.must(same, format!("{place}.fields"), "VERIFY_FIELDS_DIFFER");
        if self.same_contract {
            let titles = fields::titles(self.dataset, self.section, &decoded.shown);
            checks.must(
                record.titles == titles,
                format!("{place}.titles"),
                "VERIFY_FIELDS_DIFFER",
            );
        }
        Some(json!({"fields": decoded.ruled, "answers": record.answers}))
    }
}

/// Under the contract it was made with, the same facts give the same proposal.
fn outcome(
    bundle: &Bundle,
    contract: &Contract,
    same_contract: bool,
    known: &Map<String, Json>,
    checks: &mut Checks,
) {
    let item = contract
        .item(&bundle.item)
        .filter(|item| item.version == bundle.rules_version);
    let issued = chrono::DateTime::parse_from_rfc3339(&bundle.issued_at);
    let (Some(item), Ok(issued), true) = (item, issued, same_contract) else {
        checks.add("outcome", "VERIFY_OUTCOME_NOT_REPEATED", CheckResult::Note);
        return;
    };
    let now = Moment::at_ms(issued.timestamp_millis());
    let again = outcome_entry(item, &Json::Object(known.clone()), now, &contract.reasons);
    if again == bundle.outcome {
        checks.add("outcome", "VERIFY_OUTCOME_HOLDS", CheckResult::Holds);
    } else {
        checks.fail("outcome", "VERIFY_OUTCOME_DIFFERS");
    }
}
