//! The walker against apache-avro: the same values for the same bytes, over random
//! schemas; strictness and limits where the two differ on purpose.

use std::collections::HashMap;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Decimal, Schema};
use mz_seal::avro::{AvroFault, Reader, Writer};
use mz_seal::{Datum, Layout, LayoutError, MAX_DATUM_BYTES, encode, project_schema};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

#[derive(Debug, Clone)]
enum Ty {
    Null,
    Bool,
    Int,
    Long,
    Float,
    Double,
    Str,
    Bytes,
    Date,
    Timestamp,
    Decimal(u32, u32),
    FixedDecimal(u32),
    Fixed(u32),
    Enum(u32),
    Array(Box<Ty>),
    Map(Box<Ty>),
    Nullable(Box<Ty>),
    /// string | int | record: branches of three kinds.
    Either(Vec<Ty>),
    Record(Vec<Ty>),
}

fn leaf() -> impl Strategy<Value = Ty> {
    prop_oneof![
        Just(Ty::Bool),
        Just(Ty::Int),
        Just(Ty::Long),
        Just(Ty::Float),
        Just(Ty::Double),
        Just(Ty::Str),
        Just(Ty::Bytes),
        Just(Ty::Date),
        Just(Ty::Timestamp),
        (1u32..30)
            .prop_flat_map(|p| (Just(p), 0..=p))
            .prop_map(|(p, s)| Ty::Decimal(p, s)),
        (1u32..20).prop_map(Ty::FixedDecimal),
        (0u32..9).prop_map(Ty::Fixed),
        (1u32..5).prop_map(Ty::Enum),
        Just(Ty::Null),
    ]
}

fn ty() -> impl Strategy<Value = Ty> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|t| Ty::Array(Box::new(t))),
            inner.clone().prop_map(|t| Ty::Map(Box::new(t))),
            inner
                .clone()
                .prop_filter("no union in a union", |t| !matches!(
                    t,
                    Ty::Nullable(_) | Ty::Either(_) | Ty::Null
                ))
                .prop_map(|t| Ty::Nullable(Box::new(t))),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Ty::Record),
            proptest::collection::vec(inner, 0..3).prop_map(|fields| Ty::Either(vec![
                Ty::Str,
                Ty::Int,
                Ty::Record(fields)
            ])),
        ]
    })
}

/// The schema's JSON; every named type gets a name of its own.
fn schema(ty: &Ty, names: &mut u32) -> Json {
    let mut fresh = |prefix: &str| {
        *names += 1;
        format!("{prefix}{names}")
    };
    match ty {
        Ty::Null => json!("null"),
        Ty::Bool => json!("boolean"),
        Ty::Int => json!("int"),
        Ty::Long => json!("long"),
        Ty::Float => json!("float"),
        Ty::Double => json!("double"),
        Ty::Str => json!("string"),
        Ty::Bytes => json!("bytes"),
        Ty::Date => json!({"type": "int", "logicalType": "date"}),
        Ty::Timestamp => json!({"type": "long", "logicalType": "timestamp-millis"}),
        Ty::Decimal(p, s) => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": p, "scale": s})
        }
        Ty::FixedDecimal(p) => {
            json!({"type": "fixed", "name": fresh("D"), "size": 12, "logicalType": "decimal", "precision": p, "scale": 0})
        }
        Ty::Fixed(n) => json!({"type": "fixed", "name": fresh("F"), "size": n}),
        Ty::Enum(n) => {
            let symbols: Vec<String> = (0..*n).map(|i| format!("S{i}")).collect();
            json!({"type": "enum", "name": fresh("E"), "symbols": symbols})
        }
        Ty::Array(item) => json!({"type": "array", "items": schema(item, names)}),
        Ty::Map(item) => json!({"type": "map", "values": schema(item, names)}),
        Ty::Nullable(item) => json!(["null", schema(item, names)]),
        Ty::Either(branches) => Json::Array(branches.iter().map(|b| schema(b, names)).collect()),
        Ty::Record(fields) => {
            let name = fresh("R");
            let fields: Vec<Json> = fields
                .iter()
                .enumerate()
                .map(|(i, f)| json!({"name": format!("f{i}"), "type": schema(f, names)}))
                .collect();
            json!({"type": "record", "name": name, "fields": fields})
        }
    }
}

