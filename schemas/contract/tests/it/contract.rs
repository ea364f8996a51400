//! The repository's contract as other crates use it.

use crate::tree;

use crate::tree::Tree;
use mz_contract::{Contract, IdNumber, Mode, Moment, SchemaKey, Scope, parse_date};
use mz_seal::{Datum, KeySource, Layout, encode};

fn contract() -> Contract {
    Contract::load(&tree::repository(), Mode::Draft).unwrap()
}

fn now() -> Moment {
    Moment::on(parse_date("2026-11-23").unwrap())
}

fn spans(layout: &Layout, datum: &[u8]) -> Vec<std::ops::Range<u32>> {
    let mut spans = Vec::new();
    layout.spans(datum, &mut spans).unwrap();
    spans
}

fn text(value: &str) -> Datum {
    Datum::Str(value.to_owned())
}

fn symbol(value: &str) -> Datum {
    Datum::Enum(value.to_owned())
}

fn day(value: &str) -> Datum {
    Datum::Date(Moment::on(parse_date(value).unwrap()).today)
}

fn dependent(id: &str) -> Datum {
    Datum::Record(vec![
        ("idNo".to_owned(), text(id)),
        ("name".to_owned(), text("李四")),
        ("relation".to_owned(), symbol("SON")),
    ])
}

fn insurance(status: &str, months: i64) -> Vec<Datum> {
    vec![
        text("11010519491231002X"),
        text("张三"),
        symbol("PENSION"),
        symbol(status),
        day("2019-03-01"),
        Datum::Null,
        Datum::Int(60),
        Datum::Int(months),
        Datum::Null,
        Datum::Null,
        Datum::Int(0),
        text("441900"),
        day("2026-11-20"),
    ]
}

fn appointment(state: &str, dependents: Vec<Datum>) -> Vec<Datum> {
    vec![
        text("YY2026000001"),
        text("talent-settlement"),
        text("11010519491231002X"),
        text("张三"),
        Datum::Null,
        Datum::Array(dependents),
        text("市政务中心"),
        Datum::TimestampMillis(1_780_000_000_000),
        symbol(state),
    ]
}

#[test]
fn sections_topics_and_schemas_fit_together() {
    let contract = contract();
    assert_eq!((contract.bus_id.as_str(), contract.lanes), ("dg-bus", 8));
    for (expected, section) in contract.sections().enumerate() {
        assert_eq!(section.ix as usize, expected);
        let dataset = &contract.datasets[section.dataset_ix];
        let agreement = &contract.agreements[section.agreement_ix];
        assert_eq!(
            section.out_topic,
            format!(
                "to.{}.{}.{}",
                agreement.consumer, agreement.purpose, dataset.id
            )
        );
        assert!(section.fields.is_sorted());
        let names = |layout: &Layout| {
            layout
                .fields()
                .iter()
                .map(|field| field.name.clone())
                .collect::<Vec<_>>()
        };
        let kept: Vec<_> = section
            .fields
            .iter()
            .map(|&i| dataset.fields[usize::from(i)].name.clone())
            .collect();
        assert_eq!(names(&section.projected_layout), kept);
        assert_eq!(
            contract.layout_by_id(section.schema_id).map(names),
            Some(kept)
        );
        assert!(
            contract
                .sections_of(section.dataset_ix)
                .iter()
                .any(|at| contract.section(*at).ix == section.ix)
        );
    }
    let section = contract
        .sections()
        .find(|section| section.out_topic == "to.police.talent-settlement.hrss.insurance.status.v1")
        .unwrap();
    assert_eq!(section.scope, Scope::Case);
    assert!(section.disclose_subject && section.disclose_record);
    assert!(
        section
            .projected_avsc
            .contains("\"police.talent_settlement\"")
    );
    assert_eq!(
        section.answers[0].out_topic,
        "to.police.talent-settlement.answer.insured6of12.v1"
    );
    let status = contract
        .sections()
        .find(|s| s.out_topic.starts_with("to.hrss."))
        .unwrap();
    assert!(!status.disclose_subject && !status.disclose_record);
}

