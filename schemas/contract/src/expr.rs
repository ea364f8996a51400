//! Rules written in CEL, checked against the schema at load and evaluated on the bytes of an event.
//!
//! The `cel` crate parses; what runs is a small typed tree of our own. So a rule that names a field,
//! an enum symbol or a type wrongly is a fault of the contract, found by lint, not a rule that is
//! silently never true; the cost of one evaluation is bounded by the rule's length; and only the
//! fields that a rule names are read.
//!
//! The language: `&& || ! ?: == != < <= > >= in + - * / %`, literals, list literals after `in`,
//! `size(x)`, `x.startsWith(s)`, `x.endsWith(s)`, `x.contains(s)`, `today`, `date("YYYY-MM-DD")` and
//! `months_between(from, to)`. No comprehensions or macros, no nested fields, no regular expressions.
//! Enums compare with their symbols as strings, dates with `"YYYY-MM-DD"`, decimals exactly with
//! number literals. A null is equal only to null; ordering or counting a null is an evaluation error,
//! which `&&` and `||` absorb as CEL says (`x != null && x > 3` is safe).

mod check;
mod eval;
#[cfg(test)]
mod tests;
mod tree;

use std::ops::Range;

use thiserror::Error;

use crate::avro;
use crate::dataset::{Field, Share};
use crate::value::{Moment, Value};

pub use eval::EvalError;
pub(crate) use eval::Input;
pub use tree::Kind;
use tree::Node;
pub(crate) use tree::Ty;

/// Longest rule, in bytes.
pub const MAX_SOURCE_BYTES: usize = 1024;
/// Most nodes in one rule.
pub const MAX_NODES: usize = 128;
/// Deepest nesting of a rule.
pub const MAX_DEPTH: u16 = 24;

/// Why a rule can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{code}: {what}")]
pub struct ExprFault {
    /// `EXPR_SYNTAX`, `EXPR_TOO_LARGE`, `EXPR_NOT_ALLOWED`, `EXPR_UNKNOWN_FIELD`, `EXPR_TYPE`, `EXPR_SYMBOL`.
    pub code: &'static str,
    /// The name, operator or literal it is about.
    pub what: String,
}

impl ExprFault {
    pub(crate) fn new(code: &'static str, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
        }
    }
}

/// What names mean where a rule stands.
pub(crate) trait Names {
    /// A bare name.
    fn name(&self, name: &str) -> Option<(u16, Ty)>;
    /// `root.member`.
    fn member(&self, _root: &str, _member: &str) -> Option<(u16, Ty)> {
        None
    }
}

/// A rule over any input; `Expr` is the one over an event.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) source: String,
    root: Node,
    pub(crate) ty: Ty,
    pub(crate) slots: Vec<u16>,
}

impl Rule {
    pub(crate) fn compile(source: &str, names: &dyn Names) -> Result<Self, ExprFault> {
        let (root, ty, slots) = check::compile(source, names)?;
        Ok(Self {
            source: source.to_owned(),
            root,
            ty,
            slots,
        })
    }

    /// Compiles a rule that must be a yes or no.
    pub(crate) fn condition(source: &str, names: &dyn Names) -> Result<Self, ExprFault> {
        let rule = Self::compile(source, names)?;
        if rule.ty.kind() != Kind::Bool {
            return Err(ExprFault::new(
                "EXPR_TYPE",
                format!("{} ≠ bool", rule.ty.kind().as_str()),
            ));
        }
        Ok(rule)
    }

    pub(crate) fn holds<I: Input>(&self, input: &I, now: Moment) -> Result<bool, EvalError> {
        match eval::eval(&self.root, input, now)? {
            Value::Bool(value) => Ok(value),
            // A condition that comes out null (only a nullable boolean can) is not met.
            Value::Null => Ok(false),
            _ => Err(EvalError::Type),
        }
    }

