//! The typed tree that a rule becomes.

use mz_seal::{FieldLayout, FieldType};

use crate::value::Value;

/// The types rules work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Bool,
    Int,
    Double,
    Str,
    Enum,
    Date,
    Timestamp,
    Decimal,
    /// Array or map: only `size()`.
    Many,
    /// Bytes, records: only `== null`.
    Opaque,
}

impl Kind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::Str => "string",
            Self::Enum => "enum",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Decimal => "decimal",
            Self::Many => "list",
            Self::Opaque => "bytes",
        }
    }
}

/// A type with what comparing needs to know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ty {
    kind: Kind,
    nullable: bool,
    /// Symbols, for an enum.
    pub(crate) symbols: Vec<String>,
}

impl Ty {
    pub(crate) const fn plain(kind: Kind) -> Self {
        Self {
            kind,
            nullable: false,
            symbols: Vec::new(),
        }
    }

    pub(crate) fn symbols(symbols: &[&str]) -> Self {
        Self {
            kind: Kind::Enum,
            nullable: false,
            symbols: symbols.iter().map(|&s| s.to_owned()).collect(),
        }
    }

    pub(crate) fn or_null(mut self) -> Self {
        self.nullable = true;
        self
    }

    pub(crate) fn of(layout: &FieldLayout) -> Self {
        let mut symbols = Vec::new();
        let kind = match &layout.ty {
            FieldType::Null => Kind::Null,
            FieldType::Bool => Kind::Bool,
            FieldType::Int | FieldType::Long => Kind::Int,
            FieldType::Float | FieldType::Double => Kind::Double,
            FieldType::String => Kind::Str,
            FieldType::Date => Kind::Date,
            FieldType::TimestampMillis => Kind::Timestamp,
            FieldType::Decimal { .. } => Kind::Decimal,
            FieldType::Enum(names) => {
                symbols.clone_from(names);
                Kind::Enum
            }
            FieldType::Array(_) | FieldType::Map(_) => Kind::Many,
            FieldType::Bytes
            | FieldType::Fixed(_)
            | FieldType::Record(_)
            | FieldType::Union(_)
            | FieldType::Recursive => Kind::Opaque,
        };
        Self {
            kind,
            nullable: layout.nullable,
            symbols,
        }
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) const fn nullable(&self) -> bool {
        self.nullable
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arith {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Constant(Value<'static>),
    Slot(u16),
    Today,
    Not(Box<Self>),
    Negate(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Choose(Box<Self>, Box<Self>, Box<Self>),
    Compare(Compare, Box<Self>, Box<Self>),
    Arith(Arith, Box<Self>, Box<Self>),
    OneOf(Box<Self>, Vec<Value<'static>>),
    Size(Box<Self>),
    Text(TextTest, Box<Self>, Box<Self>),
    MonthsBetween(Box<Self>, Box<Self>),
}
