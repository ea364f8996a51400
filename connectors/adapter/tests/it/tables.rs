//! Deliveries become rows: typed columns, newest version, withdrawals, answers, refusals with
//! their reasons, gaps and repeats, restarts.

use std::sync::atomic::AtomicBool;

use crate::common::{ANSWER, APPROVAL, Fact, INSURANCE, Outgoing, RIGHT, World};
use mz_adapter::{Error, Options, Summary};
use sqlx::Row as _;

static NEVER: AtomicBool = AtomicBool::new(false);

fn run(options: Options) -> Summary {
    mz_adapter::run(options, &NEVER).unwrap()
}

#[test]
fn deliveries_become_typed_rows_and_nothing_withheld_is_in_them() {
    let world = World::new();
    let mut gateway = world.gateway();
    gateway.deliver(&[
        Fact::insurance(1, 1),
        Fact::insurance(2, 2),
        Fact::insurance(3, 3),
    ]);
    gateway.deliver(&[Fact::of(APPROVAL, 1, 1, "TA-2026-1")]);
    gateway.deliver(&[Fact::of(RIGHT, 1, 1, "粤2026不动产权第1号")]);
    let answer = gateway.answer(&Fact::insurance(1, 1), true);
    gateway.send(&[answer]);

    let summary = run(world.options(""));
    let totals = summary.totals();
    assert_eq!(
        (totals.delivered, totals.stored, totals.rejected),
        (6, 6, 0),
        "{}",
        summary.to_json()
    );
    assert_eq!((totals.gaps, totals.repeats), (0, 0));

    let row = &world.rows("SELECT * FROM hrss_insurance_status_v1 ORDER BY months_total")[0];
    assert_eq!(row.get::<String, _>("id_no"), "441900198001010001");
    assert_eq!(row.get::<String, _>("type"), "PENSION");
    assert_eq!(row.get::<i32, _>("months_total"), 1);
    assert_eq!(
        row.get::<chrono::NaiveDate, _>("as_of").to_string(),
        "2026-02-01"
    );
    assert_eq!(row.get::<i64, _>("mz_counter"), 1);
    assert_eq!(row.get::<i64, _>("mz_audit_number"), 1001);
    assert_eq!(row.get::<Vec<u8>, _>("mz_person").len(), 16);
    let columns: Vec<String> = world
        .rows("SELECT column_name::text FROM information_schema.columns WHERE table_name = 'hrss_insurance_status_v1'")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(
        !columns
            .iter()
            .any(|name| name.contains("employer") || name == "name"),
        "{columns:?}"
    );

    let dependents: String =
        world.ask("SELECT dependents->0->>'relation' FROM hrss_talent_approval_v1");
    assert_eq!(dependents, "SPOUSE");
    let seized: bool = world.ask("SELECT seized FROM realestate_right_v1");
    assert!(!seized);
    assert!(world.ask::<bool>("SELECT value FROM answer_insured6of12_v1"));
    // The proof is kept with the row, and holds no withheld value.
    let leaked: bool = world.ask(
        "SELECT EXISTS (SELECT FROM hrss_insurance_status_v1 \
         WHERE position('WITHHELD'::bytea IN mz_value || mz_seal) > 0)",
    );
    assert!(!leaked);
    let comment: String = world.ask(
        "SELECT col_description('hrss_insurance_status_v1'::regclass, attnum::int) FROM pg_attribute \
         WHERE attrelid = 'hrss_insurance_status_v1'::regclass AND attname = 'months_total'",
    );
    assert!(!comment.is_empty());
}

#[test]
fn the_newest_version_stays_and_restarts_double_nothing() {
    let world = World::new();
    let mut gateway = world.gateway();
    gateway.deliver(&[Fact::insurance(1, 5), Fact::insurance(9, 1)]);
    assert_eq!(run(world.options("")).totals().stored, 2);
    // Later: a newer version, an older one that comes late, the same again (a backfill).
    gateway.deliver(&[Fact::insurance(1, 7)]);
    gateway.deliver(&[Fact::insurance(1, 6)]);
    gateway.deliver(&[Fact::insurance(1, 7), Fact::insurance(9, 1)]);
    let totals = run(world.options("")).totals();
    assert_eq!(
        (totals.delivered, totals.stored, totals.superseded),
        (4, 1, 3)
    );
    // A raised epoch beats every counter.
    gateway.deliver(&[Fact {
        epoch: 2,
        ..Fact::insurance(1, 1)
    }]);
    run(world.options(""));
    let again = run(world.options("")).totals();
    assert_eq!(again.delivered, 0, "nothing is read twice");
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM hrss_insurance_status_v1"),
        2
    );
    assert_eq!(
        world.ask::<i64>(
            "SELECT mz_epoch FROM hrss_insurance_status_v1 WHERE months_total = 1 AND mz_epoch = 2"
        ),
        2
    );
    let law: bool = world.ask(
        "SELECT bool_and(delivered = stored + superseded + withdrawn + rejected) FROM mz_positions",
    );
    assert!(law);
    assert_eq!(
        world.ask::<i64>("SELECT sum(delivered)::bigint FROM mz_positions"),
        7
    );
}

