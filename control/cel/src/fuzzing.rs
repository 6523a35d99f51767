//! What `cargo xtask fuzz` feeds to this package, and where it begins.

use carrack_api::custom::structural::Structural;
use carrack_api::status::FieldPath;
use serde_json::{Value as Json, json};

use crate::rules;
use crate::*;

/// A name, a function that takes anything and never panics, and what it is fed first.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of this package's.
pub const TARGETS: &[Target] = &[
    ("cel-expression", expression, || EXPRESSIONS.iter().map(|text| text.as_bytes().to_vec()).collect()),
    ("cel-rules", schema_and_object, || vec![RULES.as_bytes().to_vec()]),
];

const EXPRESSIONS: &[&str] = &[
    "self.list.all(x, x > 1) && self.name.matches('^[a-z]+$') ? self.count + 1 : -self.count * 2 % 3",
    "has(object.a) && object.a.b[0].c in ['x', \"y\", b'z', r'\\d'] || size(object) >= 1.5e3",
    "duration('1h30m') + timestamp('2025-03-04T05:06:07Z') < timestamp(0).getFullYear()",
    "quantity('1.5Gi').isGreaterThan(quantity('1k')) && isIP('::1') && cidr('10.0.0.0/8').containsIP('10.1.2.3')",
    "cel.bind(x, self.labels.map(k, k + self.labels[k]), x.join(',').split(',').sort().indexOf('a') == 0u)",
    "'%s %d %.2f %x %e'.format(['a', 1, 2.5, 255, 1e9]) + optional.of(1).orValue(2) + [?object.?a].size()",
    "url('https://a:1/b?c=d').getQuery()['c'].exists_one(x, semver('1.2.3').isLessThan(semver('2.0.0')))",
    "sets.intersects([1, 2], [2]) && format.dns1123Label().validate('a').hasValue() || 'é'.charAt(0).upperAscii() == ''",
];

const RULES: &str = r#"{"type":"object","properties":{"spec":{"type":"object","properties":{"n":{"type":"integer"},
"l":{"type":"array","maxItems":5,"items":{"type":"string","maxLength":9}}},"x-kubernetes-validations":[{"rule":
"self.n > 0 && oldSelf.n < self.n","messageExpression":"'n is ' + string(self.n)","fieldPath":".n"},{"rule":
"self.l.all(x, x.startsWith('a'))","optionalOldSelf":false}]}}}"#;

fn object() -> Json {
    json!({
        "name": "abc", "count": 3, "labels": {"a": "1", "b-c": "2"}, "list": [3, 1, 2], "when": "2025-03-04T05:06:07Z",
        "a": {"b": [{"c": "x"}, null, 1.5]}, "wait": "90s",
    })
}

fn schema() -> Json {
    let text = json!({"type": "string"});
    json!({"type": "object", "properties": {
        "name": text, "count": {"type": "integer"}, "labels": {"type": "object", "additionalProperties": text},
        "list": {"type": "array", "items": {"type": "integer"}}, "when": {"type": "string", "format": "date-time"},
        "wait": {"type": "string", "format": "duration"},
    }})
}

/// Reads, checks and runs an expression. How long that may take is libFuzzer's to judge.
fn expression(data: &[u8]) {
    let (Ok(text), Some(ty)) = (std::str::from_utf8(data), schema_type(&schema(), false)) else { return };
    let environment = Environment::new().with("self", ty.clone()).with("object", DYN).with_objects();
    let Ok(program) = Program::compile(text, &environment) else { return };
    let (typed, untyped) = (object(), object());
    let Ok(own) = Value::json(&typed, &ty) else { return };
    let bindings = Bindings::new().with("self", own).with("object", Value::untyped(&untyped));
    let mut budget = Budget::new(PER_REQUEST);
    if let Ok(value) = program.evaluate(&bindings, &mut budget) {
        let _ = value.to_json();
    }
    assert!(PER_REQUEST - budget.left() <= PER_CALL.saturating_mul(2), "one expression is bounded");
}

/// A schema with rules, then, behind a zero, an object, then an older one.
fn schema_and_object(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0);
    let mut part = || parts.next().and_then(|text| serde_json::from_slice::<Json>(text).ok());
    let Some(schema) = part().filter(|schema| Structural::parse(schema).is_ok()) else { return };
    let (compiled, errors) = rules::compile(&schema, true, &FieldPath::root("schema"));
    if !errors.is_empty() {
        return;
    }
    let new = part().unwrap_or_else(|| json!({"spec": {"n": 2, "l": ["a", "b"]}}));
    let old = part();
    rules::validate(&compiled, &new, old.as_ref(), &FieldPath::default(), &mut Budget::new(PER_REQUEST));
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn nothing_that_once_went_wrong_does_so_again() {
    replay::replay("cel", TARGETS);
}
