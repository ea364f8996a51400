//! Erasure by order, from the bus to the database and the audit log.

use mz_journal::{
    Audit, AuditCause, AuditKind, FactBody, Fence, Fetch, GrantId, Order, OrderAction,
    OrderCondition, OrderId, Record as _, RecordTag, topics,
};
use mz_vault::bundle::FactState;
use mz_vault::testing::{Consent, Gateway, TestBus, approval, eventually, insurance, person};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::bundles::{Sources, ask, fact, log};
use crate::slots::{count, end_of, facts, query};

fn order(bus: &TestBus, person: &mz_contract::IdNumber, id: u8) -> Order {
    Order {
        id: OrderId([id; 16]),
        action: OrderAction::Erase,
        condition: OrderCondition::Always,
        reason: "SUBJECT_ERASED".to_owned(),
        agreement: String::new(),
        dataset: String::new(),
        subject: bus.vault_keys().subject.tag(person),
        record: RecordTag([0; 16]),
        epoch: 0,
        counter: 0,
        at_ms: 1,
    }
}

fn erased(bus: &TestBus, person: &mz_contract::IdNumber) -> Vec<Audit<'static>> {
    let mut log = log(bus, person);
    log.retain(|audit| audit.kind == AuditKind::Erased);
    log
}

pub fn run(bus: &TestBus, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(&bus.database_url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
    });
}

#[test]
fn an_erased_person_is_as_if_never_stored_whatever_is_read_again() {
    let bus = TestBus::new();
    let (id, other) = (person(1), person(2));
    let lane = bus.lane(&id);
    let mut sources = Sources::of(&bus);
    sources.settle(&id);
    sources.settle(&other);
    let (service, handle) = bus.start_vault();
    assert_eq!(
        fact(&ask(&handle, &id).unwrap(), "approval").state,
        FactState::Present
    );
    // The other one's lane may be another slot's, which is not waited for above.
    eventually("both are stored", || facts(&bus) == 8);
    let before = facts(&bus);

    let mut consent = Consent::open(&bus);
    // What is not for the vault is passed by.
    consent.order(
        lane,
        &Order {
            id: OrderId([1; 16]),
            action: OrderAction::Withdraw,
            ..order(&bus, &id, 1)
        },
    );
    consent.order(lane, &order(&bus, &id, 2));
    eventually("the erasure is recorded", || !erased(&bus, &id).is_empty());
    assert_eq!(facts(&bus), before - 4);
    let audits = erased(&bus, &id);
    assert_eq!(audits.len(), 1);
    assert_eq!(audits[0].order, Some(OrderId([2; 16])));
    assert_eq!(
        (audits[0].cause, &*audits[0].rule),
        (AuditCause::Operator, "SUBJECT_ERASED")
    );
    let bundle = ask(&handle, &id).unwrap();
    for need in ["approval", "insurance", "property", "household"] {
        assert_eq!(fact(&bundle, need).state, FactState::None, "{need}");
        assert_eq!(
            fact(&bundle, need).reason.as_ref().unwrap().code,
            "BUNDLE_FACT_NONE"
        );
    }
    assert_eq!(
        fact(&ask(&handle, &other).unwrap(), "approval").state,
        FactState::Present
    );

    // A backfill finds nothing either.
    let topic = "src.hrss.insurance.status.v1";
    let fetch = Fetch {
        grant: GrantId([1; 16]),
        attempt: 2,
        subject: bus.vault_keys().subject.tag(&id),
        agreement: "police/talent-settlement".to_owned(),
        fences: vec![Fence {
            topic: topic.to_owned(),
            offset: end_of(&bus, topic, lane),
        }],
        datasets: vec!["hrss.insurance.status.v1".to_owned()],
    };
    Gateway::open(&bus).send(topics::FETCH, lane, &fetch.subject.0, &fetch.encode());
    eventually("the backfill is answered", || count(&bus, 1).1);
    assert_eq!(count(&bus, 1), (0, true));
    bus.read(topics::FACTS, |record| {
        let reply = mz_journal::FactReply::decode(record.value.unwrap()).unwrap();
        assert!(matches!(reply.body, FactBody::Done { count: 0 }));
    });
    service.stop().unwrap();

    // Everything is read again from the first offset: nothing of the person comes back.
    run(&bus, "DELETE FROM vault.source_position");
    let (service, handle) = bus.start_vault();
    eventually("all is read again", || {
        let sql = "SELECT count(*) FROM vault.source_position WHERE next_offset > 0";
        query(&bus, sql) >= 3
    });
    assert_eq!(
        fact(&ask(&handle, &id).unwrap(), "approval").state,
        FactState::None
    );
    assert_eq!(facts(&bus), before - 4);
    assert_eq!(erased(&bus, &id).len(), 1, "erased twice");

    // What the register says from now on is new.
    sources.approvals.publish(vec![approval(&id, "A-new")]);
    eventually("a new fact is kept", || facts(&bus) == before - 3);
    assert_eq!(
        fact(&ask(&handle, &id).unwrap(), "approval").state,
        FactState::Present
    );
    service.stop().unwrap();
}

#[test]
fn an_erasure_that_was_cut_short_is_finished_by_the_next_owner() {
    let bus = TestBus::new();
    let id = person(1);
    let lane = bus.lane(&id);
    let mut insurances = bus.connector("hrss", "insurance");
    insurances.publish(vec![insurance(&id, "PENSION", 3)]);
    let (service, _) = bus.start_vault();
    eventually("the fact is stored", || facts(&bus) == 1);
    service.stop().unwrap();

    // Killed before the database transaction: nothing is done, the order is there.
    let mut consent = Consent::open(&bus);
    consent.order(lane, &order(&bus, &id, 3));
    // Killed behind it: the key is gone, the record is not written.
    let subject: String = order(&bus, &id, 3)
        .subject
        .0
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    run(
        &bus,
        &format!(
            "INSERT INTO vault.erasure (order_id, lane, subject)
               VALUES (decode(repeat('03', 16), 'hex'), {lane}, decode('{subject}', 'hex'));
             UPDATE vault.subject_key SET wrapped = '', destroyed_at = now();
             DELETE FROM vault.fact"
        ),
    );
    let (service, _) = bus.start_vault();
    eventually("the record is written", || !erased(&bus, &id).is_empty());
    // And what came after the erasure is not erased by carrying it out again.
    insurances.publish(vec![insurance(&id, "PENSION", 4)]);
    eventually("a new fact is kept", || facts(&bus) == 1);
    consent.order(lane, &order(&bus, &id, 3));
    eventually("the repeat is recorded", || erased(&bus, &id).len() == 2);
    assert_eq!(facts(&bus), 1);
    service.stop().unwrap();
}
