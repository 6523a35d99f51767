//! The kinds that controllers read and write, and their paths in the API.

use std::borrow::Cow;

use carrack_client::Key;

/// One kind of object: enough to build a path and to refer to an object of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The API group, empty for the core group.
    pub group: Cow<'static, str>,
    /// The version within the group.
    pub version: Cow<'static, str>,
    /// The kind, `Pod`.
    pub kind: Cow<'static, str>,
    /// The name in paths, `pods`.
    pub plural: Cow<'static, str>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
}

const fn known(group: &'static str, kind: &'static str, plural: &'static str, namespaced: bool) -> Resource {
    Resource {
        group: Cow::Borrowed(group),
        version: Cow::Borrowed("v1"),
        kind: Cow::Borrowed(kind),
        plural: Cow::Borrowed(plural),
        namespaced,
    }
}

/// Pods.
pub const POD: Resource = known("", "Pod", "pods", true);
/// Nodes.
pub const NODE: Resource = known("", "Node", "nodes", false);
/// Namespaces.
pub const NAMESPACE: Resource = known("", "Namespace", "namespaces", false);
/// Services.
pub const SERVICE: Resource = known("", "Service", "services", true);
/// Endpoints of the core group.
pub const ENDPOINTS: Resource = known("", "Endpoints", "endpoints", true);
/// ConfigMaps.
pub const CONFIG_MAP: Resource = known("", "ConfigMap", "configmaps", true);
/// Service accounts.
pub const SERVICE_ACCOUNT: Resource = known("", "ServiceAccount", "serviceaccounts", true);
/// Resource quotas.
pub const RESOURCE_QUOTA: Resource = known("", "ResourceQuota", "resourcequotas", true);
/// Claims.
pub const PERSISTENT_VOLUME_CLAIM: Resource =
    known("", "PersistentVolumeClaim", "persistentvolumeclaims", true);
/// Volumes.
pub const PERSISTENT_VOLUME: Resource = known("", "PersistentVolume", "persistentvolumes", false);
/// Cluster roles.
pub const CLUSTER_ROLE: Resource = known("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", false);
/// Deployments.
pub const DEPLOYMENT: Resource = known("apps", "Deployment", "deployments", true);
/// Replica sets.
pub const REPLICA_SET: Resource = known("apps", "ReplicaSet", "replicasets", true);
/// Stateful sets.
pub const STATEFUL_SET: Resource = known("apps", "StatefulSet", "statefulsets", true);
/// Replication controllers.
pub const REPLICATION_CONTROLLER: Resource =
    known("", "ReplicationController", "replicationcontrollers", true);
/// Disruption budgets.
pub const DISRUPTION_BUDGET: Resource = known("policy", "PodDisruptionBudget", "poddisruptionbudgets", true);
/// Endpoint slices.
pub const ENDPOINT_SLICE: Resource = known("discovery.k8s.io", "EndpointSlice", "endpointslices", true);

impl Resource {
    /// `apps/v1`, or `v1` in the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployments.apps`, or `pods` in the core group: the name that people know.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_string()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The path of the collection, in `namespace` when that is not empty.
    #[must_use]
    pub fn collection(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let version = self.api_version();
        if self.namespaced && !namespace.is_empty() {
            format!("{root}/{version}/namespaces/{namespace}/{}", self.plural)
        } else {
            format!("{root}/{version}/{}", self.plural)
        }
    }

    /// The path of one object, or of its `subresource` when that is not empty.
    #[must_use]
    pub fn object(&self, key: &Key, subresource: &str) -> String {
        let collection = self.collection(&key.namespace);
        if subresource.is_empty() {
            format!("{collection}/{}", key.name)
        } else {
            format!("{collection}/{}/{subresource}", key.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_core_and_of_other_groups() {
        assert_eq!(POD.object(&Key::new("a", "b"), "status"), "/api/v1/namespaces/a/pods/b/status");
        assert_eq!(DEPLOYMENT.collection("a"), "/apis/apps/v1/namespaces/a/deployments");
        assert_eq!(NODE.object(&Key::cluster("n"), ""), "/api/v1/nodes/n");
        assert_eq!(POD.collection(""), "/api/v1/pods");
        assert_eq!(DEPLOYMENT.full_name(), "deployments.apps");
    }
}
