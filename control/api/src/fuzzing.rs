//! What `cargo xtask fuzz` feeds to this package, and where it begins.

mod large;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::codec::{self, Media};
use crate::custom::path::JsonPath;
use crate::patch::{self, PatchKind};
use crate::quantity::Quantity;
use crate::resource::Resource;
use crate::schema::{Shape, registry};
use crate::select::{FieldSelector, LabelSelector, Selection, View};
use crate::{apply, custom, meta, table};

/// A name, a function that takes anything and never panics, and what it is fed first.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of this package's.
pub const TARGETS: &[Target] = &[
    ("api-body", body, bodies),
    ("api-patch", patched, || texts(PATCHES)),
    ("api-apply", applied, || texts(APPLIED)),
    ("api-selector", selector, || texts(SELECTORS)),
    ("api-quantity", quantity, || {
        texts(&["1.5Gi", "-100m", "1e3", "0.000000001", "9223372036854775807", "12E"])
    }),
    ("api-jsonpath", json_path, || texts(PATHS)),
    ("api-large", large::large, large::seeds),
    ("api-openapi", crate::openapi::fuzz, || texts(&[OPENAPI])),
    ("api-definition", definition, || vec![DEFINITION.as_bytes().to_vec()]),
];

const SELECTORS: &[&str] = &[
    "a=b,c!=d,e in (f, g),h notin (i),j,!k\0metadata.name=x,spec.nodeName!=y",
    "example.com/a==b,x>1,y<2\0status.phase=Run\\,ning",
];

/// What an aggregated API server tells of itself.
const OPENAPI: &str = r##"{"swagger":"2.0","paths":{"/apis/g.example/v1/things":{"get":{"operationId":"a","parameters":[{"name":"limit","in":"query","type":"integer"},{"name":"body","in":"body","schema":{"$ref":"#/definitions/Thing"}}],"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/Thing"}}},"x-kubernetes-action":"get","x-kubernetes-group-version-kind":{"group":"g.example","kind":"Thing","version":"v1"}}}},"definitions":{"Thing":{"type":"object","required":["a"],"properties":{"a":{"type":"array","items":{"$ref":"#/definitions/Part"},"x-kubernetes-list-type":"set"},"b":{"type":"object","additionalProperties":{"type":"string","default":"x"}}},"x-kubernetes-group-version-kind":[{"group":"g.example","kind":"Thing","version":"v1"}]},"Part":{"type":"string","enum":["x"],"minLength":1,"maximum":1.5}}}"##;

const PATHS: &[&str] = &[
    ".spec.names[*].kind",
    "{.a['b.c'][?(@.x==\"y\")].z}",
    "..a[-1:3:2]",
    ".a[?(@.b>1)]['c','d']",
    "\\.a\\[0]",
];

/// Resource and kind of the patch as bytes, then the object, then, behind a zero, the patch.
const PATCHES: &[&str] = &[
    "\0\0{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"v\"}}\0[{\"op\":\"replace\",\"path\":\"/data/k\",\"value\":\"w\"},\
     {\"op\":\"copy\",\"from\":\"/data\",\"path\":\"/metadata/labels\"},{\"op\":\"test\",\"path\":\"/data/k\",\"value\":\"w\"}]",
    "\u{1}\u{1}{\"metadata\":{\"name\":\"a\"}}\0{\"metadata\":{\"labels\":{\"a\":null,\"b\":\"c\"}}}",
    "\u{2}\u{2}{\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"b\"}]}}\0{\"spec\":{\"containers\":[{\"name\":\"a\",\
     \"$patch\":\"delete\"},{\"name\":\"c\"}],\"$setElementOrder/containers\":[{\"name\":\"c\"}],\"$retainKeys\":[\"containers\"]}}",
];

