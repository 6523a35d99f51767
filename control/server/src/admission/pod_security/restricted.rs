//! The checks of the level `restricted`: what good practice demands.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::baseline::{added, filters, masked, unfiltered};
use super::checks::{Pod, Violation, named, plural, quoted, setters, violation};

/// Volumes that anybody may have; every other type goes through a claim.
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// Since then what Windows does not know is not asked of its pods.
const WINDOWS: u32 = 25;
/// Since then root in a user namespace of its own is no root.
const OWN_USERS: u32 = 35;

pub(super) fn escalation(pod: Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= WINDOWS && pod.is_windows() {
        return None;
    }
    let place = "/securityContext/allowPrivilegeEscalation";
    let names = pod.names(|container| container.get(place) != Some(&json!(false)));
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&names));
    violation("allowPrivilegeEscalation != false", detail)
}

pub(super) fn capabilities(pod: Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= WINDOWS && pod.is_windows() {
        return None;
    }
    let keeps = pod.names(|container| {
        !container.list("/securityContext/capabilities/drop").any(|dropped| dropped == "ALL")
    });
    let mut details = Vec::new();
    if !keeps.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeps)));
    }
    details.extend(added(pod, &["NET_BIND_SERVICE"]));
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

pub(super) fn proc_mount(pod: Pod<'_>, _: u32) -> Option<Violation> {
    masked(pod)
}

pub(super) fn volumes(pod: Pod<'_>, _: u32) -> Option<Violation> {
    // A volume has its name and one other field: its type.
    let type_of = |volume: &Value| {
        let fields = volume.as_object().into_iter().flatten();
        fields
            .filter(|(name, value)| *name != "name" && !value.is_null())
            .map(|(name, _)| name.clone())
            .next()
    };
    let (mut names, mut types) = (BTreeSet::new(), BTreeSet::new());
    for volume in pod.list("/volumes") {
        let kind = type_of(volume).unwrap_or_else(|| "unknown".to_owned());
        if !VOLUMES.contains(&kind.as_str()) {
            names.insert(volume.get("name").and_then(Value::as_str).unwrap_or_default());
            types.insert(kind);
        }
    }
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quoted(&names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", types.len()),
        quoted(&types)
    );
    violation("restricted volume types", detail)
}

pub(super) fn non_root(pod: Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= OWN_USERS && pod.has_own_users() {
        return None;
    }
    let place = "/securityContext/runAsNonRoot";
    let reason = "runAsNonRoot != true";
    let of_pod = pod.get(place);
    let bad = pod.names(|container| container.get(place) == Some(&json!(false)));
    if let Some(who) = setters(of_pod == Some(&json!(false)), &bad) {
        return violation(reason, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if of_pod == Some(&json!(true)) {
        return None;
    }
    let silent = pod.names(|container| container.get(place).is_none());
    if silent.is_empty() {
        return None;
    }
    violation(reason, format!("pod or {} must set securityContext.runAsNonRoot=true", named(&silent)))
}

pub(super) fn user(pod: Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= OWN_USERS && pod.has_own_users() {
        return None;
    }
    let place = "/securityContext/runAsUser";
    let is_root = |value: Option<&Value>| value.and_then(Value::as_i64) == Some(0);
    let who = setters(is_root(pod.get(place)), &pod.names(|container| is_root(container.get(place))))?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

pub(super) fn seccomp(pod: Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= WINDOWS && pod.is_windows() {
        return None;
    }
    if let Some(bad) = unfiltered(pod) {
        return Some(bad);
    }
    let place = "/securityContext/seccompProfile/type";
    if pod.get(place).and_then(Value::as_str).is_some_and(filters) {
        return None;
    }
    let silent = pod.names(|container| container.get(place).is_none());
    if silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        named(&silent)
    );
    violation("seccompProfile", detail)
}
