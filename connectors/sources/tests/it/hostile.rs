//! Bad input of every kind: each has its own reason code, nothing crashes, good rows flow.

use crate::support::{All, parse, read, register, shipped};
use rust_xlsxwriter::{Formula, Workbook};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zip::write::SimpleFileOptions;

const GOOD: [&str; 2] = ["11010519491231002X", "440524188001010014"];

/// A mapping of the household register onto a file of any kind.
fn household(input: &str) -> String {
    format!(
        "department: police
stream: household
input: {input}
events:
  - dataset: police.household.v1
    fields:
      changeId: {{column: no, as: code}}
      idNo: {{column: id}}
      name: {{column: name, as: name}}
      birthDate: {{column: born}}
      householdNo: {{const: '1'}}
      relation: {{const: HEAD}}
      address: {{column: address}}
      region: {{const: '441900'}}
      change: {{const: MOVED_IN}}
      movedOn: {{const: 2026-11-20}}
"
    )
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn csv(&self, input: &str, bytes: impl AsRef<[u8]>) -> All {
        let path = self.write("test.csv", bytes);
        read(&mut register(parse(&household(input)), &path))
    }

    fn ndjson(&self, bytes: impl AsRef<[u8]>) -> All {
        let path = self.write("test.ndjson", bytes);
        read(&mut register(parse(&household("{ndjson: {}}")), &path))
    }
}

const UTF8: &str = "{csv: {encoding: utf-8}}";
const HEADER: &str = "no,id,name,born,address\n";

fn row(no: u32, id: &str) -> String {
    format!("{no},{id},王小明,1990-05-31,东城\n")
}

#[test]
fn empty_and_truncated_files() {
    let folder = Folder::new();
    assert_eq!(folder.csv(UTF8, "").refused(), "INPUT_EMPTY");
    assert_eq!(folder.ndjson("").refused(), "INPUT_EMPTY");
    let missing = read(&mut register(
        parse(&household(UTF8)),
        Path::new("/nowhere/at/all.csv"),
    ));
    assert_eq!(missing.refused(), "INPUT_MISSING");
    let device = read(&mut register(
        parse(&household(UTF8)),
        Path::new("/dev/zero"),
    ));
    assert_eq!(device.refused(), "INPUT_NOT_REGULAR");

    // Only a header: a register without records, and complete.
    let all = folder.csv(UTF8, HEADER);
    assert!(all.complete() && all.events.is_empty() && all.rejects.is_empty());
    assert_eq!(
        folder
            .csv("{csv: {encoding: utf-8, header: 3}}", HEADER)
            .refused(),
        "HEADER_ROW_ABSENT"
    );

    // Cut in the middle of a row: the whole rows flow, nothing is concluded from what is missing.
    let all = folder.csv(UTF8, format!("{HEADER}{}2,4405241", row(1, GOOD[0])));
    assert_eq!(
        (all.events.len(), all.codes(), all.complete()),
        (1, vec![(3, "INPUT_TRUNCATED")], false)
    );
    let line = format!(
        "{{\"no\":\"1\",\"id\":\"{}\",\"name\":\"王\",\"born\":\"1990-05-31\",\"address\":\"x\"}}\n",
        GOOD[0]
    );
    let all = folder.ndjson(format!("{line}{}", &line[..30]));
    assert_eq!(
        (all.events.len(), all.codes(), all.complete()),
        (1, vec![(2, "INPUT_TRUNCATED")], false)
    );
    let all = folder.csv(
        UTF8,
        format!(
            "{HEADER}{}2,{},王,1990-05-31,\"half a ce",
            row(1, GOOD[0]),
            GOOD[1]
        ),
    );
    assert_eq!(
        (all.events.len(), all.codes(), all.complete()),
        (1, vec![(3, "INPUT_TRUNCATED")], false)
    );
    // A last row without a line end is a row.
    assert_eq!(
        folder
            .csv(UTF8, format!("{HEADER}{}", row(1, GOOD[0]).trim_end()))
            .events
            .len(),
        1
    );
}

