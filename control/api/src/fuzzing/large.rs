//! Objects with a list or map of very many entries: libFuzzer makes small inputs, so that this one only says which list of which
//! kind it is. What costs the square of a length is too much: whoever may write one object may send megabytes.

use serde_json::{Map, Value, json};

use super::{live, now, resource_of};
use crate::resource::Resource;
use crate::schema::{Shape, registry};
use crate::{apply, codec, meta};

/// Entries for each step of the last byte; three megabytes hold about a hundred thousand short ones.
const STEP: usize = 500;
/// How deep a list is looked for.
const DEPTH: u32 = 9;

/// The resource, which of its lists (two bytes), how many entries.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    vec![vec![0, 0, 0, 20], vec![2, 9, 0, 20], vec![2, 200, 0, 20], vec![7, 5, 0, 20]]
}

/// An object, and the same with its entries in another order, take the ways of writes.
pub(super) fn large(data: &[u8]) {
    let [which, low, high, count, ..] = data else { return };
    let resource = resource_of(*which);
    let all = places(resource);
    let Some(place) = all.get(usize::from(u16::from_le_bytes([*low, *high])) % all.len().max(1)) else {
        return;
    };
    written(resource, place, usize::from(*count) * STEP);
}

/// The paths of all lists and maps of a resource's objects. Types hold each other: no type is looked into below itself.
fn places(resource: &Resource) -> Vec<Vec<&'static str>> {
    fn look(
        shape: &Shape,
        path: &mut Vec<&'static str>,
        above: &mut Vec<usize>,
        out: &mut Vec<Vec<&'static str>>,
    ) {
        match shape {
            Shape::List(of) | Shape::Map(of) => {
                out.push(path.clone());
                look(of, path, above, out);
            }
            Shape::Object(id) | Shape::ObjectOrBool(id) => {
                let kind = registry().get(*id);
                let address = std::ptr::from_ref(kind).addr();
                if above.contains(&address) || above.len() > DEPTH as usize {
                    return;
                }
                above.push(address);
                for field in &kind.fields {
                    path.push(&field.name);
                    look(&field.shape, path, above, out);
                    path.pop();
                }
                above.pop();
            }
            _ => {}
        }
    }
    let mut out = Vec::new();
    look(&resource.schema.shape(), &mut Vec::new(), &mut Vec::new(), &mut out);
    out
}

/// A value with one entry in each list on the way to `path`, and `count` in the one there; no two are the same.
fn value(shape: &Shape, path: &[&str], number: usize, count: usize) -> Value {
    let inner = |of: &Shape, number: usize| match path {
        [] => leaf(of, number, 2),
        _ => value(of, path, number, count),
    };
    let numbers = if path.is_empty() { 0..count } else { 0..1 };
    match shape {
        Shape::List(of) => numbers.map(|number| inner(of, number)).collect(),
        Shape::Map(of) => {
            numbers.map(|number| (format!("a{number}"), inner(of, number))).collect::<Map<_, _>>().into()
        }
        Shape::Object(id) | Shape::ObjectOrBool(id) => {
            let mut fields = leaf(shape, number, 1);
            if let ([first, rest @ ..], Some(field)) =
                (path, path.first().and_then(|name| registry().get(*id).field(name)))
            {
                fields[*first] = value(&field.shape, rest, number, count);
            }
            fields
        }
        _ => leaf(shape, number, 1),
    }
}

/// A small value that another number makes another one.
fn leaf(shape: &Shape, number: usize, depth: u32) -> Value {
    match shape {
        Shape::Object(id) | Shape::ObjectOrBool(id) if depth > 0 => {
            let scalar = |shape: &Shape| !matches!(shape, Shape::List(_) | Shape::Map(_));
            let fields = registry().get(*id).fields.iter().filter(|field| scalar(&field.shape));
            fields
                .map(|field| (field.name.to_string(), leaf(&field.shape, number, depth - 1)))
                .collect::<Map<_, _>>()
                .into()
        }
        Shape::Object(_) | Shape::ObjectOrBool(_) => json!({}),
        Shape::List(_) => json!([]),
        Shape::Map(_) => json!({}),
        Shape::Text | Shape::Any => json!(format!("a{number}")),
        Shape::Bytes => json!("YQ=="),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString => json!(number),
        Shape::Number => json!(1.5),
        Shape::Bool => json!(true),
        Shape::Quantity => json!("100m"),
        Shape::Time => json!("2025-03-04T05:06:07Z"),
        Shape::MicroTime => json!("2025-03-04T05:06:07.000001Z"),
    }
}

