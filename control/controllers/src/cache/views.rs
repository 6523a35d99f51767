//! Pods, nodes and node leases with only the fields that a plan reads: a tenth of the whole objects, and read
//! straight from the watch.

use carrack_client::{nullable, view_of};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{self as core, ContainerPort, PodIP, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use serde::Deserialize;

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
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

/// The fields of a pod's spec that controllers read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it is bound to.
    pub node_name: Option<String>,
    /// Host name of its own.
    pub hostname: Option<String>,
    /// Name of the headless service that gives it a DNS name.
    pub subdomain: Option<String>,
    /// Taints that it endures.
    #[serde(deserialize_with = "nullable")]
    pub tolerations: Vec<Toleration>,
    /// Containers, for their ports.
    #[serde(deserialize_with = "nullable")]
    pub containers: Vec<Container>,
    /// Init containers, for the ports of those that stay (restartPolicy Always).
    #[serde(deserialize_with = "nullable")]
    pub init_containers: Vec<Container>,
    /// Volumes, for the claims behind them.
    #[serde(deserialize_with = "nullable")]
    pub volumes: Vec<Volume>,
}

/// A volume of a pod, for the claim behind it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The claim that it is.
    pub persistent_volume_claim: Option<ClaimSource>,
    /// There when a claim is made for the pod alone.
    pub ephemeral: Option<Made>,
}

/// A claim, by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSource {
    /// The claim's name.
    pub claim_name: String,
}

/// Says that something is there, and nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Made {}

/// A container, for its ports.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its ports.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<ContainerPort>,
    /// `Always` makes an init container a sidecar.
    pub restart_policy: Option<String>,
}

/// The fields of a pod's status that controllers read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Pending, Running, Succeeded, Failed or Unknown.
    pub phase: Option<String>,
    /// Its first address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// Its addresses.
    #[serde(rename = "podIPs", deserialize_with = "nullable")]
    pub pod_ips: Vec<PodIP>,
    /// Conditions.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<PodCondition>,
    /// For restart counts.
    #[serde(deserialize_with = "nullable")]
    pub container_statuses: Vec<ContainerStatus>,
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCondition {
    /// `Ready`, `PodScheduled` …
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word why.
    pub reason: Option<String>,
    /// When the status last changed.
    pub last_transition_time: Option<Time>,
}

/// The restart count of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// How often it was started again.
    pub restart_count: i32,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
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

/// The fields of a node's spec that controllers read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// First address range for its pods.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    /// Address ranges for its pods, one for each family.
    #[serde(rename = "podCIDRs", deserialize_with = "nullable")]
    pub pod_cidrs: Vec<String>,
    /// Taints.
    #[serde(deserialize_with = "nullable")]
    pub taints: Vec<Taint>,
    /// Cordoned.
    #[serde(deserialize_with = "nullable")]
    pub unschedulable: bool,
}

/// The fields of a node's status that controllers read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Conditions.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<NodeCondition>,
}

/// A condition of a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeCondition {
    /// `Ready`, `MemoryPressure` …
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word why.
    pub reason: Option<String>,
    /// When the node last said so.
    pub last_heartbeat_time: Option<Time>,
    /// When the status last changed.
    pub last_transition_time: Option<Time>,
}

/// The Lease by which a node shows that it lives.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct NodeLease {
    /// Metadata; the name is the node's.
    pub metadata: ObjectMeta,
    /// The renewal.
    #[serde(default)]
    pub spec: NodeLeaseSpec,
}
view_of!(NodeLease, Lease);

/// The field of a Lease that matters here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeLeaseSpec {
    /// When it was last renewed, by the node's clock.
    pub renew_time: Option<MicroTime>,
}

impl PodSpec {
    /// The node that the pod is bound to.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.node_name.as_deref().filter(|name| !name.is_empty())
    }
}

impl Pod {
    /// Whether it has ended, well or badly.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    /// Whether its deletion was asked for.
    #[must_use]
    pub fn terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it counts as a replica: neither ended nor terminating.
    #[must_use]
    pub fn active(&self) -> bool {
        !self.ended() && !self.terminating()
    }

    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&PodCondition> {
        self.status.conditions.iter().find(|c| c.type_ == type_)
    }

    /// Whether the Ready condition is True.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.condition("Ready").is_some_and(|c| c.status == "True")
    }

    /// Since when it has been ready; `None` when it is not, or when that is not recorded.
    #[must_use]
    pub fn ready_since(&self) -> Option<jiff::Timestamp> {
        let ready = self.condition("Ready").filter(|c| c.status == "True")?;
        ready.last_transition_time.as_ref().map(|t| t.0)
    }

    /// The uid, empty when the server gave none.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }
}

impl Node {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&NodeCondition> {
        self.status.conditions.iter().find(|c| c.type_ == type_)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}
