//! Ingresses.

use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::api::networking::v1 as net;

use crate::kinds::prelude::*;

/// The row of ingresses.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    short_names: &["ing"],
    subresources: &[status(gvk("networking.k8s.io", "v1", "Ingress"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text(
                "Class",
                "The name of the IngressClass resource that should be used for additional configuration",
            ),
            Column::text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
            Column::text("Address", "Address is a list containing ingress points for the load-balancer"),
            Column::text("Ports", "Ports of TLS configurations that open"),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "networking.k8s.io" / "v1",
        "Ingress",
        "ingress",
        "ingresses",
        "networking",
        net::Ingress,
        IngressRules
    )
};

/// Most hosts that are printed.
const SHOWN: usize = 3;

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let class = object.pointer("/spec/ingressClassName").and_then(Value::as_str).unwrap_or("<none>");
    let hosts = hosts(read::list(object, "/spec/rules"));
    let ports = if read::list(object, "/spec/tls").is_empty() { "80" } else { "80, 443" };
    vec![
        meta::name(object).into(),
        class.into(),
        hosts.into(),
        read::balanced(object).join(",").into(),
        ports.into(),
        age(object, now),
    ]
}

/// The first hosts, and how many rules there are beyond them when there is one behind the last host that is shown.
fn hosts(rules: &[Value]) -> String {
    let named = rules.iter().enumerate().map(|(at, rule)| (at, read::text(rule, "/host")));
    let shown: Vec<(usize, &str)> = named.filter(|(_, host)| !host.is_empty()).take(SHOWN).collect();
    let text = shown.iter().map(|(_, host)| *host).collect::<Vec<_>>().join(",");
    match shown.last() {
        None => "*".to_owned(),
        Some((last, _)) if shown.len() == SHOWN && last + 1 < rules.len() => {
            format!("{text} + {} more...", rules.len() - SHOWN)
        }
        Some(_) => text,
    }
}

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
/// What a path that is compared literally may not hold, and not end in.
const BAD_PARTS: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: &[&str] = &["/..", "/."];
const NO_ADDRESS: &str = "must be a DNS name, not an IP address";

/// What is true of ingresses.
pub(in crate::kinds) struct IngressRules;

impl Rules for IngressRules {
    type Object = net::Ingress;

    const CREATE_ON_UPDATE: bool = true;
    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;

    fn prepare_create(ingress: &mut Value) {
        if let Some(fields) = ingress.as_object_mut() {
            fields.insert("status".into(), json!({"loadBalancer": {}}));
        }
    }

    fn validate(ingress: &Self::Object, errors: &mut Errors) {
        content(ingress, errors);
        let annotated = ingress.metadata.annotations.as_ref().and_then(|a| a.get(CLASS_ANNOTATION));
        let named = ingress.spec.as_ref().and_then(|s| s.ingress_class_name.as_ref());
        if let (Some(annotated), Some(named)) = (annotated, named)
            && annotated != named
        {
            let why = "must match `ingressClassName` when both are specified";
            let at = FieldPath::root("annotations").child(CLASS_ANNOTATION);
            errors.push(FieldError::invalid(&at, annotated.as_str(), why));
        }
    }

    fn validate_update(new: &Self::Object, _old: &Self::Object, errors: &mut Errors) {
        content(new, errors);
    }

    fn validate_status_update(new: &Self::Object, _old: &Self::Object, errors: &mut Errors) {
        let points = new.status.as_ref().and_then(|s| s.load_balancer.as_ref()).map(|b| &b.ingress);
        let all = status_path().child("loadBalancer").child("ingress");
        for (index, point) in points.into_iter().flatten().flatten().enumerate() {
            let at = all.index(index);
            let (ip, host) = (validate::text(&point.ip), validate::text(&point.hostname));
            if !ip.is_empty() {
                refuse(&at.child("ip"), ip, names::ip_address(ip), errors);
            }
            if !host.is_empty() {
                refuse(&at.child("hostname"), host, names::dns1123_subdomain(host), errors);
                if names::ip_address(host).is_empty() {
                    errors.push(FieldError::invalid(&at.child("hostname"), host, NO_ADDRESS));
                }
            }
        }
    }
}

fn content(ingress: &net::Ingress, errors: &mut Errors) {
    let empty = net::IngressSpec::default();
    let (spec, path) = (ingress.spec.as_ref().unwrap_or(&empty), spec_path());
    let rules = validate::list(&spec.rules);
    if rules.is_empty() && spec.default_backend.is_none() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(&path, validate::shown(&spec.rules), why));
    }
    if let Some(end) = &spec.default_backend {
        backend(end, &path.child("defaultBackend"), errors);
    }
    for (index, rule) in rules.iter().enumerate() {
        ingress_rule(rule, &path.child("rules").index(index), errors);
    }
    for (index, tls) in validate::list(&spec.tls).iter().enumerate() {
        let at = path.child("tls").index(index);
        for (index, host) in validate::list(&tls.hosts).iter().enumerate() {
            refuse(&at.child("hosts").index(index), host, host_name(host), errors);
        }
        let secret = validate::text(&tls.secret_name);
        if !secret.is_empty() {
            refuse(&at.child("secretName"), secret, names::dns1123_subdomain(secret), errors);
        }
    }
    if let Some(class) = &spec.ingress_class_name {
        refuse(&path.child("ingressClassName"), class, names::dns1123_subdomain(class), errors);
    }
}

