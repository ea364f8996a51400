//! P3: what nobody agreed to, what is outside the purpose, what the person never consented to or no longer
//! does. Nothing of it arrives, and whoever asks about the person sees that it was refused.

use mz_bus::Isolation;
use mz_consent::store;
use mz_e2e::audit::everything_sent_to;
use mz_e2e::bus::{self, contains};
use mz_e2e::city::{self, insured};
use mz_e2e::people::{
    asked, denied, enforced, gives, grant, holds, in_days, names, reads, refused, text, why,
};
use mz_e2e::world::start_consent;
use mz_e2e::{Exit, World, wait};
use mz_journal::{Grant, GrantId};
use serde_json::Value;
use std::time::Duration;

const RETIREMENT: &str = "union/retirement-help";
const ARREARS: &str = "to.union.retirement-help.hrss.insurance.status.v1";
const LIMIT: Duration = Duration::from_secs(60);
/// Texts that only a newer version of a denied record carries.
const AFTER_EXPIRY: &str = "停产待查";

/// What the union's counter types to help somebody whose employer owes contributions.
const HELP: &str = "bundle --item retirement-help --department union --operator gh-0007 --reason 欠费帮扶 \
                    --id -";

#[test]
fn p3_whole_event_or_field_denied() {
    let mut world = World::start("p3", 120, 31, true, 1);
    world.publish();
    let story = world.city.expected().story;
    let worker = &story["lapsed"].id;

    the_union_gets_no_property(&world, &story["settler"].id);
    police_never_get_the_mortgage(&world);
    no_purpose_no_data(&world, worker);
    consent_never_given(&mut world, worker);
    consent_expired(&mut world, worker);
    union_holds_nothing_but_what_was_agreed(&world, worker);
    world.stop();
}

/// No agreement lets the union see whose home is where: there is no topic, no right to the topics of
/// others, and the API refuses.
fn the_union_gets_no_property(world: &World, owner: &str) {
    let lanes = world.contract.lanes;
    let union = world.it.bus("union.adapter");
    let police = "to.police.talent-settlement.realestate.right.v1";
    for topic in ["src.realestate.right.v1", police, "bus.audit", "bus.grants"] {
        let read = bus::read_topic(&union, topic, lanes, Isolation::Committed);
        assert!(read.is_err(), "the union reads {topic}");
        let there = bus::count(&world.it.bus("bus.admin"), topic, lanes).unwrap();
        assert!(there > 0, "nothing to refuse in {topic}");
    }
    // One field of dwellings, for those who consent: to be counted, not to be found.
    for section in world.contract.sections() {
        let topic = &section.out_topic;
        if topic.starts_with("to.union.") && topic.contains("realestate") {
            assert_eq!(topic, "to.union.hardship-aid.realestate.right.v1");
            let dataset = &world.contract.datasets[section.dataset_ix];
            let fields = section.fields.iter();
            let fields: Vec<&str> = fields
                .map(|field| &*dataset.fields[usize::from(*field)].name)
                .collect();
            assert_eq!(fields, ["plannedUse"]);
            assert_eq!(bus::count(&union, topic, lanes).unwrap(), 0);
        }
    }
    let look = "--department union --operator gh-0007 --reason 查房产 --id -";
    let bundle = format!("bundle --item talent-settlement {look}");
    let (code, said) = refused(&world.it, &bundle, owner);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("BUNDLE_CONSUMER_FOREIGN"), "{said}");
    let why = format!("why --consumer police --purpose talent-settlement {look}");
    let (code, said) = refused(&world.it, &why, owner);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("HTTP_ROLE_FORBIDDEN"), "{said}");
}

/// The mortgage is in the register and in every source event; what police hold has neither the field nor
/// the unit number, of which each carries a planted mark.
fn police_never_get_the_mortgage(world: &World) {
    let planted = &world.city.expected().marks;
    assert!(planted["bdcdyh"] > 20, "{planted:?}");
    let dataset = world.contract.dataset("realestate.right.v1").unwrap();
    assert!(dataset.field_index("mortgaged").is_some());
    let homes = holds(
        &world.it,
        "police",
        "to.police.talent-settlement.realestate.right.v1",
    );
    assert!(homes.len() > 5, "{} homes", homes.len());
    for home in &homes {
        let agreed = [
            "certificateNo",
            "idNo",
            "location",
            "plannedUse",
            "seized",
            "share",
            "status",
        ];
        assert_eq!(names(home), agreed);
    }
    let admin = world.it.bus("bus.admin");
    for record in everything_sent_to(&admin, &world.contract, "police").unwrap() {
        let bytes = record.bytes();
        for never in [mz_city::MARK, "mortgaged"] {
            assert!(!contains(&bytes, never), "{}: {never}", record.topic);
        }
    }
}

/// A purpose that is not named, or that no agreement knows.
fn no_purpose_no_data(world: &World, worker: &str) {
    let why = "why --operator sj-1 --consumer union --id -";
    assert_eq!(refused(&world.it, why, worker).0, 2);
    let unknown = format!("{why} --purpose marketing");
    let (code, said) = refused(&world.it, &unknown, worker);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("CONSENT_AGREEMENT_UNKNOWN"), "{said}");
    let give = "consent give --agreement union/marketing --notice-version 1 --id -";
    let give = format!("{give} --valid-until {}", in_days(30));
    let (code, said) = refused(&world.it, &give, worker);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("CONSENT_AGREEMENT_UNKNOWN"), "{said}");
    // A case can't stand in for a consent.
    let open = format!(
        "case open --agreement {RETIREMENT} --application A1 --department union \
         --operator gh-0007 --reason 帮扶 --id -"
    );
    let (code, said) = refused(&world.it, &open, worker);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("CONSENT_NOT_BY_CASE"), "{said}");
}

