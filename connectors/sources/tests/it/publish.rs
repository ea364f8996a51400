//! Publishing on a real cluster, as the department's own principal with the rights of the plan:
//! nothing lost, nothing doubled, whatever happens in between.

use crate::bus::Bus;
use mz_bus::{Admin, TxProducer};
use mz_contract::{Lang, Reasons};
use mz_journal::topics;
use mz_keys::public::KeyUse;
use mz_keys::sign::department_signer;
use mz_keys::{PlacementKey, RecordKey};
use mz_sdk::{
    Chunk, Connector, ConnectorError, Event, Options, Pass, PassEnd, Schedule, Silent, Source,
    SourceError,
};
use mz_seal::Datum;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const INSURANCE: &str = "hrss.insurance.status.v1";
const HOUSEHOLD: &str = "police.household.v1";
const RIGHT: &str = "realestate.right.v1";

/// A made-up number with a valid check character.
fn id(serial: u32) -> String {
    let head = format!(
        "44190019{:02}0101{:03}",
        50 + serial / 999 % 50,
        serial % 999 + 1
    );
    format!("{head}{}", mz_city::id_check_character(&head))
}

/// The same number with another check character.
fn bad(id: &str) -> String {
    format!("{}{}", &id[..17], if id.ends_with('9') { '8' } else { '9' })
}

fn insurance_row(id: &str, kind: u32, months: u32) -> String {
    format!("{id},王小明,{kind},1,20190301,20210701,{months},12,,,0,8123.00,441900,20261120\r\n")
}

const INSURANCE_HEADER: &str = "证件号码,姓名,险种,参保状态,首次参保日期,本次参保日期,累计缴费月数,近12月缴费月数,单位统一社会信用代码,单位名称,欠费月数,缴费基数,参保地区划,数据截至日期\r\n";

fn insurance(rows: &[(String, u32, u32)]) -> Vec<u8> {
    let mut text = INSURANCE_HEADER.to_owned();
    for (id, kind, months) in rows {
        text.push_str(&insurance_row(id, *kind, *months));
    }
    gb(&text)
}

fn gb(text: &str) -> Vec<u8> {
    encoding_rs::GB18030.encode(text).0.into_owned()
}

fn shipped(name: &str) -> String {
    std::fs::read_to_string(
        crate::support::repository()
            .join("connectors/mappings")
            .join(name),
    )
    .unwrap()
}

#[test]
fn a_register_is_published_once_and_a_change_is_one_version() {
    let bus = Bus::new();
    let mut rows: Vec<_> = (0..400)
        .flat_map(|n| [110, 310].map(|kind| (id(n), kind, 30)))
        .collect();
    bus.write("insurance.csv", insurance(&rows));
    let config = bus.config(&shipped("hrss-insurance.yaml"), "insurance.csv");

    let first = bus.connect(&config).unwrap();
    assert_eq!(
        (
            first.report.new,
            first.report.published(),
            first.exit_code()
        ),
        (800, 800, 0),
        "{}",
        first.summary
    );
    let events = bus.events(INSURANCE);
    assert_eq!(events.len(), 800);
    assert!(
        events
            .iter()
            .all(|event| event.record == format!("{}|{}", event.subject, event.text("type")))
    );
    assert_eq!(
        events
            .iter()
            .map(|event| event.lane)
            .collect::<BTreeSet<_>>()
            .len(),
        2
    );
    bus.assert_gapless(INSURANCE);
    let status = bus.status("hrss", "insurance");
    assert_eq!((status.epoch, status.rejected), (1, 0));
    assert!(status.complete_to_ms > 1_700_000_000_000 && status.complete_to_ms <= status.at_ms);

    // The same file again, then the same rows in another order: nothing.
    assert_eq!(bus.connect(&config).unwrap().report.published(), 0);
    rows.reverse();
    bus.write("insurance.csv", insurance(&rows));
    let again = bus.connect(&config).unwrap();
    assert_eq!((again.report.unchanged, again.report.published()), (800, 0));

    // One row changes: exactly one event, one version later, in the next batch.
    rows[17].2 = 31;
    bus.write("insurance.csv", insurance(&rows));
    let third = bus.connect(&config).unwrap();
    assert_eq!((third.report.changed, third.report.published()), (1, 1));
    let events = bus.events(INSURANCE);
    assert_eq!(events.len(), 801);
    let newest = events.iter().max_by_key(|event| event.counter).unwrap();
    assert_eq!(
        (
            newest.counter,
            newest.subject.as_str(),
            newest.text("monthsTotal").as_str()
        ),
        (801, rows[17].0.as_str(), "31")
    );
    bus.assert_gapless(INSURANCE);

    // No identity number lies in a key, the checkpoint or the status.
    for topic in [
        topics::checkpoint("hrss", "insurance"),
        topics::status("hrss", "insurance"),
    ] {
        for (key, value) in bus.raw(&topic) {
            for bytes in [key, value.unwrap_or_default()] {
                assert!(
                    !rows
                        .iter()
                        .any(|(id, ..)| bytes.windows(18).any(|window| window == id.as_bytes()))
                );
            }
        }
    }
}

