//! Agreements are suspended, resumed and ended, and contracts replaced, without a restart and at once.

use crate::barrier::arrears;
use crate::world::*;
use mz_consent::Refusal;
use mz_consent::model::{Activate, AgreementAct, AgreementActKind, EnforcementState, InForceView};
use mz_contract::Contract;
use mz_journal::AuditKind;
use mz_vault::testing::{eventually, person};

fn act(world: &World, kind: AgreementActKind, request_id: &str) -> Result<InForceView, Refusal> {
    let act = AgreementAct {
        request_id: request_id.to_owned(),
        agreement: RETIREMENT.to_owned(),
        reason: "检查发现超范围使用".to_owned(),
        operator: "S01".to_owned(),
        wait_ms: Some(20_000),
    };
    world.call(world.consent().agreement(&security(), kind, act))
}

fn enforced(view: &InForceView) -> bool {
    view.enforcement
        .iter()
        .all(|one| one.state == EnforcementState::Enforced && one.fenced.is_empty())
}

#[test]
fn an_agreement_is_suspended_resumed_and_ended_at_once() {
    let world = World::new();
    let (id, later) = (person(300), person(301));
    let mut hrss = world.bus.connector("hrss", "insurance");
    hrss.publish(vec![arrears(&id, 3)]);
    world.give("k-1", &id, RETIREMENT);
    world.give("k-2", &later, RETIREMENT);
    eventually("delivered", || world.held(ARREARS_TOPIC) == 1);

    let suspended = act(&world, AgreementActKind::Suspend, "k-3").expect("suspended");
    assert!(enforced(&suspended), "{suspended:?}");
    assert_eq!(suspended.version, 2);
    hrss.publish(vec![arrears(&later, 4)]);
    settled(&world);
    assert_eq!(
        world.counts(ARREARS_TOPIC),
        (1, 0),
        "nothing flows, nothing is called back"
    );
    let refused = world.call(
        world
            .consent()
            .give(&portal(), world.app_give("k-4", &person(302), RETIREMENT)),
    );
    assert_eq!(refused.expect_err("suspended"), Refusal::AgreementClosed);

    let resumed = act(&world, AgreementActKind::Resume, "k-5").expect("resumed");
    assert!(enforced(&resumed), "{resumed:?}");
    assert_eq!(resumed.refetched, 2);
    eventually("what came meanwhile", || world.held(ARREARS_TOPIC) == 2);

    let ended = act(&world, AgreementActKind::Terminate, "k-6").expect("ended");
    assert!(enforced(&ended), "{ended:?}");
    eventually("everything is called back", || {
        world.held(ARREARS_TOPIC) == 0
    });
    let seen = world.deliveries(ARREARS_TOPIC);
    let reasons: Vec<_> = seen
        .iter()
        .filter_map(|one| one.withdrawal.as_ref())
        .collect();
    assert!(
        reasons
            .iter()
            .all(|one| one.reason == "AGREEMENT_TERMINATED")
    );
    assert_eq!(
        act(&world, AgreementActKind::Resume, "k-7").expect_err("ended for good"),
        Refusal::AgreementClosed
    );

    // Every decision names the contract it was made under.
    let contract = world.consent().contract();
    hrss.publish(vec![arrears(&id, 7)]);
    settled(&world);
    let last = world
        .audits()
        .into_iter()
        .filter(|a| a.kind == AuditKind::Denied)
        .max_by_key(|a| a.at_ms);
    assert_eq!(last.expect("denied").contract, contract.digest);
    let versions = world
        .call(world.consent().versions(&security()))
        .expect("versions");
    let acts: Vec<&str> = versions.iter().rev().map(|one| one.act.as_str()).collect();
    assert_eq!(acts, ["start", "suspend", "resume", "terminate"]);
}

