//! Kubernetes' library of quantities.

use std::cmp::Ordering;

use carrack_api::quantity::Quantity;

use super::{Cost, Row, T, text};
use crate::error::EvalError;
use crate::opaque::{Opaque, OpaqueKind};
use crate::value::Value;

const QUANTITY: T = T::Op(OpaqueKind::Quantity);

pub(super) const ROWS: &[Row] = &[
    Row::global("quantity", &[T::Str], QUANTITY, |_, args| {
        Quantity::parse(text(args, 0)?).map(value).map_err(|error| EvalError::other(error.to_string()))
    })
    .costs(Cost::Read(0, 1.0)),
    Row::global("isQuantity", &[T::Str], T::Bool, |_, args| {
        Ok(Value::Bool(Quantity::parse(text(args, 0)?).is_ok()))
    })
    .costs(Cost::Read(0, 1.0)),
    Row::member("isInteger", &[QUANTITY], T::Bool, |_, args| Ok(Value::Bool(quantity(args, 0)?.is_whole()))),
    Row::member("asInteger", &[QUANTITY], T::Int, |_, args| {
        let quantity = quantity(args, 0)?;
        if !quantity.is_whole() {
            return Err(EvalError::other("cannot convert value to integer"));
        }
        Ok(Value::Int(quantity.units()))
    }),
    Row::member("asApproximateFloat", &[QUANTITY], T::Double, |_, args| {
        Ok(Value::Double(quantity(args, 0)?.approximate()))
    }),
    Row::member("sign", &[QUANTITY], T::Int, |_, args| {
        let quantity = quantity(args, 0)?;
        Ok(Value::Int(if quantity.is_zero() {
            0
        } else if quantity.is_negative() {
            -1
        } else {
            1
        }))
    }),
    Row::member("add", &[QUANTITY, QUANTITY], QUANTITY, |_, args| {
        Ok(value(quantity(args, 0)?.plus(quantity(args, 1)?)))
    }),
    Row::member("add", &[QUANTITY, T::Int], QUANTITY, |_, args| {
        Ok(value(quantity(args, 0)?.plus(quantity(args, 1)?)))
    }),
    Row::member("sub", &[QUANTITY, QUANTITY], QUANTITY, |_, args| {
        Ok(value(quantity(args, 0)?.minus(quantity(args, 1)?)))
    }),
    Row::member("sub", &[QUANTITY, T::Int], QUANTITY, |_, args| {
        Ok(value(quantity(args, 0)?.minus(quantity(args, 1)?)))
    }),
    Row::member("isGreaterThan", &[QUANTITY, QUANTITY], T::Bool, |_, args| {
        Ok(Value::Bool(compare(args)? == Ordering::Greater))
    }),
    Row::member("isLessThan", &[QUANTITY, QUANTITY], T::Bool, |_, args| {
        Ok(Value::Bool(compare(args)? == Ordering::Less))
    }),
    Row::member("compareTo", &[QUANTITY, QUANTITY], T::Int, |_, args| Ok(Value::Int(compare(args)? as i64))),
];

fn value<'a>(quantity: Quantity) -> Value<'a> {
    Value::Opaque(Opaque::Quantity(quantity))
}

fn quantity(args: &[Value<'_>], index: usize) -> Result<Quantity, EvalError> {
    match args.get(index) {
        Some(Value::Opaque(Opaque::Quantity(quantity))) => Ok(*quantity),
        Some(Value::Int(units)) => Ok(Quantity::from_units(*units)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    Ok(quantity(args, 0)?.cmp(&quantity(args, 1)?))
}
