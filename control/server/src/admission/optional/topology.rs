//! PodTopologyLabels: a pod that is put onto a node learns the node's zone and region by its own labels.

use std::sync::Arc;

use serde_json::Value;

use super::super::field_map;
use crate::authn::{Objects, text};
use crate::{Admission, AdmissionRequest, ApiError, Draft, Operation};

/// The labels that go from the node to the pod.
pub(crate) const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// The plugin.
pub(crate) struct PodTopologyLabels {
    objects: Arc<dyn Objects>,
}

impl PodTopologyLabels {
    /// Looks nodes up in `objects`.
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }
}

#[async_trait::async_trait]
impl Admission for PodTopologyLabels {
    async fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Draft<'_>) -> Result<(), ApiError> {
        let what = request.attributes;
        if request.operation != Operation::Create || !what.api_group.is_empty() || what.resource != "pods" {
            return Ok(());
        }
        // The labels of a binding go to its pod.
        let node = match what.subresource.as_str() {
            "" => text(object, "/spec/nodeName"),
            "binding" if matches!(text(object, "/target/kind"), "" | "Node") => text(object, "/target/name"),
            _ => "",
        };
        if node.is_empty() {
            return Ok(());
        }
        let Some(node) = self.objects.get("", "nodes", "", node).await? else { return Ok(()) };
        let of_node = node.pointer("/metadata/labels").and_then(Value::as_object);
        for (label, value) in LABELS.iter().filter_map(|label| Some((*label, of_node?.get(*label)?))) {
            let metadata = field_map(object, "metadata");
            let labels = super::super::as_map(
                metadata.entry("labels").or_insert_with(|| Value::Object(serde_json::Map::new())),
            );
            labels.entry(label).or_insert_with(|| value.clone());
        }
        Ok(())
    }
}