fn host_name(host: &str) -> Vec<String> {
    if host.contains('*') { names::wildcard_subdomain(host) } else { names::dns1123_subdomain(host) }
}

fn ingress_rule(rule: &net::IngressRule, path: &FieldPath, errors: &mut Errors) {
    let host = validate::text(&rule.host);
    if !host.is_empty() {
        let at = path.child("host");
        if names::ip_address(host).is_empty() {
            errors.push(FieldError::invalid(&at, host, NO_ADDRESS));
        }
        refuse(&at, host, host_name(host), errors);
    }
    let Some(http) = &rule.http else { return };
    let all = path.child("http").child("paths");
    if http.paths.is_empty() {
        errors.push(FieldError::required(&all, ""));
    }
    for (index, entry) in http.paths.iter().enumerate() {
        http_path(entry, &all.index(index), errors);
    }
}

fn http_path(entry: &net::HTTPIngressPath, path: &FieldPath, errors: &mut Errors) {
    let (at, text) = (path.child("path"), validate::text(&entry.path));
    let relative = !text.starts_with('/');
    match entry.path_type.as_str() {
        "" => {
            errors.push(FieldError::required(&path.child("pathType"), "pathType must be specified"));
            return;
        }
        "Exact" | "Prefix" => {
            if relative {
                errors.push(FieldError::invalid(&at, text, "must be an absolute path"));
            }
            for part in BAD_PARTS.iter().filter(|part| text.contains(**part)) {
                errors.push(FieldError::invalid(&at, text, format!("must not contain '{part}'")));
            }
            for end in BAD_ENDS.iter().filter(|end| text.ends_with(**end)) {
                errors.push(FieldError::invalid(&at, text, format!("cannot end with '{end}'")));
            }
        }
        "ImplementationSpecific" => {
            if relative && !text.is_empty() {
                errors.push(FieldError::invalid(&at, text, "must be an absolute path"));
            }
        }
        other => errors.push(FieldError::not_supported(&path.child("pathType"), other, PATH_TYPES)),
    }
    backend(&entry.backend, &path.child("backend"), errors);
}

fn backend(backend: &net::IngressBackend, path: &FieldPath, errors: &mut Errors) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(path, "", "cannot set both resource and service backends"));
        }
        (None, None) => {
            errors.push(FieldError::invalid(path, "", "resource or service backend is required"));
        }
        (Some(resource), None) => local_reference(resource, &path.child("resource"), errors),
        (None, Some(service)) => {
            let at = path.child("service");
            require_by(&at.child("name"), &service.name, names::dns1035_label, errors);
            let port = service.port.as_ref();
            let name = port.map_or("", |p| validate::text(&p.name));
            let number = port.and_then(|p| p.number).unwrap_or_default();
            match (name, number) {
                ("", 0) => errors.push(FieldError::required(path, "port name or number is required")),
                ("", number) => validate::port(&at.child("port").child("number"), number, errors),
                (name, 0) => refuse(&at.child("port").child("name"), name, names::port_name(name), errors),
                _ => errors.push(FieldError::invalid(path, "", "cannot set both port name & port number")),
            }
        }
    }
}

fn local_reference(of: &TypedLocalObjectReference, path: &FieldPath, errors: &mut Errors) {
    if let Some(group) = &of.api_group {
        refuse(&path.child("apiGroup"), group, names::dns1123_subdomain(group), errors);
    }
    for (field, text) in [("kind", &of.kind), ("name", &of.name)] {
        validate::require_segment(&path.child(field), text, &format!("{field} is required"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hosts_are_shown() {
        for (rules, expected) in [
            (vec![], "*"),
            (vec!["", ""], "*"),
            (vec!["a", "", "b"], "a,b"),
            (vec!["a", "b", "c"], "a,b,c"),
            (vec!["a", "b", "c", "d", "e"], "a,b,c + 2 more..."),
            (vec!["a", "", "b", "c"], "a,b,c"),
            (vec!["a", "b", "c", ""], "a,b,c + 1 more..."),
        ] {
            let rules: Vec<Value> = rules.into_iter().map(|host| json!({ "host": host })).collect();
            assert_eq!(hosts(&rules), expected, "{rules:?}");
        }
    }
}