#[test]
fn a_plan_publishes_nothing_and_fences_nobody() {
    let bus = Bus::new();
    let rows: Vec<_> = (0..30).map(|n| (id(n), 110, 30)).collect();
    bus.write("insurance.csv", insurance(&rows));
    let config = bus.config(&shipped("hrss-insurance.yaml"), "insurance.csv");
    let mut running = start(&bus);

    let mut options = bus.connect_options(&config);
    options.plan = true;
    let planned = mz_sources::connect::run(options, &AtomicBool::new(false)).unwrap();
    assert_eq!(planned.report.new, 30);
    assert!(
        planned.summary.contains("would publish: 30 new") && !planned.summary.contains(&rows[0].0)
    );
    assert_eq!(planned.report.filled[INSURANCE][0], ("idNo".to_owned(), 30));
    assert!(bus.events(INSURANCE).is_empty());
    // The instance that was running still is.
    assert_eq!(
        pass(&mut running, &mut Rows::new(vec![event(1, 1)]))
            .unwrap()
            .published(),
        1
    );

    // Without a bus an integrator still sees what the mapping makes.
    let mut options = bus.connect_options(&config);
    options.plan = true;
    options.bus.bootstrap = "127.0.0.1:1".to_owned();
    let planned = mz_sources::connect::run(options, &AtomicBool::new(false)).unwrap();
    assert!(planned.report.without_checkpoint && planned.report.new == 30);
}

#[test]
fn what_disappears_is_withdrawn_and_what_comes_back_is_news() {
    let bus = Bus::new();
    let mut rows: Vec<_> = (0..60).map(|n| (id(n), 110, 30)).collect();
    bus.write("insurance.csv", insurance(&rows));
    let config = bus.config(&shipped("hrss-insurance.yaml"), "insurance.csv");
    bus.connect(&config).unwrap();

    let gone = rows.remove(7);
    bus.write("insurance.csv", insurance(&rows));
    let report = bus.connect(&config).unwrap().report;
    assert_eq!((report.withdrawn, report.published()), (1, 1));
    let newest = bus
        .events(INSURANCE)
        .into_iter()
        .max_by_key(|event| event.counter)
        .unwrap();
    assert!(newest.withdrawn);
    // It still says what it said: the gateway decides and projects it like any event.
    assert_eq!(
        (newest.subject.as_str(), newest.text("monthsTotal").as_str()),
        (gone.0.as_str(), "30")
    );
    assert_eq!(bus.connect(&config).unwrap().report.published(), 0);

    rows.push(gone);
    bus.write("insurance.csv", insurance(&rows));
    assert_eq!(bus.connect(&config).unwrap().report.published(), 1);

    // A row that was rejected from the start stood beside the missing record: it is not that record.
    let clerk = insurance_row(&bad(&id(900)), 110, 30);
    let dirty = |rows: &[(String, u32, u32)]| [insurance(rows), gb(&clerk)].concat();
    bus.write("insurance.csv", dirty(&rows));
    assert_eq!(bus.connect(&config).unwrap().report.rejects(), 1);
    let gone = rows.remove(20);
    bus.write("insurance.csv", dirty(&rows));
    let report = bus.connect(&config).unwrap().report;
    assert_eq!((report.withdrawn, report.held), (1, 0));
    rows.push(gone);
    bus.write("insurance.csv", insurance(&rows));
    bus.connect(&config).unwrap();

    // Half a register gone is a bad export, not half a register gone.
    let kept = rows.split_off(30);
    bus.write("insurance.csv", insurance(&rows));
    let outcome = bus.connect(&config).unwrap();
    assert_eq!(
        (
            outcome.report.held,
            outcome.report.withdrawn,
            outcome.exit_code()
        ),
        (30, 0, 7)
    );
    assert!(outcome.report.rejected.contains_key("WITHDRAW_TOO_MANY"));

    // A rejected row may be the missing record: nothing is concluded.
    rows.extend(kept);
    let lost = rows.pop().unwrap();
    let text = [insurance(&rows), gb(&insurance_row(&bad(&lost.0), 110, 30))].concat();
    bus.write("insurance.csv", text);
    let outcome = bus.connect(&config).unwrap();
    assert_eq!(
        (outcome.report.held, outcome.report.withdrawn),
        (1, 0),
        "{}",
        outcome.summary
    );
    bus.assert_gapless(INSURANCE);
}