#[test]
fn only_the_security_administrator_rules_and_a_bad_version_changes_nothing() {
    let mut world = World::new();
    let id = person(310);
    let mut hrss = world.bus.connector("hrss", "insurance");
    hrss.publish(vec![arrears(&id, 3)]);
    world.give("m-1", &id, RETIREMENT);
    eventually("delivered", || world.held(ARREARS_TOPIC) == 1);
    let files = Contract::files(&world.bus.contract_root()).expect("files");
    let activate = |files: &std::collections::BTreeMap<String, String>, request: &str| Activate {
        request_id: request.to_owned(),
        files: files.clone(),
        operator: "S01".to_owned(),
        reason: "review 7/2026".to_owned(),
        wait_ms: Some(20_000),
    };
    let consent = world.consent();
    for by in ["bus.portal", "bus.auditor", "hrss.window", "bus.admin"] {
        let refused = world.call(consent.activate(&caller(by), activate(&files, "m-2")));
        assert_eq!(refused.expect_err("role"), Refusal::RoleForbidden, "{by}");
    }
    let put = |files: &std::collections::BTreeMap<String, String>, request: &str| {
        world.call(consent.activate(&security(), activate(files, request)))
    };
    // The bureau widens an agreement by itself: the provider's signature doesn't fit any more.
    let name = "agreements/union/retirement-help.yaml";
    let mut wider = files.clone();
    let text = wider[name].replace("filter: arrearsMonths > 0\n", "");
    wider.insert(name.to_owned(), text);
    assert!(
        matches!(put(&wider, "m-3"), Err(Refusal::ContractInvalid(lines)) if !lines.is_empty())
    );
    let mut broken = files.clone();
    broken.insert(name.to_owned(), "title: [".to_owned());
    assert!(matches!(
        put(&broken, "m-4"),
        Err(Refusal::ContractInvalid(_))
    ));
    let mut outside = files.clone();
    outside.insert("../../etc/passwd".to_owned(), String::new());
    assert!(matches!(
        put(&outside, "m-5"),
        Err(Refusal::ContractInvalid(_))
    ));
    let mut lanes = files.clone();
    let text = lanes["installation.yaml"].replace("lanes: 4", "lanes: 8");
    lanes.insert("installation.yaml".to_owned(), text);
    assert!(matches!(
        put(&lanes, "m-6"),
        Err(Refusal::ContractInvalid(_))
    ));
    let mut dropped = files.clone();
    dropped.retain(|path, _| !path.contains("retirement-help"));
    assert!(put(&dropped, "m-7").is_err());
    assert_eq!(
        world
            .call(consent.versions(&security()))
            .expect("versions")
            .len(),
        1
    );

    // The old one keeps working.
    hrss.publish(vec![arrears(&id, 4)]);
    eventually("still flows", || world.counts(ARREARS_TOPIC).0 == 2);

    // A good one is put in force, and a restarted service knows it.
    let mut good = files;
    let text = format!("{}# reviewed\n", good[name]);
    good.insert(name.to_owned(), text);
    let view = put(&good, "m-8").expect("in force");
    assert!(enforced(&view), "{view:?}");
    world.stop_consent();
    world.start_consent();
    assert_eq!(hex::encode(world.consent().contract().digest), view.digest);
    world.stop_gateway();
    world.start_gateway();
    hrss.publish(vec![arrears(&id, 5)]);
    eventually("flows under it", || world.counts(ARREARS_TOPIC).0 == 3);
    let last = world
        .audits()
        .into_iter()
        .filter(|a| a.kind == AuditKind::Delivered)
        .max_by_key(|a| a.at_ms);
    assert_eq!(hex::encode(last.expect("delivered").contract), view.digest);
}

#[test]
fn grants_that_were_to_be_sent_once_more_are_sent_by_whoever_starts_next() {
    let mut world = World::new();
    let id = person(330);
    world.give("r-1", &id, RETIREMENT);
    world.stop_consent();
    // Put in force by a service that ends before it sends them.
    world.record_due_refetch(RETIREMENT);
    world.start_consent();
    let sent = || {
        let grants = world.bus.grants();
        let sent = grants.iter().filter(|one| one.reason == mz_policy::REFETCH);
        sent.map(|one| one.counter).collect::<Vec<_>>()
    };
    eventually("sent once more", || !sent().is_empty());
    settled(&world);
    assert_eq!(sent(), [2], "once");
}
