//! The golden vectors as JSON: written to and read from `tests/vectors`.

#![expect(
    clippy::expect_used,
    reason = "test code: a broken vector must fail loudly"
)]

use serde_json::{Value, json};

use super::golden::{Altered, EventVector, Golden, golden_dir};
use super::{TestSigner, WireEvent};
use crate::{headers, schema_digest, unframe};

impl Golden {
    /// The files of `tests/vectors`, name and content.
    pub fn files(&self) -> Vec<(&'static str, Value)> {
        let key = |signer: &TestSigner, seed: u8, status: Value| {
            json!({
                "department": self.department,
                "id": crate::Signer::key_id(signer),
                "suite": "ed25519-sha256",
                "test_only_seed": hex(&[seed; 32]),
                "public": hex(&signer.public()),
                "status": status,
            })
        };
        let setup = json!({
            "bus": self.bus,
            "department": self.department,
            "dataset": self.dataset,
            "streams": self.streams,
            "lanes": self.lanes,
            "schema_id": self.schema_id,
            "schema_sha256": hex(&schema_digest(&self.avsc)),
            "projected_schema_id": self.projected_schema_id,
            "subject_field": self.subject_field,
            "record_fields": self.record_fields,
            "kept": self.kept,
            "keys": [
                key(&self.signer, 0x11, json!("active")),
                key(&self.revoked, 0x22, json!({"revoked": {"last_batch": {"insurance": {"epoch": 1, "batch": 6}}}})),
            ],
        });
        let events: Vec<Value> = self
            .events
            .iter()
            .map(|vector| self.describe(vector))
            .collect();
        let deliveries: Vec<Value> = self
            .deliveries
            .iter()
            .map(|vector| {
                let mut out = wire_json(&vector.event);
                out["name"] = json!(vector.name);
                out["of"] = json!(vector.of);
                out["kept"] = json!(vector.kept);
                out["subject"] = json!(vector.subject);
                out["record"] = json!(vector.record);
                out["event_digest"] = json!(hex(&self.events[vector.of].digest));
                out
            })
            .collect();
        let altered = |list: &[Altered]| {
            list.iter()
                .map(|altered| {
                    let mut out = wire_json(&altered.event);
                    out["name"] = json!(altered.name);
                    out["code"] = json!(altered.code);
                    out["needs_gateway"] = json!(altered.needs_gateway);
                    out["of"] = json!(altered.of);
                    out
                })
                .collect::<Vec<_>>()
        };
        let projected: Value =
            serde_json::from_str(&self.projected_avsc).expect("a projection is JSON");
        vec![
            ("setup.json", setup),
            ("events.json", Value::Array(events)),
            ("deliveries.json", Value::Array(deliveries)),
            ("altered.json", Value::Array(altered(&self.altered))),
            (
                "altered-deliveries.json",
                Value::Array(altered(&self.altered_deliveries)),
            ),
            ("projected.avsc", projected),
        ]
    }

