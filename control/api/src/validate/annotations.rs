//! Annotations of pods that say what fields say since: profiles of old, and what mirrors and controllers rest on.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSpec, PodTemplateSpec, SeccompProfile, SecurityContext,
};

use serde_json::{Map, Value};

use super::volume::local_path;
use super::{Errors, list, text};
use crate::meta;
use crate::status::{FieldError, FieldPath};

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const LOCALHOST: &str = "localhost/";

type Annotations = BTreeMap<String, String>;

/// Names and security contexts of all containers of a spec, with their places in it.
fn containers<'a>(
    spec: &'a PodSpec,
    path: &FieldPath,
) -> Vec<(&'a str, Option<&'a SecurityContext>, FieldPath)> {
    let (init, ephemeral) = (list(&spec.init_containers), list(&spec.ephemeral_containers));
    let plain = [("initContainers", init), ("containers", spec.containers.as_slice())];
    let mut all = Vec::new();
    for (field, containers) in plain {
        let at = path.child(field);
        let views = containers.iter().enumerate();
        all.extend(views.map(|(i, c)| (c.name.as_str(), c.security_context.as_ref(), at.index(i))));
    }
    let at = path.child("ephemeralContainers");
    let views = ephemeral.iter().enumerate();
    all.extend(views.map(|(i, c)| (c.name.as_str(), c.security_context.as_ref(), at.index(i))));
    all
}

/// What the annotations at `path` of a pod or of a template of one say by themselves.
pub(super) fn of_pod(
    annotations: Option<&Annotations>,
    spec: &PodSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let Some(annotations) = annotations else { return };
    if let Some(value) = annotations.get(MIRROR).filter(|_| text(&spec.node_name).is_empty()) {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&path.key(MIRROR), value.as_str(), why));
    }
    if let Some(cost) = annotations.get(DELETION_COST).filter(|cost| !is_cost(cost)) {
        errors.push(FieldError::invalid(&path.key(DELETION_COST), cost.as_str(), "must be a 32bit integer"));
    }
    for (key, value) in annotations {
        if key == SECCOMP_OF_POD || key.starts_with(SECCOMP_OF_CONTAINER) {
            seccomp(value, &path.child(key), errors);
        }
    }
    let mut armored =
        annotations.iter().filter_map(|(key, value)| Some((key, key.strip_prefix(APP_ARMOR)?, value)));
    let Some(first) = armored.next() else { return };
    let names: HashSet<&str> = containers(spec, path).into_iter().map(|(name, ..)| name).collect();
    for (key, container, profile) in std::iter::once(first).chain(armored) {
        let at = path.key(key);
        if !names.contains(container) {
            errors.push(FieldError::invalid(&at, container, "container not found"));
        }
        if !matches!(profile.as_str(), "" | "runtime/default" | "unconfined")
            && !profile.starts_with(LOCALHOST)
        {
            let why = format!("invalid AppArmor profile name: {profile:?}");
            errors.push(FieldError::invalid(&at, profile.as_str(), why));
        }
    }
}

/// A number with neither a plus nor zeros before it.
fn is_cost(text: &str) -> bool {
    let first = text.bytes().next();
    (text == "0" || first.is_some_and(|b| matches!(b, b'-' | b'1'..=b'9'))) && text.parse::<i32>().is_ok()
}

fn seccomp(profile: &str, at: &FieldPath, errors: &mut Errors) {
    match profile {
        "runtime/default" | "docker/default" | "unconfined" => {}
        _ => match profile.strip_prefix(LOCALHOST) {
            Some(file) => local_path(at, file, errors),
            None => errors.push(FieldError::invalid(at, profile, "must be a valid seccomp profile")),
        },
    }
}