/// Any stock Avro library reads every schema that the bus serves.
#[test]
fn stock_avro_reads_every_schema() {
    for entry in contract().schema_ids.iter() {
        apache_avro::Schema::parse_str(&entry.avsc).unwrap_or_else(|e| panic!("{}: {e}", entry.id));
        let range = match entry.key {
            SchemaKey::Source { .. } => 1000..2000,
            SchemaKey::Projected { .. } => 2000..3000,
            SchemaKey::Answer { .. } => 3000..4000,
        };
        assert!(range.contains(&entry.id));
    }
}

#[test]
fn the_digest_covers_every_file_and_nothing_else() {
    let tree = Tree::copy();
    let digest = || Contract::load(tree.root(), Mode::Draft).unwrap().digest;
    let before = digest();
    assert_eq!(before, contract().digest);
    tree.write("POLICY.md", "other");
    tree.write("contract/src/lib.rs", "other");
    tree.write("items/README.md", "other");
    assert_eq!(digest(), before);
    tree.replace("departments/hrss.yaml", "kind", "# a remark\nkind");
    let after = digest();
    assert_ne!(after, before);
    tree.replace("bus/meta.v1.avsc", "{", "{ ");
    assert_ne!(digest(), after);
}

#[test]
fn a_record_id_is_one_text_for_one_record() {
    let contract = contract();
    let dataset = contract.dataset("hrss.insurance.status.v1").unwrap();
    let datum = encode(&dataset.layout, &insurance("INSURED", 12)).unwrap();
    let record = dataset
        .record_of(&datum, &spans(&dataset.layout, &datum))
        .unwrap();
    assert_eq!(record, "11010519491231002X|PENSION");

    let right = contract.dataset("realestate.right.v1").unwrap();
    let of = |certificate: &str, owner: i64| {
        let values = [
            text("11010519491231002X"),
            text("张三"),
            text(certificate),
            Datum::Int(owner),
            text("441900000000GB00000F00000001"),
            symbol("BY_SHARE"),
            text("50%"),
            Datum::Int(2),
            text("某路1号"),
            symbol("DWELLING_UNIT"),
            Datum::Decimal {
                unscaled: 8950,
                scale: 2,
            },
            day("2019-03-01"),
            Datum::Bool(false),
            Datum::Bool(false),
            symbol("CURRENT"),
        ];
        let datum = encode(&right.layout, &values).unwrap();
        right.record_of(&datum, &spans(&right.layout, &datum))
    };
    assert_eq!(of("a", 1).unwrap(), "a|1");
    // What could be read as two fields is escaped.
    assert_eq!(of("a|1%", 1).unwrap(), "a%7C1%25|1");
    let error = of("", 1).unwrap_err();
    assert!(error.to_string().contains("certificateNo"));
    let empty = right.record_of(&[], &[]).unwrap_err();
    assert!(!empty.to_string().contains("110105"));
}

#[test]
fn rules_of_the_agreements_hold_for_the_right_events() {
    let contract = contract();
    let agreement = contract.agreement("police/talent-settlement").unwrap();
    let cases = agreement.cases.as_ref().unwrap();
    let open = &cases.opens[0];
    let dataset = &contract.datasets[open.dataset];
    let opens = |values: &[Datum]| {
        let datum = encode(&dataset.layout, values).unwrap();
        let spans = spans(&dataset.layout, &datum);
        let subjects: Vec<String> = open
            .subjects
            .iter()
            .flat_map(|path| path.read(&datum, &spans).unwrap())
            .collect();
        (open.when.holds(&datum, &spans, now()).unwrap(), subjects)
    };
    let (booked, subjects) = opens(&appointment(
        "BOOKED",
        vec![
            dependent("440524188001010014"),
            dependent("34052419800101001X"),
        ],
    ));
    assert!(booked);
    assert_eq!(
        subjects,
        [
            "11010519491231002X",
            "440524188001010014",
            "34052419800101001X"
        ]
    );
    assert!(subjects.iter().all(|id| IdNumber::parse(id).is_ok()));
    assert!(!opens(&appointment("CANCELLED", Vec::new())).0);
    let mut other = appointment("BOOKED", Vec::new());
    other[1] = text("passport");
    assert!(!opens(&other).0);

    let section = agreement
        .sections
        .iter()
        .find(|section| !section.answers.is_empty())
        .unwrap();
    let dataset = &contract.datasets[section.dataset_ix];
    for (months, expected) in [(5, false), (6, true), (12, true)] {
        let datum = encode(&dataset.layout, &insurance("INSURED", months)).unwrap();
        let value = section.answers[0]
            .expr
            .value(&datum, &spans(&dataset.layout, &datum), now())
            .unwrap();
        assert_eq!(value, mz_contract::Value::Bool(expected));
    }
    let term = parse_date("2026-02-01").unwrap();
    assert!(agreement.in_term(term) && !agreement.in_term(term.pred_opt().unwrap()));
}