#[test]
fn encodings() {
    let folder = Folder::new();
    let text = format!("{HEADER}{}", row(1, GOOD[0]));
    let gb = encoding_rs::GB18030.encode(&text).0.into_owned();
    let gb18030 = "{csv: {encoding: gb18030}}";
    assert_eq!(folder.csv(gb18030, &gb).events.len(), 1);
    assert_eq!(folder.csv("{csv: {encoding: gbk}}", &gb).events.len(), 1);
    assert_eq!(
        folder
            .csv(UTF8, [b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat())
            .events
            .len(),
        1
    );
    let utf16: Vec<u8> = [0xfeff]
        .into_iter()
        .chain(text.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(
        folder.csv("{csv: {encoding: utf-16}}", &utf16).events.len(),
        1
    );
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(
        folder
            .csv("{csv: {encoding: utf-16be}}", &utf16)
            .events
            .len(),
        1
    );

    // Another encoding than the mapping says: by its mark, by its header, by its rows.
    assert_eq!(
        folder
            .csv(
                gb18030,
                [b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat()
            )
            .refused(),
        "INPUT_ENCODING"
    );
    let chinese = household(UTF8).replace("column: no,", "column: 编号,");
    let path = folder.write(
        "gb.csv",
        encoding_rs::GB18030.encode(&text.replace("no,", "编号,")).0,
    );
    assert_eq!(
        read(&mut register(parse(&chinese), &path)).refused(),
        "INPUT_ENCODING"
    );
    let all = folder.csv(UTF8, &gb);
    assert_eq!(all.codes(), [(2, "CELL_ENCODING"), (2, "CELL_ENCODING")]);

    // One broken character spoils one row; half a character before a comma does not eat the comma.
    let mut broken = format!("{HEADER}{}", row(1, GOOD[0])).into_bytes();
    broken.extend(b"2,440524188001010014,\xe7\x8e,1990-05-31,x\n");
    broken.extend(row(3, GOOD[1]).bytes());
    let all = folder.csv(UTF8, broken);
    assert_eq!(
        (all.events.len(), all.codes()),
        (2, vec![(3, "CELL_ENCODING")])
    );
    let all = folder.csv(
        UTF8,
        format!("{HEADER}1,{},王\u{fffd}明,1990-05-31,x\n", GOOD[0]),
    );
    assert_eq!(all.codes(), [(2, "CELL_MOJIBAKE")]);
    let all = folder.csv(
        UTF8,
        format!("{HEADER}1,{},電子社??,1990-05-31,x\n", GOOD[0]),
    );
    assert_eq!(all.codes(), [(2, "NAME_CHARACTER")]);
}

#[test]
fn rows_that_are_no_rows() {
    let folder = Folder::new();
    let good = row(9, GOOD[1]);
    for (bad, code) in [
        ("1,x\n".to_owned(), "ROW_COLUMNS"),
        (format!("1,{},王,1990-05-31,x,y\n", GOOD[0]), "ROW_COLUMNS"),
        (format!("1,{},王,1990-05-31,a\0b\n", GOOD[0]), "CELL_NUL"),
        (
            format!("1,{},王,1990-05-31,a\u{1b}b\n", GOOD[0]),
            "CELL_CONTROL",
        ),
        (
            format!("1,{},王,1990-02-30,x\n", GOOD[0]),
            "DATE_IMPOSSIBLE",
        ),
        (format!("1,{},王,31.5.1990,x\n", GOOD[0]), "DATE_PATTERN"),
        (
            "1,110105194912310021,王,1990-05-31,x\n".to_owned(),
            "ID_CHECK",
        ),
        (
            "1,110105491231002,王,1990-05-31,x\n".to_owned(),
            "ID_OLD_FORM",
        ),
        (
            "1,11010519491331002X,王,1990-05-31,x\n".to_owned(),
            "ID_BIRTH_DATE",
        ),
        ("1,,王,1990-05-31,x\n".to_owned(), "ID_EMPTY"),
        (format!("1,{},,1990-05-31,x\n", GOOD[0]), "FIELD_EMPTY"),
        (
            format!("1,{},王,1990-05-31,{}\n", GOOD[0], "x".repeat(2_000_000)),
            "CELL_TOO_LARGE",
        ),
        (
            format!("1,{},王,1990-05-31,{}\n", GOOD[0], "x".repeat(10_000_000)),
            "ROW_TOO_LARGE",
        ),
        (
            format!("1,{},王,1990-05-31,\"never closed\n", GOOD[0]),
            "CSV_QUOTE_OPEN",
        ),
    ] {
        let all = folder.csv(UTF8, format!("{HEADER}{good}{bad}{good}{good}"));
        assert_eq!(all.codes(), [(3, code)], "{code}");
        assert_eq!(all.events.len(), 3, "{code}");
        // Told with the start of the row, never the whole of a huge one.
        assert!(
            all.rejects[0]
                .values
                .iter()
                .all(|(_, value)| value.len() < 2_100_000)
        );
    }
    // A quote that is closed lines later swallowed good rows: they come back.
    let swallow = format!(
        "{HEADER}1,{},王,1990-05-31,\"open\n{good}{good}2,x,\"王\",1990-05-31,closed\n{good}",
        GOOD[0]
    );
    let all = folder.csv(UTF8, swallow);
    assert_eq!(all.events.len(), 3, "{:?}", all.codes());
    // Quoted line ends and separators that are meant.
    let all = folder.csv(
        UTF8,
        format!("{HEADER}1,{},王,1990-05-31,\"a,\"\"b\"\"\nc\"\n", GOOD[0]),
    );
    assert_eq!((all.events.len(), all.rejects.len()), (1, 0));
    // A file of nothing but open quotes ends, and soon.
    let start = Instant::now();
    let quotes = format!("{HEADER}{}", "\"x\n".repeat(300_000));
    let all = folder.csv(UTF8, quotes);
    assert_eq!(all.events.len(), 0);
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn headers_that_can_not_be_trusted() {
    let folder = Folder::new();
    assert_eq!(
        folder.csv(UTF8, "no,id,name,born,address,name\n").refused(),
        "COLUMN_DUPLICATE"
    );
    assert_eq!(
        folder.csv(UTF8, "no,id,name,born\n").refused(),
        "COLUMN_MISSING"
    );
    // Title rows above the header, of any width.
    let all = folder.csv(
        "{csv: {encoding: utf-8, header: 3}}",
        format!("title\n\n{HEADER}{}", row(1, GOOD[0])),
    );
    assert_eq!((all.events.len(), all.events[0].row), (1, 4));
    assert_eq!(
        folder
            .csv(
                "{csv: {encoding: utf-8, delimiter: ';'}}",
                HEADER.replace(',', ";") + &row(1, GOOD[0]).replace(',', ";")
            )
            .events
            .len(),
        1
    );
}

#[test]
fn lines_that_are_no_objects() {
    let folder = Folder::new();
    let good = format!(
        "{{\"no\":\"1\",\"id\":\"{}\",\"name\":\"王\",\"born\":\"1990-05-31\",\"address\":\"x\"}}\n",
        GOOD[0]
    );
    for (bad, code) in [
        ("{\"no\": }\n".to_owned(), "JSON_SYNTAX"),
        ("[1,2]\n".to_owned(), "JSON_NOT_OBJECT"),
        ("17\n".to_owned(), "JSON_NOT_OBJECT"),
        (
            good.replace("\"no\":\"1\"", "\"no\":\"1\",\"no\":\"2\""),
            "JSON_DUPLICATE_KEY",
        ),
        (format!("{{\"a\":{}\n", "[".repeat(100_000)), "JSON_SYNTAX"),
        (
            format!("{{\"no\":\"{}\"}}\n", "x".repeat(5_000_000)),
            "ROW_TOO_LARGE",
        ),
        (
            good.replace("\"x\"", &format!("\"{}\"", "x".repeat(2_000_000))),
            "CELL_TOO_LARGE",
        ),
        (
            good.replace(&format!("\"{}\"", GOOD[0]), "440524188001010014"),
            "",
        ),
        (
            good.replace(&format!("\"{}\"", GOOD[0]), "4.40524188001010014e17"),
            "NUMBER_IMPRECISE",
        ),
        (
            good.replace("\"x\"", "{\"street\":\"x\"}"),
            "CELL_IS_NESTED",
        ),
        (good.replace("\"x\"", "\"a\\u0000b\""), "CELL_NUL"),
    ] {
        let all = folder.ndjson(format!("{good}{bad}{good}"));
        let codes: Vec<_> = all.codes();
        if code.is_empty() {
            assert!(codes.is_empty(), "{codes:?}");
        } else {
            assert_eq!(codes, [(2, code)], "{code}");
            assert_eq!(all.events.len(), 2, "{code}");
        }
    }
    let all = folder.ndjson([good.as_bytes(), b"{\"no\":\"\xff\"}\n", good.as_bytes()].concat());
    assert_eq!(
        (all.codes(), all.events.len()),
        (vec![(2, "CELL_ENCODING")], 2)
    );
}

// ---- workbooks

const SHEET: &str = "{xlsx: {sheet: Data}}";

fn book(change: impl FnOnce(&mut rust_xlsxwriter::Worksheet)) -> Vec<u8> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.set_name("Data").unwrap();
    for (column, name) in ["no", "id", "name", "born", "address"].iter().enumerate() {
        sheet.write(0, column as u16, *name).unwrap();
    }
    for line in 1..=3 {
        for (column, text) in [&line.to_string(), GOOD[1], "王小明", "1990-05-31", "东城"]
            .iter()
            .enumerate()
        {
            sheet.write(line, column as u16, *text).unwrap();
        }
    }
    change(sheet);
    book.save_to_buffer().unwrap()
}

fn xlsx(input: &str, bytes: &[u8]) -> All {
    let folder = Folder::new();
    let path = folder.write("test.xlsx", bytes);
    read(&mut register(parse(&household(input)), &path))
}

#[test]
fn workbooks_with_strange_cells() {
    assert_eq!(xlsx(SHEET, &book(|_| {})).events.len(), 3);
    assert_eq!(xlsx("{xlsx: {sheet: '#1'}}", &book(|_| {})).events.len(), 3);
    assert_eq!(
        xlsx("{xlsx: {sheet: Other}}", &book(|_| {})).refused(),
        "SHEET_MISSING"
    );
    assert_eq!(
        xlsx("{xlsx: {sheet: Data, header: 9}}", &book(|_| {})).refused(),
        "HEADER_ROW_ABSENT"
    );
    let duplicate = book(|sheet| {
        sheet.write(0, 5, "name").unwrap();
    });
    assert_eq!(xlsx(SHEET, &duplicate).refused(), "COLUMN_DUPLICATE");

    let formula = book(|sheet| {
        sheet
            .write_formula(2, 4, Formula::new("=\"东\"&\"城\"").set_result("东城"))
            .unwrap();
    });
    let all = xlsx(SHEET, &formula);
    assert_eq!(
        (all.codes(), all.events.len()),
        (vec![(3, "CELL_FORMULA")], 2)
    );
    let all = xlsx("{xlsx: {sheet: Data, formulas: cached}}", &formula);
    assert_eq!((all.codes(), all.events.len()), (vec![], 3));
    let error = book(|sheet| {
        sheet
            .write_formula(2, 4, Formula::new("=1/0").set_result("#DIV/0!"))
            .unwrap();
    });
    let all = xlsx("{xlsx: {sheet: Data, formulas: cached}}", &error);
    assert_eq!(
        (all.events.len(), all.rejects.len()),
        (2, 1),
        "{:?}",
        all.codes()
    );

    // An identity number typed as a number has lost its last digits.
    let number = book(|sheet| {
        sheet.write(2, 1, 440_524_188_001_010_014_f64).unwrap();
    });
    assert_eq!(xlsx(SHEET, &number).codes(), [(3, "NUMBER_IMPRECISE")]);
    // A real date in a date's place is a date; in a text's place it is not.
    let date = book(|sheet| {
        let format = rust_xlsxwriter::Format::new().set_num_format("yyyy-mm-dd");
        sheet.write_with_format(2, 3, 33_024, &format).unwrap();
        sheet.write_with_format(3, 4, 33_024, &format).unwrap();
    });
    let all = xlsx(SHEET, &date);
    assert_eq!(
        (all.codes(), all.events.len()),
        (vec![(4, "CELL_IS_DATE")], 2)
    );
    assert_eq!(all.events[1].fields[3], mz_seal::Datum::Date(7_455));
}

/// A workbook made of parts; what a part lacks is filled with what Excel would write.
fn crafted(parts: &[(&str, Part)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .large_file(true);
    let fixed = [
        (
            "[Content_Types].xml",
            "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"/>",
        ),
        (
            "_rels/.rels",
            "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>",
        ),
        (
            "xl/workbook.xml",
            "<workbook xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\"><sheets><sheet name=\"Data\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>",
        ),
        (
            "xl/_rels/workbook.xml.rels",
            "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet1.xml\"/><Relationship Id=\"rId2\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings\" Target=\"sharedStrings.xml\"/></Relationships>",
        ),
    ];
    for (name, text) in fixed {
        zip.start_file(name, options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    for (name, part) in parts {
        zip.start_file(*name, options).unwrap();
        match part {
            Part::Text(text) => zip.write_all(text.as_bytes()).unwrap(),
            Part::Repeat {
                before,
                middle,
                times,
                after,
            } => {
                zip.write_all(before.as_bytes()).unwrap();
                let block = middle.repeat(1_000);
                for _ in 0..times / 1_000 {
                    zip.write_all(block.as_bytes()).unwrap();
                }
                zip.write_all(after.as_bytes()).unwrap();
            }
        }
    }
    zip.finish().unwrap().into_inner()
}

enum Part {
    Text(String),
    Repeat {
        before: &'static str,
        middle: &'static str,
        times: usize,
        after: &'static str,
    },
}

const SHEET_PATH: &str = "xl/worksheets/sheet1.xml";
const OPEN: &str =
    "<worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheetData>";
const CLOSE: &str = "</sheetData></worksheet>";

fn header_row() -> String {
    let cells: String = ["no", "id", "name", "born", "address"]
        .iter()
        .enumerate()
        .map(|(at, name)| {
            format!(
                "<c r=\"{}1\" t=\"inlineStr\"><is><t>{name}</t></is></c>",
                char::from(b'A' + at as u8)
            )
        })
        .collect();
    format!("<row r=\"1\">{cells}</row>")
}

#[test]
fn hostile_workbooks_cost_their_reader_nothing_else() {
    let start = Instant::now();
    let plain = || Part::Text(format!("{OPEN}{}{CLOSE}", header_row()));
    assert!(xlsx(SHEET, &crafted(&[(SHEET_PATH, plain())])).complete());

    // Claims 10^14 shared strings in 1.5 KB.
    let strings = "<sst xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" count=\"100000000000000\" uniqueCount=\"100000000000000\"><si><t>x</t></si></sst>";
    let book = crafted(&[
        (SHEET_PATH, plain()),
        ("xl/sharedStrings.xml", Part::Text(strings.to_owned())),
    ]);
    assert!(book.len() < 2_000);
    let all = xlsx(SHEET, &book);
    assert!(
        matches!(all.refused(), "XLSX_TOO_LARGE" | "XLSX_DAMAGED"),
        "{}",
        all.refused()
    );

    // A cell in the far corner.
    let far = format!(
        "{OPEN}{}<row r=\"1048576\"><c r=\"XFD1048576\"><v>1</v></c></row>{CLOSE}",
        header_row()
    );
    let all = xlsx(SHEET, &crafted(&[(SHEET_PATH, Part::Text(far))]));
    assert!(all.complete() && all.events.is_empty());

    // A zip bomb in one cell: 3 GB of text in 3 MB.
    let bomb = Part::Repeat {
        before: "<worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheetData><row r=\"1\"><c r=\"A1\" t=\"inlineStr\"><is><t>",
        middle: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        times: 15_000_000,
        after: "</t></is></c></row></sheetData></worksheet>",
    };
    let book = crafted(&[(SHEET_PATH, bomb)]);
    assert!(book.len() < 5_000_000);
    assert_eq!(xlsx(SHEET, &book).refused(), "XLSX_TOO_LARGE");

    // Rows that run backwards; a formula index that asks for a huge table; no zip; half a zip.
    let disorder = format!(
        "{OPEN}{}<row r=\"5\"><c r=\"A5\"><v>1</v></c></row><row r=\"2\"><c r=\"A2\"><v>1</v></c></row>{CLOSE}",
        header_row()
    );
    assert_eq!(
        xlsx(SHEET, &crafted(&[(SHEET_PATH, Part::Text(disorder))])).refused(),
        "SHEET_DISORDER"
    );
    let shared = format!(
        "{OPEN}{}<row r=\"2\"><c r=\"A2\"><f t=\"shared\" si=\"99999999999999\" ref=\"A2:A3\">B1</f><v>1</v></c></row>{CLOSE}",
        header_row()
    );
    let all = xlsx(SHEET, &crafted(&[(SHEET_PATH, Part::Text(shared))]));
    assert_eq!(
        all.codes().first(),
        Some(&(2, "CELL_FORMULA")),
        "{}",
        all.refused()
    );
    assert_eq!(
        xlsx(SHEET, b"PK\x03\x04 this is no workbook").refused(),
        "XLSX_DAMAGED"
    );
    let whole = crafted(&[(SHEET_PATH, plain())]);
    assert_eq!(
        xlsx(SHEET, &whole[..whole.len() / 2]).refused(),
        "XLSX_DAMAGED"
    );
    let unclosed = format!("{OPEN}{}<row r=\"2\"><c r=\"A2\"><v>1</v>", header_row());
    assert_eq!(
        xlsx(SHEET, &crafted(&[(SHEET_PATH, Part::Text(unclosed))])).refused(),
        "XLSX_DAMAGED"
    );
    assert!(
        start.elapsed() < Duration::from_secs(120),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    use mz_sdk::{Chunk, Source};
    let folder = Folder::new();
    let text = format!("{HEADER}{}", row(1, GOOD[0]).repeat(2_000));
    let path = folder.write("test.csv", &text);
    let mut source = register(parse(&household(UTF8)), &path);
    source.begin(None).unwrap();
    assert!(source.read(&mut Chunk::default()).unwrap());
    folder.write("test.csv", format!("{text}{}", row(2, GOOD[1])));
    while source.read(&mut Chunk::default()).unwrap() {}
    assert_eq!(source.end().unwrap_err().code, "INPUT_CHANGED");
}

#[test]
fn the_newest_of_dated_files_is_read() {
    let folder = Folder::new();
    folder.write(
        "export-20261119.csv",
        format!("{HEADER}{}", row(1, GOOD[0])),
    );
    folder.write(
        "export-20261120.csv",
        format!("{HEADER}{}{}", row(1, GOOD[0]), row(2, GOOD[1])),
    );
    folder.write("export-20261120.tmp", "");
    let mut source = register(
        parse(&household(UTF8)),
        &folder.0.path().join("export-*.csv"),
    );
    assert_eq!(read(&mut source).events.len(), 2);
    // Unchanged: nothing to read.
    use mz_sdk::{Pass, Source};
    assert_eq!(source.begin(None).unwrap(), Pass::Unchanged);
}

#[test]
fn one_row_becomes_several_events_and_a_bad_one_spoils_only_itself() {
    let folder = Folder::new();
    let groups = ["养老", "失业", "医疗", "工伤", "生育"];
    let parts = [
        "状态",
        "首次参保",
        "本次参保",
        "累计月数",
        "近12月",
        "欠费月数",
    ];
    let columns: Vec<String> = groups
        .iter()
        .flat_map(|group| parts.map(|part| format!("{group}{part}")))
        .collect();
    let mut text = format!(
        "身份证号,姓名,单位代码,单位名称,区划,截至日期,{}\n",
        columns.join(",")
    );
    let person = format!("{},王小明,,,441900,20261120", GOOD[0]);
    let insured = "参保,20190301,20210701,30,12,0";
    // Three insurances, one of them with a day that does not exist, two never had.
    text.push_str(&format!(
        "{person},{insured},{},{insured},,,,,,,,,,,,\n",
        insured.replace("20190301", "20190230")
    ));
    let path = folder.write("wide.csv", encoding_rs::GB18030.encode(&text).0);
    let all = read(&mut register(shipped("hrss-insurance-wide.yaml"), &path));
    assert_eq!((all.events.len(), all.skipped), (2, 2));
    assert_eq!(all.rejects.len(), 1);
    assert_eq!(
        (all.rejects[0].code, all.rejects[0].column.as_str()),
        ("DATE_IMPOSSIBLE", "失业首次参保")
    );
    // Which record it is about is known, so that it is not taken for a record that disappeared.
    let record = format!("{}|UNEMPLOYMENT", GOOD[0]);
    assert_eq!(
        all.rejects[0].record,
        Some(("hrss.insurance.status.v1".into(), record))
    );
}

#[test]
fn children_without_a_parent_and_bad_children() {
    let mapping = "department: police
stream: appointment
input: {csv: {encoding: utf-8}}
joins:
  people: {input: {csv: {encoding: utf-8}}, on: {booking: no}}
events:
  - dataset: police.appointment.v1
    fields:
      bookingId: {column: no}
      item: {const: talent-settlement}
      idNo: {column: id}
      name: {column: name}
      dependents:
        join: people
        fields: {idNo: {column: id, as: id}, name: {column: name}, relation: {const: SON}}
      hall: {const: x}
      slotStart: {const: '2026-11-24T10:30:00+08:00'}
      state: {const: BOOKED}
";
    let folder = Folder::new();
    let main = folder.write(
        "main.csv",
        format!(
            "no,id,name\n1,{},a\n2,{},b\n3,{},c\n",
            GOOD[0], GOOD[1], GOOD[0]
        ),
    );
    let people = folder.write(
        "people.csv",
        format!(
            "booking,id,name\n1,{},x\n１,{},y\n2,110105194912310021,z\n9,{},w\n",
            GOOD[1], GOOD[0], GOOD[1]
        ),
    );
    let joins = vec![mz_sources::register::Place::File(people.clone())];
    let place = mz_sources::register::Place::File(main.clone());
    let make = || {
        mz_sources::register::Register::new(
            parse(mapping).into(),
            place.clone(),
            joins.clone(),
            crate::support::xlsx(),
        )
    };
    let all = read(&mut make());
    // The parent of a bad child is not published without it.
    let told: Vec<_> = all
        .rejects
        .iter()
        .map(|r| (r.row, r.code, r.column.as_str()))
        .collect();
    assert_eq!(
        told,
        [(3, "ID_CHECK", "people.id"), (5, "JOIN_ORPHAN", "people")]
    );
    assert_eq!(all.events.len(), 2);
    let mz_seal::Datum::Array(children) = &all.events[0].fields[5] else {
        panic!()
    };
    assert_eq!(children.len(), 2);
    // A child row that can't be cut: whose it is can't be known, so nothing is published.
    folder.write("people.csv", "booking,id,name\n1,x\n");
    assert_eq!(read(&mut make()).refused(), "JOIN_ROW");
}
