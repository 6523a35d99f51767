//! Puts what Go's encoder always writes into objects: nulls, empty texts, zeros and empty objects that nobody wrote
//! down. What a type needs is worked out once for the registry, so that parts in which nothing can be missing are not
//! walked.

mod fields;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{ObjectType, Registry, Shape, TypeId, registry, short};
use crate::resource::Resource;

/// What is done about one field.
struct Step {
    name: Box<str>,
    /// What is written where the field is missing, if it may be.
    zero: Option<Value>,
    /// The objects in it, where those may lack something.
    inner: Option<(Holds, TypeId)>,
}

/// How a field holds objects.
#[derive(Clone, Copy)]
enum Holds {
    One,
    List,
    Map,
}

/// The steps of each type that has some.
#[derive(Default)]
pub(super) struct Plans(BTreeMap<usize, Box<[Step]>>);

/// Completes an object in the form of `resource`.
pub fn complete(resource: &Resource, object: &mut Value) {
    if resource.custom().is_none() {
        complete_type(resource.schema.name, object);
    }
}

/// Completes an object of `resource` in the form that is stored.
pub fn complete_stored(resource: &Resource, object: &mut Value) {
    let stored = resource.storage;
    match resource.conversion.and_then(|_| crate::find_kind(stored.group, stored.version, stored.kind)) {
        Some(row) => complete(row, object),
        None => complete(resource, object),
    }
}

fn complete_type(name: &str, object: &mut Value) {
    let known = registry();
    if let (Some(id), Some(fields)) = (known.find(name), object.as_object_mut()) {
        fill(&known.plans, id, fields);
    }
}

fn fill(plans: &Plans, id: TypeId, fields: &mut Map<String, Value>) {
    for step in plans.0.get(&id.index()).map_or(&[][..], |steps| steps) {
        let value = match (fields.get_mut(&*step.name), &step.zero) {
            (Some(value), zero) => {
                // A list of nothing is no list once it is stored.
                if matches!(zero, Some(Value::Null)) && value.as_array().is_some_and(Vec::is_empty) {
                    *value = Value::Null;
                }
                value
            }
            (None, Some(zero)) => fields.entry(&*step.name).or_insert_with(|| zero.clone()),
            (None, None) => continue,
        };
        if let Some((holds, inner)) = step.inner {
            each(holds, value, |fields| fill(plans, inner, fields));
        }
    }
}

/// Does something to each object that a value holds.
fn each(holds: Holds, value: &mut Value, mut change: impl FnMut(&mut Map<String, Value>)) {
    match (holds, value) {
        (Holds::One, Value::Object(fields)) => change(fields),
        (Holds::List, Value::Array(entries)) => {
            entries.iter_mut().filter_map(Value::as_object_mut).for_each(change);
        }
        (Holds::Map, Value::Object(entries)) => {
            entries.values_mut().filter_map(Value::as_object_mut).for_each(change);
        }
        _ => {}
    }
}

impl Plans {
    pub(super) fn new(registry: &Registry) -> Plans {
        let kinds: BTreeSet<&str> = crate::resources().iter().map(|row| row.schema.name).collect();
        let zeros: BTreeMap<usize, Vec<&str>> = registry
            .names
            .iter()
            .map(|(name, id)| (id.index(), always(name, registry.get(*id), kinds.contains(name.as_str()))))
            .filter(|(_, fields)| !fields.is_empty())
            .collect();
        let mut needed: BTreeSet<usize> = zeros.keys().copied().collect();
        // What holds something that may lack a field is walked, and what holds that.
        loop {
            let reaches = |id: &usize| {
                let inner = registry.types[*id].fields.iter().filter_map(|field| held(&field.shape));
                inner.into_iter().any(|(_, inner)| needed.contains(&inner.index()))
            };
            let more: Vec<usize> =
                (0..registry.types.len()).filter(|id| !needed.contains(id)).filter(reaches).collect();
            if more.is_empty() {
                break;
            }
            needed.extend(more);
        }
        let steps = |id: &usize| -> Box<[Step]> {
            let always = zeros.get(id).map_or(&[][..], Vec::as_slice);
            let fields = registry.types[*id].fields.iter();
            fields.filter_map(|field| step(field, always, &needed)).collect()
        };
        Plans(needed.iter().map(|id| (*id, steps(id))).collect())
    }
}

fn step(field: &super::Field, always: &[&str], needed: &BTreeSet<usize>) -> Option<Step> {
    let zero = always.iter().find_map(|name| match name.strip_suffix('*') {
        Some(pointer) => (pointer == &*field.name).then_some(Value::Null),
        None => (*name == &*field.name).then(|| zero(&field.shape)),
    });
    let inner = held(&field.shape).filter(|(_, inner)| needed.contains(&inner.index()));
    (zero.is_some() || inner.is_some()).then(|| Step { name: field.name.clone(), zero, inner })
}

