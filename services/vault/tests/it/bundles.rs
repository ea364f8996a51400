//! Evidence bundles from a running vault: what they hold, what is recorded before they leave, who
//! gets none, and what an altered one looks like to a verifier.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use chrono::Utc;
use mz_contract::{IdNumber, Lang};
use mz_journal::{
    Audit, AuditCause, AuditKind, AuditWriter, Chain, Grant, GrantKind, GrantStatus, Record as _,
    bitmap_fields, topics,
};
use mz_policy::Rule;
use mz_vault::bundle::verify::{Report, verify};
use mz_vault::bundle::{Bundle, BundleRequest, FactEntry, FactState, SubjectQuery};
use mz_vault::testing::{
    Connector, Gateway, TestBus, approval, household, insurance, person, right, text,
};
use mz_vault::{Handle, Refusal};

pub fn request(id: &IdNumber) -> BundleRequest {
    BundleRequest {
        item: "talent-settlement".to_owned(),
        subject: SubjectQuery::Id(id.as_str().to_owned()),
        operator: "hz-07".to_owned(),
        reason: "人才入户窗口受理".to_owned(),
    }
}

pub fn ask_as(handle: &Handle, caller: &str, request: BundleRequest) -> Result<Bundle, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(handle.bundle(caller, request))
}

pub fn ask(handle: &Handle, id: &IdNumber) -> Result<Bundle, Refusal> {
    ask_as(handle, "police", request(id))
}

/// The four sources of the item.
pub struct Sources {
    pub approvals: Connector,
    pub insurances: Connector,
    pub rights: Connector,
    pub households: Connector,
}

impl Sources {
    pub fn of(bus: &TestBus) -> Self {
        Self {
            approvals: bus.connector("hrss", "talent"),
            insurances: bus.connector("hrss", "insurance"),
            rights: bus.connector("realestate", "right"),
            households: bus.connector("police", "household"),
        }
    }

    /// All complete as of now, with what the person has.
    pub fn settle(&mut self, id: &IdNumber) {
        self.approvals.publish(vec![approval(id, "A-1")]);
        self.insurances.publish(vec![
            insurance(id, "PENSION", 31),
            insurance(id, "MEDICAL", 30).field("status", mz_seal::Datum::Enum("TERMINATED".into())),
        ]);
        self.rights.publish(vec![right(id, "粤房地证字1号")]);
        self.households.heartbeat();
    }
}

pub fn states(bundle: &Bundle) -> BTreeMap<&str, FactState> {
    bundle
        .facts
        .iter()
        .map(|fact| (fact.need.as_str(), fact.state))
        .collect()
}

pub fn fact<'b>(bundle: &'b Bundle, need: &str) -> &'b FactEntry {
    bundle.facts.iter().find(|fact| fact.need == need).unwrap()
}

/// The vault's own records of one person, checked to continue one another.
pub fn log(bus: &TestBus, id: &IdNumber) -> Vec<Audit<'static>> {
    let subject = bus.vault_keys().subject.tag(id);
    let mut chains: BTreeMap<i32, Chain> = BTreeMap::new();
    let mut found = Vec::new();
    bus.read(topics::AUDIT, |record| {
        let lane = u16::try_from(record.partition).unwrap();
        let chain = chains
            .entry(record.partition)
            .or_insert_with(|| Chain::new(AuditWriter::Vault, lane));
        let audit = chain
            .check(record.key.unwrap(), record.value.unwrap())
            .unwrap();
        // That somebody was labelled is nothing that was done with their data.
        if audit.subject == subject && audit.kind != AuditKind::SubjectBound {
            found.push(audit.into_owned());
        }
    });
    found
}

pub fn checked(bus: &TestBus, bundle: &Bundle) -> Report {
    verify(&serde_json::to_vec(bundle).unwrap(), &bus.contract)
}

