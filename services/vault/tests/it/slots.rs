//! Slots against a real broker and a real database: what is stored, what survives, who may go on.

use std::collections::BTreeMap;

use mz_contract::IdNumber;
use mz_journal::topics::{self, SlotKind};
use mz_journal::{FactBody, FactReply, Fence, Fetch, GrantId, Record as _, State};
use mz_keys::public::KeyUse;
use mz_seal::Signer;
use mz_seal::testing::{Alteration, Kit, TestSigner};
use mz_vault::testing::{
    Gateway, LANES, TestBus, approval, eventually, insurance, person, ready, right,
};
use mz_vault::{Options, Ownership, Service, VaultError};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::bundles::{ask, log};

pub fn query(bus: &TestBus, sql: &str) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(&bus.database_url).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut connection)
            .await
            .unwrap()
    })
}

pub fn facts(bus: &TestBus) -> i64 {
    query(bus, "SELECT count(*) FROM vault.fact")
}

#[test]
fn facts_survive_restarts_and_the_newest_version_stays() {
    let bus = TestBus::new();
    let mut insurances = bus.connector("hrss", "insurance");
    let people: Vec<IdNumber> = (0..40).map(person).collect();
    insurances.publish(
        people
            .iter()
            .map(|id| insurance(id, "PENSION", 7))
            .collect(),
    );
    let (service, _) = bus.start_vault();
    eventually("the first load is stored", || facts(&bus) == 40);
    service.stop().unwrap();

    // While nobody runs: new versions, and an old one that comes late.
    insurances.publish(
        people
            .iter()
            .map(|id| insurance(id, "PENSION", 8))
            .collect(),
    );
    insurances.publish(vec![insurance(&people[0], "PENSION", 1).version(1)]);
    insurances.publish(vec![insurance(&people[1], "PENSION", 8).withdrawn()]);
    let (service, _) = bus.start_vault();
    let positions = "SELECT coalesce(sum(next_offset), 0)::bigint FROM vault.source_position
                      WHERE topic = 'src.hrss.insurance.status.v1'";
    // 82 records, and control records between them.
    eventually("the rest is read", || query(&bus, positions) >= 82);
    eventually("the withdrawal is stored", || {
        query(&bus, "SELECT count(*) FROM vault.fact WHERE withdrawn") == 1
    });
    assert_eq!(facts(&bus), 40);
    assert_eq!(
        query(&bus, "SELECT count(*) FROM vault.fact WHERE counter <= 40"),
        0
    );
    service.stop().unwrap();
}

#[test]
fn a_bad_event_is_passed_by_and_the_good_ones_around_it_are_kept() {
    let bus = TestBus::new();
    let mut approvals = bus.connector("hrss", "talent");
    let events = (0..5)
        .map(|n| approval(&person(n), &format!("A{n}")))
        .collect();
    approvals.publish_altered(events, |at, value, seal| match at {
        1 => *value.last_mut().unwrap() ^= 1,
        2 => seal.truncate(20),
        3 => value.push(0),
        _ => {}
    });
    let (service, _) = bus.start_vault();
    eventually("good events are stored", || facts(&bus) == 2);
    approvals.publish(vec![approval(&person(9), "A9")]);
    eventually("and so are later ones", || facts(&bus) == 3);
    service.stop().unwrap();
}

#[test]
fn no_altered_event_is_ever_stored() {
    let mut revoked: Option<Box<dyn Signer>> = None;
    let bus = TestBus::keyed(
        |_| {},
        |root, keys| {
            let first = mz_keys::department_signer(keys, root, "hrss", KeyUse::Seal).unwrap();
            mz_keys::rotate_seal_key(keys, root, "hrss").unwrap();
            mz_keys::revoke(root, "hrss", first.key_id(), "lost", &BTreeMap::new()).unwrap();
            revoked = Some(first);
        },
    );
    let (revoked, unknown) = (revoked.unwrap(), TestSigner::new("hrss-seal-99", [3; 32]));
    let (keys, root) = (bus.keys(), bus.contract_root());
    let signer = mz_keys::department_signer(&keys, &root, "hrss", KeyUse::Seal).unwrap();
    let dataset = bus.contract.dataset("hrss.insurance.status.v1").unwrap();
    let kit = Kit {
        layout: &dataset.layout,
        subject_field: dataset.subject_field,
        signer: &*signer,
        revoked: &*revoked,
        unknown: &unknown,
        lanes: LANES,
    };
    let mut insurances = bus.connector("hrss", "insurance");
    let good = insurances.wire(vec![insurance(&person(1), "PENSION", 6)]);
    insurances.put(&dataset.id, &good);
    // Of each one that never comes itself, so that only the alteration can be the reason.
    let never = insurances
        .wire(vec![insurance(&person(1), "MEDICAL", 6)])
        .remove(0);
    let bad: Vec<_> = Alteration::ALL
        .into_iter()
        .map(|alteration| match alteration {
            Alteration::Replayed => good[0].clone(),
            _ => alteration.apply(&never, &kit),
        })
        .collect();
    insurances.put(&dataset.id, &bad);
    let (service, _) = bus.start_vault();
    // One after them in every lane: whatever came before has been looked at.
    let after: Vec<IdNumber> = (0..LANES)
        .map(|lane| (2..).map(person).find(|p| bus.lane(p) == lane).unwrap())
        .collect();
    insurances.publish(after.iter().map(|id| insurance(id, "PENSION", 6)).collect());
    let lanes = i64::from(LANES);
    eventually("the good ones are stored", || facts(&bus) == 1 + lanes);
    assert_eq!(
        query(&bus, "SELECT count(*) FROM vault.fact WHERE counter > 1"),
        lanes
    );
    service.stop().unwrap();
}

