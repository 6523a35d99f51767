//! Functions on text: CEL's own, and the extension of strings in version 2.

use super::{Cost, Grows, Row, T, int, list, made, text};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::value::Value;

const STRINGS: T = T::List(&T::Str);
const READ: Cost = Cost::Read(0, 1.0);

const fn on_text(name: &'static str, args: &'static [T], result: T, call: super::Call) -> Row {
    Row::member(name, args, result, call).costs(READ).grows(Grows::Same)
}

pub(super) const ROWS: &[Row] = &[
    Row::member("contains", &[T::Str, T::Str], T::Bool, |_, args| {
        Ok(Value::Bool(text(args, 0)?.contains(&**text(args, 1)?)))
    })
    .costs(Cost::Contains),
    Row::member("startsWith", &[T::Str, T::Str], T::Bool, |_, args| {
        Ok(Value::Bool(text(args, 0)?.starts_with(&**text(args, 1)?)))
    })
    .costs(READ),
    Row::member("endsWith", &[T::Str, T::Str], T::Bool, |_, args| {
        Ok(Value::Bool(text(args, 0)?.ends_with(&**text(args, 1)?)))
    })
    .costs(READ),
    Row::member("charAt", &[T::Str, T::Int], T::Str, char_at),
    on_text("indexOf", &[T::Str, T::Str], T::Int, index_of),
    on_text("indexOf", &[T::Str, T::Str, T::Int], T::Int, index_of),
    on_text("lastIndexOf", &[T::Str, T::Str], T::Int, last_index_of),
    on_text("lastIndexOf", &[T::Str, T::Str, T::Int], T::Int, last_index_of),
    on_text("lowerAscii", &[T::Str], T::Str, |meter, args| made(meter, text(args, 0)?.to_ascii_lowercase())),
    on_text("upperAscii", &[T::Str], T::Str, |meter, args| made(meter, text(args, 0)?.to_ascii_uppercase())),
    on_text("trim", &[T::Str], T::Str, |meter, args| made(meter, text(args, 0)?.trim().to_owned())),
    on_text("substring", &[T::Str, T::Int], T::Str, substring),
    on_text("substring", &[T::Str, T::Int, T::Int], T::Str, substring),
    Row::member("replace", &[T::Str, T::Str, T::Str], T::Str, replace)
        .costs(Cost::Read(0, 2.0))
        .grows(Grows::Replace),
    Row::member("replace", &[T::Str, T::Str, T::Str, T::Int], T::Str, replace)
        .costs(Cost::Read(0, 2.0))
        .grows(Grows::Replace),
    Row::member("split", &[T::Str, T::Str], STRINGS, split).costs(Cost::Read(0, 2.0)).grows(Grows::Same),
    Row::member("split", &[T::Str, T::Str, T::Int], STRINGS, split)
        .costs(Cost::Read(0, 2.0))
        .grows(Grows::Same),
    Row::member("join", &[STRINGS], T::Str, join).costs(Cost::Result(2.0)).grows(Grows::Join),
    Row::member("join", &[STRINGS, T::Str], T::Str, join).costs(Cost::Result(2.0)).grows(Grows::Join),
    Row::global("strings.quote", &[T::Str], T::Str, |meter, args| made(meter, quoted(text(args, 0)?)))
        .costs(READ)
        .grows(Grows::Quoted),
    Row::global("jsonpatch.escapeKey", &[T::Str], T::Str, |meter, args| {
        made(meter, text(args, 0)?.replace('~', "~0").replace('/', "~1"))
    })
    .costs(READ),
];

fn out_of_range(index: i64) -> EvalError {
    EvalError::other(format!("index out of range: {index}"))
}

/// The place of a character in bytes; the end counts.
fn place(text: &str, index: i64) -> Result<usize, EvalError> {
    let wanted = usize::try_from(index).map_err(|_| out_of_range(index))?;
    let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    ends.into_iter().nth(wanted).ok_or_else(|| out_of_range(index))
}

