//! P14: a worker near retirement whose employer owes contributions. With consent the union sees the arrears
//! and nothing else; when the firm has paid, what it saw is called back.

use mz_e2e::audit::{Log, everything_sent_to};
use mz_e2e::bus::{self, contains};
use mz_e2e::check::assert_all;
use mz_e2e::city::{self, insured};
use mz_e2e::equations::check_all;
use mz_e2e::people::{gives, grant, holds, names, section, why, withdrawals};
use mz_e2e::world::Counter;
use mz_e2e::{World, database};

const RETIREMENT: &str = "union/retirement-help";
const INSURANCE: &str = "hrss.insurance.status.v1";
const ARREARS: &str = "to.union.retirement-help.hrss.insurance.status.v1";
const AGREED: [&str; 5] = ["arrearsMonths", "employerName", "idNo", "status", "type"];

const HELP: Counter<'_> = Counter {
    department: "union",
    item: "retirement-help",
    operator: "gh-0007",
    reason: "欠费帮扶",
};

#[test]
fn p14_arrears_only() {
    let mut world = World::start("p14", 120, 31, true, 1);
    let union = world.feed("union", "retirement-help");
    world.publish();
    let worker = world.city.expected().story["lapsed"].clone();
    let id = &worker.id;
    let lanes = world.contract.lanes;
    let admin = world.it.bus("bus.admin");
    assert_eq!(bus::count(&admin, ARREARS, lanes).unwrap(), 0);

    // With consent: every insurance that is in arrears, and of each five fields.
    let given = gives(&world.it, &world.contract, RETIREMENT, id, &[]);
    world.settle();
    let held = holds(&world.it, "union", ARREARS);
    assert_eq!(held.len(), 5);
    for fields in &held {
        assert_eq!(names(fields), AGREED);
        assert_eq!(fields["idNo"], **id);
        assert!(fields["arrearsMonths"].as_i64().unwrap() > 0);
    }
    let (_, bundle) = world.ask(HELP, id, "arrears");
    assert_eq!(bundle["outcome"]["kind"], "help", "{bundle:#}");
    nothing_else_was_sent(&world, id, &worker.withheld);

    // Why each field is given or not, and what would change it.
    let explained = why(&world.it, id, "union", "retirement-help");
    let insurance = section(&explained, INSURANCE);
    assert_eq!(insurance["flows"], true, "{explained:#}");
    assert_eq!(insurance["held"], 5);
    assert_eq!(insurance["grant"], grant(&given));
    assert_eq!(insurance["filter"], "arrearsMonths > 0");
    let dataset = world.contract.dataset(INSURANCE).unwrap();
    let fields = insurance["fields"].as_array().unwrap();
    assert_eq!(fields.len(), dataset.fields.len());
    for field in fields {
        let agreed = AGREED.contains(&field["name"].as_str().unwrap());
        assert_eq!(field["allowed"], agreed, "{field}");
        let rule = if agreed {
            "FIELD_AGREED"
        } else {
            "FIELD_NOT_AGREED"
        };
        assert_eq!(field["rule"], rule, "{field}");
    }
    // The wage base is no field at all: the register's connector doesn't publish it.
    assert!(fields.iter().all(|field| field["name"] != "wageBase"));

    // The firm pays: the union's rows go, and it signs for them.
    world.city.books(id, |row| {
        row[insured::ARREARS] = "0".to_owned();
        row[insured::STATUS] = insured::INSURED.to_owned();
    });
    city::publish(&world.it, "hrss-insurance");
    world.settle();
    assert!(holds(&world.it, "union", ARREARS).is_empty());
    let cleared = withdrawals(&world.it, RETIREMENT);
    assert_eq!(cleared.len(), 5);
    for one in &cleared {
        assert_eq!(one["reason"], "SUPERSEDED", "{one:#}");
        assert_eq!(one["action"], "deleted");
    }
    let rows = format!(
        "SELECT count(*) FROM {}.hrss_insurance_status_v1",
        union.schema()
    );
    assert_eq!(database::number(world.it.database_url(), &rows), 0);
    let (_, paid) = world.ask(HELP, id, "paid");
    assert_eq!(paid["outcome"]["kind"], "no_arrears", "{paid:#}");
    assert_eq!(paid["facts"][0]["reason"]["code"], "BUNDLE_FACT_SUPERSEDED");
    let explained = why(&world.it, id, "union", "retirement-help");
    assert_eq!(section(&explained, INSURANCE)["held"], 0);

    // In arrears again: the consent still stands, so it flows again.
    world
        .city
        .books(id, |row| row[insured::ARREARS] = "1".to_owned());
    city::publish(&world.it, "hrss-insurance");
    world.settle();
    assert_eq!(holds(&world.it, "union", ARREARS).len(), 5);
    assert_eq!(database::number(world.it.database_url(), &rows), 5);
    nothing_else_was_sent(&world, id, &worker.withheld);

    let answered: Vec<String> = [&bundle, &paid]
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
    let log = Log::read(&admin, lanes).unwrap();
    let url = world.it.database_url();
    assert_all(&[union.check(url, &admin, &world.contract, &log).unwrap()]);
    crate::settlement::no_service_said_a_number(&world);
    world.stop();
}

/// Every byte that the union was sent, whoever it is about: only this person's arrears. The employer's name
/// is agreed, and carries a planted mark; no other mark, no wage, no code of the firm, no file number.
fn nothing_else_was_sent(world: &World, id: &str, withheld: &[String]) {
    let admin = world.it.bus("bus.admin");
    let sent = everything_sent_to(&admin, &world.contract, "union").unwrap();
    let rows = world.city.insurance(id);
    let wages = rows.iter().map(|row| row[insured::WAGE].clone());
    let employers: Vec<&String> = rows.iter().map(|row| &row[insured::EMPLOYER]).collect();
    let never: Vec<String> = withheld
        .iter()
        .filter(|text| !employers.contains(text))
        .cloned()
        .chain(wages)
        .chain(["ILLNESS", "因病", "DISABILITY"].map(str::to_owned))
        .collect();
    assert!(never.len() > 6, "{never:?}");
    for record in &sent {
        assert_eq!(record.topic, ARREARS);
        let bytes = record.bytes();
        for text in &never {
            assert!(!contains(&bytes, text), "the union was sent {text}");
        }
        let said = String::from_utf8_lossy(&bytes).into_owned();
        let rest = employers
            .iter()
            .fold(said, |said, name| match name.as_str() {
                "" => said,
                name => said.replace(name, ""),
            });
        assert!(
            !rest.contains(mz_city::MARK),
            "a mark that is no employer's name"
        );
    }
}
