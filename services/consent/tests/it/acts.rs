//! Who may do what, with which evidence, and that asking twice is asking once.

use crate::world::*;
use mz_consent::Refusal;
use mz_consent::model::{About, Change, ChangeKind, Evidence, OpenCase, Representation, Why};
use mz_consent::record::{person_digest, signed_bytes};
use mz_contract::{BUS, IdNumber, KeyUse, check_character};
use mz_journal::AuditKind;
use mz_seal::verify_signature;
use mz_vault::testing::{insurance, person};

/// A number with a birth date so many years ago.
fn aged(years: i32) -> IdNumber {
    let born = chrono::Utc::now().date_naive() - chrono::Days::new(366 * years as u64 / 365 * 365);
    let digits = format!("441900{}011", born.format("%Y%m%d"));
    let seventeen: [u8; 17] = digits.as_bytes().try_into().expect("17 digits");
    let check = check_character(&seventeen).expect("digits");
    IdNumber::parse(&format!("{digits}{}", char::from(check))).expect("number")
}

#[test]
fn consent_needs_the_right_caller_evidence_terms_and_representation() {
    let world = World::new();
    let consent = world.consent();
    let id = person(1);
    let give = world.app_give("r-1", &id, RETIREMENT);
    let refused = |caller: &str, give: &mz_consent::model::Give| {
        world
            .call(consent.give(&self::caller(caller), give.clone()))
            .expect_err("refused")
    };

    // The app's evidence counts from the portal alone; a counter is the consumer's own.
    for other in [
        "union.window",
        "police.window",
        "bus.security",
        "union.adapter",
    ] {
        assert_eq!(refused(other, &give), Refusal::RoleForbidden, "{other}");
    }
    let counter = mz_consent::model::Give {
        evidence: Evidence::Counter {
            operator: "U017".to_owned(),
            at: "2026-11-26T10:00:00+08:00".to_owned(),
            document: "form 12/2026".to_owned(),
        },
        ..give.clone()
    };
    assert_eq!(refused("police.window", &counter), Refusal::RoleForbidden);
    assert_eq!(refused("bus.portal", &counter), Refusal::RoleForbidden);

    // What was signed is what counts: every part of it.
    let alter = |change: &dyn Fn(&mut mz_consent::model::Give)| {
        let mut altered = give.clone();
        change(&mut altered);
        refused("bus.portal", &altered)
    };
    assert_eq!(
        alter(&|g| g.id = person(2).as_str().to_owned()),
        Refusal::EvidenceInvalid
    );
    assert_eq!(
        alter(&|g| g.valid_until = in_days(101)),
        Refusal::EvidenceInvalid
    );
    assert_eq!(
        alter(&|g| g.request_id = "r-2".to_owned()),
        Refusal::EvidenceInvalid
    );
    assert_eq!(
        alter(&|g| g.datasets = vec!["hrss.insurance.status.v1".to_owned()]),
        Refusal::EvidenceInvalid
    );
    assert_eq!(
        alter(&|g| {
            if let Evidence::App { key_id, .. } = &mut g.evidence {
                *key_id = "bus-seal-1".to_owned();
            }
        }),
        Refusal::EvidenceInvalid
    );

    // The terms of the agreement.
    let signed = |change: &dyn Fn(&mut mz_consent::model::Give)| {
        let mut altered = give.clone();
        change(&mut altered);
        world.sign_give(&mut altered, &id);
        refused("bus.portal", &altered)
    };
    assert_eq!(
        signed(&|g| g.agreement = SETTLEMENT.to_owned()),
        Refusal::NotByConsent
    );
    assert_eq!(
        signed(&|g| g.agreement = "union/x".to_owned()),
        Refusal::AgreementUnknown
    );
    assert_eq!(signed(&|g| g.notice_version += 1), Refusal::NoticeOutdated);
    assert_eq!(
        signed(&|g| g.valid_until = in_days(400)),
        Refusal::PeriodInvalid
    );
    assert_eq!(
        signed(&|g| g.valid_until = "2026-01-01".to_owned()),
        Refusal::PeriodInvalid
    );
    assert_eq!(
        signed(&|g| g.datasets = vec!["realestate.right.v1".to_owned()]),
        Refusal::DatasetUnknown
    );
    assert_eq!(
        signed(&|g| g.request_id = "<script>".to_owned()),
        Refusal::RequestIdInvalid
    );
    assert_eq!(
        signed(&|g| g.id = "11010519491231002Z".to_owned()).kind(),
        mz_consent::RefusalKind::Invalid
    );

    // Sensitive fields are consented to one by one (PIPL Art. 29).
    let hardship = world.app_give("r-3", &id, "civil/hardship-check");
    if !hardship.separate.is_empty() {
        let mut without = hardship.clone();
        without.separate.pop();
        world.sign_give(&mut without, &id);
        assert_eq!(
            refused("bus.portal", &without),
            Refusal::SeparateConsentMissing
        );
    }

    // A child's guardian consents (Art. 31), nobody else.
    let child = aged(9);
    let mut childs = world.app_give("r-4", &child, RETIREMENT);
    assert_eq!(refused("bus.portal", &childs), Refusal::GuardianMissing);
    let represented = |kind: &str, by: &IdNumber| Representation {
        kind: kind.to_owned(),
        id: by.as_str().to_owned(),
        document: "birth certificate 4419-2017-1".to_owned(),
        valid_until: in_days(300),
    };
    childs.representation = Some(represented("agent", &id));
    assert_eq!(refused("bus.portal", &childs), Refusal::GuardianMissing);
    childs.representation = Some(represented("guardian", &child));
    assert_eq!(
        refused("bus.portal", &childs),
        Refusal::RepresentationInvalid
    );
    childs.representation = Some(represented("guardian", &id));
    let given = world
        .call(consent.give(&portal(), childs))
        .expect("a guardian's consent");
    let representation = given.consent.representation.expect("representation");
    assert_eq!(representation.kind, "guardian");

    // Nothing of all that was refused left anything behind.
    assert!(!world.audits().iter().any(|audit| {
        audit.kind == AuditKind::ConsentGiven && audit.subject != world.vault().place(&child).1
    }));
}