#[test]
fn a_corrected_identity_withdraws_the_fact_about_the_other_person() {
    let bus = Bus::new();
    let line = |person: &str| {
        format!(
            "{{\"ywlsh\":\"HJ1\",\"hh\":\"1\",\"gmsfhm\":\"{person}\",\"xm\":\"王小明\",\"csrq\":\"1990-05-31\",\"yhzgx\":\"户主\",\"zz\":\"东城\",\"xzqh\":\"441900\",\"hdqr\":null,\"bdlx\":\"迁入\",\"qyrq\":\"2026-11-20\",\"sprbh\":null,\"gxsj\":\"2026-11-20T09:30:00+08:00\"}}\n"
        )
    };
    bus.write("household.ndjson", line(&id(1)));
    let config = bus.config(&shipped("police-household.yaml"), "household.ndjson");
    bus.connect(&config).unwrap();
    bus.write("household.ndjson", line(&id(2)));
    let report = bus.connect(&config).unwrap().report;
    assert_eq!((report.changed, report.withdrawn), (1, 1));
    let mut events = bus.events(HOUSEHOLD);
    events.sort_by_key(|event| event.counter);
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.subject.clone(), event.withdrawn))
        .collect();
    // The right fact is the newest version, in whichever order the lanes are read.
    assert_eq!(told, [(id(1), false), (id(1), true), (id(2), false)]);
    bus.assert_gapless(HOUSEHOLD);
}