#[test]
fn a_bundle_holds_what_was_agreed_and_is_recorded_before_it_leaves() {
    let bus = TestBus::new();
    let id = person(1);
    let mut sources = Sources::of(&bus);
    sources.settle(&id);
    let (service, handle) = bus.start_vault();
    let bundle = ask(&handle, &id).unwrap();

    let expected = BTreeMap::from([
        ("approval", FactState::Present),
        ("insurance", FactState::Present),
        ("property", FactState::Present),
        ("household", FactState::None),
    ]);
    assert_eq!(states(&bundle), expected);
    // TERMINATED doesn't meet the need: one insurance, not two.
    assert_eq!(bundle.facts.len(), 4);
    let record = fact(&bundle, "insurance").record.as_ref().unwrap();
    assert_eq!(record.fields["type"], "PENSION");
    assert_eq!(record.fields["monthsTotal"], 31);
    assert_eq!(record.answers["insured6of12"], true);
    assert!(fact(&bundle, "household").complete_to.is_some());
    assert_eq!(
        (bundle.outcome.kind.as_str(), bundle.outcome.working_days),
        ("same_visit", 0)
    );

    // Nothing outside the agreement, in any form.
    let bytes = serde_json::to_vec(&bundle).unwrap();
    let record_bytes = bundle
        .facts
        .iter()
        .filter_map(|fact| fact.record.as_ref())
        .flat_map(|r| {
            use base64::Engine as _;
            let engine = base64::engine::general_purpose::STANDARD;
            [
                engine.decode(&r.datum).unwrap(),
                engine.decode(&r.seal).unwrap(),
            ]
        });
    for hay in record_bytes.chain([bytes]) {
        assert!(
            !hay.windows(5).any(|w| w == b"MARK-"),
            "a withheld value leaked"
        );
    }

    // One record a need, the case's opening before them, all committed by now.
    let log_of = log(&bus, &id);
    let kinds: Vec<AuditKind> = log_of.iter().map(|audit| audit.kind).collect();
    assert_eq!(kinds[0], AuditKind::CaseOpened);
    assert_eq!(kinds[1..], [AuditKind::Lookup; 4]);
    let first = &log_of[1];
    assert_eq!(
        bundle.audit_id,
        format!("vault-{}-{}", first.lane, first.number)
    );
    assert_eq!(bundle.audit_count, 4);
    for audit in &log_of {
        assert_eq!(audit.cause, AuditCause::Request);
        assert_eq!(
            (&*audit.operator, &*audit.reason),
            ("hz-07", "人才入户窗口受理")
        );
        assert_eq!(
            (&*audit.consumer, &*audit.agreement),
            ("police", "police/talent-settlement")
        );
    }
    let dataset = bus.contract.dataset(&first.dataset).unwrap();
    let names: Vec<&str> = bitmap_fields(&first.fields)
        .iter()
        .map(|field| dataset.fields[usize::from(*field)].name.as_str())
        .collect();
    let agreed = [
        "idNo",
        "name",
        "approvalId",
        "category",
        "dependents",
        "validUntil",
        "status",
    ];
    assert_eq!(BTreeSet::from_iter(names), BTreeSet::from_iter(agreed));

    let report = checked(&bus, &bundle);
    assert!(
        report.is_valid(),
        "{}",
        report.render(&bus.contract.reasons, Lang::En)
    );
    let held = report.render(&bus.contract.reasons, Lang::Zh);
    assert!(
        held.contains("facts[0].seal") && held.contains("outcome"),
        "{held}"
    );

    // The second request finds the case, by number and by case id.
    let again = ask(&handle, &id).unwrap();
    assert_eq!(again.subject, bundle.subject);
    let case = bundle.subject.case.clone().unwrap();
    let by_case = BundleRequest {
        subject: SubjectQuery::Case(case),
        ..request(&id)
    };
    let by_case = ask_as(&handle, "police", by_case).unwrap();
    assert_eq!(states(&by_case), states(&bundle));
    let opened = log(&bus, &id)
        .iter()
        .filter(|a| a.kind == AuditKind::CaseOpened)
        .count();
    assert_eq!(opened, 1);
    let mut grants = 0;
    bus.read(topics::GRANTS, |record| {
        let grant = Grant::decode(record.value.unwrap()).unwrap();
        assert_eq!(grant.status, GrantStatus::Open);
        grants += 1;
    });
    assert_eq!(grants, 1);
    service.stop().unwrap();
}

