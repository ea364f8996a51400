//! Turns CEL text into a checked tree, or says what is wrong with it.

use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use cel::parser::{Expression, Parser};

use super::tree::{Arith, Compare, Kind, Node, TextTest, Ty};
use super::{ExprFault, MAX_DEPTH, MAX_NODES, MAX_SOURCE_BYTES, Names};
use crate::value::{Decimal, Value, days_of, parse_date};

pub(super) fn compile(source: &str, names: &dyn Names) -> Result<(Node, Ty, Vec<u16>), ExprFault> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(ExprFault::new(
            "EXPR_TOO_LARGE",
            format!("{} > {MAX_SOURCE_BYTES} bytes", source.len()),
        ));
    }
    // Brackets are counted first: the parser recurses before its own limit is looked at.
    let depth = source
        .bytes()
        .filter(|b| matches!(b, b'(' | b'[' | b'{' | b'!' | b'-' | b'?'))
        .count();
    if depth > MAX_NODES {
        return Err(ExprFault::new(
            "EXPR_TOO_LARGE",
            format!("{depth} > {MAX_NODES}"),
        ));
    }
    let parsed = Parser::new()
        .max_recursion_depth(MAX_DEPTH)
        .parse(source)
        .map_err(|errors| {
            let first = errors.errors.first();
            let what = first.map_or_else(String::new, |e| {
                format!("{}:{} {}", e.pos.0, e.pos.1 + 1, e.msg)
            });
            ExprFault::new("EXPR_SYNTAX", what)
        })?;
    let mut checker = Checker {
        names,
        slots: Vec::new(),
        nodes: 0,
    };
    let (node, ty) = checker.check(&parsed, 0)?;
    checker.slots.sort_unstable();
    checker.slots.dedup();
    Ok((node, ty, checker.slots))
}

struct Checker<'n> {
    names: &'n dyn Names,
    slots: Vec<u16>,
    nodes: usize,
}

type Checked = Result<(Node, Ty), ExprFault>;

fn not_allowed(what: impl Into<String>) -> ExprFault {
    ExprFault::new("EXPR_NOT_ALLOWED", what)
}

fn wrong_type(what: impl Into<String>) -> ExprFault {
    ExprFault::new("EXPR_TYPE", what)
}

