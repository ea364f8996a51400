//! Every fault that lint knows, planted in a copy of the repository's contract: the code, the file and
//! the line must be right, and both languages must have a text without gaps.

use crate::tree;

use std::collections::BTreeSet;

use crate::tree::Tree;
use mz_contract::{Lang, Mode, codes, lint};

/// How a contract is spoilt.
enum Plant {
    Replace(&'static str, &'static str, &'static str),
    Write(&'static str, &'static str),
    Copy(&'static str, &'static str),
    Remove(&'static str),
}
use Plant::{Copy, Remove, Replace, Write};

/// Where the fault must be shown.
enum At {
    /// The line that holds this text once the fault is planted.
    Line(&'static str),
    /// Line 1: about the entry as a whole.
    Top,
    /// Line 0: about the file.
    File,
}

struct Case {
    code: &'static str,
    file: &'static str,
    at: At,
    plants: Vec<Plant>,
}

fn case(code: &'static str, file: &'static str, at: At, plants: Vec<Plant>) -> Case {
    Case {
        code,
        file,
        at,
        plants,
    }
}

const APPROVAL: &str = "catalogue/hrss/talent.approval.v1.yaml";
const INSURANCE: &str = "catalogue/hrss/insurance.status.v1.yaml";
const RIGHT: &str = "catalogue/realestate/right.v1.yaml";
const RIGHT_AVSC: &str = "catalogue/realestate/right.v1.avsc";
const APPOINTMENT: &str = "catalogue/police/appointment.v1.yaml";
const SETTLEMENT: &str = "agreements/police/talent-settlement.yaml";
const STATUS: &str = "agreements/hrss/talent-status.yaml";
const HELP: &str = "agreements/union/retirement-help.yaml";
const STOPPED: &str = "agreement-status.yaml";
const ITEM: &str = "items/talent-settlement.yaml";
const IDS: &str = "schema-ids.yaml";
const REASONS: &str = "reasons.yaml";
const HRSS: &str = "departments/hrss.yaml";
const CALENDAR: &str = "calendars/cn.yaml";

#[rustfmt::skip] // one line a fault
fn cases() -> Vec<Case> {
    let mut cases = vec![
        // files
        case("FILE_MISSING", REASONS, At::File, vec![Remove(REASONS)]),
        case("FILE_MISSING", "installation.yaml", At::File, vec![Remove("installation.yaml")]),
        case("FILE_NAME", "agreements/police/other.yml", At::File, vec![Write("agreements/police/other.yml", "a: 1")]),
        case("YAML_SYNTAX", HRSS, At::Line("kind"), vec![Replace(HRSS, "kind: government", "kind: [government")]),
        case("YAML_UNKNOWN_KEY", SETTLEMENT, At::Line("colour"), vec![Replace(SETTLEMENT, "retention:", "colour: red\nretention:")]),
        case("YAML_MISSING_KEY", HRSS, At::Line("uscc"), vec![Replace(HRSS, "kind: government\n", "")]),
        case("YAML_BAD_VALUE", HRSS, At::Line("kind"), vec![Replace(HRSS, "kind: government", "kind: royal")]),
        case("YAML_DUPLICATE_KEY", HRSS, At::Line("kind: social"), vec![Replace(HRSS, "kind: government", "kind: government\nkind: social")]),
        case("YAML_TOO_LARGE", HRSS, At::Line("&a"), vec![Replace(HRSS, "kind: government", "kind: &a government")]),
        case("NAME_INVALID", "departments/src.yaml", At::File, vec![Copy(HRSS, "departments/src.yaml")]),
        case("NAME_INVALID", RIGHT, At::Line("streams"), vec![Replace(RIGHT, "streams: [right]", "streams: [Right/..]")]),
        case("DATE_INVALID", SETTLEMENT, At::Line("2026-02-30"), vec![Replace(SETTLEMENT, "from: 2026-02-01", "from: 2026-02-30")]),
        case("DURATION_INVALID", RIGHT, At::Line("stale_after"), vec![Replace(RIGHT, "stale_after: 24h", "stale_after: a day")]),
        case("LIST_EMPTY", RIGHT, At::Line("ways"), vec![Replace(RIGHT, "ways: [service_interface]", "ways: []")]),
        case("VALUE_EMPTY", SETTLEMENT, At::Line("number:"), vec![Replace(SETTLEMENT, "number: 公安共享申〔2026〕1号", "number: \"\"")]),
        // installation, departments, keys
        case("LANES_INVALID", "installation.yaml", At::Line("lanes: 0"), vec![Replace("installation.yaml", "lanes: 8", "lanes: 0")]),
        case("REGION_INVALID", "installation.yaml", At::Line("region"), vec![Replace("installation.yaml", "\"441900\"", "\"44190\"")]),
        case("CALENDAR_UNKNOWN", "installation.yaml", At::Line("calendar"), vec![Replace("installation.yaml", "calendar: cn", "calendar: hk")]),
        case("DEPARTMENT_UNKNOWN", "catalogue/tax/right.v1.yaml", At::File, vec![Copy(RIGHT, "catalogue/tax/right.v1.yaml"), Copy(RIGHT_AVSC, "catalogue/tax/right.v1.avsc")]),
        case("DEPARTMENT_UNKNOWN", "agreements/tax/levy.yaml", At::File, vec![Copy(STATUS, "agreements/tax/levy.yaml")]),
        case("USCC_INVALID", HRSS, At::Line("uscc"), vec![Replace(HRSS, "11441900MX00000199", "11441900MX00000198")]),
        case("USCC_DUPLICATE", "departments/police.yaml", At::Line("uscc"), vec![Replace("departments/police.yaml", "11441900MX00000274", "11441900MX00000199")]),
        // catalogue
        case("CATALOGUE_PATH", "catalogue/hrss/insurance.yaml", At::File, vec![Copy(INSURANCE, "catalogue/hrss/insurance.yaml")]),
        case("PROVIDER_MISMATCH", RIGHT, At::Line("provider"), vec![Replace(RIGHT, "provider: realestate", "provider: hrss")]),
        case("FORMAT_UNKNOWN", RIGHT, At::Line("format"), vec![Replace(RIGHT, "format: avro", "format: csv")]),
        case("LEVEL_INVALID", RIGHT, At::Line("level"), vec![Replace(RIGHT, "level: 3", "level: 5")]),
        case("CATALOGUE_CODE", RIGHT, At::Line("code:"), vec![Replace(RIGHT, "\"307/001/000001\"", "three")]),
        case("CONDITIONS_MISSING", RIGHT, At::Line("  scope"), vec![Replace(RIGHT, "  uses: ", "  #uses: ")]),
        case("CONDITIONS_UNEXPECTED", RIGHT, At::Line("  scope"), vec![Replace(RIGHT, "sharing: conditional", "sharing: unconditional")]),
        case("LAW_MISSING", APPOINTMENT, At::Line("  law"), vec![Replace(APPOINTMENT, "law: 中华人民共和国个人信息保护法 第6条、第34条", "law: \"\"")]),
        case("LAW_MISSING", SETTLEMENT, At::Line("  law: []"), vec![Replace(SETTLEMENT, "  law:\n", "  law: []\n  x:\n"), Replace(SETTLEMENT, "  x:\n    - {title: {zh: 中华人民共和国户口登记条例, en: Household Registration Regulations}, article: \"10, 13\"}\n    - {title: {zh: 中华人民共和国个人信息保护法, en: Personal Information Protection Law}, article: \"13(3), 34\"}\n    - {title: {zh: 政务数据共享条例, en: Government Data Sharing Regulations (State Council Order 809)}, article: \"19, 20\"}\n", "")]),
        case("AVSC_MISSING", RIGHT_AVSC, At::File, vec![Remove(RIGHT_AVSC)]),
        case("AVSC_ORPHAN", RIGHT_AVSC, At::File, vec![Remove(RIGHT)]),
        case("AVSC_INVALID", RIGHT_AVSC, At::Top, vec![Replace(RIGHT_AVSC, "\"boolean\"", "\"bool\"")]),
        case("SCHEMA_UNION", RIGHT_AVSC, At::Line("\"share\""), vec![Replace(RIGHT_AVSC, "[\"null\", \"string\"]", "[\"string\", \"null\"]")]),
        case("SCHEMA_DEFAULT", RIGHT_AVSC, At::Line("\"share\""), vec![Replace(RIGHT_AVSC, "\"default\": null, ", "")]),
        case("SCHEMA_LOGICAL_TYPE", RIGHT_AVSC, At::Line("\"registeredOn\""), vec![Replace(RIGHT_AVSC, "{\"type\": \"int\", \"logicalType\": \"date\"}", "{\"type\": \"long\", \"logicalType\": \"time-micros\"}")]),
        case("SCHEMA_CHANGED", RIGHT_AVSC, At::Top, vec![Replace(RIGHT_AVSC, "\"scale\": 2", "\"scale\": 0")]),
        case("FIELD_UNKNOWN", RIGHT, At::Line("  colour"), vec![Replace(RIGHT, "  seized:", "  colour: {zh: 颜色, en: Colour, class: public}\n  seized:")]),
        case("FIELD_NESTED", APPROVAL, At::Line("  dependents.idNo"), vec![Replace(APPROVAL, "  approvedOn:", "  dependents.idNo: {zh: 号码, en: Number, class: sensitive}\n  approvedOn:")]),
        case("FIELD_UNDESCRIBED", RIGHT_AVSC, At::Line("\"seized\""), vec![Replace(RIGHT, "  seized: ", "  #seized: ")]),
        case("FIELD_TEXT_MISSING", RIGHT, At::Line("  seized"), vec![Replace(RIGHT, "{zh: 是否查封, en: Seized", "{zh: \" \", en: Seized")]),
        case("SYMBOL_TEXT_MISSING", RIGHT, At::Line("    zh: 共有方式"), vec![Replace(RIGHT, "      JOINT: {zh: 共同共有, en: Joint}\n", "")]),
        case("SYMBOL_TEXT_MISSING", APPROVAL, At::Line("    zh: 随迁人员"), vec![Replace(APPROVAL, "      PARENT: {zh: 父母, en: Parent}\n", "")]),
        case("SYMBOL_UNKNOWN", RIGHT, At::Line("      LEASED"), vec![Replace(RIGHT, "      JOINT:", "      LEASED: {zh: 租赁, en: Leased}\n      JOINT:")]),
        case("SUBJECT_TYPE", RIGHT, At::Line("subject:"), vec![Replace(RIGHT, "subject: idNo", "subject: ownerNo")]),
        case("RECORD_TYPE", RIGHT, At::Line("record:"), vec![Replace(RIGHT, "record: [certificateNo, ownerNo]", "record: [share]")]),
        case("FIELD_UNKNOWN", RIGHT, At::Line("record:"), vec![Replace(RIGHT, "record: [certificateNo, ownerNo]", "record: [bdcqzh]")]),
        case("STREAM_DUPLICATE", RIGHT, At::Line("streams:"), vec![Replace(RIGHT, "streams: [right]", "streams: [right, right]")]),
        case("RETENTION_TOO_LONG", RIGHT, At::Line("retention:"), vec![Replace(RIGHT, "retention: 30d", "retention: 91d")]),
        case("SCHEMA_INCOMPATIBLE", "catalogue/realestate/right.v2.avsc", At::Line("\"area\""), vec![
            Copy(RIGHT, "catalogue/realestate/right.v2.yaml"),
            Copy(RIGHT_AVSC, "catalogue/realestate/right.v2.avsc"),
            Replace("catalogue/realestate/right.v2.avsc", "\"scale\": 2", "\"scale\": 3"),
        ]),
        case("SCHEMA_INCOMPATIBLE", "catalogue/realestate/right.v2.avsc", At::Line("\"status\""), vec![
            Copy(RIGHT, "catalogue/realestate/right.v2.yaml"),
            Copy(RIGHT_AVSC, "catalogue/realestate/right.v2.avsc"),
            Replace("catalogue/realestate/right.v2.avsc", "\"CURRENT\", \"HISTORIC\"", "\"CURRENT\", \"OLD\""),
            Replace("catalogue/realestate/right.v2.yaml", "HISTORIC", "OLD"),
        ]),
        case("SCHEMA_INCOMPATIBLE", "catalogue/realestate/right.v2.avsc", At::Line("\"floor\""), vec![
            Copy(RIGHT, "catalogue/realestate/right.v2.yaml"),
            Copy(RIGHT_AVSC, "catalogue/realestate/right.v2.avsc"),
            Replace("catalogue/realestate/right.v2.avsc", "    {\"name\": \"seized\"", "    {\"name\": \"floor\", \"type\": \"int\"},\n    {\"name\": \"seized\""),
            Replace("catalogue/realestate/right.v2.yaml", "  seized:", "  floor: {zh: 楼层, en: Floor, class: internal}\n  seized:"),
        ]),
        // schema ids
        case("SCHEMA_ID_MISSING", IDS, At::File, vec![Replace(SETTLEMENT, "fields: [idNo, type, status, monthsTotal, asOf]", "fields: [idNo, type, status, asOf]")]),
        case("SCHEMA_ID_DUPLICATE", IDS, At::Line("  - id: 1000\n    schema: {source: {dataset: hrss.talent"), vec![Replace(IDS, "id: 1001", "id: 1000")]),
        case("SCHEMA_ID_REUSED", IDS, At::Line("id: 1009"), vec![Replace(IDS, "  - id: 2000\n", "  - id: 1009\n    schema: {source: {dataset: realestate.right.v1}}\n    digest: aa92f61bf67eee7c87b65bba7857108aa69365933cd0e755a65e1b6fceb8420d\n  - id: 2000\n")]),
        case("SCHEMA_ID_ORDER", IDS, At::Line("id: 1003"), vec![Replace(IDS, "id: 1002", "id: 1009")]),
        case("SCHEMA_ID_RANGE", IDS, At::Line("id: 5001"), vec![Replace(IDS, "id: 1001", "id: 5001")]),
        case("SCHEMA_ID_UNKNOWN", IDS, At::Line("id: 2002"), vec![Replace(IDS, "fields: [idNo, type, status, monthsTotal, asOf]", "fields: [idNo, kind]")]),
        case("SCHEMA_ID_DIGEST", IDS, At::Line("digest: 31d524e369e8ad531710586a9619370f76b51ca452d5f63abf47ed4b6b5c54e3"), vec![Replace(IDS, "31d524e369e8ad531710586a9619370f76b51ca452d5f63abf47ed4b6b5c54e2", "31d524e369e8ad531710586a9619370f76b51ca452d5f63abf47ed4b6b5c54e3")]),
        case("DIGEST_MALFORMED", IDS, At::Line("digest: 31d5x"), vec![Replace(IDS, "31d524e369e8ad531710586a9619370f76b51ca452d5f63abf47ed4b6b5c54e2", "31d5x")]),
        // agreements
        case("AGREEMENT_PATH", "agreements/police/Talent.yaml", At::File, vec![Copy(STATUS, "agreements/police/Talent.yaml")]),
        case("DATASET_UNKNOWN", STATUS, At::Line("- dataset: police.passport.v1"), vec![Replace(STATUS, "- dataset: police.household.v1", "- dataset: police.passport.v1")]),
        case("DATASET_NOT_SHARED", SETTLEMENT, At::Line("- dataset: hrss.insurance.status.v1"), vec![
            Replace(INSURANCE, "sharing: conditional ", "sharing: not_shared "),
            Replace(INSURANCE, "  uses:", "  law: 社会保险法\n  uses:"),
        ]),
        case("SECTION_DUPLICATE", SETTLEMENT, At::Line("- dataset: realestate.right.v1 "), vec![Replace(SETTLEMENT, "cases:\n", "  - dataset: realestate.right.v1 # again\n    scope: case\n    fields: [idNo]\n    approval: {approver: a, date: 2026-01-21, document: b}\ncases:\n")]),
        case("SECTION_EMPTY", STATUS, At::Line("fields: []"), vec![Replace(STATUS, "fields: [change, movedOn, approvalId]", "fields: []")]),
        case("FIELD_UNKNOWN", STATUS, At::Line("fields: [change, colour]"), vec![Replace(STATUS, "fields: [change, movedOn, approvalId]", "fields: [change, colour]")]),
        case("FIELD_NESTED", SETTLEMENT, At::Line("dependents[].name"), vec![Replace(SETTLEMENT, "category, dependents,", "category, \"dependents[].name\",")]),
        case("FIELD_DUPLICATE", STATUS, At::Line("fields: [change, change]"), vec![Replace(STATUS, "fields: [change, movedOn, approvalId]", "fields: [change, change]")]),
        case("FIELD_NOT_ALLOWED", SETTLEMENT, At::Line("seized, mortgaged"), vec![Replace(SETTLEMENT, "seized, status]", "seized, mortgaged]")]),
        case("FIELD_NOT_ALLOWED", SETTLEMENT, At::Line("filter: status"), vec![Replace(APPROVAL, "    en: State\n    class: personal\n", "    en: State\n    class: personal\n    share: never\n")]),
        case("BASIS_NOT_ALLOWED", SETTLEMENT, At::Line("- dataset: realestate.right.v1"), vec![Replace(RIGHT, "bases: [statutory_duty, consent]", "bases: [consent]")]),
        case("WAY_NOT_ALLOWED", SETTLEMENT, At::Line("- dataset: realestate.right.v1"), vec![Replace(RIGHT, "ways: [service_interface]", "ways: [file_download]")]),
        case("FREQUENCY_ZERO", STATUS, At::Line("per_day: 0"), vec![Replace(STATUS, "per_day: 5000", "per_day: 0")]),
        case("TERM_INVALID", STATUS, At::Line("valid:"), vec![Replace(STATUS, "valid: {from: 2026-02-01, until: 2028-01-31}", "valid: {from: 2026-02-01, until: 2026-01-31}")]),
        case("TERM_PAST_APPLICATION", STATUS, At::Line("valid:"), vec![Replace(STATUS, "valid: {from: 2026-02-01, until: 2028-01-31}", "valid: {from: 2026-02-01, until: 2028-02-01}")]),
        case("TERM_PAST_DATASET", SETTLEMENT, At::Line("valid:"), vec![Replace(RIGHT, "until: 2028-12-31", "until: 2027-12-31")]),
        case("NOTICE_MISSING", STATUS, At::Line("kind: statutory_duty"), vec![
            Replace(STATUS, "notice:  ", "#notice:  "),
            Replace(STATUS, "  given:", "#  given:"),
            Replace(STATUS, "  text:\n    zh: 您", "#  text:\n#    zh: 您"),
            Replace(STATUS, "    en: Once", "#    en: Once"),
        ]),
        case("THIRD_PARTY_BASIS", SETTLEMENT, At::Line("kind: statutory_duty"), vec![Replace("departments/police.yaml", "kind: government", "kind: third_party")]),
        case("FILTER_MISSING", SETTLEMENT, At::Line("scope: matching"), vec![Replace(SETTLEMENT, "    filter: status == \"APPROVED\"\n", "")]),
        case("CASES_MISSING", STATUS, At::Line("scope: case"), vec![
            Replace(STATUS, "cases:\n  opens:\n    - dataset: hrss.talent.approval.v1\n      when: status == \"APPROVED\"\n      subjects: [idNo]\n      days: 365\n  closes:\n    # The bureau says itself when it needs to hear no more.\n    - dataset: hrss.talent.approval.v1\n      when: status in [\"USED\", \"REVOKED\"]\n", ""),
        ]),
        case("CASES_UNUSED", STATUS, At::Line("  opens:"), vec![Replace(STATUS, "scope: case", "scope: matching")]),
        case("CASES_NEVER_OPEN", STATUS, At::Top, vec![Replace(STATUS, "  opens:\n    - dataset: hrss.talent.approval.v1\n      when: status == \"APPROVED\"\n      subjects: [idNo]\n      days: 365\n", "")]),
        case("CASE_TOO_LONG", SETTLEMENT, At::Line("days: 181"), vec![Replace(SETTLEMENT, "days: 180", "days: 181")]),
        case("CASE_TOO_LONG", SETTLEMENT, At::Line("on_request"), vec![Replace(SETTLEMENT, "on_request: {days: 180}", "on_request: {days: 0}")]),
        case("CASE_FOREIGN_TRIGGER", STATUS, At::Line("- dataset: realestate.right.v1"), vec![Replace(STATUS, "    - dataset: hrss.talent.approval.v1\n      when: status == \"APPROVED\"", "    - dataset: realestate.right.v1\n      when: seized")]),
        case("SUBJECT_PATH", SETTLEMENT, At::Line("dependents[].age"), vec![Replace(SETTLEMENT, "dependents[].idNo", "dependents[].age")]),
        case("ANSWER_NAME", SETTLEMENT, At::Line("- name: region"), vec![Replace(SETTLEMENT, "- name: insured6of12", "- name: region")]),
        case("ANSWER_DUPLICATE", SETTLEMENT, At::Line("- name: insured6of12 "), vec![Replace(SETTLEMENT, "        expr: monthsLast12 >= 6\n", "        expr: monthsLast12 >= 6\n      - name: insured6of12 # again\n        version: 1\n        title: {zh: 甲, en: A}\n        expr: monthsLast12 >= 7\n")]),
        case("ANSWER_ORPHAN", SETTLEMENT, At::Line("expr: 1 < 2"), vec![Replace(SETTLEMENT, "expr: monthsLast12 >= 6", "expr: 1 < 2")]),
        case("EXPR_SYNTAX", SETTLEMENT, At::Line("filter:"), vec![Replace(SETTLEMENT, "filter: status == \"APPROVED\"", "filter: status == == 1")]),
        case("EXPR_UNKNOWN_FIELD", SETTLEMENT, At::Line("filter:"), vec![Replace(SETTLEMENT, "filter: status ==", "filter: state ==")]),
        case("EXPR_SYMBOL", SETTLEMENT, At::Line("filter:"), vec![Replace(SETTLEMENT, "filter: status == \"APPROVED\"", "filter: status == \"APPROVD\"")]),
        case("EXPR_TYPE", SETTLEMENT, At::Line("expr:"), vec![Replace(SETTLEMENT, "expr: monthsLast12 >= 6", "expr: monthsLast12 >= \"6\"")]),
        case("EXPR_NOT_ALLOWED", SETTLEMENT, At::Line("filter:"), vec![Replace(SETTLEMENT, "filter: status == \"APPROVED\"", "filter: dependents.exists(d, d.name == \"x\")")]),
        case("EXPR_UNKNOWN_FIELD", STATUS, At::Line("when: staus"), vec![Replace(STATUS, "when: status == \"APPROVED\"", "when: staus == \"APPROVED\"")]),
        // terms of consent
        case("CONSENT_MISSING", STATUS, At::Line("kind: consent"), vec![Replace(STATUS, "kind: statutory_duty", "kind: consent")]),
        case("CONSENT_UNEXPECTED", HELP, At::Line("  notice_version"), vec![Replace(HELP, "kind: consent  ", "kind: statutory_duty  ")]),
        case("CONSENT_SCOPE", HELP, At::Line("scope: matching"), vec![Replace(HELP, "scope: case", "scope: matching")]),
        case("CONSENT_CASES", HELP, At::Line("  on_request"), vec![Replace(HELP, "sections:\n", "cases:\n  on_request: {days: 30}\nsections:\n")]),
        case("CONSENT_NOTICE_VERSION", HELP, At::Line("notice_version: 0"), vec![Replace(HELP, "notice_version: 1", "notice_version: 0")]),
        case("CONSENT_TOO_LONG", HELP, At::Line("max: 1096d"), vec![Replace(HELP, "max: 365d", "max: 1096d")]),
        case("DURATION_INVALID", HELP, At::Line("max: a year"), vec![Replace(HELP, "max: 365d", "max: a year")]),
        case("VALUE_EMPTY", HELP, At::Line("withdrawal:"), vec![Replace(HELP, "  withdrawal:\n    zh:", "  withdrawal: {zh: \"\", en: Anywhere}\n  #   zh:"), Replace(HELP, "    en: In the citizen", "  #   en: In the citizen")]),
        case("CONSENT_MINOR_AGE", HELP, At::Line("minor_age: 13"), vec![Replace(HELP, "minor_age: 14", "minor_age: 13")]),
        case("FIELD_DUPLICATE", HELP, At::Line("representation:"), vec![Replace(HELP, "[guardian, agent]", "[agent, agent]")]),
        case("YAML_BAD_VALUE", HELP, At::Line("representation:"), vec![Replace(HELP, "[guardian, agent]", "[friend]")]),
        // agreement status
        case("AGREEMENT_UNKNOWN", STOPPED, At::Line("union/other"), vec![Write(STOPPED, "agreements:\n  union/retirement-help: {state: suspended, since: 2026-11-26, reason: {zh: 甲, en: a}, by: A1}\n  union/other: {state: suspended, since: 2026-11-26, reason: {zh: 甲, en: a}, by: A1}\n")]),
        case("DATE_INVALID", STOPPED, At::Line("since"), vec![Write(STOPPED, "agreements:\n  union/retirement-help: {state: terminated, since: 2026-11-31, reason: {zh: 甲, en: a}, by: A1}\n")]),
        case("VALUE_EMPTY", STOPPED, At::Line("union/retirement-help"), vec![Write(STOPPED, "agreements:\n  union/retirement-help: {state: terminated, since: 2026-11-26, reason: {zh: 甲, en: a}, by: \" \"}\n")]),
        case("YAML_BAD_VALUE", STOPPED, At::Line("state: paused"), vec![Write(STOPPED, "agreements:\n  union/retirement-help: {state: paused, since: 2026-11-26, reason: {zh: 甲, en: a}, by: A1}\n")]),
        case("YAML_UNKNOWN_KEY", STOPPED, At::Line("until"), vec![Write(STOPPED, "agreements:\n  union/retirement-help: {state: suspended, until: 2026-11-26, since: 2026-11-26, reason: {zh: 甲, en: a}, by: A1}\n")]),
        // items
        case("AGREEMENT_UNKNOWN", ITEM, At::Line("purpose:"), vec![Replace(ITEM, "purpose: talent-settlement", "purpose: passports")]),
        case("FACT_DUPLICATE", ITEM, At::Line("- name: property "), vec![Replace(ITEM, "- name: household", "- name: property # again")]),
        case("FACT_NOT_AGREED", ITEM, At::Line("dataset: police.appointment.v1"), vec![Replace(ITEM, "dataset: police.household.v1", "dataset: police.appointment.v1")]),
        case("EXPR_UNKNOWN_FIELD", ITEM, At::Line("where: status == \"INSURED\" && employerName"), vec![Replace(ITEM, "where: status == \"INSURED\"", "where: status == \"INSURED\" && employerName == \"x\"")]),
        case("EXPR_SYMBOL", ITEM, At::Line("\"abroad\""), vec![Replace(ITEM, "approval.state == \"none\"", "approval.state == \"abroad\"")]),
        case("EXPR_UNKNOWN_FIELD", ITEM, At::Line("property.location"), vec![Replace(ITEM, "property.state == \"none\"", "property.location == \"none\"")]),
        case("OUTCOME_NO_DEFAULT", ITEM, At::Line("kind: same_visit"), vec![Replace(ITEM, "when: \"true\"", "when: approval.count > 0")]),
        case("WORKING_DAYS", ITEM, At::Line("working_days: 1001"), vec![Replace(ITEM, "working_days: 5", "working_days: 1001")]),
        case("REASON_UNKNOWN", ITEM, At::Line("SETTLEMENT_MAYBE"), vec![Replace(ITEM, "SETTLEMENT_SAME_VISIT", "SETTLEMENT_MAYBE")]),
        // reasons and calendar
        case("REASON_TEXT_MISSING", REASONS, At::Line("ID_CHECK"), vec![Replace(REASONS, "ID_CHECK: {zh: \"身份号码的校验码不符\", ", "ID_CHECK: {")]),
        case("REASON_TEXT_MISSING", REASONS, At::Line("ID_EMPTY"), vec![Replace(REASONS, "en: \"There is no identity number.\"", "en: \" \"")]),
        case("REASON_BAD_CODE", REASONS, At::Line("id-check"), vec![Replace(REASONS, "ID_CHECK:", "id-check: {zh: \"甲\", en: \"a\"}\nID_CHECK:")]),
        case("REASON_UNKNOWN", REASONS, At::File, vec![Replace(REASONS, "ID_CHECK:", "ID_CHEK:")]),
        case("HOLIDAY_INVALID", CALENDAR, At::Line("2026-11-07"), vec![Replace(CALENDAR, "to: 2026-10-07", "to: 2026-11-07")]),
        case("MAKE_UP_DAY_INVALID", CALENDAR, At::Line("2026-10-09"), vec![Replace(CALENDAR, "2026-10-10]", "2026-10-09]")]),
    ];
    for attribute in ["title", "provider", "format", "update_frequency", "sharing", "ways"] {
        let line = Box::leak(format!("\n{attribute}: ").into_boxed_str());
        let comment = Box::leak(format!("\n#{attribute}: ").into_boxed_str());
        cases.push(case("ATTRIBUTE_MISSING", INSURANCE, At::Top, vec![Replace(INSURANCE, line, comment)]));
    }
    cases
}

fn plant(tree: &Tree, plants: &[Plant]) {
    for plant in plants {
        match plant {
            Replace(file, from, to) => tree.replace(file, from, to),
            Write(file, text) => tree.write(file, text),
            Copy(from, to) => tree.write(to, &tree.read(from)),
            Remove(file) => tree.remove(file),
        }
    }
}

/// What is wrong with the finding; `None` when it is right.
fn missed_by(tree: &Tree, case: &Case) -> Option<String> {
    let expected = match case.at {
        At::Line(needle) => tree.line(case.file, needle),
        At::Top => 1,
        At::File => 0,
    };
    let report = lint(tree.root(), Mode::Draft, Lang::En);
    let found = report
        .faults
        .iter()
        .any(|fault| fault.code == case.code && fault.file == case.file && fault.line == expected);
    if !found {
        return Some(format!(
            "{} not at {}:{expected}; found\n{}",
            case.code,
            case.file,
            report.lines.join("\n")
        ));
    }
    let zh = lint(tree.root(), Mode::Draft, Lang::Zh).lines;
    let gap = report
        .lines
        .iter()
        .chain(&zh)
        .find(|line| line.contains("{field}") || line.contains("{detail}"));
    if let Some(gap) = gap {
        return Some(format!("a gap in: {gap}"));
    }
    // One mistake is one or two faults, not a page of them.
    (report.faults.len() > 6).then(|| format!("{} drowns:\n{}", case.code, report.lines.join("\n")))
}

#[test]
fn the_repository_is_without_fault() {
    let report = lint(&tree::repository(), Mode::Draft, Lang::En);
    assert!(report.ok(), "{}", report.lines.join("\n"));
}

#[test]
fn each_planted_fault_is_found_where_it_is() {
    let mut missed = Vec::new();
    for case in cases() {
        let tree = Tree::copy();
        plant(&tree, &case.plants);
        missed.extend(missed_by(&tree, &case));
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

#[test]
fn each_of_the_nine_attributes_is_asked_for() {
    let tree = Tree::copy();
    let text = tree.read(APPOINTMENT);
    let mut kept: Vec<&str> = Vec::new();
    let mut skipping = false;
    for line in text.lines() {
        let key = line.split(':').next().unwrap_or_default();
        if !line.starts_with([' ', '#']) && !line.is_empty() {
            skipping = [
                "title",
                "fields",
                "provider",
                "format",
                "update_frequency",
                "sharing",
                "ways",
                "conditions",
                "classification",
            ]
            .contains(&key);
        }
        if !skipping {
            kept.push(line);
        }
    }
    tree.write(APPOINTMENT, &kept.join("\n"));
    let report = lint(tree.root(), Mode::Draft, Lang::Zh);
    let missing: Vec<_> = report
        .faults
        .iter()
        .filter(|f| f.code == "ATTRIBUTE_MISSING")
        .map(|f| f.field.as_str())
        .collect();
    assert_eq!(
        missing,
        [
            "classification",
            "conditions",
            "fields",
            "format",
            "provider",
            "sharing",
            "title",
            "update_frequency",
            "ways"
        ]
    );
    assert!(report.lines.iter().any(|line| line.contains("更新频率")));
}

/// A code without a test is a code that may never come.
#[test]
fn every_code_is_planted_somewhere() {
    let source = concat!(include_str!("faults.rs"), include_str!("trust.rs"));
    let elsewhere: BTreeSet<&str> = codes::ALL
        .iter()
        .copied()
        // Shown by others than lint: identity numbers and rules at run time.
        // … and what a new version changes, in versions.rs.
        .filter(|code| {
            ["ID_", "RULE_", "DIFF_"]
                .iter()
                .any(|kind| code.starts_with(kind))
        })
        // Needs an unreadable file or more files than a test should make.
        .chain(["FILE_UNREADABLE", "CONTRACT_TOO_LARGE", "PROJECTION_FAILED"])
        .collect();
    let untested: Vec<_> = codes::ALL
        .iter()
        .filter(|code| !elsewhere.contains(*code) && !source.contains(&format!("\"{code}\"")))
        .collect();
    assert!(untested.is_empty(), "{untested:?}");
}

/// The list of codes is what the sources use.
#[test]
fn the_list_of_codes_is_complete() {
    let mut used = BTreeSet::new();
    let mut folders = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("codes.rs") && !path.ends_with("tests.rs") {
                for part in std::fs::read_to_string(&path)
                    .unwrap()
                    .split('"')
                    .skip(1)
                    .step_by(1)
                {
                    let shape = part.contains('_')
                        && part
                            .bytes()
                            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
                    if shape && part.starts_with(|c: char| c.is_ascii_uppercase()) {
                        used.insert(part.to_owned());
                    }
                }
            }
        }
    }
    let listed: BTreeSet<String> = codes::ALL.iter().map(|&code| code.to_owned()).collect();
    assert_eq!(used, listed);
    assert!(codes::ALL.is_sorted());
}

/// The catalogue owner's page explains every code that lint can show.
#[test]
fn every_code_is_explained() {
    let page = std::fs::read_to_string(tree::repository().join("../docs/contract.md")).unwrap();
    let missing: Vec<_> = codes::ALL
        .iter()
        .filter(|code| !page.contains(&format!("| `{code}` |")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
