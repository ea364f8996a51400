//! A dry run against what really happens: the same facts in two installations, one under the contract in
//! force and one under the changed contract. What the dry run in the first one foretells is what the
//! second one did.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mz_contract::{Contract, load_draft};
use mz_gateway::replay::{ReplayError, Report, dry_run};
use mz_journal::{AuditKind, GrantStatus};
use mz_seal::Datum;

use crate::actors::*;
use crate::facts::*;
use crate::world::*;

const STATUS: &str = "hrss/talent-status";
const POLICE: &str = "agreements/police/talent-settlement.yaml";
const HRSS: &str = "agreements/hrss/talent-status.yaml";
const ANSWER: &str = "answer.insured6of12.v1";

fn edit(root: &Path, file: &str, from: &str, to: &str) {
    let path = root.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// One field more and one less, a narrower filter, a stricter answer, a suspended agreement.
fn change(root: &Path) {
    edit(
        root,
        POLICE,
        "[idNo, type, status, monthsTotal, asOf]",
        "[idNo, type, status, currentSince, monthsTotal]",
    );
    edit(
        root,
        POLICE,
        "status == \"APPROVED\"",
        "status == \"APPROVED\" && category == \"EDUCATION\"",
    );
    edit(root, POLICE, "monthsLast12 >= 6", "monthsLast12 >= 10");
    let suspended =
        "suspended: {since: 2026-11-01, reason: {zh: 核查, en: Under review}}\nretention:";
    edit(root, HRSS, "retention:", suspended);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The world's contract, changed, as somebody would write it: not signed, new schemas without ids.
fn draft(world: &World) -> (tempfile::TempDir, Arc<Contract>) {
    let dir = tempfile::tempdir().unwrap();
    copy(&world.contract.root, dir.path());
    change(dir.path());
    let contract = load_draft(dir.path()).unwrap();
    (dir, Arc::new(contract))
}

fn skill(person: &str, number: &str, status: &str) -> Fact {
    let mut fact = approval(person, number, status);
    fact.values[3] = Datum::Enum("SKILL".to_owned());
    fact
}

/// The lane decides with every grant that is written.
fn grants_hold(world: &World, lane: u16) -> bool {
    let grants = world.read("bus.grants");
    let written = grants.iter().filter(|seen| seen.lane == lane);
    let last = written.map(|seen| seen.offset).max();
    last.is_none_or(|last| world.state(lane).grants_position > last)
}

/// Known facts, bookings, what comes after, a move, a grant that expires, a pause, a forgery.
fn live(world: &World) -> Vec<String> {
    let mut people = world.people(0, 5);
    people.extend(world.people(1, 4));
    let mut hrss = Stream::new(world, INSURANCE);
    let mut talent = Stream::new(world, APPROVAL);
    let mut police = Stream::new(world, APPOINTMENT);
    let mut register = Stream::new(world, HOUSEHOLD);
    let gateway = world.start();
    let mut vault = Vault::default();
    let (me, spouse) = (&people[0], &people[5]);

    // Before anybody booked.
    let mut known = Vec::new();
    for (at, person) in people.iter().enumerate() {
        known.push(insurance(person, "PENSION", 5 + at as i64));
    }
    known.push(insurance(me, "PENSION", 12));
    hrss.publish(world, &known);
    let mut events = known.len() as u64;
    talent.publish(
        world,
        &[
            approval(me, "A-1", "APPROVED"),
            skill(&people[1], "A-2", "APPROVED"),
            skill(&people[2], "A-3", "USED"),
        ],
    );
    events += 3;
    gateway.processed(events);
    // An agreement that is suspended opens no case. The grant was there before it was suspended: that is
    // what a dry run is asked about.
    if world.contract.agreement(STATUS).unwrap().suspended() {
        world.grant(me, 9, |grant| grant.agreement = STATUS.to_owned());
        wait_for("the grant holds", || grants_hold(world, 0));
    }

    // Six people book, one with a spouse in the other lane.
    let bookings: Vec<Fact> = people[..6]
        .iter()
        .filter(|person| *person != spouse)
        .enumerate()
        .map(|(at, person)| {
            let dependents: &[&str] = if at == 0 { &[spouse] } else { &[] };
            appointment(person, &format!("B-{at}"), dependents)
        })
        .collect();
    police.publish(world, &bookings);
    events += bookings.len() as u64;
    gateway.processed(events);
    // Seven insurances of six people, and what they answer.
    wait_for("the backfills", || {
        vault.serve(world);
        gateway.counts().backfilled >= 12
    });
    wait_for("backfills close", || {
        vault.serve(world);
        (0..LANES).all(|lane| world.state(lane).open_backfills.is_empty())
    });

    // What comes after; the first one twice, which is a replay.
    let wire = hrss.seal(world, &[insurance(me, "MEDICAL", 9)]);
    put(
        world,
        &[INSURANCE, INSURANCE],
        &[wire[0].clone(), wire[0].clone()],
    );
    register.publish(world, &[household(me, "H-1", "MOVE_PERMITTED")]);
    talent.publish(world, &[skill(&people[1], "A-2", "APPROVED")]);
    events += 4;
    gateway.processed(events);

    // The move closes a case; a pause stops another; a third gets a grant that has expired.
    register.publish(world, &[household(me, "H-1", "MOVED_IN")]);
    events += 1;
    gateway.processed(events);
    wait_for("the case is closed", || {
        let closed = |grant: &mz_journal::Grant| grant.status == GrantStatus::Closed;
        world
            .grants()
            .iter()
            .any(|grant| closed(grant) && grant.agreement == SETTLEMENT)
    });
    let paused = world
        .grants()
        .into_iter()
        .find(|grant| grant.subject == world.tag(spouse) && grant.agreement == SETTLEMENT)
        .unwrap();
    world.grant(spouse, 0, |grant| {
        *grant = mz_journal::Grant {
            status: GrantStatus::Paused,
            counter: 2,
            ..paused.clone()
        };
    });
    world.grant(&people[8], 8, |grant| grant.expires_ms = 1_000_000);
    wait_for("both hold", || grants_hold(world, 1));
    hrss.publish(
        world,
        &[
            insurance(me, "PENSION", 11),
            insurance(spouse, "MEDICAL", 4),
            insurance(&people[3], "MEDICAL", 10),
            insurance(&people[8], "MEDICAL", 10),
        ],
    );
    events += 4;
    gateway.processed(events);
    gateway.end();
    world.check_books();
    people
}

/// Delivered, denied, out of scope of each agreement and dataset (or answer), by the audit.
fn happened(world: &World) -> BTreeMap<(String, String), [u64; 3]> {
    let mut all: BTreeMap<_, [u64; 3]> = BTreeMap::new();
    for entry in world.of_kind(AuditKind::Summary) {
        let key = (entry.agreement.to_string(), entry.dataset.to_string());
        let counts = all.entry(key).or_default();
        counts[0] += u64::from(entry.counts.delivered);
        counts[1] += u64::from(entry.counts.denied);
        counts[2] += u64::from(entry.counts.out_of_scope);
    }
    all
}

/// The same as a dry run says it, for one of its two sides.
fn foretold(report: &Report, side: usize) -> BTreeMap<(String, String), [u64; 3]> {
    let mut all = BTreeMap::new();
    for row in &report.rows {
        let mut counts = [0; 3];
        for (transition, count) in &row.transitions {
            let (before, after) = transition.split_once("->").unwrap();
            let outcomes = ["delivered", "denied", "out_of_scope"];
            let outcome = [before, after][side];
            if let Some(at) = outcomes.iter().position(|name| *name == outcome) {
                counts[at] += count;
            }
        }
        if counts != [0; 3] {
            all.insert((row.agreement.clone(), row.dataset.clone()), counts);
        }
    }
    all
}

#[test]
fn a_dry_run_foretells_what_the_changed_contract_does() {
    let world = World::new(1);
    let people = live(&world);
    let (_dir, changed) = draft(&world);
    let report = dry_run(&world.options(), Arc::clone(&changed), 0, &[]).unwrap();
    assert_eq!(foretold(&report, 0), happened(&world), "what was");
    assert_eq!(report.refused, 1, "the replay");

    let other = World::prepared(1, |root, _| {
        change(root);
        mz_contract::allocate_schema_ids(root, mz_contract::Lang::En).unwrap();
    });
    live(&other);
    assert_eq!(foretold(&report, 1), happened(&other), "what would be");

    // A field more and one less, for everybody who was sent an insurance.
    let insurance = report.row(SETTLEMENT, INSURANCE).unwrap();
    assert_eq!(insurance.fields_added, ["currentSince"]);
    assert_eq!(insurance.fields_withheld, ["asOf"]);
    assert_eq!(insurance.differs, 0);
    assert_eq!(
        insurance.content_differs,
        insurance.count("delivered", "delivered")
    );
    assert_eq!(insurance.people.to_string(), "5", "six people");
    // A narrower filter.
    let approvals = report.row(SETTLEMENT, APPROVAL).unwrap();
    assert_eq!(approvals.count("delivered", "out_of_scope"), 2);
    assert_eq!(approvals.count("delivered", "delivered"), 1);
    assert_eq!(approvals.people.to_string(), "<5");
    // Another answer to the same question, for some.
    let answers = report.row(SETTLEMENT, ANSWER).unwrap();
    assert!(answers.content_differs > 0 && answers.content_differs < insurance.content_differs);
    assert_eq!(answers.differs, 0);
    // A suspended agreement.
    let status = report.row(STATUS, HOUSEHOLD).unwrap();
    assert_eq!(status.count("delivered", "denied"), 2);
    assert_eq!(status.denied_by["AGREEMENT_SUSPENDED"], 2);

    // Nothing about anybody in it.
    let text = serde_json::to_string(&report).unwrap();
    for person in &people {
        assert!(!text.contains(person.as_str()));
        assert!(!text.contains(&world.tag(person).hex()));
    }

    // The same contract differs in nothing; one agreement alone shows nothing of others; what has not
    // come yet can't differ.
    let options = world.options();
    let same = dry_run(&options, Arc::clone(&world.contract), 0, &[]).unwrap();
    assert!(same.rows.iter().all(mz_gateway::replay::Row::is_same) && same.notes.is_empty());
    let only = [STATUS.to_owned()];
    let one = dry_run(&options, Arc::clone(&changed), 0, &only).unwrap();
    assert!(one.rows.iter().all(|row| row.agreement == STATUS));
    assert_eq!(
        one.row(STATUS, HOUSEHOLD).unwrap().transitions,
        status.transitions
    );
    let later = dry_run(&options, Arc::clone(&changed), i64::MAX / 4, &[]).unwrap();
    assert_eq!((later.events, later.refused), (0, 0));
    let unknown = dry_run(&options, changed, 0, &["police/nothing".to_owned()]);
    assert!(matches!(unknown, Err(ReplayError::AgreementUnknown { .. })));
}

#[test]
fn a_section_taken_away_or_added_is_told_and_so_are_case_rules() {
    let world = World::new(1);
    live(&world);
    let dir = tempfile::tempdir().unwrap();
    copy(&world.contract.root, dir.path());
    edit(dir.path(), POLICE, "days: 180\n", "days: 90\n");
    std::fs::remove_file(dir.path().join(HRSS)).unwrap();
    std::fs::remove_dir_all(dir.path().join(HRSS.replace(".yaml", ".approvals"))).unwrap();
    let changed = Arc::new(load_draft(dir.path()).unwrap());
    let report = dry_run(&world.options(), changed, 0, &[]).unwrap();
    let gone = report.row(STATUS, HOUSEHOLD).unwrap();
    assert_eq!(gone.after("delivered") + gone.after("denied"), 0);
    assert_eq!(gone.count("delivered", "absent"), 2);
    let notes: Vec<&str> = report.notes.iter().map(|note| note.code).collect();
    assert_eq!(notes, ["DRY_RUN_CASE_RULES"]);
}

#[test]
fn the_version_in_force_is_what_a_change_is_compared_with() {
    let world = World::new(1);
    let me = world.people(0, 1).remove(0);
    let mut talent = Stream::new(&world, APPROVAL);
    talent.publish(&world, &[approval(&me, "A-1", "APPROVED")]);
    // On disk the agreement runs; a version that suspends it was put in force since.
    let suspended = world.changed(crate::in_force::suspended);
    world.put_in_force(1, suspended.digest);
    let disk = load_draft(&world.contract.root).unwrap();
    let report = dry_run(&world.options(), Arc::new(disk), 0, &[]).unwrap();
    assert_ne!(report.in_force, report.changed);
    let row = report.row(SETTLEMENT, APPROVAL).unwrap();
    assert_eq!(row.count("denied", "delivered"), 1);
    assert_eq!(row.people.to_string(), "<5");
}
