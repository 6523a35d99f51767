//! Between v1 and v2. v1 knows one metric, the average use of the processor; what else there is rides in annotations,
//! as upstream has it, so that nothing is lost on the way.

use crate::kinds::prelude::*;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// A metric's target by its fields in v2 and, prefixed, in the annotations of v1.
struct Renamed {
    kind: &'static str,
    value: Option<&'static str>,
    average_value: Option<&'static str>,
    utilization: Option<&'static str>,
}

const KINDS: &[Renamed] = &[
    Renamed {
        kind: "resource",
        value: None,
        average_value: Some("targetAverageValue"),
        utilization: Some("targetAverageUtilization"),
    },
    Renamed {
        kind: "containerResource",
        value: None,
        average_value: Some("targetAverageValue"),
        utilization: Some("targetAverageUtilization"),
    },
    Renamed { kind: "pods", value: None, average_value: Some("targetAverageValue"), utilization: None },
    Renamed {
        kind: "object",
        value: Some("targetValue"),
        average_value: Some("averageValue"),
        utilization: None,
    },
    Renamed {
        kind: "external",
        value: Some("targetValue"),
        average_value: Some("targetAverageValue"),
        utilization: None,
    },
];

/// From v1 to v2.
pub(super) fn to_v2(object: &mut Value) {
    let riding = |key: &str| -> Option<Value> { serde_json::from_str(meta::annotation(object, key)?).ok() };
    let (metrics, behavior) = (riding(METRICS), riding(BEHAVIOR));
    let (current, conditions) = (riding(CURRENT), riding(CONDITIONS));
    drop_annotations(object);
    let Some(fields) = object.as_object_mut() else { return };
    fields.insert("apiVersion".into(), "autoscaling/v2".into());
    if let Some(spec) = defaults::object(fields, "spec") {
        let mut all: Vec<Value> = metrics
            .iter()
            .flat_map(|m| read::list(m, ""))
            .filter_map(|m| metric_to_v2(m, "target"))
            .collect();
        if let Some(percent) = spec.remove("targetCPUUtilizationPercentage").filter(|v| !v.is_null()) {
            all.push(cpu("target", "Utilization", percent));
        }
        if !all.is_empty() {
            spec.insert("metrics".into(), all.into());
        }
        if let Some(behavior) = behavior.filter(Value::is_object) {
            spec.insert("behavior".into(), behavior);
        }
    }
    if let Some(status) = defaults::object(fields, "status") {
        let mut all: Vec<Value> = current
            .iter()
            .flat_map(|m| read::list(m, ""))
            .filter_map(|m| metric_to_v2(m, "current"))
            .collect();
        if let Some(percent) = status.remove("currentCPUUtilizationPercentage").filter(|v| !v.is_null()) {
            let known = all.iter_mut().find(|m| is_cpu(m));
            match known.and_then(|m| m.pointer_mut("/resource/current")).and_then(Value::as_object_mut) {
                Some(found) => {
                    found.insert("averageUtilization".into(), percent);
                }
                None => all.push(cpu("current", "", percent)),
            }
        }
        if !all.is_empty() {
            status.insert("currentMetrics".into(), all.into());
        }
        if let Some(conditions) = conditions.filter(Value::is_array) {
            status.insert("conditions".into(), conditions);
        }
    }
}

/// From v2 to v1.
pub(super) fn to_v1(object: &mut Value) {
    let mut riding: Vec<(&str, Value)> = Vec::new();
    let Some(fields) = object.as_object_mut() else { return };
    fields.insert("apiVersion".into(), "autoscaling/v1".into());
    if let Some(spec) = defaults::object(fields, "spec") {
        if let Some(Value::Array(mut metrics)) = spec.remove("metrics") {
            let of_cpu = metrics
                .iter()
                .position(|m| is_cpu(m) && read::text(m, "/resource/target/type") == "Utilization");
            if let Some(at) = of_cpu
                && let Some(percent) = metrics[at].pointer("/resource/target/averageUtilization").cloned()
            {
                metrics.remove(at);
                spec.insert("targetCPUUtilizationPercentage".into(), percent);
            }
            let rest: Vec<Value> = metrics.iter().filter_map(|m| metric_to_v1(m, "target")).collect();
            if !rest.is_empty() {
                riding.push((METRICS, rest.into()));
            }
        }
        if let Some(behavior) = spec.remove("behavior").filter(|b| !b.is_null()) {
            riding.push((BEHAVIOR, behavior));
        }
    }
    if let Some(status) = defaults::object(fields, "status") {
        // Always there in v1, and left out in v2 when it is 0.
        set(status, "currentReplicas", 0);
        if let Some(Value::Array(metrics)) = status.remove("currentMetrics") {
            if let Some(percent) = metrics
                .iter()
                .find(|m| is_cpu(m))
                .and_then(|m| m.pointer("/resource/current/averageUtilization"))
                .cloned()
            {
                status.insert("currentCPUUtilizationPercentage".into(), percent);
            }
            let all: Vec<Value> = metrics.iter().filter_map(|m| metric_to_v1(m, "current")).collect();
            if !all.is_empty() {
                riding.push((CURRENT, all.into()));
            }
        }
        if let Some(conditions) = status.remove("conditions").filter(|c| !c.is_null()) {
            riding.push((CONDITIONS, conditions));
        }
    }
    if riding.is_empty() {
        return;
    }
    if let Some(annotations) = meta::metadata_mut(object).and_then(|m| make_object(m, "annotations")) {
        for (key, value) in riding {
            annotations.insert(key.to_owned(), value.to_string().into());
        }
    }
}

