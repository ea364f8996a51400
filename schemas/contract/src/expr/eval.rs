//! Evaluates a checked tree. Total time is linear in the tree: nothing loops but over a literal list.

use std::cmp::Ordering;

use thiserror::Error;

use super::tree::{Arith, Compare, Node, TextTest};
use crate::value::{Moment, Value, months_between};

/// Where a rule's values come from.
pub(crate) trait Input {
    fn read(&self, slot: u16) -> Result<Value<'_>, EvalError>;
}

/// A rule has no value for this input. Carries no value of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EvalError {
    #[error("a null was ordered, counted or calculated with")]
    Null,
    #[error("a number left the range of 64 bits, or was divided by zero")]
    Arithmetic,
    #[error("a value has another type than its schema says")]
    Type,
    #[error("the datum does not have the shape of its schema")]
    Shape,
}

impl EvalError {
    /// The reason code; its texts are in `schemas/reasons.yaml`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Null => "RULE_NULL",
            Self::Arithmetic => "RULE_ARITHMETIC",
            Self::Type | Self::Shape => "RULE_SHAPE",
        }
    }
}

pub(super) fn eval<'a, I: Input>(
    node: &'a Node,
    input: &'a I,
    now: Moment,
) -> Result<Value<'a>, EvalError> {
    Ok(match node {
        Node::Constant(value) => borrow(value),
        Node::Slot(slot) => input.read(*slot)?,
        Node::Today => Value::Date(now.today),
        Node::Not(inner) => Value::Bool(!truth(eval(inner, input, now))?),
        Node::And(left, right) => Value::Bool(both(node, left, right, input, now)?),
        Node::Or(left, right) => Value::Bool(both(node, left, right, input, now)?),
        Node::Choose(test, yes, no) => {
            let chosen = if truth(eval(test, input, now))? {
                yes
            } else {
                no
            };
            eval(chosen, input, now)?
        }
        Node::Compare(compare, left, right) => Value::Bool(compare_values(
            *compare,
            &eval(left, input, now)?,
            &eval(right, input, now)?,
        )?),
        Node::OneOf(inner, list) => {
            let value = eval(inner, input, now)?;
            Value::Bool(list.iter().any(|member| equal(&value, member)))
        }
        Node::Negate(inner) => match eval(inner, input, now)? {
            Value::Int(value) => Value::Int(value.checked_neg().ok_or(EvalError::Arithmetic)?),
            Value::Double(value) => Value::Double(-value),
            Value::Null => return Err(EvalError::Null),
            _ => return Err(EvalError::Type),
        },
        Node::Arith(arith, left, right) => {
            calculate(*arith, &eval(left, input, now)?, &eval(right, input, now)?)?
        }
        Node::Size(inner) => match eval(inner, input, now)? {
            Value::Size(size) => {
                Value::Int(i64::try_from(size).map_err(|_| EvalError::Arithmetic)?)
            }
            Value::Str(text) => {
                Value::Int(i64::try_from(text.chars().count()).map_err(|_| EvalError::Arithmetic)?)
            }
            Value::Null => return Err(EvalError::Null),
            _ => return Err(EvalError::Type),
        },
        Node::Text(test, left, right) => {
            match (eval(left, input, now)?, eval(right, input, now)?) {
                (Value::Str(text), Value::Str(part)) => Value::Bool(match test {
                    TextTest::StartsWith => text.starts_with(&*part),
                    TextTest::EndsWith => text.ends_with(&*part),
                    TextTest::Contains => text.contains(&*part),
                }),
                (Value::Null, _) | (_, Value::Null) => return Err(EvalError::Null),
                _ => return Err(EvalError::Type),
            }
        }
        Node::MonthsBetween(from, to) => match (eval(from, input, now)?, eval(to, input, now)?) {
            (Value::Date(from), Value::Date(to)) => {
                Value::Int(months_between(from, to).ok_or(EvalError::Arithmetic)?)
            }
            (Value::Null, _) | (_, Value::Null) => return Err(EvalError::Null),
            _ => return Err(EvalError::Type),
        },
    })
}