/// A value of the type, for us and for apache-avro.
fn value(ty: &Ty) -> BoxedStrategy<(Datum, Value)> {
    match ty {
        Ty::Null => Just((Datum::Null, Value::Null)).boxed(),
        Ty::Bool => any::<bool>()
            .prop_map(|b| (Datum::Bool(b), Value::Boolean(b)))
            .boxed(),
        Ty::Int => any::<i32>()
            .prop_map(|n| (Datum::Int(n.into()), Value::Int(n)))
            .boxed(),
        Ty::Long => any::<i64>()
            .prop_map(|n| (Datum::Int(n), Value::Long(n)))
            .boxed(),
        Ty::Float => (-1e9f32..1e9)
            .prop_map(|n| (Datum::Double(n.into()), Value::Float(n)))
            .boxed(),
        Ty::Double => (-1e200f64..1e200)
            .prop_map(|n| (Datum::Double(n), Value::Double(n)))
            .boxed(),
        Ty::Str => ".{0,20}"
            .prop_map(|s| (Datum::Str(s.clone()), Value::String(s)))
            .boxed(),
        Ty::Bytes => proptest::collection::vec(any::<u8>(), 0..20)
            .prop_map(|b| (Datum::Bytes(b.clone()), Value::Bytes(b)))
            .boxed(),
        Ty::Date => any::<i32>()
            .prop_map(|n| (Datum::Date(n), Value::Date(n)))
            .boxed(),
        Ty::Timestamp => any::<i64>()
            .prop_map(|n| (Datum::TimestampMillis(n), Value::TimestampMillis(n)))
            .boxed(),
        Ty::Decimal(p, s) => {
            let (bound, scale) = (10i128.pow(*p), *s);
            (1 - bound..bound)
                .prop_map(move |unscaled| {
                    let bytes = shortest(unscaled);
                    (
                        Datum::Decimal { unscaled, scale },
                        Value::Decimal(Decimal::from(bytes)),
                    )
                })
                .boxed()
        }
        Ty::FixedDecimal(p) => {
            let bound = 10i128.pow(*p);
            (1 - bound..bound)
                .prop_map(|unscaled| {
                    let bytes = unscaled.to_be_bytes()[4..].to_vec();
                    (
                        Datum::Decimal { unscaled, scale: 0 },
                        Value::Decimal(Decimal::from(bytes)),
                    )
                })
                .boxed()
        }
        Ty::Fixed(n) => {
            let n = *n as usize;
            proptest::collection::vec(any::<u8>(), n..=n)
                .prop_map(move |b| (Datum::Bytes(b.clone()), Value::Fixed(n, b)))
                .boxed()
        }
        Ty::Enum(n) => (0..*n)
            .prop_map(|i| {
                (
                    Datum::Enum(format!("S{i}")),
                    Value::Enum(i, format!("S{i}")),
                )
            })
            .boxed(),
        Ty::Array(item) => proptest::collection::vec(value(item), 0..5)
            .prop_map(|items| {
                let (ours, theirs) = items.into_iter().unzip();
                (Datum::Array(ours), Value::Array(theirs))
            })
            .boxed(),
        Ty::Map(item) => proptest::collection::btree_map("[a-z]{0,6}", value(item), 0..4)
            .prop_map(|items| {
                let mut theirs = HashMap::new();
                let mut ours = Vec::new();
                for (key, (our, their)) in items {
                    ours.push((key.clone(), our));
                    theirs.insert(key, their);
                }
                (Datum::Map(ours), Value::Map(theirs))
            })
            .boxed(),
        Ty::Nullable(item) => prop_oneof![
            Just((Datum::Null, Value::Union(0, Box::new(Value::Null)))),
            value(item).prop_map(|(our, their)| (our, Value::Union(1, Box::new(their)))),
        ]
        .boxed(),
        Ty::Either(branches) => {
            let options: Vec<BoxedStrategy<(Datum, Value)>> = branches
                .iter()
                .enumerate()
                .map(|(i, branch)| {
                    value(branch)
                        .prop_map(move |(our, their)| {
                            (our, Value::Union(i as u32, Box::new(their)))
                        })
                        .boxed()
                })
                .collect();
            proptest::strategy::Union::new(options).boxed()
        }
        Ty::Record(fields) => {
            let fields: Vec<_> = fields.iter().map(value).collect();
            fields
                .prop_map(|values| {
                    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                    for (i, (our, their)) in values.into_iter().enumerate() {
                        ours.push((format!("f{i}"), our));
                        theirs.push((format!("f{i}"), their));
                    }
                    (Datum::Record(ours), Value::Record(theirs))
                })
                .boxed()
        }
    }
}

