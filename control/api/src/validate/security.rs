//! Security contexts of pods and containers.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Sysctl,
};

use super::{Errors, list, one_of, require, shown};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// Largest user and group id.
const MAX_ID: i64 = 0xffff_ffff;
/// Longest path on Linux, without its end.
const MAX_PROFILE: usize = 4095;
const SYSCTL_FORM: &str = "must have at most 253 characters and match regex \
     ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
/// Sysctls that each IPC namespace has of its own.
const OF_IPC: &[&str] = &["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];

fn id(id: Option<i64>, path: &FieldPath, errors: &mut Errors) {
    if let Some(id) = id.filter(|id| !(0..=MAX_ID).contains(id)) {
        errors.push(FieldError::invalid(path, id, names::inclusive_range(0, MAX_ID)));
    }
}

/// The security context of a pod at `path`.
pub(super) fn pod(context: &PodSecurityContext, spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    id(context.fs_group, &path.child("fsGroup"), errors);
    id(context.run_as_user, &path.child("runAsUser"), errors);
    id(context.run_as_group, &path.child("runAsGroup"), errors);
    let groups = path.child("supplementalGroups");
    for (index, group) in list(&context.supplemental_groups).iter().enumerate() {
        id(Some(*group), &groups.index(index), errors);
    }
    sysctls(list(&context.sysctls), spec, &path.child("sysctls"), errors);
    let choices: [(&str, &Option<String>, &[&str]); 3] = [
        ("fsGroupChangePolicy", &context.fs_group_change_policy, &["OnRootMismatch", "Always"]),
        ("supplementalGroupsPolicy", &context.supplemental_groups_policy, &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &context.se_linux_change_policy, &["MountOption", "Recursive"]),
    ];
    for (field, chosen, allowed) in choices {
        if let Some(chosen) = chosen {
            one_of(&path.child(field), chosen, allowed, errors);
        }
    }
    profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), path, errors);
}

fn sysctls(sysctls: &[Sysctl], spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (index, sysctl) in sysctls.iter().enumerate() {
        let at = path.index(index).child("name");
        let name = sysctl.name.as_str();
        if require(&at, name, errors) {
            if !is_sysctl(&name.replace('/', ".")) {
                errors.push(FieldError::invalid(&at, name, SYSCTL_FORM));
            } else if !seen.insert(name) {
                errors.push(FieldError::duplicate(&at, name));
            }
        }
        let dotted = name.replace('/', ".");
        if spec.host_network == Some(true) && dotted.starts_with("net.") {
            errors.push(FieldError::invalid(&at, name, "may not be specified when 'hostNetwork' is true"));
        } else if spec.host_ipc == Some(true) && OF_IPC.iter().any(|prefix| dotted.starts_with(prefix)) {
            errors.push(FieldError::invalid(&at, name, "may not be specified when 'hostIPC' is true"));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    name.len() <= names::MAX_SUBDOMAIN
        && name.split('.').all(|part| {
            let ends = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            ends(part.as_bytes().first())
                && ends(part.as_bytes().last())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
        })
}

/// The security context of a container in a pod that is, or is not, in the host's user namespace.
pub(super) fn container(context: &SecurityContext, host_users: bool, path: &FieldPath, errors: &mut Errors) {
    id(context.run_as_user, &path.child("runAsUser"), errors);
    id(context.run_as_group, &path.child("runAsGroup"), errors);
    if let Some(mount) = &context.proc_mount {
        let at = path.child("procMount");
        one_of(&at, mount, &["Default", "Unmasked"], errors);
        if host_users && mount == "Unmasked" {
            let why = "`hostUsers` must be false to use `Unmasked`";
            errors.push(FieldError::invalid(&at, mount.as_str(), why));
        }
    }
    profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), path, errors);
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, shown(context), why));
        }
        let added = context.capabilities.as_ref().map(|c| list(&c.add)).unwrap_or_default();
        if added.iter().any(|c| c == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, shown(context), why));
        }
    }
}

fn profiles(
    seccomp: Option<&SeccompProfile>,
    app_armor: Option<&AppArmorProfile>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    if let Some(profile) = seccomp {
        let at = path.child("seccompProfile");
        profile_type("seccompProfile", &profile.type_, &at, errors);
        let file_at = at.child("localhostProfile");
        match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
            ("Localhost", None) => {
                errors.push(FieldError::required(&file_at, "must be set when seccomp type is Localhost"));
            }
            ("Localhost", Some(file)) => super::volume::local_path(&file_at, file, errors),
            (_, Some(_)) => {
                let why = "can only be set when seccomp type is Localhost";
                errors.push(FieldError::invalid(&file_at, shown(profile), why));
            }
            (_, None) => {}
        }
    }
    let Some(profile) = app_armor else { return };
    let at = path.child("appArmorProfile");
    profile_type("appArmorProfile", &profile.type_, &at, errors);
    let file_at = at.child("localhostProfile");
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", Some(file)) if file.trim() != file => {
            errors.push(FieldError::invalid(&file_at, file, "must not be padded with whitespace"));
        }
        ("Localhost", Some(file)) if file.len() > MAX_PROFILE => {
            errors.push(FieldError::too_long(&file_at, MAX_PROFILE));
        }
        ("Localhost", None | Some("")) => {
            errors.push(FieldError::required(&file_at, "must be set when AppArmor type is Localhost"));
        }
        ("RuntimeDefault" | "Unconfined", Some(file)) => {
            let why = "can only be set when AppArmor type is Localhost";
            errors.push(FieldError::invalid(&file_at, file, why));
        }
        _ => {}
    }
}

fn profile_type(field: &str, found: &str, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("type");
    if found.is_empty() {
        errors.push(FieldError::required(&at, format!("type is required when {field} is set")));
    } else {
        one_of(&at, found, &["Localhost", "RuntimeDefault", "Unconfined"], errors);
    }
}
