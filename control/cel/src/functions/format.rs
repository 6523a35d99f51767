//! `format()`: text with places for values, as in C.

use super::{Cost, Row, T, list, text};
use crate::error::EvalError;
use crate::functions::convert::shown;
use crate::meter::Meter;
use crate::value::Value;

pub(super) const ROWS: &[Row] =
    &[Row::member("format", &[T::Str, T::List(&T::Dyn)], T::Str, format).costs(Cost::Read(0, 1.0))];

/// More digits than any number has.
const MAX_PRECISION: usize = 1000;

fn format<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (pattern, values) = (text(args, 0)?, list(args, 1)?);
    let mut out = String::new();
    let mut rest: &str = pattern;
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('%') {
            out.push('%');
            rest = tail;
            continue;
        }
        let (precision, tail) = precision(rest)?;
        let clause = tail.chars().next().ok_or_else(|| EvalError::other("unexpected end of string"))?;
        rest = &tail[clause.len_utf8()..];
        let value =
            values.get(next).ok_or_else(|| EvalError::other(format!("index {next} out of range")))??;
        next += 1;
        let before = out.len();
        one(meter, &mut out, clause, precision, &value).map_err(|error| {
            if error.is_fatal() {
                error
            } else {
                EvalError::other(format!("error during formatting: {error}"))
            }
        })?;
        let added = out.len() - before;
        meter.allocate(added)?;
        meter.spend(added as u64 / 10)?;
    }
    if next < values.len() {
        let (given, used) = (values.len(), next);
        let message = format!("too many arguments supplied to string.format (expected {used}, got {given})");
        return Err(EvalError::other(message));
    }
    out.push_str(rest);
    meter.allocate(pattern.len())?;
    Ok(Value::text(out))
}

/// `.3` before a letter.
fn precision(text: &str) -> Result<(Option<usize>, &str), EvalError> {
    let Some(rest) = text.strip_prefix('.') else { return Ok((None, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let wrong = || EvalError::other("error while converting precision to integer");
    let digits = rest[..end].parse().ok().filter(|digits| *digits <= MAX_PRECISION).ok_or_else(wrong)?;
    Ok((Some(digits), &rest[end..]))
}

fn one(
    meter: &mut Meter,
    out: &mut String,
    clause: char,
    precision: Option<usize>,
    value: &Value<'_>,
) -> Result<(), EvalError> {
    let digits = precision.unwrap_or(6);
    let refused = |what: &str| EvalError::other(format!("{what}, was given {}", value.type_name()));
    let shown = match (clause, value) {
        ('s', value) => return general(meter, out, value),
        ('d', Value::Int(number)) => number.to_string(),
        ('d', Value::Uint(number)) => number.to_string(),
        ('d', _) => return Err(refused("decimal clause can only be used on integers")),
        ('f' | 'e', Value::Double(number)) if !number.is_finite() => number.to_string(),
        ('f', Value::Double(number)) => format!("{number:.digits$}"),
        ('f', Value::Int(number)) => format!("{:.digits$}", *number as f64),
        ('f', Value::Uint(number)) => format!("{:.digits$}", *number as f64),
        ('f', _) => return Err(refused("fixed-point clause can only be used on doubles")),
        ('e', Value::Double(number)) => scientific(*number, digits),
        ('e', Value::Int(number)) => scientific(*number as f64, digits),
        ('e', Value::Uint(number)) => scientific(*number as f64, digits),
        ('e', _) => return Err(refused("scientific clause can only be used on doubles")),
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('b' | 'o' | 'x' | 'X', Value::Int(number)) => {
            let sign = if *number < 0 { "-" } else { "" };
            format!("{sign}{}", based(clause, number.unsigned_abs()))
        }
        ('b' | 'o' | 'x' | 'X', Value::Uint(number)) => based(clause, *number),
        ('x' | 'X', Value::String(text)) => hex(clause, text.as_bytes()),
        ('x' | 'X', Value::Bytes(bytes)) => hex(clause, bytes),
        ('b' | 'o' | 'x' | 'X', _) => {
            return Err(refused(
                "only integers, and for some clauses bools, strings and bytes, can be formatted",
            ));
        }
        (other, _) => {
            return Err(EvalError::other(format!("unrecognized formatting clause {other:?}")));
        }
    };
    out.push_str(&shown);
    Ok(())
}

fn based(clause: char, number: u64) -> String {
    match clause {
        'b' => format!("{number:b}"),
        'o' => format!("{number:o}"),
        'x' => format!("{number:x}"),
        _ => format!("{number:X}"),
    }
}

fn hex(clause: char, bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| if clause == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") })
        .collect()
}

/// `1.052033e+03`: at least two digits in the exponent.
fn scientific(number: f64, digits: usize) -> String {
    let shown = format!("{number:.digits$e}");
    let (mantissa, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{mantissa}e{sign}{exponent:0>2}")
}

/// Any value; lists and maps with their elements.
fn general(meter: &mut Meter, out: &mut String, value: &Value<'_>) -> Result<(), EvalError> {
    meter.allocate(8)?;
    match value {
        Value::Null => out.push_str("null"),
        Value::Type(name) => out.push_str(name),
        Value::Bytes(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        Value::List(list) => {
            out.push('[');
            for (index, element) in list.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                general(meter, out, &element?)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (index, key) in map.keys().iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                general(meter, out, &key.value())?;
                out.push_str(": ");
                if let Some(value) = map.get(key) {
                    general(meter, out, &value?)?;
                }
            }
            out.push('}');
        }
        value => {
            let refused = || {
                let name = value.type_name();
                EvalError::other(format!(
                    "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {name}"
                ))
            };
            out.push_str(&shown(value).ok_or_else(refused)?);
        }
    }
    if out.len() > crate::meter::MEMORY {
        return Err(EvalError::MemoryExceeded(crate::meter::MEMORY));
    }
    Ok(())
}
