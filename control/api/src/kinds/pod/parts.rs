//! Parts of a pod that change through subresources of their own: containers for debugging, and resources.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::quality;
use crate::status::{FieldError, FieldPath};
use crate::validate::{self, Errors, list};

/// Lists of containers whose resources may change.
const SIZED: &[&str] = &["containers", "initContainers"];
/// Fields of a container that a resize sets.
const SIZES: &[&str] = &["resources", "resizePolicy"];
/// Resources that a running container can get more or less of.
const RESIZABLE: &[&str] = &["cpu", "memory"];

/// Makes `new` the old pod but for the part; false when there is no such part.
pub(super) fn prepare(part: &str, new: &mut Value, old: &Value) -> bool {
    let wanted = new.get_mut("spec").map(Value::take).unwrap_or_default();
    let change = match part {
        "ephemeralcontainers" => ephemeral,
        "resize" => resize,
        _ => return false,
    };
    let mut pod = old.clone();
    // What the server compares with the stored object has to come from the request.
    for field in ["name", "namespace", "uid", "resourceVersion"] {
        crate::meta::copy_in_metadata(&mut pod, new, field);
    }
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        change(spec, &wanted);
    }
    *new = pod;
    true
}

fn ephemeral(spec: &mut Map<String, Value>, wanted: &Value) {
    const FIELD: &str = "ephemeralContainers";
    match wanted.get(FIELD) {
        Some(containers) => spec.insert(FIELD.to_owned(), containers.clone()),
        None => spec.remove(FIELD),
    };
}

fn resize(spec: &mut Map<String, Value>, wanted: &Value) {
    for field in SIZED {
        // Of two that have the same name the first counts.
        let sizes = wanted.get(field).and_then(Value::as_array).into_iter().flatten().rev();
        let sizes: HashMap<_, _> = sizes.map(|wanted| (wanted.get("name"), wanted)).collect();
        for container in crate::defaults::objects(spec, field) {
            let name = container.get("name").cloned();
            let Some(wanted) = sizes.get(&name.as_ref()) else { continue };
            for size in SIZES {
                match wanted.get(size) {
                    Some(value) => container.insert((*size).to_owned(), value.clone()),
                    None => container.remove(*size),
                };
            }
        }
    }
}

/// Appends what is wrong with the change of a part.
pub(super) fn validate(part: &str, new: &Value, old: &Value, errors: &mut Errors) {
    let typed = |pod: &Value| Pod::deserialize(pod);
    let (new_pod, old_pod) = match (typed(new), typed(old)) {
        (Ok(new), Ok(old)) => (new, old),
        (Err(why), _) | (_, Err(why)) => {
            errors.push(FieldError::internal(&FieldPath::default(), why));
            return;
        }
    };
    validate::pod(&new_pod, errors);
    let spec = |pod: Pod| pod.spec.unwrap_or_default();
    let (new_spec, old_spec) = (spec(new_pod), spec(old_pod));
    match part {
        "ephemeralcontainers" => {
            only_added(list(&new_spec.ephemeral_containers), list(&old_spec.ephemeral_containers), errors);
        }
        "resize" => {
            if quality::class(new) != quality::class(old) {
                let why = "Pod QOS Class may not change as a result of resizing";
                errors.push(FieldError::invalid(&FieldPath::root("spec"), quality::class(new), why));
            }
            only_resized(&new_spec, &old_spec, errors);
        }
        _ => {}
    }
}

fn only_added(new: &[EphemeralContainer], old: &[EphemeralContainer], errors: &mut Errors) {
    let path = FieldPath::root("spec").child("ephemeralContainers");
    let places = new.iter().enumerate().rev().map(|(at, after)| (&after.name, at));
    let places: HashMap<&String, usize> = places.collect();
    for before in old {
        match places.get(&before.name).copied() {
            None => {
                let why = format!("existing ephemeral containers {:?} may not be removed\n", before.name);
                errors.push(FieldError::forbidden(&path, why));
            }
            Some(at) if new[at] != *before => {
                let why = format!("existing ephemeral containers {:?} may not be changed\n", before.name);
                errors.push(FieldError::forbidden(&path.index(at), why));
            }
            Some(_) => {}
        }
    }
}

fn only_resized(new: &PodSpec, old: &PodSpec, errors: &mut Errors) {
    let path = FieldPath::root("spec");
    let lists: [(&str, &[Container], &[Container]); 2] = [
        ("containers", &new.containers, &old.containers),
        ("initContainers", list(&new.init_containers), list(&old.init_containers)),
    ];
    for (field, new, old) in lists {
        let all = path.child(field);
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            if new.resources == old.resources {
                continue;
            }
            let at = all.index(index).child("resources");
            if field == "initContainers" && validate::text(&old.restart_policy) != "Always" {
                let why = "resources for non-sidecar init containers are immutable";
                errors.push(FieldError::forbidden(&at, why));
            }
            let (new, old) =
                (new.resources.clone().unwrap_or_default(), old.resources.clone().unwrap_or_default());
            for (field, new, old) in
                [("limits", new.limits, old.limits), ("requests", new.requests, old.requests)]
            {
                let (new, old) = (new.unwrap_or_default(), old.unwrap_or_default());
                let at = at.child(field);
                let fixed = |name: &&String| !RESIZABLE.contains(&name.as_str());
                if new.keys().chain(old.keys()).filter(fixed).any(|name| new.get(name) != old.get(name)) {
                    errors.push(FieldError::forbidden(&at, "only cpu and memory resources are mutable"));
                }
                for name in old.keys().filter(|name| !fixed(name) && !new.contains_key(*name)) {
                    let why = format!("resource {field} cannot be removed");
                    errors.push(FieldError::forbidden(&at.key(name), why));
                }
            }
        }
    }
}
