//! Comparing JSON values as Go's decoder sees them: 1 and 1.0 are one number, and whole.

use std::collections::HashSet;

use serde_json::Value;

/// Whether a value is a whole number, however it is written.
pub(super) fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0 && n.abs() < 9.0e15)
}

/// Whether both are the same value.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            x == y || (x.is_f64() || y.is_f64()) && x.as_f64() == y.as_f64()
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// Whether a number is a multiple of `of`, whole numbers exactly.
pub(super) fn is_multiple(value: &Value, of: f64) -> bool {
    if of <= 0.0 {
        return true;
    }
    if let (Some(number), true) = (value.as_i64(), of.fract() == 0.0 && of < 9.0e15) {
        return number % (of as i64) == 0;
    }
    let ratio = value.as_f64().unwrap_or_default() / of;
    (ratio - ratio.round()).abs() < 1e-9
}

/// Whether a number fits the width that a format names; others say nothing of numbers.
pub(super) fn fits_format(value: &Value, format: &str) -> bool {
    let Some(number) = value.as_f64() else { return true };
    match format {
        "int32" => number >= f64::from(i32::MIN) && number <= f64::from(i32::MAX),
        "uint32" => number >= 0.0 && number <= f64::from(u32::MAX),
        "int64" => value.is_i64() || (value.is_f64() && number.abs() < 9.223_372_036_854_776e18),
        "uint64" => number >= 0.0,
        "float" => number.abs() <= f64::from(f32::MAX),
        _ => true,
    }
}

/// Whether an entry is there twice.
pub(super) fn has_twins(entries: &[Value]) -> bool {
    twins(entries).next().is_some()
}

/// The indices of entries that were there before.
pub(super) fn twins(entries: &[Value]) -> impl Iterator<Item = usize> {
    let mut seen = HashSet::new();
    entries.iter().enumerate().filter_map(move |(at, entry)| (!seen.insert(canonical(entry))).then_some(at))
}

/// A text that equal values share.
pub(super) fn canonical(value: &Value) -> String {
    match value {
        Value::Number(n) if n.is_f64() && is_whole(value) => {
            (n.as_f64().unwrap_or_default() as i64).to_string()
        }
        Value::Array(entries) => format!("[{}]", entries.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let mut all: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name:?}:{}", canonical(value))).collect();
            all.sort_unstable();
            format!("{{{}}}", all.join(","))
        }
        other => other.to_string(),
    }
}
