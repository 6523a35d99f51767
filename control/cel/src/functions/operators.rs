//! Operators, `size`, `in`, optional values: the standard definitions of CEL, and Kubernetes' comparison of numbers of
//! different types.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Cost, Grows, Row, T};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::types::ListKind;
use crate::value::{Key, List, Map, Value};

const LIST: T = T::List(&T::A);
const MAP: T = T::Map(&T::A, &T::B);

const fn less(args: &'static [T], cost: Cost) -> Row {
    Row::global("_<_", args, T::Bool, |_, args| ordered(args, Ordering::is_lt)).costs(cost)
}

const fn at_most(args: &'static [T], cost: Cost) -> Row {
    Row::global("_<=_", args, T::Bool, |_, args| ordered(args, Ordering::is_le)).costs(cost)
}

const fn more(args: &'static [T], cost: Cost) -> Row {
    Row::global("_>_", args, T::Bool, |_, args| ordered(args, Ordering::is_gt)).costs(cost)
}

const fn at_least(args: &'static [T], cost: Cost) -> Row {
    Row::global("_>=_", args, T::Bool, |_, args| ordered(args, Ordering::is_ge)).costs(cost)
}

const fn sum(args: &'static [T], result: T) -> Row {
    Row::global("_+_", args, result, add)
}

const fn calc(name: &'static str, args: &'static [T], result: T) -> Row {
    let call: super::Call = match name.as_bytes()[1] {
        b'-' => subtract,
        b'*' => |_, args| arithmetic(args, i64::checked_mul, u64::checked_mul, |a, b| a * b),
        b'/' => divide,
        _ => remainder,
    };
    Row::global(name, args, result, call)
}

pub(super) const ROWS: &[Row] = &[
    less(&[T::Number, T::Number], Cost::One),
    less(&[T::Str, T::Str], Cost::Least),
    less(&[T::Bytes, T::Bytes], Cost::Least),
    less(&[T::Bool, T::Bool], Cost::One),
    less(&[T::Time, T::Time], Cost::One),
    less(&[T::Span, T::Span], Cost::One),
    at_most(&[T::Number, T::Number], Cost::One),
    at_most(&[T::Str, T::Str], Cost::Least),
    at_most(&[T::Bytes, T::Bytes], Cost::Least),
    at_most(&[T::Bool, T::Bool], Cost::One),
    at_most(&[T::Time, T::Time], Cost::One),
    at_most(&[T::Span, T::Span], Cost::One),
    more(&[T::Number, T::Number], Cost::One),
    more(&[T::Str, T::Str], Cost::Least),
    more(&[T::Bytes, T::Bytes], Cost::Least),
    more(&[T::Bool, T::Bool], Cost::One),
    more(&[T::Time, T::Time], Cost::One),
    more(&[T::Span, T::Span], Cost::One),
    at_least(&[T::Number, T::Number], Cost::One),
    at_least(&[T::Str, T::Str], Cost::Least),
    at_least(&[T::Bytes, T::Bytes], Cost::Least),
    at_least(&[T::Bool, T::Bool], Cost::One),
    at_least(&[T::Time, T::Time], Cost::One),
    at_least(&[T::Span, T::Span], Cost::One),
    Row::global("_==_", &[T::A, T::A], T::Bool, |meter, args| same(meter, args, true)).costs(Cost::Least),
    Row::global("_!=_", &[T::A, T::A], T::Bool, |meter, args| same(meter, args, false)).costs(Cost::Least),
    Row::global("@in", &[T::A, LIST], T::Bool, within).costs(Cost::In),
    Row::global("@in", &[T::A, MAP], T::Bool, within),
    sum(&[T::Int, T::Int], T::Int),
    sum(&[T::Uint, T::Uint], T::Uint),
    sum(&[T::Double, T::Double], T::Double),
    sum(&[T::Str, T::Str], T::Str).costs(Cost::Both).grows(Grows::Sum),
    sum(&[T::Bytes, T::Bytes], T::Bytes).costs(Cost::Both).grows(Grows::Sum),
    sum(&[LIST, LIST], LIST).grows(Grows::Sum),
    sum(&[T::Time, T::Span], T::Time),
    sum(&[T::Span, T::Time], T::Time),
    sum(&[T::Span, T::Span], T::Span),
    calc("_-_", &[T::Int, T::Int], T::Int),
    calc("_-_", &[T::Uint, T::Uint], T::Uint),
    calc("_-_", &[T::Double, T::Double], T::Double),
    calc("_-_", &[T::Time, T::Time], T::Span),
    calc("_-_", &[T::Time, T::Span], T::Time),
    calc("_-_", &[T::Span, T::Span], T::Span),
    calc("_*_", &[T::Int, T::Int], T::Int),
    calc("_*_", &[T::Uint, T::Uint], T::Uint),
    calc("_*_", &[T::Double, T::Double], T::Double),
    calc("_/_", &[T::Int, T::Int], T::Int),
    calc("_/_", &[T::Uint, T::Uint], T::Uint),
    calc("_/_", &[T::Double, T::Double], T::Double),
    calc("_%_", &[T::Int, T::Int], T::Int),
    calc("_%_", &[T::Uint, T::Uint], T::Uint),
    Row::global("!_", &[T::Bool], T::Bool, |_, args| match args {
        [Value::Bool(value)] => Ok(Value::Bool(!value)),
        _ => Err(EvalError::NoSuchOverload),
    }),
    Row::global("-_", &[T::Int], T::Int, negate),
    Row::global("-_", &[T::Double], T::Double, negate),
    Row::global("size", &[T::Str], T::Int, size),
    Row::global("size", &[T::Bytes], T::Int, size),
    Row::global("size", &[LIST], T::Int, size),
    Row::global("size", &[MAP], T::Int, size),
    Row::member("size", &[T::Str], T::Int, size),
    Row::member("size", &[T::Bytes], T::Int, size),
    Row::member("size", &[LIST], T::Int, size),
    Row::member("size", &[MAP], T::Int, size),
];

