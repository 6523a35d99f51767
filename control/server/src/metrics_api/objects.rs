//! NodeMetrics and PodMetrics from what nodes measured. Pure.

use std::time::Duration;

use carrack_api::meta;
use carrack_api::quantity::Quantity;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::summary::Reading;
use crate::authn::text;

const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// What rates of nodes that do not tell are over at most: the kubelet compares with what it noted ten to twenty seconds
/// before.
const UNKNOWN: Duration = Duration::from_secs(20);

/// The NodeMetrics of a node.
pub(super) fn node(node: &Value, reading: Reading, now: Timestamp) -> Value {
    json!({
        "kind": "NodeMetrics", "apiVersion": API_VERSION, "metadata": metadata(node, now),
        "timestamp": meta::format_time(reading.at), "window": window(reading), "usage": usage(reading),
    })
}

/// The PodMetrics of a pod, with a reading of each container that runs; `None` without any.
pub(super) fn pod(pod: &Value, containers: &[(String, Reading)], now: Timestamp) -> Option<Value> {
    let oldest = *containers.iter().map(|(_, reading)| reading).min_by_key(|reading| reading.at)?;
    let container = |(name, reading): &(String, Reading)| json!({"name": name, "usage": usage(*reading)});
    Some(json!({
        "kind": "PodMetrics", "apiVersion": API_VERSION, "metadata": metadata(pod, now),
        "timestamp": meta::format_time(oldest.at), "window": window(oldest),
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

/// Over how long a rate is, as Go writes durations: `14.213s`.
fn window(reading: Reading) -> String {
    let over = reading.over.unwrap_or(UNKNOWN);
    if over < Duration::from_secs(1) {
        return match over.subsec_millis() {
            0 => "0s".to_owned(),
            millis => format!("{millis}ms"),
        };
    }
    let (minutes, seconds) = (over.as_secs() / 60, over.as_secs() % 60);
    let mut text = match (minutes / 60, minutes % 60) {
        (0, 0) => String::new(),
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    };
    text += &seconds.to_string();
    match over.subsec_millis() {
        0 => {}
        millis => text += format!(".{millis:03}").trim_end_matches('0'),
    }
    text + "s"
}

fn usage(reading: Reading) -> Value {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    json!({
        "cpu": Quantity::from_nano(number(reading.nano_cores)).to_string(),
        "memory": Quantity::from_bytes(number(reading.working_set)).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_written_as_go_does() {
        for (millis, expected) in [
            (None, "20s"),
            (Some(14_213), "14.213s"),
            (Some(12_000), "12s"),
            (Some(10_050), "10.05s"),
            (Some(61_500), "1m1.5s"),
            (Some(3_600_000), "1h0m0s"),
            (Some(250), "250ms"),
            (Some(0), "0s"),
        ] {
            let over = millis.map(Duration::from_millis);
            let reading = Reading { at: Timestamp::UNIX_EPOCH, nano_cores: 0, over, working_set: 1 };
            assert_eq!(window(reading), expected);
        }
    }
}
