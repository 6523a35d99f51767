//! The JSON paths of definitions: simple ones (`.spec.replicas`), and those of printed columns, which may also pick
//! entries of lists. The language is that of `k8s.io/client-go/util/jsonpath`, without its templates.

use serde_json::{Map, Value, json};

use super::numbers;

/// Most values that one step of a path leads to: `..` finds each value again for each that it is below, and several of them
/// one after the other find more than any memory holds.
const MOST: usize = 10_000;

/// Why a path cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unrecognized part of a JSON path at {0:?}")]
pub struct PathError(String);

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// A field.
    Field(String),
    /// All fields or entries.
    All,
    /// Entries of a list from, to (excluded) and by; negative ones count from the end.
    Slice(Option<i64>, Option<i64>, i64),
    /// The entry at an index.
    Index(i64),
    /// Entries of which a field compares to a value.
    Filter(Vec<String>, String, Option<Value>),
    /// Everything below, at any depth.
    Below,
}

/// A path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

impl JsonPath {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        Self::read(text, true)
    }

    /// The same; filters have paths without `filters`, so that reading one never calls itself for long.
    fn read(text: &str, filters: bool) -> Result<Self, PathError> {
        let mut steps = Vec::new();
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        while !rest.is_empty() {
            let wrong = || PathError(rest.to_owned());
            if let Some(inner) = rest.strip_prefix("[") {
                let (inside, after) = bracket(inner).ok_or_else(wrong)?;
                steps.push(bracketed(inside, filters).ok_or_else(wrong)?);
                rest = after;
            } else if let Some(after) = rest.strip_prefix("..") {
                steps.push(Step::Below);
                let (name, after) = field(after).ok_or_else(wrong)?;
                if !name.is_empty() {
                    steps.push(named(name));
                }
                rest = after;
            } else if let Some(after) = rest.strip_prefix('.') {
                let (name, after) = field(after).ok_or_else(wrong)?;
                if !name.is_empty() {
                    steps.push(named(name));
                }
                rest = after;
            } else {
                return Err(wrong());
            }
        }
        Ok(JsonPath(steps))
    }

    /// All values at the path, as far as each step has no more than [`MOST`].
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut here = vec![value];
        for step in &self.0 {
            here = here.into_iter().flat_map(|value| step.apply(value)).take(MOST).collect();
        }
        here
    }
}

/// Splits a field's name off; a backslash keeps the letter behind it.
fn field(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            '.' | '[' => return Some((name, &text[at..])),
            ' ' | '(' | ')' | '{' | '}' | ']' => return None,
            c => name.push(c),
        }
    }
    Some((name, ""))
}

fn named(name: String) -> Step {
    if name == "*" { Step::All } else { Step::Field(name) }
}

/// Splits at the bracket that closes, which may not be one inside quotes or a filter.
fn bracket(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut quote) = (1, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some((&text[..at], &text[at + 1..]));
                }
            }
            _ => {}
        }
    }
    None
}

fn bracketed(inside: &str, filters: bool) -> Option<Step> {
    let inside = inside.trim();
    if inside == "*" {
        return Some(Step::All);
    }
    if let Some(filter) = inside.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return if filters { filtered(filter) } else { None };
    }
    if let Some(name) = unquoted(inside) {
        return Some(Step::Field(name));
    }
    if let Ok(index) = inside.parse() {
        return Some(Step::Index(index));
    }
    let mut parts = inside.split(':').map(str::trim);
    let mut bound = || match parts.next() {
        None | Some("") => Some(None),
        Some(text) => text.parse::<i64>().ok().map(Some),
    };
    let (from, to, by) = (bound()?, bound()?, bound()?);
    (inside.contains(':') && by.unwrap_or(1) > 0).then_some(Step::Slice(from, to, by.unwrap_or(1)))
}

fn unquoted(text: &str) -> Option<String> {
    let inner = ['\'', '"'].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q))?;
    Some(inner.to_owned())
}

/// `@.type=="Ready"`, or `@.type` for the entries that have the field.
fn filtered(text: &str) -> Option<Step> {
    let signs = ["==", "!=", "<=", ">=", "<", ">"];
    let found = signs.iter().filter_map(|sign| Some((text.find(sign)?, *sign))).min_by_key(|(at, _)| *at);
    let (left, sign, right) = match found {
        Some((at, sign)) => (&text[..at], sign, Some(text[at + sign.len()..].trim())),
        None => (text, "", None),
    };
    let path = JsonPath::read(left.trim().strip_prefix('@')?, false).ok()?;
    let fields = path.0.into_iter().map(|step| match step {
        Step::Field(name) => Some(name),
        _ => None,
    });
    let value = match right {
        None => None,
        Some(text) => Some(match unquoted(text) {
            Some(text) => Value::String(text),
            None => serde_json::from_str(text).ok()?,
        }),
    };
    Some(Step::Filter(fields.collect::<Option<_>>()?, sign.to_owned(), value))
}

