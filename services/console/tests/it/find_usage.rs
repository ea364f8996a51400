//! Estonia's findUsage over SOAP: what a portal asks, what comes back, and what hostile XML gets.

use mz_console::soap::{ENVELOPE, Element, Envelope, MAX_ENVELOPE_BYTES};
use mz_console::{HideAct, HideRequest, Running};
use mz_contract::IdNumber;
use mz_journal::AuditKind;
use mz_ledger::index::PageRequest;
use mz_vault::testing::{TestBus, person};

use crate::http::{Raw, client, vault};
use crate::ledger::{delivered, indexed};

const PATH: &str = "/v1/ledger/find-usage";
const XROAD: &str = "http://x-road.eu/xsd/xroad.xsd";
const PRODUCER: &str = "http://dumonitor.x-road.eu/producer";

/// As an X-Road security server hands it to a service.
fn message(user: &str, issue: &str, body: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="{ENVELOPE}" xmlns:xro="{XROAD}" xmlns:iden="http://x-road.eu/xsd/identifiers" xmlns:prod="{PRODUCER}">
  <soapenv:Header>
    <xro:client iden:objectType="SUBSYSTEM"><iden:xRoadInstance>CN</iden:xRoadInstance><iden:memberClass>GOV</iden:memberClass><iden:memberCode>portal</iden:memberCode></xro:client>
    <xro:service iden:objectType="SERVICE"><iden:xRoadInstance>CN</iden:xRoadInstance><iden:memberClass>GOV</iden:memberClass><iden:memberCode>bureau</iden:memberCode><iden:serviceCode>findUsage</iden:serviceCode><iden:serviceVersion>v1</iden:serviceVersion></xro:service>
    <xro:id>m-2026-1</xro:id><xro:userId>{user}</xro:userId>{issue}<xro:protocolVersion>4.0</xro:protocolVersion>
  </soapenv:Header>
  <soapenv:Body>{body}</soapenv:Body>
</soapenv:Envelope>"#
    )
}

fn find(offset: &str, limit: &str) -> String {
    format!("<prod:findUsage>{offset}{limit}</prod:findUsage>")
}

fn raw(bus: &TestBus, running: &Running, principal: &str) -> Raw {
    let tls = bus.tls(principal);
    Raw::new(running, &tls, Some(&tls))
}

fn read(text: &str) -> Envelope {
    Envelope::read(text.as_bytes(), XROAD).unwrap()
}

/// Time, action and receiver of each usage, in the order of the schema.
fn usages(text: &str) -> Vec<[String; 3]> {
    let answer = read(text);
    assert!(answer.request.is(PRODUCER, "findUsageResponse"), "{text}");
    let usage = |usage: &Element| {
        assert!(usage.is("", "usage"));
        let names: Vec<&str> = usage
            .children
            .iter()
            .map(|field| field.name.as_str())
            .collect();
        assert_eq!(names, ["logtime", "action", "receiver"]);
        [0, 1, 2].map(|at| usage.children[at].text.clone())
    };
    answer.request.children.iter().map(usage).collect()
}

/// The code in a fault.
fn fault((status, text): (u16, String)) -> (String, String) {
    let answer = read(&text);
    assert!(answer.request.is(ENVELOPE, "Fault"), "{text}");
    assert_eq!(status, 500, "SOAP 1.1, section 6.2");
    let [who, said, detail] = [0, 1, 2].map(|at| &answer.request.children[at]);
    let code = &detail.children[0].children[0];
    assert!(said.text.starts_with(&format!("{}: ", code.text)), "{text}");
    (who.text.clone(), code.text.clone())
}

fn ask(portal: &Raw, id: &IdNumber) -> Vec<[String; 3]> {
    let text = message(&format!("CN{}", id.as_str()), "", &find("", ""));
    let (status, answer) = portal.post_text(PATH, "text/xml; charset=utf-8", &text);
    assert_eq!(status, 200, "{answer}");
    usages(&answer)
}

