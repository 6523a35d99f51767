//! Containers of pods: ordinary ones, init containers and ephemeral ones.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};

use super::handler::{self, ProbeKind};
use super::volume::{self, Volumes};
use super::{
    Errors, claims, environment, list, port, refuse, require, require_by, require_in_order, require_one_of,
    resources, restart, security, text,
};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// What containers of one pod share.
pub(super) struct Pod<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) volumes: &'a Volumes<'a>,
    /// The names of its claims.
    pub(super) claims: &'a BTreeSet<&'a str>,
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
        unique(&container.name, &mut names, &at, errors);
        probes(container, pod, &at, errors);
        restart::of_container(container, &at, errors);
    }
    for (index, container) in pod.spec.containers.iter().enumerate() {
        unique_host_ports(container, &mut host_ports, &containers.index(index), errors);
    }
    let init = path.child("initContainers");
    for (index, container) in list(&pod.spec.init_containers).iter().enumerate() {
        let at = init.index(index);
        common(container, pod, &at, errors);
        restart::of_init_container(container, &at, errors);
        unique(&container.name, &mut names, &at, errors);
        // They run one by one. Upstream looks at each as at a list of one, and calls it so.
        unique_host_ports(container, &mut BTreeSet::new(), &init.index(0), errors);
        if restart::is_sidecar(container) {
            probes(container, pod, &at, errors);
        } else {
            only_for_sidecars(container, &at, errors);
        }
        restart::on_resize_of_init_container(container, &at, errors);
    }
}

/// What is asked of pods, and in templates left alone for the sake of those that there are.
pub(super) fn only_for_pods(pod: &Pod<'_>, path: &FieldPath, errors: &mut Errors) {
    let lists =
        [("containers", pod.spec.containers.as_slice()), ("initContainers", list(&pod.spec.init_containers))];
    for (field, containers) in lists {
        let all = path.child(field);
        for (index, container) in containers.iter().enumerate() {
            image_is_trimmed(container, &all.index(index), errors);
        }
    }
}

/// An image whose name has no space around it.
pub(super) fn image_is_trimmed(container: &Container, path: &FieldPath, errors: &mut Errors) {
    let image = text(&container.image);
    if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(&path.child("image"), image, why));
    }
}

fn unique<'a>(name: &'a str, names: &mut BTreeSet<&'a str>, path: &FieldPath, errors: &mut Errors) {
    if !name.is_empty() && !names.insert(name) {
        errors.push(FieldError::duplicate(&path.child("name"), name));
    }
}

/// What is true of containers of all kinds.
pub(super) fn common(container: &Container, pod: &Pod<'_>, path: &FieldPath, errors: &mut Errors) {
    require_by(&path.child("name"), &container.name, names::dns1123_label, errors);
    require(&path.child("image"), text(&container.image), errors);
    let policies = ["File", "FallbackToLogsOnError"];
    let policy = text(&container.termination_message_policy);
    require_in_order(&path.child("terminationMessagePolicy"), policy, &policies, errors);
    ports(list(&container.ports), &path.child("ports"), errors);
    environment::of_container(&container.env, &container.env_from, path, errors);
    volume::mounts(container, pod.volumes, &path.child("volumeMounts"), errors);
    volume::devices(container, pod.volumes, &path.child("volumeDevices"), errors);
    let policies = ["Always", "IfNotPresent", "Never"];
    require_one_of(&path.child("imagePullPolicy"), text(&container.image_pull_policy), &policies, errors);
    if let Some(wanted) = &container.resources {
        let at = path.child("resources");
        resources::requirements(wanted, &at, errors);
        claims::of_container(wanted, pod.claims, &at.child("claims"), errors);
    }
    let pod_policy = text(&pod.spec.restart_policy);
    restart::on_resize(list(&container.resize_policy), pod_policy, &path.child("resizePolicy"), errors);
    if let Some(context) = &container.security_context {
        let host_users = pod.spec.host_users.unwrap_or(true);
        security::container(context, host_users, &path.child("securityContext"), errors);
    }
}

fn probes(container: &Container, pod: &Pod<'_>, path: &FieldPath, errors: &mut Errors) {
    if let Some(lifecycle) = &container.lifecycle {
        let grace = pod.spec.termination_grace_period_seconds;
        handler::lifecycle(lifecycle, grace, &path.child("lifecycle"), errors);
    }
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

fn ports(ports: &[ContainerPort], path: &FieldPath, errors: &mut Errors) {
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
        require_one_of(&at.child("protocol"), text(&exposed.protocol), &["SCTP", "TCP", "UDP"], errors);
    }
}

/// On the host's network a container listens where the host does; a template may leave the host's port out.
pub(super) fn host_network(pod: &Pod<'_>, path: &FieldPath, errors: &mut Errors) {
    if !pod.spec.host_network.unwrap_or_default() {
        return;
    }
    let all = path.child("containers");
    for (index, container) in pod.spec.containers.iter().enumerate() {
        let ports = all.index(index).child("ports");
        for (index, port) in list(&container.ports).iter().enumerate() {
            let host_port = port.host_port.unwrap_or_default();
            if (pod.is_pod || host_port != 0) && host_port != port.container_port {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&ports.index(index).child("hostPort"), host_port, why));
            }
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
