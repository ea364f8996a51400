//! The auditor's questions to the ledger's index, through the front door.

use std::borrow::Cow;

use chrono::NaiveDate;
use mz_console::{LedgerRequest, Question};
use mz_contract::IdNumber;
use mz_journal::{
    Audit, AuditCause, AuditKind, AuditWriter, Record as _, State, StreamSequence, field_bitmap,
    topics,
};
use mz_ledger::index::{Days, Index, PageRequest, SCHEMA};
use mz_vault::testing::{Gateway, TestBus, insurance, person};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::http::{client, refusal, vault};

const INSURANCE: &str = "hrss.insurance.status.v1";
/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

fn days() -> Days {
    let day = |text: &str| text.parse::<NaiveDate>().unwrap();
    Days {
        from: day("2026-01-01"),
        to: day("2026-02-01"),
    }
}

pub fn request(question: Question) -> LedgerRequest {
    LedgerRequest {
        operator: "audit-01".to_owned(),
        reason: "年度检查".to_owned(),
        question,
        page: PageRequest::default(),
    }
}

/// An index with these entries, numbered in order.
pub fn indexed(bus: &TestBus, entries: Vec<Audit<'static>>) -> (Runtime, Index) {
    let runtime = Runtime::new().unwrap();
    let index = runtime.block_on(async {
        let index = Index::open(&bus.database_url, SCHEMA).unwrap();
        index.migrate().await.unwrap();
        let mut entries = entries;
        for (number, entry) in (1..).zip(&mut entries) {
            entry.number = number;
        }
        index
            .append("test/audit/0/2026", 0, &entries)
            .await
            .unwrap();
        index
    });
    (runtime, index)
}

pub fn delivered(
    bus: &TestBus,
    id: &IdNumber,
    consumer: &'static str,
    at_ms: i64,
) -> Audit<'static> {
    let (writer, kind) = (AuditWriter::Gateway, AuditKind::Delivered);
    let mut audit = Audit::empty(writer, bus.lane(id), at_ms, kind, AuditCause::Stream);
    let (agreement, purpose) = match consumer {
        "police" => ("police/talent-settlement", "talent-settlement"),
        _ => ("union/retirement-help", "retirement-help"),
    };
    audit.subject = bus.vault_keys().subject.tag(id);
    audit.agreement = agreement.into();
    audit.consumer = consumer.into();
    audit.purpose = purpose.into();
    audit.dataset = INSURANCE.into();
    audit.fields = Cow::Owned(field_bitmap(&[0]));
    audit
}

