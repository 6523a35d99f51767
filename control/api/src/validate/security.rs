//! Security contexts of pods and containers.

use k8s_openapi::api::core::v1::{AppArmorProfile, PodSecurityContext, SeccompProfile, SecurityContext};

use super::{Errors, list, one_of, require, require_one_of, shown, text};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// Largest user and group id.
const MAX_ID: i64 = 0xffff_ffff;
const SYSCTL_FORM: &str =
    "a sysctl name is parts of lower case alphanumeric characters, '-' and '_', joined by '.' or '/'";

fn id(id: Option<i64>, path: &FieldPath, errors: &mut Errors) {
    if let Some(id) = id.filter(|id| !(0..=MAX_ID).contains(id)) {
        errors.push(FieldError::invalid(path, id, names::inclusive_range(0, MAX_ID)));
    }
}

/// The security context of a pod.
pub(super) fn pod(context: &PodSecurityContext, host_network: bool, path: &FieldPath, errors: &mut Errors) {
    id(context.run_as_user, &path.child("runAsUser"), errors);
    id(context.run_as_group, &path.child("runAsGroup"), errors);
    id(context.fs_group, &path.child("fsGroup"), errors);
    let groups = path.child("supplementalGroups");
    for (index, group) in list(&context.supplemental_groups).iter().enumerate() {
        id(Some(*group), &groups.index(index), errors);
    }
    if let Some(policy) = &context.fs_group_change_policy {
        one_of(&path.child("fsGroupChangePolicy"), policy, &["OnRootMismatch", "Always"], errors);
    }
    if let Some(policy) = &context.supplemental_groups_policy {
        one_of(&path.child("supplementalGroupsPolicy"), policy, &["Merge", "Strict"], errors);
    }
    profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), path, errors);
    let sysctls = path.child("sysctls");
    let mut seen: Vec<String> = Vec::new();
    for (index, sysctl) in list(&context.sysctls).iter().enumerate() {
        let at = sysctls.index(index).child("name");
        if !require(&at, &sysctl.name, errors) {
            continue;
        }
        let name = sysctl.name.replace('/', ".");
        if !is_sysctl(&name) {
            errors.push(FieldError::invalid(&at, sysctl.name.as_str(), SYSCTL_FORM));
        } else if seen.contains(&name) {
            errors.push(FieldError::duplicate(&at, sysctl.name.as_str()));
        } else if host_network && name.starts_with("net.") {
            errors.push(FieldError::invalid(
                &at,
                sysctl.name.as_str(),
                "may not be specified when 'hostNetwork' is set",
            ));
        }
        seen.push(name);
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

/// The security context of a container.
pub(super) fn container(context: &SecurityContext, path: &FieldPath, errors: &mut Errors) {
    id(context.run_as_user, &path.child("runAsUser"), errors);
    id(context.run_as_group, &path.child("runAsGroup"), errors);
    if let Some(mount) = &context.proc_mount {
        one_of(&path.child("procMount"), mount, &["Default", "Unmasked"], errors);
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
    for (field, kind, file) in [
        ("seccompProfile", seccomp.map(|p| p.type_.as_str()), seccomp.map(|p| text(&p.localhost_profile))),
        (
            "appArmorProfile",
            app_armor.map(|p| p.type_.as_str()),
            app_armor.map(|p| text(&p.localhost_profile)),
        ),
    ] {
        let (Some(kind), Some(file)) = (kind, file) else { continue };
        let at = path.child(field);
        require_one_of(&at.child("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"], errors);
        let file_at = at.child("localhostProfile");
        match kind {
            "Localhost" if file.is_empty() => {
                let why = match field {
                    "seccompProfile" => "must be set when seccomp type is Localhost",
                    _ => "must be set when AppArmor type is Localhost",
                };
                errors.push(FieldError::required(&file_at, why));
            }
            "Localhost" if field == "seccompProfile" => super::volume::local_path(&file_at, file, errors),
            "Localhost" => {}
            _ if !file.is_empty() => {
                let why = match field {
                    "seccompProfile" => "can only be set when seccomp type is Localhost",
                    _ => "can only be set when type is Localhost",
                };
                errors.push(FieldError::invalid(&file_at, file, why));
            }
            _ => {}
        }
    }
}
