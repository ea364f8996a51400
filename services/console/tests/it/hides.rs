//! Hiding a use from the person: one requests, another approves, the auditor sees everything.

use mz_console::{HideAct, HideRequest, LedgerRequest, Question};
use mz_contract::IdNumber;
use mz_journal::{AuditKind, SubjectTag};
use mz_ledger::index::{Days, Hidings, PageRequest};
use mz_vault::testing::{TestBus, person};
use serde_json::{Value, json};

use crate::http::{Raw, client, refusal, vault};
use crate::ledger::{delivered, indexed, request};

fn days() -> Days {
    Days {
        from: "2020-01-01".parse().unwrap(),
        to: "2100-01-01".parse().unwrap(),
    }
}

fn today() -> chrono::NaiveDate {
    chrono::Utc::now().date_naive()
}

fn wanted(id: &IdNumber, operator: &str, days: u64) -> HideRequest {
    HideRequest {
        id: id.as_str().to_owned(),
        until: today() + chrono::Days::new(days),
        operator: operator.to_owned(),
        reason: "刑事诉讼法第54条 粤公侦2026-7".to_owned(),
    }
}

fn act(operator: &str) -> HideAct {
    HideAct {
        operator: operator.to_owned(),
        reason: "已核对立案决定书".to_owned(),
        page: PageRequest::default(),
    }
}

fn usage(id: &IdNumber) -> LedgerRequest {
    let id = id.as_str().to_owned();
    request(Question::FindUsage { id, days: days() })
}

#[test]
fn one_requests_another_approves_and_the_auditor_sees_everything() {
    let bus = TestBus::new();
    let id = person(51);
    let at = mz_ledger::system_clock() - 86_400_000;
    let entries = vec![
        delivered(&bus, &id, "police", at),
        delivered(&bus, &id, "union", at),
    ];
    let (runtime, index) = indexed(&bus, entries);
    let (service, running) = vault(&bus);
    let window = client(&bus, &running, "police.window");
    let security = client(&bus, &running, "bus.security");
    let auditor = client(&bus, &running, "bus.auditor");
    let receivers = || -> Vec<String> {
        let shown = auditor.ask_ledger(&usage(&id)).unwrap();
        let receivers = shown
            .items
            .iter()
            .map(|item| item["receiver"].as_str().unwrap().to_owned());
        receivers.collect()
    };

    let refused = |answer: (u16, String), code: &str| assert_eq!(answer.1, code, "{answer:?}");
    for term in [0, 181] {
        refused(
            refusal(window.request_hide(&wanted(&id, "hz-07", term))),
            "LEDGER_HIDE_TERM",
        );
    }
    let asked = window.request_hide(&wanted(&id, "hz-07", 90)).unwrap();
    assert_eq!(receivers(), ["police", "union"], "a request hides nothing");

    // Not the requester under whatever certificate, not the department, not the auditor.
    refused(
        refusal(security.approve_hide(asked.number, &act("hz-07"))),
        "LEDGER_HIDE_ONE_PERSON",
    );
    refused(
        refusal(security.approve_hide(asked.number, &act("HZ-07"))),
        "LEDGER_HIDE_ONE_PERSON",
    );
    for other in [
        "police.window",
        "bus.auditor",
        "police.auditor",
        "bus.portal",
        "bus.admin",
    ] {
        let approved = client(&bus, &running, other).approve_hide(asked.number, &act("sec-1"));
        refused(refusal(approved), "HTTP_ROLE_FORBIDDEN");
    }
    for other in [
        "bus.security",
        "bus.auditor",
        "police.auditor",
        "police.adapter",
    ] {
        let requested = client(&bus, &running, other).request_hide(&wanted(&id, "hz-08", 9));
        refused(refusal(requested), "HTTP_ROLE_FORBIDDEN");
    }
    refused(
        refusal(security.approve_hide(asked.number + 7, &act("sec-1"))),
        "LEDGER_HIDE_UNKNOWN",
    );
    let raw = Raw::new(
        &running,
        &bus.tls("bus.security"),
        Some(&bus.tls("bus.security")),
    );
    let (status, problem) = raw.post(
        "/v1/ledger/hide/x/approve",
        &json!({"operator": "s", "reason": "r"}),
    );
    assert_eq!(
        (status, &problem["code"]),
        (404, &json!("LEDGER_HIDE_UNKNOWN"))
    );
    assert_eq!(receivers(), ["police", "union"]);

    let approved = security.approve_hide(asked.number, &act("sec-1")).unwrap();
    assert_eq!(
        receivers(),
        ["union"],
        "its own use is hidden, nobody else's"
    );
    refused(
        refusal(security.approve_hide(asked.number, &act("sec-2"))),
        "LEDGER_HIDE_UNKNOWN",
    );
    let everything = auditor.ask_ledger(&request(Question::WhoRead {
        id: id.as_str().to_owned(),
        days: days(),
        consumer: None,
    }));
    assert_eq!(everything.unwrap().items.len(), 2);

    // Both acts stand in the audit log: who, why, the person as a tag only.
    let tag: SubjectTag = bus.vault_keys().subject.tag(&id);
    let acts = bus
        .audits()
        .into_iter()
        .filter(|audit| audit.kind == AuditKind::Hiding);
    let acts: Vec<_> = acts
        .map(|a| {
            assert_eq!(a.subject, tag);
            let id = format!("vault-{}-{}", a.lane, a.number);
            (
                id,
                a.rule.to_string(),
                a.consumer.to_string(),
                a.operator.to_string(),
            )
        })
        .collect();
    let expected = [
        (
            asked.audit_id.as_str(),
            "LEDGER_HIDE_REQUESTED",
            "police",
            "hz-07",
        ),
        (
            approved.audit_id.as_str(),
            "LEDGER_HIDE_APPROVED",
            "bus",
            "sec-1",
        ),
    ];
    let expected =
        expected.map(|(a, b, c, d)| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned()));
    assert_eq!(acts, expected);

    // The records that the vault made vouch for the rows.
    let mut hidings = Hidings::new(1);
    hidings.open("test/audit/0/2026", false);
    let audits = bus.audits();
    audits.iter().for_each(|audit| hidings.take(audit));
    let later = mz_ledger::system_clock() + 60_000;
    let report = runtime
        .block_on(index.check_hides(&hidings, later))
        .unwrap();
    assert_eq!((report.rows, report.faults), (2, vec![]));
    assert_eq!((report.waiting, report.unchecked), (0, 0));
    let nothing = runtime.block_on(index.check_hides(&Hidings::new(1), later));
    assert_eq!(nothing.unwrap().unchecked, 2);

    // The list: a department sees its own, and nothing of the person is in it.
    let own = client(&bus, &running, "police.auditor")
        .list_hides(&act("audit-2"))
        .unwrap();
    assert_eq!(own.items.len(), 1);
    let item = &own.items[0];
    let told = [&item["state"], &item["requested_as"], &item["approved_as"]];
    assert_eq!(
        told,
        [
            &json!("in_force"),
            &json!("police.window"),
            &json!("bus.security")
        ]
    );
    assert!(!own.items[0].to_string().contains(id.as_str()));
    let other = client(&bus, &running, "union.window")
        .list_hides(&act("u-1"))
        .unwrap();
    assert_eq!(other.items, [] as [Value; 0]);
    refused(
        refusal(client(&bus, &running, "bus.portal").list_hides(&act("p"))),
        "HTTP_ROLE_FORBIDDEN",
    );
    running.stop();
    service.stop().unwrap();
}
