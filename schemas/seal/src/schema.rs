//! Reads an Avro schema (.avsc) into an arena of nodes. Strict about what the
//! specification leaves to readers: names, duplicates, unions and logical types
//! are checked here, once, so that walking a datum needs no checks of its own.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// A committed schema is at most this many bytes.
pub const MAX_SCHEMA_BYTES: usize = 256 * 1024;
/// Top-level fields of a record; more would not fit the seal's size limit.
pub const MAX_FIELDS: usize = 256;
/// Nesting of a schema and of a datum.
pub const MAX_DEPTH: usize = 24;
/// Nodes of one schema.
const MAX_NODES: usize = 8192;
/// Decimals are held as `i128`.
pub const MAX_DECIMAL_PRECISION: u32 = 38;

/// Why a schema can't be used. Names are those of the schema, never of a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("the schema is not JSON: {0}")]
    NotJson(String),
    #[error("the schema is larger than {MAX_SCHEMA_BYTES} bytes")]
    TooLarge,
    #[error("the top level of the schema is not a record")]
    NotARecord,
    #[error("the record has {0} fields, {MAX_FIELDS} are allowed")]
    TooManyFields(usize),
    #[error("types nest deeper than {MAX_DEPTH}")]
    TooDeep,
    #[error("the schema has more than {MAX_NODES} types")]
    TooManyTypes,
    #[error("{at}: {what}")]
    Invalid { at: String, what: &'static str },
    #[error("{at}: no type is named {name}")]
    UnknownType { at: String, name: String },
    #[error("{at}: {name} is defined twice")]
    DuplicateType { at: String, name: String },
    #[error("field {0} appears twice")]
    DuplicateField(String),
    #[error("the record has no field number {0}")]
    NoSuchField(u16),
    #[error("kept fields are not in rising order")]
    FieldOrder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub precision: u32,
    pub scale: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Null,
    Bool,
    Int,
    Date,
    Long,
    TimestampMillis,
    Float,
    Double,
    Bytes,
    BytesDecimal(Decimal),
    Str,
    Fixed(u32),
    FixedDecimal(u32, Decimal),
    Enum(Box<[Box<str>]>),
    Array(u32),
    Map(u32),
    Union(Box<[u32]>),
    Record(Box<[(Box<str>, u32)]>),
    /// A named type that is still being read (a type may contain itself).
    Pending,
}

#[derive(Debug)]
pub(crate) struct Schema {
    pub nodes: Vec<Node>,
    pub name: String,
    pub fields: Vec<(Box<str>, u32)>,
    pub docs: Vec<Option<String>>,
}

/// Splits a full name into namespace and name.
pub(crate) fn split_name(full: &str) -> (Option<&str>, &str) {
    match full.rsplit_once('.') {
        Some((space, name)) => (Some(space), name),
        None => (None, full),
    }
}

/// The full name of a definition: `name` with dots stands alone, else `namespace`, else inherited.
pub(crate) fn full_name(definition: &Map<String, Value>, inherited: &str) -> Option<String> {
    let name = definition.get("name")?.as_str()?;
    if name.contains('.') {
        return Some(name.to_owned());
    }
    let space = definition
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or(inherited);
    Some(if space.is_empty() {
        name.to_owned()
    } else {
        format!("{space}.{name}")
    })
}