#[test]
fn a_silent_source_is_unavailable_and_never_missing() {
    let bus = TestBus::new();
    let id = person(2);
    let mut sources = Sources::of(&bus);
    sources.approvals.publish(vec![approval(&id, "A-2")]);
    // Never said anything; said something very long ago; could not read some rows.
    let long_ago = Utc::now().timestamp_millis() - 400 * 24 * 3600 * 1000;
    sources.insurances.status(long_ago, 0);
    sources.households.status(Utc::now().timestamp_millis(), 3);
    let (service, handle) = bus.start_vault();
    let bundle = ask(&handle, &id).unwrap();
    let property = fact(&bundle, "property");
    assert_eq!(property.state, FactState::SourceUnavailable);
    assert_eq!((&property.since, &property.complete_to), (&None, &None));
    let insurance = fact(&bundle, "insurance");
    assert_eq!(insurance.state, FactState::SourceUnavailable);
    assert_eq!(
        insurance.since.as_deref(),
        Some(&*mz_seal::timestamp_text(long_ago))
    );
    let household = fact(&bundle, "household");
    assert_eq!(household.state, FactState::None);
    assert_eq!(
        household.reason.as_ref().unwrap().code,
        "BUNDLE_FACT_NONE_UNCERTAIN"
    );
    assert_eq!(fact(&bundle, "approval").state, FactState::Present);
    let source = bundle
        .sources
        .iter()
        .find(|s| s.dataset == "realestate.right.v1")
        .unwrap();
    assert!(!source.available);
    assert!(checked(&bus, &bundle).is_valid());

    // A source that fell behind: what is known is shown, and since when it is old.
    sources.approvals.status(long_ago, 0);
    let later = eventually_bundle(&handle, &id, |bundle| {
        fact(bundle, "approval").since.is_some()
    });
    assert_eq!(fact(&later, "approval").state, FactState::Present);
    service.stop().unwrap();
}

pub fn eventually_bundle(
    handle: &Handle,
    id: &IdNumber,
    holds: impl Fn(&Bundle) -> bool,
) -> Bundle {
    let deadline = Instant::now() + mz_vault::testing::PATIENCE;
    loop {
        let bundle = ask(handle, id).unwrap();
        if holds(&bundle) {
            return bundle;
        }
        assert!(Instant::now() < deadline, "the bundle never changed");
    }
}

#[test]
fn what_is_being_published_is_waited_for() {
    let bus = TestBus::new();
    let id = person(3);
    let mut sources = Sources::of(&bus);
    sources.settle(&id);
    let (service, handle) = bus.start_vault();
    assert_eq!(
        fact(&ask(&handle, &id).unwrap(), "approval").state,
        FactState::Present
    );

    // In an open transaction when the request comes, committed while it waits.
    let other = person(4);
    let mut nothing = |_: usize, _: &mut Vec<u8>, _: &mut Vec<u8>| {};
    sources
        .approvals
        .begin(vec![approval(&other, "A-4")], &mut nothing);
    std::thread::sleep(Duration::from_millis(100));
    let committing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        sources.approvals.commit();
        sources
    });
    let bundle = ask(&handle, &other).unwrap();
    assert_eq!(fact(&bundle, "approval").state, FactState::Present);
    let mut sources = committing.join().unwrap();

    // Not committed within two seconds: nobody can say that there is nothing.
    let third = (5..)
        .map(person)
        .find(|p| bus.lane(p) == bus.lane(&other))
        .unwrap();
    sources
        .approvals
        .begin(vec![approval(&third, "A-5")], &mut nothing);
    std::thread::sleep(Duration::from_millis(100));
    let started = Instant::now();
    let bundle = ask(&handle, &third).unwrap();
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_eq!(
        fact(&bundle, "approval").state,
        FactState::SourceUnavailable
    );
    assert_eq!(
        fact(&bundle, "approval").reason.as_ref().unwrap().code,
        "BUNDLE_VAULT_BEHIND"
    );
    assert_eq!(bundle.outcome.kind, "accepted");
    sources.approvals.commit();
    service.stop().unwrap();
}

