//! Pods and nodes with only the fields that scheduling reads.

use std::collections::BTreeMap;

use carrack_client::{nullable, view_of};
use k8s_openapi::api::core::v1::{
    self as core, Affinity, ContainerPort, PodCondition, PodSchedulingGate, ResourceRequirements, Taint,
    Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Pod {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: PodSpec,
    /// What is.
    #[serde(default)]
    pub status: PodStatus,
}
view_of!(Pod, core::Pod);

/// The fields of a pod's spec that scheduling reads.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it is bound to.
    pub node_name: Option<String>,
    /// Who schedules it.
    pub scheduler_name: Option<String>,
    /// The larger, the sooner.
    pub priority: Option<i32>,
    /// `Never`: no other pod is evicted for it.
    pub preemption_policy: Option<String>,
    /// While there is any, it waits.
    #[serde(deserialize_with = "nullable")]
    pub scheduling_gates: Vec<PodSchedulingGate>,
    /// Labels that its node must have.
    #[serde(deserialize_with = "nullable")]
    pub node_selector: BTreeMap<String, String>,
    /// Nodes and pods that it must or should be near or far from.
    pub affinity: Option<Affinity>,
    /// Taints that it endures.
    #[serde(deserialize_with = "nullable")]
    pub tolerations: Vec<Toleration>,
    /// How its kind is to be spread.
    #[serde(deserialize_with = "nullable")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Containers.
    #[serde(deserialize_with = "nullable")]
    pub containers: Vec<Container>,
    /// Containers that run before, or (restartPolicy Always) beside them.
    #[serde(deserialize_with = "nullable")]
    pub init_containers: Vec<Container>,
    /// What the pod takes on top of its containers.
    #[serde(deserialize_with = "nullable")]
    pub overhead: Amounts,
    /// What the pod as a whole asks for.
    pub resources: Option<ResourceRequirements>,
    /// Volumes.
    #[serde(deserialize_with = "nullable")]
    pub volumes: Vec<Volume>,
    /// Devices that are claimed.
    #[serde(deserialize_with = "nullable")]
    pub resource_claims: Vec<serde_json::Value>,
}

/// A volume of a pod: of its many forms (3 kB, were they all here) only those that decide where the pod can be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// There when it is a claim.
    pub persistent_volume_claim: Option<Made>,
    /// There when a claim is made for the pod alone.
    pub ephemeral: Option<Made>,
}

/// Says that something is there, and nothing of it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Made {}

/// The fields of a container that scheduling reads.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its image.
    pub image: Option<String>,
    /// What it asks for.
    #[serde(deserialize_with = "nullable")]
    pub resources: ResourceRequirements,
    /// Its ports, of which those on the host matter.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<ContainerPort>,
    /// `Always` makes an init container a sidecar.
    pub restart_policy: Option<String>,
}

/// The fields of a pod's status that scheduling reads.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    /// Pending, Running, Succeeded, Failed or Unknown.
    pub phase: Option<String>,
    /// Conditions, of which PodScheduled matters.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<PodCondition>,
}

/// A node.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Node {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: NodeSpec,
    /// What is.
    #[serde(default)]
    pub status: NodeStatus,
}
view_of!(Node, core::Node);

/// The fields of a node's spec that scheduling reads.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Cordoned.
    #[serde(deserialize_with = "nullable")]
    pub unschedulable: bool,
    /// Taints.
    #[serde(deserialize_with = "nullable")]
    pub taints: Vec<Taint>,
}

/// The fields of a node's status that scheduling reads.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// What pods may take.
    #[serde(deserialize_with = "nullable")]
    pub allocatable: Amounts,
    /// What there is; counts where `allocatable` is empty.
    #[serde(deserialize_with = "nullable")]
    pub capacity: Amounts,
    /// Images that it has.
    #[serde(deserialize_with = "nullable")]
    pub images: Vec<Image>,
}

/// An image on a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Image {
    /// Its names.
    #[serde(deserialize_with = "nullable")]
    pub names: Vec<String>,
    /// Its size in bytes.
    pub size_bytes: i64,
}

impl Pod {
    /// The node that the pod is bound to.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.spec.node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// The uid, empty when the server gave none.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Whether it has ended, well or badly: then it takes nothing any more.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    /// Drops what nobody reads of a pod that has its node: most pods are such.
    pub(crate) fn trim(&mut self) {
        let meta = &mut self.metadata;
        meta.managed_fields = None;
        meta.annotations = None;
        meta.owner_references = None;
        if self.node().is_none() {
            return;
        }
        self.metadata.labels = None;
        self.status.conditions = Vec::new();
        let spec = &mut self.spec;
        spec.affinity = None;
        spec.tolerations = Vec::new();
        spec.node_selector = BTreeMap::new();
        spec.topology_spread_constraints = Vec::new();
        spec.volumes = Vec::new();
        spec.resource_claims = Vec::new();
        for container in spec.containers.iter_mut().chain(&mut spec.init_containers) {
            container.image = None;
        }
    }
}
