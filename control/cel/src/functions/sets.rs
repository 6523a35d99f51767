//! Lists as sets.

use super::operators::has;
use super::{Cost, Row, T, list};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::value::{List, Value};

const LISTS: &[T] = &[T::List(&T::A), T::List(&T::A)];

pub(super) const ROWS: &[Row] = &[
    Row::global("sets.contains", LISTS, T::Bool, |meter, args| {
        Ok(Value::Bool(contains(meter, list(args, 0)?, list(args, 1)?)?))
    })
    .costs(Cost::Product(1)),
    Row::global("sets.equivalent", LISTS, T::Bool, |meter, args| {
        let (a, b) = (list(args, 0)?, list(args, 1)?);
        Ok(Value::Bool(contains(meter, a, b)? && contains(meter, b, a)?))
    })
    .costs(Cost::Product(2)),
    Row::global("sets.intersects", LISTS, T::Bool, |meter, args| {
        let (a, b) = (list(args, 0)?, list(args, 1)?);
        for element in b.iter() {
            if has(meter, a, &element?)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    })
    .costs(Cost::Product(1)),
];

/// Whether all elements of `b` are in `a`.
fn contains(meter: &mut Meter, a: &List<'_>, b: &List<'_>) -> Result<bool, EvalError> {
    for element in b.iter() {
        if !has(meter, a, &element?)? {
            return Ok(false);
        }
    }
    Ok(true)
}
