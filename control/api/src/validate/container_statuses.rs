//! What may be said of a pod's containers by whoever runs them.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::{Container, ContainerStatus, LinuxContainerUser, PodSpec, ResourceStatus};

use super::restart::starts_again;
use super::{Errors, list, one_of, text};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// Largest number of a user or a group.
const MAX_ID: i64 = i32::MAX as i64;
const HEALTH: &[&str] = &["Healthy", "Unhealthy", "Unknown"];

/// The containers of a list, by their names.
fn by_name(containers: &[Container]) -> HashMap<&str, &Container> {
    let mut found = HashMap::new();
    for container in containers {
        found.entry(container.name.as_str()).or_insert(container);
    }
    found
}

/// What has ended for good stays ended. `containers` are those that the statuses are of; ephemeral ones, of which there
/// are none, never run again.
pub(super) fn transitions(
    new: &[ContainerStatus],
    old: &[ContainerStatus],
    containers: &[Container],
    spec: &PodSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let lives = |status: &&ContainerStatus| exit_code(status).is_none();
    let alive: HashSet<&str> = new.iter().filter(lives).map(|status| status.name.as_str()).collect();
    let containers = by_name(containers);
    for (index, old) in old.iter().enumerate() {
        let Some(code) = exit_code(old).filter(|_| alive.contains(old.name.as_str())) else { continue };
        let container = containers.get(old.name.as_str());
        if !container.is_some_and(|container| starts_again(container, spec, code)) {
            let why = "may not be transitioned to non-terminated state";
            errors.push(FieldError::forbidden(&path.index(index).child("state"), why));
        }
    }
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// Whom the containers run as.
pub(super) fn users(statuses: &[ContainerStatus], system: &str, path: &FieldPath, errors: &mut Errors) {
    for (index, status) in statuses.iter().enumerate() {
        let Some(user) = status.user.as_ref().and_then(|user| user.linux.as_ref()) else { continue };
        let at = path.index(index).child("user").child("linux");
        match system {
            "windows" => errors.push(FieldError::forbidden(&at, "cannot be set for a windows pod")),
            "" | "linux" => linux_user(user, &at, errors),
            _ => {}
        }
    }
}

fn linux_user(user: &LinuxContainerUser, path: &FieldPath, errors: &mut Errors) {
    let mut id = |number: i64, at: &FieldPath| {
        if !(0..=MAX_ID).contains(&number) {
            errors.push(FieldError::invalid(at, number, names::inclusive_range(0, MAX_ID)));
        }
    };
    id(user.uid, &path.child("uid"));
    id(user.gid, &path.child("gid"));
    let groups = path.child("supplementalGroups");
    for (index, group) in list(&user.supplemental_groups).iter().enumerate() {
        id(*group, &groups.index(index));
    }
}

/// How the devices do that containers have.
pub(super) fn devices(
    statuses: &[ContainerStatus],
    containers: &[Container],
    path: &FieldPath,
    errors: &mut Errors,
) {
    let containers = by_name(containers);
    for (index, status) in statuses.iter().enumerate() {
        let all = path.index(index).child("allocatedResourcesStatus");
        let container = containers.get(status.name.as_str()).copied();
        for (index, resource) in list(&status.allocated_resources_status).iter().enumerate() {
            device(resource, container, &all.index(index), errors);
        }
    }
}

fn device(resource: &ResourceStatus, container: Option<&Container>, path: &FieldPath, errors: &mut Errors) {
    if let Some(why) = container.and_then(|container| not_asked_for(&resource.name, container)) {
        errors.push(FieldError::invalid(&path.child("name"), resource.name.as_str(), why));
    }
    let mut seen = HashSet::new();
    for (index, one) in list(&resource.resources).iter().enumerate() {
        let at = path.child("resources").index(index);
        one_of(&at.child("health"), text(&one.health), HEALTH, errors);
        if !seen.insert(&one.resource_id) {
            errors.push(FieldError::duplicate(&at.child("resourceID"), one.resource_id.as_str()));
        }
    }
}

/// A resource, or `claim:` with the name of a claim and of one request in it.
fn not_asked_for(name: &str, container: &Container) -> Option<&'static str> {
    let wanted = container.resources.as_ref();
    let Some(claim) = name.strip_prefix("claim:") else {
        let requests = wanted.and_then(|wanted| wanted.requests.as_ref());
        let found = requests.is_some_and(|requests| requests.contains_key(name));
        return (!found).then_some("must match one of the container's resource requests");
    };
    let claims = wanted.map_or(&[][..], |wanted| list(&wanted.claims));
    let found = claims.iter().any(|one| match text(&one.request) {
        "" => one.name == claim,
        request => claim.split_once('/') == Some((one.name.as_str(), request)),
    });
    (!found).then_some(
        "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
         'claim:<claimName>' if request is empty",
    )
}

/// Ephemeral containers have no devices.
pub(super) fn no_devices(statuses: &[ContainerStatus], path: &FieldPath, errors: &mut Errors) {
    for (index, status) in statuses.iter().enumerate() {
        if !list(&status.allocated_resources_status).is_empty() {
            let at = path.index(index).child("allocatedResourcesStatus");
            errors.push(FieldError::forbidden(&at, "must not be specified in container status"));
        }
    }
}