#[test]
fn a_withdrawn_record_goes_and_does_not_come_back_late() {
    let world = World::new();
    let mut gateway = world.gateway();
    gateway.deliver(&[Fact::insurance(1, 1), Fact::insurance(2, 2)]);
    run(world.options(""));
    gateway.deliver(&[Fact::insurance(1, 5).withdrawn()]);
    gateway.deliver(&[Fact::insurance(1, 4)]);
    let totals = run(world.options("")).totals();
    assert_eq!(
        (totals.withdrawn, totals.stored, totals.superseded),
        (1, 0, 1)
    );
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM hrss_insurance_status_v1"),
        1
    );
    // Late in a transaction of its own, too.
    gateway.deliver(&[Fact::insurance(1, 3)]);
    assert_eq!(run(world.options("")).totals().superseded, 1);
    assert_eq!(
        world.ask::<String>("SELECT reason FROM mz_withdrawn"),
        "WITHDRAWN_BY_SOURCE"
    );
    // The register has the record again.
    gateway.deliver(&[Fact::insurance(1, 6)]);
    run(world.options(""));
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM hrss_insurance_status_v1"),
        2
    );
    // Only said to be withdrawn: the department's seal says otherwise.
    let mut false_word = gateway.deliveries(&[Fact::insurance(2, 9)]);
    false_word[0].value = None;
    gateway.send(&false_word);
    let summary = run(world.options(""));
    assert_eq!(
        summary.rejects.keys().collect::<Vec<_>>(),
        [&"META_CONTRADICTS"]
    );
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM hrss_insurance_status_v1"),
        2
    );
}

#[test]
fn a_withdrawn_record_can_stay_marked() {
    let world = World::new();
    let mut gateway = world.gateway();
    let options = || world.options("on_withdrawal: mark\n");
    gateway.deliver(&[Fact::insurance(1, 1)]);
    run(options());
    gateway.deliver(&[Fact::insurance(1, 2).withdrawn()]);
    run(options());
    assert!(world.ask::<bool>("SELECT mz_withdrawn_at IS NOT NULL FROM hrss_insurance_status_v1"));
    gateway.deliver(&[Fact::insurance(1, 3)]);
    run(options());
    assert!(world.ask::<bool>("SELECT mz_withdrawn_at IS NULL FROM hrss_insurance_status_v1"));
}