#[test]
fn rejected_rows_are_told_without_their_values_and_good_rows_flow() {
    let bus = Bus::new();
    let bad = bad(&id(3));
    let rows = [
        (id(1), 110, 30),
        (bad.clone(), 110, 30),
        (id(2), 999, 30),
        (id(4), 110, 30),
    ];
    bus.write("insurance.csv", insurance(&rows));
    let config = bus.config(&shipped("hrss-insurance.yaml"), "insurance.csv");
    let outcome = bus.connect(&config).unwrap();
    assert_eq!((outcome.report.new, outcome.exit_code()), (2, 7));
    assert!(outcome.summary.contains("CODE_UNKNOWN") && !outcome.summary.contains(&bad));
    assert_eq!(bus.status("hrss", "insurance").rejected, 2);

    let told = bus.quarantine("hrss");
    let told: Vec<_> = told
        .iter()
        .map(|q| {
            (
                q.topic.as_str(),
                q.offset,
                q.code.as_str(),
                q.place.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("insurance", 3, "ID_CHECK", "证件号码"),
            ("insurance", 4, "CODE_UNKNOWN", "险种")
        ]
    );
    for (key, value) in bus.raw(&topics::quarantine("hrss")) {
        for bytes in [key, value.unwrap()] {
            for secret in [bad.as_str(), "王小明", id(2).as_str()] {
                assert!(
                    !bytes
                        .windows(secret.len())
                        .any(|window| window == secret.as_bytes())
                );
            }
        }
    }

    let file = bus.path("rejects/hrss.insurance.rejects.ndjson");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let lines: Vec<serde_json::Value> = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["row"], &lines[0]["values"]["证件号码"]),
        (&3.into(), &bad.clone().into())
    );

    // The same rows again are not told again; once mended they flow, and the file is gone.
    bus.connect(&config).unwrap();
    assert_eq!(bus.quarantine("hrss").len(), 2);
    bus.write(
        "insurance.csv",
        insurance(&[
            (id(1), 110, 30),
            (id(3), 110, 30),
            (id(2), 110, 30),
            (id(4), 110, 30),
        ]),
    );
    let outcome = bus.connect(&config).unwrap();
    assert_eq!((outcome.report.new, outcome.exit_code()), (2, 0));
    assert!(!file.exists());
    // Rejected again after it was mended: that is news.
    bus.write("insurance.csv", insurance(&rows));
    bus.connect(&config).unwrap();
    assert!(bus.quarantine("hrss").len() > 2);
}

// ---- below the mapping: a source of one's own, as an integrator in Rust writes it

fn event(person: u32, months: i64) -> Event {
    Event {
        dataset: INSURANCE.to_owned(),
        fields: vec![
            Datum::Str(id(person)),
            Datum::Str("王小明".into()),
            Datum::Enum("PENSION".into()),
            Datum::Enum("INSURED".into()),
            Datum::Date(18_000),
            Datum::Null,
            Datum::Int(months),
            Datum::Int(12),
            Datum::Null,
            Datum::Null,
            Datum::Int(0),
            Datum::Str("441900".into()),
            Datum::Date(20_000),
        ],
        occurred_ms: None,
        withdrawn: false,
        row: u64::from(person),
    }
}

/// Rows in memory; may die on the way.
struct Rows {
    events: Vec<Event>,
    at: usize,
    chunk: usize,
    die_at: Option<usize>,
}

impl Rows {
    fn new(events: Vec<Event>) -> Self {
        Self {
            events,
            at: 0,
            chunk: 300,
            die_at: None,
        }
    }
}

impl Source for Rows {
    fn begin(&mut self, _: Option<&[u8]>) -> Result<Pass, SourceError> {
        self.at = 0;
        Ok(Pass::Changes)
    }

    fn read(&mut self, chunk: &mut Chunk) -> Result<bool, SourceError> {
        let end = (self.at + self.chunk).min(self.events.len());
        for event in &self.events[self.at..end] {
            chunk.event(event.clone());
        }
        self.at = end;
        chunk.reached(end.to_string().into_bytes());
        assert!(self.die_at.is_none_or(|die_at| self.at < die_at), "killed");
        Ok(end < self.events.len())
    }

    fn end(&mut self) -> Result<PassEnd, SourceError> {
        Ok(PassEnd {
            complete_to_ms: 1,
            complete: true,
        })
    }
}

fn options(bus: &Bus) -> Options {
    Options {
        bus: bus.as_principal("hrss.connector"),
        contract: Arc::clone(&bus.contract),
        department: "hrss".into(),
        stream: "insurance".into(),
        datasets: vec![INSURANCE.into()],
        signer: department_signer(&bus.keys, &bus.contract.root, "hrss", KeyUse::Seal).unwrap(),
        placement: PlacementKey::load(&bus.keys.placement_key()).unwrap(),
        record: RecordKey::load(&bus.keys.record_key("hrss")).unwrap(),
        withdraw_disappeared: false,
        withdraw_limit_percent: 10,
        rejects: None,
        new_epoch: false,
    }
}

fn start(bus: &Bus) -> Connector {
    Connector::start(options(bus)).unwrap()
}

