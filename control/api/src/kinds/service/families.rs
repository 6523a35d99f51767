//! The addresses of services inside of the cluster, their families, and how these change.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::ServiceSpec;

use crate::addresses;
use crate::names;
use crate::status::{FieldError, FieldPath};
use crate::validate::{Errors, list, one_of, refuse, shown, text};

const CHANGED: &str = "may not change once set";
/// Most addresses that a service has: one of each family.
const MAX_ADDRESSES: usize = 2;

/// Whether a service has no address of its own.
pub(super) fn is_headless(spec: &ServiceSpec) -> bool {
    matches!(list(&spec.cluster_ips), [only] if only == "None")
}

/// What the fields of addresses and families say together.
pub(super) fn families(spec: &ServiceSpec, path: &FieldPath, errors: &mut Errors) {
    let all = path.child("clusterIPs");
    let ips = list(&spec.cluster_ips);
    let single = text(&spec.cluster_ip);
    match ips.first() {
        Some(_) if single.is_empty() => {
            let why = "must be empty when `clusterIP` is not specified";
            errors.push(FieldError::invalid(&all, shown(&ips), why));
        }
        Some(first) if first != single => {
            errors.push(FieldError::invalid(&all, shown(&ips), "first value must match `clusterIP`"));
        }
        None if !single.is_empty() => errors.push(FieldError::required(&all, "")),
        _ => {}
    }
    let families = path.child("ipFamilies");
    let mut seen = HashSet::new();
    for (index, family) in list(&spec.ip_families).iter().enumerate() {
        one_of(&families.index(index), family, &["IPv4", "IPv6"], errors);
        if !seen.insert(family) {
            errors.push(FieldError::duplicate(&families.index(index), family.as_str()));
        }
    }
    if let Some(policy) = &spec.ip_family_policy {
        let allowed = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        one_of(&path.child("ipFamilyPolicy"), policy, &allowed, errors);
    }
    if addresses(ips, &all, errors) {
        by_family(spec, &all, errors);
    }
}

/// Whether all are addresses, which may then be looked at more closely.
fn addresses(ips: &[String], all: &FieldPath, errors: &mut Errors) -> bool {
    let mut valid = true;
    for (index, ip) in ips.iter().enumerate() {
        if index == 0 && ip == "None" {
            if ips.len() > 1 {
                valid = false;
                let why = "'None' must be the first and only value";
                errors.push(FieldError::invalid(all, shown(&ips), why));
            }
            continue;
        }
        let wrong = names::ip_address(ip);
        valid &= wrong.is_empty();
        refuse(&all.index(index), ip, wrong, errors);
    }
    if ips.len() > MAX_ADDRESSES {
        errors.push(FieldError::invalid(all, shown(&ips), "may only hold up to 2 values"));
    }
    valid
}

fn is_v6(ip: &str) -> bool {
    addresses::parse(ip).is_some_and(|ip| ip.is_ipv6())
}

fn by_family(spec: &ServiceSpec, all: &FieldPath, errors: &mut Errors) {
    let ips = list(&spec.cluster_ips);
    if ips.len() > 1 && ips.iter().all(|ip| is_v6(ip) == is_v6(&ips[0])) {
        let why = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(all, shown(&ips), why));
    }
    if is_headless(spec) {
        return;
    }
    for (index, (ip, family)) in ips.iter().zip(list(&spec.ip_families)).enumerate() {
        let other = if is_v6(ip) { "IPv4" } else { "IPv6" };
        if family == other {
            let why = format!("expected an {other} value as indicated by `ipFamilies[{index}]`");
            errors.push(FieldError::invalid(&all.index(index), ip.as_str(), why));
        }
    }
}

/// A service keeps its addresses, but may get or release one of another family.
pub(super) fn change(new: &ServiceSpec, old: &ServiceSpec, path: &FieldPath, errors: &mut Errors) {
    if text(&new.type_) == "ExternalName" || text(&old.type_) == "ExternalName" {
        return;
    }
    let (headless, was_headless) = (is_headless(new), is_headless(old));
    if !(headless && was_headless) {
        let of = Change {
            field: "clusterIPs",
            released: "clusterIP",
            unset: "primary clusterIP can not be unset",
        };
        of.check(list(&new.cluster_ips), list(&old.cluster_ips), new, path, errors);
    }
    if !headless && !was_headless {
        let of =
            Change { field: "ipFamilies", released: "ipFamily", unset: "primary ipFamily can not be unset" };
        of.check(list(&new.ip_families), list(&old.ip_families), new, path, errors);
    }
}

struct Change {
    field: &'static str,
    /// What the second of the list is called.
    released: &'static str,
    unset: &'static str,
}

impl Change {
    fn check(
        &self,
        now: &[String],
        was: &[String],
        spec: &ServiceSpec,
        path: &FieldPath,
        errors: &mut Errors,
    ) {
        let all = path.child(self.field);
        if now.len() == was.len() {
            for index in (0..now.len()).filter(|index| now[*index] != was[*index]) {
                // Upstream names the first of the families, whichever it is that changed.
                let index = if self.field == "ipFamilies" { 0 } else { index };
                errors.push(FieldError::invalid(&all.index(index), shown(&now), CHANGED));
            }
            return;
        }
        if now.is_empty() {
            errors.push(FieldError::invalid(&all.index(0), shown(&now), self.unset));
        }
        if let (Some(first), Some(before)) = (now.first(), was.first())
            && first != before
        {
            // Of families, upstream shows the addresses.
            errors.push(FieldError::invalid(&all.index(0), shown(&spec.cluster_ips), CHANGED));
        }
        let released = was.len() > now.len() && now.len() == 1;
        if released && spec.ip_family_policy.as_deref() != Some("SingleStack") {
            let why = format!("must be set to 'SingleStack' when releasing the secondary {}", self.released);
            let at = path.child("ipFamilyPolicy");
            errors.push(FieldError::invalid(&at, shown(&spec.ip_family_policy), why));
        }
    }
}
