//! `read`: a department's own deliveries, each checked as the adapter checks it. For a first look;
//! work is done by the adapter or by the department's own subscriber (docs/subscriber.md).

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use mz_adapter::{Config, Inspected, Inspector, Target, targets};
use mz_bus::{BusError, Isolation, Position, Reader, Record};
use mz_contract::{Agreement, Answer, Contract, Mode, Section};
use mz_journal::{DELIVERY_HEADER, DeliveryHeader, OrderId, Record as _};
use mz_seal::{Datum, timestamp_text};
use serde_json::{Map, Value, json};

use crate::cli::ReadArgs;
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, lang, say};

/// Longest time without any record before the cluster counts as down.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes of the pseudonym at the start of a delivery's key.
const PSEUDONYM_BYTES: usize = 16;

pub fn run(dir: &Path, args: &ReadArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let contract = Arc::new(instance.contract(Mode::Signed)?);
    let person = args.person.as_deref().map(parse_pseudonym).transpose()?;
    let bus = instance.bus(&format!("{}.adapter", args.department))?;
    let failed = |error: BusError| Failure::chain(exit::FAILED, &error);
    let mut reader = Reader::open(&bus, Isolation::Committed).map_err(failed)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (mut bad, mut totals) = (0_u64, Map::new());

    let own = contract
        .agreements
        .iter()
        .filter(|agreement| agreement.consumer == args.department);
    for agreement in own {
        let mut inspector = Inspector::new(Arc::clone(&contract), agreement.id.clone());
        for topic in Topic::all(&contract, agreement)? {
            let lanes: Vec<_> = (0..i32::from(contract.lanes))
                .map(|lane| (topic.target.topic.as_str(), lane, Position::Beginning))
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
                    let inspected = inspector.inspect(&topic.target, &record);
                    bad += u64::from(matches!(inspected, Inspected::Rejected(_)));
                    if args.count || written.is_err() {
                        return;
                    }
                    written = if args.pretty {
                        let heading = if headed {
                            String::new()
                        } else {
                            topic.heading()
                        };
                        headed = true;
                        writeln!(out, "{heading}      {}", topic.pretty(inspected))
                    } else {
                        writeln!(out, "{}", Value::Object(topic.line(&record, inspected)))
                    };
                })
                .map_err(failed)?;
            written.context("standard output")?;
            let total = json!({"records": records.len(), "deliveries": deliveries});
            totals.insert(topic.target.topic.clone(), total);
        }
    }
    if totals.is_empty() {
        let text = say("该部门没有协议", "no agreement delivers to this department");
        return Err(Failure::new(exit::FAILED, text));
    }
    if args.count {
        writeln!(out, "{:#}", Value::Object(totals)).context("standard output")?;
    }
    out.flush().context("standard output")?;
    if bad == 0 {
        return Ok(());
    }
    let text = say(
        &format!("{bad} 条记录未通过核验"),
        &format!("{bad} record(s) did not verify"),
    );
    Err(Failure::new(exit::NOT_VERIFIED, text))
}

fn delivery_header(record: &Record<'_>) -> Option<DeliveryHeader> {
    let headers = record.headers().ok()?;
    let (_, value) = headers
        .into_iter()
        .find(|(name, _)| *name == DELIVERY_HEADER)?;
    DeliveryHeader::decode(value?).ok()
}

/// One delivery topic, and where it stands in the contract.
struct Topic<'c> {
    target: Target,
    contract: &'c Contract,
    section: &'c Section,
    /// Computed and attested by the bus.
    answer: Option<&'c Answer>,
}

impl<'c> Topic<'c> {
    fn all(contract: &'c Contract, agreement: &'c Agreement) -> Result<Vec<Self>, Failure> {
        let config = format!(
            "consumer: {}\npurpose: {}\n",
            agreement.consumer, agreement.purpose
        );
        let config = Config::parse(&config).map_err(|fault| Failure::new(exit::FAULTS, fault))?;
        let targets = targets(contract, &config)
            .map_err(|error| Failure::chain(exit::FAULTS, &error))?
            .into_iter();
        let place = |target: Target| {
            agreement.sections.iter().find_map(|section| {
                let answer = section
                    .answers
                    .iter()
                    .find(|answer| answer.out_topic == target.topic);
                (answer.is_some() || section.out_topic == target.topic).then(|| Self {
                    target: target.clone(),
                    contract,
                    section,
                    answer,
                })
            })
        };
        Ok(targets.filter_map(place).collect())
    }

