//! The row that `kubectl get services` prints.

use jiff::Timestamp;
use serde_json::Value;

use crate::meta;
use crate::table::read::{age, balanced, integer, labels, list, or_none, text};
use crate::table::{Column, Printer};

pub(super) const PRINTER: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Type", "core.v1.ServiceSpec#type"),
        Column::text("Cluster-IP", "core.v1.ServiceSpec#clusterIP"),
        Column::text("External-IP", "core.v1.ServiceSpec#externalIPs"),
        Column::text("Port(s)", "core.v1.ServiceSpec#ports"),
        Column::AGE,
        Column::text("Selector", "core.v1.ServiceSpec#selector").wide(),
    ],
    cells,
};

fn cells(service: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(service, "/spec/ports").iter().map(port).collect();
    let address = match text(service, "/spec/clusterIPs/0") {
        "" => text(service, "/spec/clusterIP"),
        first => first,
    };
    vec![
        meta::name(service).into(),
        text(service, "/spec/type").into(),
        or_none(address).into(),
        external(service).into(),
        or_none(&ports.join(",")).into(),
        age(service, now),
        labels(service.pointer("/spec/selector")).into(),
    ]
}

fn port(port: &Value) -> String {
    let (number, protocol) = (integer(port, "/port"), text(port, "/protocol"));
    match integer(port, "/nodePort") {
        0 => format!("{number}/{protocol}"),
        node => format!("{number}:{node}/{protocol}"),
    }
}

fn external(service: &Value) -> String {
    let given: Vec<&str> = list(service, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match text(service, "/spec/type") {
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let mut all = balanced(service);
            all.extend(given);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ClusterIP" | "NodePort" => or_none(&given.join(",")).to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_from_outside_are_in_order_and_each_once() {
        let shown = |kind: &str, given: Value, points: Value| {
            external(&json!({"spec": {"type": kind, "externalIPs": given},
                "status": {"loadBalancer": {"ingress": points}}}))
        };
        let points =
            json!([{"ip": "192.0.2.9"}, {"hostname": "b"}, {"ip": "192.0.2.1"}, {"hostname": "b"}, {}]);
        for (kind, given, points, expected) in [
            ("LoadBalancer", json!([]), points.clone(), "192.0.2.1,192.0.2.9,b"),
            ("LoadBalancer", json!(["1.1.1.1"]), points, "192.0.2.1,192.0.2.9,b,1.1.1.1"),
            ("LoadBalancer", json!(["2.2.2.2", "1.1.1.1"]), json!(null), "2.2.2.2,1.1.1.1"),
            ("LoadBalancer", json!(null), json!([{}]), "<pending>"),
            ("NodePort", json!(["1.1.1.1"]), json!(null), "1.1.1.1"),
            ("ClusterIP", json!(null), json!(null), "<none>"),
            ("Other", json!(null), json!(null), "<unknown>"),
        ] {
            assert_eq!(shown(kind, given, points), expected);
        }
    }
}
