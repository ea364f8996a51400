//! From a consent to the erasure of the person, on the command line alone: what is typed, what is answered in
//! both languages, with which exit code; and that a number is never an argument and never said.

use mz_e2e::city::{self, insured};
use mz_e2e::people::{grant, holds, in_days, withdrawals};
use mz_e2e::{Installation, World, wait};
use serde_json::Value;
use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

const RETIREMENT: &str = "union/retirement-help";
const SETTLEMENT: &str = "police/talent-settlement";
const ARREARS: &str = "to.union.retirement-help.hrss.insurance.status.v1";
const INSURANCE: &str = "to.police.talent-settlement.hrss.insurance.status.v1";
const LIMIT: Duration = Duration::from_secs(60);

/// A terminal: everything that was said on it is kept.
struct Desk<'w> {
    it: &'w Installation,
    said: RefCell<String>,
}

impl Desk<'_> {
    /// Types a command; what it printed, and how it ended.
    fn types(&self, line: &str, input: &str) -> (i32, String) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = self.it.output(&words, Some(input));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        self.said.borrow_mut().push_str(&said);
        (output.status.code().unwrap_or(-1), said)
    }

    /// The same; it must end with 0 and say each of these.
    fn sees(&self, line: &str, input: &str, expected: &[&str]) -> String {
        let (code, said) = self.types(line, input);
        assert_eq!(code, 0, "mianzheng {line}\n{said}");
        for text in expected {
            assert!(
                said.contains(text),
                "mianzheng {line}: no `{text}` in\n{said}"
            );
        }
        said
    }

    /// The same; it must be refused with this exit code and say each of these.
    fn refused(&self, line: &str, input: &str, exit: i32, expected: &[&str]) {
        let (code, said) = self.types(line, input);
        assert_eq!(code, exit, "mianzheng {line}\n{said}");
        for text in expected {
            assert!(
                said.contains(text),
                "mianzheng {line}: no `{text}` in\n{said}"
            );
        }
    }

    /// An answer for programs.
    fn json(&self, line: &str, input: &str) -> Value {
        let said = self.sees(&format!("{line} --json"), input, &[]);
        serde_json::from_str(&said).unwrap()
    }
}

#[test]
fn one_flow_from_grant_to_erasure() {
    let mut world = World::start("flow", 60, 31, false, 1);
    world.feed("union", "retirement-help");
    world.publish();
    let story = world.city.expected().story;
    let worker = story["lapsed"].id.clone();
    let applicant = story["no_case"].id.clone();

    let consent = a_consent_is_given(&world, &worker);
    paused_and_resumed(&mut world, &worker, &consent);
    a_case_is_opened_and_closed(&mut world, &applicant);
    an_agreement_is_suspended_and_resumed(&mut world, &worker);
    a_contract_with_less_is_put_in_force(&mut world, &worker);
    revoked_and_asked_why(&mut world, &worker, &consent);
    the_person_is_erased(&mut world, &worker);
    crate::settlement::no_service_said_a_number(&world);
    world.stop();
}

fn desk(world: &World) -> Desk<'_> {
    Desk {
        it: &world.it,
        said: RefCell::default(),
    }
}

/// Nothing that was printed names one of these people.
fn nobody_is_named(desk: &Desk<'_>, numbers: &[&str]) {
    for number in numbers {
        assert!(!desk.said.borrow().contains(number), "a number was printed");
    }
}