/// The fields that objects of a type always have. Those of a `kind` have their `spec` and `status`, too.
fn always(name: &str, of: &ObjectType, kind: bool) -> Vec<&'static str> {
    let listed = fields::FIELDS.iter().find(|(listed, _)| *listed == short(name));
    let mut out = listed.map_or_else(Vec::new, |(_, fields)| fields.to_vec());
    let is_part = |part: &&str| matches!(of.field(part), Some(f) if matches!(f.shape, Shape::Object(_)));
    if kind {
        out.extend(["spec", "status", "template"].into_iter().filter(is_part));
    }
    out
}

/// What Go writes for a value that nobody set. What an object in it always has is added to it like to others.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Object(_) | Shape::ObjectOrBool(_) => Map::new().into(),
        Shape::Text => "".into(),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::Bool => false.into(),
        Shape::Quantity => "0".into(),
        Shape::List(_) | Shape::Map(_) | Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Any => {
            Value::Null
        }
    }
}

/// The objects that a value holds.
fn held(shape: &Shape) -> Option<(Holds, TypeId)> {
    let (holds, inner) = match shape {
        Shape::List(of) => (Holds::List, &**of),
        Shape::Map(of) => (Holds::Map, &**of),
        _ => (Holds::One, shape),
    };
    match inner {
        Shape::Object(id) => Some((holds, *id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn completed(group: &str, version: &str, plural: &str, mut object: Value) -> Value {
        complete_stored(crate::find(group, version, plural).unwrap(), &mut object);
        object
    }

    #[test]
    fn fields_are_those_of_the_types_and_are_listed_once() {
        let known: BTreeMap<&str, &ObjectType> =
            registry().types().map(|(name, of)| (short(name), of)).collect();
        for (name, fields) in fields::FIELDS {
            let of = known.get(name).unwrap_or_else(|| panic!("{name}"));
            for field in *fields {
                assert!(of.field(field.trim_end_matches('*')).is_some(), "{name}.{field}");
            }
        }
        assert!(fields::FIELDS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn what_nobody_said_is_written_as_by_go() {
        assert_eq!(
            completed("", "v1", "events", json!({"involvedObject": {"name": "p"}, "eventTime": "now"})),
            json!({
                "involvedObject": {"name": "p"}, "source": {}, "reportingComponent": "", "reportingInstance": "",
                "firstTimestamp": null, "lastTimestamp": null, "eventTime": "now",
            })
        );
        let roles = "rbac.authorization.k8s.io";
        assert_eq!(completed(roles, "v1", "roles", json!({"rules": []})), json!({"rules": null}));
        let node = completed("", "v1", "nodes", json!({"status": {"nodeInfo": {"bootID": "b"}}}));
        assert_eq!(node["spec"], json!({}));
        assert_eq!(node["status"]["daemonEndpoints"], json!({"kubeletEndpoint": {"Port": 0}}));
        assert_eq!(node["status"]["nodeInfo"]["bootID"], "b");
        assert_eq!(node["status"]["nodeInfo"]["kubeProxyVersion"], "");
        let job = json!({"spec": {"podFailurePolicy": {"rules": [{"action": "Ignore"}]}}});
        let job = completed("batch", "v1", "jobs", job);
        let rule = json!({"action": "Ignore", "onExitCodes": null, "onPodConditions": null});
        assert_eq!(job["spec"]["podFailurePolicy"]["rules"][0], rule);
    }

    #[test]
    fn what_an_entry_of_a_list_lacks_is_added() {
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        let pod = completed("", "v1", "pods", json!({"status": {"conditions": conditions}}));
        assert_eq!(
            pod,
            json!({"spec": {}, "status": {"conditions": [
                {"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null},
            ]}})
        );
        let slice = completed("discovery.k8s.io", "v1", "endpointslices", json!({"endpoints": [{}]}));
        assert_eq!(slice, json!({"endpoints": [{"conditions": {}}], "ports": null}));
    }

    #[test]
    fn other_versions_have_what_theirs_always_has() {
        let row = crate::find("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        let (mut stored, mut served) = (json!({}), json!({}));
        complete_stored(row, &mut stored);
        complete(row, &mut served);
        assert_eq!(stored, json!({"spec": {}, "status": {"currentMetrics": null, "desiredReplicas": 0}}));
        assert_eq!(served, json!({"spec": {}, "status": {"currentReplicas": 0, "desiredReplicas": 0}}));
    }

    #[test]
    fn completing_again_changes_nothing() {
        for row in crate::resources() {
            let mut object = json!({});
            complete(row, &mut object);
            let once = object.clone();
            complete(row, &mut object);
            assert_eq!(object, once, "{row:?}");
        }
    }
}
