//! How far a person's grants reach: single datasets, consent, revocation while a request waits, and a
//! record that has left the agreement's rows (P7).

use std::fs;
use std::path::Path;
use std::time::Duration;

use mz_journal::{AuditKind, Grant, GrantId, GrantKind, GrantStatus};
use mz_policy::Rule;
use mz_seal::Datum;
use mz_vault::Refusal;
use mz_vault::bundle::FactState;
use mz_vault::testing::{Consent, TestBus, approval, eventually, person};

use crate::bundles::{Sources, ask, checked, eventually_bundle, fact, log};

const AGREEMENT: &str = "agreements/police/talent-settlement.yaml";

/// The same agreement on the basis of consent: all by grant, no cases.
fn consented(root: &Path) {
    let path = root.join(AGREEMENT);
    let text = fs::read_to_string(&path).unwrap();
    let (text, _) = text.split_once("cases:\n").unwrap();
    let terms = "consent:\n  notice_version: 1\n  max: 365d\n  withdrawal: {zh: 窗口, en: counter}\n  \
                 representation: []\n  minor_age: 14\n";
    let text = text
        .replace("kind: statutory_duty", "kind: consent")
        .replace("scope: matching", "scope: case")
        .replace("retention: 30d", &format!("{terms}retention: 30d"));
    fs::write(&path, text).unwrap();
}

fn grant(bus: &TestBus, id: &mz_contract::IdNumber, datasets: &[&str]) -> Grant {
    Grant {
        id: GrantId([4; 16]),
        kind: GrantKind::Consent,
        subject: bus.vault_keys().subject.tag(id),
        agreement: "police/talent-settlement".to_owned(),
        datasets: datasets.iter().map(|id| (*id).to_owned()).collect(),
        status: GrantStatus::Open,
        counter: 1,
        opened_ms: 1,
        expires_ms: 4_000_000_000_000,
        closed_ms: None,
        cause: String::new(),
        reason: String::new(),
        subject_sealed: None,
    }
}

#[test]
fn no_request_stands_in_for_consent_and_consent_reaches_as_far_as_it_says() {
    let bus = TestBus::with(consented);
    let id = person(1);
    let mut sources = Sources::of(&bus);
    sources.settle(&id);
    let (service, handle) = bus.start_vault();
    assert_eq!(ask(&handle, &id), Err(Refusal::ConsentNone));
    let log_of = log(&bus, &id);
    assert_eq!(log_of.len(), 1, "no case was opened");
    assert_eq!(
        (log_of[0].kind, &*log_of[0].rule),
        (AuditKind::Denied, "BUNDLE_CONSENT_NONE")
    );

    let covered = ["hrss.talent.approval.v1", "hrss.insurance.status.v1"];
    let given = grant(&bus, &id, &covered);
    let mut consent = Consent::open(&bus);
    consent.grant(bus.lane(&id), &given);
    eventually("the consent is known", || ask(&handle, &id).is_ok());
    let bundle = ask(&handle, &id).unwrap();
    for (need, state) in [
        ("approval", FactState::Present),
        ("insurance", FactState::Present),
        ("property", FactState::NotPermitted),
        ("household", FactState::NotPermitted),
    ] {
        let entry = fact(&bundle, need);
        assert_eq!(entry.state, state, "{need}");
        if state == FactState::NotPermitted {
            assert_eq!(
                entry.reason.as_ref().unwrap().code,
                "BUNDLE_FACT_NOT_COVERED"
            );
            assert_eq!((&entry.record, &entry.complete_to), (&None, &None));
        }
    }
    assert!(checked(&bus, &bundle).is_valid());
    let last = log(&bus, &id);
    let last = &last[last.len() - 4..];
    let told: Vec<_> = last.iter().map(|a| (a.kind, a.grant)).collect();
    assert_eq!(
        told,
        [
            (AuditKind::Lookup, Some(given.id)),
            (AuditKind::Lookup, Some(given.id)),
            // The grant that there is, and that does not reach so far.
            (AuditKind::Denied, Some(given.id)),
            (AuditKind::Denied, Some(given.id)),
        ]
    );

    // Revoked: refused as closed; nothing opens it again.
    let revoked = Grant {
        status: GrantStatus::Closed,
        counter: 2,
        closed_ms: Some(2),
        ..given
    };
    consent.grant(bus.lane(&id), &revoked);
    eventually("the revocation is known", || ask(&handle, &id).is_err());
    assert_eq!(ask(&handle, &id), Err(Refusal::Denied(Rule::GrantClosed)));
    service.stop().unwrap();
}