fn count(text: &str, bytes: usize) -> Value<'static> {
    Value::Int(text[..bytes].chars().count() as i64)
}

fn char_at<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let text = text(args, 0)?;
    let at = place(text, int(args, 1)?)?;
    made(meter, text[at..].chars().next().map(String::from).unwrap_or_default())
}

fn index_of<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (text, wanted) = (text(args, 0)?, text(args, 1)?);
    let from = if args.len() > 2 { int(args, 2)? } else { 0 };
    if from < 0 {
        return Err(out_of_range(from));
    }
    let Ok(start) = place(text, from) else { return Ok(Value::Int(-1)) };
    let found = text[start..].find(&**wanted);
    Ok(found.map_or(Value::Int(-1), |at| count(text, start + at)))
}

fn last_index_of<'a>(_: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (text, wanted) = (text(args, 0)?, text(args, 1)?);
    let mut end = text.len();
    if args.len() > 2 {
        let last = int(args, 2)?;
        if last < 0 {
            return Err(out_of_range(last));
        }
        // What is found may begin there at the latest.
        end = place(text, last).map_or(end, |at| (at + wanted.len()).min(end));
        while !text.is_char_boundary(end) {
            end += 1;
        }
    }
    let found = text[..end].rfind(&**wanted);
    Ok(found.map_or(Value::Int(-1), |at| count(text, at)))
}

fn substring<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let text = text(args, 0)?;
    let start = place(text, int(args, 1)?)?;
    let end = if args.len() > 2 { place(text, int(args, 2)?)? } else { text.len() };
    if start > end {
        let (from, to) = (int(args, 1)?, int(args, 2)?);
        return Err(EvalError::other(format!("invalid substring range. start: {from}, end: {to}")));
    }
    made(meter, text[start..end].to_owned())
}

/// A count as an argument: negative ones mean all.
fn limit(args: &[Value<'_>], index: usize) -> Result<usize, EvalError> {
    if args.len() <= index {
        return Ok(usize::MAX);
    }
    Ok(usize::try_from(int(args, index)?).unwrap_or(usize::MAX))
}

fn replace<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (text, old, new) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    let limit = limit(args, 3)?;
    let places = text.matches(&**old).take(limit).count();
    meter.allocate(text.len() + places.saturating_mul(new.len()))?;
    meter.spend((places.saturating_mul(new.len()) / 10) as u64)?;
    Ok(Value::text(text.replacen(&**old, new, limit)))
}

fn split<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (text, separator) = (text(args, 0)?, text(args, 1)?);
    let limit = limit(args, 2)?;
    if limit == 0 {
        return Ok(Value::list(Vec::new()));
    }
    // An empty separator gives the characters.
    let parts: Vec<String> = if separator.is_empty() {
        meter.elements(text.len().min(limit))?;
        let mut chars = text.chars();
        let mut parts: Vec<String> = chars.by_ref().take(limit - 1).map(String::from).collect();
        let rest = chars.as_str();
        if !rest.is_empty() {
            parts.push(rest.to_owned());
        }
        parts
    } else {
        meter.elements(text.matches(&**separator).count().min(limit) + 1)?;
        text.splitn(limit, &**separator).map(str::to_owned).collect()
    };
    meter.allocate(text.len())?;
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

fn join<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let list = list(args, 0)?;
    let separator = if args.len() > 1 { text(args, 1)?.to_string() } else { String::new() };
    let mut joined = String::new();
    for (index, element) in list.iter().enumerate() {
        let Value::String(part) = element? else { return Err(EvalError::NoSuchOverload) };
        meter.allocate(part.len() + separator.len())?;
        if index > 0 {
            joined.push_str(&separator);
        }
        joined.push_str(&part);
    }
    Ok(Value::text(joined))
}

/// Text in double quotes, what cannot be printed escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
