//! NodeMetrics and PodMetrics from what nodes measured. Pure.

use carrack_api::meta;
use carrack_api::quantity::Quantity;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::summary::Reading;
use crate::authn::text;

const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// What rates are over at most, written as Go does. Nodes compare with what they noted ten to twenty seconds before,
/// and `/stats/summary` does not tell which; metrics-server gives the most, too, where it reads that.
const WINDOW: &str = "20s";

/// The NodeMetrics of a node.
pub(super) fn node(node: &Value, reading: Reading, now: Timestamp) -> Value {
    json!({
        "kind": "NodeMetrics", "apiVersion": API_VERSION, "metadata": metadata(node, now),
        "timestamp": meta::format_time(reading.at), "window": WINDOW, "usage": usage(reading),
    })
}

/// The PodMetrics of a pod, with a reading of each container that runs; `None` without any.
pub(super) fn pod(pod: &Value, containers: &[(String, Reading)], now: Timestamp) -> Option<Value> {
    let oldest = containers.iter().map(|(_, reading)| reading.at).min()?;
    let container = |(name, reading): &(String, Reading)| json!({"name": name, "usage": usage(*reading)});
    Some(json!({
        "kind": "PodMetrics", "apiVersion": API_VERSION, "metadata": metadata(pod, now),
        "timestamp": meta::format_time(oldest), "window": WINDOW,
        "containers": containers.iter().map(container).collect::<Vec<_>>(),
    }))
}

/// The name and labels of what was measured; such an object is made when it is asked for.
fn metadata(measured: &Value, now: Timestamp) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace"] {
        let value = text(measured, &format!("/metadata/{field}"));
        if !value.is_empty() {
            metadata.insert(field.into(), value.into());
        }
    }
    metadata.insert("creationTimestamp".into(), meta::format_time(now).into());
    if let Some(labels) = meta::labels(measured).filter(|labels| !labels.is_empty()) {
        metadata.insert("labels".into(), labels.clone().into());
    }
    metadata.into()
}

fn usage(reading: Reading) -> Value {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    json!({
        "cpu": Quantity::from_nano(number(reading.nano_cores)).to_string(),
        "memory": Quantity::from_bytes(number(reading.working_set)).to_string(),
    })
}