/// Turns the order of the list at `path` around.
fn turn(value: &mut Value, path: &[&str]) {
    match (value, path) {
        (Value::Array(entries), []) => entries.reverse(),
        (Value::Array(entries), _) => entries.iter_mut().for_each(|entry| turn(entry, path)),
        (Value::Object(fields), [first, rest @ ..]) => {
            if let Some(value) = fields.get_mut(*first) {
                turn(value, rest);
            }
        }
        _ => {}
    }
}

/// Whether the object can be read at all.
fn written(resource: &Resource, place: &[&str], count: usize) -> bool {
    let mut object = value(&resource.schema.shape(), place, 0, count);
    object["metadata"]["name"] = "a".into();
    if let Some(metadata) = meta::metadata_mut(&mut object) {
        metadata.retain(|name, _| name == "name" || place.get(1).is_some_and(|at| name == at));
    }
    (object["apiVersion"], object["kind"]) = (resource.api_version.into(), resource.kind.into());
    let Ok(text) = serde_json::to_vec(&object) else { return false };
    let Ok(decoded) = codec::decode_object(&text, codec::Media::Json, resource) else { return false };
    let (first, mut second) = (decoded.value.clone(), decoded.value);
    turn(&mut second, place);
    updated(resource, &second, &first);
    live(resource, first.clone());
    let write = apply::Write { resource, subresource: "", manager: "m", now: now(), versions: None };
    let other = apply::Write { manager: "n", ..write };
    let mut tracked = first.clone();
    apply::track(&write, None, &mut tracked);
    let mut again = second.clone();
    apply::track(&other, Some(&tracked), &mut again);
    if let Some(metadata) = meta::metadata_mut(&mut second) {
        metadata.remove("managedFields");
    }
    let _ = apply::apply(&other, Some(&tracked), &second, false);
    let _ = apply::apply(&other, Some(&again), &second, true);
    true
}