#[test]
fn the_same_request_is_one_consent_and_its_receipt_verifies() {
    let world = World::new();
    let id = person(3);
    let give = world.app_give("once", &id, RETIREMENT);
    let consent = world.consent();
    let first = world
        .call(consent.give(&portal(), give.clone()))
        .expect("consent");
    let again = world
        .call(consent.give(&portal(), give.clone()))
        .expect("again");
    assert_eq!(
        (&first.consent, &first.receipt),
        (&again.consent, &again.receipt)
    );
    // Cut off, the app asks again: at another moment, so with another signature, and waits longer.
    let mut later = give.clone();
    later.wait_ms = Some(25_000);
    world.sign_give(&mut later, &id);
    assert_ne!(later.evidence, give.evidence);
    let later = world
        .call(consent.give(&portal(), later))
        .expect("asked again");
    assert_eq!(first.receipt, later.receipt);
    // What was not shown to be the person's act gets no receipt, whatever its id.
    let mut unshown = give.clone();
    unshown.evidence = match unshown.evidence {
        Evidence::App {
            session,
            at,
            key_id,
            ..
        } => Evidence::App {
            session,
            at,
            key_id,
            signature: "AAAA".to_owned(),
        },
        other => other,
    };
    let refused = world
        .call(consent.give(&portal(), unshown))
        .expect_err("not shown");
    assert_eq!(refused, Refusal::EvidenceInvalid);
    let mut other = give;
    other.valid_until = in_days(50);
    world.sign_give(&mut other, &id);
    let refused = world
        .call(consent.give(&portal(), other))
        .expect_err("reused");
    assert_eq!(refused, Refusal::RequestIdReused);
    let given = world
        .audits()
        .into_iter()
        .filter(|a| a.kind == AuditKind::ConsentGiven);
    assert_eq!(given.count(), 1);

    // Offline: the bus signed it, and it is about this person and nobody else.
    let receipt = &first.receipt;
    let signature = receipt.signature.as_ref().expect("signature");
    let bytes = signed_bytes(serde_json::to_value(receipt).expect("json")).expect("canonical");
    let contract = consent.contract();
    let key = contract
        .key(BUS, KeyUse::Consent, &signature.key_id)
        .expect("key");
    use base64::Engine as _;
    let value = base64::engine::general_purpose::STANDARD
        .decode(&signature.value)
        .expect("base64");
    let value: [u8; 64] = value.try_into().expect("64 bytes");
    assert!(verify_signature(&key.info.public, &bytes, &value).is_ok());
    let salt: [u8; 16] = hex::decode(&receipt.salt)
        .expect("hex")
        .try_into()
        .expect("16");
    assert_eq!(person_digest(&salt, id.as_str()), receipt.person);
    assert_ne!(person_digest(&salt, person(4).as_str()), receipt.person);
    let text = serde_json::to_string(receipt).expect("json");
    assert!(!text.contains(id.as_str()), "the receipt names nobody");
}

