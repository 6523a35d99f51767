//! How a pod resolves names, beyond the policy.

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};

use super::{Errors, list, refuse, shown, text};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// What resolvers of common systems take.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_BYTES: usize = 2048;

/// `spec.dnsConfig` at `path`; a pod whose policy is `None` has nothing else.
pub(super) fn config(spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    let alone = text(&spec.dns_policy) == "None";
    let Some(config) = &spec.dns_config else {
        if alone {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(path, why));
        }
        return;
    };
    if alone && list(&config.nameservers).is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(&path.child("nameservers"), why));
        return;
    }
    nameservers(config, &path.child("nameservers"), errors);
    searches(config, &path.child("searches"), errors);
    let options = path.child("options");
    for (index, option) in list(&config.options).iter().enumerate() {
        if text(&option.name).is_empty() {
            errors.push(FieldError::required(&options.index(index), "must not be empty"));
        }
    }
}

fn nameservers(config: &PodDNSConfig, path: &FieldPath, errors: &mut Errors) {
    let servers = list(&config.nameservers);
    if servers.len() > MAX_NAMESERVERS {
        let why = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        errors.push(FieldError::invalid(path, shown(&config.nameservers), why));
    }
    for (index, server) in servers.iter().enumerate() {
        refuse(&path.index(index), server, names::ip_address(server), errors);
    }
}

fn searches(config: &PodDNSConfig, path: &FieldPath, errors: &mut Errors) {
    let searches = list(&config.searches);
    if searches.len() > MAX_SEARCHES {
        let why = format!("must not have more than {MAX_SEARCHES} search paths");
        errors.push(FieldError::invalid(path, shown(&config.searches), why));
    }
    if searches.join(" ").len() > MAX_SEARCH_BYTES {
        let why = format!(
            "must not have more than {MAX_SEARCH_BYTES} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(path, shown(&config.searches), why));
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let name = search.strip_suffix('.').unwrap_or(search);
        refuse(&path.index(index), name, names::search_domain(name), errors);
    }
}
