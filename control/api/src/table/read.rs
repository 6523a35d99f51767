//! Short ways to read fields of an object while its row is made.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::duration;
use crate::meta;

/// The text at a JSON pointer, or nothing.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The whole number at a JSON pointer, or 0.
pub(crate) fn integer(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// The list at a JSON pointer, or an empty one.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The time at a JSON pointer.
pub(crate) fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}

/// Age by creation time.
pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    duration::since(meta::creation_time(object), now).into()
}

/// `<none>` for nothing.
pub(crate) fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// Names and images of the containers of a pod template, each joined by commas.
pub(crate) fn containers_and_images(spec: Option<&Value>) -> (String, String) {
    let containers = spec.map_or(&[][..], |spec| list(spec, "/containers"));
    let join =
        |field: &str| -> String { containers.iter().map(|c| text(c, field)).collect::<Vec<_>>().join(",") };
    (join("/name"), join("/image"))
}

/// A map of labels as `a=b,c=d`, or `<none>`.
pub(crate) fn labels(map: Option<&Value>) -> String {
    let Some(map) = map.and_then(Value::as_object).filter(|m| !m.is_empty()) else {
        return "<none>".to_owned();
    };
    let mut pairs: Vec<String> =
        map.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.sort_unstable();
    pairs.join(",")
}

/// The addresses of an object's load balancer, each once, in the order of text.
pub(crate) fn balanced(object: &Value) -> Vec<&str> {
    let points = list(object, "/status/loadBalancer/ingress").iter();
    let addresses = points.map(|point| match text(point, "/ip") {
        "" => text(point, "/hostname"),
        ip => ip,
    });
    let all: BTreeSet<&str> = addresses.filter(|address| !address.is_empty()).collect();
    all.into_iter().collect()
}