fn pass(connector: &mut Connector, source: &mut Rows) -> Result<mz_sdk::Report, ConnectorError> {
    let schedule = Schedule {
        once: true,
        poll: Duration::ZERO,
        retry: Duration::ZERO,
    };
    connector.run(source, schedule, &AtomicBool::new(false), &mut Silent)
}

#[test]
fn a_connector_killed_anywhere_loses_and_doubles_nothing() {
    let bus = Bus::new();
    let events: Vec<Event> = (0..9_000).map(|n| event(n, 30)).collect();
    let people: BTreeSet<String> = (0..9_000).map(id).collect();
    // Dies before, between and after commits.
    for die_at in [600, 5_000, 8_700] {
        let mut connector = start(&bus);
        let mut source = Rows::new(events.clone());
        source.die_at = Some(die_at);
        let died = catch_unwind(AssertUnwindSafe(|| pass(&mut connector, &mut source)));
        assert!(died.is_err());
        drop(connector);
    }
    // And once inside a transaction: its producer leaves an open one behind.
    let own = topics::connector_transactional_id("hrss", "insurance");
    let mut dying = TxProducer::open(
        &bus.as_principal("hrss.connector"),
        &own,
        Duration::from_secs(10),
    )
    .unwrap();
    dying.init().unwrap();
    dying.begin().unwrap();
    dying
        .send(
            "src.hrss.insurance.status.v1",
            0,
            b"key",
            Some(b"not an event"),
            &[],
        )
        .unwrap();
    dying
        .send(
            &topics::checkpoint("hrss", "insurance"),
            0,
            b"head",
            Some(b"not a head"),
            &[],
        )
        .unwrap();
    dying.serve();

    let mut connector = start(&bus);
    let report = pass(&mut connector, &mut Rows::new(events)).unwrap();
    assert_eq!(report.new + report.unchanged, 9_000);
    drop(dying);
    let lying = bus.events(INSURANCE);
    assert_eq!(lying.len(), 9_000);
    assert_eq!(
        lying
            .iter()
            .map(|event| event.subject.clone())
            .collect::<BTreeSet<_>>(),
        people
    );
    bus.assert_gapless(INSURANCE);
    // Batches are numbered without a gap, whoever sealed them.
    let batches: BTreeSet<u64> = lying.iter().map(|event| event.batch).collect();
    assert_eq!(batches, (1..=connector.version().1).collect());
}

#[test]
fn the_older_of_two_instances_is_fenced() {
    let bus = Bus::new();
    let mut older = start(&bus);
    assert_eq!(
        pass(&mut older, &mut Rows::new(vec![event(1, 30)]))
            .unwrap()
            .published(),
        1
    );
    let mut newer = start(&bus);
    let fenced = pass(&mut older, &mut Rows::new(vec![event(2, 30)]));
    assert!(
        matches!(fenced, Err(ConnectorError::Fenced { .. })),
        "{fenced:?}"
    );
    assert_eq!(
        pass(&mut newer, &mut Rows::new(vec![event(1, 30), event(2, 31)]))
            .unwrap()
            .published(),
        1
    );
    let told: BTreeSet<_> = bus
        .events(INSURANCE)
        .iter()
        .map(|event| (event.subject.clone(), event.text("monthsTotal")))
        .collect();
    assert_eq!(
        told,
        BTreeSet::from([(id(1), "30".to_owned()), (id(2), "31".to_owned())])
    );
    bus.assert_gapless(INSURANCE);
}

