//! A contract version that is put in force while the vault runs, and an owner that consent shut out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use mz_contract::{AgreementState, Contract, Mode, STATUS_FILE, StatusEntry, Text, status_file};
use mz_policy::Rule;
use mz_vault::bundle::FactState;
use mz_vault::testing::{Consent, LANES, TestBus, approval, eventually, person, ready};
use mz_vault::{Options, Ownership, Refusal, Service};

use crate::bundles::{Sources, ask, fact, log};
use crate::slots::{facts, grants_position};

type Files = BTreeMap<String, String>;

fn files(bus: &TestBus) -> Files {
    Contract::files(&bus.contract_root()).unwrap()
}

fn suspended(bus: &TestBus) -> Files {
    let entry = StatusEntry {
        state: AgreementState::Suspended,
        since: "2026-03-01".parse().unwrap(),
        reason: Text {
            zh: "测试".to_owned(),
            en: "test".to_owned(),
        },
        by: "test".to_owned(),
    };
    let entries = BTreeMap::from([("police/talent-settlement".to_owned(), entry)]);
    let mut files = files(bus);
    files.insert(STATUS_FILE.to_owned(), status_file(&entries));
    files
}

fn digest(files: &Files) -> [u8; 32] {
    Contract::from_files(files.clone(), Mode::Signed)
        .unwrap()
        .digest
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_version_holds_for_every_decision_behind_its_position() {
    let bus = TestBus::new();
    let id = person(1);
    let lane = bus.lane(&id);
    let mut sources = Sources::of(&bus);
    sources.settle(&id);
    let (service, handle) = bus.start_vault();
    assert!(ask(&handle, &id).is_ok());
    let (first, second) = (files(&bus), suspended(&bus));
    let mut consent = Consent::open(&bus);
    consent.publish_version(1, digest(&second), &second);

    // Asked without a pause: the answer is the new one from the moment the position shows it.
    let (stop, enforced) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut before, mut behind) = (0, 0);
            while !stop.load(Ordering::Acquire) {
                let known = enforced.load(Ordering::Acquire);
                match ask(&handle, &id) {
                    Ok(_) => {
                        assert!(!known, "answered under the old contract");
                        before += 1;
                    }
                    Err(refusal) => {
                        assert_eq!(refusal, Refusal::Denied(Rule::AgreementSuspended));
                        behind += i32::from(known);
                    }
                }
            }
            (before, behind)
        });
        // Whatever fails below ends the asking, too.
        let _stop = StopAtEnd(&stop);
        let from = grants_position(&bus, lane);
        consent.in_force(1, digest(&second), 0..LANES);
        eventually("it is enforced", || grants_position(&bus, lane) > from);
        enforced.store(true, Ordering::Release);
        std::thread::sleep(std::time::Duration::from_millis(300));
        stop.store(true, Ordering::Release);
        let (before, behind) = asking.join().unwrap();
        assert!(before > 0 && behind > 0, "{before} {behind}");
    });
    assert_eq!(handle.contract().digest, digest(&second));
    let newest = log(&bus, &id).pop().unwrap();
    assert_eq!(
        (newest.contract, &*newest.rule),
        (digest(&second), "AGREEMENT_SUSPENDED")
    );

    // An older note changes nothing, a newer one takes the first contract back. What was published
    // meanwhile is there.
    sources.approvals.publish(vec![approval(&person(2), "A-2")]);
    consent.in_force(1, [9; 32], 0..LANES);
    consent.publish_version(2, digest(&first), &first);
    consent.in_force(2, digest(&first), 0..LANES);
    eventually("it is resumed", || ask(&handle, &id).is_ok());
    let bundle = ask(&handle, &person(2)).unwrap();
    assert_eq!(fact(&bundle, "approval").state, FactState::Present);
    sources.approvals.publish(vec![approval(&person(3), "A-3")]);
    eventually("sources are read on", || facts(&bus) == 6);
    consent.in_force(3, digest(&second), 0..LANES);
    eventually("suspended again", || ask(&handle, &id).is_err());
    service.stop().unwrap();

    // A new owner takes the newest version, not the one on its disk.
    let (service, handle) = bus.start_vault();
    assert_eq!(
        ask(&handle, &id),
        Err(Refusal::Denied(Rule::AgreementSuspended))
    );
    assert_eq!(handle.contract().digest, digest(&second));
    service.stop().unwrap();
}

#[test]
fn a_version_that_cannot_be_used_stops_the_slot_and_is_never_passed() {
    let bus = TestBus::new();
    let mut consent = Consent::open(&bus);
    let mut altered = suspended(&bus);
    let truth = digest(&altered);
    altered.insert("reasons.yaml".to_owned(), "[".to_owned());
    // Not there at all; not what was agreed; not what its digest says.
    let (service, _) = bus.start_vault();
    let before = grants_position(&bus, 0);
    consent.in_force(7, [7; 32], 0..LANES);
    eventually("it stops", || service.has_failed());
    assert_eq!(service.stop().unwrap_err().code(), "VAULT_CONTRACT_UNFIT");
    let mut foreign = suspended(&bus);
    foreign.remove(STATUS_FILE);
    for (version, digest, files) in [(8, [8; 32], &foreign), (9, truth, &altered)] {
        consent.publish_version(version, digest, files);
        consent.in_force(version, digest, 0..LANES);
        let service = Service::start(bus.vault_options()).unwrap();
        eventually("it stops", || service.has_failed());
        assert_eq!(service.stop().unwrap_err().code(), "VAULT_CONTRACT_UNFIT");
    }
    // Never said to be enforced by an owner that had read it before it stopped.
    assert_eq!(grants_position(&bus, 0), before);
    // A better one, and the vault runs again.
    let good = suspended(&bus);
    consent.publish_version(10, truth, &good);
    consent.in_force(10, truth, 0..LANES);
    let (service, handle) = bus.start_vault();
    assert_eq!(handle.contract().digest, truth);
    service.stop().unwrap();
}

#[test]
fn an_owner_that_consent_shut_out_comes_back() {
    let bus = TestBus::new();
    let mut approvals = bus.connector("hrss", "talent");
    let group = Options {
        ownership: Ownership::Group { instance: None },
        ..bus.vault_options()
    };
    for (at, options) in [bus.vault_options(), group].into_iter().enumerate() {
        let service = Service::start(options).unwrap();
        ready(&service.handle());
        let consent = Consent::open(&bus);
        for slot in 0..2 {
            consent.fence(slot);
        }
        // A grant makes each lane write its state: then the owner learns that it was shut out.
        let mut consent = consent;
        let before: Vec<i64> = (0..LANES).map(|lane| grants_position(&bus, lane)).collect();
        consent.in_force(0, [0; 32], 0..LANES);
        eventually("both slots are back", || {
            (0..LANES).all(|lane| grants_position(&bus, lane) > before[usize::from(lane)])
        });
        assert!(!service.has_failed());
        ready(&service.handle());
        let count = facts(&bus);
        approvals.publish(vec![approval(
            &person(10 + u32::try_from(at).unwrap()),
            "A",
        )]);
        eventually("and work", || facts(&bus) == count + 1);
        service.stop().unwrap();
    }
}