/// Each bad delivery is refused with its reason; the good ones around it flow.
#[test]
fn bad_deliveries_are_refused_and_never_block() {
    type Spoil = fn(&mut Outgoing);
    fn header<'o>(out: &'o mut Outgoing, name: &str) -> &'o mut Vec<u8> {
        &mut out
            .headers
            .iter_mut()
            .find(|(known, _)| known == name)
            .unwrap()
            .1
    }
    let cases: [(&str, Spoil); 18] = [
        ("NO_SEAL", |out| {
            out.headers.retain(|(name, _)| name != "mz-seal")
        }),
        ("SIGNATURE_INVALID", |out| {
            let seal = header(out, "mz-seal");
            let last = seal.len() - 5;
            seal[last] ^= 1;
        }),
        // Another person: the last digit of the identity number.
        ("SIGNATURE_INVALID", |out| {
            out.value.as_mut().unwrap()[23] ^= 1
        }),
        ("TRAILING_BYTES", |out| out.value.as_mut().unwrap().push(0)),
        ("SEAL_MALFORMED", |out| {
            header(out, "mz-seal").pop();
        }),
        ("SCHEMA_UNKNOWN", |out| out.value.as_mut().unwrap()[4] ^= 1),
        ("FRAMING_INVALID", |out| out.value.as_mut().unwrap()[0] = 9),
        ("DATUM_MALFORMED", |out| {
            out.value.as_mut().unwrap()[5] = 0x01
        }),
        ("META_CONTRADICTS", |out| header(out, "ce_id")[0] ^= 1),
        ("HEADER_MISSING", |out| {
            out.headers.retain(|(name, _)| name != "ce_time")
        }),
        ("HEADER_DUPLICATE", |out| {
            let seal = header(out, "mz-seal").clone();
            out.headers.push(("mz-seal".into(), seal));
        }),
        ("DELIVERY_KEY_INVALID", |out| {
            out.key.pop();
        }),
        ("AGREEMENT_FOREIGN", |out| {
            out.delivery.agreement = "hrss/talent-status".into()
        }),
        ("LANE_WRONG", |out| out.delivery.audit_lane ^= 1),
        ("SUITE_UNKNOWN", |out| header(out, "mz-seal")[0] = 2),
        ("TOO_LARGE", |out| header(out, "mz-seal").resize(17_000, 0)),
        ("HEADERS_UNREADABLE", |out| {
            (0..70).for_each(|n| out.headers.push((format!("x-{n}"), vec![1])));
        }),
        ("SCHEMA_UNKNOWN", |out| {
            out.topic = out.topic.replace(INSURANCE, RIGHT)
        }),
    ];
    let world = World::new();
    let mut gateway = world.gateway();
    for (at, (_, spoil)) in cases.iter().enumerate() {
        let person = at as u32 * 8;
        let mut bad = gateway.deliveries(&[Fact::insurance(person, 1)]);
        spoil(&mut bad[0]);
        gateway.send(&bad);
        gateway.deliver(&[Fact::insurance(person + 1, 1)]);
    }
    // A text that PostgreSQL can't hold, from the department itself.
    gateway.deliver(&[Fact::of(APPROVAL, 1, 1, "TA\0")]);
    let summary = run(world.options(""));
    let found: Vec<String> = world
        .rows("SELECT code FROM mz_rejects ORDER BY topic, \"offset\"")
        .iter()
        .map(|row| row.get(0))
        .collect();
    let mut wanted: Vec<&str> = cases.iter().map(|(code, _)| *code).collect();
    wanted.push("VALUE_UNSTORABLE");
    let (mut found_sorted, mut wanted_sorted) = (found.clone(), wanted.clone());
    found_sorted.sort();
    wanted_sorted.sort_unstable();
    assert_eq!(found_sorted, wanted_sorted, "{}", summary.to_json());
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM hrss_insurance_status_v1"),
        cases.len() as i64
    );
    assert_eq!(summary.totals().rejected, wanted.len() as u64);
    // Codes, not values.
    let reasons = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../schemas/reasons.yaml"
    ))
    .unwrap();
    for code in wanted {
        assert!(
            reasons.contains(&format!("\n{code}: ")),
            "{code} has no text"
        );
    }
}

/// An answer about one person can't be put under another's key.
#[test]
fn an_answer_is_tied_to_its_key() {
    let world = World::new();
    let mut gateway = world.gateway();
    let mut answer = gateway.answer(&Fact::insurance(1, 1), true);
    answer.key = Fact::insurance(9, 1).key().to_vec();
    gateway.send(&[answer]);
    let summary = run(world.options(""));
    assert_eq!(
        summary.rejects.keys().collect::<Vec<_>>(),
        [&"RECORD_FOREIGN"]
    );
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM answer_insured6of12_v1"),
        0
    );
}