fn a_consent_is_given(world: &World, id: &str) -> String {
    let desk = desk(world);
    let (until, receipt) = (in_days(60), world.it.dir().join("flow-receipt.json"));
    let receipt = receipt.display();
    let give =
        format!("consent give --agreement {RETIREMENT} --valid-until {until} --out {receipt}");
    // Never an argument; nothing is recorded without the sensitive field's own consent.
    desk.refused(&format!("{give} --id 11010519491231002X"), "", 2, &[]);
    desk.refused(
        &format!("{give} --id -"),
        id,
        1,
        &["CONSENT_SEPARATE_MISSING"],
    );
    let give = format!("{give} --separate hrss.insurance.status.v1#arrearsMonths --id -");
    desk.refused(&give, "110105194912310021", 1, &["ID_"]);
    // Twice under one request id is once.
    let give = format!("{give} --request-id flow-1");
    let answers = [
        "consent ",
        "Help for workers near retirement",
        "separate consent",
        "enforced ",
    ];
    desk.sees(&give, id, &answers);
    let given = desk.json(&give, id);
    let consent = grant(&given);
    let zh = ["同意 ", "临近退休职工欠费帮扶", "单独同意", "已生效 "];
    desk.sees(&format!("--lang zh {give}"), id, &zh);
    let other = give.replace(&until, &in_days(61));
    desk.refused(&other, id, 1, &["CONSENT_REQUEST_ID_REUSED"]);

    let list = "consent list --operator A01 --id -";
    let listed = desk.sees(list, id, &[&consent, "[open]", RETIREMENT]);
    assert_eq!(listed.matches("[open] consent").count(), 1, "{listed}");
    desk.sees(
        &format!("--lang zh {list}"),
        id,
        &["[有效]", "协议的全部数据"],
    );
    let verify = format!("consent verify-receipt {receipt} --id -");
    desk.sees(&verify, id, &[&consent, "to withdraw"]);
    nobody_is_named(&desk, &[id]);
    consent
}

fn paused_and_resumed(world: &mut World, id: &str, consent: &str) {
    world.settle();
    assert_eq!(holds(&world.it, "union", ARREARS).len(), 5);
    {
        let desk = desk(world);
        // A grant's id opens nothing: the person's number must fit.
        let pause = format!("consent pause {consent} --id -");
        desk.refused(&pause, "11010519491231002X", 1, &["CONSENT_GRANT_UNKNOWN"]);
        desk.sees(&pause, id, &["[paused]", "enforced "]);
        desk.sees(
            "why --id - --operator A01 --consumer union --purpose retirement-help",
            id,
            &["does not flow", "GRANT_PAUSED"],
        );
        nobody_is_named(&desk, &[id]);
    }
    world
        .city
        .books(id, |row| row[insured::ARREARS] = "7".to_owned());
    city::publish(&world.it, "hrss-insurance");
    world.settle();
    let months = |world: &World| {
        let held = holds(&world.it, "union", ARREARS);
        held.iter()
            .filter(|fields| fields["arrearsMonths"] == 7)
            .count()
    };
    assert_eq!(months(world), 0, "news about somebody who paused");
    {
        let desk = desk(world);
        desk.refused(&format!("consent resume {consent}"), "", 2, &["--id -"]);
        let resume = format!("--lang zh consent resume {consent} --id -");
        desk.sees(&resume, id, &["[有效]", "已生效 "]);
        let until = in_days(90);
        let extend = format!("consent extend {consent} --valid-until {until} --id -");
        desk.sees(&extend, id, &["[open]", "enforced "]);
        desk.refused(&extend, id, 1, &["CONSENT_PERIOD_INVALID"]);
        let history = desk.sees(
            "consent history --operator A01 --reason 核查 --id -",
            id,
            &[],
        );
        for act in ["given", "paused", "resumed", "extended"] {
            assert!(history.contains(act), "{history}");
        }
        nobody_is_named(&desk, &[id]);
    }
    // What came in between is sent once the person has resumed.
    world.settle();
    assert_eq!(months(world), 5);
}

