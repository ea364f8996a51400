//! Rules: what they mean (compared with the `cel` crate's own interpreter), what is refused, what it costs.

use std::ops::Range;

use mz_seal::{Datum, Layout, encode};
use proptest::prelude::*;

use super::*;
use crate::dataset::{Classification, Field, Share};
use crate::reasons::Text;
use crate::value::parse_date;

const AVSC: &str = r#"{"type":"record","name":"R","namespace":"t","fields":[
 {"name":"b","type":"boolean"},
 {"name":"i","type":"long"},
 {"name":"d","type":"double"},
 {"name":"s","type":"string"},
 {"name":"e","type":{"type":"enum","name":"E","symbols":["A","B","C"]}},
 {"name":"on","type":{"type":"int","logicalType":"date"}},
 {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
 {"name":"m","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
 {"name":"many","type":{"type":"array","items":{"type":"record","name":"I","fields":[{"name":"x","type":"string"},{"name":"y","type":["null","long"],"default":null}]}}},
 {"name":"ni","type":["null","long"],"default":null},
 {"name":"ns","type":["null","string"],"default":null},
 {"name":"raw","type":"bytes"}
]}"#;

struct Event {
    fields: Vec<Field>,
    datum: Vec<u8>,
    spans: Vec<Range<u32>>,
}

fn event(b: bool, i: i64, d: f64, s: &str, e: &str, ni: Option<i64>) -> Event {
    let layout = Layout::compile(AVSC.as_bytes()).unwrap();
    let item = |x: &str| {
        Datum::Record(vec![
            ("x".to_owned(), Datum::Str(x.to_owned())),
            ("y".to_owned(), Datum::Int(3)),
        ])
    };
    let values = [
        Datum::Bool(b),
        Datum::Int(i),
        Datum::Double(d),
        Datum::Str(s.to_owned()),
        Datum::Enum(e.to_owned()),
        Datum::Date(crate::value::days_of(parse_date("2026-05-31").unwrap())),
        Datum::TimestampMillis(1_780_000_000_000),
        Datum::Decimal {
            unscaled: 8950,
            scale: 2,
        },
        Datum::Array(vec![item("p"), item("q")]),
        ni.map_or(Datum::Null, Datum::Int),
        Datum::Null,
        Datum::Bytes(vec![1]),
    ];
    let datum = encode(&layout, &values).unwrap();
    let mut spans = Vec::new();
    layout.spans(&datum, &mut spans).unwrap();
    let fields = layout
        .fields()
        .iter()
        .map(|layout| Field {
            name: layout.name.clone(),
            title: Text::default(),
            class: Classification::Internal,
            share: Share::Allowed,
            layout: layout.clone(),
            symbols: Vec::new(),
        })
        .collect();
    Event {
        fields,
        datum,
        spans,
    }
}

fn now() -> Moment {
    Moment::on(parse_date("2026-11-23").unwrap())
}

fn holds(event: &Event, source: &str) -> Result<bool, EvalError> {
    Expr::condition(source, &event.fields)
        .unwrap_or_else(|e| panic!("{source}: {e}"))
        .holds(&event.datum, &event.spans, now())
}

fn refused(source: &str) -> &'static str {
    let event = event(true, 1, 1.0, "s", "A", None);
    match Expr::condition(source, &event.fields) {
        Err(fault) => fault.code,
        Ok(_) => panic!("{source} was accepted"),
    }
}

#[test]
fn rules_say_what_they_read_as() {
    let event = event(true, 7, 2.5, "44190001", "B", None);
    for (source, expected) in [
        ("e == \"B\"", true),
        ("\"B\" == e", true),
        ("e != \"B\"", false),
        ("e in [\"A\", \"B\"]", true),
        ("!(e in [\"A\", \"C\"])", true),
        ("b && i == 7", true),
        ("i > 6 && i <= 7", true),
        (
            "i + 1 == 8 && i * 2 - 4 == 10 && i / 2 == 3 && i % 2 == 1 && -i == -7",
            true,
        ),
        ("i == 7.0 && i < 7.5 && d == 2.5 && d > 2", true),
        (
            "s.startsWith(\"4419\") && s.endsWith(\"1\") && s.contains(\"000\")",
            true,
        ),
        ("size(s) == 8 && s.size() == 8", true),
        ("size(many) == 2", true),
        (
            "on == \"2026-05-31\" && on < today && on < date(\"2026-06-01\")",
            true,
        ),
        ("months_between(on, today) == 5", true),
        ("months_between(\"2025-11-23\", today) == 12", true),
        ("at > \"2020-01-01T00:00:00Z\"", true),
        ("m == 89.5 && m == 89.50 && m < 90 && m > 89.49", true),
        ("m in [89.5]", true),
        ("ni == null && ns == null", true),
        ("ni == 3", false),
        ("ni != 3", true),
        ("ni != null && ni > 3", false),
        ("ni > 3 || b", true),
        ("ni > 3 && !b", false),
        ("(b ? i : 0) == 7", true),
        ("ni in [1, 2]", false),
    ] {
        assert_eq!(holds(&event, source), Ok(expected), "{source}");
    }
}

