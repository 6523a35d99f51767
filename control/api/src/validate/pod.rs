//! Pods and pod templates as a whole.

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec, ResourceRequirements};

use super::container::{self, Pod as Shared};
use super::{
    Errors, affinity, annotations, claims, dns, environment, ephemeral, label_map, list, os, refuse,
    require_in_order, resources, security, text, volume,
};
use crate::meta;
use crate::names;
use crate::status::{FieldError, FieldPath};

const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
/// Longest host name that Linux takes.
const MAX_HOST_NAME: usize = 64;

/// A Pod without its metadata, but for the annotations that pods have.
pub(crate) fn pod(pod: &Pod, errors: &mut Errors) {
    let (path, empty) = (FieldPath::root("spec"), PodSpec::default());
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let at = FieldPath::root("metadata").child("annotations");
    annotations::of_pod(pod.metadata.annotations.as_ref(), spec, &at, errors);
    pod_spec(spec, true, &path, errors);
}

/// What is asked of a Pod when it is made, and not later.
pub(crate) fn pod_create(pod: &Pod, errors: &mut Errors) {
    let path = FieldPath::root("spec");
    let Some(spec) = &pod.spec else { return };
    if !list(&spec.ephemeral_containers).is_empty() {
        errors.push(FieldError::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !text(&spec.node_name).is_empty() && !list(&spec.scheduling_gates).is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(&path.child("nodeName"), why));
    }
    annotations::seccomp_matches(pod.metadata.annotations.as_ref(), spec, &path, errors);
    annotations::app_armor_matches(pod.metadata.annotations.as_ref(), spec, &path, errors);
}

/// A `spec.template` at `path`, metadata included.
pub(crate) fn pod_template(template: &PodTemplateSpec, path: &FieldPath, errors: &mut Errors) {
    if let Some(metadata) = &template.metadata {
        // The paths are upstream's.
        label_map(metadata.labels.as_ref(), &path.child("labels"), errors);
        if let Some(serde_json::Value::Object(annotations)) = metadata.annotations.as_ref().map(super::shown)
        {
            meta::validate_annotations(&annotations, &path.child("annotations"), errors);
        }
    }
    annotations::of_template(template, path, errors);
    let path = path.child("spec");
    match &template.spec {
        Some(spec) => {
            pod_spec(spec, false, &path, errors);
            let noted = template.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
            annotations::seccomp_matches(noted, spec, &path, errors);
            if !list(&spec.ephemeral_containers).is_empty() {
                let why = "ephemeral containers not allowed in pod template";
                errors.push(FieldError::forbidden(&path.child("ephemeralContainers"), why));
            }
        }
        None => pod_spec(&PodSpec::default(), false, &path, errors),
    }
}

/// A pod's spec at `path`. The order is upstream's, since people read what is wrong in it.
fn pod_spec(spec: &PodSpec, is_pod: bool, path: &FieldPath, errors: &mut Errors) {
    let volumes = volume::all(spec, is_pod, &path.child("volumes"), errors);
    claims::of_pod(list(&spec.resource_claims), &path.child("resourceClaims"), errors);
    let claims = claims::names_of(spec);
    let shared = Shared { spec, volumes: &volumes, claims: &claims, is_pod };
    container::all(&shared, path, errors);
    ephemeral::all(&shared, &path.child("ephemeralContainers"), errors);
    resources::of_pod(spec, &path.child("resources"), errors);
    container::host_network(&shared, path, errors);
    let policies = ["Always", "OnFailure", "Never"];
    require_in_order(&path.child("restartPolicy"), text(&spec.restart_policy), &policies, errors);
    require_in_order(&path.child("dnsPolicy"), text(&spec.dns_policy), DNS_POLICIES, errors);
    label_map(spec.node_selector.as_ref(), &path.child("nodeSelector"), errors);
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        let at = path.child("securityContext").child("shareProcessNamespace");
        errors.push(FieldError::invalid(&at, true, why));
    }
    if let Some(context) = &spec.security_context {
        security::pod(context, spec, &path.child("securityContext"), errors);
    }
    if let Some(wanted) = &spec.affinity {
        affinity::affinity(wanted, &path.child("affinity"), errors);
    }
    dns::config(spec, &path.child("dnsConfig"), errors);
    gates(spec, path, errors);
    let constraints = list(&spec.topology_spread_constraints);
    affinity::spread(constraints, &path.child("topologySpreadConstraints"), errors);
    host_users(spec, path, errors);
    identity(spec, path, errors);
    placement(spec, path, errors);
    os::os(spec, path, errors);
    environment::files(&shared, path, errors);
    if is_pod {
        tokens(spec, path, errors);
        container::only_for_pods(&shared, path, errors);
    }
}