#[test]
fn who_may_not_ask_is_refused_and_recorded() {
    let bus = TestBus::new();
    let id = person(6);
    let mut sources = Sources::of(&bus);
    sources.settle(&id);
    let (service, handle) = bus.start_vault();
    assert_eq!(
        ask_as(&handle, "hrss", request(&id)),
        Err(Refusal::ConsumerForeign)
    );

    // The person's case was closed: this request may not open another.
    let lane = bus.lane(&id);
    let grant = Grant {
        id: mz_journal::GrantId([5; 16]),
        kind: GrantKind::Case,
        subject: bus.vault_keys().subject.tag(&id),
        agreement: "police/talent-settlement".to_owned(),
        datasets: Vec::new(),
        status: GrantStatus::Closed,
        counter: 3,
        opened_ms: 1,
        expires_ms: i64::MAX,
        closed_ms: Some(2),
        cause: String::new(),
        reason: String::new(),
        subject_sealed: None,
    };
    Gateway::open(&bus).grant(lane, &grant);
    let deadline = Instant::now() + mz_vault::testing::PATIENCE;
    let by_case = || BundleRequest {
        subject: SubjectQuery::Case(grant.id.hex()),
        ..request(&id)
    };
    while ask_as(&handle, "police", by_case()) == Err(Refusal::CaseUnknown) {
        assert!(Instant::now() < deadline);
    }
    let closed = Err(Refusal::Denied(Rule::GrantClosed));
    assert_eq!(ask_as(&handle, "police", by_case()), closed);
    assert_eq!(ask(&handle, &id), closed);

    let denials: Vec<_> = log(&bus, &id);
    assert!(denials.iter().all(|audit| audit.kind == AuditKind::Denied));
    let rules: BTreeSet<(&str, &str)> = denials
        .iter()
        .map(|audit| (&*audit.consumer, &*audit.rule))
        .collect();
    let expected = [
        ("hrss", "BUNDLE_CONSUMER_FOREIGN"),
        ("police", "GRANT_CLOSED"),
    ];
    assert_eq!(rules, BTreeSet::from(expected));
    assert!(
        denials
            .iter()
            .all(|audit| audit.counts.denied == 1 && audit.fields.is_empty())
    );

    // Nothing about anybody: refused without a record.
    let before = bus.audits().len();
    let bad = [
        (
            BundleRequest {
                item: "x".into(),
                ..request(&id)
            },
            Refusal::ItemUnknown,
        ),
        (
            BundleRequest {
                subject: SubjectQuery::Id("110105194912310021".into()),
                ..request(&id)
            },
            Refusal::SubjectInvalid("ID_CHECK"),
        ),
        (
            BundleRequest {
                subject: SubjectQuery::Case("00".into()),
                ..request(&id)
            },
            Refusal::CaseInvalid,
        ),
        (
            BundleRequest {
                subject: SubjectQuery::Case("00".repeat(16)),
                ..request(&id)
            },
            Refusal::CaseUnknown,
        ),
        (
            BundleRequest {
                reason: format!("为{}办理", id.as_str()),
                ..request(&id)
            },
            Refusal::ReasonHoldsNumber,
        ),
        (
            BundleRequest {
                operator: String::new(),
                ..request(&id)
            },
            Refusal::OperatorInvalid,
        ),
    ];
    for (request, refusal) in bad {
        assert_eq!(ask_as(&handle, "police", request), Err(refusal));
    }
    assert_eq!(bus.audits().len(), before);
    service.stop().unwrap();
}

