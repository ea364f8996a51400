//! What the vault tells the ledger: every person's label, once a year, after the key, and never wrongly.

use std::collections::BTreeMap;

use mz_contract::IdNumber;
use mz_journal::{Audit, AuditKind, SubjectTag};
use mz_keys::SubjectVrf;
use mz_vault::testing::{TestBus, eventually, person};

use crate::bundles::{Sources, ask};
use crate::orders::run;

fn told(bus: &TestBus) -> Vec<Audit<'static>> {
    let mut all = bus.audits();
    all.retain(|audit| audit.kind == AuditKind::SubjectBound);
    all
}

fn times(bus: &TestBus) -> BTreeMap<SubjectTag, usize> {
    let mut times = BTreeMap::new();
    for audit in told(bus) {
        *times.entry(audit.subject).or_default() += 1;
    }
    times
}

#[test]
fn everybody_is_told_once_and_their_key_before_them() {
    let bus = TestBus::new();
    let vrf = SubjectVrf::listed(&bus.keys(), &bus.contract_root()).unwrap();
    let people: Vec<IdNumber> = (1..=40).map(person).collect();
    let mut sources = Sources::of(&bus);
    people.iter().for_each(|id| sources.settle(id));
    let (service, handle) = bus.start_vault();
    // Somebody of whom no register knows anything, asked about by number.
    let stranger = person(77);
    let _ = ask(&handle, &stranger);
    eventually("everybody is told", || told(&bus).len() == people.len() + 1);
    let tag = |id: &IdNumber| bus.vault_keys().subject.tag(id);
    for id in people.iter().chain([&stranger]) {
        let said = told(&bus);
        let said = said.iter().find(|audit| audit.subject == tag(id)).unwrap();
        assert_eq!(said.event, vrf.label(id));
        assert_eq!(said.record.0, vrf.key_tag());
        assert_eq!(said.lane, bus.lane(id));
    }
    // In every lane the key stands before the first of them.
    for lane in 0..bus.contract.lanes {
        let mut lane_of = bus.audits();
        lane_of.retain(|audit| audit.lane == lane);
        lane_of.sort_by_key(|audit| audit.number);
        let at = |kind| lane_of.iter().position(|audit| audit.kind == kind);
        let (Some(key), first) = (at(AuditKind::SubjectKey), at(AuditKind::SubjectBound)) else {
            assert_eq!(at(AuditKind::SubjectBound), None);
            continue;
        };
        assert!(first.is_some_and(|first| key < first));
        assert_eq!(lane_of[key].event, vrf.public());
    }
    // More about the same people, and another owner: nobody is told again.
    people.iter().for_each(|id| sources.settle(id));
    drop(handle);
    service.stop().unwrap();
    let (service, handle) = bus.start_vault();
    let _ = ask(&handle, &people[0]);
    assert!(times(&bus).values().all(|times| *times == 1));
    drop(handle);
    service.stop().unwrap();

    // A crash after the label was kept and before it was told; one that forgot that it was told; and last year.
    let mine = |id: &IdNumber| {
        let hex: String = tag(id).0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("subject = '\\x{hex}'")
    };
    let set = |id: &IdNumber, year: i32| {
        let mine = mine(id);
        run(
            &bus,
            &format!("UPDATE vault.subject_label SET told = {year} WHERE {mine}"),
        );
    };
    set(&people[1], 0);
    set(&people[2], 2025);
    set(&people[3], 2025);
    let (service, handle) = bus.start_vault();
    sources.settle(&people[2]);
    eventually("they are told again", || {
        let times = times(&bus);
        times[&tag(&people[1])] == 2 && times[&tag(&people[2])] == 2
    });
    // Who is not heard of this year is not told this year.
    assert_eq!(times(&bus)[&tag(&people[3])], 1);
    let all = told(&bus);
    for audit in &all {
        let first = all.iter().find(|other| other.subject == audit.subject);
        assert_eq!(first.unwrap().event, audit.event);
    }
    drop(handle);
    service.stop().unwrap();
}

#[test]
fn a_key_that_the_contract_does_not_list_labels_nobody() {
    let bus = TestBus::new();
    let keys = bus.keys();
    std::fs::remove_file(keys.vrf_key()).unwrap();
    let other = mz_keys::SecretKey::generate().unwrap();
    other.save_new(&keys.vrf_key()).unwrap();
    let refused = SubjectVrf::listed(&keys, &bus.contract_root());
    assert!(matches!(refused, Err(mz_keys::KeyError::Unlisted { .. })));
    let vault = mz_vault::VaultKeys::load(&keys, &bus.contract_root());
    assert!(vault.is_err());
}