    /// One event with every value on the way to its signature.
    fn describe(&self, vector: &EventVector) -> Value {
        let seal = crate::SourceSeal::parse(
            vector
                .event
                .header(headers::SEAL)
                .expect("a vector has a seal"),
        )
        .expect("a vector's seal parses");
        let (_, datum) = unframe(&vector.event.value).expect("a vector is framed");
        let mut spans = Vec::new();
        self.layout
            .spans(datum, &mut spans)
            .expect("a vector fits its schema");
        let mut scratch = crate::sealing::Scratch::default();
        scratch.digest(
            seal.meta_bytes,
            seal.seed,
            &vector.subject,
            &vector.record,
            datum,
            &spans,
        );
        let statement = crate::BatchStatement {
            suite: seal.suite,
            key_id: seal.batch.key_id,
            department: seal.meta.department,
            stream: seal.meta.stream,
            epoch: seal.meta.epoch,
            number: seal.batch.number,
            count: seal.batch.count,
            root: vector.root,
        };
        let leaves: Vec<String> = (0..spans.len() + 3)
            .map(|index| hex(scratch.leaves.leaf(index)))
            .collect();
        let mut out = wire_json(&vector.event);
        out["name"] = json!(vector.name);
        out["subject"] = json!(vector.subject);
        out["record"] = json!(vector.record);
        out["meta"] = json!({
            "bus": seal.meta.bus,
            "department": seal.meta.department,
            "stream": seal.meta.stream,
            "dataset": seal.meta.dataset,
            "lane": seal.meta.lane,
            "sequence": seal.meta.sequence,
            "ce_id": seal.meta.ce_id_text(),
            "ce_time": seal.meta.ce_time_text(),
            "schema": hex(&seal.meta.schema),
            "field_count": seal.meta.field_count,
            "epoch": seal.meta.epoch,
            "counter": seal.meta.counter,
            "withdrawn": seal.meta.withdrawn,
        });
        out["meta_avro"] = json!(hex(seal.meta_bytes));
        out["seed"] = json!(hex(seal.seed));
        out["salts"] = json!(
            scratch
                .salts
                .iter()
                .map(|salt| hex(salt))
                .collect::<Vec<_>>()
        );
        out["spans"] = json!(
            spans
                .iter()
                .map(|span| [span.start, span.end])
                .collect::<Vec<_>>()
        );
        out["leaves"] = json!(leaves);
        out["event_digest"] = json!(hex(&vector.digest));
        out["batch"] = json!({
            "key_id": seal.batch.key_id,
            "number": seal.batch.number,
            "count": seal.batch.count,
            "index": seal.batch.index,
            "path": seal.batch.path.chunks(32).map(hex).collect::<Vec<_>>(),
            "root": hex(&vector.root),
            "payload": hex(&statement.payload()),
            "signature": hex(seal.batch.signature),
        });
        out
    }

    /// Reads the committed vectors back: what other crates feed to their own doors.
    pub fn load_altered() -> Vec<Altered> {
        let text = std::fs::read_to_string(golden_dir().join("altered.json"))
            .expect("the vectors are committed");
        let list: Value = serde_json::from_str(&text).expect("the vectors are JSON");
        let entries = list.as_array().expect("the vectors are a list");
        entries
            .iter()
            .map(|entry| Altered {
                name: entry["name"].as_str().expect("a name").into(),
                code: entry["code"].as_str().expect("a code").into(),
                needs_gateway: entry["needs_gateway"].as_bool().expect("a flag"),
                of: entry["of"].as_u64().expect("a number") as usize,
                event: wire_from(entry),
            })
            .collect()
    }
}

fn wire_json(event: &WireEvent) -> Value {
    let headers: Vec<Value> = event
        .headers
        .iter()
        .map(|(name, value)| match name.as_str() {
            headers::SEAL => json!([name, bytes_json(value)]),
            _ => json!([name, String::from_utf8_lossy(value)]),
        })
        .collect();
    json!({ "lane": event.lane, "value": bytes_json(&event.value), "headers": headers })
}

fn wire_from(entry: &Value) -> WireEvent {
    let headers = entry["headers"].as_array().expect("headers");
    WireEvent {
        lane: entry["lane"].as_u64().expect("a lane") as u16,
        value: bytes_from(&entry["value"]),
        headers: headers
            .iter()
            .map(|pair| {
                let name = pair[0].as_str().expect("a header name").to_owned();
                let value = match pair[1].as_str() {
                    Some(text) => text.as_bytes().to_vec(),
                    None => bytes_from(&pair[1]),
                };
                (name, value)
            })
            .collect(),
    }
}

/// `{"hex": …}`, and `"zeros": n` for a long tail of zeros that is not written out.
fn bytes_json(bytes: &[u8]) -> Value {
    let kept = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    match bytes.len() - kept {
        zeros @ 64.. => json!({ "hex": hex(&bytes[..kept]), "zeros": zeros }),
        _ => json!({ "hex": hex(bytes) }),
    }
}

fn bytes_from(value: &Value) -> Vec<u8> {
    let mut bytes = unhex(value["hex"].as_str().expect("bytes"));
    let zeros = value["zeros"].as_u64().unwrap_or(0) as usize;
    bytes.resize(bytes.len() + zeros, 0);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "hex has an even length");
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).expect("hex digits"))
        .collect()
}
