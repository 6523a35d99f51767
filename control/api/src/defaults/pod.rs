//! Defaults of pods and pod templates.

use serde_json::{Map, Value};

use super::{Fields, container, make_object, object, objects, set, volume};
use crate::quantity::Quantity;

/// Seconds a pod gets to end by itself.
const GRACE_SECONDS: i64 = 30;

/// Lists of containers of a pod's spec.
const CONTAINERS: &[&str] = &["initContainers", "containers"];

/// Defaults of a Pod.
pub(crate) fn pod(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    pod_spec(spec);
    for list in CONTAINERS {
        for container in objects(spec, list) {
            container::requests_from_limits(container);
        }
    }
    pod_requests(spec);
    set(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        for list in CONTAINERS {
            for container in objects(spec, list) {
                container::host_ports(container);
            }
        }
    }
}

/// Defaults of a `spec.template`.
pub(crate) fn pod_template(template: &mut Fields) {
    make_object(template, "metadata");
    if let Some(spec) = make_object(template, "spec") {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Fields) {
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "restartPolicy", "Always");
    set(spec, "terminationGracePeriodSeconds", GRACE_SECONDS);
    set(spec, "schedulerName", "default-scheduler");
    set(spec, "securityContext", Map::new());
    service_account(spec);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in objects(spec, list) {
            container::container(container);
        }
    }
    for volume in objects(spec, "volumes") {
        volume::volume(volume);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are kept equal.
fn service_account(spec: &mut Fields) {
    let name = match super::text(spec, "serviceAccountName") {
        "" => super::text(spec, "serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if !name.is_empty() {
        spec.insert("serviceAccountName".into(), name.as_str().into());
        spec.insert("serviceAccount".into(), name.into());
    }
}

/// Requests of the pod as a whole, where it has resources of its own: what its containers request, or its own limit.
fn pod_requests(spec: &mut Fields) {
    let Some(limits) =
        spec.get("resources").and_then(|r| r.get("limits")).and_then(Value::as_object).cloned()
    else {
        return;
    };
    let sums: Vec<(String, Value)> = limits
        .into_iter()
        .map(|(name, limit)| {
            let requested = containers_request(spec, &name);
            (name, requested.map_or(limit, |q| q.to_string().into()))
        })
        .collect();
    let Some(requests) = object(spec, "resources").and_then(|r| make_object(r, "requests")) else { return };
    for (name, value) in sums {
        set(requests, &name, value);
    }
}

fn containers_request(spec: &Fields, resource: &str) -> Option<Quantity> {
    spec.get("containers")?
        .as_array()?
        .iter()
        .filter_map(|c| {
            c.get("resources")?.get("requests")?.get(resource)?.as_str()?.parse::<Quantity>().ok()
        })
        .reduce(Quantity::plus)
}
