//! Conversions between types, and `type()`.

use super::{Cost, Grows, Row, T, made};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::times;
use crate::value::{Text, Value};

const fn to_int(arg: &'static [T]) -> Row {
    Row::global("int", arg, T::Int, int)
}

const fn to_uint(arg: &'static [T]) -> Row {
    Row::global("uint", arg, T::Uint, uint)
}

const fn to_double(arg: &'static [T]) -> Row {
    Row::global("double", arg, T::Double, double)
}

const fn to_string(arg: &'static [T]) -> Row {
    Row::global("string", arg, T::Str, string)
}

pub(super) const ROWS: &[Row] = &[
    to_int(&[T::Int]),
    to_int(&[T::Uint]),
    to_int(&[T::Double]),
    to_int(&[T::Str]),
    to_int(&[T::Time]),
    to_int(&[T::Span]),
    to_uint(&[T::Uint]),
    to_uint(&[T::Int]),
    to_uint(&[T::Double]),
    to_uint(&[T::Str]),
    to_double(&[T::Double]),
    to_double(&[T::Int]),
    to_double(&[T::Uint]),
    to_double(&[T::Str]),
    to_string(&[T::Str]).grows(Grows::Same),
    to_string(&[T::Bool]),
    to_string(&[T::Bytes]).costs(Cost::Read(0, 1.0)).grows(Grows::Same),
    to_string(&[T::Int]),
    to_string(&[T::Uint]),
    to_string(&[T::Double]),
    to_string(&[T::Time]),
    to_string(&[T::Span]),
    to_string(&[T::Op(crate::opaque::OpaqueKind::Ip)]),
    to_string(&[T::Op(crate::opaque::OpaqueKind::Cidr)]),
    Row::global("bytes", &[T::Bytes], T::Bytes, bytes).grows(Grows::Same),
    Row::global("bytes", &[T::Str], T::Bytes, bytes).costs(Cost::Read(0, 1.0)).grows(Grows::Same),
    Row::global("bool", &[T::Bool], T::Bool, bool),
    Row::global("bool", &[T::Str], T::Bool, bool),
    Row::global("duration", &[T::Span], T::Span, duration),
    Row::global("duration", &[T::Str], T::Span, duration),
    Row::global("duration", &[T::Int], T::Span, duration),
    Row::global("timestamp", &[T::Time], T::Time, timestamp),
    Row::global("timestamp", &[T::Str], T::Time, timestamp),
    Row::global("timestamp", &[T::Int], T::Time, timestamp),
    Row::global("dyn", &[T::A], T::Dyn, |_, args| args.first().cloned().ok_or(EvalError::NoSuchOverload)),
    Row::global("type", &[T::A], T::Kind, |_, args| {
        let value = args.first().ok_or(EvalError::NoSuchOverload)?;
        Ok(Value::Type(value.type_name().into()))
    }),
];

/// 2⁶³ and 2⁶⁴, which are no numbers of these types any more.
const INT_END: f64 = 9_223_372_036_854_775_808.0;
const UINT_END: f64 = 18_446_744_073_709_551_616.0;

fn bad(value: &str, to: &str) -> EvalError {
    EvalError::other(format!("type conversion error from '{value}' to '{to}'"))
}

fn int<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let overflow = EvalError::Overflow("integer");
    Ok(Value::Int(match args {
        [Value::Int(number)] => *number,
        [Value::Uint(number)] => i64::try_from(*number).map_err(|_| overflow)?,
        [Value::Double(number)] if *number > -INT_END && *number < INT_END => *number as i64,
        [Value::Double(_)] => return Err(overflow),
        [Value::String(text)] => text.parse().map_err(|_| bad(text, "int"))?,
        [Value::Timestamp(when)] => when.as_second(),
        [Value::Duration(nanos)] => *nanos,
        _ => return Err(EvalError::NoSuchOverload),
    }))
}

fn uint<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let overflow = EvalError::Overflow("unsigned integer");
    Ok(Value::Uint(match args {
        [Value::Uint(number)] => *number,
        [Value::Int(number)] => u64::try_from(*number).map_err(|_| overflow)?,
        [Value::Double(number)] if *number >= 0.0 && *number < UINT_END => *number as u64,
        [Value::Double(_)] => return Err(overflow),
        [Value::String(text)] => text.parse().map_err(|_| bad(text, "uint"))?,
        _ => return Err(EvalError::NoSuchOverload),
    }))
}

fn double<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    Ok(Value::Double(match args {
        [Value::Double(number)] => *number,
        [Value::Int(number)] => *number as f64,
        [Value::Uint(number)] => *number as f64,
        [Value::String(text)] => text.parse().map_err(|_| bad(text, "double"))?,
        _ => return Err(EvalError::NoSuchOverload),
    }))
}

/// A value as text; `None` for types that have none.
pub(super) fn shown(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::String(text) => text.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Timestamp(when) => when.to_string(),
        Value::Duration(nanos) => times::show_duration(*nanos),
        Value::Opaque(crate::opaque::Opaque::Ip(ip)) => ip.to_string(),
        Value::Opaque(crate::opaque::Opaque::Cidr(net)) => net.to_string(),
        _ => return None,
    })
}

fn string<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::String(text)] => Ok(Value::String(text.clone())),
        [Value::Bytes(bytes)] => match std::str::from_utf8(bytes) {
            Ok(text) => made(meter, text.to_owned()),
            Err(_) => Err(EvalError::other("invalid UTF-8 in bytes, cannot convert to string")),
        },
        [value] => made(meter, shown(value).ok_or(EvalError::NoSuchOverload)?),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn bytes<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Bytes(bytes)] => Ok(Value::Bytes(bytes.clone())),
        [Value::String(text)] => {
            meter.allocate(text.len())?;
            Ok(Value::Bytes(text.as_bytes().into()))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn bool<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(*value)),
        [Value::String(text)] => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            other => Err(bad(other, "bool")),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn duration<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let parse = |text: &Text<'_>| times::parse_duration(text).ok_or_else(|| bad(text, "duration"));
    match args {
        [Value::Duration(nanos) | Value::Int(nanos)] => Ok(Value::Duration(*nanos)),
        [Value::String(text)] => parse(text).map(Value::Duration),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn timestamp<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Timestamp(when)] => Ok(Value::Timestamp(*when)),
        [Value::String(text)] => {
            times::parse_timestamp(text).map(Value::Timestamp).ok_or_else(|| bad(text, "timestamp"))
        }
        [Value::Int(seconds)] => {
            let when = jiff::Timestamp::from_second(*seconds);
            when.map(Value::Timestamp).map_err(|_| EvalError::Overflow("timestamp"))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}