#[test]
fn whoever_is_replaced_stops_and_can_commit_nothing() {
    let bus = TestBus::new();
    let mut approvals = bus.connector("hrss", "talent");
    let (first, _) = bus.start_vault();
    approvals.publish(vec![approval(&person(1), "A1")]);
    eventually("the first owner works", || facts(&bus) == 1);
    let second = Service::start(bus.vault_options()).unwrap();
    ready(&second.handle());
    // Both read it; one may store it.
    approvals.publish(
        (2..20)
            .map(|n| approval(&person(n), &format!("A{n}")))
            .collect(),
    );
    eventually("the first owner notices", || first.has_failed());
    assert!(matches!(first.stop(), Err(VaultError::Fenced { .. })));
    eventually("the second owner works", || facts(&bus) == 19);
    second.stop().unwrap();
}

#[test]
fn slots_are_shared_out_and_move_when_a_process_ends() {
    let bus = TestBus::new();
    let start = || {
        let ownership = Ownership::Group { instance: None };
        Service::start(Options {
            ownership,
            ..bus.vault_options()
        })
        .unwrap()
    };
    let open = |service: &Service| service.handle().readiness().slots_open;
    let first = start();
    eventually("one process takes both slots", || open(&first) == 2);
    let second = start();
    eventually("two processes take one each", || {
        (open(&first), open(&second)) == (1, 1)
    });
    let mut approvals = bus.connector("hrss", "talent");
    approvals.publish(
        (0..20)
            .map(|n| approval(&person(n), &format!("A{n}")))
            .collect(),
    );
    eventually("both store their lanes", || facts(&bus) == 20);
    first.stop().unwrap();
    eventually("the one that is left takes both", || open(&second) == 2);
    approvals.publish(
        (20..40)
            .map(|n| approval(&person(n), &format!("A{n}")))
            .collect(),
    );
    eventually("and stores all lanes", || facts(&bus) == 40);
    second.stop().unwrap();
}

#[test]
fn a_topic_with_another_lane_count_stops_the_vault() {
    let bus = TestBus::new();
    let mut contract = bus_contract(&bus);
    contract.lanes = 8;
    let options = Options {
        contract: std::sync::Arc::new(contract),
        ..bus.vault_options()
    };
    let service = Service::start(options).unwrap();
    eventually("it stops", || service.has_failed());
    let error = service.stop().unwrap_err();
    assert_eq!(error.code(), "PARTITION_COUNT", "{error}");
}

/// The contract, loaded once more: it can't be cloned.
fn bus_contract(bus: &TestBus) -> mz_contract::Contract {
    mz_contract::Contract::load(&bus.contract_root(), mz_contract::Mode::Signed).unwrap()
}

#[test]
fn a_backfill_is_answered_once_the_store_is_past_its_fences() {
    let bus = TestBus::new();
    let (asked, other) = (person(1), person(2));
    let lane = bus.lane(&asked);
    let mut insurances = bus.connector("hrss", "insurance");
    let mut rights = bus.connector("realestate", "right");
    insurances.publish(vec![
        insurance(&asked, "PENSION", 3),
        insurance(&asked, "MEDICAL", 4),
        insurance(&other, "PENSION", 5),
    ]);
    rights.publish(vec![right(&asked, "R1")]);
    let topic = "src.hrss.insurance.status.v1";
    let end = end_of(&bus, topic, lane);
    let fetch = |grant: u8, offset| Fetch {
        grant: GrantId([grant; 16]),
        attempt: 2,
        subject: bus.vault_keys().subject.tag(&asked),
        agreement: "police/talent-settlement".to_owned(),
        fences: vec![Fence {
            topic: topic.to_owned(),
            offset,
        }],
        datasets: vec!["hrss.insurance.status.v1".to_owned()],
    };
    let (service, _) = bus.start_vault();
    let mut gateway = Gateway::open(&bus);
    let mut ask = |fetch: &Fetch| {
        gateway.send(topics::FETCH, lane, &fetch.subject.0, &fetch.encode());
    };
    ask(&fetch(1, end));
    // Far ahead of the source: must wait; and what comes after it in the lane waits with it.
    ask(&fetch(2, end + 3));
    ask(&fetch(3, 1));
    let (found, done) = replies(&bus, 1);
    assert_eq!(done, Some(2));
    let offsets: Vec<i64> = found.iter().map(|fact| fact.source_offset).collect();
    assert!(offsets.iter().all(|offset| *offset < end), "{offsets:?}");
    assert!(
        found
            .iter()
            .all(|fact| fact.dataset == "hrss.insurance.status.v1")
    );
    assert!(
        found
            .iter()
            .all(|fact| mz_seal::unframe(&fact.value).is_ok())
    );
    assert_eq!(count(&bus, 2), (0, false));

    // A successor answers what was left, and only that.
    service.stop().unwrap();
    let (service, _) = bus.start_vault();
    assert_eq!(count(&bus, 1), (2, true));
    insurances.publish(vec![
        insurance(&asked, "PENSION", 9),
        insurance(&asked, "MATERNITY", 9),
        insurance(&asked, "UNEMPLOYMENT", 9),
    ]);
    eventually("the waiting request is answered", || count(&bus, 3).1);
    // The new version of PENSION lies at or above the third fence: the gateway has it itself.
    assert_eq!(count(&bus, 3), (0, true));
    let (_, done) = replies(&bus, 2);
    assert!(done.is_some());
    assert_eq!(count(&bus, 1), (2, true), "answered twice");
    service.stop().unwrap();
}

