//! The functions: one table of signatures for each library. The checker picks the rows that can match, the evaluator the
//! one that does.

mod authorizer;
mod convert;
mod cost;
mod format;
mod lists;
pub(crate) mod named_format;
mod net;
mod operators;
mod optionals;
mod quantity;
mod regexes;
mod semvers;
mod sets;
mod strings;
mod time;

use std::collections::HashMap;
use std::sync::LazyLock;

pub(crate) use cost::{Cost, Inner};

use crate::error::EvalError;
use crate::meter::Meter;
use crate::opaque::OpaqueKind;
use crate::types::{DYN, STRING, Type};
use crate::value::{List, Text, Value};

/// A type in a signature.
#[derive(Debug)]
pub(crate) enum T {
    /// Any type, the same wherever it stands.
    A,
    /// Another one.
    B,
    Dyn,
    Bool,
    Int,
    Uint,
    Double,
    /// A number of any type.
    Number,
    Str,
    Bytes,
    Time,
    Span,
    Kind,
    List(&'static T),
    Map(&'static T, &'static T),
    Opt(&'static T),
    Op(OpaqueKind),
}

/// The largest size of a result, by those of the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grows {
    /// Nothing is known.
    Unknown,
    /// As large as the first argument.
    Same,
    /// As large as the first two together.
    Sum,
    /// The first, with the second replaced by the third.
    Replace,
    /// The elements of the first, with the second between them.
    Join,
    /// The first in quotes, each character escaped.
    Quoted,
}

/// What a function does. The evaluator has checked the arguments' types.
pub(crate) type Call = for<'a> fn(&mut Meter, &[Value<'a>]) -> Result<Value<'a>, EvalError>;

/// A signature and what is behind it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Whether the first argument stands before the name.
    pub(crate) member: bool,
    pub(crate) args: &'static [T],
    pub(crate) result: T,
    pub(crate) cost: Cost,
    pub(crate) grows: Grows,
    pub(crate) call: Call,
}

impl Row {
    /// `name(args)`.
    pub(crate) const fn global(name: &'static str, args: &'static [T], result: T, call: Call) -> Row {
        Row { name, member: false, args, result, cost: Cost::One, grows: Grows::Unknown, call }
    }

    /// `args[0].name(args[1..])`.
    pub(crate) const fn member(name: &'static str, args: &'static [T], result: T, call: Call) -> Row {
        Row { member: true, ..Row::global(name, args, result, call) }
    }

    pub(crate) const fn costs(self, cost: Cost) -> Row {
        Row { cost, ..self }
    }

    pub(crate) const fn grows(self, grows: Grows) -> Row {
        Row { grows, ..self }
    }
}

const TABLES: &[&[Row]] = &[
    operators::ROWS,
    optionals::ROWS,
    convert::ROWS,
    time::ROWS,
    strings::ROWS,
    format::ROWS,
    regexes::ROWS,
    lists::ROWS,
    sets::ROWS,
    net::ROWS,
    quantity::ROWS,
    semvers::ROWS,
    named_format::ROWS,
    authorizer::ROWS,
];

static BY_NAME: LazyLock<HashMap<&'static str, Vec<&'static Row>>> = LazyLock::new(|| {
    let mut rows: HashMap<_, Vec<_>> = HashMap::new();
    for row in TABLES.iter().copied().flatten() {
        rows.entry(row.name).or_default().push(row);
    }
    rows
});

/// All signatures of a name.
pub(crate) fn named(name: &str) -> &'static [&'static Row] {
    BY_NAME.get(name).map_or(&[], Vec::as_slice)
}

/// Whether a text is a regular expression.
pub(crate) fn is_regex(text: &str) -> bool {
    regexes::compile(text).is_ok()
}

/// What the open types of a signature were found to be.
#[derive(Default)]
pub(crate) struct Bound {
    a: Option<Type>,
    b: Option<Type>,
}