#[test]
fn what_has_no_value_is_an_error_and_never_a_yes() {
    let event = event(true, i64::MAX, 1.0, "", "A", None);
    for (source, error) in [
        ("ni > 3", EvalError::Null),
        ("!(ni > 3)", EvalError::Null),
        ("size(ns) > 0", EvalError::Null),
        ("ns.startsWith(\"a\")", EvalError::Null),
        ("i + 1 > 0", EvalError::Arithmetic),
        ("i / 0 == 1", EvalError::Arithmetic),
        ("i % 0 == 1", EvalError::Arithmetic),
    ] {
        assert_eq!(holds(&event, source), Err(error), "{source}");
    }
}

#[test]
fn mistakes_are_found_when_the_rule_is_read() {
    for (source, code) in [
        ("", "EXPR_SYNTAX"),
        ("e ==", "EXPR_SYNTAX"),
        ("e = \"A\"", "EXPR_SYNTAX"),
        ("status == \"A\"", "EXPR_UNKNOWN_FIELD"),
        ("e == \"D\"", "EXPR_SYMBOL"),
        ("e in [\"A\", \"a\"]", "EXPR_SYMBOL"),
        ("e == 1", "EXPR_TYPE"),
        ("e < \"B\"", "EXPR_TYPE"),
        ("i == \"1\"", "EXPR_TYPE"),
        ("i", "EXPR_TYPE"),
        ("i == null", "EXPR_TYPE"),
        ("on == \"2026-02-30\"", "EXPR_TYPE"),
        ("on == \"31.05.2026\"", "EXPR_TYPE"),
        ("at > \"yesterday\"", "EXPR_TYPE"),
        ("m + 1 > 2", "EXPR_TYPE"),
        ("m > d", "EXPR_TYPE"),
        ("i + d > 2.0", "EXPR_TYPE"),
        ("raw == null", "EXPR_TYPE"),
        ("many == many", "EXPR_TYPE"),
        ("b && i", "EXPR_TYPE"),
        ("many.exists(x, x.x == \"p\")", "EXPR_NOT_ALLOWED"),
        ("many.all(x, true)", "EXPR_NOT_ALLOWED"),
        ("size(many.map(x, x)) > 0", "EXPR_NOT_ALLOWED"),
        ("many[0].x == \"p\"", "EXPR_NOT_ALLOWED"),
        ("has(e.x)", "EXPR_NOT_ALLOWED"),
        ("s.matches(\"(a+)+$\")", "EXPR_NOT_ALLOWED"),
        ("matches(s, \"a\")", "EXPR_NOT_ALLOWED"),
        ("s in many", "EXPR_NOT_ALLOWED"),
        ("i in [i]", "EXPR_NOT_ALLOWED"),
        ("{\"a\": 1}.a == 1", "EXPR_NOT_ALLOWED"),
        ("b\"x\" == raw", "EXPR_NOT_ALLOWED"),
        ("duration(\"1h\") > duration(\"1m\")", "EXPR_NOT_ALLOWED"),
        ("dyn(e) == \"A\"", "EXPR_NOT_ALLOWED"),
        ("e.x == \"A\"", "EXPR_UNKNOWN_FIELD"),
    ] {
        assert_eq!(refused(source), code, "{source}");
    }
}

#[test]
fn a_rule_can_cost_no_more_than_its_limits() {
    assert_eq!(
        refused(&format!("s == \"{}\"", "x".repeat(MAX_SOURCE_BYTES))),
        "EXPR_TOO_LARGE"
    );
    assert_eq!(refused(&vec!["b"; 100].join(" && ")), "EXPR_TOO_LARGE");
    assert_eq!(
        refused(&format!("{}b{}", "(".repeat(500), ")".repeat(500))),
        "EXPR_TOO_LARGE"
    );
    assert_eq!(refused(&format!("{}b", "!".repeat(500))), "EXPR_TOO_LARGE");
    // Within the bracket count, but deeper than a rule may nest.
    let code = refused(&format!("{}b{}", "(".repeat(100), ")".repeat(100)));
    assert!(matches!(code, "EXPR_SYNTAX" | "EXPR_TOO_LARGE"), "{code}");
}