/// An update to other entries than before.
fn updated(resource: &Resource, new: &Value, old: &Value) {
    let mut new = new.clone();
    resource.strategy().prepare_update(&mut new, old);
    let _ = resource.strategy().validate_update(&new, old);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nanoseconds that this thread has been running: others that are busy do not count.
    fn ran() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }

    /// Far more than any of these takes, and far less than the square of the length.
    const LIMIT: u64 = 45_000_000_000;

    fn within_limit(what: &str, work: impl FnOnce()) {
        let before = ran();
        work();
        let took = ran() - before;
        eprintln!("{what}: {} ms", took / 1_000_000);
        assert!(took < LIMIT, "{what} took {took} ns");
    }

    fn row(group: &str, version: &str, plural: &str) -> &'static Resource {
        crate::find(group, version, plural).unwrap()
    }

    #[test]
    fn lists_of_fifty_thousand_entries_cost_their_length() {
        // Short entries, so that a body may hold so many.
        let gates = ["spec", "schedulingGates"];
        within_limit("gates", || {
            assert!(written(row("", "v1", "pods"), &gates, 50_000), "it is not decoded")
        });
    }

    #[test]
    fn each_name_is_there() {
        let pods = row("", "v1", "pods");
        let all = places(pods);
        assert!(all.contains(&vec!["spec", "containers", "env"]), "{all:?}");
        let mut made = value(&pods.schema.shape(), &["spec", "containers", "env"], 0, 3);
        (made["apiVersion"], made["kind"]) = ("v1".into(), "Pod".into());
        assert_eq!(made["spec"]["containers"][0]["env"][2]["name"], "a2");
        let decoded = codec::decode_object(made.to_string().as_bytes(), codec::Media::Json, pods).unwrap();
        assert_eq!(decoded.value["spec"]["containers"][0]["env"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn many_managers_cost_their_number() {
        let maps = row("", "v1", "configmaps");
        let entry = |n: usize| {
            json!({"manager": format!("m{n}"), "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {format!("f:k{n}"): {}}}})
        };
        let managers: Vec<Value> = (0..50_000).map(entry).collect();
        let data: Map<String, Value> = (0..50_000).map(|n| (format!("k{n}"), json!("v"))).collect();
        let config =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
        let live = json!({"metadata": {"name": "a", "managedFields": managers}, "data": {"other": "w"}});
        let write =
            apply::Write { resource: maps, subresource: "", manager: "n", now: now(), versions: None };
        within_limit("50,000 conflicts", || {
            let refused = apply::apply(&write, Some(&live), &config, false).unwrap_err().into_status();
            assert!(refused.message.starts_with("Apply failed with 50000 conflicts"), "{}", refused.message);
        });
    }

    /// Steps that many paths share are shown a few times, not with each.
    #[test]
    fn conflicts_are_shown_as_far_as_an_answer_goes() {
        let maps = row("", "v1", "pods");
        let long = "x".repeat(100_000);
        let env: Vec<Value> = (0..5_000).map(|n| json!({"name": format!("e{n}")})).collect();
        let owned: Map<String, Value> = (0..5_000)
            .map(|n| (format!("k:{{\"name\":\"e{n}\"}}"), json!({".": {}, "f:name": {}})))
            .collect();
        let fields =
            json!({"f:spec": {"f:containers": {format!("k:{{\"name\":\"{long}\"}}"): {"f:env": owned}}}});
        let manager = json!({"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": fields});
        let live = json!({"metadata": {"name": "a", "managedFields": [manager]}, "spec": {"nodeName": "n"}});
        let config = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": long, "env": env}]}});
        let write =
            apply::Write { resource: maps, subresource: "", manager: "n", now: now(), versions: None };
        let refused = apply::apply(&write, Some(&live), &config, false).unwrap_err().into_status();
        assert!(refused.message.starts_with("Apply failed with 10000 conflicts"), "{:.99}", refused.message);
        let causes: usize = refused.details.unwrap().causes.iter().map(|cause| cause.field.len()).sum();
        assert!(
            refused.message.len() < 3 << 20 && causes < 3 << 20,
            "{} and {causes}",
            refused.message.len()
        );
    }

    #[test]
    fn claims_that_are_not_there_do_not_name_all_that_are() {
        let claims: Vec<Value> =
            (0..3_000).map(|n| json!({"name": format!("c{n}"), "resourceClaimName": "x"})).collect();
        let wanted: Vec<Value> = (0..3_000).map(|n| json!({"name": format!("d{n}")})).collect();
        let pod = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"resourceClaims": claims,
            "containers": [{"name": "a", "image": "i", "resources": {"claims": wanted}}]}});
        let wrong = row("", "v1", "pods").strategy().validate_create(&pod);
        let missing = wrong.iter().filter(|error| error.field.contains("resources.claims")).count();
        let size: usize = wrong.iter().map(|error| error.detail.len()).sum();
        assert!(missing >= 3_000 && size < 4 << 20, "{missing} errors of {size} bytes");
    }

    #[test]
    fn each_address_with_each_port_is_counted_and_not_made() {
        let addresses: Vec<Value> =
            (0..8_000).map(|n| json!({"ip": format!("10.0.{}.{}", n / 250, n % 250)})).collect();
        let ports: Vec<Value> = (1..=8_000).map(|n| json!({"port": n})).collect();
        let object =
            json!({"metadata": {"name": "a"}, "subsets": [{"addresses": addresses, "ports": ports}]});
        let endpoints = row("", "v1", "endpoints");
        within_limit("cells", || {
            let row = crate::table::row(
                endpoints,
                &object,
                crate::table::Include::None,
                crate::table::Version::V1,
                now(),
            );
            let shown = serde_json::to_value(row).unwrap()["cells"][1].clone();
            assert_eq!(shown, "10.0.0.0:1,10.0.0.1:1,10.0.0.2:1 + 63999997 more...");
        });
    }
}