const APPLIED: &[&str] = &[
    "\u{2}{\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"b\",\"ports\":[{\"containerPort\":1}]}]}}\0{\"metadata\":{\"name\":\
     \"a\",\"managedFields\":[{\"manager\":\"x\",\"operation\":\"Apply\",\"apiVersion\":\"v1\",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":\
     {\"f:spec\":{\"f:containers\":{\"k:{\\\"name\\\":\\\"a\\\"}\":{\".\":{},\"f:image\":{}}}}}}]}}",
    "\0{\"data\":{\"k\":\"v\"}}",
];

const DEFINITION: &str = r#"{"metadata":{"name":"things.example.com"},"spec":{"group":"example.com","scope":"Namespaced","names":
{"plural":"things","singular":"thing","kind":"Thing","listKind":"ThingList"},"versions":[{"name":"v1","served":true,"storage":
true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","properties":{"n":{"type":"integer",
"minimum":1,"default":3},"t":{"type":"string","pattern":"^a+$","format":"date-time"},"m":{"type":"array","items":{"type":"object",
"properties":{"k":{"type":"string"}}},"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"]},"a":{
"x-kubernetes-preserve-unknown-fields":true},"i":{"x-kubernetes-int-or-string":true}}}}}},"subresources":{"status":{},"scale":
{"specReplicasPath":".spec.n","statusReplicasPath":".status.n"}},"additionalPrinterColumns":[{"name":"N","type":"integer",
"jsonPath":".spec.n"}]}]}}"#;

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// An object with every field of every kind, once as JSON, and some as YAML.
fn bodies() -> Vec<Vec<u8>> {
    let each = crate::resources().iter().enumerate().filter_map(|(at, resource)| {
        let mut text = serde_json::to_vec(&sample(&resource.schema.shape(), 9)).ok()?;
        text.splice(0..0, [u8::try_from(at).ok()?, 0]);
        Some(text)
    });
    each.chain(texts(&["\0\u{1}a: [1, 'b', {c: d}]\ne: |\n  f\ng: &x {h: 1}\ni: *x\n"])).collect()
}

/// A value of a shape; nothing below `depth`.
fn sample(shape: &Shape, depth: u32) -> Value {
    let Some(below) = depth.checked_sub(1) else { return Value::Null };
    match shape {
        Shape::Object(id) | Shape::ObjectOrBool(id) => {
            // Every other level of a type that holds itself would double what is written.
            let fields = registry().get(*id).fields.iter();
            let kept =
                fields.filter(|field| depth > 4 || !matches!(field.shape, Shape::Object(_) | Shape::List(_)));
            Value::Object(kept.map(|f| (f.name.to_string(), sample(&f.shape, below))).collect::<Map<_, _>>())
        }
        Shape::List(of) => json!([sample(of, below)]),
        Shape::Map(of) => json!({"a": sample(of, below)}),
        Shape::Text | Shape::Any => json!("a"),
        Shape::Bytes => json!("YQ=="),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString => json!(1),
        Shape::Number => json!(1.5),
        Shape::Bool => json!(true),
        Shape::Quantity => json!("100m"),
        Shape::Time => json!("2025-03-04T05:06:07Z"),
        Shape::MicroTime => json!("2025-03-04T05:06:07.000001Z"),
    }
}

fn resource_of(byte: u8) -> &'static Resource {
    let all = crate::resources();
    &all[usize::from(byte) % all.len()]
}

fn now() -> Timestamp {
    Timestamp::from_second(1_750_000_000).unwrap_or_default()
}

/// The way of a body: decoded, completed, judged, stored, shown.
fn body(data: &[u8]) {
    let [which, media, text @ ..] = data else { return };
    let resource = resource_of(*which);
    let media = if media & 1 == 0 { Media::Json } else { Media::Yaml };
    let _ = codec::decode(text, media);
    let Ok(decoded) = codec::decode_object(text, media, resource) else { return };
    let _ = decoded.strict_error();
    live(resource, decoded.value);
}

/// What happens to an object once it is decoded.
fn live(resource: &Resource, mut object: Value) {
    let strategy = resource.strategy();
    meta::stamp_new(&mut object, resource.scope, "default", "uid", now());
    if let Some(conversion) = resource.conversion {
        (conversion.to_storage)(&mut object);
        (conversion.from_storage)(&mut object);
    }
    strategy.default(&mut object);
    let once = object.clone();
    strategy.default(&mut object);
    assert_eq!(once, object, "defaults of {resource:?} are not what they were");
    let mut new = object.clone();
    strategy.prepare_create(&mut new);
    let _ = strategy.validate_create(&new);
    let mut update = object.clone();
    strategy.prepare_update(&mut update, &new);
    let _ = strategy.validate_update(&update, &new);
    strategy.prepare_status_update(&mut object, &new);
    let _ = strategy.validate_status_update(&object, &new);
    let _ = table::row(resource, &new, table::Include::None, table::Version::V1, now());
    let _ = View::of(resource, &new);
    if let Ok(stored) = codec::encode_storage(&new) {
        let again: Result<Value, _> = serde_json::from_slice(&stored);
        assert!(again.is_ok(), "what is stored can be read");
    }
}