impl Checker<'_> {
    fn check(&mut self, expression: &Expression, depth: u16) -> Checked {
        self.nodes += 1;
        if self.nodes > MAX_NODES || depth > MAX_DEPTH {
            return Err(ExprFault::new("EXPR_TOO_LARGE", format!("> {MAX_NODES}")));
        }
        match &expression.expr {
            Expr::Literal(literal) => constant(literal),
            Expr::Ident(name) if name == "today" => Ok((Node::Today, Ty::plain(Kind::Date))),
            Expr::Ident(name) => {
                let found = self.names.name(name);
                self.slot(found, name)
            }
            Expr::Select(select) => {
                let Expr::Ident(root) = &select.operand.expr else {
                    return Err(not_allowed(format!(".{}", select.field)));
                };
                if select.test {
                    return Err(not_allowed("has()"));
                }
                let found = self.names.member(root, &select.field);
                self.slot(found, &format!("{root}.{}", select.field))
            }
            Expr::Call(call) => self.call(call, depth + 1),
            Expr::List(_) => Err(not_allowed("[…]")),
            Expr::Comprehension(_) => Err(not_allowed("all/exists/exists_one/map/filter")),
            Expr::Map(_) | Expr::Struct(_) => Err(not_allowed("{…}")),
            Expr::Unspecified => Err(ExprFault::new("EXPR_SYNTAX", "")),
        }
    }

    fn slot(&mut self, found: Option<(u16, Ty)>, name: &str) -> Checked {
        let (slot, ty) = found.ok_or_else(|| ExprFault::new("EXPR_UNKNOWN_FIELD", name))?;
        self.slots.push(slot);
        Ok((Node::Slot(slot), ty))
    }

    fn call(&mut self, call: &CallExpr, depth: u16) -> Checked {
        let name = call.func_name.as_str();
        if let Some(target) = &call.target {
            let test = match name {
                "startsWith" => TextTest::StartsWith,
                "endsWith" => TextTest::EndsWith,
                "contains" => TextTest::Contains,
                "size" if call.args.is_empty() => return self.size(target, depth),
                _ => return Err(not_allowed(format!(".{name}()"))),
            };
            let [part] = call.args.as_slice() else {
                return Err(wrong_type(format!(".{name}()")));
            };
            let left = self.of_kind(target, depth, Kind::Str, name)?;
            let right = self.of_kind(part, depth, Kind::Str, name)?;
            return Ok((
                Node::Text(test, Box::new(left), Box::new(right)),
                Ty::plain(Kind::Bool),
            ));
        }
        match (name, call.args.as_slice()) {
            (operators::LOGICAL_AND, [left, right]) => {
                let (left, right) = (self.truth(left, depth)?, self.truth(right, depth)?);
                Ok((
                    Node::And(Box::new(left), Box::new(right)),
                    Ty::plain(Kind::Bool),
                ))
            }
            (operators::LOGICAL_OR, [left, right]) => {
                let (left, right) = (self.truth(left, depth)?, self.truth(right, depth)?);
                Ok((
                    Node::Or(Box::new(left), Box::new(right)),
                    Ty::plain(Kind::Bool),
                ))
            }
            (operators::LOGICAL_NOT, [inner]) => {
                let inner = self.truth(inner, depth)?;
                Ok((Node::Not(Box::new(inner)), Ty::plain(Kind::Bool)))
            }
            (operators::CONDITIONAL, [test, yes, no]) => {
                let test = self.truth(test, depth)?;
                let (yes, yes_ty) = self.check(yes, depth)?;
                let (no, no_ty) = self.check(no, depth)?;
                let ty = if yes_ty.kind() == no_ty.kind() && yes_ty.symbols == no_ty.symbols {
                    if no_ty.nullable() {
                        yes_ty.or_null()
                    } else {
                        yes_ty
                    }
                } else {
                    return Err(wrong_type("?:"));
                };
                Ok((
                    Node::Choose(Box::new(test), Box::new(yes), Box::new(no)),
                    ty,
                ))
            }
            (operators::EQUALS, [left, right]) => self.compare(Compare::Equal, left, right, depth),
            (operators::NOT_EQUALS, [left, right]) => {
                self.compare(Compare::NotEqual, left, right, depth)
            }
            (operators::LESS, [left, right]) => self.compare(Compare::Less, left, right, depth),
            (operators::LESS_EQUALS, [left, right]) => {
                self.compare(Compare::LessOrEqual, left, right, depth)
            }
            (operators::GREATER, [left, right]) => {
                self.compare(Compare::Greater, left, right, depth)
            }
            (operators::GREATER_EQUALS, [left, right]) => {
                self.compare(Compare::GreaterOrEqual, left, right, depth)
            }
            (operators::ADD, [left, right]) => self.arith(Arith::Add, left, right, depth),
            (operators::SUBSTRACT, [left, right]) => {
                self.arith(Arith::Subtract, left, right, depth)
            }
            (operators::MULTIPLY, [left, right]) => self.arith(Arith::Multiply, left, right, depth),
            (operators::DIVIDE, [left, right]) => self.arith(Arith::Divide, left, right, depth),
            (operators::MODULO, [left, right]) => self.arith(Arith::Remainder, left, right, depth),
            (operators::NEGATE, [inner]) => match self.check(inner, depth)? {
                (inner, ty) if matches!(ty.kind(), Kind::Int | Kind::Double) => {
                    Ok((Node::Negate(Box::new(inner)), ty))
                }
                (_, ty) => Err(wrong_type(format!("-{}", ty.kind().as_str()))),
            },
            (operators::IN, [value, list]) => self.one_of(value, list, depth),
            ("size", [inner]) => self.size(inner, depth),
            ("date", [inner]) => match &inner.expr {
                Expr::Literal(LiteralValue::String(text)) => date_constant(text.inner())
                    .map(|value| (Node::Constant(value), Ty::plain(Kind::Date)))
                    .ok_or_else(|| wrong_type(format!("date({:?})", text.inner()))),
                _ => Err(not_allowed("date(…)")),
            },
            ("months_between", [from, to]) => {
                let from = self.of_kind(from, depth, Kind::Date, name)?;
                let to = self.of_kind(to, depth, Kind::Date, name)?;
                Ok((
                    Node::MonthsBetween(Box::new(from), Box::new(to)),
                    Ty::plain(Kind::Int),
                ))
            }
            ("size" | "date" | "months_between", _) => Err(wrong_type(format!("{name}()"))),
            _ => Err(not_allowed(format!("{name}()"))),
        }
    }

    fn truth(&mut self, expression: &Expression, depth: u16) -> Result<Node, ExprFault> {
        self.of_kind(expression, depth, Kind::Bool, "&& || ! ?:")
    }

    fn of_kind(
        &mut self,
        expression: &Expression,
        depth: u16,
        kind: Kind,
        what: &str,
    ) -> Result<Node, ExprFault> {
        let (node, ty) = self.check(expression, depth)?;
        if ty.kind() == kind {
            return Ok(node);
        }
        match (node, kind) {
            // A date may be written as a string.
            (Node::Constant(Value::Str(text)), Kind::Date) => date_constant(&text)
                .map(Node::Constant)
                .ok_or_else(|| wrong_type(format!("{text:?} ≠ YYYY-MM-DD"))),
            _ => Err(wrong_type(format!(
                "{what}: {} ≠ {}",
                ty.kind().as_str(),
                kind.as_str()
            ))),
        }
    }

    fn size(&mut self, inner: &Expression, depth: u16) -> Checked {
        let (inner, ty) = self.check(inner, depth)?;
        match ty.kind() {
            Kind::Many | Kind::Str => Ok((Node::Size(Box::new(inner)), Ty::plain(Kind::Int))),
            other => Err(wrong_type(format!("size({})", other.as_str()))),
        }
    }

    fn arith(
        &mut self,
        arith: Arith,
        left: &Expression,
        right: &Expression,
        depth: u16,
    ) -> Checked {
        let (left, left_ty) = self.check(left, depth)?;
        let (right, right_ty) = self.check(right, depth)?;
        let kind = left_ty.kind();
        if kind != right_ty.kind() || !matches!(kind, Kind::Int | Kind::Double) {
            return Err(wrong_type(format!(
                "{} {arith:?} {}",
                kind.as_str(),
                right_ty.kind().as_str()
            )));
        }
        Ok((
            Node::Arith(arith, Box::new(left), Box::new(right)),
            Ty::plain(kind),
        ))
    }

    fn compare(
        &mut self,
        compare: Compare,
        left: &Expression,
        right: &Expression,
        depth: u16,
    ) -> Checked {
        let (left, left_ty) = self.check(left, depth)?;
        let (right, right_ty) = self.check(right, depth)?;
        let (left, right) = agree(left, &left_ty, right, &right_ty)?;
        if !matches!(compare, Compare::Equal | Compare::NotEqual) {
            let ordered = |ty: &Ty| {
                !matches!(
                    ty.kind(),
                    Kind::Bool | Kind::Enum | Kind::Null | Kind::Many | Kind::Opaque
                )
            };
            if !ordered(&left_ty) || !ordered(&right_ty) {
                return Err(wrong_type(format!(
                    "{} < {}",
                    left_ty.kind().as_str(),
                    right_ty.kind().as_str()
                )));
            }
        }
        Ok((
            Node::Compare(compare, Box::new(left), Box::new(right)),
            Ty::plain(Kind::Bool),
        ))
    }

    fn one_of(&mut self, value: &Expression, list: &Expression, depth: u16) -> Checked {
        let Expr::List(list) = &list.expr else {
            return Err(not_allowed("in …"));
        };
        if !list.optional_indices.is_empty() {
            return Err(not_allowed("[?…]"));
        }
        let (value, value_ty) = self.check(value, depth)?;
        let mut members = Vec::with_capacity(list.elements.len());
        for element in &list.elements {
            let (element, ty) = self.check(element, depth)?;
            if !matches!(element, Node::Constant(_)) {
                return Err(not_allowed("in […]"));
            }
            // Made to agree with the value's type; the value itself stays as it is.
            match agree(Node::Today, &value_ty, element, &ty)? {
                (_, Node::Constant(member)) => members.push(member),
                _ => return Err(not_allowed("in […]")),
            }
        }
        Ok((Node::OneOf(Box::new(value), members), Ty::plain(Kind::Bool)))
    }
}

