//! The A4 sheet: one known bundle gives one known page (`tests/it/sheet.html`; remake it with
//! `UPDATE_SHEET=1` and look at it in a browser), and nothing in a bundle can become markup.

use std::path::Path;

use mz_console::sheet::{qr_text, sheet};
use mz_vault::bundle::{
    Bundle, FORMAT, FactEntry, FactState, FieldTitle, OutcomeEntry, ReasonEntry, RecordEntry,
    SignatureEntry, SourceEntry, SubjectRef, Text,
};
use serde_json::{Map, json};

fn both(zh: &str, en: &str) -> Text {
    Text {
        zh: zh.to_owned(),
        en: en.to_owned(),
    }
}

fn reason(code: &str, zh: &str, en: &str) -> ReasonEntry {
    ReasonEntry {
        code: code.to_owned(),
        zh: zh.to_owned(),
        en: en.to_owned(),
    }
}

fn title(name: &str, zh: &str, value: Option<Text>) -> FieldTitle {
    FieldTitle {
        name: name.to_owned(),
        zh: zh.to_owned(),
        en: name.to_owned(),
        value,
    }
}

fn absent(need: Text, department: Text, state: FactState, why: ReasonEntry) -> FactEntry {
    FactEntry {
        need: "need".to_owned(),
        need_title: need,
        dataset: "a.b.v1".to_owned(),
        dataset_title: Text::default(),
        department: "d".to_owned(),
        department_title: department,
        state,
        reason: Some(why),
        complete_to: Some("2026-03-02T01:00:00.000Z".to_owned()),
        since: None,
        as_of: None,
        record: None,
    }
}

fn present(
    need: Text,
    department: Text,
    fields: serde_json::Value,
    titles: Vec<FieldTitle>,
) -> FactEntry {
    FactEntry {
        state: FactState::Present,
        reason: None,
        as_of: None,
        record: Some(RecordEntry {
            fields,
            titles,
            answers: Map::new(),
            as_of: "2026-03-01T08:30:00.000Z".to_owned(),
            stream: "s".to_owned(),
            version_epoch: 1,
            version_counter: 2,
            event: "00".repeat(32),
            schema_id: 2001,
            datum: String::new(),
            seal: String::new(),
        }),
        ..absent(need, department, FactState::Present, reason("", "", ""))
    }
}