fn patched(data: &[u8]) {
    let [which, kind, rest @ ..] = data else { return };
    let kind = [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic][usize::from(kind % 3)];
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (Some(object), Some(text)) = (parts.next(), parts.next()) else { return };
    let resource = resource_of(*which);
    let Ok(object) = codec::decode_object(object, Media::Json, resource) else { return };
    if let Ok(decoded) = patch::apply(kind, resource, object.value, text) {
        live(resource, decoded.value);
    }
}

fn applied(data: &[u8]) {
    let [which, rest @ ..] = data else { return };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let resource = resource_of(*which);
    let config = codec::decode_config(parts.next().unwrap_or_default(), Media::Yaml, resource);
    let live = codec::decode_object(parts.next().unwrap_or_default(), Media::Json, resource).ok();
    let Ok(config) = config else { return };
    let live = live.map(|live| live.value);
    let write = apply::Write { resource, subresource: "", manager: "m", now: now(), versions: None };
    let Ok(mut first) = apply::apply(&write, live.as_ref(), &config.value, true) else { return };
    // Whoever applies the same again changes nothing, and has no conflict.
    let again = apply::apply(&write, Some(&first), &config.value, false);
    assert!(again.is_ok(), "a second time: {again:?}");
    let other = apply::Write { manager: "n", ..write };
    let _ = apply::apply(&other, Some(&first), &config.value, false);
    apply::track(&other, live.as_ref(), &mut first);
}

fn selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (labels, fields) = text.split_once('\0').unwrap_or((text, text));
    if let Ok(selector) = LabelSelector::parse(labels) {
        selector.matches(|key| (key.len() % 2 == 0).then_some("1"));
    }
    if let Ok(selector) = FieldSelector::parse(fields) {
        selector.matches(|_| Some("x"));
    }
    let pod = json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {"nodeName": "y"}});
    if let Some(resource) = crate::find("", "v1", "pods")
        && let Ok(selection) = Selection::parse(resource, labels, fields)
    {
        selection.matches(&View::of(resource, &pod));
    }
}

fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(quantity) = Quantity::parse(text) else { return };
    let shown = quantity.to_string();
    assert_eq!(Quantity::parse(&shown), Ok(quantity), "{text:?} is shown as {shown}");
    let _ = (quantity.units(), quantity.milli(), quantity.approximate(), quantity.is_whole());
    let _ = (quantity.plus(quantity).to_string(), Quantity::ZERO.minus(quantity).to_string());
}

/// A path, then, behind a zero, what it looks into.
fn json_path(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let Some(Ok(text)) = parts.next().map(std::str::from_utf8) else { return };
    let value = parts.next().and_then(|text| serde_json::from_slice(text).ok());
    let value: Value =
        value.unwrap_or_else(|| json!({"a": [{"b": 1, "x": "y"}, {"b": 2}], "spec": {"n": null}}));
    let simple = custom::path::simple(text);
    let _ = custom::path::at(&value, &simple);
    if let Ok(path) = JsonPath::parse(text) {
        let _ = path.find(&value);
    }
}

/// A definition, then, behind zeros, objects of it.
fn definition(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0);
    let Some(resource) = crate::find("apiextensions.k8s.io", "v1", "customresourcedefinitions") else {
        return;
    };
    let first = parts.next().unwrap_or_default();
    let Ok(mut decoded) = codec::decode_object(first, Media::Json, resource) else { return };
    resource.strategy().default(&mut decoded.value);
    live(resource, decoded.value.clone());
    if !resource.strategy().validate_create(&decoded.value).is_empty() {
        return;
    }
    let Ok(rows) = custom::rows(&decoded.value) else { return };
    let objects: Vec<&[u8]> =
        parts.chain([br#"{"spec":{"n":2,"m":[{"k":"v"}],"t":"aa"}}"#.as_slice()]).take(4).collect();
    for (row, object) in rows.iter().flat_map(|row| objects.iter().map(move |object| (row, *object))) {
        if let Ok(object) = codec::decode_object(object, Media::Json, row) {
            live(row, object.value);
        }
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn nothing_that_once_went_wrong_does_so_again() {
    replay::replay("api", TARGETS);
}