fn a_case_is_opened_and_closed(world: &mut World, id: &str) {
    let about = |world: &World| {
        let held = holds(&world.it, "police", INSURANCE);
        held.iter().filter(|fields| fields["idNo"] == id).count()
    };
    assert_eq!(about(world), 0);
    let case = {
        let desk = desk(world);
        let open = format!("case open --agreement {SETTLEMENT} --application A-7 --id -");
        let window = "--department police --operator H0231 --reason 窗口受理";
        desk.refused(
            &format!("{open} --reason 窗口受理"),
            id,
            2,
            &["--department"],
        );
        desk.refused(
            &format!("{open} --days 900 {window}"),
            id,
            1,
            &["CONSENT_PERIOD_INVALID"],
        );
        let opened = desk.json(&format!("{open} --days 30 {window}"), id);
        assert_eq!(opened["enforcement"][0]["state"], "enforced", "{opened:#}");
        let case = opened["grants"][0]["id"].as_str().unwrap().to_owned();
        desk.sees(
            &format!("case list {window} --id -"),
            id,
            &[&case, "[open]", "Talent settlement"],
        );
        nobody_is_named(&desk, &[id]);
        case
    };
    world.settle();
    assert_eq!(about(world), 5);
    let desk = desk(world);
    let close = format!("case close {case} --department police --operator H0231 --reason 已办结");
    desk.refused(
        &format!("case close {case} --department union --operator gh-1 --reason x"),
        "",
        1,
        &["HTTP_ROLE_FORBIDDEN"],
    );
    desk.sees(&close, "", &["[closed]", "enforced "]);
    desk.refused(&close, "", 1, &["CONSENT_GRANT_CLOSED"]);
    nobody_is_named(&desk, &[id]);
}

fn an_agreement_is_suspended_and_resumed(world: &mut World, id: &str) {
    let act = |verb: &str| {
        format!("agreement {verb} {RETIREMENT} --operator S01 --reason 核查 --wait-ms 20000")
    };
    {
        let desk = desk(world);
        desk.refused(
            &format!("{} --as bus.auditor", act("suspend")),
            "",
            1,
            &["HTTP_ROLE_FORBIDDEN"],
        );
        desk.sees(&act("suspend"), "", &["contract version 2", "enforced "]);
        let why = "why --id - --operator A01 --consumer union --purpose retirement-help";
        desk.sees(
            why,
            id,
            &["suspended", "does not flow", "AGREEMENT_SUSPENDED"],
        );
        desk.sees(&format!("--lang zh {why}"), id, &["已中止", "不提供"]);
        nobody_is_named(&desk, &[id]);
    }
    world
        .city
        .books(id, |row| row[insured::ARREARS] = "8".to_owned());
    city::publish(&world.it, "hrss-insurance");
    world.settle();
    let eight = |world: &World| {
        let held = holds(&world.it, "union", ARREARS);
        assert_eq!(held.len(), 5, "a suspension calls nothing back");
        held.iter()
            .filter(|fields| fields["arrearsMonths"] == 8)
            .count()
    };
    assert_eq!(eight(world), 0);
    {
        let desk = desk(world);
        desk.sees(
            &format!("--lang zh {}", act("resume")),
            "",
            &["契约版本 3", "已生效 "],
        );
        let versions = desk.sees("agreement versions", "", &["suspend", "resume", "核查"]);
        assert!(versions.contains("bus.security S01"), "{versions}");
    }
    world.settle();
    assert_eq!(eight(world), 5, "what came meanwhile is sent");
}

/// The provider agrees to one field less; reviewed, signed, put in force while everything runs.
fn a_contract_with_less_is_put_in_force(world: &mut World, id: &str) {
    let next = proposal(&world.it);
    let root = next.join("contract");
    {
        let desk = desk(world);
        let root = root.display();
        let activate = format!(
            "contract activate {root} --operator S01 --reason 减少字段 --yes --wait-ms 20000"
        );
        // Not signed by its provider: refused here already, and the one in force stays.
        desk.refused(&activate, "", 3, &["APPROVAL_STALE"]);
        sign(&world.it, &next);
        desk.sees(&format!("apply --contract {root} --yes"), "", &[]);
        let said = desk.sees(&activate, "", &["contract version 4", "enforced "]);
        assert!(
            said.contains("employerName") || said.contains("Employer"),
            "{said}"
        );
    }
    world.contract = world.it.contract();
    world.settle();
    let held = holds(&world.it, "union", ARREARS);
    assert_eq!(held.len(), 5, "{held:#?}");
    for fields in &held {
        assert!(fields.get("employerName").is_none(), "{fields}");
    }
    let desk = desk(world);
    let why = desk.json(
        "why --id - --operator A01 --consumer union --purpose retirement-help",
        id,
    );
    let fields = why["sections"][0]["fields"].as_array().unwrap();
    let employer = fields.iter().find(|field| field["name"] == "employerName");
    assert_eq!(employer.unwrap()["rule"], "FIELD_NOT_AGREED");
    assert_eq!(why["contract_version"], 4);
}