#[test]
fn grants_change_only_by_those_who_may() {
    let world = World::new();
    let (id, other) = (person(5), person(6));
    let given = world.give("g", &id, RETIREMENT);
    let grant = given.consent.record_id.clone();
    let consent = world.consent();
    let change = |request: &str, operator: Option<&str>, id: Option<&IdNumber>| Change {
        request_id: request.to_owned(),
        grant: grant.clone(),
        id: id.map(|id| id.as_str().to_owned()),
        reason: "at the counter".to_owned(),
        operator: operator.map(str::to_owned),
        valid_until: None,
        evidence: None,
        wait_ms: Some(20_000),
    };
    let refused = |by: &str, kind, change: Change| {
        world
            .call(consent.change(&caller(by), kind, change))
            .expect_err("refused")
    };
    // Somebody else's number, or none: the id of a grant opens nothing.
    assert_eq!(
        refused(
            "bus.portal",
            ChangeKind::Revoke,
            change("a", None, Some(&other))
        ),
        Refusal::GrantUnknown
    );
    assert_eq!(
        refused("bus.portal", ChangeKind::Revoke, change("b", None, None)),
        Refusal::RoleForbidden
    );
    // Another department's counter may take a revocation, of a person who stands there; nothing else.
    assert_eq!(
        refused(
            "police.window",
            ChangeKind::Resume,
            change("c", Some("P1"), Some(&id))
        ),
        Refusal::RoleForbidden
    );
    assert_eq!(
        refused(
            "police.window",
            ChangeKind::Revoke,
            change("d", Some("P1"), None)
        ),
        Refusal::RoleForbidden
    );
    assert_eq!(
        refused(
            "union.window",
            ChangeKind::Revoke,
            change("e", None, Some(&id))
        ),
        Refusal::RoleForbidden
    );
    assert_eq!(
        refused(
            "union.adapter",
            ChangeKind::Revoke,
            change("f", Some("U1"), Some(&id))
        ),
        Refusal::RoleForbidden
    );
    // The administrator stops flows and opens none.
    assert_eq!(
        refused(
            "bus.security",
            ChangeKind::Resume,
            change("g", Some("S1"), None)
        ),
        Refusal::RoleForbidden
    );
    // Widening needs the person's act again.
    assert_eq!(
        refused(
            "bus.portal",
            ChangeKind::Resume,
            change("h", None, Some(&id))
        ),
        Refusal::EvidenceInvalid
    );
    assert_eq!(
        refused(
            "bus.portal",
            ChangeKind::Close,
            change("i", None, Some(&id))
        ),
        Refusal::GrantKind
    );
    // A number in a reason would stay in the log.
    let mut numbered = change("j", None, Some(&id));
    numbered.reason = format!("for {}", id.as_str());
    assert_eq!(
        refused("bus.portal", ChangeKind::Revoke, numbered),
        Refusal::ReasonInvalid
    );

    // Pause, resume, extend, revoke; then nothing any more.
    let paused = world
        .change(ChangeKind::Pause, "p", &grant, &id)
        .expect("paused");
    assert_eq!(paused.grant.status, "paused");
    let resumed = world
        .change(ChangeKind::Resume, "q", &grant, &id)
        .expect("resumed");
    assert_eq!(
        (resumed.grant.status.as_str(), resumed.grant.counter),
        ("open", 3)
    );
    let extended = world
        .change(ChangeKind::Extend, "r", &grant, &id)
        .expect("extended");
    assert!(extended.grant.expires_at > resumed.grant.expires_at);
    let window = change("s", Some("P1"), Some(&id));
    let revoked = world
        .call(consent.change(&caller("police.window"), ChangeKind::Revoke, window))
        .expect("any counter takes a revocation");
    assert_eq!(revoked.grant.status, "closed");
    let late = world
        .change(ChangeKind::Resume, "t", &grant, &id)
        .expect_err("closed");
    assert_eq!(late, Refusal::GrantClosed);

    // The person sees it all; who looks is in the log.
    let about = About {
        id: id.as_str().to_owned(),
        operator: None,
        reason: "own data".to_owned(),
    };
    let listed = world
        .call(consent.list(&portal(), about.clone()))
        .expect("list");
    let actions: Vec<&str> = listed
        .history
        .iter()
        .map(|one| one.action.as_str())
        .collect();
    assert_eq!(
        actions,
        ["given", "paused", "resumed", "extended", "revoked"]
    );
    assert_eq!(listed.history[4].principal, "police.window");
    let nameless = world.call(consent.list(&auditor(), about.clone()));
    assert_eq!(nameless.expect_err("no operator"), Refusal::OperatorInvalid);
    let named = About {
        operator: Some("P2".to_owned()),
        ..about
    };
    let theirs = world
        .call(consent.list(&caller("police.window"), named))
        .expect("list");
    assert!(theirs.grants.is_empty(), "another department's grants");
    mz_vault::testing::eventually("looks are in the log", || {
        let looks = world.audits();
        looks
            .iter()
            .filter(|audit| audit.rule == "GRANTS_LISTED")
            .count()
            == 2
    });
}