#[test]
fn a_portal_is_shown_who_used_a_persons_data() {
    let bus = TestBus::new();
    let (id, other) = (person(61), person(62));
    let start = 1_767_225_600_000;
    let entries = vec![
        delivered(&bus, &id, "police", start),
        delivered(&bus, &id, "union", start + 60_000),
        delivered(&bus, &id, "police", start + 120_000),
        delivered(&bus, &other, "police", start),
    ];
    let _index = indexed(&bus, entries);
    let (service, running) = vault(&bus);
    let portal = raw(&bus, &running, "bus.portal");
    let police = &bus.contract.department("police").unwrap().name.zh;
    let union = &bus.contract.department("union").unwrap().name.zh;

    // Newest first; only this person's.
    let all = ask(&portal, &id);
    let expected = [
        [
            "2026-01-01T00:02:00.000Z",
            "delivered: talent-settlement",
            police,
        ],
        [
            "2026-01-01T00:01:00.000Z",
            "delivered: retirement-help",
            union,
        ],
        [
            "2026-01-01T00:00:00.000Z",
            "delivered: talent-settlement",
            police,
        ],
    ];
    assert_eq!(all, expected.map(|one| one.map(str::to_owned)));
    let part = find("<offset>1</offset>", "<limit>1</limit>");
    let (_, answer) = portal.post_text(PATH, "text/xml", &message(id.as_str(), "", &part));
    assert_eq!(usages(&answer), all[1..2]);

    // X-Road's headers come back as they came.
    let sent = message(
        id.as_str(),
        "<xro:issue>A &amp; B</xro:issue>",
        &find("", ""),
    );
    let (_, answer) = portal.post_text(PATH, "text/xml", &sent);
    let (sent, answer) = (read(&sent), read(&answer));
    let named: Vec<&str> = answer
        .headers
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    assert_eq!(
        named,
        [
            "client",
            "service",
            "id",
            "userId",
            "issue",
            "protocolVersion"
        ]
    );
    assert_eq!(answer.headers, sent.headers);

    // What is hidden for the JSON question is hidden here.
    let window = client(&bus, &running, "police.window");
    let asked = window.request_hide(&HideRequest {
        id: id.as_str().to_owned(),
        until: chrono::Utc::now().date_naive() + chrono::Days::new(9),
        operator: "hz-07".to_owned(),
        reason: "刑事诉讼法第54条".to_owned(),
    });
    let act = HideAct {
        operator: "sec-1".to_owned(),
        reason: "已核对".to_owned(),
        page: PageRequest::default(),
    };
    let security = client(&bus, &running, "bus.security");
    security.approve_hide(asked.unwrap().number, &act).unwrap();
    assert_eq!(ask(&portal, &id), all[1..2]);

    // Every question is on record: who asked, the case, the message.
    let tag = bus.vault_keys().subject.tag(&id);
    let asked = bus
        .audits()
        .into_iter()
        .filter(|a| a.kind == AuditKind::Lookup && a.subject == tag);
    let asked: Vec<_> = asked
        .map(|a| (a.operator.to_string(), a.reason.to_string()))
        .collect();
    let who = |reason: &str| ("bus.portal".to_owned(), reason.to_owned());
    let plain = who("findUsage (m-2026-1)");
    assert_eq!(
        asked,
        [plain.clone(), plain.clone(), who("A & B (m-2026-1)"), plain]
    );
    running.stop();
    service.stop().unwrap();
}