/// A working copy of the contract, as a provider has it: beside the installation's, with its keys.
fn proposal(it: &Installation) -> PathBuf {
    let next = it.dir().join("next");
    let own = it.contract_root();
    let files = mz_contract::Contract::files(&own).unwrap();
    for (name, text) in files {
        let path = next.join("contract").join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = match &*name {
            "agreements/union/retirement-help.yaml" => {
                let less = text.replace(", arrearsMonths, employerName]", ", arrearsMonths]");
                assert_ne!(less, text);
                less
            }
            _ => text,
        };
        std::fs::write(path, text).unwrap();
    }
    let settings = std::fs::read_to_string(it.dir().join("instance.yaml")).unwrap();
    let keys = it.keys().root().display().to_string();
    let settings: String = settings
        .lines()
        .map(|line| match line.split_once(':') {
            Some(("keys", _)) => format!("keys: {keys}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    std::fs::write(next.join("instance.yaml"), settings).unwrap();
    next
}

fn sign(it: &Installation, next: &std::path::Path) {
    let next = next.display().to_string();
    it.run(&["--dir", &next, "contract", "ids"]);
    it.run(&["--dir", &next, "contract", "sign", "--department", "hrss"]);
    it.run(&["--dir", &next, "lint"]);
}

fn revoked_and_asked_why(world: &mut World, id: &str, consent: &str) {
    {
        let desk = desk(world);
        let revoke = format!("consent revoke {consent} --id -");
        desk.sees(&revoke, id, &["[closed]", "enforced "]);
        desk.refused(&revoke, id, 1, &["CONSENT_GRANT_CLOSED"]);
        let extend = format!(
            "consent extend {consent} --valid-until {} --id -",
            in_days(95)
        );
        desk.refused(&extend, id, 1, &["CONSENT_GRANT_CLOSED"]);
        desk.sees(
            "--lang zh consent list --operator A01 --id -",
            id,
            &["[结束]"],
        );
        nobody_is_named(&desk, &[id]);
    }
    world.settle();
    assert!(holds(&world.it, "union", ARREARS).is_empty());
    let back = withdrawals(&world.it, RETIREMENT);
    let revoked = back.iter().filter(|one| one["reason"] == "CONSENT_REVOKED");
    assert_eq!(revoked.count(), 5);
    let desk = desk(world);
    desk.sees("withdrawals", "", &["deleted", "without a receipt: 0"]);
    desk.sees("--lang zh withdrawals", "", &["已删除", "未回执: 0"]);
    let why = "why --id - --operator A01 --consumer union --purpose retirement-help";
    desk.sees(why, id, &["does not flow", "GRANT_CLOSED"]);
    nobody_is_named(&desk, &[id]);
}

fn the_person_is_erased(world: &mut World, id: &str) {
    let desk = desk(world);
    let erase = "subject erase --operator S01 --reason 本人申请 --request-id erase-1 --wait-ms 20000 --id -";
    desk.refused(
        &format!("{erase} --as bus.auditor"),
        id,
        1,
        &["HTTP_ROLE_FORBIDDEN"],
    );
    desk.sees(erase, id, &["grants closed", "bus.audit"]);
    wait::until(
        "the key to be destroyed and everything to be called back",
        LIMIT,
        || desk.json(erase, id),
        |erased| erased["key_destroyed"].is_string() && erased["withdrawals_open"] == 0,
    );
    desk.sees(erase, id, &["key destroyed", "vault-"]);
    desk.sees(
        &format!("--lang zh {erase}"),
        id,
        &["密钥已销毁", "随日志保存"],
    );
    nobody_is_named(&desk, &[id]);
    let facts = "SELECT count(*) FROM vault.fact f JOIN vault.subject_key k USING (lane, subject)
         WHERE octet_length(k.wrapped) = 0";
    assert_eq!(mz_e2e::database::number(world.it.database_url(), facts), 0);
}