fn size<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let size = args.first().ok_or(EvalError::NoSuchOverload)?.size();
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

/// The order of two values of types that can be compared; a number that is none has no order.
pub(super) fn order(a: &Value<'_>, b: &Value<'_>) -> Result<Option<Ordering>, EvalError> {
    Ok(match (a, b) {
        (Value::String(a), Value::String(b)) => Some((**a).cmp(&**b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        _ => return numbers(a, b).ok_or(EvalError::NoSuchOverload),
    })
}

/// The order of numbers of any types; `None` when one is no number.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Option<Ordering>> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    };
    if let (Some(a), Some(b)) = (whole(a), whole(b)) {
        return Some(Some(a.cmp(&b)));
    }
    let number = |value: &Value<'_>| match value {
        Value::Double(number) => Some(*number),
        value => whole(value).map(|number| number as f64),
    };
    Some(number(a)?.partial_cmp(&number(b)?))
}

fn ordered<'a>(args: &[Value<'a>], wanted: fn(Ordering) -> bool) -> Result<Value<'a>, EvalError> {
    let [a, b] = args else { return Err(EvalError::NoSuchOverload) };
    Ok(Value::Bool(order(a, b)?.is_some_and(wanted)))
}

fn same<'a>(meter: &mut Meter, args: &[Value<'a>], wanted: bool) -> Result<Value<'a>, EvalError> {
    let [a, b] = args else { return Err(EvalError::NoSuchOverload) };
    Ok(Value::Bool(equal(meter, a, b)? == wanted))
}

/// Whether two values are equal; values of different types are not. Reading what is inside of them costs.
pub(crate) fn equal(meter: &mut Meter, a: &Value<'_>, b: &Value<'_>) -> Result<bool, EvalError> {
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => **a == **b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::Opaque(a), Value::Opaque(b)) => a.same(b),
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Optional(Some(a)), Value::Optional(Some(b))) => equal(meter, a, b)?,
        (Value::List(a), Value::List(b)) => equal_lists(meter, a, b)?,
        (Value::Map(a), Value::Map(b)) => equal_maps(meter, a, b)?,
        _ => matches!(numbers(a, b), Some(Some(Ordering::Equal))),
    })
}