/// Nobody consented: nothing flows, the counter is told to have the person consent, and that it asked is on
/// record.
fn consent_never_given(world: &mut World, worker: &str) {
    assert!(holds(&world.it, "union", ARREARS).is_empty());
    let (code, said) = refused(&world.it, HELP, worker);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("BUNDLE_CONSENT_NONE"), "{said}");
    let explained = why(&world.it, worker, "union", "retirement-help");
    let section = &explained["sections"][0];
    assert_eq!(section["rule"], "WHY_NOBODY_ASKED", "{explained:#}");
    assert_eq!(section["flows"], false);
    assert!(denied(&world.it, worker, "BUNDLE_CONSENT_NONE"));
}

/// The consent ran out: by the clock, without anybody doing anything. What comes after is denied and said so.
fn consent_expired(world: &mut World, worker: &str) {
    let given = gives(&world.it, &world.contract, RETIREMENT, worker, &[]);
    world.settle();
    assert_eq!(holds(&world.it, "union", ARREARS).len(), 5);
    expire(world, &grant(&given));
    let explained = why(&world.it, worker, "union", "retirement-help");
    assert_eq!(
        explained["sections"][0]["rule"], "GRANT_EXPIRED",
        "{explained:#}"
    );

    world.city.books(worker, |row| {
        row[insured::EMPLOYER] = AFTER_EXPIRY.to_owned();
        row[insured::ARREARS] = "12".to_owned();
    });
    city::publish(&world.it, "hrss-insurance");
    world.settle();
    assert!(denied(&world.it, worker, "GRANT_EXPIRED"));
    // What was delivered before is called back, once, although two things ask for it: the consent ran out,
    // and a newer version was denied. Nobody answers for the union here, so it stays open.
    let open = || {
        let ask = ["withdrawals", "--open", "--agreement", RETIREMENT];
        asked(&world.it, &ask, "")
    };
    let all = |page: &Value| page["open"] == 5;
    let open = wait::until(
        "withdrawals of what the consent had given",
        LIMIT,
        open,
        all,
    );
    for withdrawal in open["withdrawals"].as_array().unwrap() {
        let reason = text(&withdrawal["reason"]);
        assert!(
            ["GRANT_EXPIRED", "CORRECTED"].contains(&&*reason),
            "{reason}"
        );
        assert!(withdrawal["age_s"].is_u64() && withdrawal["receipt_at"].is_null());
    }
    wait::until(
        "the union's topic to say so",
        LIMIT,
        || holds(&world.it, "union", ARREARS).len(),
        |held| *held == 0,
    );
    world.settle();
    let told = reads(&world.it, "union", ARREARS);
    let told = told.iter().filter(|record| !record["withdrawn"].is_null());
    assert_eq!(told.count(), 5, "each record once");
    let (code, said) = refused(&world.it, HELP, worker);
    assert!(code == 1 && said.contains("GRANT_EXPIRED"), "{said}");
}

/// As if the consent's last day had passed: recorded and sent as any other change of it.
fn expire(world: &mut World, id: &str) {
    world.consent.terminate();
    assert_eq!(world.consent.wait(LIMIT), Exit::Code(0));
    let id = GrantId::from_hex(id).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let expires_ms = chrono::Utc::now().timestamp_millis();
    runtime.block_on(async {
        let database = store::Database::new(world.it.database_url(), store::SCHEMA).unwrap();
        let store = store::Store::take_over(&database, "clock").await.unwrap();
        let mut step = store.step().await.unwrap();
        let row = step.grant(id).await.unwrap().unwrap();
        let next = Grant {
            counter: row.grant.counter + 1,
            expires_ms,
            ..row.grant
        };
        step.put_grant(row.lane, &next, None).await.unwrap();
        step.send(row.lane, store::Outgoing::Grant(&next), None)
            .await
            .unwrap();
        step.commit().await.unwrap();
    });
    world.consent = start_consent(&world.it);
    world.ruled();
    let ask = ["consent", "enforcement", &id.hex(), "--wait-ms", "20000"];
    let enforcement = asked(&world.it, &ask, "");
    enforced(&enforcement);
}

/// Every byte that the union was ever sent, committed or not: the five agreed fields of what was in force,
/// and nothing that was denied.
fn union_holds_nothing_but_what_was_agreed(world: &World, worker: &str) {
    let admin = world.it.bus("bus.admin");
    let sent = everything_sent_to(&admin, &world.contract, "union").unwrap();
    let values = sent.iter().filter(|record| record.value.is_some());
    assert_eq!(values.clone().count(), 5);
    let rows = world.city.insurance(worker);
    for record in values {
        assert_eq!(record.topic, ARREARS);
        let bytes = record.bytes();
        for never in [AFTER_EXPIRY, &rows[0][insured::WAGE], "mortgaged"] {
            assert!(!contains(&bytes, never), "the union was sent {never}");
        }
    }
}
