//! Requests for devices: their defaults and what they may look like. Expressions are not compiled here.

use k8s_openapi::api::resource::v1 as api;

use super::{at_most, opaque, qualified_name};
use crate::kinds::prelude::*;

const MAX_ENTRIES: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
/// Longest expression, in bytes.
const MAX_EXPRESSION: usize = 10 * 1024;
/// The refusal of a name that no request has.
const NO_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// Defaults of `spec.devices`.
pub(super) fn default_devices(devices: &mut Fields) {
    for request in objects(devices, "requests") {
        if let Some(exactly) = object(request, "exactly") {
            default_request(exactly);
        }
        objects(request, "firstAvailable").for_each(default_request);
    }
}

fn default_request(request: &mut Fields) {
    set(request, "allocationMode", "ExactCount");
    if defaults::text(request, "allocationMode") == "ExactCount" {
        defaults::set_nonzero(request, "count", 1);
    }
    for toleration in objects(request, "tolerations") {
        set(toleration, "operator", "Equal");
    }
}

/// `spec.devices` of a claim.
pub(super) fn devices(devices: &api::DeviceClaim, path: &FieldPath, errors: &mut Errors) {
    let requests = validate::list(&devices.requests);
    let at = path.child("requests");
    at_most(&at, requests, MAX_ENTRIES, errors);
    let mut seen = HashSet::new();
    for (index, entry) in requests.iter().enumerate() {
        request(entry, &at.index(index), errors);
        if !seen.insert(&entry.name) {
            errors.push(FieldError::duplicate(&at.index(index).child("name"), entry.name.as_str()));
        }
    }
    let known = names_of(requests);
    let (at, constraints) = (path.child("constraints"), validate::list(&devices.constraints));
    at_most(&at, constraints, MAX_ENTRIES, errors);
    for (index, constraint) in constraints.iter().enumerate() {
        let at = at.index(index);
        names_of_requests(validate::list(&constraint.requests), &known, &at.child("requests"), errors);
        match (&constraint.match_attribute, &constraint.distinct_attribute) {
            (None, None) => errors.push(FieldError::required(&at.child("matchAttribute"), "")),
            (Some(name), _) => qualified(&at.child("matchAttribute"), name, errors),
            (None, Some(name)) => qualified(&at.child("distinctAttribute"), name, errors),
        }
    }
    let (at, configurations) = (path.child("config"), validate::list(&devices.config));
    at_most(&at, configurations, MAX_ENTRIES, errors);
    for (index, configuration) in configurations.iter().enumerate() {
        let at = at.index(index);
        names_of_requests(validate::list(&configuration.requests), &known, &at.child("requests"), errors);
        opaque(configuration.opaque.as_ref(), &at, errors);
    }
}

/// `example.com/attribute`.
fn qualified(path: &FieldPath, name: &str, errors: &mut Errors) {
    if !require(path, name, errors) {
        return;
    }
    qualified_name(path, name, errors);
    if !name.contains('/') {
        errors.push(FieldError::invalid(path, name, "must include a domain"));
    }
}

/// The names of requests, and of their alternatives behind a slash.
pub(super) fn names_of(requests: &[api::DeviceRequest]) -> HashSet<String> {
    let within = |r: &api::DeviceRequest| {
        let subs = validate::list(&r.first_available).iter();
        subs.map(|sub| format!("{}/{}", r.name, sub.name)).collect::<Vec<_>>()
    };
    requests.iter().flat_map(|r| within(r).into_iter().chain([r.name.clone()])).collect()
}

fn names_of_requests(names: &[String], requests: &HashSet<String>, path: &FieldPath, errors: &mut Errors) {
    at_most(path, names, MAX_ENTRIES, errors);
    let mut seen = HashSet::new();
    for (index, name) in names.iter().enumerate() {
        let at = path.index(index);
        if !requests.contains(name) {
            errors.push(FieldError::invalid(&at, name.as_str(), NO_REQUEST));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at, name.as_str()));
        }
    }
}

/// The fields that a request and an alternative in one share.
struct Wanted<'a> {
    class: &'a str,
    selectors: &'a [api::DeviceSelector],
    mode: &'a str,
    count: i64,
}

fn request(request: &api::DeviceRequest, path: &FieldPath, errors: &mut Errors) {
    require_by(&path.child("name"), &request.name, names::dns1123_label, errors);
    let alternatives = validate::list(&request.first_available);
    let why = "exactly one of `exactly` or `firstAvailable` is required";
    match (&request.exactly, alternatives.is_empty()) {
        (None, true) => errors.push(FieldError::required(path, why)),
        (Some(_), false) => {
            let why = format!("{why}, but multiple fields are set");
            errors.push(FieldError::invalid(path, Value::Null, why));
        }
        (Some(exactly), true) => {
            let fields = Wanted {
                class: &exactly.device_class_name,
                selectors: validate::list(&exactly.selectors),
                mode: validate::text(&exactly.allocation_mode),
                count: exactly.count.unwrap_or_default(),
            };
            wanted(&fields, &path.child("exactly"), errors);
        }
        (None, false) => {
            let all = path.child("firstAvailable");
            at_most(&all, alternatives, MAX_ALTERNATIVES, errors);
            let mut seen = HashSet::new();
            for (index, entry) in alternatives.iter().enumerate() {
                let at = all.index(index);
                require_by(&at.child("name"), &entry.name, names::dns1123_label, errors);
                if !seen.insert(&entry.name) {
                    errors.push(FieldError::duplicate(&at.child("name"), entry.name.as_str()));
                }
                let fields = Wanted {
                    class: &entry.device_class_name,
                    selectors: validate::list(&entry.selectors),
                    mode: validate::text(&entry.allocation_mode),
                    count: entry.count.unwrap_or_default(),
                };
                wanted(&fields, &at, errors);
            }
        }
    }
}

fn wanted(wanted: &Wanted<'_>, path: &FieldPath, errors: &mut Errors) {
    require_by(&path.child("deviceClassName"), wanted.class, names::dns1123_subdomain, errors);
    selectors(wanted.selectors, &path.child("selectors"), errors);
    let at = path.child("count");
    match wanted.mode {
        "All" if wanted.count != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            errors.push(FieldError::invalid(&at, wanted.count, why));
        }
        "ExactCount" if wanted.count <= 0 => {
            errors.push(FieldError::invalid(&at, wanted.count, "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        other => {
            let at = path.child("allocationMode");
            errors.push(FieldError::not_supported(&at, other, &["All", "ExactCount"]));
        }
    }
}

/// Selectors of a request or a class.
pub(super) fn selectors(selectors: &[api::DeviceSelector], path: &FieldPath, errors: &mut Errors) {
    at_most(path, selectors, MAX_ENTRIES, errors);
    for (index, selector) in selectors.iter().enumerate() {
        let at = path.index(index).child("cel");
        match &selector.cel {
            None => errors.push(FieldError::required(&at, "")),
            Some(cel) => {
                let at = at.child("expression");
                require(&at, &cel.expression, errors);
                if cel.expression.len() > MAX_EXPRESSION {
                    errors.push(FieldError::too_long(&at, MAX_EXPRESSION));
                }
            }
        }
    }
}
