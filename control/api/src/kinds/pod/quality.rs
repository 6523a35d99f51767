//! The quality-of-service class of a pod, which follows from its requests and limits.

use serde_json::Value;

use crate::quantity::Quantity;

/// The class of a pod with defaults.
pub(super) fn class(pod: &Value) -> &'static str {
    let resources = match pod.pointer("/spec/resources") {
        Some(whole) => vec![whole],
        None => ["initContainers", "containers"]
            .iter()
            .filter_map(|list| pod.get("spec")?.get(list)?.as_array())
            .flatten()
            .map(|container| container.get("resources").unwrap_or(&Value::Null))
            .collect(),
    };
    let of = |resources: &Value, sort: &str, name: &str| -> Option<Quantity> {
        let amount = resources.get(sort)?.get(name)?.as_str()?.parse::<Quantity>().ok()?;
        (!amount.is_zero()).then_some(amount)
    };
    let mut any = false;
    let mut guaranteed = true;
    for resources in resources {
        for name in ["cpu", "memory"] {
            let (request, limit) = (of(resources, "requests", name), of(resources, "limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