fn equal_lists(meter: &mut Meter, a: &List<'_>, b: &List<'_>) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    meter.spend((a.len() as u64).div_ceil(10))?;
    if *a.kind() != ListKind::Atomic {
        return contained(meter, a, b);
    }
    for (a, b) in a.iter().zip(b.iter()) {
        if !equal(meter, &a?, &b?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether all elements of one list are in the other, in any order.
fn contained(meter: &mut Meter, a: &List<'_>, b: &List<'_>) -> Result<bool, EvalError> {
    for element in a.iter() {
        meter.spend((b.len() as u64).div_ceil(10))?;
        if !has(meter, b, &element?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a value is in a list. Who asks pays for the list's length.
pub(super) fn has(meter: &mut Meter, list: &List<'_>, wanted: &Value<'_>) -> Result<bool, EvalError> {
    for element in list.iter() {
        if equal(meter, &element?, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal_maps(meter: &mut Meter, a: &Map<'_>, b: &Map<'_>) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    meter.spend((a.len() as u64).div_ceil(10))?;
    for key in a.keys() {
        let (Some(a), Some(b)) = (a.get(&key), b.get(&key)) else { return Ok(false) };
        if !equal(meter, &a?, &b?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn within<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [wanted, Value::List(list)] => Ok(Value::Bool(has(meter, list, wanted)?)),
        [wanted, Value::Map(map)] => {
            let found = Key::of(wanted).is_some_and(|key| map.get(&key).is_some());
            Ok(Value::Bool(found))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

const TIME: EvalError = EvalError::Overflow("timestamp");
const SPAN: EvalError = EvalError::Overflow("duration");

fn later(when: Timestamp, nanos: i64) -> Result<Timestamp, EvalError> {
    when.checked_add(SignedDuration::from_nanos(nanos)).map_err(|_| TIME)
}

fn add<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::String(a), Value::String(b)] => {
            meter.allocate(a.len() + b.len())?;
            Ok(Value::text(format!("{}{}", &**a, &**b)))
        }
        [Value::Bytes(a), Value::Bytes(b)] => {
            meter.allocate(a.len() + b.len())?;
            Ok(Value::Bytes(a.iter().chain(b.iter()).copied().collect()))
        }
        [Value::List(a), Value::List(b)] => join_lists(meter, a, b),
        [Value::Timestamp(when), Value::Duration(nanos)]
        | [Value::Duration(nanos), Value::Timestamp(when)] => Ok(Value::Timestamp(later(*when, *nanos)?)),
        [Value::Duration(a), Value::Duration(b)] => a.checked_add(*b).map(Value::Duration).ok_or(SPAN),
        _ => arithmetic(args, i64::checked_add, u64::checked_add, |a, b| a + b),
    }
}

/// Both lists; of a set or a map, elements of the second take the place of their equals in the first.
fn join_lists<'a>(meter: &mut Meter, a: &List<'a>, b: &List<'a>) -> Result<Value<'a>, EvalError> {
    meter.elements(a.len() + b.len())?;
    let mut all = a.iter().collect::<Result<Vec<_>, _>>()?;
    let kind = a.kind().clone();
    for element in b.iter() {
        let element = element?;
        let mut place = None;
        if kind != ListKind::Atomic {
            meter.spend((all.len() as u64).div_ceil(10))?;
            for (index, old) in all.iter().enumerate() {
                if is_same_element(meter, &kind, old, &element)? {
                    place = Some(index);
                    break;
                }
            }
        }
        match place {
            Some(index) => all[index] = element,
            None => all.push(element),
        }
    }
    Ok(Value::List(List::Own(Arc::new(all))))
}

fn is_same_element(
    meter: &mut Meter,
    kind: &ListKind,
    a: &Value<'_>,
    b: &Value<'_>,
) -> Result<bool, EvalError> {
    let (ListKind::Map(keys), Value::Map(a), Value::Map(b)) = (kind, a, b) else {
        return equal(meter, a, b);
    };
    for key in keys {
        let key = Key::String(crate::value::Text::Ref(key));
        let same = match (a.get(&key), b.get(&key)) {
            (Some(a), Some(b)) => equal(meter, &a?, &b?)?,
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn arithmetic<'a>(
    args: &[Value<'a>],
    int: fn(i64, i64) -> Option<i64>,
    uint: fn(u64, u64) -> Option<u64>,
    double: fn(f64, f64) -> f64,
) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(*a, *b).map(Value::Int).ok_or(EvalError::Overflow("integer")),
        [Value::Uint(a), Value::Uint(b)] => {
            uint(*a, *b).map(Value::Uint).ok_or(EvalError::Overflow("unsigned integer"))
        }
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(double(*a, *b))),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn subtract<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Timestamp(a), Value::Timestamp(b)] => {
            let nanos = i64::try_from(a.as_nanosecond() - b.as_nanosecond());
            nanos.map(Value::Duration).map_err(|_| SPAN)
        }
        [Value::Timestamp(when), Value::Duration(nanos)] => {
            let back = nanos.checked_neg().ok_or(SPAN)?;
            Ok(Value::Timestamp(later(*when, back)?))
        }
        [Value::Duration(a), Value::Duration(b)] => a.checked_sub(*b).map(Value::Duration).ok_or(SPAN),
        _ => arithmetic(args, i64::checked_sub, u64::checked_sub, |a, b| a - b),
    }
}

fn divide<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [_, Value::Int(0) | Value::Uint(0)] => Err(EvalError::DivisionByZero),
        _ => arithmetic(args, i64::checked_div, u64::checked_div, |a, b| a / b),
    }
}

fn remainder<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [_, Value::Int(0) | Value::Uint(0)] => Err(EvalError::ModulusByZero),
        _ => arithmetic(args, i64::checked_rem, u64::checked_rem, |a, b| a % b),
    }
}

fn negate<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Int(number)] => number.checked_neg().map(Value::Int).ok_or(EvalError::Overflow("integer")),
        [Value::Double(number)] => Ok(Value::Double(-number)),
        _ => Err(EvalError::NoSuchOverload),
    }
}