/// Makes two sides comparable: a literal takes the type of the other side.
fn agree(left: Node, left_ty: &Ty, right: Node, right_ty: &Ty) -> Result<(Node, Node), ExprFault> {
    let mismatch = || {
        wrong_type(format!(
            "{} ≠ {}",
            left_ty.kind().as_str(),
            right_ty.kind().as_str()
        ))
    };
    match (left_ty.kind(), right_ty.kind()) {
        (_, Kind::Null) | (Kind::Null, _) => {
            // Comparing what is never null with null is always the same: a mistake.
            let other = if left_ty.kind() == Kind::Null {
                right_ty
            } else {
                left_ty
            };
            if other.nullable() {
                Ok((left, right))
            } else {
                Err(mismatch())
            }
        }
        (Kind::Many | Kind::Opaque, _) | (_, Kind::Many | Kind::Opaque) => Err(mismatch()),
        (Kind::Enum, Kind::Enum) if left_ty.symbols != right_ty.symbols => Err(mismatch()),
        (Kind::Int, Kind::Double) | (Kind::Double, Kind::Int) => Ok((left, right)),
        (a, b) if a == b => Ok((left, right)),
        (wanted, _) if matches!(right, Node::Constant(_)) => match convert(right, wanted, left_ty)?
        {
            Some(right) => Ok((left, right)),
            None => Err(mismatch()),
        },
        (_, wanted) if matches!(left, Node::Constant(_)) => {
            match convert(left, wanted, right_ty)? {
                Some(left) => Ok((left, right)),
                None => Err(mismatch()),
            }
        }
        _ => Err(mismatch()),
    }
}

