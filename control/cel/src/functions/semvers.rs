//! Kubernetes' library of semantic versions.

use std::cmp::Ordering;
use std::sync::Arc;

use semver::Version;

use super::{Cost, Row, T, text};
use crate::error::EvalError;
use crate::opaque::{Opaque, OpaqueKind};
use crate::value::Value;

const SEMVER: T = T::Op(OpaqueKind::Semver);
const READ: Cost = Cost::Read(0, 1.0);

pub(super) const ROWS: &[Row] = &[
    Row::global("semver", &[T::Str], SEMVER, |_, args| parse(args).map(value)).costs(READ),
    Row::global("semver", &[T::Str, T::Bool], SEMVER, |_, args| parse(args).map(value)).costs(READ),
    Row::global("isSemver", &[T::Str], T::Bool, |_, args| Ok(Value::Bool(parse(args).is_ok()))).costs(READ),
    Row::global("isSemver", &[T::Str, T::Bool], T::Bool, |_, args| Ok(Value::Bool(parse(args).is_ok())))
        .costs(READ),
    Row::member("major", &[SEMVER], T::Int, |_, args| number(args, |version| version.major)),
    Row::member("minor", &[SEMVER], T::Int, |_, args| number(args, |version| version.minor)),
    Row::member("patch", &[SEMVER], T::Int, |_, args| number(args, |version| version.patch)),
    Row::member("isGreaterThan", &[SEMVER, SEMVER], T::Bool, |_, args| {
        Ok(Value::Bool(compare(args)? == Ordering::Greater))
    }),
    Row::member("isLessThan", &[SEMVER, SEMVER], T::Bool, |_, args| {
        Ok(Value::Bool(compare(args)? == Ordering::Less))
    }),
    Row::member("compareTo", &[SEMVER, SEMVER], T::Int, |_, args| Ok(Value::Int(compare(args)? as i64))),
];

fn value<'a>(version: Version) -> Value<'a> {
    Value::Opaque(Opaque::Semver(Arc::new(version)))
}

fn parse(args: &[Value<'_>]) -> Result<Version, EvalError> {
    let text = text(args, 0)?;
    let parsed = match args.get(1) {
        Some(Value::Bool(true)) => Version::parse(&normalized(text)),
        _ => Version::parse(text),
    };
    parsed.map_err(|error| EvalError::other(format!("semver parse error: {error}")))
}

/// Without a leading `v` and leading zeros, with the numbers that are missing.
fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, tail) = text.split_at(end);
    let mut parts: Vec<String> = numbers
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0".to_owned(),
            trimmed => trimmed.to_owned(),
        })
        .collect();
    while parts.len() < 3 && tail.is_empty() {
        parts.push("0".to_owned());
    }
    format!("{}{tail}", parts.join("."))
}

fn version<'v>(args: &'v [Value<'_>], index: usize) -> Result<&'v Version, EvalError> {
    match args.get(index) {
        Some(Value::Opaque(Opaque::Semver(version))) => Ok(version),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn number<'a>(args: &[Value<'a>], part: fn(&Version) -> u64) -> Result<Value<'a>, EvalError> {
    let number = i64::try_from(part(version(args, 0)?)).map_err(|_| EvalError::Overflow("integer"))?;
    Ok(Value::Int(number))
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    Ok(version(args, 0)?.cmp_precedence(version(args, 1)?))
}
