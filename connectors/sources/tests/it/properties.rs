//! Whatever bytes a file holds, reading it ends, and what comes out fits its schema.

use crate::support::{All, contract, parse, read, register, shipped};
use mz_contract::IdNumber;
use mz_seal::Datum;
use proptest::prelude::*;
use std::path::Path;

/// Each event encodes under its schema, and its person is a number in normal form.
fn assert_fit(all: &All) {
    for event in &all.events {
        let dataset = contract().dataset(&event.dataset).unwrap();
        let datum = mz_seal::encode(&dataset.layout, &event.fields).unwrap();
        let mut spans = Vec::new();
        dataset.layout.spans(&datum, &mut spans).unwrap();
        let Datum::Str(id) = &event.fields[dataset.subject_field] else {
            panic!()
        };
        assert_eq!(IdNumber::parse(id).unwrap().as_str(), id);
    }
}

fn of_bytes(mapping: &str, bytes: &[u8]) -> All {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    read(&mut register(shipped(mapping), Path::new(&path)))
}

const HEADER: &str = "证件号码,姓名,险种,参保状态,首次参保日期,本次参保日期,累计缴费月数,近12月缴费月数,单位统一社会信用代码,单位名称,欠费月数,缴费基数,参保地区划,数据截至日期\r\n";

/// Cells that are nearly right.
fn cell() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("11010519491231002X".to_owned()),
        2 => Just("１１０１０５１９４９１２３１００２ｘ".to_owned()),
        1 => Just("11010519491231002x\u{3000}".to_owned()),
        4 => Just("王小明".to_owned()),
        4 => Just("110".to_owned()),
        4 => Just("1".to_owned()),
        4 => Just("20190301".to_owned()),
        1 => Just("20190230".to_owned()),
        1 => Just(String::new()),
        1 => Just("\"".to_owned()),
        1 => "[^\r\n\"]{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn rows_that_are_nearly_right(rows in prop::collection::vec(prop::collection::vec(cell(), 12..16), 0..12)) {
        let mut text = HEADER.to_owned();
        for row in &rows {
            text.push_str(&row.join(","));
            text.push_str("\r\n");
        }
        let all = of_bytes("hrss-insurance.yaml", &encoding_rs::GB18030.encode(&text).0);
        assert_fit(&all);
        prop_assert!(all.end.as_ref().is_some_and(Result::is_ok));
    }

    #[test]
    fn any_bytes_behind_a_header(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut file = encoding_rs::GB18030.encode(HEADER).0.into_owned();
        file.extend(&bytes);
        assert_fit(&of_bytes("hrss-insurance.yaml", &file));
        assert_fit(&of_bytes("hrss-insurance.yaml", &bytes));
        assert_fit(&of_bytes("police-household.yaml", &bytes));
    }

    #[test]
    fn any_json_lines(lines in prop::collection::vec("\\{\"(gmsfhm|xm|sxry|csrq)\":[\\[\\]\\{\\}\",:0-9a-z]{0,20}\\}?", 0..8)) {
        assert_fit(&of_bytes("police-appointment.yaml", lines.join("\n").as_bytes()));
    }

    /// The spellings of one number are one record; spelling never changes what is published.
    #[test]
    fn spelling_does_not_matter(wide in any::<bool>(), lower in any::<bool>(), before in "[ \u{3000}\u{feff}]{0,3}", after in "[ \u{3000}\u{200b}]{0,3}") {
        let mut id = "11010519491231002X".to_owned();
        if lower {
            id = id.to_lowercase();
        }
        if wide {
            id = id.chars().map(|c| char::from_u32(u32::from(c) + 0xfee0).unwrap()).collect();
        }
        let mapping = "department: police
stream: household
input: {csv: {encoding: utf-8}}
events:
  - dataset: police.household.v1
    fields:
      changeId: {column: no, as: code}
      idNo: {column: id}
      name: {const: 王小明}
      birthDate: {const: 1990-05-31}
      householdNo: {const: '1'}
      relation: {const: HEAD}
      address: {const: 东城}
      region: {const: '441900'}
      change: {const: MOVED_IN}
      movedOn: {const: 2026-11-20}
";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, format!("no,id\n１２,{before}{id}{after}\n")).unwrap();
        let all = read(&mut register(parse(mapping), &path));
        prop_assert_eq!(all.events.len(), 1, "{:?}", all.codes());
        prop_assert_eq!(&all.events[0].fields[0], &Datum::Str("12".into()));
        prop_assert_eq!(&all.events[0].fields[1], &Datum::Str("11010519491231002X".into()));
    }
}