#[test]
fn a_lost_checkpoint_is_noticed_and_begins_a_new_epoch() {
    let bus = Bus::new();
    let events = vec![event(1, 30), event(2, 30)];
    let mut connector = start(&bus);
    pass(&mut connector, &mut Rows::new(events.clone())).unwrap();
    drop(connector);
    let checkpoint = topics::checkpoint("hrss", "insurance");
    let status = topics::status("hrss", "insurance");
    let mut expected = 1;
    // The checkpoint alone; then the status too, so that only the events themselves remember.
    for lost in [vec![checkpoint.clone()], vec![checkpoint, status]] {
        let mut admin = Admin::connect(&bus.options).unwrap();
        admin
            .delete_topics(
                &lost
                    .iter()
                    .map(|name| format!("{}{name}", bus.options.prefix))
                    .collect::<Vec<_>>(),
            )
            .unwrap();
        recreate(&bus, lost.len());
        let refused = Connector::start(options(&bus)).map(|_| ());
        let Err(ConnectorError::CheckpointLost { epoch, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(epoch, expected);
        let mut options = options(&bus);
        options.new_epoch = true;
        let mut connector = Connector::start(options).unwrap();
        assert_eq!(
            pass(&mut connector, &mut Rows::new(events.clone()))
                .unwrap()
                .new,
            2
        );
        expected += 1;
        assert_eq!(connector.version(), (expected, 1));
    }
    bus.assert_gapless(INSURANCE);
    // With the checkpoint at hand a new epoch publishes everything again, as changed.
    let mut options = options(&bus);
    options.new_epoch = true;
    let mut connector = Connector::start(options).unwrap();
    assert_eq!(
        pass(&mut connector, &mut Rows::new(events.clone()))
            .unwrap()
            .changed,
        2
    );
    drop(connector);
    let mut connector = start(&bus);
    assert_eq!(
        pass(&mut connector, &mut Rows::new(events))
            .unwrap()
            .unchanged,
        2
    );
    assert_eq!(connector.version().0, 4);
}

/// Deleted topics vanish a moment after they were deleted; only then can they be made again.
fn recreate(bus: &Bus, topics: usize) {
    let start = std::time::Instant::now();
    while bus.missing_topics() < topics {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "the topics are still there"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    bus.apply();
}

#[test]
fn a_source_can_not_publish_what_is_not_its_own() {
    let bus = Bus::new();
    let mut foreign = options(&bus);
    foreign.datasets = vec![HOUSEHOLD.into()];
    assert!(matches!(
        Connector::start(foreign).map(|_| ()),
        Err(ConnectorError::NotInContract { .. })
    ));

    let mut connector = start(&bus);
    let mut wrong_person = event(1, 30);
    wrong_person.fields[0] = Datum::Str("110105194912310021".into());
    let mut spelled = event(1, 30);
    spelled.fields[0] = Datum::Str(" 11010519491231002x".into());
    let mut other = event(1, 30);
    other.dataset = HOUSEHOLD.into();
    let mut shape = event(1, 30);
    shape.fields.pop();
    let mut large = event(1, 30);
    large.fields[9] = Datum::Str("x".repeat(300_000));
    let report = pass(
        &mut connector,
        &mut Rows::new(vec![
            wrong_person,
            spelled,
            other,
            shape,
            large,
            event(1, 30),
        ]),
    )
    .unwrap();
    assert_eq!(report.published(), 1);
    let codes: Vec<_> = report.rejected.keys().copied().collect();
    assert_eq!(
        codes,
        [
            "DATASET_NOT_OF_STREAM",
            "EVENT_TOO_LARGE",
            "FIELD_TYPE",
            "ID_CHECK",
            "ID_NOT_NORMAL"
        ]
    );
}

// ---- SQL

#[test]
fn a_database_is_read_from_its_watermark() {
    let bus = Bus::new();
    let city = tempfile::tempdir().unwrap();
    mz_city::write(&mz_city::Options::new(city.path(), 400, 3)).unwrap();
    let admin = mz_stack::testing::shared().database();
    let name = admin
        .rsplit('/')
        .next()
        .unwrap()
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    let url = mz_city::load_property(&admin, &name, &city.path().join("realestate/property.sql"))
        .unwrap();
    sql(
        &url,
        "WITH all_of_them AS (UPDATE bdc.fdcq SET gxsj = gxsj - interval '1 day' * (hashtext(bdcqzh) & 255) RETURNING 1) SELECT count(*) FROM all_of_them",
    );
    let secret = bus.write("property.url", &url);
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // Every pass reads the whole register, so that what is gone is noticed at once.
    let always_full = shipped("realestate-right.yaml").replace("full_every: 1d", "full_every: 0s");
    bus.write("mapping.yaml", shipped("realestate-right.yaml"));
    let config = bus.write(
        "connect.yaml",
        "mapping: mapping.yaml\ndata: {database_url_file: property.url}\n",
    );

    let first = bus.connect(&config).unwrap();
    assert_eq!(first.exit_code(), 0, "{}", first.summary);
    let count = sql(&url, "SELECT count(*) FROM bdc.qlr");
    assert_eq!(first.report.new, count);
    assert_eq!(bus.events(RIGHT).len() as u64, count);
    assert_eq!(bus.connect(&config).unwrap().report.published(), 0);

    sql(
        &url,
        "WITH one AS (UPDATE bdc.fdcq SET sfdy = NOT sfdy, gxsj = gxsj + interval '1 year' WHERE bdcqzh = (SELECT min(bdcqzh) FROM bdc.fdcq) RETURNING bdcqzh) SELECT count(*) FROM one",
    );
    let owners = sql(
        &url,
        "SELECT count(*) FROM bdc.qlr WHERE bdcqzh = (SELECT min(bdcqzh) FROM bdc.fdcq)",
    );
    let changed = bus.connect(&config).unwrap().report;
    assert_eq!(changed.changed, owners);
    // Only what lies after the mark was read.
    assert!(changed.events < count, "{} of {count}", changed.events);

    // An owner is gone: the next whole reading says so.
    sql(
        &url,
        "WITH one AS (DELETE FROM bdc.qlr WHERE (bdcqzh, sxh) = (SELECT bdcqzh, sxh FROM bdc.qlr WHERE gyfs = '0' ORDER BY 1 LIMIT 1) RETURNING 1) SELECT count(*) FROM one",
    );
    assert_eq!(bus.connect(&config).unwrap().report.published(), 0);
    bus.write("mapping.yaml", always_full);
    let report = bus.connect(&config).unwrap().report;
    assert_eq!((report.withdrawn, report.published()), (1, 1));
    bus.assert_gapless(RIGHT);

    // A query that the database refuses is told in its words; the password is not.
    bus.write(
        "mapping.yaml",
        shipped("realestate-right.yaml").replace("bdc.qlr q", "bdc.nobody q"),
    );
    let error = bus.connect(&config).unwrap_err();
    let text = error.text(&Reasons::built_in(), Lang::En);
    assert!(
        text.contains("DATABASE_QUERY") && text.contains("bdc.nobody"),
        "{text}"
    );
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = bus.connect(&config).unwrap_err();
    assert!(
        error
            .text(&Reasons::built_in(), Lang::En)
            .contains("CONNECT_SECRET_EXPOSED")
    );
}

fn sql(url: &str, query: &'static str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use sqlx::Connection;
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        let count: i64 = sqlx::query_scalar(query)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        u64::try_from(count).unwrap()
    })
}

// ---- watching

#[test]
fn a_watched_file_is_read_again_when_it_changes() {
    let bus = Bus::new();
    bus.write("insurance.csv", insurance(&[(id(1), 110, 30)]));
    let config = bus.config(&shipped("hrss-insurance.yaml"), "insurance.csv");
    let stop = Arc::new(AtomicBool::new(false));
    let mut options = bus.connect_options(&config);
    options.once = false;
    let watching = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || mz_sources::connect::run(options, &stop))
    };
    wait_for(|| bus.events(INSURANCE).len() == 1);
    // A broken export in between: told, not fatal.
    bus.write("insurance.csv", b"");
    wait_for(|| {
        bus.quarantine("hrss")
            .iter()
            .any(|q| q.code == "INPUT_EMPTY")
    });
    bus.write(
        "insurance.csv",
        insurance(&[(id(1), 110, 31), (id(2), 110, 1)]),
    );
    wait_for(|| bus.events(INSURANCE).len() == 3);
    stop.store(true, Ordering::Relaxed);
    let outcome = watching.join().unwrap().unwrap();
    assert_eq!((outcome.report.new, outcome.report.changed), (2, 1));
    bus.assert_gapless(INSURANCE);
}

fn wait_for(condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(40), "waited too long");
        std::thread::sleep(Duration::from_millis(100));
    }
}
