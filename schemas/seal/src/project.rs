//! The schema of a projected record: some top-level fields of a source schema, in
//! source order, under a new name. Values copy span by span, so the types must stay
//! byte-compatible; a named type whose first use is withheld is defined at its next use.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::schema::{
    LayoutError, PRIMITIVES, Schema, full_name, is_full_name, namespace_of, parse_json, split_name,
};

/// Projects `avsc` to the fields `kept` (rising indices) as record `new_name`
/// (`consumer.purpose.Record`). The output is the same bytes on every machine.
pub fn project_schema(avsc: &[u8], kept: &[u16], new_name: &str) -> Result<String, LayoutError> {
    Schema::parse(avsc)?;
    let top = parse_json(avsc)?;
    if !is_full_name(new_name) {
        return Err(LayoutError::Invalid {
            at: "schema".into(),
            what: "the projected name is not a valid full name",
        });
    }
    if kept.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(LayoutError::FieldOrder);
    }
    let source_name = full_name(&top, "").unwrap_or_default();
    let source_space = namespace_of(&source_name).to_owned();
    let fields = top
        .get("fields")
        .and_then(Value::as_array)
        .ok_or(LayoutError::NotARecord)?;

    let mut definitions = HashMap::new();
    collect(&Value::Object(top.clone()), "", &mut definitions);

    let (space, name) = split_name(new_name);
    let mut emitter = Emitter {
        definitions: &definitions,
        written: HashSet::new(),
        space: space.unwrap_or(""),
        out: String::with_capacity(avsc.len()),
    };
    emitter.out.push_str("{\"type\":\"record\",\"name\":");
    emitter.json(&Value::String(name.to_owned()));
    if let Some(space) = space {
        emitter.out.push_str(",\"namespace\":");
        emitter.json(&Value::String(space.to_owned()));
    }
    if let Some(doc @ Value::String(_)) = top.get("doc") {
        emitter.out.push_str(",\"doc\":");
        emitter.json(doc);
    }
    emitter.out.push_str(",\"fields\":[");
    for (position, index) in kept.iter().enumerate() {
        let field = fields
            .get(*index as usize)
            .ok_or(LayoutError::NoSuchField(*index))?;
        if position > 0 {
            emitter.out.push(',');
        }
        emitter.field(field, &source_space);
    }
    emitter.out.push_str("]}");
    Ok(emitter.out)
}

/// Every named definition with the namespace it stands in.
fn collect(value: &Value, space: &str, into: &mut HashMap<String, (Value, String)>) {
    match value {
        Value::Array(branches) => branches
            .iter()
            .for_each(|branch| collect(branch, space, into)),
        Value::Object(map) => {
            let kind = map.get("type").and_then(Value::as_str);
            let mut inner = space.to_owned();
            if matches!(kind, Some("record" | "error" | "enum" | "fixed"))
                && let Some(full) = full_name(map, space)
            {
                inner = namespace_of(&full).to_owned();
                into.insert(full, (value.clone(), space.to_owned()));
            }
            for key in ["items", "values"] {
                if let Some(nested) = map.get(key) {
                    collect(nested, &inner, into);
                }
            }
            if let Some(nested @ (Value::Object(_) | Value::Array(_))) = map.get("type") {
                collect(nested, &inner, into);
            }
            if let Some(Value::Array(fields)) = map.get("fields") {
                for field in fields {
                    if let Some(kind) = field.get("type") {
                        collect(kind, &inner, into);
                    }
                }
            }
        }
        _ => {}
    }
}

struct Emitter<'s> {
    definitions: &'s HashMap<String, (Value, String)>,
    written: HashSet<String>,
    /// Namespace of the projected record: home of named types that have none.
    space: &'s str,
    out: String,
}