fn drop_annotations(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(annotations) = defaults::object(metadata, "annotations") else { return };
    for key in [METRICS, CURRENT, CONDITIONS, BEHAVIOR] {
        annotations.remove(key);
    }
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

fn is_cpu(metric: &Value) -> bool {
    read::text(metric, "/type") == "Resource" && read::text(metric, "/resource/name") == "cpu"
}

/// The processor's use as a metric of v2; `part` is `target` or `current`.
fn cpu(part: &str, kind: &str, percent: Value) -> Value {
    let mut value = json!({"averageUtilization": percent});
    if !kind.is_empty() {
        value["type"] = kind.into();
    }
    json!({"type": "Resource", "resource": {"name": "cpu", part: value}})
}

/// The row of a metric, its source's fields, and the metric's type.
fn source(metric: &Value) -> Option<(&'static Renamed, &Map<String, Value>)> {
    let named = KINDS.iter().find_map(|row| Some((row, metric.get(row.kind)?.as_object()?)))?;
    Some(named)
}

/// A field of v1 by its name in specs (`targetAverageValue`) for `target` or `current`.
fn v1_name(name: &str, part: &str) -> String {
    match (part, name.strip_prefix("target")) {
        ("current", Some(rest)) => format!("current{rest}"),
        ("current", None) if name == "averageValue" => name.to_owned(),
        _ => name.to_owned(),
    }
}

/// The pairs of names (v2, v1) of a row's values.
fn values(row: &Renamed, part: &str) -> Vec<(&'static str, String)> {
    [("value", row.value), ("averageValue", row.average_value), ("averageUtilization", row.utilization)]
        .into_iter()
        .filter_map(|(v2, v1)| Some((v2, v1_name(v1?, part))))
        .collect()
}

/// Where v1 keeps the name of a metric, its selector and the object it is of.
const IDENTITY: &[(&str, &str, &str)] = &[
    ("pods", "metricName", "selector"),
    ("object", "metricName", "selector"),
    ("external", "metricName", "metricSelector"),
];

fn metric_to_v2(metric: &Value, part: &str) -> Option<Value> {
    let (row, fields) = source(metric)?;
    let mut rest = fields.clone();
    let mut value = Map::new();
    for (v2, v1) in values(row, part) {
        // An empty amount beside the other one stands for none.
        if let Some(found) = rest.remove(&v1).filter(|v| !v.is_null())
            && !(v2 == "value" && fields.contains_key("averageValue") && found == "0")
        {
            value.insert(v2.to_owned(), found);
        }
    }
    if part == "target" {
        let kind = match () {
            () if value.contains_key("averageUtilization") => "Utilization",
            () if value.contains_key("averageValue") => "AverageValue",
            () => "Value",
        };
        value.insert("type".into(), kind.into());
    }
    if let Some((_, name, selector)) = IDENTITY.iter().find(|(kind, ..)| *kind == row.kind) {
        let mut identity = Map::new();
        for (from, to) in [(name, "name"), (selector, "selector")] {
            if let Some(found) = rest.remove(*from) {
                identity.insert(to.to_owned(), found);
            }
        }
        rest.insert("metric".into(), identity.into());
    }
    if row.kind == "object"
        && let Some(target) = rest.remove("target")
    {
        rest.insert("describedObject".into(), target);
    }
    rest.insert(part.to_owned(), value.into());
    Some(json!({"type": metric.get("type"), row.kind: rest}))
}

fn metric_to_v1(metric: &Value, part: &str) -> Option<Value> {
    let (row, fields) = source(metric)?;
    let mut rest = fields.clone();
    let value = rest.remove(part).unwrap_or_default();
    if let Some((_, name, selector)) = IDENTITY.iter().find(|(kind, ..)| *kind == row.kind) {
        let identity = rest.remove("metric").unwrap_or_default();
        for (from, to) in [("name", name), ("selector", selector)] {
            if let Some(found) = identity.get(from) {
                rest.insert((*to).to_owned(), found.clone());
            }
        }
    }
    if row.kind == "object"
        && let Some(described) = rest.remove("describedObject")
    {
        rest.insert("target".into(), described);
    }
    for (v2, v1) in values(row, part) {
        if let Some(found) = value.get(v2).filter(|v| !v.is_null()) {
            rest.insert(v1, found.clone());
        }
    }
    Some(json!({"type": metric.get("type"), row.kind: rest}))
}
