//! Kubernetes' library of lists.

use std::cmp::Ordering;

use super::operators::{equal, order};
use super::{Cost, Row, T, list};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::value::Value;

const fn over(name: &'static str, args: &'static [T], result: T, call: super::Call) -> Row {
    Row::member(name, args, result, call).costs(Cost::Elements)
}

macro_rules! ordered {
    ($($ty:expr),*) => {
        &[$(
            over("isSorted", &[T::List(&$ty)], T::Bool, is_sorted),
            over("min", &[T::List(&$ty)], $ty, |_, args| extreme(args, "min", Ordering::Less)),
            over("max", &[T::List(&$ty)], $ty, |_, args| extreme(args, "max", Ordering::Greater)),
        )*
        over("sum", &[T::List(&T::Int)], T::Int, |meter, args| sum(meter, args, Value::Int(0))),
        over("sum", &[T::List(&T::Uint)], T::Uint, |meter, args| sum(meter, args, Value::Uint(0))),
        over("sum", &[T::List(&T::Double)], T::Double, |meter, args| sum(meter, args, Value::Double(0.0))),
        over("sum", &[T::List(&T::Span)], T::Span, |meter, args| sum(meter, args, Value::Duration(0))),
        over("indexOf", &[T::List(&T::A), T::A], T::Int, |meter, args| index_of(meter, args, false)),
        over("lastIndexOf", &[T::List(&T::A), T::A], T::Int, |meter, args| index_of(meter, args, true))]
    };
}

pub(super) const ROWS: &[Row] =
    ordered![T::Int, T::Uint, T::Double, T::Bool, T::Span, T::Time, T::Str, T::Bytes];

fn is_sorted<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let mut before: Option<Value<'_>> = None;
    for element in list(args, 0)?.iter() {
        let element = element?;
        if let Some(before) = before
            && order(&before, &element)? == Some(Ordering::Greater)
        {
            return Ok(Value::Bool(false));
        }
        before = Some(element);
    }
    Ok(Value::Bool(true))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Result<Value<'a>, EvalError> {
    let mut best: Option<Value<'a>> = None;
    for element in list(args, 0)?.iter() {
        let element = element?;
        let better = match &best {
            None => true,
            Some(best) => order(&element, best)? == Some(wanted),
        };
        if better {
            best = Some(element);
        }
    }
    best.ok_or_else(|| EvalError::other(format!("{name} called on empty list")))
}

fn sum<'a>(_: &mut Meter, args: &[Value<'a>], zero: Value<'a>) -> Result<Value<'a>, EvalError> {
    list(args, 0)?.iter().try_fold(zero, |total, element| {
        // An untyped list says by its elements what it is a list of.
        Ok(match (total, element?) {
            (Value::Int(0), first @ (Value::Uint(_) | Value::Double(_) | Value::Duration(_))) => first,
            (Value::Int(a), Value::Int(b)) => {
                Value::Int(a.checked_add(b).ok_or(EvalError::Overflow("integer"))?)
            }
            (Value::Uint(a), Value::Uint(b)) => {
                Value::Uint(a.checked_add(b).ok_or(EvalError::Overflow("unsigned integer"))?)
            }
            (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
            (Value::Duration(a), Value::Duration(b)) => {
                Value::Duration(a.checked_add(b).ok_or(EvalError::Overflow("duration"))?)
            }
            _ => return Err(EvalError::NoSuchOverload),
        })
    })
}

fn index_of<'a>(meter: &mut Meter, args: &[Value<'a>], last: bool) -> Result<Value<'a>, EvalError> {
    let list = list(args, 0)?;
    let wanted = args.get(1).ok_or(EvalError::NoSuchOverload)?;
    let mut found = -1;
    for (index, element) in list.iter().enumerate() {
        if equal(meter, &element?, wanted)? {
            found = index as i64;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}
