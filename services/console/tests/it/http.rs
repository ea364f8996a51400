//! The HTTP services through the front door: mutual TLS, who may do what, and what comes back.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use mz_bus::TlsFiles;
use mz_console::who_read::{Page, WhoReadRequest};
use mz_console::{Client, ClientError, Options, Running, VaultOptions, pretty};
use mz_contract::{IdNumber, Lang};
use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, Chain, field_bitmap, topics};
use mz_vault::Service;
use mz_vault::bundle::{BundleRequest, SubjectQuery};
use mz_vault::testing::{Gateway, TestBus, approval, insurance, person, ready};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

pub fn vault(bus: &TestBus) -> (Service, Running) {
    let options = VaultOptions {
        index_url: bus.database_url.clone(),
        listen: SocketAddr::from(LOOPBACK),
        tls: bus.tls("bus.vault"),
        vault: bus.vault_options(),
    };
    let (service, running) = mz_console::start_vault(options).unwrap();
    ready(&service.handle());
    (service, running)
}

fn schemas(bus: &TestBus) -> Running {
    let options = Options {
        listen: SocketAddr::from(LOOPBACK),
        tls: bus.tls("bus.console"),
        contract: Arc::clone(&bus.contract),
        ledger: bus.keys().root().join("no-ledger"),
    };
    mz_console::start(options).unwrap()
}

fn base(running: &Running) -> String {
    format!("https://localhost:{}", running.address().port())
}

pub fn client(bus: &TestBus, running: &Running, principal: &str) -> Client {
    Client::new(&base(running), &bus.tls(principal)).unwrap()
}

fn request(id: &IdNumber) -> BundleRequest {
    BundleRequest {
        item: "talent-settlement".to_owned(),
        subject: SubjectQuery::Id(id.as_str().to_owned()),
        operator: "hz-07".to_owned(),
        reason: "人才入户窗口受理".to_owned(),
    }
}

/// A client below ours: any method, any body.
pub struct Raw {
    agent: Agent,
    base: String,
}

impl Raw {
    pub fn new(running: &Running, tls: &TlsFiles, present: Option<&TlsFiles>) -> Self {
        let pem = |path: &std::path::Path| std::fs::read(path).unwrap();
        let roots = [Certificate::from_pem(&pem(&tls.ca)).unwrap()];
        let cert = present.map(|files| {
            let chain = [Certificate::from_pem(&pem(&files.cert)).unwrap()];
            ClientCert::new_with_certs(&chain, PrivateKey::from_pem(&pem(&files.key)).unwrap())
        });
        let config = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(cert)
            .build();
        let agent = Agent::config_builder()
            .tls_config(config)
            .http_status_as_error(false)
            // Whoever is refused before the body was read is hung up on: no connection is used again.
            .max_idle_connections(0)
            .proxy(None)
            .build()
            .into();
        Self {
            agent,
            base: base(running),
        }
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        let mut response = self
            .agent
            .get(format!("{}{path}", self.base))
            .call()
            .unwrap();
        let status = response.status().as_u16();
        (
            status,
            response.body_mut().read_json().unwrap_or(Value::Null),
        )
    }

    /// Any text, of any kind; the answer as text.
    pub fn post_text(&self, path: &str, kind: &str, body: &str) -> (u16, String) {
        let request = self.agent.post(format!("{}{path}", self.base));
        let mut response = request.header("content-type", kind).send(body).unwrap();
        let status = response.status().as_u16();
        (status, response.body_mut().read_to_string().unwrap())
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let mut response = self
            .agent
            .post(format!("{}{path}", self.base))
            .send_json(body)
            .unwrap();
        let status = response.status().as_u16();
        (
            status,
            response.body_mut().read_json().unwrap_or(Value::Null),
        )
    }
}