#[test]
fn what_is_revoked_while_a_request_waits_is_not_answered() {
    let bus = TestBus::with(consented);
    let id = person(1);
    let mut sources = Sources::of(&bus);
    sources.settle(&id);
    let (service, handle) = bus.start_vault();
    let mut consent = Consent::open(&bus);
    let given = grant(&bus, &id, &[]);
    consent.grant(bus.lane(&id), &given);
    eventually("the consent is known", || ask(&handle, &id).is_ok());
    // An open transaction makes the request wait for its two seconds.
    let neighbour = (2..)
        .map(person)
        .find(|p| bus.lane(p) == bus.lane(&id))
        .unwrap();
    let mut nothing = |_: usize, _: &mut Vec<u8>, _: &mut Vec<u8>| {};
    sources
        .approvals
        .begin(vec![approval(&neighbour, "A-9")], &mut nothing);
    std::thread::sleep(Duration::from_millis(100));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&handle, &id));
        std::thread::sleep(Duration::from_millis(500));
        assert!(!asking.is_finished(), "the request did not wait");
        let revoked = Grant {
            status: GrantStatus::Closed,
            counter: 2,
            closed_ms: Some(2),
            ..given.clone()
        };
        consent.grant(bus.lane(&id), &revoked);
        let refused = asking.join().unwrap();
        assert_eq!(refused, Err(Refusal::Denied(Rule::GrantClosed)));
    });
    sources.approvals.commit();
    service.stop().unwrap();
}

#[test]
fn a_revoked_approval_flips_the_bundle_and_says_when() {
    let bus = TestBus::new();
    let id = person(1);
    let mut sources = Sources::of(&bus);
    sources.settle(&id);
    let (service, handle) = bus.start_vault();
    assert_eq!(
        fact(&ask(&handle, &id).unwrap(), "approval").state,
        FactState::Present
    );
    let revoked = approval(&id, "A-1").field("status", Datum::Enum("REVOKED".into()));
    sources.approvals.publish(vec![revoked.version(100)]);
    let bundle = eventually_bundle(&handle, &id, |bundle| {
        fact(bundle, "approval").state == FactState::None
    });
    let entry = fact(&bundle, "approval");
    assert_eq!(
        entry.reason.as_ref().unwrap().code,
        "BUNDLE_FACT_SUPERSEDED"
    );
    assert!(entry.as_of.is_some() && entry.record.is_none());
    assert_eq!(bundle.outcome.kind, "not_eligible");
    let bytes = serde_json::to_vec(&bundle).unwrap();
    assert!(
        !bytes.windows(7).any(|w| w == b"REVOKED"),
        "the withheld value leaked"
    );
    assert!(checked(&bus, &bundle).is_valid());
    // The time stands there for that reason alone.
    let mut forged = bundle.clone();
    forged.facts.iter_mut().for_each(|fact| fact.as_of = None);
    assert!(!checked(&bus, &forged).is_valid());

    // A first version outside the rows was never seen by anybody: nothing is told of it.
    let other = person(2);
    let first = approval(&other, "A-2").field("status", Datum::Enum("REVOKED".into()));
    sources.approvals.publish(vec![first.version(1)]);
    let bundle = ask(&handle, &other).unwrap();
    let entry = fact(&bundle, "approval");
    assert_eq!((entry.state, &entry.as_of), (FactState::None, &None));
    assert_eq!(entry.reason.as_ref().unwrap().code, "BUNDLE_FACT_NONE");
    service.stop().unwrap();
}
