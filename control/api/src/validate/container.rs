//! Containers of pods: ordinary ones, init containers and ephemeral ones.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};

use super::handler::{self, ProbeKind};
use super::volume::{self, Volumes};
use super::{
    Errors, environment, list, port, refuse, require, require_by, require_one_of, resources, security, text,
};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// What containers of one pod share.
pub(super) struct Pod<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) volumes: &'a Volumes<'a>,
    pub(super) host_network: bool,
    /// Whether this is a Pod and not a template, which may leave out the ports of the host.
    pub(super) is_pod: bool,
}

/// All containers and init containers of a pod's spec at `path`.
pub(super) fn all(pod: &Pod<'_>, path: &FieldPath, errors: &mut Errors) {
    let containers = path.child("containers");
    if pod.spec.containers.is_empty() {
        errors.push(FieldError::required(&containers, ""));
    }
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut host_ports: BTreeSet<String> = BTreeSet::new();
    for (index, container) in pod.spec.containers.iter().enumerate() {
        let at = containers.index(index);
        common(container, pod, &at, errors);
        probes(container, pod, &at, errors);
        unique(&container.name, &mut names, &at, errors);
        unique_host_ports(container, &mut host_ports, &at, errors);
    }
    let init = path.child("initContainers");
    for (index, container) in list(&pod.spec.init_containers).iter().enumerate() {
        let at = init.index(index);
        common(container, pod, &at, errors);
        unique(&container.name, &mut names, &at, errors);
        if text(&container.restart_policy) == "Always" {
            probes(container, pod, &at, errors);
        } else {
            only_for_sidecars(container, &at, errors);
        }
    }
}

fn unique<'a>(name: &'a str, names: &mut BTreeSet<&'a str>, path: &FieldPath, errors: &mut Errors) {
    if !name.is_empty() && !names.insert(name) {
        errors.push(FieldError::duplicate(&path.child("name"), name));
    }
}

fn common(container: &Container, pod: &Pod<'_>, path: &FieldPath, errors: &mut Errors) {
    require_by(&path.child("name"), &container.name, names::dns1123_label, errors);
    let image = text(&container.image);
    let at = path.child("image");
    if require(&at, image, errors) && image.trim() != image {
        errors.push(FieldError::invalid(&at, image, "must not have leading or trailing whitespace"));
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    require_one_of(&path.child("imagePullPolicy"), text(&container.image_pull_policy), &policies, errors);
    let policies = ["FallbackToLogsOnError", "File"];
    let policy = text(&container.termination_message_policy);
    require_one_of(&path.child("terminationMessagePolicy"), policy, &policies, errors);
    ports(list(&container.ports), pod, &path.child("ports"), errors);
    environment::of_container(&container.env, &container.env_from, path, errors);
    volume::mounts(container, pod.volumes, path, errors);
    if let Some(wanted) = &container.resources {
        resources::requirements(wanted, &path.child("resources"), errors);
    }
    if let Some(context) = &container.security_context {
        security::container(context, &path.child("securityContext"), errors);
    }
    restart_policy(container, path, errors);
    let resize = path.child("resizePolicy");
    for (index, policy) in list(&container.resize_policy).iter().enumerate() {
        let at = resize.index(index);
        require_one_of(&at.child("resourceName"), &policy.resource_name, &["cpu", "memory"], errors);
        let allowed = ["NotRequired", "RestartContainer"];
        require_one_of(&at.child("restartPolicy"), &policy.restart_policy, &allowed, errors);
    }
}

fn restart_policy(container: &Container, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("restartPolicy");
    match container.restart_policy.as_deref() {
        None => {
            if !list(&container.restart_policy_rules).is_empty() {
                errors.push(FieldError::required(
                    &at,
                    "must specify restartPolicy when restart rules are used",
                ));
            }
        }
        Some(policy) => super::one_of(&at, policy, &["Always", "OnFailure", "Never"], errors),
    }
}

fn probes(container: &Container, pod: &Pod<'_>, path: &FieldPath, errors: &mut Errors) {
    let probes = [
        ("livenessProbe", &container.liveness_probe, ProbeKind::Liveness),
        ("readinessProbe", &container.readiness_probe, ProbeKind::Readiness),
        ("startupProbe", &container.startup_probe, ProbeKind::Startup),
    ];
    for (field, probe, kind) in probes {
        if let Some(probe) = probe {
            handler::probe(probe, kind, &path.child(field), errors);
        }
    }
    if let Some(lifecycle) = &container.lifecycle {
        let grace = pod.spec.termination_grace_period_seconds;
        handler::lifecycle(lifecycle, grace, &path.child("lifecycle"), errors);
    }
}

/// An init container that ends has no use for what watches over it.
fn only_for_sidecars(container: &Container, path: &FieldPath, errors: &mut Errors) {
    let set = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        let why = "may not be set for init containers without restartPolicy=Always";
        errors.push(FieldError::forbidden(&path.child(field), why));
    }
}

fn ports(ports: &[ContainerPort], pod: &Pod<'_>, path: &FieldPath, errors: &mut Errors) {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (index, exposed) in ports.iter().enumerate() {
        let at = path.index(index);
        let name = text(&exposed.name);
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if wrong.is_empty() && !names.insert(name) {
                errors.push(FieldError::duplicate(&at.child("name"), name));
            }
            refuse(&at.child("name"), name, wrong, errors);
        }
        let number_at = at.child("containerPort");
        if exposed.container_port == 0 {
            errors.push(FieldError::required(&number_at, ""));
        } else {
            port(&number_at, exposed.container_port, errors);
        }
        let host_port = exposed.host_port.unwrap_or_default();
        if host_port != 0 {
            port(&at.child("hostPort"), host_port, errors);
        }
        let must_match = pod.host_network && (pod.is_pod || host_port != 0);
        if must_match && host_port != exposed.container_port {
            let why = "must match `hostPort` when `hostNetwork` is true";
            errors.push(FieldError::invalid(&number_at, exposed.container_port, why));
        }
        require_one_of(&at.child("protocol"), text(&exposed.protocol), &["SCTP", "TCP", "UDP"], errors);
        let host_ip = text(&exposed.host_ip);
        if !host_ip.is_empty() {
            refuse(&at.child("hostIP"), host_ip, names::ip_address(host_ip), errors);
        }
    }
}

fn unique_host_ports(
    container: &Container,
    taken: &mut BTreeSet<String>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    for (index, exposed) in list(&container.ports).iter().enumerate() {
        let number = exposed.host_port.unwrap_or_default();
        if number == 0 {
            continue;
        }
        let address = format!("{}/{}/{number}", text(&exposed.protocol), text(&exposed.host_ip));
        if taken.contains(&address) {
            let at = path.child("ports").index(index).child("hostPort");
            errors.push(FieldError::duplicate(&at, address));
        } else {
            taken.insert(address);
        }
    }
}