impl Step {
    fn apply<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Step::Field(name), Value::Object(fields)) => fields.get(name).into_iter().collect(),
            (Step::All, Value::Object(fields)) => fields.values().collect(),
            (Step::All, Value::Array(entries)) => entries.iter().collect(),
            (Step::Index(index), Value::Array(entries)) => usize::try_from(wrap(*index, entries.len()))
                .ok()
                .and_then(|at| entries.get(at))
                .into_iter()
                .collect(),
            (Step::Slice(from, to, by), Value::Array(entries)) => {
                let length = entries.len();
                let bound = |at: i64| usize::try_from(wrap(at, length)).unwrap_or(0).min(length);
                let (from, to) = (bound(from.unwrap_or(0)), to.map_or(length, bound));
                let by = usize::try_from(*by).unwrap_or(1).max(1);
                entries.get(from..to).into_iter().flatten().step_by(by).collect()
            }
            (Step::Filter(path, sign, wanted), Value::Array(entries)) => {
                entries.iter().filter(|entry| holds(entry, path, sign, wanted.as_ref())).collect()
            }
            (Step::Below, value) => {
                let mut all = vec![value];
                let mut at = 0;
                while let Some(value) = all.get(at).copied() {
                    match value {
                        Value::Object(fields) => all.extend(fields.values()),
                        Value::Array(entries) => all.extend(entries),
                        _ => {}
                    }
                    at += 1;
                }
                all
            }
            _ => Vec::new(),
        }
    }
}

fn wrap(index: i64, length: usize) -> i64 {
    if index < 0 { index + i64::try_from(length).unwrap_or(i64::MAX) } else { index }
}

fn holds(entry: &Value, path: &[String], sign: &str, wanted: Option<&Value>) -> bool {
    let found = path.iter().try_fold(entry, |value, field| value.get(field));
    let (Some(found), Some(wanted)) = (found, wanted) else { return found.is_some() && wanted.is_none() };
    let order = match (found, wanted) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => found.as_f64().zip(wanted.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
    };
    match sign {
        "==" => numbers::equal(found, wanted),
        "!=" => !numbers::equal(found, wanted),
        "<" => order.is_some_and(|o| o.is_lt()),
        ">" => order.is_some_and(|o| o.is_gt()),
        "<=" => order.is_some_and(|o| o.is_le()),
        _ => order.is_some_and(|o| o.is_ge()),
    }
}

/// The fields of a simple path: `.spec.replicas` is `["spec", "replicas"]`.
pub fn simple(path: &str) -> Vec<String> {
    path.trim_start_matches('.').split('.').filter(|f| !f.is_empty()).map(str::to_owned).collect()
}

/// The value at a simple path.
pub fn at<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, field| value.get(field))
}

/// Sets the value at a simple path, making the objects on the way; false when something else than an object is there.
pub fn set(object: &mut Value, path: &[String], value: Value) -> bool {
    let Some((last, above)) = path.split_last() else { return false };
    let mut here = object;
    for field in above {
        let Some(fields) = here.as_object_mut() else { return false };
        here = fields.entry(field.clone()).or_insert_with(|| Map::new().into());
        if here.is_null() {
            *here = json!({});
        }
    }
    let Some(fields) = here.as_object_mut() else { return false };
    fields.insert(last.clone(), value);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_columns() {
        let object = json!({
            "spec": {"a": [1, 2, 3], "a.b/c": "dotted", "m": {"x": "y"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
        });
        for (path, expected) in [
            (".spec.a", json!([[1, 2, 3]])),
            (".spec.a[0]", json!([1])),
            (".spec.a[-1]", json!([3])),
            (".spec.a[*]", json!([1, 2, 3])),
            (".spec.a[1:]", json!([2, 3])),
            (".spec['a.b/c']", json!(["dotted"])),
            (".spec.a\\.b/c", json!(["dotted"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Other')].status", json!(["False"])),
            (".status.conditions[?(@.type!=\"Ready\")].type", json!(["Other"])),
            (".status.conditions[*].type", json!(["Ready", "Other"])),
            ("..x", json!(["y"])),
            (".none.at.all", json!([])),
        ] {
            let found: Vec<Value> =
                JsonPath::parse(path).unwrap().find(&object).into_iter().cloned().collect();
            assert_eq!(Value::from(found), expected, "{path}");
        }
        for wrong in ["spec", ".a[", ".a[?(b)]", ".a(b)", ".a[?(@.b[?(@.c)])]"] {
            assert!(JsonPath::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_path_finds_more_than_memory_holds() {
        let nested = (0..100).fold(json!({}), |below, _| json!({"a": below}));
        // Without a bound these are four million.
        let found = JsonPath::parse(&"..*".repeat(4)).unwrap().find(&nested).len();
        assert!((1..=MOST).contains(&found), "{found}");
    }

    #[test]
    fn setting_makes_the_way() {
        let mut object = json!({"spec": {}});
        assert!(set(&mut object, &simple(".spec.scale.replicas"), json!(3)));
        assert_eq!(object, json!({"spec": {"scale": {"replicas": 3}}}));
        assert!(!set(&mut object, &simple(".spec.scale.replicas.deep"), json!(3)));
    }
}