fn bundle() -> Bundle {
    let hrss = || both("人力资源和社会保障局", "Human resources bureau");
    let insured = || Some(both("参保", "Insured"));
    let insurance = |kind: &str, months: u32| {
        present(
            both("在保险种", "Insurances in force"),
            hrss(),
            json!({"type": kind, "status": "INSURED", "monthsTotal": months, "asOf": "2026-02-28"}),
            vec![
                title("type", "险种", Some(both(kind, kind))),
                title("status", "参保状态", insured()),
                title("monthsTotal", "累计缴费月数", None),
                title("asOf", "数据截至日期", None),
            ],
        )
    };
    Bundle {
        format: FORMAT.to_owned(),
        bundle_id: "019d0c3e-7b1a-7c20-9f3e-0a1b2c3d4e5f".to_owned(),
        bus: "dg-bus".to_owned(),
        item: "talent-settlement".to_owned(),
        item_title: both("人才入户", "Talent settlement"),
        rules_version: 1,
        issued_at: "2026-03-02T01:15:42.120Z".to_owned(),
        contract: "5e".repeat(32),
        agreement: "police/talent-settlement".to_owned(),
        consumer: "police".to_owned(),
        consumer_title: both("公安局", "Public security bureau"),
        purpose: "talent-settlement".to_owned(),
        purpose_title: both("人才入户办理", "Talent settlement"),
        subject: SubjectRef {
            case: Some("0f".repeat(16)),
            pseudonym: Some("aa".repeat(16)),
        },
        operator: "hz-07".to_owned(),
        reason: "人才入户窗口受理 <script>alert(1)</script> & \"引号\"".to_owned(),
        facts: vec![
            present(
                both("人才入户资格", "Right to settle"),
                hrss(),
                json!({"idNo": "44190019900307101X", "name": "张三", "approvalId": "DG2026-000117",
                       "category": "EDUCATION", "dependents": [], "validUntil": null, "status": "APPROVED"}),
                vec![
                    title("idNo", "公民身份号码", None),
                    title("name", "姓名", None),
                    title("approvalId", "审批编号", None),
                    title("category", "类别", Some(both("学历", "Education"))),
                    title("dependents", "随迁人员", None),
                    title("validUntil", "有效期至", None),
                    title("status", "状态", Some(both("已通过", "Approved"))),
                ],
            ),
            insurance("养老", 31),
            insurance("失业", 31),
            insurance("医疗", 31),
            insurance("工伤", 31),
            insurance("生育", 31),
            absent(
                both("本人名下房产", "Own property"),
                both("不动产登记中心", "Real estate registry"),
                FactState::None,
                reason(
                    "BUNDLE_FACT_NONE",
                    "来源数据完整，协议范围内没有该人员的记录",
                    "The source is complete and has no record of this person within the agreement.",
                ),
            ),
            FactEntry {
                since: Some("2026-02-27T16:00:00.000Z".to_owned()),
                ..absent(
                    both("户籍登记", "Household registration"),
                    both("公安局", "Public security bureau"),
                    FactState::SourceUnavailable,
                    reason(
                        "BUNDLE_SOURCE_UNAVAILABLE",
                        "来源暂不可用或已滞后；不得因此要求群众提供纸质证明",
                        "The source is down or behind; that is no ground for asking for paper.",
                    ),
                )
            },
        ],
        sources: vec![SourceEntry {
            dataset: "a.b.v1".to_owned(),
            department: "d".to_owned(),
            available: true,
            complete_to: None,
            since: None,
            unreadable_rows: 0,
        }],
        outcome: OutcomeEntry {
            kind: "same_visit".to_owned(),
            title: both("当场办结", "Decided in this visit"),
            working_days: 0,
            reasons: vec![
                reason(
                    "SETTLEMENT_SAME_VISIT",
                    "资格已核验，准予迁入当场办结。",
                    "The right to settle is verified; the move is permitted in this visit.",
                ),
                reason(
                    "SETTLEMENT_CHOOSE_ADDRESS",
                    "本人名下没有可落户的住宅。请选择落户地址：集体户、亲属住所或其他合法稳定住所。",
                    "There is no dwelling of one's own. Choose the address: a collective household, a relative's home or another lawful stable home.",
                ),
            ],
        },
        audit_id: "vault-3-120".to_owned(),
        audit_count: 8,
        signature: Some(SignatureEntry {
            key_id: "bus-seal-1".to_owned(),
            suite: "ed25519-sha256".to_owned(),
            digest: "c4".repeat(32),
            value: String::new(),
        }),
    }
}

#[test]
fn the_page_is_the_one_that_was_looked_at() {
    let page = sheet(&bundle()).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sheet.html");
    if std::env::var_os("UPDATE_SHEET").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    assert!(
        page == known,
        "the sheet differs from tests/it/sheet.html: look at it, then UPDATE_SHEET=1"
    );
}

#[test]
fn nothing_in_a_bundle_becomes_markup() {
    let hostile = "\"><img src=x onerror=alert(1)><script>x</script>{{7*7}}";
    let mut bundle = bundle();
    bundle.reason = hostile.to_owned();
    bundle.operator = hostile.to_owned();
    bundle.audit_id = hostile.to_owned();
    bundle.item_title = both(hostile, hostile);
    bundle.outcome.title = both(hostile, hostile);
    for fact in &mut bundle.facts {
        fact.need_title = both(hostile, hostile);
        fact.complete_to = Some(hostile.to_owned());
        if let Some(record) = &mut fact.record {
            record.fields["name"] = json!(hostile);
            record
                .titles
                .push(title("name", hostile, Some(both(hostile, hostile))));
        }
    }
    let page = sheet(&bundle).unwrap();
    assert!(
        !page.contains("<img") && !page.contains("<script"),
        "markup came through"
    );
    assert!(page.contains("default-src 'none'"));
    bundle.signature = None;
    assert!(sheet(&bundle).is_err(), "an unsigned bundle has no sheet");
}

#[test]
fn the_code_names_bundle_and_digest() {
    assert_eq!(qr_text("id", "d1"), "mzb1:id:d1");
}