#[test]
fn a_case_that_ran_out_is_opened_anew() {
    let bus = TestBus::new();
    let id = person(14);
    Sources::of(&bus).settle(&id);
    let grant = Grant {
        id: mz_journal::GrantId([6; 16]),
        kind: GrantKind::Case,
        subject: bus.vault_keys().subject.tag(&id),
        agreement: "police/talent-settlement".to_owned(),
        datasets: Vec::new(),
        status: GrantStatus::Open,
        counter: 1,
        opened_ms: 1,
        expires_ms: 2,
        closed_ms: None,
        cause: String::new(),
        reason: String::new(),
        subject_sealed: None,
    };
    Gateway::open(&bus).grant(bus.lane(&id), &grant);
    let (service, handle) = bus.start_vault();
    let bundle = ask(&handle, &id).unwrap();
    assert_eq!(fact(&bundle, "insurance").state, FactState::Present);
    assert_ne!(bundle.subject.case, Some(grant.id.hex()));
    service.stop().unwrap();
}

#[test]
fn without_a_case_only_what_needs_none_is_shown() {
    let bus = TestBus::with(|root| {
        let path = root.join("agreements/police/talent-settlement.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text
            .lines()
            .find(|line| line.contains("on_request:"))
            .unwrap()
            .to_owned();
        std::fs::write(&path, text.replace(&line, "")).unwrap();
    });
    let id = person(7);
    let mut sources = Sources::of(&bus);
    sources.settle(&id);
    let (service, handle) = bus.start_vault();
    let bundle = ask(&handle, &id).unwrap();
    let expected = BTreeMap::from([
        ("approval", FactState::Present),
        ("insurance", FactState::NotPermitted),
        ("property", FactState::NotPermitted),
        ("household", FactState::NotPermitted),
    ]);
    assert_eq!(states(&bundle), expected);
    assert_eq!(bundle.subject.case, None);
    let kinds: Vec<AuditKind> = log(&bus, &id).iter().map(|audit| audit.kind).collect();
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == AuditKind::Denied)
            .count(),
        3
    );
    assert!(checked(&bus, &bundle).is_valid());
    service.stop().unwrap();
}

#[test]
fn a_replaced_vault_answers_nobody() {
    let bus = TestBus::new();
    let id = person(8);
    Sources::of(&bus).settle(&id);
    let (old, handle) = bus.start_vault();
    ask(&handle, &id).unwrap();
    let (new, current) = bus.start_vault();
    let before = bus.audits().len();
    assert_eq!(ask(&handle, &id), Err(Refusal::Unavailable));
    assert_eq!(
        bus.audits().len(),
        before,
        "a replaced owner committed a record"
    );
    ask(&current, &id).unwrap();
    assert!(old.stop().is_err());
    new.stop().unwrap();
}

#[test]
fn a_newer_version_turns_the_bundle() {
    let bus = TestBus::new();
    let id = person(12);
    let mut sources = Sources::of(&bus);
    sources.settle(&id);
    sources.households.publish(vec![household(&id, "H-1")]);
    let (service, handle) = bus.start_vault();
    assert_eq!(ask(&handle, &id).unwrap().outcome.kind, "same_visit");
    // Revoked: outside the agreement's rows, so there is none that counts.
    let revoked = approval(&id, "A-1").field("status", mz_seal::Datum::Enum("REVOKED".into()));
    sources.approvals.publish(vec![revoked]);
    let bundle = ask(&handle, &id).unwrap();
    assert_eq!(fact(&bundle, "approval").state, FactState::None);
    assert_eq!(bundle.outcome.kind, "not_eligible");
    // The register deletes the property; the household entry is still there.
    sources
        .rights
        .publish(vec![right(&id, "粤房地证字1号").withdrawn()]);
    let bundle = ask(&handle, &id).unwrap();
    assert_eq!(fact(&bundle, "property").state, FactState::None);
    assert_eq!(fact(&bundle, "household").state, FactState::Present);
    let renamed = approval(&id, "A-1").field("name", text("李四"));
    sources.approvals.publish(vec![renamed]);
    assert_eq!(ask(&handle, &id).unwrap().outcome.kind, "same_visit");
    service.stop().unwrap();
}
