//! P13: a household in hardship. With the consent of each member (a child's by the guardian) union and civil
//! affairs see what the other grants: one plan, no aid twice. Who takes the consent back is not seen any more.

use mz_e2e::audit::Log;
use mz_e2e::check::assert_all;
use mz_e2e::city::{self, insured};
use mz_e2e::equations::check_all;
use mz_e2e::people::{
    changes, denied, gives, grant, holds, in_days, names, refused, separate, who_read, withdrawals,
};
use mz_e2e::world::Counter;
use mz_e2e::{World, database};
use serde_json::Value;

const AID: &str = "union/hardship-aid";
const CHECK: &str = "civil/hardship-check";
const FILES: &str = "union/hardship.ndjson";

const AID_CENTRE: Counter<'_> = Counter {
    department: "union",
    item: "hardship-aid",
    operator: "gh-0007",
    reason: "困难帮扶",
};
const RELIEF: Counter<'_> = Counter {
    department: "civil",
    item: "aid-check",
    operator: "mz-0003",
    reason: "临时救助",
};

struct Household {
    file: String,
    head: String,
    spouse: String,
    child: String,
}

/// The first household on file with a couple and a child. Its living aid is not granted yet.
fn household(world: &World) -> Household {
    let member = |row: &Value, relations: &[&str]| {
        let members = row["jtcy"].as_array().unwrap().iter();
        let mut found = members.filter(|one| relations.contains(&one["gx"].as_str().unwrap()));
        found
            .next()
            .map(|one| one["sfzh"].as_str().unwrap().to_owned())
    };
    let found = world.city.lines(FILES).into_iter().find_map(|row| {
        Some(Household {
            file: row["dabh"].as_str().unwrap().to_owned(),
            head: row["sfzh"].as_str().unwrap().to_owned(),
            spouse: member(&row, &["配偶"])?,
            child: member(&row, &["子", "女"])?,
        })
    });
    let found = found.expect("a household with a couple and a child");
    grants_living_aid(world, &found.file, Value::Null);
    found
}

/// What the union's own platform shows of a file's living aid.
fn grants_living_aid(world: &World, file: &str, until: Value) {
    world.city.rewrites(FILES, |row| {
        if row["dabh"] == *file {
            row["shjzz"] = until.clone();
            row["gxsj"] = Value::String(chrono::Local::now().to_rfc3339());
        }
    });
}

fn topic(dataset: &str) -> String {
    format!("to.union.hardship-aid.{dataset}")
}

fn held(world: &World, dataset: &str) -> Vec<Value> {
    holds(&world.it, "union", &topic(dataset))
}

fn facts<'b>(bundle: &'b Value, need: &str) -> Vec<&'b Value> {
    let facts = bundle["facts"].as_array().unwrap().iter();
    facts.filter(|fact| fact["need"] == need).collect()
}

fn outcome(bundle: &Value) -> (&str, Vec<&str>) {
    let reasons = bundle["outcome"]["reasons"].as_array().unwrap();
    let codes = reasons.iter().map(|one| one["code"].as_str().unwrap());
    let kind = bundle["outcome"]["kind"].as_str().unwrap();
    for lang in ["zh", "en"] {
        assert_ne!(bundle["outcome"]["title"][lang], kind, "a code for a text");
    }
    (kind, codes.collect())
}

