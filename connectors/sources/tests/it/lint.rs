//! What is wrong with a mapping is told with file, line and field, all of it at once.

use mz_contract::{Lang, Reasons};
use mz_sources::mapping;
use std::path::Path;

fn faults(text: &str) -> Vec<(u32, &'static str, String)> {
    match mapping::parse(text, Path::new("m.yaml"), crate::support::contract()) {
        Ok(_) => Vec::new(),
        Err(faults) => faults
            .into_iter()
            .map(|fault| {
                let line = Reasons::built_in().render_fault(&fault, Lang::Zh);
                assert!(
                    line.starts_with(&format!("m.yaml:{}:", fault.line)),
                    "{line}"
                );
                assert!(
                    !line.contains("{field}") && !line.contains("{detail}"),
                    "{line}"
                );
                (fault.line, fault.code, fault.field)
            })
            .collect(),
    }
}

const GOOD: &str = "department: hrss
stream: insurance
input: {csv: {encoding: gb18030}}
tables:
  type: {'110': PENSION}
events:
  - dataset: hrss.insurance.status.v1
    fields:
      idNo: {column: a}
      name: {column: b, as: name}
      type: {column: c, table: type}
      status: {const: INSURED}
      firstInsured: {column: d, dates: [yyyyMMdd]}
      monthsTotal: {column: e}
      monthsLast12: {column: f, default: '0'}
      arrearsMonths: {const: '0'}
      region: {column: g, as: code}
      asOf: {column: h}
";

#[test]
fn the_good_mapping_has_no_fault() {
    assert_eq!(faults(GOOD), []);
}

#[test]
fn each_fault_is_named_with_its_line() {
    for (from, to, line, code) in [
        (
            "idNo: {column: a}",
            "idNr: {column: a}",
            9,
            "MAP_UNKNOWN_FIELD",
        ),
        (
            "      region: {column: g, as: code}\n",
            "",
            7,
            "MAP_FIELD_MISSING",
        ),
        (
            "idNo: {column: a}",
            "idNo: {column: a, const: x}",
            9,
            "MAP_ONE_SOURCE",
        ),
        ("idNo: {column: a}", "idNo: {}", 9, "MAP_ONE_SOURCE"),
        (
            "idNo: {column: a}",
            "idNo: {const: 11010519491231002X}",
            9,
            "MAP_CONSTANT_SUBJECT",
        ),
        (
            "idNo: {column: a}",
            "idNo: {column: a, as: text}",
            9,
            "MAP_KEY_UNFIT",
        ),
        ("as: name", "as: nome", 10, "YAML_BAD_VALUE"),
        ("as: name", "ass: name", 10, "YAML_UNKNOWN_KEY"),
        ("table: type", "table: kind", 11, "MAP_UNKNOWN_TABLE"),
        ("'110': PENSION", "'110': PENSIONS", 5, "MAP_TABLE_TARGET"),
        (
            "'110': PENSION",
            "'110': PENSION, '１１０': MEDICAL",
            5,
            "MAP_TABLE_TWICE",
        ),
        ("const: INSURED", "const: insured", 12, "MAP_BAD_CONST"),
        (
            "const: INSURED",
            "const: INSURED, table: type",
            12,
            "MAP_KEY_UNFIT",
        ),
        (
            "dates: [yyyyMMdd]",
            "dates: [yyyyMd]",
            13,
            "MAP_DATE_PATTERN",
        ),
        ("dates: [yyyyMMdd]", "yes: [x]", 13, "MAP_KEY_UNFIT"),
        ("default: '0'", "default: none", 15, "MAP_BAD_DEFAULT"),
        ("encoding: gb18030", "encoding: latin9", 3, "MAP_ENCODING"),
        (
            "encoding: gb18030",
            "encoding: gb18030, delimiter: '|'",
            3,
            "MAP_DELIMITER",
        ),
        (
            "encoding: gb18030",
            "encoding: gb18030, header: 0",
            3,
            "MAP_BAD_VALUE",
        ),
        (
            "stream: insurance",
            "stream: insurances",
            2,
            "MAP_FOREIGN_STREAM",
        ),
        (
            "department: hrss",
            "department: police",
            7,
            "MAP_FOREIGN_DATASET",
        ),
        (
            "hrss.insurance.status.v1",
            "hrss.insurance.status.v9",
            7,
            "MAP_UNKNOWN_DATASET",
        ),
        (
            "idNo: {column: a}",
            "idNo: {column: '{x}'}",
            9,
            "MAP_SPLIT_NAME",
        ),
        ("idNo: {column: a}", "idNo: {join: x}", 9, "MAP_NOT_A_LIST"),
        (
            "    fields:\n",
            "    when: [{column: a}]\n    fields:\n",
            8,
            "MAP_CONDITION",
        ),
        ("tables:", "utc_offset: 8\ntables:", 4, "MAP_BAD_VALUE"),
        (
            "idNo: {column: a}",
            "idNo: &a {column: a}",
            9,
            "YAML_TOO_LARGE",
        ),
        (
            "stream: insurance",
            "stream: insurance\nstream: x",
            3,
            "YAML_DUPLICATE_KEY",
        ),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let found = faults(&GOOD.replace(from, to));
        assert!(
            found
                .iter()
                .any(|(at, told, _)| (*at, *told) == (line, code)),
            "{to}: {found:?}"
        );
    }
    // All at once, in reading order.
    let many = GOOD
        .replace("const: INSURED", "const: x")
        .replace("table: type", "table: y")
        .replace("latin", "z");
    assert_eq!(
        faults(&many)
            .iter()
            .map(|fault| fault.0)
            .collect::<Vec<_>>(),
        [11, 12]
    );
}

#[test]
fn hostile_mappings_are_answered() {
    for text in [
        "",
        "{",
        "- 1",
        "department: [",
        &"a: ".repeat(100_000),
        &"[".repeat(100_000),
        &format!("department: {}", "x".repeat(900_000)),
        "department: &a [*a]",
    ] {
        assert!(!faults(text).is_empty());
    }
}
