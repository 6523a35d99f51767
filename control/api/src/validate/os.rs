//! What pods of one operating system may not ask for.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::Value;

use super::{Errors, list, one_of, require, shown};
use crate::status::{FieldError, FieldPath};

const SYSTEMS: &[&str] = &["linux", "windows"];
const NOT_ON_LINUX: &str = "windows options cannot be set for a linux pod";
const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";
/// Fields of a pod's spec that Windows knows nothing of.
const LINUX_SPEC: &[&str] = &["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
/// Fields of security contexts that Windows knows nothing of; those of a pod and those of a container.
const LINUX_CONTEXT: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
];

/// `spec.os` of a pod, and what follows of it; `path` is that of the spec.
pub(super) fn os(spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    let Some(os) = &spec.os else { return };
    let at = path.child("os");
    if !require(&at.child("name"), &os.name, errors) {
        return;
    }
    match os.name.as_str() {
        "linux" => contexts(spec, path, &["windowsOptions"], NOT_ON_LINUX, errors),
        "windows" => {
            fields(&shown(spec), path, LINUX_SPEC, NOT_ON_WINDOWS, errors);
            contexts(spec, path, LINUX_CONTEXT, NOT_ON_WINDOWS, errors);
        }
        other => one_of(&at, other, SYSTEMS, errors),
    }
}

/// Refuses fields of the security contexts of a pod and of its containers.
fn contexts(spec: &PodSpec, path: &FieldPath, refused: &[&str], why: &str, errors: &mut Errors) {
    const CONTEXT: &str = "securityContext";
    if let Some(context) = &spec.security_context {
        fields(&shown(context), &path.child(CONTEXT), refused, why, errors);
    }
    let lists: [(&str, &[Container]); 2] =
        [("initContainers", list(&spec.init_containers)), ("containers", &spec.containers)];
    for (field, containers) in lists {
        let all = path.child(field);
        for (index, container) in containers.iter().enumerate() {
            if let Some(context) = &container.security_context {
                fields(&shown(context), &all.index(index).child(CONTEXT), refused, why, errors);
            }
        }
    }
}

/// Refuses fields of an object that are set; a switch that is off is none.
fn fields(object: &Value, path: &FieldPath, refused: &[&str], why: &str, errors: &mut Errors) {
    for field in refused {
        let off = matches!(*field, "hostPID" | "hostIPC") && object.get(field) == Some(&Value::Bool(false));
        if object.get(field).is_some() && !off {
            errors.push(FieldError::forbidden(&path.child(field), why));
        }
    }
}