pub fn refusal(result: Result<impl Sized, ClientError>) -> (u16, String) {
    match result {
        Err(ClientError::Refused { status, problem }) => {
            assert!(!problem.zh.is_empty() && !problem.en.is_empty());
            assert_ne!(problem.zh, problem.code, "{} has no text", problem.code);
            (status, problem.code)
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("not refused"),
    }
}

#[test]
fn nobody_gets_in_without_a_certificate_of_the_bus() {
    let bus = TestBus::new();
    let running = schemas(&bus);
    let tls = bus.tls("police.adapter");
    let known = Raw::new(&running, &tls, Some(&tls));
    assert_eq!(known.get("/subjects").0, 200);

    let nobody = Raw::new(&running, &tls, None);
    let refused = nobody.agent.get(format!("{}/subjects", nobody.base)).call();
    assert!(refused.is_err(), "answered without a certificate");

    // A certificate of the right name from another authority.
    let foreign = tempfile::tempdir().unwrap();
    let root = foreign.path().join("contract");
    std::fs::create_dir_all(root.join("departments")).unwrap();
    mz_keys::provision(&foreign.path().join("keys"), &root, &["police"]).unwrap();
    let theirs = TlsFiles::of(&foreign.path().join("keys"), "police.adapter");
    let stranger = Raw::new(&running, &tls, Some(&theirs));
    let refused = stranger
        .agent
        .get(format!("{}/subjects", stranger.base))
        .call();
    assert!(refused.is_err(), "believed another authority");

    // No TLS at all.
    let mut plain = TcpStream::connect(running.address()).unwrap();
    plain
        .write_all(b"GET /subjects HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    running.stop();
}

#[test]
fn a_window_gets_bundles_and_nobody_else_does() {
    let bus = TestBus::new();
    let id = person(20);
    bus.connector("hrss", "talent")
        .publish(vec![approval(&id, "A-20")]);
    let (service, running) = vault(&bus);
    let (bundle, bytes) = client(&bus, &running, "police.window")
        .bundle(&request(&id))
        .unwrap();
    assert_eq!(bundle.consumer, "police");
    let report = mz_vault::bundle::verify::verify(&bytes, &bus.contract);
    assert!(
        report.is_valid(),
        "{}",
        report.render(&bus.contract.reasons, Lang::En)
    );
    for lang in [Lang::Zh, Lang::En] {
        assert!(pretty::bundle(&bundle, lang).contains(&bundle.audit_id));
    }

    let as_principal = |principal: &str| client(&bus, &running, principal).bundle(&request(&id));
    let hrss = refusal(as_principal("hrss.window"));
    assert_eq!(hrss, (403, "BUNDLE_CONSUMER_FOREIGN".to_owned()));
    for role in [
        "police.connector",
        "police.adapter",
        "bus.auditor",
        "bus.gateway",
    ] {
        assert_eq!(
            refusal(as_principal(role)),
            (403, "HTTP_ROLE_FORBIDDEN".to_owned()),
            "{role}"
        );
    }
    let police = client(&bus, &running, "police.window");
    let wrong = BundleRequest {
        subject: SubjectQuery::Id("44190019900101001".into()),
        ..request(&id)
    };
    assert_eq!(
        refusal(police.bundle(&wrong)),
        (400, "ID_LENGTH".to_owned())
    );
    let wrong = BundleRequest {
        item: "none".into(),
        ..request(&id)
    };
    assert_eq!(
        refusal(police.bundle(&wrong)),
        (404, "BUNDLE_ITEM_UNKNOWN".to_owned())
    );

    let tls = bus.tls("police.window");
    let raw = Raw::new(&running, &tls, Some(&tls));
    let number = id.as_str();
    let bad = [
        (json!({"item": "x"}), 400, "HTTP_BODY_INVALID"),
        (
            json!({"item": "x", "subject": {"id": number, "case": ""}}),
            400,
            "HTTP_BODY_INVALID",
        ),
        (
            json!({"item": "x", "id": number, "operator": "", "reason": ""}),
            400,
            "HTTP_BODY_INVALID",
        ),
        (json!("x".repeat(20_000)), 413, "HTTP_BODY_TOO_LARGE"),
    ];
    for (body, status, code) in bad {
        let (got, problem) = raw.post("/v1/bundles", &body);
        assert_eq!((got, problem["code"].as_str().unwrap()), (status, code));
        assert!(
            !problem.to_string().contains(number),
            "the number came back"
        );
    }
    assert_eq!(raw.get("/v1/bundles").0, 405);
    assert_eq!(raw.get("/v1/nothing").0, 404);
    assert_eq!(raw.get("/health/live").0, 200);
    assert_eq!(raw.get("/health/ready").0, 200);
    running.stop();
    service.stop().unwrap();
}

/// A delivery and a denial, as the gateway records them.
fn gateway_log(bus: &TestBus, id: &IdNumber) -> Chain {
    let lane = bus.lane(id);
    let mut chain = Chain::new(AuditWriter::Gateway, lane);
    let mut gateway = Gateway::open(bus);
    let subject = bus.vault_keys().subject.tag(id);
    let mut write = |kind, dataset: &'static str, fields: &[u16], rule: &'static str| {
        let mut audit = Audit::empty(
            AuditWriter::Gateway,
            lane,
            1_760_000_000_000,
            kind,
            AuditCause::Stream,
        );
        audit.subject = subject;
        audit.agreement = "police/talent-settlement".into();
        audit.consumer = "police".into();
        audit.purpose = "talent-settlement".into();
        audit.dataset = dataset.into();
        audit.fields = field_bitmap(fields).into();
        audit.rule = rule.into();
        audit.version_epoch = 1;
        audit.version_counter = 4;
        if kind == AuditKind::Denied {
            audit.counts.denied = 2;
        }
        let mut bytes = Vec::new();
        chain.append(&mut audit, &mut bytes);
        let key = topics::audit_key(AuditWriter::Gateway, lane, audit.number);
        gateway.send(topics::AUDIT, lane, &key, &bytes);
    };
    write(
        AuditKind::Delivered,
        "hrss.insurance.status.v1",
        &[0, 2, 3],
        "",
    );
    write(
        AuditKind::Denied,
        "realestate.right.v1",
        &[],
        "GRANT_EXPIRED",
    );
    chain
}

#[test]
fn an_auditor_sees_every_delivery_denial_and_look_up() {
    let bus = TestBus::new();
    let (id, other) = (person(21), person(22));
    bus.connector("hrss", "talent")
        .publish(vec![approval(&id, "A-21"), approval(&other, "A-22")]);
    bus.connector("hrss", "insurance")
        .publish(vec![insurance(&id, "PENSION", 8)]);
    let chain = gateway_log(&bus, &id);
    let (service, running) = vault(&bus);
    let window = client(&bus, &running, "police.window");
    window.bundle(&request(&id)).unwrap();
    window.bundle(&request(&other)).unwrap();
    refusal(client(&bus, &running, "hrss.window").bundle(&request(&id)));

    let auditor = client(&bus, &running, "bus.auditor");
    let page = auditor.who_read(&id, "audit-01", "市民投诉核查").unwrap();
    assert_eq!(page.breaks, []);
    let kinds: Vec<(&str, &str)> = page
        .entries
        .iter()
        .map(|e| (e.kind.as_str(), e.department.id.as_str()))
        .collect();
    let expected = [
        ("delivered", "police"),
        ("denied", "police"),
        ("case_opened", "police"),
        ("lookup", "police"),
        ("lookup", "police"),
        ("lookup", "police"),
        ("lookup", "police"),
        ("denied", "hrss"),
        ("lookup", "bus"),
    ];
    assert_eq!(kinds, expected);
    let delivered = &page.entries[0];
    let fields: Vec<&str> = delivered.fields.iter().map(|f| f.id.as_str()).collect();
    assert_eq!(fields, ["idNo", "type", "status"]);
    assert_eq!(delivered.department.title.zh, "公安局");
    assert_eq!(delivered.version, Some((1, 4)));
    let denied = &page.entries[1];
    assert_eq!(
        (denied.denied, denied.rules[0].code.as_str()),
        (2, "GRANT_EXPIRED")
    );
    let shown = &page.entries[3];
    assert_eq!(
        (shown.operator.as_str(), shown.reason.as_str()),
        ("hz-07", "人才入户窗口受理")
    );
    assert!(shown.fields.iter().any(|field| field.id == "approvalId"));
    let own = page.entries.last().unwrap();
    assert_eq!(
        (own.operator.as_str(), &own.audit_id),
        ("audit-01", &page.audit_id)
    );
    let writers: BTreeSet<&str> = page
        .chains
        .iter()
        .map(|walked| walked.writer.as_str())
        .collect();
    assert_eq!(writers, BTreeSet::from(["gateway", "vault"]));
    for lang in [Lang::Zh, Lang::En] {
        let text = pretty::who_read(&page, lang);
        assert!(text.contains("hz-07") && !text.contains(id.as_str()));
    }

    // Only auditors; a cursor of another lane is refused; small pages join to the same.
    let denied = refusal(window.who_read(&id, "hz-07", "x"));
    assert_eq!(denied, (403, "HTTP_ROLE_FORBIDDEN".to_owned()));
    let tls = bus.tls("bus.auditor");
    let raw = Raw::new(&running, &tls, Some(&tls));
    let (mut cursor, mut paged) = (None, Vec::new());
    for _ in 0..100 {
        let body = WhoReadRequest {
            id: id.as_str().to_owned(),
            operator: "audit-01".to_owned(),
            reason: "paging".to_owned(),
            cursor: cursor.take(),
            limit: Some(2),
        };
        let (status, answer) = raw.post("/v1/who-read", &serde_json::to_value(body).unwrap());
        assert_eq!(status, 200, "{answer}");
        let page: Page = serde_json::from_value(answer).unwrap();
        assert!(
            page.entries.len() <= 2 && page.breaks.is_empty(),
            "{:?}",
            page.breaks
        );
        paged.extend(page.entries.into_iter().filter(|e| e.reason != "paging"));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
        if paged.len() >= page_len(&kinds) {
            break;
        }
    }
    assert_eq!(paged.len(), kinds.len());
    let bad = json!({"id": id.as_str(), "operator": "a", "reason": "b", "cursor": "AAAA"});
    let (status, problem) = raw.post("/v1/who-read", &bad);
    assert_eq!(
        (status, problem["code"].as_str().unwrap()),
        (400, "WHO_READ_CURSOR_INVALID")
    );

    // A record that somebody slipped into the log, and one that is missing.
    let lane = bus.lane(&id);
    let mut gap = Chain::resume(AuditWriter::Gateway, lane, 7, *chain.digest());
    let mut forged = Audit::empty(
        AuditWriter::Gateway,
        lane,
        1,
        AuditKind::Delivered,
        AuditCause::Stream,
    );
    forged.subject = bus.vault_keys().subject.tag(&id);
    let mut bytes = Vec::new();
    gap.append(&mut forged, &mut bytes);
    let key = topics::audit_key(AuditWriter::Gateway, lane, forged.number);
    Gateway::open(&bus).send(topics::AUDIT, lane, &key, &bytes);
    let page = auditor.who_read(&id, "audit-01", "x").unwrap();
    let codes: Vec<&str> = page
        .breaks
        .iter()
        .map(|broken| broken.code.as_str())
        .collect();
    assert_eq!(codes, ["AUDIT_GAP"]);
    assert!(pretty::who_read(&page, Lang::En).contains("LOG CHAIN BROKEN"));
    running.stop();
    service.stop().unwrap();
}

fn page_len(kinds: &[(&str, &str)]) -> usize {
    kinds.len()
}

#[test]
fn a_stock_registry_client_finds_every_schema() {
    let bus = TestBus::new();
    let running = schemas(&bus);
    let tls = bus.tls("police.adapter");
    let raw = Raw::new(&running, &tls, Some(&tls));

    let (status, subjects) = raw.get("/subjects");
    assert_eq!(status, 200);
    let subjects: Vec<String> = serde_json::from_value(subjects).unwrap();
    let insured = "to.police.talent-settlement.hrss.insurance.status.v1-value".to_owned();
    assert!(subjects.contains(&"src.hrss.insurance.status.v1-value".to_owned()));
    assert!(subjects.contains(&insured));
    assert!(
        subjects.contains(&"to.police.talent-settlement.answer.insured6of12.v1-value".to_owned())
    );

    for section in bus.contract.sections() {
        let (status, answer) = raw.get(&format!("/schemas/ids/{}", section.schema_id));
        assert_eq!(status, 200);
        assert_eq!(answer["schema"], section.projected_avsc.as_str());
    }
    let dataset = bus.contract.dataset("hrss.insurance.status.v1").unwrap();
    let (_, by_id) = raw.get(&format!("/schemas/ids/{}", dataset.schema_id));
    assert_eq!(by_id["schema"].as_str().unwrap().as_bytes(), dataset.avsc);
    let (_, plain) = raw.get(&format!("/schemas/ids/{}/schema", dataset.schema_id));
    assert_eq!(plain["type"], "record");

    let (_, versions) = raw.get(&format!("/subjects/{insured}/versions"));
    assert_eq!(versions, json!([1]));
    let (_, latest) = raw.get(&format!("/subjects/{insured}/versions/latest"));
    let (_, first) = raw.get(&format!("/subjects/{insured}/versions/1"));
    assert_eq!(latest, first);
    assert_eq!(
        (&latest["subject"], &latest["version"]),
        (&json!(insured), &json!(1))
    );
    let id = latest["id"].as_u64().unwrap();
    let (_, users) = raw.get(&format!("/schemas/ids/{id}/versions"));
    assert_eq!(users, json!([{"subject": insured, "version": 1}]));
    assert_eq!(
        raw.get(&format!("/schemas/ids/{id}/subjects")).1,
        json!([insured])
    );
    assert_eq!(raw.get("/schemas/types").1, json!(["AVRO"]));
    assert_eq!(
        raw.get("/config").1,
        json!({"compatibilityLevel": "BACKWARD"})
    );
    assert_eq!(raw.get("/mode").1, json!({"mode": "READONLY"}));

    let missing = [
        ("/subjects/none-value/versions".to_owned(), 404, 40401),
        ("/subjects/none-value/versions/1".to_owned(), 404, 40401),
        (format!("/subjects/{insured}/versions/9"), 404, 40402),
        (format!("/subjects/{insured}/versions/x"), 422, 42202),
        (format!("/subjects/{insured}/versions/0"), 422, 42202),
        ("/schemas/ids/999999".to_owned(), 404, 40403),
        ("/schemas/ids/x".to_owned(), 404, 40403),
        ("/nothing".to_owned(), 404, 404),
    ];
    for (path, status, code) in missing {
        let (got, body) = raw.get(&path);
        assert_eq!((got, &body["error_code"]), (status, &json!(code)), "{path}");
        assert!(body["message"].is_string());
    }

    // Registering what is there answers its id; anything else is refused as in READONLY mode.
    let schema = latest["schema"].as_str().unwrap();
    let spaced =
        serde_json::to_string_pretty(&serde_json::from_str::<Value>(schema).unwrap()).unwrap();
    let (status, found) = raw.post(&format!("/subjects/{insured}"), &json!({"schema": spaced}));
    assert_eq!((status, &found["id"]), (200, &json!(id)));
    let (status, known) = raw.post(
        &format!("/subjects/{insured}/versions"),
        &json!({"schema": schema}),
    );
    assert_eq!((status, known), (200, json!({"id": id})));
    let refused = [
        (
            format!("/subjects/{insured}"),
            json!({"schema": "\"string\""}),
            404,
            40403,
        ),
        (
            "/subjects/none-value".to_owned(),
            json!({"schema": schema}),
            404,
            40401,
        ),
        (
            format!("/subjects/{insured}/versions"),
            json!({"schema": "\"string\""}),
            422,
            42205,
        ),
        (
            "/subjects/new-value/versions".to_owned(),
            json!({"schema": schema}),
            422,
            42205,
        ),
        (
            format!("/subjects/{insured}/versions"),
            json!({"nothing": 1}),
            422,
            42201,
        ),
        (
            format!("/subjects/{insured}"),
            json!({"schema": "{}", "schemaType": "JSON"}),
            422,
            42201,
        ),
    ];
    for (path, body, status, code) in refused {
        let (got, answer) = raw.post(&path, &body);
        assert_eq!(
            (got, &answer["error_code"]),
            (status, &json!(code)),
            "{path} {answer}"
        );
    }
    let deleted = raw
        .agent
        .delete(format!("{}/subjects/{insured}", raw.base))
        .call()
        .unwrap();
    assert_eq!(deleted.status().as_u16(), 405);
    let typed = raw
        .agent
        .get(format!("{}/subjects", raw.base))
        .call()
        .unwrap();
    let kind = typed.headers().get("content-type").unwrap();
    assert_eq!(kind, "application/vnd.schemaregistry.v1+json");
    running.stop();
}