fn shortest(unscaled: i128) -> Vec<u8> {
    let wide = unscaled.to_be_bytes();
    let mut start = 0;
    while start < 15
        && ((wide[start] == 0 && wide[start + 1] & 0x80 == 0)
            || (wide[start] == 0xff && wide[start + 1] & 0x80 != 0))
    {
        start += 1;
    }
    wide[start..].to_vec()
}

/// Maps have no order: sort them before comparing.
fn sorted(datum: Datum) -> Datum {
    match datum {
        Datum::Map(mut items) => {
            items.sort_by(|a, b| a.0.cmp(&b.0));
            Datum::Map(items.into_iter().map(|(k, v)| (k, sorted(v))).collect())
        }
        Datum::Array(items) => Datum::Array(items.into_iter().map(sorted).collect()),
        Datum::Record(items) => {
            Datum::Record(items.into_iter().map(|(k, v)| (k, sorted(v))).collect())
        }
        other => other,
    }
}

/// Encodes with arrays and maps cut into blocks, some with a negative count and a size.
fn blocky(ty: &Ty, datum: &Datum, out: &mut Vec<u8>, sized: &mut bool) {
    fn blocks<T>(
        items: &[T],
        out: &mut Vec<u8>,
        sized: &mut bool,
        mut put: impl FnMut(&T, &mut Vec<u8>, &mut bool),
    ) {
        for chunk in items.chunks(2) {
            *sized = !*sized;
            if *sized {
                let mut body = Vec::new();
                chunk.iter().for_each(|item| put(item, &mut body, sized));
                Writer(out).long(-(chunk.len() as i64));
                Writer(out).bytes(&body);
            } else {
                Writer(out).long(chunk.len() as i64);
                chunk.iter().for_each(|item| put(item, out, sized));
            }
        }
        Writer(out).long(0);
    }
    match (ty, datum) {
        (Ty::Array(item), Datum::Array(items)) => blocks(items, out, sized, |d, out, sized| {
            blocky(item, d, out, sized)
        }),
        (Ty::Map(item), Datum::Map(items)) => blocks(items, out, sized, |(key, d), out, sized| {
            Writer(out).string(key);
            blocky(item, d, out, sized);
        }),
        (Ty::Nullable(_), Datum::Null) => Writer(out).index(0),
        (Ty::Nullable(item), d) => {
            Writer(out).index(1);
            blocky(item, d, out, sized);
        }
        (Ty::Either(branches), d) => {
            let index = match d {
                Datum::Str(_) => 0,
                Datum::Int(_) => 1,
                _ => 2,
            };
            Writer(out).index(index);
            blocky(&branches[index], d, out, sized);
        }
        (Ty::Record(fields), Datum::Record(values)) => {
            fields
                .iter()
                .zip(values)
                .for_each(|(f, (_, d))| blocky(f, d, out, sized));
        }
        (_, Datum::Null) => {}
        (_, Datum::Bool(b)) => Writer(out).boolean(*b),
        (_, Datum::Int(n)) => Writer(out).long(*n),
        (_, Datum::Date(n)) => Writer(out).int(*n),
        (_, Datum::TimestampMillis(n)) => Writer(out).long(*n),
        (Ty::Float, Datum::Double(n)) => Writer(out).float(*n as f32),
        (_, Datum::Double(n)) => Writer(out).double(*n),
        (_, Datum::Str(s)) => Writer(out).string(s),
        (_, Datum::Enum(s)) => Writer(out).index(s[1..].parse().unwrap()),
        (Ty::Fixed(_), Datum::Bytes(b)) => Writer(out).fixed(b),
        (_, Datum::Bytes(b)) => Writer(out).bytes(b),
        (Ty::FixedDecimal(_), Datum::Decimal { unscaled, .. }) => {
            Writer(out).fixed(&unscaled.to_be_bytes()[4..])
        }
        (_, Datum::Decimal { unscaled, .. }) => Writer(out).bytes(&shortest(*unscaled)),
        other => panic!("no such pair: {other:?}"),
    }
}

