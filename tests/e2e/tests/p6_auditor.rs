//! P6: an auditor asks who read, what for, which rules said no and what was never needed; proves a delivery
//! to somebody who trusts nobody; and finds whatever was altered in the ledger, log and index.

use mz_e2e::check::assert_all;
use mz_e2e::equations::check_all;
use mz_e2e::people::reads;
use mz_e2e::{World, database, repository, wait};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const INSURANCE: &str = "to.police.talent-settlement.hrss.insurance.status.v1";
pub const CATCH_UP: Duration = Duration::from_secs(60);

#[test]
fn p6_an_auditor_asks_proves_and_finds() {
    let mut world = World::start("p6", 120, 61, true, 1);
    world.publish();
    let story = world.city.expected().story;
    let (settler, outsider) = (&story["settler"].id, &story["outsider"].id);
    let (_, bundle) = world.bundle(settler, "settler");
    world.settle();
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    indexed(&world);

    the_index_says_what_the_log_says(&world, settler, outsider);
    departments_and_rules_are_counted(&world);
    nothing_is_missing_and_nothing_above(&world);
    a_use_is_hidden_by_two_people(&world, settler);
    a_delivery_is_proven_offline(&world);
    a_witness_cosigns(&world);
    crate::p6_network::a_department_checks_from_its_own_premises(&mut world);
    crate::p6_absence::what_was_not_read_is_proven(&world, settler, outsider, &now);
    nothing_expires_too_early(&world);
    nobody_is_named(&world);

    let answered = [bundle["audit_id"].as_str().unwrap().to_owned()];
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
    whatever_is_altered_is_named(&world);
    world.stop();
}

/// Waits until the index has what the checkpoint has.
fn indexed(world: &World) {
    wait::until(
        "the index to catch up",
        CATCH_UP,
        || {
            let args = ["ledger", "audit", "--index", "--json"];
            let output = world.it.output(&args, None);
            let logs: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            (logs[0]["index"]["indexed"].clone(), logs[0]["size"].clone())
        },
        |(indexed, size)| indexed.is_u64() && indexed == size,
    );
}