/// A token is one of an account.
fn tokens(spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    if !text(&spec.service_account_name).is_empty() {
        return;
    }
    for (index, volume) in list(&spec.volumes).iter().enumerate() {
        let sources = volume.projected.as_ref().map(|projected| list(&projected.sources)).unwrap_or_default();
        let at = path.child("volumes").index(index).child("projected").child("sources");
        for (index, _) in sources.iter().enumerate().filter(|(_, s)| s.service_account_token.is_some()) {
            let why = "must not be specified when serviceAccountName is not set";
            errors.push(FieldError::forbidden(&at.index(index).child("serviceAccountToken"), why));
        }
    }
}

fn gates(spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    let all = path.child("readinessGates");
    for (index, gate) in list(&spec.readiness_gates).iter().enumerate() {
        let at = all.index(index).child("conditionType");
        refuse(&at, &gate.condition_type, names::qualified_name(&gate.condition_type), errors);
    }
    let gates = list(&spec.scheduling_gates).iter().map(|g| g.name.as_str());
    affinity::gates(gates, &path.child("schedulingGates"), errors);
}

/// Who has a user namespace of their own shares no others with the host.
fn host_users(spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    if spec.host_users != Some(false) {
        return;
    }
    // The spelling is upstream's.
    let shared = [("hostNetwork", spec.host_network), ("HostPID", spec.host_pid), ("HostIPC", spec.host_ipc)];
    for (field, _) in shared.into_iter().filter(|(_, set)| *set == Some(true)) {
        errors.push(FieldError::forbidden(&path.child(field), "when `hostUsers` is false"));
    }
}

/// Tells what is wrong with a name.
type NameCheck = fn(&str) -> Vec<String>;

/// Names that the pod goes by, and the account it uses.
fn identity(spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    if let Some(name) = &spec.hostname_override {
        host_name(name, spec, &path.child("hostnameOverride"), errors);
    }
    let rules: [(&str, &Option<String>, NameCheck); 4] = [
        ("serviceAccountName", &spec.service_account_name, names::dns1123_subdomain),
        ("nodeName", &spec.node_name, names::dns1123_subdomain),
        ("hostname", &spec.hostname, names::dns1123_label),
        ("subdomain", &spec.subdomain, names::dns1123_label),
    ];
    for (field, name, rule) in rules {
        let name = text(name);
        if !name.is_empty() {
            refuse(&path.child(field), name, rule(name), errors);
        }
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        let most = i64::from(i32::MAX);
        if !(1..=most).contains(&seconds) {
            let at = path.child("activeDeadlineSeconds");
            errors.push(FieldError::invalid(&at, seconds, names::inclusive_range(1, most)));
        }
    }
    // A grace period below 0 is taken for 1; see the warnings.
}

/// A host name instead of all others; what the kernel takes is shorter than a domain.
fn host_name(name: &str, spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    if spec.set_hostname_as_fqdn == Some(true) {
        let why = "may not be specified when setHostnameAsFQDN is true";
        errors.push(FieldError::forbidden(path, why));
    }
    if spec.host_network == Some(true) {
        errors.push(FieldError::forbidden(path, "may not be specified when hostNetwork is true"));
    }
    if name.len() > MAX_HOST_NAME {
        errors.push(FieldError::too_long(path, MAX_HOST_NAME));
    }
    refuse(path, name, names::dns1123_subdomain(name), errors);
}

fn placement(spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    affinity::tolerations(list(&spec.tolerations), &path.child("tolerations"), errors);
    let aliases = path.child("hostAliases");
    for (index, alias) in list(&spec.host_aliases).iter().enumerate() {
        let at = aliases.index(index);
        refuse(&at.child("ip"), &alias.ip, names::ip_address(&alias.ip), errors);
        for (index, name) in list(&alias.hostnames).iter().enumerate() {
            refuse(&at.child("hostnames").index(index), name, names::dns1123_subdomain(name), errors);
        }
    }
    let class = text(&spec.priority_class_name);
    if !class.is_empty() {
        refuse(&path.child("priorityClassName"), class, names::dns1123_subdomain(class), errors);
    }
    if let Some(class) = &spec.runtime_class_name {
        refuse(&path.child("runtimeClassName"), class, names::dns1123_subdomain(class), errors);
    }
    if let Some(policy) = &spec.preemption_policy {
        let policies = ["PreemptLowerPriority", "Never"];
        require_in_order(&path.child("preemptionPolicy"), policy, &policies, errors);
    }
    if let Some(overhead) = &spec.overhead {
        let limits = Some(overhead.clone());
        let wanted = ResourceRequirements { limits, ..ResourceRequirements::default() };
        resources::requirements(&wanted, &path.child("overhead"), errors);
    }
}
