//! Tables of expressions and what they are.

mod bounds;
mod costs;
mod errors;
mod functions;
mod language;
mod made;

use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::opaque::{Authorize, Check, Opaque, OpaqueKind, Query, Verdict};
use crate::*;

/// Lets `admin` (by verb), and one ServiceAccount, do things.
struct Rights;

impl Authorize for Rights {
    fn authorize(&self, check: &Check) -> Verdict {
        let allowed = match (&check.path, &check.service_account) {
            (Some(path), _) => path == "/healthz",
            (_, Some((namespace, name))) => namespace == "ns" && name == "sa",
            _ => check.group == "apps" && check.resource == "deployments" && check.verb == "get",
        };
        let error = (check.verb == "fail").then(|| "broken".to_owned());
        Verdict { allowed, reason: format!("{}/{}", check.namespace, check.name), error }
    }
}

fn object() -> Json {
    json!({
        "name": "abc", "count": 3, "ratio": 2, "labels": {"a": "1", "b-c": "2"}, "list": [3, 1, 2],
        "people": [{"name": "ann", "age": 3}, {"name": "bob", "age": 5}], "when": "2025-03-04T05:06:07.089Z",
        "wait": "90s", "day": "2025-03-04", "either": "50%", "namespace": "ns", "a-b": {"c.d": 1}, "nothing": null,
        "data": "aGk=", "set": ["x", "y"],
    })
}

fn schema() -> Json {
    let text = json!({"type": "string"});
    json!({"type": "object", "properties": {
        "name": text, "count": {"type": "integer"}, "ratio": {"type": "number"}, "missing": text,
        "labels": {"type": "object", "additionalProperties": text},
        "list": {"type": "array", "items": {"type": "integer"}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
        "people": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": text, "age": {"type": "integer"}}}},
        "when": {"type": "string", "format": "date-time"}, "wait": {"type": "string", "format": "duration"},
        "day": {"type": "string", "format": "date"}, "data": {"type": "string", "format": "byte"},
        "either": {"x-kubernetes-int-or-string": true}, "namespace": text, "nothing": {"type": "string", "nullable": true},
        "a-b": {"type": "object", "properties": {"c.d": {"type": "integer"}}},
    }})
}

/// What an expression is, as text: its value, or `error: …`.
fn evaluate(expression: &str) -> String {
    let (object, schema) = (object(), schema());
    let ty = schema_type(&schema, false).unwrap();
    let environment = Environment::new()
        .with("self", ty.clone())
        .with("object", DYN)
        .with("authorizer", Type::Opaque(OpaqueKind::Authorizer));
    let program = match Program::compile(expression, &environment) {
        Ok(program) => program,
        Err(error) => return error.to_string(),
    };
    let query = Query { authorizer: Arc::new(Rights), check: Arc::default() };
    let bindings = Bindings::new()
        .with("self", Value::json(&object, &ty).unwrap())
        .with("object", Value::untyped(&object))
        .with("authorizer", Value::Opaque(Opaque::Authorizer(query)));
    let result = program.evaluate(&bindings, &mut Budget::new(PER_REQUEST));
    match result {
        Ok(Value::Double(number)) => format!("{number:?}"),
        Ok(Value::Uint(number)) => format!("{number}u"),
        Ok(value @ (Value::Type(_) | Value::Opaque(_))) => value.type_name().to_owned(),
        Ok(Value::Optional(None)) => "none".to_owned(),
        Ok(value) => value.to_json().map_or_else(|error| format!("error: {error}"), |json| json.to_string()),
        Err(error) => format!("error: {error}"),
    }
}

fn check(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(expression, expected)| {
            let found = evaluate(expression);
            (found != *expected).then(|| format!("{expression}\n  is     {found}\n  not    {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