fn convert(constant: Node, wanted: Kind, ty: &Ty) -> Result<Option<Node>, ExprFault> {
    let Node::Constant(value) = constant else {
        return Ok(None);
    };
    let value = match (wanted, value) {
        (Kind::Enum, Value::Str(text)) => {
            let index = ty.symbols.iter().position(|symbol| *symbol == *text);
            let index = index.and_then(|index| u32::try_from(index).ok());
            Value::Symbol(index.ok_or_else(|| {
                ExprFault::new(
                    "EXPR_SYMBOL",
                    format!("{text:?}; {}", ty.symbols.join(", ")),
                )
            })?)
        }
        (Kind::Date, Value::Str(text)) => {
            date_constant(&text).ok_or_else(|| wrong_type(format!("{text:?} ≠ YYYY-MM-DD")))?
        }
        (Kind::Timestamp, Value::Str(text)) => chrono::DateTime::parse_from_rfc3339(&text)
            .map(|moment| Value::Timestamp(moment.timestamp_millis()))
            .map_err(|_| wrong_type(format!("{text:?} ≠ RFC 3339")))?,
        (Kind::Decimal, Value::Int(int)) => Value::Decimal(Decimal {
            unscaled: int.into(),
            scale: 0,
        }),
        // `{}` prints the shortest digits that read back as the same double: what the author typed.
        (Kind::Decimal, Value::Double(double)) => match Decimal::parse(&format!("{double}")) {
            Some(decimal) => Value::Decimal(decimal),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(Node::Constant(value)))
}

fn date_constant(text: &str) -> Option<Value<'static>> {
    parse_date(text).map(|day| Value::Date(days_of(day)))
}

fn constant(literal: &LiteralValue) -> Checked {
    let (value, kind) = match literal {
        LiteralValue::Boolean(value) => (Value::Bool(*value.inner()), Kind::Bool),
        LiteralValue::Int(value) => (Value::Int(*value.inner()), Kind::Int),
        LiteralValue::UInt(value) => match i64::try_from(*value.inner()) {
            Ok(value) => (Value::Int(value), Kind::Int),
            Err(_) => return Err(wrong_type("uint")),
        },
        LiteralValue::Double(value) => (Value::Double(*value.inner()), Kind::Double),
        LiteralValue::String(value) => (Value::Str(value.inner().to_owned().into()), Kind::Str),
        LiteralValue::Null => (Value::Null, Kind::Null),
        LiteralValue::Bytes(_) => return Err(not_allowed("b\"…\"")),
    };
    let ty = Ty::plain(kind);
    Ok((
        Node::Constant(value),
        if kind == Kind::Null { ty.or_null() } else { ty },
    ))
}