#[test]
fn p13_one_household_one_plan() {
    let mut world = World::start("p13", 120, 40, false, 1);
    let union = world.feed("union", "hardship-aid");
    world.feed("civil", "hardship-check");
    let home = household(&world);
    world.publish();
    let contract = &world.contract;
    for dataset in [
        "civil.minliving.v1",
        "hrss.insurance.status.v1",
        "realestate.right.v1",
    ] {
        assert!(
            held(&world, dataset).is_empty(),
            "{dataset} without a consent"
        );
    }

    // Each member consents; for the child the guardian does, and nobody else can.
    let heads = gives(&world.it, contract, AID, &home.head, &[]);
    let checks = gives(&world.it, contract, CHECK, &home.head, &[]);
    gives(&world.it, contract, AID, &home.spouse, &[]);
    a_child_does_not_consent_alone(&world, &home);
    let until = in_days(100);
    let guardian = [
        "--representation",
        "guardian",
        "--representation-document",
        "出生医学证明 2021-331",
        "--representation-until",
        &until,
    ];
    let both = format!("{}\n{}\n", home.child, home.head);
    let childs = gives(&world.it, contract, AID, &both, &guardian);
    assert_eq!(childs["consent"]["representation"]["kind"], "guardian");
    world.settle();

    // What the union may see of them, and no more.
    let insurances = held(&world, "hrss.insurance.status.v1");
    assert_eq!(insurances.len(), 2, "head and spouse: {insurances:#?}");
    assert!(
        insurances
            .iter()
            .all(|fields| names(fields) == ["asOf", "status"])
    );
    let dwellings = held(&world, "realestate.right.v1");
    assert_eq!(dwellings.len(), 2, "one home, two owners");
    assert!(
        dwellings
            .iter()
            .all(|fields| names(fields) == ["plannedUse"])
    );
    assert_eq!(held(&world, "union.hardship.v1").len(), 1);
    let civils = "to.civil.hardship-check.union.hardship.v1";
    let seen = holds(&world.it, "civil", civils);
    assert_eq!(seen.len(), 1);
    assert_eq!(names(&seen[0]), ["idNo", "livingAidUntil", "tier"]);

    // One household, one plan: the union's counter goes on with it, civil affairs joins it.
    let (_, plan) = world.ask(AID_CENTRE, &home.head, "plan");
    assert_eq!(
        outcome(&plan),
        ("continue_plan", vec!["HARDSHIP_PLAN_EXISTS"]),
        "{plan:#}"
    );
    let plans = facts(&plan, "plan");
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0]["record"]["fields"]["fileNo"], *home.file);
    let (_, join) = world.ask(RELIEF, &home.head, "join");
    assert_eq!(
        outcome(&join),
        ("join_plan", vec!["AIDCHECK_JOIN_PLAN"]),
        "{join:#}"
    );

    // The union grants living aid: from then on both counters see that it is granted already.
    grants_living_aid(&world, &home.file, Value::String(in_days(200)));
    city::publish(&world.it, "union-hardship");
    world.settle();
    let (_, twice) = world.ask(RELIEF, &home.head, "twice");
    let blocked = ("living_aid_blocked", vec!["AIDCHECK_LIVING_AID_PAID"]);
    assert_eq!(outcome(&twice), blocked, "{twice:#}");
    let aid = facts(&twice, "livingAid");
    assert_eq!(aid[0]["record"]["fields"]["livingAidUntil"], in_days(200));
    let (_, again) = world.ask(AID_CENTRE, &home.head, "again");
    assert_eq!(outcome(&again).0, "living_aid_blocked", "{again:#}");
    // And the other way round: whom civil affairs supports, the union does not support once more.
    let supported = world.city.expected().story["outsider"].id.clone();
    gives(&world.it, &world.contract, AID, &supported, &[]);
    world.settle();
    let (_, paid) = world.ask(AID_CENTRE, &supported, "paid");
    let (kind, reasons) = outcome(&paid);
    assert_eq!(kind, "living_aid_blocked", "{paid:#}");
    assert!(reasons.contains(&"HARDSHIP_ALLOWANCE_PAID"), "{reasons:?}");

    the_consent_is_taken_back(&mut world, &home, &grant(&heads));
    assert_eq!(
        holds(&world.it, "civil", civils).len(),
        1,
        "another consent"
    );
    assert_ne!(grant(&checks), grant(&heads));

    let bundles = [&plan, &join, &twice, &again, &paid];
    let answered: Vec<String> = bundles
        .iter()
        .map(|bundle| bundle["audit_id"].as_str().unwrap().to_owned())
        .collect();
    world.settle();
    let checks = check_all(
        &world.it,
        &world.contract,
        &world.city,
        &world.tables,
        &answered,
    );
    assert_all(&checks.unwrap());
    let admin = world.it.bus("bus.admin");
    let log = Log::read(&admin, world.contract.lanes).unwrap();
    let url = world.it.database_url();
    for (tables, _) in &world.feeds {
        assert_all(&[tables.check(url, &admin, &world.contract, &log).unwrap()]);
    }
    let plans = format!("SELECT count(*) FROM {}.union_hardship_v1", union.schema());
    assert_eq!(database::number(url, &plans), 1, "the supported one's");
    crate::settlement::no_service_said_a_number(&world);
    world.stop();
}

fn a_child_does_not_consent_alone(world: &World, home: &Household) {
    let separate = separate(&world.contract, AID).join(" --separate ");
    let until = in_days(100);
    let give = format!(
        "consent give --agreement {AID} --valid-until {until} --separate {separate} --id -"
    );
    let (code, said) = refused(&world.it, &give, &home.child);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("CONSENT_GUARDIAN_MISSING"), "{said}");
}

/// Enforced when the command returns; what the union held of this person is called back and signed for, what
/// it holds of the others stays, and news about the person is denied.
fn the_consent_is_taken_back(world: &mut World, home: &Household, consent: &str) {
    let revoked = changes(&world.it, "revoke", consent, &home.head, &[]);
    assert_eq!(revoked["grant"]["status"], "closed", "{revoked:#}");
    world.settle();
    let mut back: Vec<String> = withdrawals(&world.it, AID)
        .iter()
        .map(|one| {
            assert_eq!(one["reason"], "CONSENT_REVOKED", "{one:#}");
            assert_eq!(one["action"], "deleted");
            one["dataset"].as_str().unwrap().to_owned()
        })
        .collect();
    back.sort();
    let all = [
        "hrss.insurance.status.v1",
        "realestate.right.v1",
        "union.hardship.v1",
    ];
    assert_eq!(back, all);
    // The spouse's and the supported one's.
    assert_eq!(held(world, "hrss.insurance.status.v1").len(), 2);
    let files = held(world, "union.hardship.v1");
    assert!(files.iter().all(|fields| fields["fileNo"] != *home.file));

    world.city.books(&home.head, |row| {
        row[insured::STATUS] = insured::PAUSED.to_owned()
    });
    city::publish(&world.it, "hrss-insurance");
    world.settle();
    assert_eq!(held(world, "hrss.insurance.status.v1").len(), 2);
    assert!(denied(&world.it, &home.head, "GRANT_CLOSED"));
    let entries = who_read(&world.it, &home.head);
    assert!(
        entries.iter().any(|entry| entry["kind"] == "withdrawn"),
        "{entries:#?}"
    );
    let ask =
        "bundle --item hardship-aid --department union --operator gh-0007 --reason 帮扶 --id -";
    let (code, said) = refused(&world.it, ask, &home.head);
    assert!(code == 1 && said.contains("GRANT_CLOSED"), "{said}");
}