impl T {
    /// Whether an argument of type `ty` can be meant.
    pub(crate) fn accepts(&self, ty: &Type, bound: &mut Bound) -> bool {
        match (self, ty) {
            (T::A, _) => bind(&mut bound.a, ty),
            (T::B, _) => bind(&mut bound.b, ty),
            (T::List(element), Type::List(list)) => element.accepts(&list.element, bound),
            (T::Map(key, value), Type::Map(k, v, _)) => key.accepts(k, bound) && value.accepts(v, bound),
            (T::Opt(inner), Type::Optional(ty)) => inner.accepts(ty, bound),
            (T::Op(kind), Type::Opaque(other)) => kind == other,
            (_, Type::Dyn(_) | Type::Param(_))
            | (T::Dyn, _)
            | (T::Bool, Type::Bool)
            | (T::Int, Type::Int)
            | (T::Uint, Type::Uint)
            | (T::Double, Type::Double)
            | (T::Number, Type::Int | Type::Uint | Type::Double)
            | (T::Str, Type::String(_))
            | (T::Bytes, Type::Bytes(_))
            | (T::Time, Type::Timestamp)
            | (T::Span, Type::Duration)
            | (T::Kind, Type::Type)
            | (T::Time | T::Span | T::Op(_), Type::Null) => true,
            _ => false,
        }
    }

    /// Whether this value can be meant; what is inside of lists is not looked at.
    pub(crate) fn takes(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (T::Op(kind), Value::Opaque(opaque)) => *kind == opaque.kind(),
            (T::A | T::B | T::Dyn, _)
            | (T::Bool, Value::Bool(_))
            | (T::Int, Value::Int(_))
            | (T::Uint, Value::Uint(_))
            | (T::Double, Value::Double(_))
            | (T::Number, Value::Int(_) | Value::Uint(_) | Value::Double(_))
            | (T::Str, Value::String(_))
            | (T::Bytes, Value::Bytes(_))
            | (T::Time, Value::Timestamp(_))
            | (T::Span, Value::Duration(_))
            | (T::Kind, Value::Type(_))
            | (T::List(_), Value::List(_))
            | (T::Map(..), Value::Map(_))
            | (T::Opt(_), Value::Optional(_)) => true,
            _ => false,
        }
    }

    /// The type of a result.
    pub(crate) fn of(&self, bound: &Bound) -> Type {
        match self {
            T::A => bound.a.clone().unwrap_or(DYN),
            T::B => bound.b.clone().unwrap_or(DYN),
            T::Dyn | T::Number => DYN,
            T::Bool => Type::Bool,
            T::Int => Type::Int,
            T::Uint => Type::Uint,
            T::Double => Type::Double,
            T::Str => STRING,
            T::Bytes => Type::Bytes(crate::types::Max::UNKNOWN),
            T::Time => Type::Timestamp,
            T::Span => Type::Duration,
            T::Kind => Type::Type,
            T::List(element) => Type::list(element.of(bound)),
            T::Map(key, value) => Type::map(key.of(bound), value.of(bound)),
            T::Opt(inner) => Type::optional(inner.of(bound)),
            T::Op(kind) => Type::Opaque(*kind),
        }
    }
}

fn bind(slot: &mut Option<Type>, ty: &Type) -> bool {
    let fits = slot.as_ref().is_none_or(|known| compatible(known, ty));
    if fits {
        *slot = Some(slot.as_ref().map_or_else(|| ty.clone(), |known| known.join(ty)));
    }
    fits
}

/// Whether a value of one type can be compared to, or be taken for, one of the other.
pub(crate) fn compatible(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Null, other) | (other, Type::Null) if other.is_nullable() => true,
        (Type::List(a), Type::List(b)) => compatible(&a.element, &b.element),
        (Type::Map(ka, va, _), Type::Map(kb, vb, _)) => compatible(ka, kb) && compatible(va, vb),
        (Type::Optional(a), Type::Optional(b)) => compatible(a, b),
        _ => a.is_dyn() || b.is_dyn() || a == b,
    }
}

// The arguments, taken apart. The evaluator chose the row by their types, so that none of these fails there.

pub(crate) fn text<'v, 'a>(args: &'v [Value<'a>], index: usize) -> Result<&'v Text<'a>, EvalError> {
    match args.get(index) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(EvalError::NoSuchOverload),
    }
}

pub(crate) fn int(args: &[Value<'_>], index: usize) -> Result<i64, EvalError> {
    match args.get(index) {
        Some(Value::Int(number)) => Ok(*number),
        _ => Err(EvalError::NoSuchOverload),
    }
}

pub(crate) fn list<'v, 'a>(args: &'v [Value<'a>], index: usize) -> Result<&'v List<'a>, EvalError> {
    match args.get(index) {
        Some(Value::List(list)) => Ok(list),
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// Text that a function made, counted.
pub(crate) fn made<'a>(meter: &mut Meter, text: String) -> Result<Value<'a>, EvalError> {
    meter.allocate(text.len())?;
    Ok(Value::text(text))
}
