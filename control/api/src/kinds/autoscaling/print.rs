//! The row that `kubectl get hpa` prints.

use super::convert;
use crate::kinds::prelude::*;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Reference", "autoscaling.v2.HorizontalPodAutoscalerSpec#scaleTargetRef"),
    Column::text("Targets", "autoscaling.v2.HorizontalPodAutoscalerSpec#metrics"),
    Column::text("MinPods", "autoscaling.v2.HorizontalPodAutoscalerSpec#minReplicas"),
    Column::text("MaxPods", "autoscaling.v2.HorizontalPodAutoscalerSpec#maxReplicas"),
    Column::text("Replicas", "autoscaling.v2.HorizontalPodAutoscalerStatus#currentReplicas"),
    Column::AGE,
];

pub(super) const V2: Printer = Printer { columns: COLUMNS, cells };
pub(super) const V1: Printer = Printer { columns: COLUMNS, cells: v1_cells };

fn v1_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut object = object.clone();
    convert::to_v2(&mut object);
    cells(&object, now)
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let target = object.pointer("/spec/scaleTargetRef").unwrap_or(&Value::Null);
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    vec![
        meta::name(object).into(),
        format!("{}/{}", read::text(target, "/kind"), read::text(target, "/name")).into(),
        targets(read::list(object, "/spec/metrics"), read::list(object, "/status/currentMetrics")).into(),
        number("/spec/minReplicas").map_or_else(|| "<unset>".to_owned(), |n| n.to_string()).into(),
        number("/spec/maxReplicas").unwrap_or_default().into(),
        number("/status/currentReplicas").unwrap_or_default().into(),
        age(object, now),
    ]
}

/// Most metrics that are printed.
const SHOWN: usize = 2;

fn targets(specs: &[Value], statuses: &[Value]) -> String {
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let all: Vec<String> =
        specs.iter().enumerate().map(|(at, spec)| target(spec, statuses.get(at))).collect();
    let text = all[..all.len().min(SHOWN)].join(", ");
    if all.len() > SHOWN { format!("{text} + {} more...", all.len() - SHOWN) } else { text }
}

fn target(spec: &Value, status: Option<&Value>) -> String {
    const UNKNOWN: &str = "<unknown>";
    let kind = match read::text(spec, "/type") {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let wanted = spec.get(kind).and_then(|s| s.get("target")).unwrap_or(&Value::Null);
    let current = status.and_then(|s| s.get(kind)?.get("current")).unwrap_or(&Value::Null);
    let amount = |of: &Value, field: &str| of.get(field).and_then(Value::as_str).map(str::to_owned);
    let percent = |of: &Value| of.get("averageUtilization").and_then(Value::as_i64).map(|n| format!("{n}%"));
    let unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    match kind {
        "resource" | "containerResource" => {
            let name = spec.get(kind).map_or("", |s| read::text(s, "/name"));
            match amount(wanted, "averageValue") {
                Some(most) => format!("{name}: {}/{most}", unknown(amount(current, "averageValue"))),
                None => {
                    let most = percent(wanted).unwrap_or_else(|| "<auto>".to_owned());
                    format!("{name}: {}/{most}", unknown(percent(current)))
                }
            }
        }
        "pods" => format!(
            "{}/{}",
            unknown(amount(current, "averageValue")),
            amount(wanted, "averageValue").unwrap_or_default()
        ),
        _ => match amount(wanted, "averageValue") {
            Some(most) => format!("{}/{most} (avg)", unknown(amount(current, "averageValue"))),
            None => format!(
                "{}/{}",
                unknown(amount(current, "value")),
                amount(wanted, "value").unwrap_or_default()
            ),
        },
    }
}
