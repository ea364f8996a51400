//! `read`: a department's own deliveries as lines of JSON, each seal checked. For a first look;
//! work is done by the adapter or by the department's own subscriber (docs/subscriber.md).

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use mz_bus::{BusError, Isolation, Position, Reader, Record};
use mz_contract::{Answer, Contract, Mode, Section};
use mz_seal::{ExpectDelivery, Headers, Layout, Verifier, unframe};
use serde_json::{Map, Value, json};

use crate::cli::ReadArgs;
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, say};

/// Longest time without any record before the cluster counts as down.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes of the pseudonym at the start of a delivery's key.
const PSEUDONYM_BYTES: usize = 16;

pub fn run(dir: &Path, args: &ReadArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let contract = instance.contract(Mode::Signed)?;
    let principal = format!("{}.adapter", args.department);
    let person = args.person.as_deref().map(parse_pseudonym).transpose()?;
    let topics = topics(&contract, &args.department);
    if topics.is_empty() {
        return Err(Failure::new(
            exit::FAILED,
            say("该部门没有协议", "no agreement delivers to this department"),
        ));
    }
    let failed = |error: BusError| Failure::chain(exit::FAILED, &error);
    let mut reader =
        Reader::open(&instance.bus(&principal)?, Isolation::Committed).map_err(failed)?;
    let mut verifier = Verifier::new();
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut bad = 0_u64;
    let mut totals = Map::new();
    for topic in &topics {
        let lanes: Vec<_> = (0..i32::from(contract.lanes))
            .map(|lane| (topic.name.as_str(), lane, Position::Beginning))
            .collect();
        reader.assign(&lanes).map_err(failed)?;
        let (mut records, mut deliveries) = (HashSet::<Vec<u8>>::new(), 0_u64);
        let (mut written, mut headed) = (Ok(()), false);
        reader
            .poll_to_end(SILENCE, |record| {
                deliveries += 1;
                let key = record.key.unwrap_or_default();
                if record.value.is_some() {
                    records.insert(key.to_vec());
                } else {
                    records.remove(key);
                }
                if person
                    .as_deref()
                    .is_some_and(|person| !key.starts_with(person))
                {
                    return;
                }
                let line = topic.line(&contract, &mut verifier, &record);
                bad += u64::from(line.get("fault").is_some());
                if args.count || written.is_err() {
                    return;
                }
                written = if args.pretty {
                    let heading = if headed { String::new() } else { topic.heading(&contract) };
                    headed = true;
                    write!(out, "{heading}{}", topic.pretty(&contract, &line))
                } else {
                    writeln!(out, "{}", Value::Object(line))
                };
            })
            .map_err(failed)?;
        written.context("standard output")?;
        totals.insert(
            topic.name.clone(),
            json!({"records": records.len(), "deliveries": deliveries}),
        );
    }
    if args.count {
        writeln!(out, "{:#}", Value::Object(totals)).context("standard output")?;
    }
    out.flush().context("standard output")?;
    if bad == 0 {
        return Ok(());
    }
    Err(Failure::new(
        exit::NOT_VERIFIED,
        say(
            &format!("{bad} 条记录未通过核验"),
            &format!("{bad} record(s) did not verify"),
        ),
    ))
}

struct Topic<'c> {
    name: String,
    section: &'c Section,
    layout: &'c Layout,
    /// A derived answer is attested by the bus: it carries no department's seal.
    answer: Option<&'c Answer>,
}

fn topics<'c>(contract: &'c Contract, department: &str) -> Vec<Topic<'c>> {
    let own = contract
        .agreements
        .iter()
        .filter(|agreement| agreement.consumer == department);
    let mut topics = Vec::new();
    for section in own.flat_map(|agreement| &agreement.sections) {
        if !section.fields.is_empty() {
            let layout = section.projected_layout.as_ref();
            topics.push(Topic {
                name: section.out_topic.clone(),
                section,
                layout,
                answer: None,
            });
        }
        topics.extend(section.answers.iter().map(|answer| Topic {
            name: answer.out_topic.clone(),
            section,
            layout: answer.layout.as_ref(),
            answer: Some(answer),
        }));
    }
    topics
}

