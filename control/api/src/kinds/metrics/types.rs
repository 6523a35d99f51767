//! The schemas of `metrics.k8s.io/v1beta1`, which `k8s-openapi` does not have. Upstream: staging/src/k8s.io/metrics,
//! pkg/apis/metrics/v1beta1/types.go.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// OpenAPI names.
pub(super) const NODE: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics";
pub(super) const POD: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics";
const CONTAINER: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1.ContainerMetrics";
const DURATION: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Duration";

/// What a node uses.
pub(super) struct NodeMetrics;
/// What the containers of a pod use.
pub(super) struct PodMetrics;
/// What a container uses.
struct ContainerMetrics;
/// A time span as Go writes it.
struct Duration;

impl JsonSchema for NodeMetrics {
    fn schema_name() -> Cow<'static, str> {
        NODE.into()
    }

    fn json_schema(types: &mut SchemaGenerator) -> Schema {
        let about = "NodeMetrics sets resource usage metrics of a node.";
        of_window(types, about, "usage", usage)
    }
}

impl JsonSchema for PodMetrics {
    fn schema_name() -> Cow<'static, str> {
        POD.into()
    }

    fn json_schema(types: &mut SchemaGenerator) -> Schema {
        let about = "PodMetrics sets resource usage metrics of a pod.";
        of_window(types, about, "containers", |types| {
            json!({
                "description": "Metrics for all containers are collected within the same time window.",
                "type": "array",
                "items": types.subschema_for::<ContainerMetrics>(),
            })
        })
    }
}

impl JsonSchema for ContainerMetrics {
    fn schema_name() -> Cow<'static, str> {
        CONTAINER.into()
    }

    fn json_schema(types: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "ContainerMetrics sets resource usage metrics of a container.",
            "type": "object",
            "properties": {
                "name": {
                    "description": "Container name corresponding to the one from pod.spec.containers.",
                    "type": "string",
                },
                "usage": usage(types),
            },
            "required": ["name", "usage"],
        })
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        DURATION.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Duration is a span of time such as 15s or 1m30.5s.",
            "type": "string",
        })
    }
}

/// An object that tells of a window of time in its field `field`.
fn of_window(
    types: &mut SchemaGenerator,
    about: &str,
    field: &str,
    make: impl FnOnce(&mut SchemaGenerator) -> Value,
) -> Schema {
    let window = "The following fields define time interval from which metrics were collected from the interval \
                  [Timestamp-Window, Timestamp].";
    let text = |description: &str| json!({"description": description, "type": "string"});
    let mut schema = json_schema!({
        "description": about,
        "type": "object",
        "properties": {
            "apiVersion": text("The versioned schema of this representation of an object."),
            "kind": text("The REST resource this object represents, in CamelCase."),
            "metadata": types.subschema_for::<ObjectMeta>(),
            "timestamp": described(types.subschema_for::<Time>(), window),
            "window": types.subschema_for::<Duration>(),
        },
        "required": ["timestamp", "window", field],
    });
    let value = make(types);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(field.to_owned(), value);
    }
    schema
}

/// Quantities by the names of resources.
fn usage(types: &mut SchemaGenerator) -> Value {
    json!({
        "description": "The memory usage is the memory working set.",
        "type": "object",
        "additionalProperties": types.subschema_for::<Quantity>(),
    })
}

fn described(mut schema: Schema, description: &str) -> Schema {
    schema.insert("description".to_owned(), description.into());
    schema
}