#[test]
fn the_grants_position_is_published_as_it_moves() {
    let bus = TestBus::new();
    let (service, _) = bus.start_vault();
    let mut gateway = Gateway::open(&bus);
    let before = grants_position(&bus, 0);
    let grant = mz_journal::Grant {
        id: GrantId([9; 16]),
        kind: mz_journal::GrantKind::Case,
        subject: mz_journal::SubjectTag([8; 16]),
        agreement: "police/talent-settlement".to_owned(),
        datasets: Vec::new(),
        status: mz_journal::GrantStatus::Closed,
        counter: 2,
        opened_ms: 1,
        expires_ms: i64::MAX,
        closed_ms: Some(2),
        cause: String::new(),
        reason: String::new(),
        subject_sealed: None,
    };
    gateway.grant(0, &grant);
    eventually("the position shows it", || {
        grants_position(&bus, 0) > before
    });
    service.stop().unwrap();
}

#[test]
fn what_a_predecessor_committed_behind_an_open_transaction_counts() {
    let bus = TestBus::new();
    let id = person(1);
    let lane = bus.lane(&id);
    let (service, handle) = bus.start_vault();
    assert!(ask(&handle, &id).is_ok());
    // A gateway's transaction that stays open holds back whoever reads committed records only.
    let mut gateway = Gateway::open(&bus);
    let key = topics::state_key(SlotKind::Gateway, lane);
    let state = State {
        lane,
        ..State::default()
    };
    let head = bus.head(topics::STATE, lane);
    gateway.begin_with(topics::STATE, lane, &key, &state.encode());
    eventually("it is written", || bus.head(topics::STATE, lane) > head);
    assert!(ask(&handle, &id).is_ok());
    service.stop().unwrap();
    let before = log(&bus, &id).len();

    let service = Service::start(bus.vault_options()).unwrap();
    let handle = service.handle();
    std::thread::sleep(std::time::Duration::from_secs(1));
    gateway.commit();
    ready(&handle);
    assert!(ask(&handle, &id).is_ok());
    // Reading the log fails where a number is given twice.
    assert!(log(&bus, &id).len() > before);
    service.stop().unwrap();
}

/// Facts that came for one grant, and what `done` said, once it came.
fn replies(bus: &TestBus, grant: u8) -> (Vec<mz_journal::StoredFact>, Option<u64>) {
    let read = || {
        let (mut facts, mut done) = (Vec::new(), None);
        bus.read(topics::FACTS, |record| {
            let reply = FactReply::decode(record.value.unwrap()).unwrap();
            if reply.grant != GrantId([grant; 16]) {
                return;
            }
            assert_eq!(reply.attempt, 2);
            match reply.body {
                FactBody::Fact(fact) => facts.push(fact),
                FactBody::Done { count } => {
                    assert_eq!(done.replace(count), None, "done twice");
                }
            }
        });
        (facts, done)
    };
    eventually("the backfill is answered", || read().1.is_some());
    read()
}

/// How many facts came for a grant, and whether `done` did.
pub fn count(bus: &TestBus, grant: u8) -> (u64, bool) {
    let (mut facts, mut done) = (0, false);
    bus.read(topics::FACTS, |record| {
        let reply = FactReply::decode(record.value.unwrap()).unwrap();
        if reply.grant == GrantId([grant; 16]) {
            match reply.body {
                FactBody::Fact(_) => facts += 1,
                FactBody::Done { .. } => done = true,
            }
        }
    });
    (facts, done)
}

pub fn end_of(bus: &TestBus, topic: &str, lane: u16) -> i64 {
    let mut last = -1;
    bus.read(topic, |record| {
        if record.partition == i32::from(lane) {
            last = record.offset;
        }
    });
    last + 1
}

pub fn grants_position(bus: &TestBus, lane: u16) -> i64 {
    let key = topics::state_key(SlotKind::Vault, lane);
    let mut position = -1;
    assert!(lane < LANES);
    bus.read(topics::STATE, |record| {
        if record.key == Some(&key) {
            position = State::decode(record.value.unwrap())
                .unwrap()
                .grants_position;
        }
    });
    position
}
