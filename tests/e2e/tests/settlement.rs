//! Talent settlement end to end (P1): registers in, cases opened by bookings, facts out, a bundle at
//! the window, the case closed by the move. And what police did not get: planted marks, strangers.

use mz_bus::{Isolation, TxProducer};
use mz_e2e::audit::{Log, everything_sent_to};
use mz_e2e::bus::{contains, read_topic};
use mz_e2e::check::assert_all;
use mz_e2e::equations::check_all;
use mz_e2e::{World, database};
use mz_journal::{AuditCause, AuditKind};
use serde_json::Value;
use std::collections::HashSet;
use std::time::Duration;

const PERSONS: u64 = 400;

fn fact_states(bundle: &Value) -> Vec<(String, String)> {
    bundle["facts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fact| {
            (
                fact["dataset"].as_str().unwrap().to_owned(),
                fact["state"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

fn kind(bundle: &Value) -> &str {
    bundle["outcome"]["kind"].as_str().unwrap()
}

#[test]
fn talent_settlement_end_to_end() {
    let mut world = World::start("settlement", PERSONS, 11, true, 1);
    world.publish();
    let story = world.city.expected().story;

    police_have_no_marks_and_no_strangers(&world);
    crate::subscriber::the_page_works_as_printed(&world);

    // The window: one bundle, checked offline; a person without property is no refusal.
    let settler = &story["settler"];
    let (file, bundle) = world.bundle(&settler.id, "settler");
    assert_eq!(kind(&bundle), "same_visit", "{bundle:#}");
    for dataset in ["hrss.talent.approval.v1", "hrss.insurance.status.v1"] {
        let state = (dataset.to_owned(), "present".to_owned());
        assert!(fact_states(&bundle).contains(&state), "{bundle:#}");
    }
    world.it.run(&["verify", &file.display().to_string()]);
    // One changed character anywhere: no longer valid.
    let text = std::fs::read_to_string(&file).unwrap();
    let name = bundle["facts"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|fact| fact["record"]["fields"]["name"].as_str())
        .unwrap();
    std::fs::write(&file, text.replacen(name, "王二麻子", 1)).unwrap();
    world
        .it
        .run_with(&["verify", &file.display().to_string()], None, &[4]);

    let (_, no_home) = world.bundle(&story["no_home"].id, "no-home");
    assert_eq!(kind(&no_home), "same_visit");
    assert!(
        no_home["outcome"]
            .to_string()
            .contains("SETTLEMENT_CHOOSE_ADDRESS")
    );
    let (_, family) = world.bundle(&story["family"].id, "family");
    assert_eq!(kind(&family), "within_term");
    for bundle in [&bundle, &no_home, &family] {
        assert!(!contains(bundle.to_string().as_bytes(), mz_city::MARK));
    }
    let mut bundles = vec![bundle, no_home, family];
    world.settle();

    who_read_names_every_reader(&world, &settler.id);

    // The next day: some moved in, cases close, deliveries about them stop.
    let delivered = |world: &World| {
        let log = Log::read(&world.it.bus("bus.admin"), world.contract.lanes).unwrap();
        (
            log.count(AuditKind::Delivered),
            log.count(AuditKind::CaseClosed),
            log,
        )
    };
    let (before, ..) = delivered(&world);
    for snapshot in 1..=3 {
        world.city.export(snapshot);
        world.publish();
    }
    let (after, closed, log) = delivered(&world);
    assert!(after > before && closed > 0, "{before} {after} {closed}");
    assert!(
        log.of(AuditKind::Denied).count() > 0,
        "news about a closed case is denied"
    );
    assert!(
        log.of(AuditKind::Delivered)
            .any(|entry| entry.cause == AuditCause::Backfill)
    );
    let (_, revoked) = world.bundle(&story["revoked_later"].id, "revoked");
    assert_ne!(
        kind(&revoked),
        "same_visit",
        "a revoked approval settles nobody"
    );
    bundles.push(revoked);
    police_have_no_marks_and_no_strangers(&world);

    // Who walks in without a booking opens the case by asking; only then may police know.
    let (_, walk_in) = world.bundle(&story["no_case"].id, "walk-in");
    assert_eq!(kind(&walk_in), "same_visit", "{walk_in:#}");
    let (_, outsider) = world.bundle(&story["outsider"].id, "outsider");
    assert_eq!(kind(&outsider), "not_eligible");
    for (role, bundle) in [("no_case", &walk_in), ("outsider", &outsider)] {
        for text in &story[role].withheld {
            assert!(
                !contains(bundle.to_string().as_bytes(), text),
                "{role}: a withheld text"
            );
        }
    }
    bundles.extend([walk_in, outsider]);
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
    no_service_said_a_number(&world);
    the_equations_notice(&world, &answered);
    world.stop();
}

/// What the equations are worth: one delivery repeated, one fact changed, one row lost, and each
/// shows in its own check.
fn the_equations_notice(world: &World, answered: &[String]) {
    let bus = world.it.bus("bus.admin");
    let topic = "to.police.talent-settlement.realestate.right.v1";
    let repeated = read_topic(&bus, topic, world.contract.lanes, Isolation::Committed)
        .unwrap()
        .remove(0);
    let mut producer = TxProducer::open(&bus, "forger", Duration::from_secs(10)).unwrap();
    producer.init().unwrap();
    producer.begin().unwrap();
    let headers: Vec<(&str, &[u8])> = repeated
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_slice()))
        .collect();
    producer
        .send(
            topic,
            repeated.partition,
            &repeated.key,
            repeated.value.as_deref(),
            &headers,
        )
        .unwrap();
    producer.commit().unwrap();
    let schema = world.tables.schema();
    for statement in [
        "UPDATE vault.fact SET counter = counter + 1 WHERE (lane, subject, dataset, record) =
         (SELECT lane, subject, dataset, record FROM vault.fact LIMIT 1)"
            .to_owned(),
        format!(
            "DELETE FROM {schema}.hrss_insurance_status_v1 WHERE ctid =
             (SELECT ctid FROM {schema}.hrss_insurance_status_v1 LIMIT 1)"
        ),
    ] {
        database::execute(world.it.database_url(), &statement);
    }
    let checks = check_all(
        &world.it,
        &world.contract,
        &world.city,
        &world.tables,
        answered,
    );
    let broken: Vec<&str> = checks
        .unwrap()
        .iter()
        .filter(|check| !check.holds())
        .map(|check| check.name)
        .collect();
    for name in [
        "vault = newest",
        "deliveries = audit",
        "adapter = deliveries",
    ] {
        assert!(
            broken.contains(&name),
            "{name} holds all the same: {broken:?}"
        );
    }
    for name in ["topics = registers", "audit chains", "audit kinds"] {
        assert!(!broken.contains(&name), "{name}: {broken:?}");
    }
}

/// Scans every byte that police hold, also of aborted transactions: no withheld text of anybody, and
/// of people without a case nothing but the approval.
fn police_have_no_marks_and_no_strangers(world: &World) {
    let bus = world.it.bus("bus.admin");
    let sent = everything_sent_to(&bus, &world.contract, "police").unwrap();
    assert!(sent.len() > 100, "only {} deliveries", sent.len());
    let planted = &world.city.expected().marks;
    assert!(planted.values().sum::<u64>() > 100, "{planted:?}");
    for record in &sent {
        assert!(
            !contains(&record.bytes(), mz_city::MARK),
            "{} [{}] at {} holds a withheld text",
            record.topic,
            record.partition,
            record.offset
        );
    }
    let schema = world.tables.schema();
    let rows: Vec<(String, Vec<u8>)> = database::dump(world.it.database_url())
        .into_iter()
        .filter(|(table, _)| table.starts_with(&format!("{schema}.")))
        .collect();
    assert!(rows.len() > 100, "only {} rows", rows.len());
    for (table, bytes) in &rows {
        assert!(
            !contains(bytes, mz_city::MARK),
            "{table} holds a withheld text"
        );
    }

    // Everybody in the registers who has no booking: in police's hands only as an approval.
    let asked: HashSet<String> = lines(world, "police/appointments.ndjson")
        .iter()
        .flat_map(|booking| {
            let dependents = booking["sxry"].as_array().unwrap().iter();
            std::iter::once(booking)
                .chain(dependents)
                .map(|person| person["gmsfhm"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
        // Walked in without a booking.
        .chain(
            ["no_case", "outsider", "revoked_later"]
                .map(|role| world.city.expected().story[role].id.clone()),
        )
        .collect();
    let strangers: Vec<String> = lines(world, "police/household.ndjson")
        .iter()
        .map(|row| row["gmsfhm"].as_str().unwrap().to_owned())
        .filter(|id| !asked.contains(id))
        .collect();
    assert!(strangers.len() > 50, "only {} strangers", strangers.len());
    let approvals = "to.police.talent-settlement.hrss.talent.approval.v1";
    for record in sent.iter().filter(|record| record.topic != approvals) {
        let bytes = record.bytes();
        let known = strangers.iter().find(|id| contains(&bytes, id));
        assert!(
            known.is_none(),
            "{} is about a person without a case",
            record.topic
        );
    }
}

fn lines(world: &World, file: &str) -> Vec<Value> {
    std::fs::read_to_string(world.city.path().join(file))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The person sees every delivery and look-up, with department, purpose, fields and rule.
fn who_read_names_every_reader(world: &World, id: &str) {
    let args = [
        "who-read",
        "--id",
        "-",
        "--operator",
        "sj-1",
        "--reason",
        "检查",
        "--json",
    ];
    let text = world.it.run_with(&args, Some(&format!("{id}\n")), &[0]);
    assert!(!text.contains(id), "the answer repeats the number");
    for part in [
        "police",
        "talent-settlement",
        "hrss.talent.approval.v1",
        "hrss.insurance.status.v1",
        "monthsTotal",
        "hz-0042",
    ] {
        assert!(
            text.contains(part),
            "who-read does not tell {part}:\n{text}"
        );
    }
    // It is never taken from the command line.
    world.it.run_with(&["who-read", "--id", id], None, &[2]);
}

/// No log line of any service or connector holds an identity number of the city.
pub fn no_service_said_a_number(world: &World) {
    let numbers: HashSet<String> = lines(world, "police/household.ndjson")
        .iter()
        .chain(&lines(world, "police/appointments.ndjson"))
        .map(|row| row["gmsfhm"].as_str().unwrap().to_owned())
        .collect();
    for entry in std::fs::read_dir(world.it.dir().join("logs"))
        .unwrap()
        .flatten()
    {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        for word in words.filter(|word| word.len() == 18) {
            assert!(
                !numbers.contains(word),
                "{} names a person",
                entry.path().display()
            );
        }
    }
}
