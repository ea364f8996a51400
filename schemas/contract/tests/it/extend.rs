//! A new department, dataset and agreement are files under `schemas/` and nothing else: no Rust.

use crate::tree::Tree;
use mz_contract::{Contract, Lang, Mode, allocate_schema_ids, lint, matrix::policy_matrix};

const DEPARTMENT: &str = "
name: {zh: 共青团, en: Youth League}
kind: social
uscc: 13441900MX000006X6
";

const AVSC: &str = r#"{"type": "record", "name": "Member", "namespace": "youth", "fields": [
  {"name": "idNo", "type": "string"},
  {"name": "memberNo", "type": "string"},
  {"name": "joinedOn", "type": {"type": "int", "logicalType": "date"}},
  {"name": "sector", "type": {"type": "enum", "name": "Sector", "symbols": ["DRIVER", "COURIER", "OTHER"]}}
]}"#;

const DATASET: &str = "
title: {zh: 团员, en: League members}
provider: youth
format: avro
update_frequency: weekly
sharing: conditional
ways: [service_interface]
conditions:
  scope: {zh: 团组织, en: Service centres}
  uses: {zh: 核验会员身份, en: Verifying membership}
classification: {category: {zh: 个人信息, en: Personal information}, level: 2}
fields:
  idNo: {zh: 公民身份号码, en: Identity number, class: personal}
  memberNo: {zh: 会员号, en: Member number, class: internal}
  joinedOn: {zh: 入会日期, en: Joined on, class: personal}
  sector:
    zh: 行业
    en: Sector
    class: personal
    symbols:
      DRIVER: {zh: 货车司机, en: Driver}
      COURIER: {zh: 快递员, en: Courier}
      OTHER: {zh: 其他, en: Other}
summary: {zh: 会员登记, en: Register of members}
code: \"321/001/000001\"
published: {secrecy_review: a, impact_assessment: b, approved_by: c, approved_on: 2026-03-01}
subject: idNo
record: [memberNo]
streams: [member]
availability: stream
stale_after: 10d
retention: 30d
limits: {bases: [consent], max_case_days: 90, until: 2028-12-31}
";

