//! A compiled walker for one record schema: finds the byte span of every
//! top-level field of a datum without building values.

use std::ops::Range;

use crate::MAX_DATUM_BYTES;
use crate::avro::{AvroFault, Reader};
use crate::schema::{Decimal, Node, Schema};
pub use crate::schema::{LayoutError, MAX_DEPTH, MAX_FIELDS};

/// Items of all arrays and maps of one datum; items may take no bytes at all.
pub const MAX_ITEMS: u32 = 65_536;

/// Byte range of a field inside the datum.
pub type Span = Range<u32>;

/// The type of a field, for those who map it (columns, expressions, forms).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldType {
    Null,
    Bool,
    Int,
    Long,
    Float,
    Double,
    String,
    Bytes,
    Date,
    TimestampMillis,
    Decimal {
        precision: u32,
        scale: u32,
    },
    Fixed(u32),
    Enum(Vec<String>),
    Array(Box<FieldType>),
    Map(Box<FieldType>),
    Record(Vec<(String, FieldType)>),
    /// Anything but `["null", T]` and `[T, "null"]`, which are `T` and nullable.
    Union(Vec<FieldType>),
    /// A type that contains itself, cut off here.
    Recursive,
}

/// One top-level field.
#[derive(Debug, Clone)]
pub struct FieldLayout {
    pub name: String,
    pub doc: Option<String>,
    pub ty: FieldType,
    pub nullable: bool,
    pub(crate) node: u32,
}

/// Where and why a datum does not fit its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}{fault}", match .field { Some(index) => format!("field {index}: "), None => String::new() })]
pub struct WalkError {
    /// Number of the top-level field, `None` for the datum as a whole.
    pub field: Option<u16>,
    pub fault: AvroFault,
}

/// A compiled record schema.
#[derive(Debug)]
pub struct Layout {
    name: String,
    pub(crate) nodes: Vec<Node>,
    fields: Vec<FieldLayout>,
}

impl Layout {
    /// Compiles the bytes of an .avsc whose top level is a record.
    pub fn compile(avsc: &[u8]) -> Result<Self, LayoutError> {
        let schema = Schema::parse(avsc)?;
        let mut docs = schema.docs.into_iter();
        let fields = schema
            .fields
            .iter()
            .map(|(name, node)| {
                let (ty, nullable) = describe_field(&schema.nodes, *node);
                FieldLayout {
                    name: name.to_string(),
                    doc: docs.next().flatten(),
                    ty,
                    nullable,
                    node: *node,
                }
            })
            .collect();
        Ok(Self {
            name: schema.name,
            nodes: schema.nodes,
            fields,
        })
    }

    /// The record's full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Top-level fields in schema order.
    pub fn fields(&self) -> &[FieldLayout] {
        &self.fields
    }

    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// Finds the span of every top-level field. The datum is checked whole: trailing
    /// bytes are a fault. `out` is cleared first; after an error its content means nothing.
    pub fn spans(&self, datum: &[u8], out: &mut Vec<Span>) -> Result<(), WalkError> {
        out.clear();
        if datum.len() > MAX_DATUM_BYTES {
            return Err(WalkError {
                field: None,
                fault: AvroFault::TooLarge,
            });
        }
        out.reserve(self.fields.len());
        let mut reader = Reader::new(datum);
        let mut items = MAX_ITEMS;
        for (index, field) in self.fields.iter().enumerate() {
            let start = reader.position() as u32;
            self.walk(field.node, &mut reader, 0, &mut items)
                .map_err(|fault| WalkError {
                    field: Some(index as u16),
                    fault,
                })?;
            out.push(start..reader.position() as u32);
        }
        reader
            .finish()
            .map_err(|fault| WalkError { field: None, fault })
    }

    /// Checks that `bytes` are exactly one value of field `field`.
    pub fn check_field(&self, field: usize, bytes: &[u8]) -> Result<(), AvroFault> {
        let field = self.fields.get(field).ok_or(AvroFault::OutOfRange)?;
        let mut reader = Reader::new(bytes);
        let mut items = MAX_ITEMS;
        self.walk(field.node, &mut reader, 0, &mut items)?;
        reader.finish()
    }