impl Topic<'_> {
    fn line(
        &self,
        contract: &Contract,
        verifier: &mut Verifier,
        record: &Record<'_>,
    ) -> Map<String, Value> {
        let key = record.key.unwrap_or_default();
        let (person, tag) = key.split_at(PSEUDONYM_BYTES.min(key.len()));
        let mut line = Map::new();
        line.insert("topic".to_owned(), json!(self.name));
        line.insert("lane".to_owned(), json!(record.partition));
        line.insert("offset".to_owned(), json!(record.offset));
        line.insert("person".to_owned(), json!(hex(person)));
        line.insert("record".to_owned(), json!(hex(tag)));
        match self.content(contract, verifier, record) {
            Ok(content) => line.extend(content),
            Err(code) => {
                line.insert("fault".to_owned(), json!(code));
            }
        }
        line
    }

    fn content(
        &self,
        contract: &Contract,
        verifier: &mut Verifier,
        record: &Record<'_>,
    ) -> Result<Map<String, Value>, &'static str> {
        let mut content = Map::new();
        let Some(value) = record.value else {
            content.insert("withdrawn".to_owned(), json!(true));
            return Ok(content);
        };
        let (_, datum) = unframe(value).map_err(|fault| fault.code())?;
        let headers = record.headers().map_err(|_| "HEADER_DUPLICATE")?;
        let headers = headers
            .iter()
            .filter_map(|(name, value)| value.map(|value| (*name, value)));
        let headers = Headers::collect(headers).map_err(|fault| fault.code())?;
        if self.answer.is_some() {
            content.insert("attested_by".to_owned(), json!("bus"));
        } else {
            let dataset = &contract.datasets[self.section.dataset_ix];
            let expect = ExpectDelivery {
                bus: &contract.bus_id,
                dataset: &dataset.id,
                department: &dataset.department,
                streams: &dataset.streams,
                lane: u16::try_from(record.partition).ok(),
                source_layout: &dataset.layout,
                source_schema_digest: &dataset.schema_digest,
                kept: &self.section.fields,
                projected_layout: self.layout,
            };
            let seal = headers.seal().map_err(|fault| fault.code())?;
            let delivery = verifier
                .verify_delivery(&expect, datum, seal, contract)
                .map_err(|fault| fault.code())?;
            content.insert("sealed_by".to_owned(), json!(delivery.meta.department));
            content.insert("key".to_owned(), json!(delivery.batch.key_id));
            content.insert("as_of".to_owned(), json!(delivery.meta.ce_time_text()));
        }
        if headers.delivery.is_none() {
            return Err(DELIVERY_MISSING);
        }
        let values = self
            .layout
            .decode_record(datum)
            .map_err(|_| "DATUM_MALFORMED")?;
        let fields = self.layout.fields().iter().zip(values);
        let fields: Map<String, Value> = fields
            .map(|(field, value)| (field.name.clone(), value.to_json()))
            .collect();
        content.insert("fields".to_owned(), Value::Object(fields));
        Ok(content)
    }
}

impl Topic<'_> {
    /// What stands above a topic's records: the dataset, and what of it was withheld.
    fn heading(&self, contract: &Contract) -> String {
        let dataset = &contract.datasets[self.section.dataset_ix];
        if let Some(answer) = &self.answer {
            let note = say("派生答案,由总线证明", "derived answer, attested by the bus");
            return format!("  [{}] ({note})\n", say(&answer.title.zh, &answer.title.en));
        }
        let kept = |index: &usize| self.section.fields.iter().any(|kept| usize::from(*kept) == *index);
        let withheld: Vec<String> = dataset
            .fields
            .iter()
            .enumerate()
            .filter(|(index, _)| !kept(index))
            .map(|(_, field)| say(&field.title.zh, &field.title.en))
            .collect();
        let comma = say("、", ", ");
        format!(
            "  [{}] ({}: {})\n",
            say(&dataset.title.zh, &dataset.title.en),
            say("未提供", "withheld"),
            withheld.join(&comma)
        )
    }

    /// One record for a person: whose seal, and the fields by their titles.
    fn pretty(&self, contract: &Contract, line: &Map<String, Value>) -> String {
        let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
        let proof = match (text("fault"), text("key")) {
            ("", "") if line.contains_key("withdrawn") => say("已撤回", "withdrawn"),
            ("", "") => String::new(),
            ("", key) => format!("✓ {key}"),
            (fault, _) => say(&format!("未通过核验 {fault}"), &format!("NOT VERIFIED {fault}")),
        };
        let empty = Map::new();
        let fields = line.get("fields").and_then(Value::as_object).unwrap_or(&empty);
        let values: Vec<String> = if self.answer.is_some() {
            ["value", "asOf"].iter().filter_map(|name| fields.get(*name)).map(plain).collect()
        } else {
            let dataset = &contract.datasets[self.section.dataset_ix];
            let kept = self.section.fields.iter().map(|index| &dataset.fields[usize::from(*index)]);
            kept.filter_map(|field| {
                let value = plain(fields.get(&field.name)?);
                let symbol = field.symbols.iter().find(|(symbol, _)| *symbol == value);
                let value = symbol.map_or(value, |(_, text)| say(&text.zh, &text.en));
                Some(format!("{}: {value}", say(&field.title.zh, &field.title.en)))
            })
            .collect()
        };
        format!("      {} {proof}\n", values.join(" · "))
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "—".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => say("是", "yes"),
        Value::Bool(false) => say("否", "no"),
        Value::Array(items) if items.is_empty() => say("无", "none"),
        other => other.to_string(),
    }
}

/// A delivery without `mz-delivery` did not come from the gateway.
const DELIVERY_MISSING: &str = "NO_DELIVERY_HEADER";

fn parse_pseudonym(text: &str) -> anyhow::Result<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    match pairs.collect::<Option<Vec<u8>>>() {
        Some(bytes) if bytes.len() == PSEUDONYM_BYTES => Ok(bytes),
        _ => bail!("--person: expected {} hex digits", 2 * PSEUDONYM_BYTES),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