#[test]
fn an_operator_opens_a_case_for_a_family_and_its_facts_come() {
    let mut world = World::new();
    let family = [person(10), person(11), person(12)];
    let mut hrss = world.bus.connector("hrss", "insurance");
    hrss.publish(
        family
            .iter()
            .map(|id| insurance(id, "PENSION", 30))
            .collect(),
    );
    let open = OpenCase {
        request_id: "case-1".to_owned(),
        agreement: SETTLEMENT.to_owned(),
        subjects: family.iter().map(|id| id.as_str().to_owned()).collect(),
        days: Some(30),
        application: "2026-0117".to_owned(),
        operator: "H0231".to_owned(),
        reason: "application at the counter".to_owned(),
        wait_ms: Some(20_000),
    };
    let consent = world.consent();
    let refused = |by: &str, open: OpenCase| {
        world
            .call(consent.open_case(&caller(by), open))
            .expect_err("refused")
    };
    assert_eq!(refused("hrss.window", open.clone()), Refusal::RoleForbidden);
    assert_eq!(
        refused(
            "police.window",
            OpenCase {
                days: Some(400),
                ..open.clone()
            }
        ),
        Refusal::PeriodInvalid
    );
    assert_eq!(
        refused(
            "union.window",
            OpenCase {
                agreement: RETIREMENT.to_owned(),
                ..open.clone()
            }
        ),
        Refusal::NotByCase
    );
    let opened = world
        .call(consent.open_case(&caller("police.window"), open.clone()))
        .expect("case");
    assert_eq!(opened.grants.len(), 3);
    let topic = "to.police.talent-settlement.hrss.insurance.status.v1";
    mz_vault::testing::eventually("what was published before the case has come", || {
        world.counts(topic).0 == 3
    });
    let again = world
        .call(consent.open_case(&caller("police.window"), open))
        .expect("again");
    assert_eq!(again.grants, opened.grants);
    settled(&world);
    assert_eq!(world.counts(topic).0, 3, "opened once");
    // Closed by its consumer: nothing flows, what was delivered stays for the agreed days.
    let close = Change {
        request_id: "close-1".to_owned(),
        grant: opened.grants[0].id.clone(),
        id: None,
        reason: "settled elsewhere".to_owned(),
        operator: Some("H0231".to_owned()),
        valid_until: None,
        evidence: None,
        wait_ms: Some(20_000),
    };
    let closed = world
        .call(consent.change(&caller("police.window"), ChangeKind::Close, close))
        .expect("closed");
    assert_eq!(
        closed.enforcement.state,
        mz_consent::model::EnforcementState::Enforced
    );
    hrss.publish(
        family
            .iter()
            .map(|id| insurance(id, "MEDICAL", 30))
            .collect(),
    );
    mz_vault::testing::eventually("the others' facts flow on", || world.counts(topic).0 == 5);
    settled(&world);
    assert_eq!(world.counts(topic), (5, 0));
    world.stop_gateway();
}

#[test]
fn why_says_field_by_field_what_decides() {
    let world = World::new();
    let id = person(20);
    let consent = world.consent();
    let ask = |consumer: &str, purpose: &str| {
        let why = Why {
            id: id.as_str().to_owned(),
            consumer: consumer.to_owned(),
            purpose: purpose.to_owned(),
            operator: Some("A7".to_owned()),
            reason: "question of the person".to_owned(),
        };
        world.call(consent.why(&auditor(), why)).expect("why")
    };
    let before = ask("union", "retirement-help");
    let section = &before.sections[0];
    assert_eq!(
        (section.flows, section.rule.as_str()),
        (false, "WHY_NOBODY_ASKED")
    );
    assert!(section.fields.iter().all(|field| !field.allowed));

    let given = world.give("w", &id, RETIREMENT);
    let after = ask("union", "retirement-help");
    let section = &after.sections[0];
    assert!(section.flows);
    assert_eq!(
        section.grant.as_deref(),
        Some(given.consent.record_id.as_str())
    );
    let allowed: Vec<&str> = section
        .fields
        .iter()
        .filter(|field| field.allowed)
        .map(|field| field.name.as_str())
        .collect();
    assert_eq!(
        allowed,
        ["idNo", "type", "status", "employerName", "arrearsMonths"]
    );
    world
        .change(ChangeKind::Pause, "w2", &given.consent.record_id, &id)
        .expect("paused");
    assert_eq!(
        ask("union", "retirement-help").sections[0].rule,
        "GRANT_PAUSED"
    );
    // The person's other purposes are others' matter.
    let police = ask("police", "talent-settlement");
    assert!(
        police
            .sections
            .iter()
            .any(|section| section.scope == "matching" && section.flows)
    );
}
