//! NodeMetrics and PodMetrics (`metrics.k8s.io/v1beta1`): what nodes and pods use. They are answered and never stored.

mod types;

use serde_json::Value;

use super::{BASE, gvk};
use crate::meta;
use crate::quantity::Quantity;
use crate::resource::{Resource, Scope, Verb};
use crate::schema::TypeRef;
use crate::table::{Column, Printer, read};

pub(crate) const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";

/// What both rows share.
const ROW: Resource = Resource {
    group: GROUP,
    version: VERSION,
    api_version: "metrics.k8s.io/v1beta1",
    // metrics-server has none, so that `kubectl get pod` means the core group's.
    singular: "",
    verbs: &[Verb::Get, Verb::List],
    ..BASE
};

/// The row of nodes.
pub(super) const NODES: Resource = Resource {
    kind: "NodeMetrics",
    list_kind: "NodeMetricsList",
    plural: "nodes",
    scope: Scope::Cluster,
    storage: gvk(GROUP, VERSION, "NodeMetrics"),
    schema: TypeRef::of::<types::NodeMetrics>(types::NODE),
    printer: Printer { columns: COLUMNS, cells: node_cells },
    ..ROW
};

/// The row of pods.
pub(super) const PODS: Resource = Resource {
    kind: "PodMetrics",
    list_kind: "PodMetricsList",
    plural: "pods",
    storage: gvk(GROUP, VERSION, "PodMetrics"),
    schema: TypeRef::of::<types::PodMetrics>(types::POD),
    printer: Printer { columns: COLUMNS, cells: pod_cells },
    ..ROW
};

/// metrics-server's columns, whose names are those of resources.
const COLUMNS: &[Column] = &[
    Column { description: "Name of the resource", ..Column::NAME },
    Column { format: "quantity", ..Column::text("cpu", "") },
    Column { format: "quantity", ..Column::text("memory", "") },
    Column { format: "duration", ..Column::text("Window", "") },
];

fn node_cells(object: &Value, _: jiff::Timestamp) -> Vec<Value> {
    cells(object, std::slice::from_ref(object))
}

fn pod_cells(object: &Value, _: jiff::Timestamp) -> Vec<Value> {
    cells(object, read::list(object, "/containers"))
}

/// The object's name, the sums of what `users` use, and the window.
fn cells(object: &Value, users: &[Value]) -> Vec<Value> {
    let sum = |resource: &str| {
        let used = |user: &Value| Quantity::parse(read::text(user, &format!("/usage/{resource}"))).ok();
        let sum = users.iter().filter_map(used).reduce(Quantity::plus).unwrap_or(Quantity::ZERO);
        Value::from(sum.to_string())
    };
    vec![meta::name(object).into(), sum("cpu"), sum("memory"), read::text(object, "/window").into()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        let usage = |cpu: &str, memory: &str| json!({"usage": {"cpu": cpu, "memory": memory}});
        let pod = json!({
            "metadata": {"name": "web"}, "window": "20s",
            "containers": [usage("1500u", "1Mi"), usage("250n", "1024Ki")],
        });
        let now = jiff::Timestamp::UNIX_EPOCH;
        assert_eq!(pod_cells(&pod, now), ["web", "1500250n", "2Mi", "20s"]);
        let node =
            json!({"metadata": {"name": "n"}, "window": "20s", "usage": {"cpu": "1", "memory": "3Ki"}});
        assert_eq!(node_cells(&node, now), ["n", "1", "3Ki", "20s"]);
    }
}