    /// The text of a string or enum field (or of that branch of a union) as it stands in the datum.
    pub fn read_string<'a>(
        &'a self,
        field: usize,
        datum: &'a [u8],
        spans: &[Span],
    ) -> Result<&'a str, WalkError> {
        let fail = |fault| WalkError {
            field: Some(field as u16),
            fault,
        };
        let layout = self.fields.get(field).ok_or(fail(AvroFault::OutOfRange))?;
        let bytes = spans
            .get(field)
            .and_then(|span| datum.get(span.start as usize..span.end as usize))
            .ok_or(fail(AvroFault::Truncated))?;
        let mut reader = Reader::new(bytes);
        let mut node = &self.nodes[layout.node as usize];
        if let Node::Union(branches) = node {
            let branch = reader.union(branches.len()).map_err(fail)?;
            node = &self.nodes[branches[branch] as usize];
        }
        match node {
            Node::Str => reader.string().map_err(fail),
            Node::Enum(symbols) => reader
                .symbol(symbols.len())
                .map(|index| &*symbols[index])
                .map_err(fail),
            _ => Err(fail(AvroFault::OutOfRange)),
        }
    }

    /// The text of a field whose type is `string` itself, no union.
    pub(crate) fn plain_string<'a>(
        &self,
        field: usize,
        datum: &'a [u8],
        spans: &[Span],
    ) -> Result<&'a str, WalkError> {
        let fail = |fault| WalkError {
            field: Some(field as u16),
            fault,
        };
        let node = self
            .fields
            .get(field)
            .map(|field| &self.nodes[field.node as usize]);
        let (Some(Node::Str), Some(span)) = (node, spans.get(field)) else {
            return Err(fail(AvroFault::OutOfRange));
        };
        Reader::new(&datum[span.start as usize..span.end as usize])
            .string()
            .map_err(fail)
    }

    /// Steps over one value.
    fn walk(
        &self,
        node: u32,
        reader: &mut Reader<'_>,
        depth: usize,
        items: &mut u32,
    ) -> Result<(), AvroFault> {
        match &self.nodes[node as usize] {
            Node::Null => Ok(()),
            Node::Bool => reader.boolean().map(drop),
            Node::Int | Node::Date => reader.int().map(drop),
            Node::Long | Node::TimestampMillis => reader.long().map(drop),
            Node::Float => reader.take(4).map(drop),
            Node::Double => reader.take(8).map(drop),
            Node::Bytes => reader.bytes().map(drop),
            Node::BytesDecimal(decimal) => decimal_fits(reader.bytes()?, *decimal).map(drop),
            Node::Str => reader.string().map(drop),
            Node::Fixed(size) => reader.take(*size as usize).map(drop),
            Node::FixedDecimal(size, decimal) => {
                decimal_fits(reader.take(*size as usize)?, *decimal).map(drop)
            }
            Node::Enum(symbols) => reader.symbol(symbols.len()).map(drop),
            Node::Union(branches) => {
                let branch = reader.union(branches.len())?;
                self.walk(branches[branch], reader, deeper(depth)?, items)
            }
            Node::Record(fields) => {
                let depth = deeper(depth)?;
                fields
                    .iter()
                    .try_for_each(|(_, field)| self.walk(*field, reader, depth, items))
            }
            Node::Array(item) => {
                let depth = deeper(depth)?;
                while let Some(block) = reader.block()? {
                    spend(items, block.count)?;
                    for _ in 0..block.count {
                        self.walk(*item, reader, depth, items)?;
                    }
                    block.check(reader)?;
                }
                Ok(())
            }
            Node::Map(value) => {
                let depth = deeper(depth)?;
                while let Some(block) = reader.block()? {
                    spend(items, block.count)?;
                    for _ in 0..block.count {
                        reader.string()?;
                        self.walk(*value, reader, depth, items)?;
                    }
                    block.check(reader)?;
                }
                Ok(())
            }
            Node::Pending => Err(AvroFault::OutOfRange),
        }
    }
}

