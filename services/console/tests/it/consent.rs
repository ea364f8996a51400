//! Grants over HTTP with a real consent service: who may do what, what comes back, and that nothing of
//! a request does. No slot runs here: the service shuts their owners out, which is how a change holds
//! when nobody is there.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mz_consent::model::{
    About, Activate, AgreementAct, AgreementActKind, AskEnforcement, AskWithdrawals, Change,
    ChangeKind, EnforcementState, Evidence, Give, Why,
};
use mz_consent::{ConsentKeys, Options, Service, store};
use mz_console::{Client, ClientError, ConsentOptions, Running, pretty, receipt, roles};
use mz_contract::{Contract, IdNumber, Lang};
use mz_keys::department_signer;
use mz_keys::evidence::{Act, ChangeAct, ChangeAction, GiveAct, change_act, give_act, sign};
use mz_keys::public::KeyUse;
use mz_vault::testing::{SLOTS, TestBus, eventually, person};
use serde_json::{Value, json};

use crate::http::{Raw, client, refusal};

const AGREEMENT: &str = "union/retirement-help";
const GRANT: &str = "00112233445566778899aabbccddeeff";

struct Consent {
    bus: TestBus,
    service: Service,
    running: Running,
}

impl Consent {
    fn start() -> Self {
        let bus = TestBus::new();
        let keys = ConsentKeys::load(&bus.keys(), &bus.contract_root()).unwrap();
        let mut consent = Options::new(
            bus.bus("bus.consent"),
            Arc::clone(&bus.contract),
            files(&bus),
            Arc::new(keys),
            store::Database::new(&bus.database_url, store::SCHEMA).unwrap(),
            SLOTS,
        );
        consent.fence_after = Duration::from_millis(300);
        let options = ConsentOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: bus.tls("bus.consent"),
            consent,
        };
        let (service, running) = mz_console::start_consent(options).unwrap();
        let handle = service.handle();
        eventually("the consent service is ready", || handle.is_ready());
        Self {
            bus,
            service,
            running,
        }
    }

    fn as_(&self, principal: &str) -> Client {
        client(&self.bus, &self.running, principal)
    }

    fn raw(&self, principal: &str) -> Raw {
        let tls = self.bus.tls(principal);
        Raw::new(&self.running, &tls, Some(&tls))
    }

    /// As the portal asks, with the person's signed act.
    fn give(&self, id: &IdNumber, request_id: &str) -> Give {
        let agreement = self.bus.contract.agreement(AGREEMENT).unwrap();
        let separate: Vec<String> = agreement
            .sections
            .iter()
            .flat_map(|section| {
                let dataset = &self.bus.contract.datasets[section.dataset_ix];
                let name = |field: &u16| &dataset.fields[usize::from(*field)].name;
                let fields = section.sensitive.iter().map(name);
                fields.map(|field| format!("{}#{field}", dataset.id))
            })
            .collect();
        let notice_version = agreement.consent.as_ref().unwrap().notice_version;
        let (at, valid_until) = (day_at(0, "T08:00:00Z"), day_at(90, ""));
        let act = give_act(&GiveAct {
            agreement: AGREEMENT,
            datasets: &[],
            separate: &separate,
            notice_version,
            valid_until: &valid_until,
            by: by(id, request_id, &at),
        });
        Give {
            request_id: request_id.to_owned(),
            id: id.as_str().to_owned(),
            agreement: AGREEMENT.to_owned(),
            datasets: Vec::new(),
            separate,
            valid_until,
            notice_version,
            evidence: self.evidence(&act.unwrap(), at),
            representation: None,
            wait_ms: Some(20_000),
        }
    }

    fn evidence(&self, act: &[u8], at: String) -> Evidence {
        let (keys, root) = (self.bus.keys(), self.bus.contract_root());
        let signer = department_signer(&keys, &root, "bus", KeyUse::Evidence).unwrap();
        let (key_id, signature) = sign(signer.as_ref(), act).unwrap();
        Evidence::App {
            session: "s-1".to_owned(),
            at,
            key_id,
            signature,
        }
    }

    fn stop(self) {
        self.running.stop();
        self.service.stop().unwrap();
    }
}

fn files(bus: &TestBus) -> BTreeMap<String, String> {
    Contract::files(&bus.contract_root()).unwrap()
}

fn by<'a>(person: &'a IdNumber, request_id: &'a str, at: &'a str) -> Act<'a> {
    Act {
        request_id,
        at,
        session: "s-1",
        person,
    }
}

/// A day from today, and what follows it.
fn day_at(days: u64, rest: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ms = now.unwrap().as_millis() as i64 + days as i64 * 86_400_000;
    format!("{}{rest}", &mz_seal::timestamp_text(ms)[..10])
}

