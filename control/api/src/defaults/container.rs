//! Defaults of containers of all three sorts.

use serde_json::{Map, Value};

use super::{Fields, make_object, object, objects, set, set_nonzero, text};

/// Whole numbers of a probe that are 0 when they are left out.
const PROBE: &[(&str, i64)] =
    &[("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)];

/// Defaults of one container.
pub(super) fn container(container: &mut Fields) {
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    let policy = pull_policy(text(container, "image"));
    set(container, "imagePullPolicy", policy);
    set(container, "resources", Map::new());
    for port in objects(container, "ports") {
        set(port, "protocol", "TCP");
    }
    for variable in objects(container, "env") {
        if let Some(source) = object(variable, "valueFrom") {
            field_source(source);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object(container, name) {
            for (field, value) in PROBE {
                set_nonzero(probe, field, *value);
            }
            handler(probe);
        }
    }
    if let Some(lifecycle) = object(container, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(hook) = object(lifecycle, name) {
                handler(hook);
            }
        }
    }
}

/// The pull policy of an image that has none: a tag that moves is pulled each time.
pub(super) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, ""), |(name, digest)| (name, digest));
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if digest.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

/// The parts of `valueFrom` or of a downward API item that have defaults.
pub(super) fn field_source(source: &mut Fields) {
    if let Some(field) = object(source, "fieldRef") {
        set(field, "apiVersion", "v1");
    }
    if let Some(resource) = object(source, "resourceFieldRef") {
        set(resource, "divisor", "0");
    }
}

fn handler(handler: &mut Fields) {
    if let Some(http) = object(handler, "httpGet") {
        set(http, "path", "/");
        set(http, "scheme", "HTTP");
    }
    if let Some(grpc) = object(handler, "grpc") {
        set(grpc, "service", "");
    }
}

/// What is limited and not requested is requested up to its limit.
pub(super) fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = object(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).filter(|l| !l.is_empty()).cloned()
    else {
        return;
    };
    let Some(requests) = make_object(resources, "requests") else { return };
    for (name, limit) in limits {
        set(requests, &name, limit);
    }
}

/// In the host's network a port of the container is a port of the host.
pub(super) fn host_ports(container: &mut Fields) {
    for port in objects(container, "ports") {
        if let Some(number) = port.get("containerPort").cloned() {
            set_nonzero(port, "hostPort", number);
        }
    }
}