pub(crate) fn namespace_of(full: &str) -> &str {
    split_name(full).0.unwrap_or("")
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

pub(crate) fn is_full_name(text: &str) -> bool {
    text.split('.').all(is_name)
}

pub(crate) const PRIMITIVES: [&str; 8] = [
    "null", "boolean", "int", "long", "float", "double", "bytes", "string",
];

pub(crate) fn parse_json(avsc: &[u8]) -> Result<Map<String, Value>, LayoutError> {
    if avsc.len() > MAX_SCHEMA_BYTES {
        return Err(LayoutError::TooLarge);
    }
    // serde_json's own recursion limit (128) bounds the JSON; ours bounds the types.
    match serde_json::from_slice(avsc) {
        Ok(Value::Object(map)) if map.get("type").and_then(Value::as_str) == Some("record") => {
            Ok(map)
        }
        Ok(_) => Err(LayoutError::NotARecord),
        Err(error) => Err(LayoutError::NotJson(error.to_string())),
    }
}

impl Schema {
    pub fn parse(avsc: &[u8]) -> Result<Self, LayoutError> {
        let top = parse_json(avsc)?;
        let mut parser = Parser {
            nodes: Vec::new(),
            names: HashMap::new(),
        };
        let name = full_name(&top, "").unwrap_or_default();
        let docs = top
            .get("fields")
            .and_then(Value::as_array)
            .map_or_else(Vec::new, |fields| {
                fields
                    .iter()
                    .map(|f| f.get("doc").and_then(Value::as_str).map(str::to_owned))
                    .collect()
            });
        let root = parser.object(&top, "", "", 0)?;
        let Some(Node::Record(fields)) = parser.nodes.get(root as usize) else {
            return Err(LayoutError::NotARecord);
        };
        if fields.len() > MAX_FIELDS {
            return Err(LayoutError::TooManyFields(fields.len()));
        }
        let fields = fields.to_vec();
        Ok(Self {
            nodes: parser.nodes,
            name,
            fields,
            docs,
        })
    }
}

struct Parser {
    nodes: Vec<Node>,
    names: HashMap<String, u32>,
}

fn invalid(at: &str, what: &'static str) -> LayoutError {
    LayoutError::Invalid {
        at: if at.is_empty() {
            "schema".to_owned()
        } else {
            at.to_owned()
        },
        what,
    }
}

impl Parser {
    fn push(&mut self, node: Node) -> Result<u32, LayoutError> {
        if self.nodes.len() >= MAX_NODES {
            return Err(LayoutError::TooManyTypes);
        }
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as u32)
    }

    fn any(
        &mut self,
        value: &Value,
        space: &str,
        at: &str,
        depth: usize,
    ) -> Result<u32, LayoutError> {
        if depth > MAX_DEPTH {
            return Err(LayoutError::TooDeep);
        }
        match value {
            Value::String(name) => self.named(name, space, at),
            Value::Array(branches) => self.union(branches, space, at, depth),
            Value::Object(map) => self.object(map, space, at, depth),
            _ => Err(invalid(at, "a type is a name, a list or an object")),
        }
    }

    fn named(&mut self, name: &str, space: &str, at: &str) -> Result<u32, LayoutError> {
        if let Some(node) = primitive(name) {
            return self.push(node);
        }
        let full = if name.contains('.') || space.is_empty() {
            name.to_owned()
        } else {
            format!("{space}.{name}")
        };
        self.names
            .get(&full)
            .copied()
            .ok_or(LayoutError::UnknownType {
                at: at.to_owned(),
                name: full,
            })
    }

    fn union(
        &mut self,
        branches: &[Value],
        space: &str,
        at: &str,
        depth: usize,
    ) -> Result<u32, LayoutError> {
        let mut ids = Vec::with_capacity(branches.len());
        let mut seen: Vec<(u8, Option<u32>)> = Vec::with_capacity(branches.len());
        for branch in branches {
            if branch.is_array() {
                return Err(invalid(at, "a union may not directly contain a union"));
            }
            let id = self.any(branch, space, at, depth + 1)?;
            let kind = self.branch_kind(id);
            if seen.contains(&kind) {
                return Err(invalid(at, "a union holds two branches of one type"));
            }
            seen.push(kind);
            ids.push(id);
        }
        if ids.is_empty() {
            return Err(invalid(at, "a union has no branches"));
        }
        self.push(Node::Union(ids.into()))
    }

    /// Unions may repeat only named types, and those only under different names.
    fn branch_kind(&self, id: u32) -> (u8, Option<u32>) {
        match &self.nodes[id as usize] {
            Node::Null => (0, None),
            Node::Bool => (1, None),
            Node::Int | Node::Date => (2, None),
            Node::Long | Node::TimestampMillis => (3, None),
            Node::Float => (4, None),
            Node::Double => (5, None),
            Node::Bytes | Node::BytesDecimal(_) => (6, None),
            Node::Str => (7, None),
            Node::Array(_) => (8, None),
            Node::Map(_) => (9, None),
            Node::Union(_) => (10, None),
            Node::Fixed(_)
            | Node::FixedDecimal(..)
            | Node::Enum(_)
            | Node::Record(_)
            | Node::Pending => (11, Some(id)),
        }
    }

    fn object(
        &mut self,
        map: &Map<String, Value>,
        space: &str,
        at: &str,
        depth: usize,
    ) -> Result<u32, LayoutError> {
        if depth > MAX_DEPTH {
            return Err(LayoutError::TooDeep);
        }
        let kind = match map.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            // {"type": {…}}: a type wrapped in attributes.
            Some(inner @ (Value::Object(_) | Value::Array(_))) => {
                return self.any(inner, space, at, depth + 1);
            }
            _ => return Err(invalid(at, "a type object has no \"type\"")),
        };
        let logical = map.get("logicalType").and_then(Value::as_str);
        match kind {
            "record" | "error" => self.record(map, space, at, depth),
            "enum" => self.enumeration(map, space, at),
            "fixed" => {
                let size = map
                    .get("size")
                    .and_then(Value::as_u64)
                    .and_then(|size| u32::try_from(size).ok())
                    .filter(|size| *size as usize <= crate::MAX_DATUM_BYTES)
                    .ok_or_else(|| {
                        invalid(at, "a fixed needs a size within the limit of a value")
                    })?;
                let node = match decimal(map, logical, at)? {
                    Some(decimal) if size <= 16 => Node::FixedDecimal(size, decimal),
                    Some(_) => return Err(invalid(at, "a fixed decimal has at most 16 bytes")),
                    None => Node::Fixed(size),
                };
                self.define(map, space, at, node)
            }
            "array" => {
                let items = map
                    .get("items")
                    .ok_or_else(|| invalid(at, "an array has no items"))?;
                let items = self.any(items, space, at, depth + 1)?;
                self.push(Node::Array(items))
            }
            "map" => {
                let values = map
                    .get("values")
                    .ok_or_else(|| invalid(at, "a map has no values"))?;
                let values = self.any(values, space, at, depth + 1)?;
                self.push(Node::Map(values))
            }
            "bytes" => {
                let node = decimal(map, logical, at)?.map_or(Node::Bytes, Node::BytesDecimal);
                self.push(node)
            }
            "int" if logical == Some("date") => self.push(Node::Date),
            "long" if logical == Some("timestamp-millis") => self.push(Node::TimestampMillis),
            other => self.named(other, space, at),
        }
    }

    fn define(
        &mut self,
        map: &Map<String, Value>,
        space: &str,
        at: &str,
        node: Node,
    ) -> Result<u32, LayoutError> {
        let full = full_name(map, space)
            .filter(|full| is_full_name(full))
            .ok_or_else(|| invalid(at, "a named type has no valid name"))?;
        if primitive(&full).is_some() {
            return Err(invalid(at, "a named type takes the name of a primitive"));
        }
        let id = self.push(node)?;
        if self.names.insert(full.clone(), id).is_some() {
            return Err(LayoutError::DuplicateType {
                at: at.to_owned(),
                name: full,
            });
        }
        Ok(id)
    }

    fn enumeration(
        &mut self,
        map: &Map<String, Value>,
        space: &str,
        at: &str,
    ) -> Result<u32, LayoutError> {
        let symbols = map
            .get("symbols")
            .and_then(Value::as_array)
            .ok_or_else(|| invalid(at, "an enum has no symbols"))?;
        let mut names: Vec<Box<str>> = Vec::with_capacity(symbols.len());
        for symbol in symbols {
            let symbol = symbol
                .as_str()
                .filter(|symbol| is_name(symbol))
                .ok_or_else(|| invalid(at, "an enum symbol is not a name"))?;
            if names.iter().any(|known| **known == *symbol) {
                return Err(invalid(at, "an enum symbol appears twice"));
            }
            names.push(symbol.into());
        }
        if names.is_empty() {
            return Err(invalid(at, "an enum has no symbols"));
        }
        self.define(map, space, at, Node::Enum(names.into()))
    }

    fn record(
        &mut self,
        map: &Map<String, Value>,
        space: &str,
        at: &str,
        depth: usize,
    ) -> Result<u32, LayoutError> {
        let id = self.define(map, space, at, Node::Pending)?;
        let full = full_name(map, space).unwrap_or_default();
        let inner = namespace_of(&full);
        let list = map
            .get("fields")
            .and_then(Value::as_array)
            .ok_or_else(|| invalid(at, "a record has no fields"))?;
        let mut fields: Vec<(Box<str>, u32)> = Vec::with_capacity(list.len().min(MAX_FIELDS));
        for field in list {
            let name = field
                .get("name")
                .and_then(Value::as_str)
                .filter(|name| is_name(name))
                .ok_or_else(|| invalid(at, "a field has no valid name"))?;
            let path = if at.is_empty() {
                name.to_owned()
            } else {
                format!("{at}.{name}")
            };
            if fields.iter().any(|(known, _)| **known == *name) {
                return Err(LayoutError::DuplicateField(path));
            }
            let kind = field
                .get("type")
                .ok_or_else(|| invalid(&path, "a field has no type"))?;
            // Some libraries let a logical type stand beside "type" in the field; the
            // specification does not, so readers would disagree about the value.
            if field.get("logicalType").is_some() {
                return Err(invalid(
                    &path,
                    "a logical type belongs inside the field's type",
                ));
            }
            let node = self.any(kind, inner, &path, depth + 1)?;
            fields.push((name.into(), node));
        }
        self.nodes[id as usize] = Node::Record(fields.into());
        Ok(id)
    }
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Bool,
        "int" => Node::Int,
        "long" => Node::Long,
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes,
        "string" => Node::Str,
        _ => return None,
    })
}

fn decimal(
    map: &Map<String, Value>,
    logical: Option<&str>,
    at: &str,
) -> Result<Option<Decimal>, LayoutError> {
    if logical != Some("decimal") {
        return Ok(None);
    }
    let number = |key: &str| {
        map.get(key)
            .and_then(Value::as_u64)
            .and_then(|n| u32::try_from(n).ok())
    };
    let precision = number("precision").ok_or_else(|| invalid(at, "a decimal has no precision"))?;
    let scale = if map.contains_key("scale") {
        number("scale").ok_or_else(|| invalid(at, "a decimal's scale is not a whole number"))?
    } else {
        0
    };
    if precision == 0 || precision > MAX_DECIMAL_PRECISION || scale > precision {
        return Err(invalid(
            at,
            "a decimal needs 1 <= precision <= 38 and scale <= precision",
        ));
    }
    Ok(Some(Decimal { precision, scale }))
}