    fn line(&self, record: &Record<'_>, inspected: Inspected) -> Map<String, Value> {
        let key = record.key.unwrap_or_default();
        let (person, tag) = key.split_at(PSEUDONYM_BYTES.min(key.len()));
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| {
            line.insert(name.to_owned(), value);
        };
        put("topic", json!(self.target.topic));
        put("lane", json!(record.partition));
        put("offset", json!(record.offset));
        put("person", json!(hex(person)));
        put("record", json!(hex(tag)));
        // Where it stands in the audit log, and its number in this topic and lane.
        if let Some(header) = delivery_header(record) {
            let (lane, number) = (header.audit_lane, header.audit_number);
            put("audit_id", json!(format!("gateway-{lane}-{number}")));
            put("sequence", json!(header.sequence));
        }
        match inspected {
            Inspected::Rejected(code) => put("fault", json!(code)),
            Inspected::Withdrawn {
                reason,
                version,
                at_ms,
                order,
            } => {
                put("withdrawn", json!(reason));
                put("withdrawn_by", json!(self.withdrawn_by(order)));
                put("up_to", json!([version.epoch, version.counter]));
                put("as_of", json!(timestamp_text(at_ms)));
                if let Some(order) = order {
                    put("order", json!(order.hex()));
                }
            }
            Inspected::Fields { event_ms, fields } => {
                put("sealed_by", json!(self.sealed_by()));
                put("as_of", json!(timestamp_text(event_ms)));
                let fields = fields
                    .into_iter()
                    .map(|(name, value)| (name, value.to_json()));
                put("fields", Value::Object(fields.collect()));
            }
        }
        line
    }

    /// A register takes back its own record; the bus withdraws by an order.
    fn withdrawn_by(&self, order: Option<OrderId>) -> &str {
        match order {
            Some(_) => mz_contract::BUS,
            None => &self.contract.datasets[self.section.dataset_ix].department,
        }
    }

    fn sealed_by(&self) -> &str {
        match self.answer {
            Some(_) => mz_contract::BUS,
            None => &self.contract.datasets[self.section.dataset_ix].department,
        }
    }

    /// What stands above a topic's records: the dataset, and what of it was withheld.
    fn heading(&self) -> String {
        if let Some(answer) = self.answer {
            let note = say(
                "派生答案，由总线证明",
                "derived answer, attested by the bus",
            );
            return format!("  [{}] ({note})\n", say(&answer.title.zh, &answer.title.en));
        }
        let dataset = &self.contract.datasets[self.section.dataset_ix];
        let kept = |index: usize| {
            self.section
                .fields
                .iter()
                .any(|kept| usize::from(*kept) == index)
        };
        let withheld: Vec<String> = dataset
            .fields
            .iter()
            .enumerate()
            .filter(|(index, _)| !kept(*index))
            .map(|(_, field)| say(&field.title.zh, &field.title.en))
            .collect();
        let title = say(&dataset.title.zh, &dataset.title.en);
        let label = say("未提供", "withheld");
        format!(
            "  [{title}] ({label}: {})\n",
            withheld.join(&say("、", ", "))
        )
    }

    /// One record for a person: the fields by their titles, and whose seal was found good.
    fn pretty(&self, inspected: Inspected) -> String {
        let fields = match inspected {
            Inspected::Rejected(code) => {
                return say(
                    &format!("未通过核验 {code}"),
                    &format!("NOT VERIFIED {code}"),
                );
            }
            Inspected::Withdrawn { reason, order, .. } => {
                let reasons = &self.contract.reasons;
                let why = if reasons.contains(&reason) {
                    format!("{} ({reason})", reasons.text(&reason, lang()))
                } else {
                    reason
                };
                let by = self.withdrawn_by(order);
                return say(
                    &format!("已撤回，不得再使用：{why} ← {by}"),
                    &format!("withdrawn, not to be used: {why} ← {by}"),
                );
            }
            Inspected::Fields { fields, .. } => fields,
        };
        let dataset = &self.contract.datasets[self.section.dataset_ix];
        let values = fields.iter().filter_map(|(name, value)| {
            let value = plain(value);
            if self.answer.is_some() {
                return (name == "value").then_some(value);
            }
            let field = &dataset.fields[dataset.field_index(name)?];
            let symbol = field.symbols.iter().find(|(symbol, _)| *symbol == value);
            let value = symbol.map_or(value, |(_, text)| say(&text.zh, &text.en));
            Some(format!(
                "{}: {value}",
                say(&field.title.zh, &field.title.en)
            ))
        });
        let values = values.collect::<Vec<_>>().join(" · ");
        format!("{values} ✓ {}", self.sealed_by())
    }
}

fn plain(value: &Datum) -> String {
    match value {
        Datum::Null => "—".to_owned(),
        Datum::Bool(true) => say("是", "yes"),
        Datum::Bool(false) => say("否", "no"),
        Datum::Array(items) if items.is_empty() => say("无", "none"),
        other => other.to_text(),
    }
}

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
