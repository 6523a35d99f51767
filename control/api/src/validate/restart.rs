//! When containers start again: after they ended, and because their resources changed.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, ContainerResizePolicy, ContainerRestartRule, PodSpec};

use super::{Errors, list, one_of, text};
use crate::status::{FieldError, FieldPath};

const POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
/// `RestartAllContainers` is behind a gate that is closed in 1.35.
const ACTIONS: &[&str] = &["Restart"];

/// The policy and the rules of an ordinary container at `path`.
pub(super) fn of_container(container: &Container, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("restartPolicy");
    let rules = list(&container.restart_policy_rules);
    match container.restart_policy.as_deref() {
        None if rules.is_empty() => return,
        None => {
            errors.push(FieldError::required(&at, "must specify restartPolicy when restart rules are used"))
        }
        Some(policy) => one_of(&at, policy, POLICIES, errors),
    }
    let all = path.child("restartPolicyRules");
    if rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&all, rules.len(), MAX_RULES));
    }
    for (index, found) in rules.iter().enumerate() {
        rule(found, &all.index(index), errors);
    }
}

fn rule(rule: &ContainerRestartRule, path: &FieldPath, errors: &mut Errors) {
    one_of(&path.child("action"), &rule.action, ACTIONS, errors);
    let at = path.child("exitCodes");
    let Some(codes) = &rule.exit_codes else {
        errors.push(FieldError::required(&at, "must be specified"));
        return;
    };
    one_of(&at.child("operator"), &codes.operator, &["In", "NotIn"], errors);
    let count = list(&codes.values).len();
    if count > MAX_EXIT_CODES {
        errors.push(FieldError::too_many(&at.child("values"), count, MAX_EXIT_CODES));
    }
}

/// The policy and the rules of an init container at `path`. One that always starts again has nothing left to decide.
pub(super) fn of_init_container(container: &Container, path: &FieldPath, errors: &mut Errors) {
    if !is_sidecar(container) {
        of_container(container, path, errors);
    } else if !list(&container.restart_policy_rules).is_empty() {
        let why = "restartPolicyRules are not allowed for init containers with restart policy Always";
        errors.push(FieldError::forbidden(&path.child("restartPolicyRules"), why));
    }
}

/// Whether an init container runs on beside the pod's containers.
pub(super) fn is_sidecar(container: &Container) -> bool {
    text(&container.restart_policy) == "Always"
}

/// Whether a container of a pod runs again once it has ended with this code: its rules come first, then its own policy,
/// then the pod's.
pub(super) fn starts_again(container: &Container, spec: &PodSpec, code: i32) -> bool {
    let policy = match &container.restart_policy {
        Some(_) if list(&container.restart_policy_rules).iter().any(|rule| restarts_after(rule, code)) => {
            return true;
        }
        Some(own) => own.as_str(),
        None => text(&spec.restart_policy),
    };
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

fn restarts_after(rule: &ContainerRestartRule, code: i32) -> bool {
    let Some(codes) = rule.exit_codes.as_ref().filter(|_| rule.action == "Restart") else { return false };
    let listed = list(&codes.values).contains(&code);
    match codes.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

/// `resizePolicy` at `path` of a container in a pod of this restart policy.
pub(super) fn on_resize(
    policies: &[ContainerResizePolicy],
    pod_policy: &str,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let mut seen = HashSet::new();
    for (index, policy) in policies.iter().enumerate() {
        let name = &policy.resource_name;
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.index(index), name.as_str()));
        }
        // Upstream names the list in all but duplicates.
        super::require_one_of(path, name, &["cpu", "memory"], errors);
        let restart = &policy.restart_policy;
        super::require_one_of(path, restart, &["NotRequired", "RestartContainer"], errors);
        if pod_policy == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path, restart.as_str(), why));
        }
    }
}

/// An init container that ends is not restarted to get other resources.
pub(super) fn on_resize_of_init_container(container: &Container, path: &FieldPath, errors: &mut Errors) {
    if is_sidecar(container) {
        return;
    }
    let all = path.child("resizePolicy");
    for (index, policy) in list(&container.resize_policy).iter().enumerate() {
        if policy.restart_policy == "RestartContainer" {
            let at = all.index(index).child("restartPolicy");
            let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.push(FieldError::invalid(&at, "RestartContainer", why));
        }
    }
}