pub(crate) fn deeper(depth: usize) -> Result<usize, AvroFault> {
    if depth >= MAX_DEPTH {
        Err(AvroFault::TooDeep)
    } else {
        Ok(depth + 1)
    }
}

pub(crate) fn spend(items: &mut u32, count: u64) -> Result<(), AvroFault> {
    let count = u32::try_from(count).map_err(|_| AvroFault::TooManyItems)?;
    *items = items.checked_sub(count).ok_or(AvroFault::TooManyItems)?;
    Ok(())
}

/// The unscaled value of a decimal, within its precision. Big-endian two's complement.
pub(crate) fn decimal_fits(bytes: &[u8], decimal: Decimal) -> Result<i128, AvroFault> {
    if bytes.is_empty() || bytes.len() > 16 {
        return Err(AvroFault::DecimalPrecision);
    }
    let mut wide = if bytes[0] & 0x80 == 0 {
        [0; 16]
    } else {
        [0xff; 16]
    };
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    let unscaled = i128::from_be_bytes(wide);
    // Precision is at most 38, and 10^38 < 2^127.
    if unscaled.unsigned_abs() >= 10u128.pow(decimal.precision) {
        return Err(AvroFault::DecimalPrecision);
    }
    Ok(unscaled)
}

fn describe_field(nodes: &[Node], node: u32) -> (FieldType, bool) {
    let mut open = Vec::new();
    if let Node::Union(branches) = &nodes[node as usize]
        && let [left, right] = **branches
    {
        let value = match (&nodes[left as usize], &nodes[right as usize]) {
            (Node::Null, _) => Some(right),
            (_, Node::Null) => Some(left),
            _ => None,
        };
        if let Some(value) = value {
            return (describe(nodes, value, &mut open), true);
        }
    }
    let nullable = match &nodes[node as usize] {
        Node::Null => true,
        Node::Union(branches) => branches
            .iter()
            .any(|b| matches!(nodes[*b as usize], Node::Null)),
        _ => false,
    };
    (describe(nodes, node, &mut open), nullable)
}

fn describe(nodes: &[Node], node: u32, open: &mut Vec<u32>) -> FieldType {
    if open.contains(&node) || open.len() > MAX_DEPTH {
        return FieldType::Recursive;
    }
    open.push(node);
    let ty = match &nodes[node as usize] {
        Node::Null => FieldType::Null,
        Node::Bool => FieldType::Bool,
        Node::Int => FieldType::Int,
        Node::Date => FieldType::Date,
        Node::Long => FieldType::Long,
        Node::TimestampMillis => FieldType::TimestampMillis,
        Node::Float => FieldType::Float,
        Node::Double => FieldType::Double,
        Node::Bytes => FieldType::Bytes,
        Node::Str => FieldType::String,
        Node::BytesDecimal(d) | Node::FixedDecimal(_, d) => FieldType::Decimal {
            precision: d.precision,
            scale: d.scale,
        },
        Node::Fixed(size) => FieldType::Fixed(*size),
        Node::Enum(symbols) => FieldType::Enum(symbols.iter().map(|s| s.to_string()).collect()),
        Node::Array(item) => FieldType::Array(Box::new(describe(nodes, *item, open))),
        Node::Map(value) => FieldType::Map(Box::new(describe(nodes, *value, open))),
        Node::Union(branches) => {
            FieldType::Union(branches.iter().map(|b| describe(nodes, *b, open)).collect())
        }
        Node::Record(fields) => FieldType::Record(
            fields
                .iter()
                .map(|(name, field)| (name.to_string(), describe(nodes, *field, open)))
                .collect(),
        ),
        Node::Pending => FieldType::Recursive,
    };
    open.pop();
    ty
}