fn change(grant: &str, id: Option<&IdNumber>, request_id: &str) -> Change {
    Change {
        request_id: request_id.to_owned(),
        grant: grant.to_owned(),
        id: id.map(|id| id.as_str().to_owned()),
        reason: "本人办理".to_owned(),
        operator: None,
        valid_until: None,
        evidence: None,
        wait_ms: Some(500),
    }
}

fn asked(id: &IdNumber) -> About {
    About {
        id: id.as_str().to_owned(),
        operator: Some("A-1".to_owned()),
        reason: "核查".to_owned(),
    }
}

#[test]
fn a_person_consents_keeps_a_receipt_and_revokes() {
    let it = Consent::start();
    let (id, other) = (person(30), person(31));
    let portal = it.as_("bus.portal");
    let ask = it.give(&id, "r-1");
    let given = portal.give(&ask).unwrap();
    assert_eq!(given.enforcement.state, EnforcementState::Enforced);
    assert!(given.enforcement.position >= 0 && given.enforcement.missing.is_empty());
    let text = serde_json::to_string(&given).unwrap();
    assert!(!text.contains(id.as_str()), "the number came back");

    // The receipt: offline, for this person alone, and not a character of it can change.
    let contract = &it.bus.contract;
    let kept = serde_json::to_vec_pretty(&given.receipt).unwrap();
    let report = receipt::verify(&kept, contract, Some(&id));
    assert!(
        report.is_valid(),
        "{}",
        report.render(&contract.reasons, Lang::En)
    );
    let report = receipt::verify(&kept, contract, Some(&other));
    assert_eq!(report.failed, [("person", "RECEIPT_PERSON_DIFFERS")]);
    let altered = String::from_utf8(kept)
        .unwrap()
        .replace("\"union\"", "\"police\"");
    let report = receipt::verify(altered.as_bytes(), contract, None);
    assert_eq!(report.failed, [("signature", "VERIFY_SIGNATURE_INVALID")]);
    let twice = altered.replacen('{', "{\"format\":\"x\",", 1);
    let report = receipt::verify(twice.as_bytes(), contract, None);
    assert_eq!(report.failed, [("receipt", "VERIFY_NOT_JSON")]);
    for lang in [Lang::Zh, Lang::En] {
        let shown = pretty::grants::given(&given, lang);
        assert!(shown.contains(&given.consent.record_id), "{shown}");
    }

    // The same request is the same consent; another under its id is refused; so is another's act.
    let again = portal.give(&ask).unwrap();
    assert_eq!(again.receipt, given.receipt);
    let reused = Give {
        valid_until: day_at(60, ""),
        ..ask.clone()
    };
    let reused = refusal(portal.give(&reused));
    assert_eq!(reused, (409, "CONSENT_REQUEST_ID_REUSED".to_owned()));
    let stolen = Give {
        request_id: "r-2".to_owned(),
        ..ask.clone()
    };
    let stolen = refusal(portal.give(&stolen));
    assert_eq!(stolen, (400, "CONSENT_EVIDENCE_INVALID".to_owned()));
    let silent = Give {
        separate: vec!["hrss.insurance.status.v1#none".to_owned()],
        request_id: "r-3".to_owned(),
        ..ask
    };
    assert_eq!(refusal(portal.give(&silent)).0, 400);

    // Nobody changes another's grant by its id, nor without saying who they are.
    let grant = given.consent.record_id.as_str();
    let strange = portal.change(ChangeKind::Revoke, &change(grant, Some(&other), "r-4"));
    assert_eq!(refusal(strange).1, "CONSENT_GRANT_UNKNOWN");
    let nameless = portal.change(ChangeKind::Revoke, &change(grant, None, "r-5"));
    assert_eq!(refusal(nameless), (403, "HTTP_ROLE_FORBIDDEN".to_owned()));
    let none = portal.change(ChangeKind::Revoke, &change(GRANT, Some(&id), "r-6"));
    assert_eq!(refusal(none), (404, "CONSENT_GRANT_UNKNOWN".to_owned()));

    let paused = portal.change(ChangeKind::Pause, &change(grant, Some(&id), "r-7"));
    assert_eq!(paused.unwrap().grant.status, "paused");
    let mut resume = change(grant, Some(&id), "r-8");
    let bare = portal.change(ChangeKind::Resume, &resume);
    assert_eq!(refusal(bare), (400, "CONSENT_EVIDENCE_INVALID".to_owned()));
    let at = day_at(0, "T09:00:00Z");
    let act = change_act(&ChangeAct {
        action: ChangeAction::Resume,
        grant,
        valid_until: None,
        by: by(&id, "r-8", &at),
    });
    resume.evidence = Some(it.evidence(&act.unwrap(), at));
    let resumed = portal.change(ChangeKind::Resume, &resume).unwrap();
    assert_eq!(resumed.grant.status, "open");
    let revoked = portal.change(ChangeKind::Revoke, &change(grant, Some(&id), "r-9"));
    let revoked = revoked.unwrap();
    assert_eq!(revoked.grant.status, "closed");
    let late = portal.change(ChangeKind::Pause, &change(grant, Some(&id), "r-10"));
    assert_eq!(refusal(late), (409, "CONSENT_GRANT_CLOSED".to_owned()));
    // Where no slot has an owner it may take more than one look.
    let auditor = it.as_("bus.auditor");
    let ask = AskEnforcement {
        grant: grant.to_owned(),
        wait_ms: Some(2_000),
    };
    eventually("the revocation holds", || {
        auditor.enforcement(&ask).unwrap().state == EnforcementState::Enforced
    });

    // What the auditor and the counters see of it.
    let listed = auditor.grants(&asked(&id)).unwrap();
    let actions: Vec<&str> = listed.history.iter().map(|it| it.action.as_str()).collect();
    assert_eq!(actions, ["given", "paused", "resumed", "revoked"]);
    let own = it.as_("union.window").grants(&asked(&id)).unwrap();
    assert_eq!(own.grants.len(), 1);
    let foreign = it.as_("police.window").grants(&asked(&id)).unwrap();
    assert!(foreign.grants.is_empty() && foreign.history.is_empty());
    let shown = pretty::grants::listed(&listed, true, Lang::Zh);
    assert!(shown.contains("撤回"), "{shown}");
    the_script_of_the_docs_agrees(&it, &given.receipt, &id, &other);
    it.stop();
}