/// 人社局 hears of a move that names one of its approvals, and of no other.
#[test]
fn the_bureau_hears_only_of_moves_on_its_own_ground() {
    let contract = contract();
    let agreement = contract.agreement("hrss/talent-status").unwrap();
    let section = &agreement.sections[0];
    let dataset = &contract.datasets[section.dataset_ix];
    let allowed = |change: &str, approval: Option<&str>| {
        let values = [
            text("HJ2026000000001"),
            text("11010519491231002X"),
            text("张三"),
            day("1949-12-31"),
            text("1"),
            symbol("HEAD"),
            text("某路1号"),
            text("441900"),
            Datum::Null,
            symbol(change),
            day("2026-11-20"),
            approval.map_or(Datum::Null, text),
        ];
        let datum = encode(&dataset.layout, &values).unwrap();
        section
            .filter
            .as_ref()
            .unwrap()
            .holds(&datum, &spans(&dataset.layout, &datum), now())
            .unwrap()
    };
    assert!(allowed("MOVED_IN", Some("DGRC2026000001")));
    assert!(allowed("MOVE_PERMITTED", Some("DGRC2026000001")));
    assert!(!allowed("MOVED_IN", None));
    assert!(!allowed("MOVED_OUT", Some("DGRC2026000001")));
}

#[test]
fn a_revoked_key_speaks_for_listed_batches_only() {
    let tree = Tree::copy();
    tree.sign();
    let keys = "departments/hrss.keys.yaml";
    let seal = "use: seal, suite: ed25519-sha256";
    let text = tree.read(keys);
    let line = text.lines().find(|line| line.contains(seal)).unwrap();
    let revoked = line.replace(
        "status: active",
        "status: {revoked: {reason: stolen, last_batch: {insurance: {epoch: 2, batch: 42}}}}",
    );
    tree.write(keys, &text.replace(line, &revoked));
    tree.write(
        "bus.keys.yaml",
        "keys:\n  - {id: bus-seal-1, use: seal, suite: ed25519-sha256, public: \"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\", status: active}\n",
    );
    let contract = Contract::load(tree.root(), Mode::Signed).unwrap();
    let key = contract.seal_key("hrss", "hrss-seal-1").unwrap();
    for (stream, epoch, batch, allowed) in [
        ("insurance", 2, 42, true),
        ("insurance", 1, 900, true),
        ("insurance", 2, 43, false),
        ("insurance", 3, 1, false),
        ("talent", 1, 1, false),
    ] {
        assert_eq!(
            key.allows(stream, epoch, batch),
            allowed,
            "{stream} {epoch} {batch}"
        );
    }
    assert!(
        contract
            .seal_key("police", "police-seal-1")
            .unwrap()
            .allows("household", 9, 9)
    );
    assert!(contract.seal_key("bus", "bus-seal-1").is_some());
    // Keys of others, and keys for something else.
    assert!(contract.seal_key("police", "hrss-seal-1").is_none());
    assert!(contract.seal_key("hrss", "hrss-approval-1").is_none());
    assert!(contract.seal_key("nobody", "hrss-seal-1").is_none());
}