/// Annotations and fields of seccomp that are both there say the same. The spec is at `path`.
pub(super) fn seccomp_matches(
    annotations: Option<&Annotations>,
    spec: &PodSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let Some(annotations) = annotations else { return };
    let mut check = |key: &str, field: Option<&SeccompProfile>, at: FieldPath| {
        let (Some(noted), Some(field)) = (annotations.get(key), field) else { return };
        let of = Profile { noted, kind: &field.type_, file: field.localhost_profile.as_deref() };
        of.check("seccomp", &["runtime/default", "docker/default"], &at.child("seccompProfile"), errors);
    };
    let context = spec.security_context.as_ref();
    check(SECCOMP_OF_POD, context.and_then(|c| c.seccomp_profile.as_ref()), path.child("securityContext"));
    for (name, context, at) in containers(spec, path) {
        let field = context.and_then(|c| c.seccomp_profile.as_ref());
        check(&format!("{SECCOMP_OF_CONTAINER}{name}"), field, at.child("securityContext"));
    }
}

/// The same of AppArmor, whose field of the pod counts for each container without one.
pub(super) fn app_armor_matches(
    annotations: Option<&Annotations>,
    spec: &PodSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let windows = spec.os.as_ref().is_some_and(|os| os.name == "windows");
    let Some(annotations) = annotations.filter(|_| !windows) else { return };
    let of_pod = spec.security_context.as_ref().and_then(|c| c.app_armor_profile.as_ref());
    for (name, context, at) in containers(spec, path) {
        let own = context.and_then(|c| c.app_armor_profile.as_ref());
        let noted = annotations.get(&format!("{APP_ARMOR}{name}"));
        let (Some(noted), Some(AppArmorProfile { type_, localhost_profile })) = (noted, own.or(of_pod))
        else {
            continue;
        };
        let of = Profile { noted, kind: type_, file: localhost_profile.as_deref() };
        let at = at.child("securityContext").child("appArmorProfile");
        of.check("apparmor", &["runtime/default"], &at, errors);
    }
}

/// A profile, once in an annotation and once in a field.
struct Profile<'a> {
    noted: &'a str,
    kind: &'a str,
    file: Option<&'a str>,
}

impl Profile<'_> {
    fn check(&self, what: &str, default: &[&str], at: &FieldPath, errors: &mut Errors) {
        let same_type = match self.kind {
            "Unconfined" => self.noted == "unconfined",
            "RuntimeDefault" => default.contains(&self.noted),
            "Localhost" => self.noted.starts_with(LOCALHOST),
            _ => true,
        };
        let why = |part: &str| format!("{what} {part} in annotation and field must match");
        if !same_type {
            errors.push(FieldError::forbidden(&at.child("type"), why("type")));
        } else if self.kind == "Localhost" && self.noted.strip_prefix(LOCALHOST) != self.file {
            errors.push(FieldError::forbidden(&at.child("localhostProfile"), why("profile")));
        }
    }
}

/// What may not change: who mirrors a pod, and profiles that are in force already.
pub(crate) fn pod_annotations_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = FieldPath::root("metadata").child("annotations");
    let none = Map::new();
    let [new, old] = [new, old].map(|pod| meta::annotations(pod).unwrap_or(&none));
    let kinds = |key: &str| {
        let armor = key.starts_with(APP_ARMOR).then_some("AppArmor annotations");
        armor.or((key == MIRROR).then_some("mirror pod annotation"))
    };
    for (key, _) in old.iter().filter(|(key, value)| new.get(*key) != Some(value)) {
        if let Some(what) = kinds(key) {
            errors.push(FieldError::forbidden(&path.key(key), format!("may not remove or update {what}")));
        }
    }
    for key in new.keys().filter(|key| !old.contains_key(*key)) {
        if let Some(what) = kinds(key) {
            errors.push(FieldError::forbidden(&path.key(key), format!("may not add {what}")));
        }
    }
}

/// The annotations of a template at `path`.
pub(super) fn of_template(template: &PodTemplateSpec, path: &FieldPath, errors: &mut Errors) {
    let annotations = template.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    if let Some(spec) = &template.spec {
        of_pod(annotations, spec, &path.child("annotations"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_plain_numbers() {
        assert!(["0", "-5", "10", "2147483647"].into_iter().all(is_cost));
        assert!(!["", "+1", "08", "2147483648", "-", "x"].into_iter().any(is_cost));
    }
}