#[test]
fn gaps_repeats_and_false_marks_are_told() {
    let world = World::new();
    let mut gateway = world.gateway();
    let topic = gateway.topic(INSURANCE);
    // One lane: persons 1, 9, 17 … with 8 lanes.
    let mut records = gateway.deliveries(&[Fact::insurance(1, 1), Fact::insurance(9, 2)]);
    gateway.mark(&mut records[1]);
    gateway.send(&records);
    gateway.skip(&topic, 1, 3);
    let mut late = gateway.deliveries(&[Fact::insurance(17, 3)]);
    gateway.mark(&mut late[0]);
    late[0].delivery.mark.as_mut().unwrap().at_ms += 1;
    gateway.send(&late);
    let mut again = gateway.deliveries(&[Fact::insurance(25, 4)]);
    again[0].delivery.sequence = 2;
    gateway.send(&again);
    let summary = run(world.options(""));
    let totals = summary.totals();
    assert_eq!(
        (
            totals.gaps,
            totals.missing,
            totals.repeats,
            totals.marks,
            totals.marks_invalid
        ),
        (1, 3, 1, 1, 1)
    );
    assert_eq!(totals.stored, 4, "a bad number is no reason to lose a fact");
    let rows = world.rows("SELECT kind, first_sequence, last_sequence FROM mz_sequence_faults ORDER BY \"offset\", kind");
    let told: Vec<(String, i64, i64)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(
        told,
        [
            ("gap".into(), 3, 5),
            ("mark_invalid".into(), 6, 6),
            ("repeat".into(), 2, 2)
        ]
    );
    assert_eq!(
        world.ask::<i64>("SELECT max(marked_sequence) FROM mz_positions"),
        2
    );
}

#[test]
fn uncommitted_records_are_not_read() {
    let world = World::new();
    let mut gateway = world.gateway();
    let ghost = gateway.deliveries(&[Fact::insurance(1, 9)]);
    gateway.send_aborted(&ghost);
    gateway.deliver(&[Fact::insurance(1, 1)]);
    let summary = run(world.options(""));
    assert_eq!(summary.totals().delivered, 1);
    assert_eq!(
        world.ask::<i64>("SELECT mz_counter FROM hrss_insurance_status_v1"),
        1
    );
    // Aborted record, abort mark, record, commit mark: the idle position stands behind them all.
    assert_eq!(
        world.ask::<i64>("SELECT max(next_offset) FROM mz_positions"),
        4
    );
}

#[test]
fn names_tables_and_choices_come_from_the_file() {
    let world = World::new();
    let mut gateway = world.gateway();
    gateway.deliver(&[Fact::insurance(1, 1)]);
    let file =
        format!("only: [{INSURANCE}]\ntables: {{{INSURANCE}: insurance}}\nkeep_proof: false\n");
    let summary = run(world.options(&file));
    assert_eq!(summary.totals().stored, 1);
    assert!(world.ask::<bool>("SELECT mz_value IS NULL AND mz_seal IS NULL FROM insurance"));
    assert_eq!(
        world.ask::<i64>(
            "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'hrss%'"
        ),
        0
    );
    for (file, code) in [
        ("only: [hrss.salary.v1]\n".to_owned(), "ADAPTER_NOT_AGREED"),
        (
            format!("tables: {{{INSURANCE}: 'x; drop'}}\n"),
            "ADAPTER_NAME",
        ),
        (
            format!("tables: {{{INSURANCE}: mz_positions}}\n"),
            "ADAPTER_NAME",
        ),
        (
            format!("tables: {{{INSURANCE}: same, {ANSWER}: same}}\n"),
            "ADAPTER_NAME",
        ),
    ] {
        let error = mz_adapter::run(world.options(&file), &NEVER).unwrap_err();
        assert_eq!(error.code(), code, "{file}");
        assert!(error.is_fault());
    }
}

#[test]
fn a_column_of_another_type_is_a_fault_not_a_surprise() {
    let world = World::new();
    run(world.options(""));
    world.execute("ALTER TABLE hrss_insurance_status_v1 ALTER COLUMN months_total TYPE text");
    let error = mz_adapter::run(world.options(""), &NEVER).unwrap_err();
    assert!(matches!(error, Error::ColumnType { .. }), "{error}");
    world.execute("ALTER TABLE hrss_insurance_status_v1 DROP COLUMN months_total");
    run(world.options(""));
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM hrss_insurance_status_v1"),
        0
    );
}

/// A reader that fell behind retention stops, or goes on and shows what it missed.
#[test]
fn a_lost_position_is_never_jumped_over_in_silence() {
    let world = World::new();
    let mut gateway = world.gateway();
    gateway.deliver(&[Fact::insurance(1, 1)]);
    run(world.options(""));
    world.execute("UPDATE mz_positions SET next_offset = 999999 WHERE lane = 1 AND topic LIKE '%insurance%' AND topic NOT LIKE '%answer%'");
    let error = mz_adapter::run(world.options(""), &NEVER).unwrap_err();
    assert!(matches!(error, Error::PositionLost { .. }), "{error}");
    run(world.options("when_position_lost: resume\n"));
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM mz_sequence_faults WHERE kind = 'repeat'"),
        1
    );
}
