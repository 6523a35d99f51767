//! Values that may be missing: `cel-go`'s library of optional types.

use super::{Row, T, list};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::value::{List, Value};

const OPT: T = T::Opt(&T::A);
const LIST: T = T::List(&T::A);
const OPTS: T = T::List(&T::Opt(&T::A));

pub(super) const ROWS: &[Row] = &[
    Row::global("optional.of", &[T::A], OPT, |_, args| Ok(Value::some(first(args)?))),
    Row::global("optional.ofNonZeroValue", &[T::A], OPT, |_, args| {
        let value = first(args)?;
        Ok(if is_zero(&value) { Value::Optional(None) } else { Value::some(value) })
    }),
    Row::global("optional.none", &[], OPT, |_, _| Ok(Value::Optional(None))),
    Row::member("hasValue", &[OPT], T::Bool, |_, args| {
        Ok(Value::Bool(matches!(args.first(), Some(Value::Optional(Some(_))))))
    }),
    Row::member("value", &[OPT], T::A, |_, args| match args.first() {
        Some(Value::Optional(Some(value))) => Ok(value.as_ref().clone()),
        _ => Err(EvalError::other("optional.none() dereference")),
    }),
    Row::member("orValue", &[OPT, T::A], T::A, |_, args| match args {
        [Value::Optional(Some(value)), _] => Ok(value.as_ref().clone()),
        [_, other] => Ok(other.clone()),
        _ => Err(EvalError::NoSuchOverload),
    }),
    Row::member("or", &[OPT, OPT], OPT, |_, args| match args {
        [some @ Value::Optional(Some(_)), _] => Ok(some.clone()),
        [_, other] => Ok(other.clone()),
        _ => Err(EvalError::NoSuchOverload),
    }),
    Row::member("first", &[LIST], OPT, |_, args| at_place(list(args, 0)?, Some(0))),
    Row::member("last", &[LIST], OPT, |_, args| {
        let list = list(args, 0)?;
        at_place(list, list.len().checked_sub(1))
    }),
    Row::global("optional.unwrap", &[OPTS], LIST, unwrap),
    Row::member("unwrapOpt", &[OPTS], LIST, unwrap),
];

/// The element of a list, if there is one.
fn at_place<'a>(list: &List<'a>, place: Option<usize>) -> Result<Value<'a>, EvalError> {
    let found = place.and_then(|place| list.get(place)).transpose()?;
    Ok(found.map_or(Value::Optional(None), Value::some))
}

/// The values of those elements that have one.
fn unwrap<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let list = list(args, 0)?;
    meter.elements(list.len())?;
    let mut values = Vec::new();
    for element in list.iter() {
        match element? {
            Value::Optional(Some(value)) => values.push(value.as_ref().clone()),
            Value::Optional(None) => {}
            _ => return Err(EvalError::NoSuchOverload),
        }
    }
    Ok(Value::list(values))
}

fn first<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    args.first().cloned().ok_or(EvalError::NoSuchOverload)
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => true,
        Value::Double(number) => *number == 0.0,
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => value.size() == 0,
        Value::Optional(inner) => inner.is_none(),
        _ => false,
    }
}