#[test]
fn only_named_fields_are_read() {
    let mut event = event(true, 7, 2.5, "x", "B", None);
    let rule = Expr::condition("e == \"B\" && i == 7", &event.fields).unwrap();
    assert_eq!(rule.fields(), [1, 4]);
    // The other spans point nowhere, and nobody minds.
    for (index, span) in event.spans.iter_mut().enumerate() {
        if index != 1 && index != 4 {
            *span = u32::MAX - 1..u32::MAX;
        }
    }
    assert_eq!(rule.holds(&event.datum, &event.spans, now()), Ok(true));
    let other = Expr::condition("b", &event.fields).unwrap();
    assert_eq!(
        other.holds(&event.datum, &event.spans, now()),
        Err(EvalError::Shape)
    );
}

/// Rules both interpreters know: booleans, whole numbers, strings, null.
fn rule() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Just("i".to_owned()),
        Just("9223372036854775807".to_owned()),
        (-3_i64..4).prop_map(|n| n.to_string()),
    ];
    let number = number.prop_recursive(2, 6, 2, |inner| {
        (
            inner.clone(),
            prop_oneof![Just("+"), Just("-"), Just("*"), Just("/"), Just("%")],
            inner,
        )
            .prop_map(|(a, op, b)| format!("({a} {op} {b})"))
    });
    let order = prop_oneof![
        Just("=="),
        Just("!="),
        Just("<"),
        Just("<="),
        Just(">"),
        Just(">=")
    ];
    let leaf = prop_oneof![
        Just("b".to_owned()),
        Just("true".to_owned()),
        Just("(ni == null)".to_owned()),
        (number.clone(), order, number.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
        prop_oneof![Just("=="), Just("<"), Just(">=")].prop_map(|op| format!("(s {op} \"m\")")),
        Just("s.startsWith(\"a\")".to_owned()),
        Just("(i in [1, 2, 3])".to_owned()),
        Just("(size(s) > 1)".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!{a}")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Our tree and the `cel` interpreter agree on the value, and on whether there is one.
    #[test]
    fn a_rule_means_what_cel_says(
        source in rule(),
        b in any::<bool>(),
        i in prop_oneof![-4_i64..5, Just(i64::MAX), Just(i64::MIN)],
        s in "[a-z]{0,3}",
        ni in proptest::option::of(0_i64..2),
    ) {
        let event = event(b, i, 0.5, &s, "A", ni);
        let ours = match Expr::condition(&source, &event.fields) {
            Ok(rule) => rule.holds(&event.datum, &event.spans, now()).ok(),
            Err(fault) if fault.code == "EXPR_TOO_LARGE" || fault.code == "EXPR_SYNTAX" => return Ok(()),
            Err(fault) => return Err(TestCaseError::fail(format!("{source}: {fault}"))),
        };
        let program = cel::Program::compile(&source).unwrap();
        let mut context = cel::Context::default();
        context.add_variable_from_value("b", b);
        context.add_variable_from_value("i", i);
        context.add_variable_from_value("s", s);
        context.add_variable_from_value("ni", ni.map_or(cel::Value::Null, cel::Value::Int));
        let theirs = match program.execute(&context) {
            Ok(cel::Value::Bool(value)) => Some(value),
            _ => None,
        };
        prop_assert_eq!(ours, theirs, "{}", source);
    }

    /// Whatever is typed gets an answer.
    #[test]
    fn any_text_is_answered(source in "[a-z0-9\"'()\\[\\]{}!&|?:.,<>=+*/% \\-\\\\\u{4e00}]{0,80}") {
        let event = event(true, 1, 1.0, "s", "A", None);
        let _ = Expr::compile(&source, &event.fields);
    }

    /// A datum that is not what the schema says is an error, never a panic.
    #[test]
    fn any_bytes_are_answered(datum in proptest::collection::vec(any::<u8>(), 0..40), at in 0_u32..40, length in 0_u32..40) {
        let event = event(true, 1, 1.0, "s", "A", None);
        let spans = vec![at..at.saturating_add(length); 12];
        for source in ["b", "i > 0", "d > 0.0", "s == \"a\"", "e == \"A\"", "on > today", "m > 1", "size(many) > 0", "ni == 1"] {
            let _ = Expr::condition(source, &event.fields).unwrap().holds(&datum, &spans, now());
        }
    }
}