/// The contract's own limits are far above a handful of entries: this one is 2 a day.
fn few_a_day(root: &std::path::Path) {
    let path = root.join("agreements/police/talent-settlement.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = text.replace("per_day: 20000", "per_day: 2");
    assert_ne!(text, changed);
    std::fs::write(&path, changed).unwrap();
}

#[test]
fn over_reach_by_agreement() {
    let bus = TestBus::with(few_a_day);
    let id = person(41);
    let day = |n: i64| START_MS + n * 86_400_000;
    let mut entries = Vec::new();
    for (on, count) in [(0, 2), (1, 5), (2, 3)] {
        entries.extend((0..count).map(|_| delivered(&bus, &id, "police", day(on))));
    }
    entries.push(delivered(&bus, &id, "union", day(1)));
    let _index = indexed(&bus, entries);
    let (service, running) = vault(&bus);

    let question = |consumer: Option<&str>| {
        request(Question::OverReach {
            days: days(),
            consumer: consumer.map(str::to_owned),
        })
    };
    let of = |items: &[Value], agreement: &str| {
        let is = |item: &&Value| item["agreement"] == agreement && item["dataset"] == INSURANCE;
        items.iter().find(is).cloned().unwrap()
    };
    let auditor = client(&bus, &running, "bus.auditor");
    let all = auditor.ask_ledger(&question(None)).unwrap();
    assert_eq!(all.items.len(), bus.contract.sections().count());
    let police = of(&all.items, "police/talent-settlement");
    assert_eq!(
        (&police["per_day"], &police["days_above"], &police["most"]),
        (&json!(2), &json!(2), &json!(5))
    );
    let above = json!([{"day": "2026-01-02", "uses": 5}, {"day": "2026-01-03", "uses": 3}]);
    assert_eq!(police["above"], above);
    // Fields by name: the one that was delivered is not among the unused.
    let unused: Vec<&str> = police["unused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f.as_str().unwrap())
        .collect();
    assert!(
        unused.contains(&"monthsTotal") && !unused.contains(&"idNo"),
        "{unused:?}"
    );
    assert_eq!(of(&all.items, "union/retirement-help")["days_above"], 0);

    // A department's auditor sees its own agreements, whatever is asked for.
    let union = client(&bus, &running, "union.auditor");
    for asked in [None, Some("police")] {
        let own = union.ask_ledger(&question(asked)).unwrap();
        let agreements = own
            .items
            .iter()
            .map(|item| item["agreement"].as_str().unwrap());
        assert!(!own.items.is_empty() && agreements.into_iter().all(|id| id.starts_with("union/")));
    }
    for other in [
        "police.window",
        "bus.security",
        "bus.portal",
        "police.adapter",
    ] {
        let refused = client(&bus, &running, other).ask_ledger(&question(None));
        assert_eq!(
            refusal(refused),
            (403, "HTTP_ROLE_FORBIDDEN".to_owned()),
            "{other}"
        );
    }
    // Each question that was answered stands in the audit log, with who asked and why.
    let asked = bus
        .audits()
        .into_iter()
        .filter(|audit| audit.cause == AuditCause::Auditor);
    let asked: Vec<(String, String)> = asked
        .map(|a| (a.consumer.to_string(), a.reason.to_string()))
        .collect();
    let expected = ["bus", "union", "union"].map(|who| (who.to_owned(), "年度检查".to_owned()));
    let sorted = {
        let mut asked = asked;
        asked.sort();
        asked
    };
    assert_eq!(sorted, expected);
    running.stop();
    service.stop().unwrap();
}

fn summary(lane: u16, from: i64, to: i64) -> Audit<'static> {
    let (writer, kind) = (AuditWriter::Gateway, AuditKind::Summary);
    let mut audit = Audit::empty(writer, lane, START_MS, kind, AuditCause::Stream);
    audit.dataset = INSURANCE.into();
    (audit.counts.from_offset, audit.counts.to_offset) = (from, to);
    audit
}

/// Markers of committed and of aborted transactions take offsets, and so do aborted records: no gap. A
/// committed record that nobody accounted for is one.
#[test]
fn a_gap_is_a_committed_record_that_nothing_accounts_for() {
    let bus = TestBus::new();
    let (quiet, lossy) = (person(42), lane_beside(&bus, 42));
    let publish = |id: &IdNumber, months| {
        bus.connector("hrss", "insurance")
            .publish(vec![insurance(id, "PENSION", months)]);
    };
    for id in [&quiet, &lossy] {
        publish(id, 1);
        // Aborted once the next connector has shut this one out.
        bus.connector("hrss", "insurance")
            .begin(vec![insurance(id, "PENSION", 2)], &mut |_, _, _| {});
        publish(id, 3);
        publish(id, 4);
        publish(id, 5);
    }
    let (calm, holed) = (bus.lane(&quiet), bus.lane(&lossy));
    let [a, b, c, d] = committed(&bus, calm);
    let [e, f, g, h] = committed(&bus, holed);
    // Between any two lies a marker at least.
    assert!(b > a + 1 && c > b + 1 && d > c + 1);
    let mut refused = Audit::empty(
        AuditWriter::Gateway,
        holed,
        START_MS,
        AuditKind::Quarantined,
        AuditCause::Stream,
    );
    refused.dataset = INSURANCE.into();
    refused.source_offset = f;
    let entries = vec![
        summary(calm, a, a),
        summary(calm, b, c),
        summary(calm, d, d),
        summary(holed, e, e),
        refused,
        summary(holed, h, h),
        // A backfill spans offsets that it never looked at.
        {
            let mut backfill = summary(holed, e, h);
            backfill.cause = AuditCause::Backfill;
            backfill
        },
    ];
    let _index = indexed(&bus, entries);
    // What the gateway knows: numbers 4 to 6 never came.
    let sequence = StreamSequence {
        stream: format!("hrss/insurance/{INSURANCE}"),
        epoch: 2,
        last: 9,
        missing: vec![(4, 6)],
    };
    let other = StreamSequence {
        stream: "hrss/talent/hrss.talent.approval.v1".to_owned(),
        ..sequence.clone()
    };
    let state = State {
        lane: holed,
        sequences: vec![other, sequence],
        ..State::default()
    };
    let key = topics::state_key(topics::SlotKind::Gateway, holed);
    Gateway::open(&bus).send(topics::STATE, holed, &key, &state.encode());
    let (service, running) = vault(&bus);
    let question = |provider: Option<&str>| {
        request(Question::Gaps {
            days: days(),
            provider: provider.map(str::to_owned),
        })
    };
    let auditor = client(&bus, &running, "bus.auditor");
    let answer = auditor.ask_ledger(&question(None)).unwrap();
    let of = |lane: u16| {
        answer
            .items
            .iter()
            .find(|item| item["lane"] == lane)
            .unwrap()
    };
    assert_eq!(answer.items.len(), 2);
    for (lane, first, last) in [(calm, a, d), (holed, e, h)] {
        let item = of(lane);
        let ends = [
            &item["first"],
            &item["last"],
            &item["expired"],
            &item["unchecked"],
        ];
        assert_eq!(ends, [&json!(first), &json!(last), &json!(0), &json!(0)]);
    }
    assert_eq!(of(calm)["missing"], json!([]));
    assert_eq!(of(calm)["unseen"], json!([]));
    let numbers = json!([{"stream": "insurance", "epoch": 2, "first": 4, "last": 6}]);
    assert_eq!(of(holed)["unseen"], numbers);
    assert_eq!(
        of(holed)["missing"],
        json!([{"first": g, "last": g, "records": 1}])
    );
    assert_eq!(
        (&of(calm)["quarantined"], &of(holed)["quarantined"]),
        (&json!(0), &json!(1))
    );

    // The registers of one department: its own auditor's, whatever is asked for.
    let own = client(&bus, &running, "hrss.auditor")
        .ask_ledger(&question(Some("police")))
        .unwrap();
    assert_eq!(own.items, answer.items);
    let other = client(&bus, &running, "police.auditor")
        .ask_ledger(&question(Some("hrss")))
        .unwrap();
    assert_eq!(other.items, [] as [Value; 0]);
    running.stop();
    service.stop().unwrap();
}

/// Somebody in another lane than the `n`-th person.
fn lane_beside(bus: &TestBus, n: u32) -> IdNumber {
    let lane = bus.lane(&person(n));
    (n + 1..)
        .map(person)
        .find(|id| bus.lane(id) != lane)
        .unwrap()
}

/// Where the four committed records of a lane are.
fn committed(bus: &TestBus, lane: u16) -> [i64; 4] {
    let mut offsets = Vec::new();
    bus.read("src.hrss.insurance.status.v1", |record| {
        if record.partition == i32::from(lane) {
            offsets.push(record.offset);
        }
    });
    offsets.try_into().unwrap()
}
