//! Validation of values by a schema, with the words of upstream's validator (`k8s.io/kube-openapi/pkg/validation`).

use std::collections::HashMap;

use serde_json::Value;

use super::formats;
use super::numbers;
use super::structural::{Additional, ListType, Structural, Type};
use crate::status::{ErrorType, FieldError, FieldPath};

/// Most errors that are reported for one object.
const MAX_ERRORS: usize = 100;

/// What is wrong with `object`, which replaces `old`, if anything. What is wrong with a value that was the same before is
/// let through, as far as it can be told which value it was: upstream's ratcheting
/// (`apiserver/validation/ratcheting.go`).
pub fn validate(object: &Value, schema: &Structural, old: Option<&Value>) -> Vec<FieldError> {
    let mut found = Found::default();
    node(object, schema, &FieldPath::default(), old, &mut found);
    found.errors.truncate(MAX_ERRORS);
    found.errors
}

/// What is wrong with a value of a node, such as a default, which is at `path`.
pub(crate) fn judge_at(value: &Value, schema: &Structural, path: &FieldPath) -> Vec<FieldError> {
    let mut found = Found::default();
    node(value, schema, path, None, &mut found);
    found.errors
}

/// Errors, and how many checks were made: among alternatives the one with most checks explains best.
#[derive(Default)]
struct Found {
    errors: Vec<FieldError>,
    checks: usize,
}

impl Found {
    fn add(&mut self, kind: ErrorType, path: &FieldPath, value: Option<Value>, detail: String) {
        self.errors.push(FieldError { kind, field: path.as_str().to_owned(), value, detail });
    }

    /// A value that breaks a rule: `path in body <what>`.
    fn invalid(&mut self, path: &FieldPath, value: &Value, what: &str) {
        self.add(ErrorType::Invalid, path, Some(value.clone()), format!("{path} in body {what}"));
    }

    /// A composite, which upstream reports without a place.
    fn composite(&mut self, path: &FieldPath, what: &str) {
        let nowhere = FieldPath::root("<nil>");
        self.add(ErrorType::Invalid, &nowhere, Some("".into()), format!("{:?} {what}", path.as_str()));
    }

    fn wrong_type(&mut self, path: &FieldPath, found: &str, wanted: &str) {
        let detail = format!("{path} in body must be of type {wanted}: {found:?}");
        self.add(ErrorType::TypeInvalid, path, Some(found.into()), detail);
    }

    fn merge(&mut self, other: Found) {
        self.errors.extend(other.errors);
        self.checks += other.checks;
    }
}

fn probe(value: &Value, schema: &Structural, path: &FieldPath) -> Found {
    let mut found = Found::default();
    node(value, schema, path, None, &mut found);
    found
}

fn node(value: &Value, schema: &Structural, path: &FieldPath, old: Option<&Value>, found: &mut Found) {
    let before = found.errors.len();
    judge(value, schema, path, old, found);
    if found.errors.len() > before && old.is_some_and(|old| numbers::equal(old, value)) {
        found.errors.truncate(before);
    }
}

fn judge(value: &Value, schema: &Structural, path: &FieldPath, old: Option<&Value>, found: &mut Found) {
    found.checks += 1;
    if value.is_null() && schema.nullable {
        return;
    }
    if !type_fits(value, schema) {
        let wanted =
            if schema.int_or_string { "integer,string" } else { schema.kind.map_or("", Type::as_str) };
        found.wrong_type(path, type_name(value), wanted);
    }
    // What judges other types does not apply to what is there, but for the choices.
    junctors(value, schema, path, found);
    match value {
        Value::String(text) => string(text, value, schema, path, found),
        Value::Number(_) => number(value, schema, path, found),
        Value::Array(entries) => list(entries, value, schema, path, old, found),
        Value::Object(_) => object(value, schema, path, old, found),
        Value::Null | Value::Bool(_) => {}
    }
    choices(value, schema, path, found);
}

/// The type of a value in upstream's words.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_fits(value: &Value, schema: &Structural) -> bool {
    if schema.int_or_string {
        return numbers::is_whole(value) || value.is_string();
    }
    match schema.kind {
        None => true,
        Some(Type::Object) => value.is_object(),
        Some(Type::Array) => value.is_array(),
        Some(Type::String) => value.is_string(),
        Some(Type::Boolean) => value.is_boolean(),
        Some(Type::Number) => value.is_number(),
        Some(Type::Integer) => numbers::is_whole(value),
    }
}