#[test]
fn hostile_and_wrong_requests_get_faults() {
    let bus = TestBus::new();
    let id = person(63);
    let _index = indexed(
        &bus,
        vec![delivered(&bus, &id, "police", 1_767_225_600_000)],
    );
    let (service, running) = vault(&bus);
    let portal = raw(&bus, &running, "bus.portal");
    let good = message(id.as_str(), "", &find("", ""));
    let post = |text: &str| fault(portal.post_text(PATH, "text/xml", text));

    let dtd = |declared: &str, user: &str| {
        let text = message(user, "", &find("", ""));
        text.replace("?>\n", &format!("?>\n<!DOCTYPE e [{declared}]>\n"))
    };
    let laughs = "<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">";
    let cases = [
        (
            dtd("<!ENTITY x SYSTEM \"file:///etc/passwd\">", "&x;"),
            "HTTP_SOAP_FORBIDDEN",
        ),
        (dtd(laughs, "&c;"), "HTTP_SOAP_FORBIDDEN"),
        (
            dtd("<!ENTITY % p SYSTEM \"http://127.0.0.1:1/x.dtd\"> %p;", "1"),
            "HTTP_SOAP_FORBIDDEN",
        ),
        (message("&x;", "", &find("", "")), "HTTP_SOAP_FORBIDDEN"),
        ("<a>".repeat(100), "HTTP_SOAP_TOO_LARGE"),
        (good.replace("</soapenv:Body>", ""), "HTTP_SOAP_MALFORMED"),
        (good.replace(ENVELOPE, "urn:other"), "HTTP_SOAP_ENVELOPE"),
        (good.replace(PRODUCER, "urn:other"), "HTTP_SOAP_ENVELOPE"),
        (
            good.replace("<xro:id>m-2026-1</xro:id>", ""),
            "HTTP_SOAP_HEADER",
        ),
        (message("", "", &find("", "")), "HTTP_SOAP_HEADER"),
        (message("CN123", "", &find("", "")), "ID_LENGTH"),
        (
            message(id.as_str(), "", &find("", "<limit>0</limit>")),
            "HTTP_SOAP_RANGE",
        ),
        (
            message(id.as_str(), "", &find("<offset>-1</offset>", "")),
            "HTTP_SOAP_RANGE",
        ),
        (
            message(id.as_str(), "", &find("<offset>100001</offset>", "")),
            "HTTP_SOAP_RANGE",
        ),
        (
            message(
                id.as_str(),
                "",
                &find("<limit>1</limit>", "<limit>1</limit>"),
            ),
            "HTTP_SOAP_ENVELOPE",
        ),
        (
            message(id.as_str(), "", &find("<person>1</person>", "")),
            "HTTP_SOAP_ENVELOPE",
        ),
        // The audit log keeps the case for good: no identity number gets there.
        (
            message(
                id.as_str(),
                &format!("<xro:issue>{}</xro:issue>", id.as_str()),
                &find("", ""),
            ),
            "BUNDLE_REASON_HOLDS_NUMBER",
        ),
    ];
    for (text, code) in cases {
        assert_eq!(
            post(&text),
            ("e:Client".to_owned(), code.to_owned()),
            "{text}"
        );
    }
    let must = "<w:Security xmlns:w=\"urn:w\" soapenv:mustUnderstand=\"1\"/>";
    let must = message(id.as_str(), must, &find("", ""));
    let expected = (
        "e:MustUnderstand".to_owned(),
        "HTTP_SOAP_MUST_UNDERSTAND".to_owned(),
    );
    assert_eq!(post(&must), expected);
    let large = good.replace(
        "<xro:id>",
        &format!("<!--{}--><xro:id>", "x".repeat(MAX_ENVELOPE_BYTES)),
    );
    assert_eq!(post(&large).1, "HTTP_BODY_TOO_LARGE");
    let json = fault(portal.post_text(PATH, "application/json", &good));
    assert_eq!(json.1, "HTTP_SOAP_CONTENT_TYPE");

    // Nobody but the portal and the bureau's auditor; he says why.
    for other in [
        "police.window",
        "police.auditor",
        "bus.security",
        "police.adapter",
        "bus.admin",
    ] {
        let answer = raw(&bus, &running, other).post_text(PATH, "text/xml", &good);
        assert_eq!(fault(answer).1, "HTTP_ROLE_FORBIDDEN", "{other}");
    }
    let auditor = raw(&bus, &running, "bus.auditor");
    assert_eq!(
        fault(auditor.post_text(PATH, "text/xml", &good)).1,
        "HTTP_SOAP_HEADER"
    );
    let stated = message(
        id.as_str(),
        "<xro:issue>信访 2026-118</xro:issue>",
        &find("", ""),
    );
    let (status, answer) = auditor.post_text(PATH, "text/xml", &stated);
    assert_eq!((status, usages(&answer).len()), (200, 1));
    // Of all that, one question was answered, and one is on record.
    let asked = bus
        .audits()
        .into_iter()
        .filter(|audit| audit.kind == AuditKind::Lookup);
    assert_eq!(asked.count(), 1);
    running.stop();
    service.stop().unwrap();
}