/// A program that shares no code with ours, and anybody can read: docs/consent.md holds it. It needs
/// Python with the package `cryptography`; where they are missing there is nothing to compare.
fn the_script_of_the_docs_agrees(
    it: &Consent,
    receipt: &mz_consent::record::Receipt,
    id: &IdNumber,
    other: &IdNumber,
) {
    let python = |args: &[&std::ffi::OsStr], input: &str| {
        let mut child = Command::new("python3")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(input.as_bytes()).ok()?;
        child.wait_with_output().ok()
    };
    let there = python(&["-c".as_ref(), "import cryptography".as_ref()], "");
    if !there.is_some_and(|output| output.status.success()) {
        eprintln!("no python3 with cryptography: the script of docs/consent.md was not run");
        return;
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/consent.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, script) = page.split_once("```python\n").unwrap();
    let (script, _) = script.split_once("```").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (program, file) = (
        dir.path().join("verify.py"),
        dir.path().join("receipt.json"),
    );
    std::fs::write(&program, script).unwrap();
    let keys = it.bus.contract_root().join("bus.keys.yaml");
    let run = |receipt: &str, input: &str| {
        std::fs::write(&file, receipt).unwrap();
        let args = [program.as_os_str(), file.as_os_str(), keys.as_os_str()];
        let output = python(&args, input).unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let kept = serde_json::to_string_pretty(receipt).unwrap();
    for number in [id.as_str(), ""] {
        let (valid, said) = run(&kept, number);
        assert!(valid && said.starts_with("VALID: union"), "{said}");
    }
    let (valid, said) = run(&kept, other.as_str());
    assert!(!valid && said.contains("another person"), "{said}");
    let (valid, said) = run(&kept.replace("\"union\"", "\"police\""), "");
    assert!(!valid && said.contains("does not cover"), "{said}");
    let (valid, said) = run(&kept.replace("bus-consent-1", "bus-seal-1"), "");
    assert!(!valid && said.contains("no such consent key"), "{said}");
}

#[test]
fn officers_look_and_rule_and_see_why() {
    let it = Consent::start();
    let id = person(32);
    let auditor = it.as_("bus.auditor");
    let why = Why {
        id: id.as_str().to_owned(),
        consumer: "union".to_owned(),
        purpose: "retirement-help".to_owned(),
        operator: Some("A-1".to_owned()),
        reason: "市民询问".to_owned(),
    };
    let because = auditor.why(&why).unwrap();
    assert!(because.sections.iter().all(|section| !section.flows));
    let reasons = &it.bus.contract.reasons;
    for lang in [Lang::Zh, Lang::En] {
        let shown = pretty::grants::because(&because, reasons, lang);
        let told = because.sections.iter().flat_map(|section| &section.fields);
        for field in told {
            assert!(shown.contains(&field.name), "{shown}");
            assert!(reasons.contains(&field.rule), "{} has no text", field.rule);
        }
    }
    let unknown = Why {
        purpose: "none".to_owned(),
        ..why.clone()
    };
    let unknown = refusal(auditor.why(&unknown));
    assert_eq!(unknown, (404, "CONSENT_AGREEMENT_UNKNOWN".to_owned()));
    let page = auditor.all_withdrawals(&AskWithdrawals::default()).unwrap();
    assert_eq!((page.withdrawals.len(), page.open), (0, 0));

    let security = it.as_("bus.security");
    let act = |request_id: &str| AgreementAct {
        request_id: request_id.to_owned(),
        agreement: AGREEMENT.to_owned(),
        reason: "核查".to_owned(),
        operator: "S-1".to_owned(),
        wait_ms: Some(20_000),
    };
    let view = security.agreement(AgreementActKind::Suspend, &act("s-1"));
    let view = view.unwrap();
    let enforced = |it: &mz_consent::model::Enforcement| it.state == EnforcementState::Enforced;
    assert!(
        view.enforcement.iter().all(enforced),
        "{:?}",
        view.enforcement
    );
    assert!(auditor.why(&why).unwrap().suspended);
    let closed = refusal(it.as_("bus.portal").give(&it.give(&id, "r-1")));
    assert_eq!(closed, (409, "CONSENT_AGREEMENT_CLOSED".to_owned()));

    // A bad version says where it is bad, and the one in force stays.
    let mut broken = files(&it.bus);
    let name = "agreements/union/retirement-help.yaml".to_owned();
    broken.insert(name.clone(), "title: 1\n".to_owned());
    let activate = |files, request_id: &str| Activate {
        request_id: request_id.to_owned(),
        files,
        operator: "S-1".to_owned(),
        reason: "新协议".to_owned(),
        wait_ms: Some(20_000),
    };
    match security.activate(&activate(broken, "s-2")) {
        Err(ClientError::Refused { status, problem }) => {
            let expected = (400, "CONSENT_CONTRACT_INVALID");
            assert_eq!((status, problem.code.as_str()), expected);
            assert!(problem.detail.iter().any(|line| line.contains(&name)));
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a broken contract was put in force"),
    }
    let versions = security.versions().unwrap();
    let acts: Vec<&str> = versions.iter().map(|entry| entry.act.as_str()).collect();
    assert_eq!(acts, ["suspend", "start"]);

    // The same files again: topics are looked at, and the suspension stays.
    let again = security.activate(&activate(files(&it.bus), "s-3")).unwrap();
    assert_eq!(again.version, 3);
    assert!(auditor.why(&why).unwrap().suspended);
    it.stop();
}

#[test]
fn the_certificate_decides_before_the_body_is_read() {
    let it = Consent::start();
    // Not JSON, and no route is told what it would have to be.
    let body = json!({"id": person(33).as_str()});
    let refused = |(status, problem): (u16, Value)| {
        (
            status,
            problem["code"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let principals = [
        "bus.portal",
        "bus.auditor",
        "bus.security",
        "bus.admin",
        "police.window",
        "police.adapter",
        "police.connector",
    ];
    for name in principals {
        let raw = it.raw(name);
        let principal = mz_console::Principal::parse(name).unwrap();
        for route in roles::ROUTES {
            let elsewhere = [
                roles::BUNDLES.path,
                roles::WHO_READ.path,
                roles::ASK_LEDGER.path,
                roles::FIND_USAGE.path,
                roles::HIDE.path,
                roles::APPROVE_HIDE.path,
                roles::LIST_HIDES.path,
                roles::LOG_LIST.path,
                roles::LOG_FILE.path,
            ];
            if elsewhere.contains(&route.path) {
                let path = route.path.replace(['{', '}'], "");
                // A connection each: nobody read the body of the one before.
                assert_eq!(it.raw(name).post(&path, &body).0, 404, "{path}");
                continue;
            }
            let (status, problem) = raw.post(route.path, &body);
            let text = problem.to_string();
            assert!(!text.contains(person(33).as_str()), "the number came back");
            let expected = if route.allows(&principal) {
                (400, "HTTP_BODY_INVALID".to_owned())
            } else {
                (403, "HTTP_ROLE_FORBIDDEN".to_owned())
            };
            assert_eq!(
                refused((status, problem)),
                expected,
                "{name} {}",
                route.path
            );
        }
        assert_eq!(raw.get("/health/ready").0, 200);
    }
    let portal = it.raw("bus.portal");
    let long = json!("x".repeat(20_000));
    let large = refused(portal.post(roles::GIVE.path, &long));
    assert_eq!(large, (413, "HTTP_BODY_TOO_LARGE".to_owned()));
    // A contract is larger than that, and taken from the one who may bring it.
    let security = refused(it.raw("bus.security").post(roles::ACTIVATE.path, &long));
    assert_eq!(security, (400, "HTTP_BODY_INVALID".to_owned()));
    assert_eq!(portal.get(roles::GIVE.path).0, 405);
    it.stop();
}