fn choices(value: &Value, schema: &Structural, path: &FieldPath, found: &mut Found) {
    let choices = &schema.limits.choices;
    if choices.is_empty() || choices.iter().any(|choice| numbers::equal(choice, value)) {
        return;
    }
    let shown = choices.iter().map(|choice| match choice {
        Value::String(text) => format!("{text:?}"),
        other => format!("{:?}", other.to_string()),
    });
    let detail = format!("supported values: {}", shown.collect::<Vec<_>>().join(", "));
    found.add(ErrorType::NotSupported, path, Some(value.clone()), detail);
}

fn string(text: &str, value: &Value, schema: &Structural, path: &FieldPath, found: &mut Found) {
    let limits = &schema.limits;
    let length = text.chars().count() as u64;
    if let Some(most) = limits.length.most.filter(|most| length > *most) {
        let what = format!("may not be more than {most} bytes");
        found.add(ErrorType::TooLong, path, None, what);
    }
    if let Some(least) = limits.length.least.filter(|least| length < *least) {
        found.invalid(path, value, &format!("should be at least {least} chars long"));
    }
    if let Some((source, pattern)) = &limits.pattern
        && !pattern.is_match(text)
    {
        found.invalid(path, value, &format!("should match '{source}'"));
    }
    if let Some(format) = &limits.format
        && !formats::fits(format, text)
    {
        let detail = format!("{path} in body must be of type {format}: {text:?}");
        found.add(ErrorType::TypeInvalid, path, Some(value.clone()), detail);
    }
}

fn number(value: &Value, schema: &Structural, path: &FieldPath, found: &mut Found) {
    let limits = &schema.limits;
    let number = value.as_f64().unwrap_or_default();
    if let Some(of) = limits.multiple_of.filter(|of| !numbers::is_multiple(value, *of)) {
        found.invalid(path, value, &format!("should be a multiple of {of}"));
    }
    if let Some(most) = limits.number.most {
        if limits.below_most && number >= most {
            found.invalid(path, value, &format!("should be less than {most}"));
        } else if number > most {
            found.invalid(path, value, &format!("should be less than or equal to {most}"));
        }
    }
    if let Some(least) = limits.number.least {
        if limits.above_least && number <= least {
            found.invalid(path, value, &format!("should be greater than {least}"));
        } else if number < least {
            found.invalid(path, value, &format!("should be greater than or equal to {least}"));
        }
    }
    // Text has its formats checked elsewhere; of numbers only the widths are known.
    if let Some(format) = &limits.format
        && !numbers::fits_format(value, format)
    {
        found.invalid(path, value, &format!("must be of type {format}: {:?}", value.to_string()));
    }
}

/// The keys of an entry.
type Keys<'v> = Vec<Option<&'v Value>>;

fn keys_of<'v>(entry: &'v Value, keys: &[String]) -> Keys<'v> {
    keys.iter().map(|key| entry.get(key)).collect()
}

/// The entries of a list by their keys, the first of those that are the same. Entries of other lists than maps cannot be told
/// apart.
fn by_keys<'v>(list: &ListType, old: Option<&'v Value>) -> HashMap<Keys<'v>, &'v Value> {
    let ListType::Map(keys) = list else { return HashMap::new() };
    let entries = old.and_then(Value::as_array).into_iter().flatten().rev();
    entries.map(|entry| (keys_of(entry, keys), entry)).collect()
}

/// The entry of an old list that `entry` replaces.
fn correlated<'v>(
    entry: &'v Value,
    list: &ListType,
    old: &HashMap<Keys<'v>, &'v Value>,
) -> Option<&'v Value> {
    let ListType::Map(keys) = list else { return None };
    old.get(&keys_of(entry, keys)).copied()
}

