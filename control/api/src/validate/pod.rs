//! Pods and pod templates as a whole.

use k8s_openapi::api::core::v1::{EphemeralContainer, Pod, PodSpec, PodTemplateSpec};

use super::container::{self, Pod as Shared};
use super::{
    Errors, affinity, label_map, list, one_of, refuse, require, require_by, require_one_of, resources,
    security, text, volume,
};
use crate::meta;
use crate::names;
use crate::status::{FieldError, FieldPath};

const DNS_POLICIES: &[&str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
/// What resolvers of common systems take.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_BYTES: usize = 2048;

/// A Pod without its metadata.
pub(crate) fn pod(pod: &Pod, errors: &mut Errors) {
    let path = FieldPath::root("spec");
    match &pod.spec {
        Some(spec) => pod_spec(spec, true, &path, errors),
        None => pod_spec(&PodSpec::default(), true, &path, errors),
    }
}

/// A `spec.template` at `path`, metadata included.
pub(crate) fn pod_template(template: &PodTemplateSpec, path: &FieldPath, errors: &mut Errors) {
    if let Some(metadata) = &template.metadata {
        let at = path.child("metadata");
        label_map(metadata.labels.as_ref(), &at.child("labels"), errors);
        if let Some(serde_json::Value::Object(annotations)) = metadata.annotations.as_ref().map(super::shown)
        {
            meta::validate_annotations(&annotations, &at.child("annotations"), errors);
        }
    }
    let path = path.child("spec");
    match &template.spec {
        Some(spec) => {
            pod_spec(spec, false, &path, errors);
            if !list(&spec.ephemeral_containers).is_empty() {
                let why = "ephemeral containers not allowed in pod template";
                errors.push(FieldError::forbidden(&path.child("ephemeralContainers"), why));
            }
        }
        None => pod_spec(&PodSpec::default(), false, &path, errors),
    }
}

/// A pod's spec at `path`.
fn pod_spec(spec: &PodSpec, is_pod: bool, path: &FieldPath, errors: &mut Errors) {
    let host_network = spec.host_network.unwrap_or_default();
    let volumes = volume::all(spec, &path.child("volumes"), errors);
    let shared = Shared { spec, volumes: &volumes, host_network, is_pod };
    container::all(&shared, path, errors);
    ephemeral(list(&spec.ephemeral_containers), spec, &path.child("ephemeralContainers"), errors);
    if let Some(wanted) = &spec.resources {
        resources::requirements(wanted, &path.child("resources"), errors);
    }
    let policies = ["Always", "OnFailure", "Never"];
    require_one_of(&path.child("restartPolicy"), text(&spec.restart_policy), &policies, errors);
    dns(spec, path, errors);
    label_map(spec.node_selector.as_ref(), &path.child("nodeSelector"), errors);
    if let Some(context) = &spec.security_context {
        security::pod(context, host_network, &path.child("securityContext"), errors);
    }
    placement(spec, path, errors);
    identity(spec, path, errors);
    durations(spec, path, errors);
}

fn durations(spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    if let Some(seconds) = spec.active_deadline_seconds {
        let most = i64::from(i32::MAX);
        if !(1..=most).contains(&seconds) {
            let at = path.child("activeDeadlineSeconds");
            errors.push(FieldError::invalid(&at, seconds, names::inclusive_range(1, most)));
        }
    }
    // A grace period below 0 is taken for 1; see the warnings.
}

fn placement(spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    if let Some(wanted) = &spec.affinity {
        affinity::affinity(wanted, &path.child("affinity"), errors);
    }
    affinity::tolerations(list(&spec.tolerations), &path.child("tolerations"), errors);
    let constraints = list(&spec.topology_spread_constraints);
    affinity::spread(constraints, &path.child("topologySpreadConstraints"), errors);
    let gates = list(&spec.scheduling_gates).iter().map(|g| g.name.as_str());
    affinity::gates(gates, &path.child("schedulingGates"), errors);
    if !text(&spec.node_name).is_empty() {
        let (at, name) = (path.child("nodeName"), text(&spec.node_name));
        refuse(&at, name, names::dns1123_subdomain(name), errors);
        if !list(&spec.scheduling_gates).is_empty() {
            errors.push(FieldError::forbidden(
                &at,
                "cannot be set until all schedulingGates have been cleared",
            ));
        }
    }
    require_by(&path.child("schedulerName"), text(&spec.scheduler_name), names::dns1123_subdomain, errors);
    let gates = path.child("readinessGates");
    for (index, gate) in list(&spec.readiness_gates).iter().enumerate() {
        let at = gates.index(index).child("conditionType");
        refuse(&at, &gate.condition_type, names::qualified_name(&gate.condition_type), errors);
    }
    for (field, name) in
        [("priorityClassName", &spec.priority_class_name), ("runtimeClassName", &spec.runtime_class_name)]
    {
        let name = text(name);
        if !name.is_empty() {
            refuse(&path.child(field), name, names::dns1123_subdomain(name), errors);
        }
    }
    if let Some(policy) = &spec.preemption_policy {
        one_of(&path.child("preemptionPolicy"), policy, &["Never", "PreemptLowerPriority"], errors);
    }
}

/// Names that the pod goes by, and accounts and secrets it uses.
fn identity(spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        let name = text(name);
        if !name.is_empty() {
            refuse(&path.child(field), name, names::dns1123_label(name), errors);
        }
    }
    let account = text(&spec.service_account_name);
    if !account.is_empty() {
        refuse(&path.child("serviceAccountName"), account, names::dns1123_subdomain(account), errors);
    }
    let secrets = path.child("imagePullSecrets");
    for (index, secret) in list(&spec.image_pull_secrets).iter().enumerate() {
        if secret.name.is_empty() {
            errors.push(FieldError::required(&secrets.index(index).child("name"), ""));
        }
    }
    let aliases = path.child("hostAliases");
    for (index, alias) in list(&spec.host_aliases).iter().enumerate() {
        let at = aliases.index(index);
        refuse(&at.child("ip"), &alias.ip, names::ip_address(&alias.ip), errors);
        for name in list(&alias.hostnames) {
            refuse(&at.child("hostnames"), name, names::dns1123_subdomain(name), errors);
        }
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path.child("shareProcessNamespace"), true, why));
    }
    if spec.host_users == Some(false) {
        let shared =
            [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)];
        for (field, _) in shared.into_iter().filter(|(_, set)| *set == Some(true)) {
            errors.push(FieldError::forbidden(&path.child(field), "when `hostUsers` is false"));
        }
    }
    if let Some(os) = &spec.os {
        require_one_of(&path.child("os").child("name"), &os.name, &["linux", "windows"], errors);
    }
}