pub fn ask(world: &World, args: &[&str], id: Option<&str>) -> Vec<Value> {
    let mut all = vec!["ledger", "ask"];
    all.extend(args);
    all.extend(["--operator", "sj-1", "--reason", "信访 118", "--json"]);
    let input = id.map(|id| format!("{id}\n"));
    let text = world.it.run_with(&all, input.as_deref(), &[0]);
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn ids(entries: &[Value]) -> BTreeSet<String> {
    let ids = entries
        .iter()
        .map(|entry| entry["audit_id"].as_str().unwrap().to_owned());
    ids.collect()
}

fn the_index_says_what_the_log_says(world: &World, settler: &str, outsider: &str) {
    let args = [
        "who-read",
        "--id",
        "-",
        "--operator",
        "sj-1",
        "--reason",
        "信访 118",
        "--json",
    ];
    let text = world
        .it
        .run_with(&args, Some(&format!("{settler}\n")), &[0]);
    let page: Value = serde_json::from_str(&text).unwrap();
    let walked = page["entries"].as_array().unwrap();
    assert!(walked.len() > 8, "{page:#}");
    // The walk through the topic ends with the question itself, which the ledger has a moment later.
    let walked = ids(walked);
    let asked = wait::value("the ledger to have it all", CATCH_UP, || {
        let asked = ids(&ask(world, &["who-read", "--id", "-"], Some(settler)));
        walked.is_subset(&asked).then_some(asked)
    });
    let auditors = |entries: &[Value]| {
        let mut questions = entries.to_vec();
        questions.retain(|entry| entry["cause"] == "auditor");
        questions
    };

    // Every question stands in the log with who asked and why, also the one before this.
    let questions = wait::value("the question to be logged", CATCH_UP, || {
        let again = ask(world, &["who-read", "--id", "-"], Some(settler));
        let questions = auditors(&again);
        let others = again.len() - questions.len();
        assert!(others < asked.len(), "nothing but questions is new");
        (questions.len() >= 3).then_some(questions)
    });
    for question in questions {
        assert_eq!(
            (&question["operator"], &question["reason"]),
            (&"sj-1".into(), &"信访 118".into())
        );
    }
    // Nobody had asked about this person: nothing but the auditor's own question.
    let nothing = ask(world, &["who-read", "--id", "-"], Some(outsider));
    assert!(
        nothing.iter().all(|entry| entry["cause"] == "auditor"),
        "{nothing:?}"
    );

    // What the person is shown: receiver and reason, no rule, no number.
    let usages = ask(world, &["find-usage", "--id", "-"], Some(settler));
    assert!(
        usages
            .iter()
            .any(|usage| usage["receiver"] == "police" && usage["action"] == "delivered")
    );

    // Whoever may not ask is refused; so is a question without a reason.
    let refused = |principal: &str, reason: &str, code: i32| {
        let args = [
            "ledger",
            "ask",
            "denials",
            "--operator",
            "x",
            "--reason",
            reason,
            "--principal",
            principal,
        ];
        world.it.run_with(&args, None, &[code]);
    };
    refused("police.window", "检查", 1);
    refused("bus.portal", "检查", 1);
    refused("bus.auditor", "", 1);
    refused("bus.auditor", "检查", 0);
}

fn departments_and_rules_are_counted(world: &World) {
    let sum = |items: &[Value], kind: &str| -> u64 {
        let items = items.iter().filter(|item| item["kind"] == kind);
        items.map(|item| item["entries"].as_u64().unwrap()).sum()
    };
    let police = |by: &str| {
        ask(
            world,
            &["department", "--consumer", "police", "--by", by],
            None,
        )
    };
    let (purposes, datasets, days) = (police("purpose"), police("dataset"), police("day"));
    let delivered = sum(&purposes, "delivered");
    assert!(delivered > 50, "{purposes:?}");
    assert_eq!(sum(&datasets, "delivered"), delivered);
    assert_eq!(sum(&days, "delivered"), delivered);
    let fields = police("field");
    let names: BTreeSet<&str> = fields
        .iter()
        .filter_map(|item| item["field"].as_str())
        .collect();
    assert!(names.contains("monthsTotal"), "{names:?}");
    assert!(
        !names.contains("employerName"),
        "never delivered to police: {names:?}"
    );

    let unused = ask(world, &["unused"], None);
    let of = |agreement: &str, dataset: &str| {
        let mut found = unused.iter();
        found.any(|one| {
            one["agreement"] == agreement
                && one["dataset"] == dataset
                && one["fields"] != Value::Array(Vec::new())
        })
    };
    // Nobody consented to that one: nothing of it was ever needed.
    assert!(
        of("union/retirement-help", "hrss.insurance.status.v1"),
        "{unused:?}"
    );
    assert!(
        !of("police/talent-settlement", "hrss.insurance.status.v1"),
        "{unused:?}"
    );

    let rate = ask(
        world,
        &[
            "rate",
            "--agreement",
            "police/talent-settlement",
            "--dataset",
            "hrss.insurance.status.v1",
        ],
        None,
    );
    assert!(
        rate.iter().any(|day| day["delivered"].as_u64() > Some(10)),
        "{rate:?}"
    );
}

/// Real connectors, a real gateway: their transaction markers are no gaps.
fn nothing_is_missing_and_nothing_above(world: &World) {
    let lanes = ask(world, &["gaps"], None);
    let datasets: BTreeSet<&str> = lanes
        .iter()
        .filter_map(|lane| lane["dataset"].as_str())
        .collect();
    assert!(
        datasets.contains("hrss.insurance.status.v1"),
        "{datasets:?}"
    );
    for lane in &lanes {
        assert_eq!(lane["missing"], Value::Array(Vec::new()), "{lane}");
        assert_eq!(lane["unseen"], Value::Array(Vec::new()), "{lane}");
        assert_eq!(
            (&lane["expired"], &lane["unchecked"]),
            (&0.into(), &0.into())
        );
    }
    let own = ask(
        world,
        &[
            "gaps",
            "--principal",
            "hrss.auditor",
            "--provider",
            "police",
        ],
        None,
    );
    assert!(!own.is_empty() && own.len() < lanes.len());
    assert!(
        own.iter()
            .all(|lane| lane["dataset"].as_str().unwrap().starts_with("hrss."))
    );

    let uses = ask(world, &["over-reach"], None);
    assert_eq!(uses.len(), world.contract.sections().count());
    assert!(
        uses.iter()
            .all(|one| one["days_above"] == 0 && one["per_day"].is_u64())
    );
    assert!(uses.iter().any(|one| one["most"].as_u64() > Some(10)));
    let args = [
        "ledger",
        "ask",
        "over-reach",
        "--consumer",
        "police",
        "--csv",
        "--operator",
        "sj-1",
        "--reason",
        "检查",
    ];
    let table = world.it.run(&args);
    assert!(
        table.starts_with("above,agreement,dataset,days_above,most,per_day,unused\n"),
        "{table}"
    );
}

/// As docs/auditor.md has it: one requests, another approves, and only `find-usage` shows less.
fn a_use_is_hidden_by_two_people(world: &World, settler: &str) {
    let shown = || -> usize {
        let usages = ask(world, &["find-usage", "--id", "-"], Some(settler));
        usages
            .iter()
            .filter(|usage| usage["receiver"] == "police")
            .count()
    };
    let until = (chrono::Utc::now().date_naive() + chrono::Days::new(30)).to_string();
    let request = [
        "ledger",
        "hide",
        "request",
        "--id",
        "-",
        "--until",
        &until,
        "--principal",
        "police.window",
        "--operator",
        "hz-07",
        "--reason",
        "刑事诉讼法第54条 2026-7",
    ];
    let before = shown();
    let number = world
        .it
        .run_with(&request, Some(&format!("{settler}\n")), &[0]);
    let number = number.trim();
    let approve = |operator: &str, principal: &str, code: i32| {
        let args = [
            "ledger",
            "hide",
            "approve",
            "--number",
            number,
            "--operator",
            operator,
            "--principal",
            principal,
            "--reason",
            "已核对立案决定书",
        ];
        world.it.run_with(&args, None, &[code])
    };
    approve("hz-07", "bus.security", 1);
    approve("sec-1", "police.window", 1);
    approve("sec-1", "bus.auditor", 1);
    assert_eq!((before > 0, shown()), (true, before));
    let audit_id = approve("sec-1", "bus.security", 0);
    assert!(audit_id.starts_with("vault-"), "{audit_id}");
    assert_eq!(shown(), 0);
    let list = [
        "ledger",
        "hide",
        "list",
        "--operator",
        "sj-1",
        "--reason",
        "检查",
        "--json",
    ];
    let listed: Value = serde_json::from_str(&world.it.run(&list)).unwrap();
    assert_eq!(
        (&listed["state"], &listed["approved_by"]),
        (&"in_force".into(), &"sec-1".into())
    );
    // Made again from the log, the index hides what it hid; the auditor sees it, and both acts.
    world.it.run(&["ledger", "reindex"]);
    assert_eq!(shown(), 0);
    wait::until(
        "both acts to be logged",
        CATCH_UP,
        || {
            let all = ask(world, &["who-read", "--id", "-"], Some(settler));
            let of = |kind: &str| all.iter().filter(|entry| entry["kind"] == kind).count();
            (of("hiding"), of("delivered") > 0)
        },
        |found| *found == (2, true),
    );
}

/// As docs/auditor.md has it: from a delivered event to a proof that somebody else verifies.
fn a_delivery_is_proven_offline(world: &World) {
    let delivered = reads(&world.it, "police", INSURANCE);
    let id = delivered[0]["audit_id"].as_str().unwrap();
    let file = world.it.dir().join("x.tlog-proof");
    let path = file.display().to_string();
    world.it.run(&["prove", "--audit-id", id, "--out", &path]);
    // Somebody else's machine has the contract's public part, and nothing of the installation.
    let contract = world.it.contract_root().display().to_string();
    let verify = ["verify", &path, "--contract", &contract, "--json"];
    let proven: Value = serde_json::from_str(&world.it.run(&verify)).unwrap();
    assert_eq!(proven["audit_id"], id);
    assert_eq!(proven["kind"], "delivered");
    assert_eq!(proven["dataset"], "hrss.insurance.status.v1");
    assert_eq!(proven["sequence"], delivered[0]["sequence"]);
    let fields: BTreeSet<&str> = proven["fields"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let held: BTreeSet<&str> = delivered[0]["fields"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(fields, held);

    let text = std::fs::read_to_string(&file).unwrap();
    let altered = text.replacen("index ", "index 1", 1);
    std::fs::write(&file, altered).unwrap();
    world
        .it
        .run_with(&["verify", &path, "--contract", &contract], None, &[4]);
    world
        .it
        .run_with(&["prove", "--audit-id", "gateway-0-999999"], None, &[1]);
}

/// The police check the log against what they hold and cosign it; a proof then needs nobody's word alone.
fn a_witness_cosigns(world: &World) {
    let ledger = world.it.dir().join("ledger");
    let policy = world.it.run(&["ledger", "policy", "--witnesses", "police"]);
    std::fs::write(ledger.join("tlog-policy"), &policy).unwrap();
    let contract = world.it.contract_root().display().to_string();
    let (file, policy_file) = (
        world
            .it
            .dir()
            .join("cosigned.tlog-proof")
            .display()
            .to_string(),
        ledger.join("tlog-policy").display().to_string(),
    );
    let id = reads(&world.it, "police", INSURANCE)[0]["audit_id"].clone();
    let prove = [
        "prove",
        "--cosigned",
        "--audit-id",
        id.as_str().unwrap(),
        "--out",
        &file,
    ];
    wait::until(
        "the quorum",
        CATCH_UP,
        || {
            let said = world
                .it
                .output(&["witness", "--department", "police", "--once"], None);
            assert!(
                said.status.success(),
                "{}",
                String::from_utf8_lossy(&said.stderr)
            );
            world.it.output(&prove, None).status.success()
        },
        |proven| *proven,
    );
    let verify = [
        "verify",
        &file,
        "--contract",
        &contract,
        "--policy",
        &policy_file,
        "--json",
    ];
    let proven: Value = serde_json::from_str(&world.it.run(&verify)).unwrap();
    assert_eq!(proven["witnesses"], serde_json::json!(["police"]));
    // The other verifier, which is not ours, says the same.
    let mut other = Command::new(mz_stack::testing::python());
    let script = repository().join("tests/vectors/verify_proof.py");
    other.arg(script).args(["--policy", &policy_file, &file]);
    let said = other.output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    for fact in [
        "log", "entry", "size", "audit_id", "at", "kind", "rule", "event", "sequence",
    ] {
        assert_eq!(said[fact], proven[fact], "{fact}");
    }
    assert!(said["witnesses"]["police"].is_u64());
    // The bus's word alone does not meet the policy, and no other department's witness does.
    let alone = world.it.dir().join("x2.tlog-proof").display().to_string();
    world
        .it
        .run(&["prove", "--audit-id", id.as_str().unwrap(), "--out", &alone]);
    world.it.run_with(
        &[
            "verify",
            &alone,
            "--contract",
            &contract,
            "--policy",
            &policy_file,
        ],
        None,
        &[4],
    );
    let other = world.it.run(&["ledger", "policy", "--witnesses", "hrss"]);
    let other_file = world.it.dir().join("other-policy").display().to_string();
    std::fs::write(&other_file, other).unwrap();
    world.it.run_with(
        &[
            "verify",
            &file,
            "--contract",
            &contract,
            "--policy",
            &other_file,
        ],
        None,
        &[4],
    );
}

/// Three years at least, and longer while somebody holds it.
fn nothing_expires_too_early(world: &World) {
    let expire = |before: &str, code: i32| {
        world
            .it
            .run_with(&["ledger", "expire", "--before", before], None, &[code])
    };
    expire("2026-11-01", 1);
    expire("yesterday", 2);
    expire("2020-01-01", 0);
    let hold = [
        "ledger",
        "hold",
        "--from",
        "2020-01-01",
        "--to",
        "2030-01-01",
        "--reason",
        "案 7",
        "--operator",
        "sj-1",
    ];
    let number = world.it.run(&hold);
    let release = [
        "ledger",
        "release",
        "--hold",
        number.trim(),
        "--reason",
        "结案",
        "--operator",
        "sj-2",
    ];
    world.it.run(&release);
}

/// No mark of the city is in the log or in any table of the index, and no number of a person.
fn nobody_is_named(world: &World) {
    let expected = world.city.expected();
    let numbers: Vec<&str> = expected.story.values().map(|person| &*person.id).collect();
    // The ledger runs meanwhile: where it replaced a file that was listed, the folder is looked through again.
    let files = wait::value("a look at every file", CATCH_UP, || {
        let (mut files, mut replaced) = (0, false);
        each_file(&world.it.dir().join("ledger"), &mut |path| {
            let bytes = match std::fs::read(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    replaced = true;
                    return;
                }
                read => read.unwrap(),
            };
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(mz_city::MARK), "{}", path.display());
            for number in &numbers {
                assert!(!text.contains(number), "{}", path.display());
            }
            files += 1;
        });
        (!replaced).then_some(files)
    });
    assert!(files > 4, "{files}");
    let rows = database::texts(
        world.it.database_url(),
        "SELECT concat_ws(' ', operator, reason) FROM ledger.entry UNION ALL SELECT text FROM ledger.word",
    );
    assert!(rows.len() > 100, "{}", rows.len());
    for row in rows {
        assert!(!row.contains(mz_city::MARK), "{row}");
        assert!(!numbers.iter().any(|number| row.contains(number)), "{row}");
    }
}

fn each_file(folder: &Path, each: &mut impl FnMut(&PathBuf)) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        // It is gone, as its files are.
        return each(&folder.to_path_buf());
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        match path.is_dir() {
            true => each_file(&path, each),
            false => each(&path),
        }
    }
}