/// `&&` and `||` absorb an error on one side when the other side decides (CEL, "Logical Operators").
fn both<I: Input>(
    node: &Node,
    left: &Node,
    right: &Node,
    input: &I,
    now: Moment,
) -> Result<bool, EvalError> {
    let decisive = matches!(node, Node::Or(..));
    let first = truth(eval(left, input, now));
    if first == Ok(decisive) {
        return Ok(decisive);
    }
    let second = truth(eval(right, input, now));
    if second == Ok(decisive) {
        return Ok(decisive);
    }
    first.and(second)
}

fn truth(value: Result<Value<'_>, EvalError>) -> Result<bool, EvalError> {
    match value? {
        Value::Bool(value) => Ok(value),
        Value::Null => Err(EvalError::Null),
        _ => Err(EvalError::Type),
    }
}

fn borrow<'a>(value: &'a Value<'static>) -> Value<'a> {
    match value {
        Value::Str(text) => Value::Str(std::borrow::Cow::Borrowed(text)),
        other => other.clone(),
    }
}

fn equal(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Int(int), Value::Double(double)) | (Value::Double(double), Value::Int(int)) => {
            compare_mixed(*int, *double) == Some(Ordering::Equal)
        }
        (left, right) => left == right,
    }
}

fn compare_values(
    compare: Compare,
    left: &Value<'_>,
    right: &Value<'_>,
) -> Result<bool, EvalError> {
    match compare {
        Compare::Equal => return Ok(equal(left, right)),
        Compare::NotEqual => return Ok(!equal(left, right)),
        _ => {}
    }
    let order = match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return Err(EvalError::Null),
        (Value::Int(a), Value::Int(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => {
            Some(a.cmp(b))
        }
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Double(b)) => compare_mixed(*a, *b),
        (Value::Double(a), Value::Int(b)) => compare_mixed(*b, *a).map(Ordering::reverse),
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        (Value::Date(a), Value::Date(b)) => Some(a.cmp(b)),
        (Value::Decimal(a), Value::Decimal(b)) => Some(a.compare(*b).ok_or(EvalError::Arithmetic)?),
        _ => return Err(EvalError::Type),
    };
    // Not-a-number is in no order with anything.
    Ok(order.is_some_and(|order| match compare {
        Compare::Less => order.is_lt(),
        Compare::LessOrEqual => order.is_le(),
        Compare::Greater => order.is_gt(),
        Compare::GreaterOrEqual => order.is_ge(),
        Compare::Equal | Compare::NotEqual => false,
    }))
}

/// An int against a double without losing the int's low bits: 2^63 is exact as a double, and a double
/// within it converts without loss once its fraction is off.
fn compare_mixed(int: i64, double: f64) -> Option<Ordering> {
    const EDGE: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() {
        return None;
    }
    if double >= EDGE {
        return Some(Ordering::Less);
    }
    if double < -EDGE {
        return Some(Ordering::Greater);
    }
    let whole = double.trunc();
    Some(int.cmp(&(whole as i64)).then_with(|| {
        0.0.partial_cmp(&(double - whole))
            .unwrap_or(Ordering::Equal)
    }))
}

fn calculate(
    arith: Arith,
    left: &Value<'_>,
    right: &Value<'_>,
) -> Result<Value<'static>, EvalError> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => {
            let result = match arith {
                Arith::Add => a.checked_add(*b),
                Arith::Subtract => a.checked_sub(*b),
                Arith::Multiply => a.checked_mul(*b),
                Arith::Divide => a.checked_div(*b),
                Arith::Remainder => a.checked_rem(*b),
            };
            result.map(Value::Int).ok_or(EvalError::Arithmetic)
        }
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(match arith {
            Arith::Add => a + b,
            Arith::Subtract => a - b,
            Arith::Multiply => a * b,
            Arith::Divide => a / b,
            Arith::Remainder => a % b,
        })),
        (Value::Null, _) | (_, Value::Null) => Err(EvalError::Null),
        _ => Err(EvalError::Type),
    }
}