fn list(
    entries: &[Value],
    value: &Value,
    schema: &Structural,
    path: &FieldPath,
    old: Option<&Value>,
    found: &mut Found,
) {
    let limits = &schema.limits;
    if let Some(items) = &schema.items {
        let old = by_keys(&schema.list, old);
        for (index, entry) in entries.iter().enumerate() {
            node(entry, items, &path.index(index), correlated(entry, &schema.list, &old), found);
            if found.errors.len() > MAX_ERRORS {
                return;
            }
        }
    }
    let count = entries.len() as u64;
    if let Some(least) = limits.items.least.filter(|least| count < *least) {
        found.invalid(path, value, &format!("should have at least {least} items"));
    }
    if let Some(most) = limits.items.most.filter(|most| count > *most) {
        let detail = format!("must have at most {most} items");
        found.add(ErrorType::TooMany, path, Some(count.into()), detail);
    }
    if limits.unique && numbers::has_twins(entries) {
        found.invalid(path, value, "shouldn't contain duplicates");
    }
}

fn object(value: &Value, schema: &Structural, path: &FieldPath, old: Option<&Value>, found: &mut Found) {
    let Some(fields) = value.as_object() else { return };
    let limits = &schema.limits;
    let count = fields.len() as u64;
    if let Some(least) = limits.properties.least.filter(|least| count < *least) {
        found.invalid(path, value, &format!("should have at least {least} properties"));
    }
    if let Some(most) = limits.properties.most.filter(|most| count > *most) {
        let detail = format!("must have at most {most} items");
        found.add(ErrorType::TooMany, path, Some(count.into()), detail);
    }
    for name in limits.required.iter().filter(|name| !fields.contains_key(*name)) {
        found.add(ErrorType::Required, &path.child(name), None, String::new());
    }
    for (name, field) in fields {
        let was = old.and_then(|old| old.get(name));
        match (schema.properties.get(name), &schema.additional) {
            (Some(below), _) => node(field, below, &path.child(name), was, found),
            (None, Some(Additional::Schema(below))) => node(field, below, &path.child(name), was, found),
            (None, Some(Additional::Allowed(false))) => {
                found.invalid(&path.child(name), &"".into(), "is a forbidden property");
            }
            _ => {}
        }
        if found.errors.len() > MAX_ERRORS {
            return;
        }
    }
}

fn junctors(value: &Value, schema: &Structural, path: &FieldPath, found: &mut Found) {
    let limits = &schema.limits;
    any_of(value, schema, path, found);
    if !limits.one_of.is_empty() {
        let (valid, best) = alternatives(value, &limits.one_of, path);
        if valid != 1 {
            let how = if valid == 0 {
                "Found none valid".to_owned()
            } else {
                format!("Found {valid} valid alternatives")
            };
            found.composite(path, &format!("must validate one and only one schema (oneOf). {how}"));
            found.merge(best);
        }
    }
    if !limits.all_of.is_empty() {
        let mut valid = 0;
        for schema in &limits.all_of {
            let result = probe(value, schema, path);
            valid += usize::from(result.errors.is_empty());
            found.merge(result);
        }
        if valid != limits.all_of.len() {
            let how = if valid == 0 { ". None validated" } else { "" };
            found.composite(path, &format!("must validate all the schemas (allOf){how}"));
        }
    }
    if let Some(not) = &limits.not
        && probe(value, not, path).errors.is_empty()
    {
        found.composite(path, "must not validate the schema (not)");
    }
}

fn any_of(value: &Value, schema: &Structural, path: &FieldPath, found: &mut Found) {
    let any_of = &schema.limits.any_of;
    if any_of.is_empty() {
        return;
    }
    let (valid, best) = alternatives(value, any_of, path);
    if valid == 0 {
        found.composite(path, "must validate at least one schema (anyOf)");
        found.merge(best);
    }
}

/// How many of the schemas hold, and the failure that says most.
fn alternatives(value: &Value, schemas: &[Structural], path: &FieldPath) -> (usize, Found) {
    let mut valid = 0;
    let mut best: Option<Found> = None;
    for schema in schemas {
        let result = probe(value, schema, path);
        if result.errors.is_empty() {
            valid += 1;
        } else if best.as_ref().is_none_or(|best| result.checks > best.checks) {
            best = Some(result);
        }
    }
    (valid, if valid == 0 { best.unwrap_or_default() } else { Found::default() })
}