    fn value<'a, I: Input>(&'a self, input: &'a I, now: Moment) -> Result<Value<'a>, EvalError> {
        eval::eval(&self.root, input, now)
    }
}

/// A compiled rule over the events of one dataset.
#[derive(Clone, Debug)]
pub struct Expr {
    rule: Rule,
    /// The fields it reads, ascending, with what is needed to read them.
    fields: Vec<(u16, mz_seal::FieldLayout)>,
}

struct EventNames<'f>(&'f [Field]);

impl Names for EventNames<'_> {
    fn name(&self, name: &str) -> Option<(u16, Ty)> {
        let index = self.0.iter().position(|field| field.name == name)?;
        Some((u16::try_from(index).ok()?, Ty::of(&self.0[index].layout)))
    }
}

struct EventInput<'a> {
    fields: &'a [(u16, mz_seal::FieldLayout)],
    datum: &'a [u8],
    spans: &'a [Range<u32>],
}

impl Input for EventInput<'_> {
    fn read(&self, slot: u16) -> Result<Value<'_>, EvalError> {
        // A rule names a handful of fields: walking them beats hashing.
        let (_, layout) = self
            .fields
            .iter()
            .find(|(index, _)| *index == slot)
            .ok_or(EvalError::Shape)?;
        let span = self.spans.get(usize::from(slot)).ok_or(EvalError::Shape)?;
        let bytes = self
            .datum
            .get(span.start as usize..span.end as usize)
            .ok_or(EvalError::Shape)?;
        avro::read(layout, bytes).map_err(|_| EvalError::Shape)
    }
}

impl Expr {
    /// Compiles a rule of any type over a dataset's fields.
    pub fn compile(source: &str, fields: &[Field]) -> Result<Self, ExprFault> {
        Ok(Self::over(
            Rule::compile(source, &EventNames(fields))?,
            fields,
        ))
    }

    /// Compiles a rule that must be a yes or no.
    pub fn condition(source: &str, fields: &[Field]) -> Result<Self, ExprFault> {
        Ok(Self::over(
            Rule::condition(source, &EventNames(fields))?,
            fields,
        ))
    }

    fn over(rule: Rule, fields: &[Field]) -> Self {
        let fields = rule
            .slots
            .iter()
            .filter_map(|&slot| Some((slot, fields.get(usize::from(slot))?.layout.clone())))
            .collect();
        Self { rule, fields }
    }

    /// Whether the rule holds for an event. `spans` are those of the dataset's layout; fields the rule
    /// doesn't name are not read. An error is not "no": the caller must treat it as a fault of the event.
    pub fn holds(
        &self,
        datum: &[u8],
        spans: &[Range<u32>],
        now: Moment,
    ) -> Result<bool, EvalError> {
        self.rule.holds(
            &EventInput {
                fields: &self.fields,
                datum,
                spans,
            },
            now,
        )
    }

    /// The rule's value for an event: a derived answer.
    pub fn value(
        &self,
        datum: &[u8],
        spans: &[Range<u32>],
        now: Moment,
    ) -> Result<Value<'static>, EvalError> {
        let input = EventInput {
            fields: &self.fields,
            datum,
            spans,
        };
        self.rule.value(&input, now).map(Value::into_owned)
    }

    #[must_use]
    pub fn source(&self) -> &str {
        &self.rule.source
    }

    /// Indices of the fields that the rule reads, ascending.
    #[must_use]
    pub fn fields(&self) -> &[u16] {
        &self.rule.slots
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.rule.ty.kind()
    }

    /// Whether the value can be null.
    #[must_use]
    pub fn nullable(&self) -> bool {
        self.rule.ty.nullable()
    }

    /// The first field it reads that its provider shares with nobody.
    pub(crate) fn forbidden<'f>(&self, fields: &'f [Field]) -> Option<&'f Field> {
        self.rule
            .slots
            .iter()
            .filter_map(|&slot| fields.get(usize::from(slot)))
            .find(|field| field.share == Share::Never)
    }
}