impl Emitter<'_> {
    fn json(&mut self, value: &Value) {
        match value {
            Value::Object(map) => self.attributes(map, &[]),
            Value::Array(items) => {
                self.out.push('[');
                for (position, item) in items.iter().enumerate() {
                    if position > 0 {
                        self.out.push(',');
                    }
                    self.json(item);
                }
                self.out.push(']');
            }
            scalar => self.out.push_str(&scalar.to_string()),
        }
    }

    /// A whole object, keys sorted: serde_json's own order depends on its features.
    fn attributes(&mut self, map: &Map<String, Value>, without: &[&str]) {
        self.out.push('{');
        self.rest(map, without, true);
        self.out.push('}');
    }

    fn rest(&mut self, map: &Map<String, Value>, without: &[&str], mut first: bool) {
        let mut keys: Vec<&String> = map
            .keys()
            .filter(|key| !without.contains(&key.as_str()))
            .collect();
        keys.sort();
        for key in keys {
            if !first {
                self.out.push(',');
            }
            first = false;
            self.json(&Value::String(key.clone()));
            self.out.push(':');
            self.json(&map[key]);
        }
    }

    fn field(&mut self, field: &Value, space: &str) {
        let Value::Object(map) = field else { return };
        self.out.push_str("{\"name\":");
        self.json(&map["name"]);
        self.out.push_str(",\"type\":");
        self.ty(&map["type"], space);
        self.rest(map, &["name", "type"], false);
        self.out.push('}');
    }

    fn ty(&mut self, value: &Value, space: &str) {
        match value {
            Value::String(name) if PRIMITIVES.contains(&name.as_str()) => self.json(value),
            Value::String(name) => {
                let full = if name.contains('.') || space.is_empty() {
                    name.clone()
                } else {
                    format!("{space}.{name}")
                };
                self.named(&full);
            }
            Value::Array(branches) => {
                self.out.push('[');
                for (position, branch) in branches.iter().enumerate() {
                    if position > 0 {
                        self.out.push(',');
                    }
                    self.ty(branch, space);
                }
                self.out.push(']');
            }
            Value::Object(map) => self.object(map, space),
            other => self.json(other),
        }
    }

    fn object(&mut self, map: &Map<String, Value>, space: &str) {
        match map.get("type") {
            Some(Value::String(kind)) => match kind.as_str() {
                "record" | "error" | "enum" | "fixed" => {
                    if let Some(full) = full_name(map, space) {
                        self.named(&full);
                    }
                }
                "array" | "map" => {
                    let key = if kind == "array" { "items" } else { "values" };
                    self.out.push_str("{\"type\":");
                    self.json(&map["type"]);
                    self.out.push_str(&format!(",\"{key}\":"));
                    self.ty(&map[key], space);
                    self.rest(map, &["type", key], false);
                    self.out.push('}');
                }
                primitive if PRIMITIVES.contains(&primitive) => {
                    self.out.push_str("{\"type\":");
                    self.json(&map["type"]);
                    self.rest(map, &["type"], false);
                    self.out.push('}');
                }
                _ => self.ty(&map["type"], space),
            },
            Some(inner) => self.ty(inner, space),
            None => {}
        }
    }

    /// The definition at its first use, the full name after that.
    fn named(&mut self, full: &str) {
        let outer = if full.contains('.') || self.space.is_empty() {
            full.to_owned()
        } else {
            format!("{}.{full}", self.space)
        };
        if !self.written.insert(full.to_owned()) {
            self.json(&Value::String(outer));
            return;
        }
        let Some((Value::Object(map), _)) = self.definitions.get(full).cloned() else {
            return;
        };
        let inner = namespace_of(full).to_owned();
        let (space, name) = split_name(&outer);
        self.out.push_str("{\"type\":");
        self.json(&map["type"]);
        self.out.push_str(",\"name\":");
        self.json(&Value::String(name.to_owned()));
        self.out.push_str(",\"namespace\":");
        self.json(&Value::String(space.unwrap_or("").to_owned()));
        if let Some(Value::Array(fields)) = map.get("fields") {
            self.out.push_str(",\"fields\":[");
            for (position, field) in fields.iter().enumerate() {
                if position > 0 {
                    self.out.push(',');
                }
                self.field(field, &inner);
            }
            self.out.push(']');
        }
        self.rest(&map, &["type", "name", "namespace", "fields"], false);
        self.out.push('}');
    }
}
