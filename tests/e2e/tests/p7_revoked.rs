//! P7: the approval is revoked, the insurance stops, a source falls silent, all before the person stands at
//! the counter. What police hold follows, and the bundle says what no longer holds.

use mz_e2e::check::assert_all;
use mz_e2e::city::insured;
use mz_e2e::equations::check_all;
use mz_e2e::people::{holds, reads, withdrawals};
use mz_e2e::{Installation, World, database};
use serde_json::Value;

const SETTLEMENT: &str = "police/talent-settlement";
const APPROVALS: &str = "to.police.talent-settlement.hrss.talent.approval.v1";
const INSURANCE: &str = "to.police.talent-settlement.hrss.insurance.status.v1";

fn fact<'b>(bundle: &'b Value, need: &str) -> &'b Value {
    let facts = bundle["facts"].as_array().unwrap();
    facts.iter().find(|fact| fact["need"] == need).unwrap()
}

fn about<'h>(held: &'h [Value], id: &str) -> Vec<&'h Value> {
    held.iter().filter(|fields| fields["idNo"] == id).collect()
}

#[test]
fn p7_revoked_before_the_visit() {
    // The household register must speak every second here: it will be stale at the counter.
    let it = Installation::with("p7", |it| {
        let path = it
            .contract_root()
            .join("catalogue/police/household.v1.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let hasty = text.replacen("stale_after: 24h", "stale_after: 1s", 1);
        assert_ne!(text, hasty);
        std::fs::write(&path, hasty).unwrap();
    });
    let mut world = World::of(it, 120, 31, false, 1);
    world.publish();
    let story = world.city.expected().story;
    let (id, other) = (&story["revoked_later"].id, &story["no_home"].id);

    let (_, before) = world.bundle(id, "before");
    assert_eq!(before["outcome"]["kind"], "same_visit", "{before:#}");
    assert_eq!(fact(&before, "approval")["state"], "present");
    assert_eq!(
        fact(&before, "insurance")["record"]["fields"]["status"],
        "INSURED"
    );
    let approved = holds(&world.it, "police", APPROVALS);
    assert_eq!(about(&approved, id).len(), 1);
    assert_eq!(rows_about(&world, id), 1);

    // The next export: the approval is revoked, and the employer has stopped paying.
    world.city.export(1);
    world
        .city
        .books(id, |row| row[insured::STATUS] = insured::PAUSED.to_owned());
    world.publish();

    // The consumer's topic says so, the row is gone, and the department has signed that it is.
    let withdrawn = withdrawals(&world.it, SETTLEMENT);
    assert!(!withdrawn.is_empty());
    for one in &withdrawn {
        assert_eq!(one["reason"], "SUPERSEDED", "{one:#}");
        assert_eq!(one["dataset"], "hrss.talent.approval.v1");
        assert_eq!(one["action"], "deleted");
        assert!(one["receipt_at"].is_string() && one["executed_at"].is_string());
    }
    assert!(about(&holds(&world.it, "police", APPROVALS), id).is_empty());
    let told = reads(&world.it, "police", APPROVALS);
    let told = told
        .iter()
        .filter(|record| record["withdrawn"] == "SUPERSEDED");
    assert_eq!(told.count(), withdrawn.len());
    assert_eq!(rows_about(&world, id), 0);

    // The insurance is still a fact: another one.
    let insurances = holds(&world.it, "police", INSURANCE);
    let stopped = about(&insurances, id);
    assert_eq!(stopped.len(), 5);
    for fields in stopped {
        assert_eq!(fields["status"], "SUSPENDED", "{fields:#}");
    }

    // At the counter: not a missing proof, but one that no longer holds; and who has not spoken.
    let (file, after) = world.bundle(id, "after");
    assert_ne!(after["outcome"]["kind"], "same_visit", "{after:#}");
    let approval = fact(&after, "approval");
    assert_eq!(approval["state"], "none", "{after:#}");
    assert_eq!(approval["reason"]["code"], "BUNDLE_FACT_SUPERSEDED");
    assert!(approval["as_of"].is_string(), "{approval:#}");
    assert_ne!(
        fact(&after, "insurance")["record"]["fields"]["status"],
        "INSURED"
    );
    world.it.run(&["verify", &file.display().to_string()]);
    let sources = after["sources"].as_array().unwrap();
    let stale: Vec<&Value> = sources
        .iter()
        .filter(|source| !source["since"].is_null())
        .collect();
    assert_eq!(stale.len(), 1, "{sources:#?}");
    assert_eq!(stale[0]["dataset"], "police.household.v1");
    let pretty = shown(&world, id);
    assert!(pretty.contains("no longer holds"), "{pretty}");
    assert!(pretty.contains("The source is down or behind"), "{pretty}");

    // Nobody else's case is touched.
    let (_, neighbour) = world.bundle(other, "neighbour");
    assert_eq!(neighbour["outcome"]["kind"], "same_visit", "{neighbour:#}");

    let answered: Vec<String> = [&before, &after, &neighbour]
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
    crate::settlement::no_service_said_a_number(&world);
    world.stop();
}

/// The bundle as the clerk reads it.
fn shown(world: &World, id: &str) -> String {
    world.it.run_with(
        &[
            "bundle",
            "--item",
            "talent-settlement",
            "--department",
            "police",
            "--id",
            "-",
            "--operator",
            "hz-0042",
            "--reason",
            "人才入户",
            "--pretty",
        ],
        Some(id),
        &[0],
    )
}

/// Rows of the police's own table of approvals that name the person.
fn rows_about(world: &World, id: &str) -> i64 {
    let table = format!("{}.hrss_talent_approval_v1", world.tables.schema());
    let query = format!("SELECT count(*) FROM {table} t WHERE t::text LIKE '%{id}%'");
    database::number(world.it.database_url(), &query)
}
