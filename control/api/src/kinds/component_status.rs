//! ComponentStatuses: how the parts of the control plane are. They are answered and never stored.

use k8s_openapi::api::core as core_api;
use serde_json::Value;

use super::{BASE, core};
use crate::meta;
use crate::resource::{Resource, Scope, Verb};
use crate::schema::TypeRef;
use crate::table::{Column, Printer, read};

/// The row of componentstatuses.
pub(super) const RESOURCE: Resource = Resource {
    kind: "ComponentStatus",
    list_kind: "ComponentStatusList",
    plural: "componentstatuses",
    singular: "componentstatus",
    short_names: &["cs"],
    scope: Scope::Cluster,
    verbs: &[Verb::Get, Verb::List],
    storage: core("v1", "ComponentStatus"),
    schema: TypeRef::of::<core_api::v1::ComponentStatus>("io.k8s.api.core.v1.ComponentStatus"),
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Status", "Status of the component conditions"),
            Column::text("Message", "Message of the component conditions"),
            Column::text("Error", "Error of the component conditions"),
        ],
        cells,
    },
    ..BASE
};

fn cells(object: &Value, _: jiff::Timestamp) -> Vec<Value> {
    let healthy = read::list(object, "/conditions").iter().find(|c| c["type"] == "Healthy");
    let Some(condition) = healthy else {
        return vec![meta::name(object).into(), "Unknown".into(), "".into(), "".into()];
    };
    let status = if condition["status"] == "True" { "Healthy" } else { "Unhealthy" };
    let text = |field: &str| Value::from(read::text(condition, field));
    vec![meta::name(object).into(), status.into(), text("/message"), text("/error")]
}