const AGREEMENT: &str = "
title: {zh: 就业帮扶, en: Help with jobs}
basis:
  kind: consent
  law: [{title: {zh: 个人信息保护法, en: PIPL}, article: \"13(1)\"}]
  duty: {zh: 帮助欠费职工, en: Helping workers in arrears}
application:
  number: 团委共享申〔2026〕1号
  applied_on: 2026-03-02
  basis: {zh: 本人同意, en: Consent}
  scene: {zh: 职工服务中心, en: Service centre}
  scope: {zh: 同意的会员, en: Members who consent}
  mode: service_interface
  until: 2027-12-31
valid: {from: 2026-04-01, until: 2027-12-31}
notice: {given: {zh: 授权页面, en: Where consent is given}, text: {zh: 用于帮扶, en: To help you}}
consent:
  notice_version: 1
  max: 180d
  withdrawal: {zh: 授权页面, en: Where consent is given}
  representation: []
  minor_age: 14
retention: 30d
sections:
  - dataset: hrss.insurance.status.v1
    scope: case
    filter: type == \"PENSION\"
    fields: [status, arrearsMonths, employerName]
    approval: {approver: a, date: 2026-03-10, document: b}
";

fn extended() -> Tree {
    let tree = Tree::copy();
    tree.write("departments/youth.yaml", DEPARTMENT);
    tree.write("catalogue/youth/member.v1.avsc", AVSC);
    tree.write("catalogue/youth/member.v1.yaml", DATASET);
    tree.write("agreements/youth/job-help.yaml", AGREEMENT);
    tree
}

#[test]
fn a_dataset_and_an_agreement_are_files_and_nothing_else() {
    let tree = extended();
    // Lint says the one thing that is left to do, and the command does it.
    let report = lint(tree.root(), Mode::Draft, Lang::Zh);
    let codes: Vec<_> = report
        .faults
        .iter()
        .map(|fault| (fault.code, fault.field.as_str()))
        .collect();
    assert_eq!(
        codes,
        [
            ("SCHEMA_ID_MISSING", "src.youth.member.v1"),
            (
                "SCHEMA_ID_MISSING",
                "to.youth.job-help.hrss.insurance.status.v1"
            ),
        ]
    );
    let before = tree.read("schema-ids.yaml");
    let added = allocate_schema_ids(tree.root(), Lang::Zh).unwrap().added;
    assert_eq!(added, [1007, 2011]);
    assert!(
        tree.read("schema-ids.yaml").starts_with(&before),
        "append-only"
    );
    assert!(
        allocate_schema_ids(tree.root(), Lang::Zh)
            .unwrap()
            .added
            .is_empty(),
        "twice is once"
    );

    let contract = Contract::load(tree.root(), Mode::Draft).unwrap();
    let dataset = contract.dataset("youth.member.v1").unwrap();
    assert_eq!(
        (dataset.schema_id, dataset.src_topic().as_str()),
        (1007, "src.youth.member.v1")
    );
    let section = contract
        .agreement("youth/job-help")
        .unwrap()
        .sections
        .first()
        .unwrap();
    assert_eq!(section.schema_id, 2011);
    assert_eq!(section.fields, [3, 9, 10]);
    assert_eq!(section.sensitive, [10], "arrearsMonths");
    assert!(!section.disclose_subject);
    assert!(policy_matrix(&contract).contains("youth/job-help"));

    tree.sign();
    assert!(Contract::load(tree.root(), Mode::Signed).is_ok());
}

#[test]
fn an_agreement_that_changes_keeps_its_old_records_readable() {
    let tree = extended();
    allocate_schema_ids(tree.root(), Lang::En).unwrap();
    tree.replace(
        "agreements/youth/job-help.yaml",
        "arrearsMonths, employerName]",
        "arrearsMonths]",
    );
    assert_eq!(
        lint(tree.root(), Mode::Draft, Lang::En).faults[0].code,
        "SCHEMA_ID_MISSING"
    );
    assert_eq!(
        allocate_schema_ids(tree.root(), Lang::En).unwrap().added,
        [2012]
    );
    let contract = Contract::load(tree.root(), Mode::Draft).unwrap();
    let section = &contract.agreement("youth/job-help").unwrap().sections[0];
    assert_eq!(section.schema_id, 2012);
    assert_eq!(contract.layout_by_id(2011).unwrap().fields().len(), 3);
    assert_eq!(contract.layout_by_id(2012).unwrap().fields().len(), 2);
    let versions: Vec<_> = contract
        .schema_ids
        .of_topic(&section.out_topic)
        .map(|entry| entry.id)
        .collect();
    assert_eq!(versions, [2011, 2012]);
    // Back to what it was: the same schema has the same id.
    tree.replace(
        "agreements/youth/job-help.yaml",
        "arrearsMonths]",
        "arrearsMonths, employerName]",
    );
    let contract = Contract::load(tree.root(), Mode::Draft).unwrap();
    assert_eq!(
        contract.agreement("youth/job-help").unwrap().sections[0].schema_id,
        2011
    );
}

#[test]
fn a_new_version_beside_the_old_one() {
    let tree = Tree::copy();
    let old = "catalogue/realestate/right.v1";
    let new = "catalogue/realestate/right.v2";
    tree.write(&format!("{new}.yaml"), &tree.read(&format!("{old}.yaml")));
    tree.write(&format!("{new}.avsc"), &tree.read(&format!("{old}.avsc")));
    // Readable: one more nullable field, one more symbol, a field that may now be null.
    tree.replace(&format!("{new}.avsc"), "    {\"name\": \"seized\"", "    {\"name\": \"floor\", \"type\": [\"null\", \"int\"], \"default\": null},\n    {\"name\": \"seized\"");
    tree.replace(
        &format!("{new}.yaml"),
        "  seized:",
        "  floor: {zh: 楼层, en: Floor, class: internal}\n  seized:",
    );
    tree.replace(
        &format!("{new}.avsc"),
        "\"HISTORIC\"]",
        "\"HISTORIC\", \"PENDING\"]",
    );
    tree.replace(
        &format!("{new}.yaml"),
        "      HISTORIC:",
        "      PENDING: {zh: 办理中, en: Pending}\n      HISTORIC:",
    );
    allocate_schema_ids(tree.root(), Lang::En).unwrap();
    let contract = Contract::load(tree.root(), Mode::Draft).unwrap();
    assert_eq!(contract.dataset("realestate.right.v2").unwrap().version, 2);
    // Not readable, and said why.
    tree.replace(&format!("{new}.avsc"), "\"ownerCount\"", "\"owners\"");
    tree.replace(&format!("{new}.yaml"), "  ownerCount:", "  owners:");
    assert!(
        lint(tree.root(), Mode::Draft, Lang::En)
            .faults
            .iter()
            .any(|f| f.code == "SCHEMA_INCOMPATIBLE")
    );
    tree.replace(
        &format!("{new}.yaml"),
        "subject:",
        "breaking_change: {zh: 改名, en: Renamed by the register}\nsubject:",
    );
    assert!(
        !lint(tree.root(), Mode::Draft, Lang::En)
            .faults
            .iter()
            .any(|f| f.code == "SCHEMA_INCOMPATIBLE")
    );
}
