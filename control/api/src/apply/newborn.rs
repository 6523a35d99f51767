//! What an object has before anybody wrote to it. To Go, the parts that a kind always has are there from the start, so that
//! who creates an object owns what is in them and not the parts themselves; only what is a pointer, list or map in Go, or
//! belongs to a custom resource, comes with its first content.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::resource::Resource;
use crate::schema::always::complete;
use crate::schema::{Shape, registry};

/// Parts within `spec`, beside `metadata`, `spec` and `status` themselves. What ends with `*` is a list.
const PARTS: &[(&str, &str, &[&str])] = &[
    ("", "Event", &["involvedObject", "source"]),
    ("", "PersistentVolumeClaim", &["spec.resources"]),
    ("", "Pod", &["spec.containers*"]),
    ("", "PodTemplate", &["template.metadata", "template.spec.containers*"]),
    ("apiextensions.k8s.io", "CustomResourceDefinition", &["spec.names"]),
    ("apps", "DaemonSet", &["spec.updateStrategy", TEMPLATE, CONTAINERS]),
    ("apps", "Deployment", &["spec.strategy", TEMPLATE, CONTAINERS]),
    ("apps", "ReplicaSet", &[TEMPLATE, CONTAINERS]),
    ("apps", "StatefulSet", &["spec.updateStrategy", TEMPLATE, CONTAINERS]),
    ("autoscaling", "HorizontalPodAutoscaler", &["spec.scaleTargetRef"]),
    (
        "batch",
        "CronJob",
        &[
            "spec.jobTemplate.metadata",
            "spec.jobTemplate.spec.template.metadata",
            "spec.jobTemplate.spec.template.spec.containers*",
        ],
    ),
    ("batch", "Job", &[TEMPLATE, CONTAINERS]),
    ("events.k8s.io", "Event", &["regarding", "deprecatedSource"]),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", &["spec.priorityLevelConfiguration"]),
    ("networking.k8s.io", "NetworkPolicy", &["spec.podSelector"]),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", &["roleRef"]),
    ("rbac.authorization.k8s.io", "RoleBinding", &["roleRef"]),
    ("resource.k8s.io", "ResourceClaim", &["spec.devices"]),
    ("resource.k8s.io", "ResourceClaimTemplate", &["spec.metadata", "spec.spec.devices"]),
    ("resource.k8s.io", "ResourceSlice", &["spec.pool"]),
    ("storage.k8s.io", "CSINode", &["spec.drivers*"]),
    ("storage.k8s.io", "VolumeAttachment", &["spec.source"]),
];

const TEMPLATE: &str = "spec.template.metadata";
const CONTAINERS: &str = "spec.template.spec.containers*";

/// An object of the kind that holds nothing.
pub(super) fn newborn(resource: &Resource) -> Value {
    let mut object = Map::new();
    for part in parts(resource) {
        object.insert(part.to_owned(), Map::new().into());
    }
    let listed = PARTS.iter().find(|(group, kind, _)| (*group, *kind) == (resource.group, resource.kind));
    for path in listed.map_or(&[][..], |(.., paths)| *paths) {
        place(&mut object, path);
    }
    let mut object = object.into();
    complete(resource, &mut object);
    object
}

/// An object as it was before a write, with the parts that it always has.
pub(super) fn with_parts<'a>(object: &'a Value, resource: &Resource) -> Cow<'a, Value> {
    let absent: Vec<&str> = parts(resource).filter(|part| object.get(*part).is_none()).collect();
    if absent.is_empty() || !object.is_object() {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    for part in absent {
        object[part] = Map::new().into();
    }
    Cow::Owned(object)
}

/// Those of the common parts that the kind has.
fn parts(resource: &Resource) -> impl Iterator<Item = &'static str> {
    let shape = resource.schema.shape();
    let own = resource.custom().is_none();
    ["metadata", "spec", "status"].into_iter().filter(move |part| {
        let Shape::Object(id) = &shape else { return false };
        own && matches!(registry().get(*id).field(part), Some(field) if matches!(field.shape, Shape::Object(_)))
    })
}

fn place(object: &mut Map<String, Value>, path: &str) {
    let (path, end) = match path.strip_suffix('*') {
        Some(path) => (path, Value::Array(Vec::new())),
        None => (path, Map::new().into()),
    };
    let mut within = object;
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            within.insert(name.to_owned(), end);
            return;
        }
        let next = within.entry(name).or_insert_with(|| Map::new().into());
        let Value::Object(next) = next else { return };
        within = next;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_are_those_of_the_types() {
        for (group, kind, paths) in PARTS {
            let row = crate::resources().iter().find(|row| (row.group, row.kind) == (*group, *kind));
            let row = row.unwrap_or_else(|| panic!("{group} {kind}"));
            let mut shape;
            for path in *paths {
                shape = row.schema.shape();
                for name in path.trim_end_matches('*').split('.') {
                    let Shape::Object(id) = shape else { panic!("{kind} {path}") };
                    let field = registry().get(id).field(name);
                    shape = field.unwrap_or_else(|| panic!("{kind} {path}")).shape.clone();
                }
                assert_eq!(path.ends_with('*'), matches!(shape, Shape::List(_)), "{kind} {path}");
            }
        }
    }

    #[test]
    fn what_a_kind_always_has_is_there_from_the_start() {
        let of = |group, plural| newborn(crate::find(group, "v1", plural).unwrap());
        assert_eq!(of("", "pods"), json!({"metadata": {}, "spec": {"containers": []}, "status": {}}));
        assert_eq!(of("", "configmaps"), json!({"metadata": {}}));
        let node = json!({"metadata": {"name": "n"}, "spec": {}});
        let nodes = crate::find("", "v1", "nodes").unwrap();
        assert_eq!(*with_parts(&node, nodes), json!({"metadata": {"name": "n"}, "spec": {}, "status": {}}));
    }
}