fn dns(spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    let policy = text(&spec.dns_policy);
    let policy_at = path.child("dnsPolicy");
    match policy {
        "" => errors.push(FieldError::required(&policy_at, "")),
        other if !DNS_POLICIES.contains(&other) => {
            errors.push(FieldError::not_supported(&policy_at, other, DNS_POLICIES));
        }
        _ => {}
    }
    let at = path.child("dnsConfig");
    let Some(config) = &spec.dns_config else {
        if policy == "None" {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(&at, why));
        }
        return;
    };
    let servers = list(&config.nameservers);
    let servers_at = at.child("nameservers");
    if policy == "None" && servers.is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(&servers_at, why));
    }
    if servers.len() > MAX_NAMESERVERS {
        let why = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        errors.push(FieldError::invalid(&servers_at, super::shown(&config.nameservers), why));
    }
    for (index, server) in servers.iter().enumerate() {
        refuse(&servers_at.index(index), server, names::ip_address(server), errors);
    }
    let searches = list(&config.searches);
    let searches_at = at.child("searches");
    if searches.len() > MAX_SEARCHES {
        let why = format!("must not have more than {MAX_SEARCHES} search paths");
        errors.push(FieldError::invalid(&searches_at, super::shown(&config.searches), why));
    }
    if searches.join(" ").len() > MAX_SEARCH_BYTES {
        let why = format!(
            "must not have more than {MAX_SEARCH_BYTES} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(&searches_at, super::shown(&config.searches), why));
    }
    for (index, search) in searches.iter().enumerate() {
        if search == "." {
            continue;
        }
        let name = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        refuse(&searches_at.index(index), search, names::dns1123_subdomain(&name), errors);
    }
    let options = at.child("options");
    for (index, option) in list(&config.options).iter().enumerate() {
        let name = text(&option.name);
        if name.is_empty() {
            errors.push(FieldError::required(&options.index(index), "must not be empty"));
        }
    }
}

/// Fields of containers that one which is added for debugging may not have.
fn ephemeral(containers: &[EphemeralContainer], spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    for (index, container) in containers.iter().enumerate() {
        let at = path.index(index);
        require_by(&at.child("name"), &container.name, names::dns1123_label, errors);
        let taken =
            spec.containers.iter().chain(list(&spec.init_containers)).any(|c| c.name == container.name)
                || containers[..index].iter().any(|c| c.name == container.name);
        if taken {
            errors.push(FieldError::duplicate(&at.child("name"), container.name.as_str()));
        }
        require(&at.child("image"), text(&container.image), errors);
        let target = text(&container.target_container_name);
        let known = spec.containers.iter().chain(list(&spec.init_containers)).any(|c| c.name == target);
        if !target.is_empty() && !known {
            errors.push(FieldError::not_found(&at.child("targetContainerName"), target));
        }
        let forbidden = [
            ("ports", container.ports.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
            ("lifecycle", container.lifecycle.is_some()),
        ];
        for (field, _) in forbidden.into_iter().filter(|(_, set)| *set) {
            errors.push(FieldError::forbidden(&at.child(field), "cannot be set for an Ephemeral Container"));
        }
    }
}