fn case() -> impl Strategy<Value = (Vec<Ty>, Vec<Datum>, Value)> {
    proptest::collection::vec(ty(), 0..6).prop_flat_map(|fields| {
        let values = value(&Ty::Record(fields.clone()));
        (Just(fields), values).prop_map(|(fields, (ours, theirs))| {
            let Datum::Record(ours) = ours else {
                unreachable!()
            };
            (
                fields,
                ours.into_iter().map(|(_, datum)| datum).collect(),
                theirs,
            )
        })
    })
}

fn compile(fields: &[Ty]) -> (Layout, Schema, Vec<u8>) {
    let avsc = schema(&Ty::Record(fields.to_vec()), &mut 0)
        .to_string()
        .into_bytes();
    let layout = Layout::compile(&avsc).unwrap();
    let theirs = Schema::parse_str(std::str::from_utf8(&avsc).unwrap()).unwrap();
    (layout, theirs, avsc)
}

fn read(schema: &Schema, mut bytes: &[u8]) -> (Result<Value, apache_avro::Error>, usize) {
    let reader = GenericDatumReader::builder(schema).build().unwrap();
    let outcome = reader.read_value(&mut bytes);
    (outcome, bytes.len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn both_read_what_either_writes((fields, ours, theirs) in case()) {
        let (layout, schema, _) = compile(&fields);
        let written = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(theirs.clone()).unwrap();

        let mut spans = Vec::new();
        layout.spans(&written, &mut spans).unwrap();
        prop_assert_eq!(spans.len(), fields.len());
        for (index, span) in spans.iter().enumerate() {
            let bytes = &written[span.start as usize..span.end as usize];
            layout.check_field(index, bytes).unwrap();
            prop_assert_eq!(sorted(layout.decode(index, bytes).unwrap()), ours[index].clone());
        }

        let encoded = encode(&layout, &ours).unwrap();
        let (value, left) = read(&schema, &encoded);
        prop_assert_eq!(left, 0);
        prop_assert_eq!(value.unwrap(), theirs);
    }

    #[test]
    fn blocks_of_every_kind_read_alike((fields, ours, theirs) in case()) {
        let (layout, schema, _) = compile(&fields);
        let mut bytes = Vec::new();
        let record = Datum::Record(ours.iter().enumerate().map(|(i, d)| (format!("f{i}"), d.clone())).collect());
        blocky(&Ty::Record(fields), &record, &mut bytes, &mut false);
        let (value, left) = read(&schema, &bytes);
        prop_assert_eq!(left, 0);
        prop_assert_eq!(value.unwrap(), theirs);
        let decoded: Vec<Datum> = layout.decode_record(&bytes).unwrap().into_iter().map(sorted).collect();
        prop_assert_eq!(decoded, ours);
    }

    /// Whatever we accept, a stock reader accepts too: a consumer never chokes on it.
    #[test]
    fn damaged_bytes_are_never_accepted_alone(
        (fields, _, theirs) in case(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let (layout, schema, _) = compile(&fields);
        let mut bytes = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(theirs).unwrap();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let mut spans = Vec::new();
        if layout.spans(&bytes, &mut spans).is_ok() {
            let decoded = layout.decode_record(&bytes);
            prop_assert!(decoded.is_ok(), "what walks also decodes");
            let (value, left) = read(&schema, &bytes);
            prop_assert!(value.is_ok(), "{value:?}");
            prop_assert_eq!(left, 0);
        }
    }

    /// A projection reads, with a stock reader, the copied spans and nothing else.
    #[test]
    fn projections_read_the_copied_spans((fields, ours, theirs) in case(), mask in any::<u8>()) {
        let (layout, schema, avsc) = compile(&fields);
        let kept: Vec<u16> = (0..fields.len() as u16).filter(|index| mask & (1 << index) != 0).collect();
        let projected = project_schema(&avsc, &kept, "a.b.Projected").unwrap();
        let their_schema = Schema::parse_str(&projected).unwrap();
        let our_layout = Layout::compile(projected.as_bytes()).unwrap();
        let written = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(theirs).unwrap();
        let mut spans = Vec::new();
        layout.spans(&written, &mut spans).unwrap();
        let copied: Vec<u8> = kept
            .iter()
            .flat_map(|index| written[spans[*index as usize].start as usize..spans[*index as usize].end as usize].to_vec())
            .collect();
        let (value, left) = read(&their_schema, &copied);
        prop_assert!(value.is_ok(), "{value:?}");
        prop_assert_eq!(left, 0);
        let decoded: Vec<Datum> = our_layout.decode_record(&copied).unwrap().into_iter().map(sorted).collect();
        let wanted: Vec<Datum> = kept.iter().map(|index| ours[*index as usize].clone()).collect();
        prop_assert_eq!(decoded, wanted);
    }

    #[test]
    fn longs_round_trip(number in any::<i64>()) {
        let mut bytes = Vec::new();
        Writer(&mut bytes).long(number);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.long().unwrap(), number);
        reader.finish().unwrap();
    }
}

fn layout(fields: Json) -> Layout {
    let avsc = json!({"type": "record", "name": "T", "fields": fields}).to_string();
    Layout::compile(avsc.as_bytes()).unwrap()
}

fn fault(layout: &Layout, bytes: &[u8]) -> AvroFault {
    layout.spans(bytes, &mut Vec::new()).unwrap_err().fault
}

#[test]
fn hostile_lengths_and_counts_stop_at_once() {
    let huge = {
        let mut bytes = Vec::new();
        Writer(&mut bytes).long(i64::MAX);
        bytes
    };
    let strings = layout(json!([{"name": "s", "type": "string"}]));
    assert_eq!(fault(&strings, &huge), AvroFault::Truncated);
    assert_eq!(fault(&strings, &[0x01]), AvroFault::NegativeLength);
    // 2^63 - 1 items of no bytes at all.
    let nothing = layout(json!([{"name": "a", "type": {"type": "array", "items": "null"}}]));
    assert_eq!(fault(&nothing, &huge), AvroFault::TooManyItems);
    let least = {
        let mut bytes = Vec::new();
        Writer(&mut bytes).long(i64::MIN);
        bytes
    };
    assert_eq!(fault(&nothing, &least), AvroFault::OutOfRange);
    // Nested arrays of nothing share one budget, so they can't multiply.
    let nested = layout(
        json!([{"name": "a", "type": {"type": "array", "items": {"type": "array", "items": "null"}}}]),
    );
    let mut bytes = Vec::new();
    Writer(&mut bytes).long(40_000);
    for _ in 0..40_000 {
        Writer(&mut bytes).long(40_000);
        Writer(&mut bytes).long(0);
    }
    Writer(&mut bytes).long(0);
    assert_eq!(fault(&nested, &bytes), AvroFault::TooManyItems);
    assert_eq!(
        fault(&strings, &vec![0; MAX_DATUM_BYTES + 1]),
        AvroFault::TooLarge
    );
}

#[test]
fn self_containing_types_are_walked_to_the_depth_limit() {
    let tree = layout(
        json!([{"name": "t", "type": {"type": "record", "name": "Tree", "fields": [
            {"name": "next", "type": ["null", "Tree"]}
        ]}}]),
    );
    let mut fine = vec![2; 8];
    fine.push(0);
    tree.spans(&fine, &mut Vec::new()).unwrap();
    assert_eq!(fault(&tree, &[2; 4096]), AvroFault::TooDeep);
}

#[test]
fn encodings_that_readers_disagree_about_are_refused() {
    let all = layout(json!([{"name": "b", "type": "boolean"}]));
    assert_eq!(fault(&all, &[2]), AvroFault::NotABoolean);
    let int = layout(json!([{"name": "i", "type": "int"}]));
    assert_eq!(fault(&int, &[0x80, 0x00]), AvroFault::VarintNotMinimal);
    assert_eq!(
        fault(&int, &[0x80, 0x80, 0x80, 0x80, 0x20]),
        AvroFault::OutOfRange
    );
    assert_eq!(fault(&int, &[0xff; 11]), AvroFault::VarintTooLong);
    assert_eq!(fault(&int, &[0x02, 0x00]), AvroFault::TrailingBytes);
    let text = layout(json!([{"name": "s", "type": "string"}]));
    assert_eq!(fault(&text, &[0x02, 0xff]), AvroFault::NotUtf8);
    let choice = layout(json!([{"name": "u", "type": ["null", "int"]}]));
    assert_eq!(fault(&choice, &[0x04]), AvroFault::NoSuchBranch);
    let money = layout(
        json!([{"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 1}}]),
    );
    assert_eq!(fault(&money, &[0x02, 100]), AvroFault::DecimalPrecision);
    assert_eq!(fault(&money, &[0x00]), AvroFault::DecimalPrecision);
    let list = layout(json!([{"name": "a", "type": {"type": "array", "items": "boolean"}}]));
    // One item, stated as three bytes.
    assert_eq!(
        fault(&list, &[0x01, 0x06, 0x01, 0x00, 0x00]),
        AvroFault::BlockSize
    );
}

#[test]
fn schemas_that_readers_disagree_about_are_refused() {
    let compile = |json: Json| Layout::compile(json.to_string().as_bytes()).map(drop);
    let with = |kind: Json| json!({"type": "record", "name": "T", "fields": [{"name": "f", "type": kind}]});
    assert!(matches!(
        compile(json!("string")),
        Err(LayoutError::NotARecord)
    ));
    assert!(matches!(
        compile(with(json!("Nobody"))),
        Err(LayoutError::UnknownType { .. })
    ));
    assert!(matches!(
        compile(with(json!([]))),
        Err(LayoutError::Invalid { .. })
    ));
    assert!(matches!(
        compile(with(json!(["null", ["int"]]))),
        Err(LayoutError::Invalid { .. })
    ));
    assert!(matches!(
        compile(with(json!(["int", {"type": "int", "logicalType": "date"}]))),
        Err(LayoutError::Invalid { .. })
    ));
    assert!(matches!(
        compile(with(
            json!({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 3})
        )),
        Err(LayoutError::Invalid { .. })
    ));
    let twice = json!({"type": "record", "name": "T", "fields": [
        {"name": "a", "type": {"type": "fixed", "name": "X", "size": 1}},
        {"name": "b", "type": {"type": "fixed", "name": "X", "size": 2}},
    ]});
    assert!(matches!(
        compile(twice),
        Err(LayoutError::DuplicateType { .. })
    ));
    let same = json!({"type": "record", "name": "T", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]});
    assert!(matches!(compile(same), Err(LayoutError::DuplicateField(_))));
    let beside = json!({"type": "record", "name": "T", "fields": [{"name": "a", "type": "int", "logicalType": "date"}]});
    assert!(matches!(compile(beside), Err(LayoutError::Invalid { .. })));
    let mut deep = json!("int");
    for _ in 0..40 {
        deep = json!({"type": "array", "items": deep});
    }
    assert!(matches!(compile(with(deep)), Err(LayoutError::TooDeep)));
}

/// The named type's first use is withheld: its next use must define it.
#[test]
fn a_withheld_definition_moves_to_its_next_use() {
    let avsc = json!({"type": "record", "name": "Src", "namespace": "hrss", "fields": [
        {"name": "first", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "second", "type": ["null", "Kind"], "doc": "kept"},
        {"name": "third", "type": {"type": "array", "items": "hrss.Kind"}},
    ]})
    .to_string();
    let projected = project_schema(avsc.as_bytes(), &[1, 2], "police.settlement.Src").unwrap();
    assert_eq!(
        projected,
        concat!(
            r#"{"type":"record","name":"Src","namespace":"police.settlement","fields":["#,
            r#"{"name":"second","type":["null",{"type":"enum","name":"Kind","namespace":"hrss","symbols":["A","B"]}],"doc":"kept"},"#,
            r#"{"name":"third","type":{"type":"array","items":"hrss.Kind"}}]}"#,
        )
    );
    Schema::parse_str(&projected).unwrap();
    assert_eq!(
        project_schema(avsc.as_bytes(), &[1, 1], "a.B"),
        Err(LayoutError::FieldOrder)
    );
    assert_eq!(
        project_schema(avsc.as_bytes(), &[9], "a.B"),
        Err(LayoutError::NoSuchField(9))
    );
}

#[test]
fn meta_is_the_committed_schema() {
    let golden = mz_seal::testing::Golden::make();
    let schema = Schema::parse_str(mz_seal::META_AVSC).unwrap();
    for vector in &golden.events {
        let seal = mz_seal::SourceSeal::parse(vector.event.header("mz-seal").unwrap()).unwrap();
        let (value, left) = read(&schema, seal.meta_bytes);
        assert_eq!(left, 0);
        let Value::Record(fields) = value.unwrap() else {
            panic!("meta is a record")
        };
        assert_eq!(
            fields[2],
            ("stream".into(), Value::String(seal.meta.stream.into()))
        );
        assert_eq!(
            fields[5],
            ("sequence".into(), Value::Long(seal.meta.sequence as i64))
        );
        assert_eq!(
            fields[12],
            ("withdrawn".into(), Value::Boolean(seal.meta.withdrawn))
        );
    }
}