fn whatever_is_altered_is_named(world: &World) {
    let audit = |code: i32| {
        let args = ["ledger", "audit", "--index", "--lang", "en"];
        world.it.run_with(&args, None, &[code])
    };
    let url = world.it.database_url();
    audit(0);
    // The index: a row that is gone, one that says something else, one too many.
    for (change, back, named) in [
        (
            "CREATE TABLE ledger.kept AS SELECT * FROM ledger.entry WHERE leaf = 7; DELETE FROM ledger.entry WHERE leaf = 7",
            "INSERT INTO ledger.entry SELECT * FROM ledger.kept; DROP TABLE ledger.kept",
            "Missing",
        ),
        (
            "UPDATE ledger.entry SET output_sequence = coalesce(output_sequence, 0) + 1 WHERE leaf = 9",
            "UPDATE ledger.entry SET output_sequence = nullif(output_sequence - 1, 0) WHERE leaf = 9",
            "Altered",
        ),
        (
            "INSERT INTO ledger.entry SELECT * FROM ledger.entry WHERE leaf = 11",
            "DELETE FROM ledger.entry WHERE ctid IN (SELECT max(ctid) FROM ledger.entry WHERE leaf = 11)",
            "Extra",
        ),
        // A hide that nobody asked for.
        (
            "INSERT INTO ledger.hide_request
                 (subject, lane, consumer, until, requested_by, requested_as, reason, at)
             SELECT subject, lane, consumer, until, 'hz-66', requested_as, 'another case', at - interval '1 hour'
             FROM ledger.hide_request ORDER BY id LIMIT 1",
            "DELETE FROM ledger.hide_request WHERE requested_by = 'hz-66'",
            "LEDGER_HIDE_UNREQUESTED",
        ),
    ] {
        database::execute(url, change);
        let said = audit(4);
        assert!(said.contains(named), "{named}:\n{said}");
        database::execute(url, back);
        audit(0);
    }
    // The log: an entry of a full bundle.
    let log = world.it.dir().join("ledger/0");
    let year = std::fs::read_dir(&log)
        .unwrap()
        .filter_map(Result::ok)
        .find(|entry| entry.path().is_dir());
    let bundle = year.unwrap().path().join("tile/entries/000");
    let good = std::fs::read(&bundle).unwrap();
    let mut other = good.clone();
    other[400] ^= 1;
    std::fs::write(&bundle, other).unwrap();
    let said = audit(4);
    assert!(said.contains("LEDGER_ENTRY_ALTERED"), "{said}");
    std::fs::write(&bundle, good).unwrap();
    // What was closed: a leaf that says something else.
    let leaves = bundle.parent().unwrap().parent().unwrap().parent().unwrap();
    let leaves = leaves.join("absence/0/leaves");
    let good = std::fs::read(&leaves).unwrap();
    let mut other = good.clone();
    other[40] ^= 1;
    std::fs::write(&leaves, other).unwrap();
    let said = audit(4);
    assert!(said.contains("LEDGER_RANGE_DIFFERS"), "{said}");
    std::fs::write(&leaves, good).unwrap();
    audit(0);
    // From the log alone.
    database::execute(url, "DELETE FROM ledger.usage_day");
    let said = audit(4);
    assert!(said.contains('≠'), "{said}");
    world.it.run(&["ledger", "reindex"]);
    audit(0);
}
